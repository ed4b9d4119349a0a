//! The ways out: the real init, a restart, or off.

use super::children::Kind;
use super::{Ending, Init, mounts};
use crate::report::{chain, now_ms, unheeded};
use crate::stage::handover;
use crate::sys::restart::restart_with;
use lifeboot_contract::control::ReadyRoot;
use lifeboot_contract::event::{Event, Level};
use lifeboot_contract::image::RUN;
use lifeboot_contract::status::Phase;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::process::{WaitOptions, wait};
use rustix::system::{RebootCommand, reboot};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

/// Time between the request to end and the order to.
const TERM_PATIENCE: Duration = Duration::from_millis(300);
/// The pause after the first handover that failed, doubled by each further one, up to the last.
const FIRST_PAUSE_MS: u64 = 10_000;
const LAST_PAUSE_MS: u64 = 300_000;
/// What the real init gets to open the watchdog in; as much as a Pi's hardware allows.
const SYSTEMD_WATCHDOG: &str = "/run/systemd/system.conf.d/50-lifeboot-watchdog.conf";

impl Init {
    pub(super) fn end(&mut self, ending: Ending) {
        match ending {
            Ending::Handover => {
                if let Some(root) = self.ready.take() {
                    self.hand_over(&root);
                }
            }
            Ending::Reboot => self.stop_machine(RebootCommand::Restart, "restarting"),
            Ending::Poweroff => self.stop_machine(RebootCommand::PowerOff, "switching off"),
        }
    }

    fn hand_over(&mut self, root: &ReadyRoot) {
        self.status.phase = Phase::HandingOver;
        let event = Event::new(now_ms(), Level::Info, "handover.start").with("init", root.init.as_str());
        self.record(
            event
                .with("root", root.source.as_str())
                .text(format!("handover to {} of {}", root.init, root.source)),
        );
        self.drain();
        if let Err(error) = self.leave_events() {
            self.complain("child.error", format!("events.jsonl: {error}"));
        }
        end_all_processes();
        // What people have mounted would stay mounted where nobody sees it, and its disks in use for ever.
        mounts::unmount_disks(&[&root.path, RUN]);
        let watchdog_lives = self.pass_watchdog(root);
        let failed = handover::run(root, &self.reporter());
        // Still here: the machine goes on as a rescue system. The children were ended and reaped on the way out.
        self.children.iter_mut().for_each(super::children::Child::lost);
        if watchdog_lives {
            self.next_pet_ms = 0;
        }
        // A system that cannot be started is no reason to be cut off again and again: the pauses grow.
        self.failed_handovers += 1;
        let pause = (FIRST_PAUSE_MS << (self.failed_handovers - 1).min(10)).min(LAST_PAUSE_MS);
        let pipeline = self
            .children
            .iter_mut()
            .filter(|child| child.kind == Kind::Pipeline);
        let next_try_ms = pipeline.map(|child| child.postpone(pause)).max();
        let event = Event::new(now_ms(), Level::Error, "handover.failed").with("what", failed.to_string());
        self.record(
            event
                .with("next_try_ms", pause)
                .text(format!("{failed}; next try in {} s", pause / 1000)),
        );
        self.status.phase = Phase::Failed {
            failure: failed,
            since_ms: now_ms(),
            next_try_ms,
            rootless: self.plan.roots.is_empty(),
            refused: self.plan.refusal.is_some(),
        };
        self.go_on = false;
    }

    /// Leaves the hardware watchdog running where the real init will take it up: systemd is told to, others are not trusted to.
    fn pass_watchdog(&mut self, root: &ReadyRoot) -> bool {
        let Some(watchdog) = self.watchdog.take() else {
            return false;
        };
        if is_systemd(root) && write_drop_in(watchdog.timeout_s).is_ok() {
            // Dropping the descriptor without the magic close leaves the timer running.
            return true;
        }
        if let Err(error) = watchdog.disarm() {
            self.complain(
                "init.watchdog",
                format!("/dev/watchdog could not be stopped: {error}"),
            );
        }
        false
    }

    /// Keeps what happened for whoever reads it in the full system.
    fn leave_events(&self) -> std::io::Result<()> {
        let mut file = fs::File::create("/run/lifeboot/events.jsonl")?;
        for event in &self.ring {
            serde_json::to_writer(&mut file, event)?;
            file.write_all(b"\n")?;
        }
        Ok(())
    }

    /// Gives the ports a moment to take what is still to be said.
    fn drain(&mut self) {
        let end = Instant::now() + Duration::from_millis(500);
        while self.outputs.waiting().next().is_some() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
            self.outputs.write();
        }
    }

    fn stop_machine(&mut self, command: RebootCommand, doing: &str) {
        self.record(
            Event::new(now_ms(), Level::Info, "init.signal")
                .with("signal", doing)
                .text(doing),
        );
        self.drain();
        end_all_processes();
        mounts::unmount_disks(&[]);
        rustix::fs::sync();
        if command == RebootCommand::Restart
            && let Some(argument) = self.reboot_argument.take()
        {
            unheeded(&argument, restart_with(&argument));
        }
        let failed = reboot(command);
        if let Err(error) = failed {
            self.complain("child.error", format!("{doing}: {}", chain(&error)));
        }
    }
}

fn is_systemd(root: &ReadyRoot) -> bool {
    let path = Path::new(&root.path);
    root.init.contains("systemd")
        || fs::read_link(path.join(root.init.trim_start_matches('/')))
            .is_ok_and(|to| to.to_string_lossy().ends_with("systemd"))
}

/// systemd reads this before it does anything else (systemd-system.conf(5)), and keeps the timer that already runs.
fn write_drop_in(timeout_s: u32) -> std::io::Result<()> {
    let path = Path::new(SYSTEMD_WATCHDOG);
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    fs::write(
        path,
        format!(
            "# Written by lifeboot: the hardware watchdog is already running.\n[Manager]\nRuntimeWatchdogSec={timeout_s}s\n"
        ),
    )
}

/// Ends every process but this one, first by asking.
fn end_all_processes() {
    signal_all(Signal::SIGTERM);
    // A stopped process ends only when it runs again.
    signal_all(Signal::SIGCONT);
    let end = Instant::now() + TERM_PATIENCE;
    while Instant::now() < end && !all_reaped() {
        std::thread::sleep(Duration::from_millis(10));
    }
    signal_all(Signal::SIGKILL);
    let end = Instant::now() + TERM_PATIENCE;
    while Instant::now() < end && !all_reaped() {
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Signals everything that is neither PID 1 nor a kernel thread; ESRCH says that there is nothing.
fn signal_all(signal: Signal) {
    unheeded("kill -1", kill(Pid::from_raw(-1), signal));
}

/// Reaps the dead; whether no child is left.
fn all_reaped() -> bool {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some(_)) => {}
            Ok(None) => return false,
            Err(_) => return true,
        }
    }
}
