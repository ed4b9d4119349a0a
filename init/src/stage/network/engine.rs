//! Every interface at once, in one loop: what the kernel tells, what servers answer, what is due.
//!
//! The same engine looks for the first address (on the caller's thread) and keeps it afterwards (on a thread of its own).

mod addresses;
mod nudge;
mod stand_in;
mod tell;
mod widen;

use super::dhcp::{Action, Random};
use super::netlink::{Netlink, with_dashes};
use super::port::Port;
use super::rtnl::{LinkNews, Medium, News};
use super::wanted::{Reach, Role};
use super::{Search, Told, Up};
use crate::report::Reporter;
use lifeboot_contract::event::Event;
use lifeboot_contract::plan::Plan;
use lifeboot_contract::status::Address;
use nudge::Nudge;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::Duration;

/// Metric of the first interface's routes; later ones come behind it.
const FIRST_METRIC: u32 = 100;

/// The engine.
pub(super) struct Engine {
    plan: Plan,
    reporter: Reporter,
    netlink: Netlink,
    ports: BTreeMap<u32, Port>,
    /// Interfaces that are not touched, so that each is judged once.
    ignored: BTreeMap<u32, LinkNews>,
    reach: Reach,
    /// Until when an interface that the plan asks for may appear.
    appear_by: Duration,
    /// How long those that are there may be without a carrier, and since when they are.
    carry: Duration,
    dark_since: Option<Duration>,
    /// What the plan asks for and is not to be had, once that is clear.
    absent: Option<String>,
    /// The interface whose `ip=` another one has got.
    replaced: Option<String>,
    /// Usable addresses of every interface.
    addresses: BTreeSet<(u32, IpAddr)>,
    reported: Vec<Address>,
    resolv_conf: Option<String>,
    hostname: Option<String>,
    /// The interface that got the first address.
    first: Option<u32>,
    lost: bool,
    /// What the kernel would not do.
    refused: Vec<String>,
    refused_vlans: BTreeSet<String>,
    told: Told,
    random: Random,
    nudge: Nudge,
}

impl Engine {
    /// Looks at what is there, and switches on what is wanted.
    ///
    /// # Errors
    /// The kernel's, about its rtnetlink sockets.
    pub(super) fn start(plan: &Plan, reporter: &Reporter, search: &mut Search) -> Result<Engine, Errno> {
        let mut engine = Engine {
            plan: plan.clone(),
            reporter: reporter.clone(),
            netlink: Netlink::open()?,
            ports: BTreeMap::new(),
            ignored: BTreeMap::new(),
            reach: Reach::Named,
            appear_by: search.appear_by,
            carry: search.carry,
            dark_since: None,
            absent: None,
            replaced: None,
            addresses: BTreeSet::new(),
            reported: Vec::new(),
            resolv_conf: None,
            hostname: None,
            first: None,
            lost: false,
            refused: Vec::new(),
            refused_vlans: BTreeSet::new(),
            told: std::mem::take(&mut search.told),
            random: Random(seed()),
            nudge: Nudge::default(),
        };
        let all = engine.netlink.dump()?;
        engine.take(all);
        engine.dark_since = search.dark_since.take().or(engine.dark_since);
        Ok(engine)
    }

    /// What is true, once there is an address.
    pub(super) fn up(&self) -> Option<Up> {
        let port = self.ports.get(&self.first?)?;
        let (dns, ntp) = self.servers();
        Some(Up {
            interface: port.link.name.clone(),
            mac: port.link.mac.map(with_dashes).unwrap_or_default(),
            addresses: self.reported.clone(),
            dns,
            ntp,
            hostname: self.hostname.clone(),
        })
    }

    /// Whether the first address was lost again.
    pub(super) fn is_lost(&self) -> bool {
        self.lost
    }

