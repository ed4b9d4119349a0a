//! Stage time: a clock good enough for certificates and log files, without ever keeping the boot waiting.
//!
//! Machines without a battery start in 1970. The floor is the time the image was built; then SNTP runs in the background, and a
//! `Date` header of the first HTTP answer serves until that has come, or instead. Whatever a server says, the clock is never set
//! to before the floor.

mod calendar;
mod sntp;

use crate::report::{Reporter, chain};
use crate::stage::fetch::Clock;
use crate::stage::network::Link;
use lifeboot_contract::plan::Plan;
use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// The build time, for everything that sets the clock later.
static FLOOR: AtomicU64 = AtomicU64::new(0);
/// How long servers are asked before it is given up.
const GIVE_UP: Duration = Duration::from_secs(60);
/// How long the first try waits for an answer; doubled from round to round.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// A `Date` header has no fraction and was on its way for a while: a smaller step would be none.
const DATE_IS_ROUGH: Duration = Duration::from_secs(2);
const NTP_PORT: u16 = 123;

/// The clock, being set.
#[derive(Clone)]
pub struct SetClock {
    shared: Arc<(Mutex<Known>, Condvar)>,
    reporter: Reporter,
    clock: RealClock,
}

/// What the clock's time comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    /// SNTP is still being asked.
    NotYet,
    /// A `Date` header; SNTP may still do better.
    Date,
    Sntp,
    /// No server answered.
    GivenUp,
}

/// The system's clock, or a test's.
#[derive(Clone)]
struct RealClock {
    read: fn() -> Duration,
    set: fn(Duration) -> io::Result<()>,
}

const SYSTEM: RealClock = RealClock {
    read: read_system,
    set: set_system,
};

/// Sets the clock to the build time if it is behind it: certificates are then at least not from the future. To be called first.
pub fn floor(build_time: u64, reporter: &Reporter) {
    FLOOR.store(build_time, Ordering::Relaxed);
    let floor = Duration::from_secs(build_time);
    if read_system() >= floor {
        return;
    }
    match set_system(floor) {
        Ok(()) => reporter.event(reporter.debug("time.floor").with("unix", build_time)),
        Err(error) => failed(reporter, format!("set the clock to the build time: {error}")),
    }
}

/// Starts asking time servers, the lease's before the plan's, and returns at once.
pub fn run(plan: &Plan, link: &Link, reporter: &Reporter) -> SetClock {
    let servers: Vec<String> = link.ntp.iter().chain(&plan.ntp).cloned().collect();
    start(servers, reporter, SYSTEM)
}

fn start(servers: Vec<String>, reporter: &Reporter, clock: RealClock) -> SetClock {
    let known = if servers.is_empty() {
        Known::GivenUp
    } else {
        Known::NotYet
    };
    let set = SetClock {
        shared: Arc::new((Mutex::new(known), Condvar::new())),
        reporter: reporter.clone(),
        clock,
    };
    if known == Known::NotYet {
        let worker = set.clone();
        let spawned = std::thread::Builder::new()
            .name("sntp".into())
            .spawn(move || worker.ask(servers));
        if let Err(error) = spawned {
            failed(reporter, format!("a thread for sntp: {error}"));
            set.now_known(Known::GivenUp);
        }
    }
    set
}

impl Clock for SetClock {
    fn settle(&self, at_most: Duration) {
        let (lock, changed) = &*self.shared;
        if let Ok(known) = lock.lock() {
            // A poisoned lock means that the asking thread died: nothing to wait for.
            drop(changed.wait_timeout_while(known, at_most, |known| *known == Known::NotYet));
        }
    }

    fn http_date(&self, date: &str) {
        let Some(time) = calendar::http_date(date) else {
            return;
        };
        let wanted = self
            .state()
            .is_some_and(|known| matches!(*known, Known::NotYet | Known::GivenUp));
        if wanted && (self.clock.read)().abs_diff(time) > DATE_IS_ROUGH {
            self.step(time, "http-date", "the server of the image", Known::Date);
        }
    }
}

