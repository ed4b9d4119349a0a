//! Stages fetch and verify against a server that misbehaves on purpose. Tests come in pairs that differ by one fact.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot set up its world should end there, helpers included"
)]

#[path = "fetch/link.rs"]
mod link;
#[path = "fetch/proof.rs"]
mod proof;
#[path = "fetch/server.rs"]
mod server;
#[path = "fetch/silence.rs"]
mod silence;
#[path = "fetch/stream.rs"]
mod stream;
#[path = "fetch/tls.rs"]
mod tls;

use lifeboot_contract::event::{Event, Failure};
use lifeboot_contract::plan::{Plan, Verify};
use lifeboot_init::report::{Memory, Reporter};
use lifeboot_init::stage::fetch::{self, Clock, Fetched, Limits};
use lifeboot_init::stage::verify::{self, TrustedKeys, Verified};
use std::io::Read;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What a failure says, without the address of the test's server, where it begins with that.
fn bare(failure: &Failure) -> String {
    let rest = failure.what.strip_prefix("http://127.0.0.1:");
    let path = rest.and_then(|rest| rest.split_once('/')).map(|(_, path)| path);
    path.unwrap_or(&failure.what).to_owned()
}

/// Everything a fetch needs but the network.
struct World {
    memory: Arc<Memory>,
    keys: TrustedKeys,
    limits: Limits,
    clock: FakeClock,
}

#[derive(Default)]
struct FakeClock {
    settled: AtomicU32,
    dates: Mutex<Vec<String>>,
}

impl Clock for FakeClock {
    fn settle(&self, _: Duration) {
        self.settled.fetch_add(1, Ordering::Relaxed);
    }

    fn http_date(&self, date: &str) {
        self.dates.lock().unwrap().push(date.to_owned());
    }
}

impl World {
    fn new() -> World {
        let limits = Limits {
            tries: 4,
            tries_held: 4,
            first_pause: Duration::from_millis(1),
            longest_pause: Duration::from_millis(4),
            ..Limits::default()
        };
        World {
            memory: Arc::default(),
            keys: TrustedKeys::default(),
            limits,
            clock: FakeClock::default(),
        }
    }

    fn fetch(&self, plan: &Plan, url: &str) -> Result<Fetched, Failure> {
        fetch::run(
            plan,
            url,
            &self.keys,
            &self.clock,
            &Reporter::new(self.memory.clone()),
            &self.limits,
        )
    }

    fn boot(&self, plan: &Plan, url: &str) -> Result<Verified, Failure> {
        verify::run(plan, self.fetch(plan, url)?, &Reporter::new(self.memory.clone()))
    }

    fn events(&self, name: &str) -> Vec<Event> {
        self.memory
            .events()
            .into_iter()
            .filter(|event| event.name == name)
            .collect()
    }
}

/// `len` bytes that differ everywhere, the same ones every time.
fn image(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..len).map(|_| next()).collect()
}

fn off() -> Plan {
    Plan {
        verify: Verify::Off,
        ..Plan::default()
    }
}

fn pinned(bytes: &[u8]) -> Plan {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    Plan {
        verify: Verify::Sha256(digest.as_ref().try_into().unwrap()),
        ..Plan::default()
    }
}

fn content(verified: &Verified) -> Vec<u8> {
    let mut file = std::fs::File::from(verified.image().as_fd().try_clone_to_owned().unwrap());
    std::io::Seek::rewind(&mut file).unwrap();
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();
    bytes
}
