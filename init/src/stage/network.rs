//! Stage network: links, addresses, routes and names.
//!
//! Every wired interface is tried at once and the first lease wins; nothing waits for a fixed time. Interfaces may appear at any
//! moment (USB ones take seconds), and a cable may be pulled at any moment: the engine listens to the kernel and is told. The one
//! thing a reader would get wrong: [`run`] returns when the network is up, but the work goes on - a thread renews the lease for as
//! long as a [`Link`] exists.

mod apply;
mod dhcp;
mod engine;
mod frame;
mod guess;
pub mod inspect;
mod lease;
mod message;
mod names;
mod netlink;
mod port;
mod rtnl;
mod wanted;

#[cfg(test)]
mod dhcp_tests;
#[cfg(test)]
mod message_tests;
#[cfg(test)]
mod rtnl_tests;

use crate::report::{FailureExt, Reporter, failure};
use engine::{Engine, now};
use lifeboot_contract::event::{Failure, Stage};
use lifeboot_contract::plan::Plan;
use lifeboot_contract::status::Address;
use rustix::pipe::{PipeFlags, pipe_with};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What is true once the network is up.
#[derive(Debug, Clone)]
pub struct Link {
    /// The interface that got the first address.
    pub interface: String,
    /// Its Ethernet address, lower case, dashes.
    pub mac: String,
    /// The machine's addresses at that moment; later ones are reported as they come.
    pub addresses: Vec<Address>,
    /// Name servers, the plan's first.
    pub dns: Vec<IpAddr>,
    /// Time servers, HOST or HOST:PORT: the plan's `ip=` first, then the lease's.
    pub ntp: Vec<String>,
    /// The host name that was set.
    pub hostname: Option<String>,
    alive: Arc<AtomicBool>,
    /// The keeper ends when the last copy of this is closed.
    _keeper: Option<Arc<OwnedFd>>,
}

/// The part of a [`Link`] that the engine knows.
struct Up {
    interface: String,
    mac: String,
    addresses: Vec<Address>,
    dns: Vec<IpAddr>,
    ntp: Vec<String>,
    hostname: Option<String>,
}

impl Link {
    /// False once the lease was lost and the address taken away: the stage is to be run again.
    pub fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Acquire)
    }

    fn new(up: Up, keeper: Option<OwnedFd>) -> Link {
        Link {
            interface: up.interface,
            mac: up.mac,
            addresses: up.addresses,
            dns: up.dns,
            ntp: up.ntp,
            hostname: up.hostname,
            alive: Arc::new(AtomicBool::new(true)),
            _keeper: keeper.map(Arc::new),
        }
    }
}

/// One try after another, until there is a link: what was said and waited for in one is not in the next.
#[derive(Debug)]
pub struct Search {
    /// Until when an interface that the plan asks for may appear, on the boot clock.
    appear_by: Duration,
    /// How long the interfaces that the plan asks for may be without a carrier.
    carry: Duration,
    /// Since when they are.
    dark_since: Option<Duration>,
    told: Told,
}

/// How long what the plan asks for is waited for, before every cable is tried.
#[derive(Debug, Clone, Copy)]
pub struct Grace {
    /// For an interface to appear.
    pub appear: Duration,
    /// For a carrier on one that is there.
    pub carry: Duration,
}

/// What has been said on the consoles.
#[derive(Debug, Default)]
struct Told {
    /// Whether the cable of an interface carries.
    carriers: BTreeMap<String, bool>,
    /// Interfaces on which nobody answers.
    silent: BTreeSet<String>,
    /// That what the plan asks for is not there or does not carry, and what is done about it.
    absent: Option<String>,
}

impl Search {
    /// Begins a search. When nothing that the plan asks for is to be had within `grace`, every cable is tried.
    pub fn begin(grace: Grace) -> Search {
        Search {
            appear_by: now() + grace.appear,
            carry: grace.carry,
            dark_since: None,
            told: Told::default(),
        }
    }
}

/// Brings the network up as the plan wants it; gives up after `patience`.
///
/// # Errors
/// What was seen on every interface meanwhile.
pub fn run(
    plan: &Plan,
    search: &mut Search,
    reporter: &Reporter,
    patience: Duration,
) -> Result<Link, Failure> {
    let broken = |what: &str, error: rustix::io::Errno| failure(Stage::Network, what).because(&error);
    let mut engine = Engine::start(plan, reporter, search).map_err(|error| broken("rtnetlink", error))?;
    if wanted::nothing(&plan.network) {
        return Ok(unconnected());
    }
    let until = now() + patience;
    loop {
        if let Some(up) = engine.up() {
            return keep(engine, up, reporter);
        }
        if now() >= until {
            let failed = engine.given_up();
            engine.hand_on(search);
            return Err(failed);
        }
        engine
            .turn(Some(until), None)
            .map_err(|error| broken("network events", error))?;
    }
}

/// Hands the engine to its thread.
fn keep(mut engine: Engine, up: Up, reporter: &Reporter) -> Result<Link, Failure> {
    let (hung_up, keeper) = pipe_with(PipeFlags::CLOEXEC)
        .map_err(|error| failure(Stage::Network, "a pipe for the lease keeper").because(&error))?;
    let link = Link::new(up, Some(keeper));
    let alive = Arc::downgrade(&link.alive);
    let reporter = reporter.clone();
    let work = move || {
        while alive.strong_count() > 0 && !engine.is_lost() {
            if let Err(error) = engine.turn(None, Some(hung_up.as_fd())) {
                reporter.ignore("network events", Err::<(), _>(error));
                break;
            }
        }
        if let Some(alive) = alive.upgrade() {
            alive.store(false, Ordering::Release);
        }
    };
    std::thread::Builder::new()
        .name("lease keeper".into())
        .spawn(work)
        .map_err(|error| failure(Stage::Network, "a thread for the lease keeper").because(&error))?;
    Ok(link)
}

/// `ip=off`: nothing is configured, and that is what was wanted.
fn unconnected() -> Link {
    let up = Up {
        interface: String::new(),
        mac: String::new(),
        addresses: Vec::new(),
        dns: Vec::new(),
        ntp: Vec::new(),
        hostname: None,
    };
    Link::new(up, None)
}