impl SetClock {
    /// Tries every server in turn, until one answers or the time is over.
    fn ask(&self, mut servers: Vec<String>) {
        let end = Instant::now() + GIVE_UP;
        let mut wait = FIRST_WAIT;
        let mut what = String::new();
        while !servers.is_empty() && Instant::now() < end {
            let mut still = Vec::new();
            for server in servers {
                match ask_one(&server, wait) {
                    Ok(time) => return self.step(time, "sntp", &server, Known::Sntp),
                    Err(error) => {
                        what = format!("{server}: {}", chain(&error));
                        if !matches!(error, sntp::Error::GoAway(_)) {
                            still.push(server);
                        }
                    }
                }
            }
            servers = still;
            std::thread::sleep(wait.min(end.saturating_duration_since(Instant::now())));
            wait *= 2;
        }
        failed(&self.reporter, what);
        self.now_known(Known::GivenUp);
    }

    fn step(&self, time: Duration, source: &str, server: &str, known: Known) {
        let floor = Duration::from_secs(FLOOR.load(Ordering::Relaxed));
        if time < floor {
            failed(
                &self.reporter,
                format!("{server} tells a time before this image was built"),
            );
            return self.now_known(Known::GivenUp);
        }
        let before = (self.clock.read)();
        if let Err(error) = (self.clock.set)(time) {
            failed(&self.reporter, format!("set the clock: {error}"));
            return self.now_known(Known::GivenUp);
        }
        let step = time.as_millis() as i64 - before.as_millis() as i64;
        let event = self
            .reporter
            .info("time.set")
            .with("source", source)
            .with("server", server);
        self.reporter
            .event(event.with("unix", time.as_secs()).with("step_ms", step));
        self.now_known(known);
    }

    /// Better knowledge is not replaced by worse.
    fn now_known(&self, new: Known) {
        if let Some(mut known) = self.state()
            && (*known, new) != (Known::Date, Known::GivenUp)
        {
            *known = new;
        }
        self.shared.1.notify_all();
    }

    fn state(&self) -> Option<MutexGuard<'_, Known>> {
        self.shared.0.lock().ok()
    }
}

/// Asks a server once, and changes nothing: how far its clock is ahead of ours, in milliseconds.
///
/// # Errors
/// Why there was no answer, or none that can be used.
pub fn probe(server: &str, wait: Duration) -> Result<i64, String> {
    let time = ask_one(server, wait).map_err(|error| match &error {
        // EAGAIN is how a socket says that the time is over.
        sntp::Error::Io(cause) if cause.kind() == io::ErrorKind::WouldBlock => error.to_string(),
        _ => chain(&error),
    })?;
    Ok(time.as_millis() as i64 - read_system().as_millis() as i64)
}

fn ask_one(server: &str, wait: Duration) -> Result<Duration, sntp::Error> {
    let mut last = sntp::Error::NoAddress;
    for address in addresses(server)? {
        match sntp::ask(address, wait) {
            Ok(time) => return Ok(time),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// HOST, HOST:PORT, or an address with or without brackets.
fn addresses(server: &str) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = server.trim_matches(['[', ']']).parse() {
        return Ok(vec![SocketAddr::new(address, NTP_PORT)]);
    }
    match server.rsplit_once(':') {
        Some((_, port)) if port.parse::<u16>().is_ok() => server.to_socket_addrs().map(Iterator::collect),
        _ => (server, NTP_PORT).to_socket_addrs().map(Iterator::collect),
    }
}

fn failed(reporter: &Reporter, what: String) {
    reporter.event(
        reporter
            .warn("time.failed")
            .text(format!("the clock is not set: {what}"))
            .with("what", what),
    );
}

fn read_system() -> Duration {
    let now = clock_gettime(ClockId::Realtime);
    Duration::new(
        now.tv_sec.max(0).unsigned_abs(),
        now.tv_nsec.unsigned_abs() as u32,
    )
}

fn set_system(time: Duration) -> io::Result<()> {
    let time = Timespec::try_from(time).map_err(io::Error::other)?;
    clock_settime(ClockId::Realtime, time).map_err(io::Error::from)
}

#[cfg(test)]
mod tests;