    /// Waits for the next thing to happen, at most until `until`, and deals with it. Returns early when `wake` hangs up.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn turn(
        &mut self,
        until: Option<Duration>,
        wake: Option<BorrowedFd<'_>>,
    ) -> Result<(), Errno> {
        let nudge = self.nudge.next(now(), self.ports.values());
        let due = self
            .ports
            .values()
            .filter_map(Port::deadline)
            .chain(until)
            .chain(nudge)
            .chain(self.widening())
            .min();
        let left = due.map(|due| due.saturating_sub(now()));
        let timeout = left.and_then(|left| Timespec::try_from(left).ok());
        let mut watched = vec![PollFd::from_borrowed_fd(self.netlink.readable(), PollFlags::IN)];
        watched.extend(wake.map(|wake| PollFd::from_borrowed_fd(wake, PollFlags::IN)));
        watched.extend(
            self.ports
                .values()
                .filter_map(Port::readable)
                .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)),
        );
        match poll(&mut watched, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
        drop(watched);
        self.nudge.give(now(), self.ports.values());
        match self.netlink.news() {
            Ok(news) => self.take(news),
            Err(Errno::NOBUFS) => self.look_again()?,
            Err(error) => return Err(error),
        }
        let now = now();
        let indexes: Vec<u32> = self.ports.keys().copied().collect();
        for index in indexes {
            let Some(port) = self.ports.get_mut(&index) else {
                continue;
            };
            let mut actions = port.receive(now, &self.reporter);
            actions.extend(port.timeout(now, &self.reporter));
            self.act(index, actions);
        }
        self.widen();
        Ok(())
    }

    /// Some news was lost: the kernel's state as a whole takes its place.
    fn look_again(&mut self) -> Result<(), Errno> {
        let all = self.netlink.dump()?;
        let there: BTreeSet<u32> = all
            .iter()
            .filter_map(|news| {
                if let News::Link(link) = news {
                    Some(link.index)
                } else {
                    None
                }
            })
            .collect();
        let gone: Vec<u32> = self
            .ports
            .keys()
            .copied()
            .filter(|index| !there.contains(index))
            .collect();
        self.addresses.clear();
        self.take(gone.into_iter().map(News::LinkGone).collect());
        self.take(all);
        Ok(())
    }

    fn take(&mut self, all: Vec<News>) {
        for news in all {
            match news {
                News::Link(link) => self.link(link),
                News::LinkGone(index) => self.link_gone(index),
                News::Address {
                    index,
                    address,
                    usable: true,
                } => {
                    self.addresses.insert((index, address));
                }
                News::Address {
                    index,
                    address,
                    usable: false,
                }
                | News::AddressGone { index, address } => {
                    self.addresses.remove(&(index, address));
                }
                News::Router6 { index } => {
                    if let Some(port) = self.ports.get_mut(&index) {
                        port.router6 = true;
                    }
                }
                News::NameServers { index, servers } => {
                    if let Some(port) = self.ports.get_mut(&index) {
                        port.dns6 = servers;
                    }
                }
            }
        }
        self.watch();
        self.auto6();
        self.report();
    }

    fn link(&mut self, link: LinkNews) {
        let index = link.index;
        let carries = link.carrier;
        let Some(port) = self.ports.get_mut(&index) else {
            if !self.ignored.contains_key(&index) && self.adopt(link) && carries {
                self.carrier(index);
            }
            return;
        };
        let before = std::mem::replace(&mut port.link, link);
        let bounced = before.carrier && carries && port.link.changes > before.changes;
        if bounced {
            // Out and in again before the kernel told.
            port.link.carrier = false;
            self.carrier(index);
        }
        if let Some(port) = self.ports.get_mut(&index) {
            port.link.carrier = carries;
        }
        if bounced || before.carrier != carries {
            self.carrier(index);
        }
    }

    /// A new interface; false when it is none of ours.
    fn adopt(&mut self, link: LinkNews) -> bool {
        let index = link.index;
        for vlan in self
            .plan
            .network
            .vlans
            .iter()
            .filter(|vlan| vlan.parent == link.name)
        {
            match self.netlink.add_vlan(index, &vlan.name, vlan.id) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => {
                    let what = format!("VLAN interface {} on {}: {error}", vlan.name, vlan.parent);
                    self.reporter.event(
                        self.reporter
                            .warn("child.error")
                            .with("child", "network")
                            .with("what", what.as_str()),
                    );
                    self.refused.push(what);
                    self.refused_vlans.insert(vlan.name.clone());
                }
            }
        }
        let ways = match self.role(&link) {
            Role::Ignored => {
                self.ignored.insert(index, link);
                return false;
            }
            Role::Up => Vec::new(),
            Role::Configured(ways) => ways,
        };
        if !link.up {
            let result = self.netlink.up(index);
            self.reporter.ignore(&format!("switch {} on", link.name), result);
        }
        if link.medium == Medium::Loopback {
            self.ignored.insert(index, link);
            return false;
        }
        let mut port = Port::new(link, ways, FIRST_METRIC + self.ports.len() as u32);
        port.stands_in = self.is_extra(&port.link);
        if !port.ways.is_empty() {
            self.dark_since = None;
        }
        if !port.link.carrier {
            self.nudge.begin(now());
            self.told.carriers.insert(port.link.name.clone(), false);
            self.reporter
                .event(link_event(self.reporter.debug("network.link"), &port));
        }
        self.ports.insert(index, port);
        self.ask(index);
        true
    }

    fn link_gone(&mut self, index: u32) {
        self.ignored.remove(&index);
        self.addresses.retain(|(owner, _)| *owner != index);
        if let Some(port) = self.ports.remove(&index) {
            self.say_lost(&port.link.name, "the interface has gone");
            self.lost |= self.first == Some(index);
        }
    }

    fn carrier(&mut self, index: u32) {
        let Some(port) = self.ports.get_mut(&index) else {
            return;
        };
        let state = if port.link.carrier {
            "carries"
        } else {
            "does not carry"
        };
        let text = format!("{}: the link {state}", port.link.name);
        let before = self
            .told
            .carriers
            .insert(port.link.name.clone(), port.link.carrier);
        let event = match before == Some(port.link.carrier) {
            true => self.reporter.debug("network.link"),
            false => self.reporter.info("network.link").text(text),
        };
        self.reporter.event(link_event(event, port));
        self.carries(index);
    }

    /// What follows from a cable that carries or does not.
    fn carries(&mut self, index: u32) {
        let Some(port) = self.ports.get_mut(&index) else {
            return;
        };
        let actions = port.carrier(now(), &self.reporter);
        if port.link.carrier && !port.fixed {
            self.fix(index);
        }
        self.act(index, actions);
    }

    fn act(&mut self, index: u32, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Bound(lease) => self.bound(index, lease),
                Action::Renewed(lease) => self.renewed(index, lease),
                Action::Lost { what } => self.lost(index, what),
                Action::Broadcast { .. } | Action::Unicast { .. } => {}
            }
        }
    }
}

/// Time since the kernel started, suspended or not: leases run on in a machine that sleeps.
pub(super) fn now() -> Duration {
    Duration::from_millis(crate::report::now_ms())
}

fn seed() -> u64 {
    let mut bytes = [0; 8];
    // Never blocks, even before the kernel's pool is ready: nothing secret is made of it.
    match rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::INSECURE) {
        Ok(8) => u64::from_ne_bytes(bytes),
        _ => now().as_nanos() as u64,
    }
}

fn is_wireless(name: &str) -> bool {
    let class = Path::new("/sys/class/net").join(name);
    class.join("wireless").exists() || class.join("phy80211").exists()
}

fn link_event(event: Event, port: &Port) -> Event {
    event
        .with("interface", port.link.name.as_str())
        .with("mac", port.link.mac.map(with_dashes).unwrap_or_default())
        .with("carrier", port.link.carrier)
}
