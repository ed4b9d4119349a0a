//! The way out: stages network and time, on a thread that keeps at it for as long as the pipeline lives.
//!
//! A machine without a network answer is not given up: the search goes on while a person works at the console, and a lost lease
//! starts it anew. Who needs the network waits here, for a bounded time, and gets the reason when it did not come.

use crate::report::{Reporter, failure};
use crate::stage::{fetch, network, time};
use lifeboot_contract::event::{Failure, Stage};
use lifeboot_contract::plan::Plan;
use lifeboot_contract::template::Facts;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// How long one search lasts before it is reported as failed; the next begins at once.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long what the plan asks for is waited for, before every cable is tried: an interface on USB takes seconds to appear; two ports
/// agree on a speed within four seconds, the slowest within fifteen. A root still waits for the network then.
const GRACE: network::Grace = network::Grace {
    appear: Duration::from_secs(15),
    carry: Duration::from_secs(20),
};
/// How long a root waits for the network: one search and a little.
const WAIT: Duration = Duration::from_secs(35);

/// The network, as far as it is there; cheap to clone, usable from threads.
#[derive(Clone)]
pub struct Uplink {
    state: Arc<(Mutex<State>, Condvar)>,
}

#[derive(Default)]
struct State {
    link: Option<network::Link>,
    clock: Option<Arc<time::SetClock>>,
    trouble: Option<Failure>,
    facts: Facts,
}

/// A link that is up.
pub struct Up {
    /// What this machine is, the MAC address of the link included.
    pub facts: Facts,
}

impl Uplink {
    /// Sets the clock's floor and starts looking for a network.
    pub fn start(plan: Arc<Plan>, build_time: u64, reporter: &Reporter) -> Uplink {
        time::floor(build_time, reporter);
        let state = Arc::new((
            Mutex::new(State {
                facts: plan.facts.clone(),
                ..State::default()
            }),
            Condvar::new(),
        ));
        let shared = state.clone();
        let reporter = reporter.clone();
        let also = reporter.clone();
        let spawned = std::thread::Builder::new()
            .name("uplink".into())
            .spawn(move || keep(&plan, &shared, &reporter));
        also.ignore("uplink thread", spawned);
        Uplink { state }
    }

    /// Waits for a link.
    ///
    /// # Errors
    /// Why there is none, when the wait is over.
    pub fn wait(&self) -> Result<Up, Failure> {
        let (lock, changed) = &*self.state;
        let end = Instant::now() + WAIT;
        let Ok(mut state) = lock.lock() else {
            return Err(failure(Stage::Network, "the network thread died"));
        };
        loop {
            if state.link.as_ref().is_some_and(network::Link::is_alive) {
                return Ok(Up {
                    facts: state.facts.clone(),
                });
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let why = state.trouble.clone();
                return Err(why.unwrap_or_else(|| {
                    failure(Stage::Network, format!("no network within {} s", WAIT.as_secs()))
                }));
            }
            match changed.wait_timeout(state, left) {
                Ok((guard, _)) => state = guard,
                Err(_) => return Err(failure(Stage::Network, "the network thread died")),
            }
        }
    }

    /// The clock that belongs to the link; before there is one, a clock that only has its floor.
    pub fn clock(&self) -> Arc<dyn fetch::Clock> {
        let known = self.state.0.lock().ok().and_then(|state| state.clock.clone());
        match known {
            Some(clock) => clock,
            None => Arc::new(fetch::SetAlready),
        }
    }
}

fn keep(plan: &Plan, shared: &(Mutex<State>, Condvar), reporter: &Reporter) {
    let (lock, changed) = shared;
    let set = |change: &mut dyn FnMut(&mut State)| {
        if let Ok(mut state) = lock.lock() {
            change(&mut state);
            changed.notify_all();
        }
    };
    let mut search = network::Search::begin(GRACE);
    let mut failures: u32 = 0;
    loop {
        match network::run(plan, &mut search, reporter, PATIENCE) {
            Ok(link) => {
                let clock = Arc::new(time::run(plan, &link, reporter));
                set(&mut |state| {
                    state.facts.mac = Some(link.mac.clone());
                    state.clock = Some(clock.clone());
                    state.link = Some(link.clone());
                    state.trouble = None;
                });
                while link.is_alive() {
                    std::thread::sleep(Duration::from_secs(1));
                }
                search = network::Search::begin(GRACE);
                failures = 0;
            }
            Err(failed) => {
                failures = failures.saturating_add(1);
                let event = match failures.is_power_of_two() {
                    true => reporter.warn("network.failed").text(failed.to_string()),
                    false => reporter.debug("network.failed"),
                };
                reporter.event(event.with("what", failed.to_string()));
                set(&mut |state| state.trouble = Some(failed.clone()));
                // A search that fails at once (no interface at all) must not spin.
                std::thread::sleep(Duration::from_secs(1));
            }
        }
    }
}
