//! Every interface at once, in one loop: what the kernel tells, what servers answer, what is due.
//!
//! The same engine looks for the first address (on the caller's thread) and keeps it afterwards (on a thread of its own).

use super::apply::Target;
use super::dhcp::{Action, Random};
use super::lease::Lease;
use super::netlink::{Netlink, with_dashes};
use super::port::Port;
use super::rtnl::{LinkNews, Medium, News};
use super::wanted::{self, Role, Way};
use super::{Up, names};
use crate::report::Reporter;
use lifeboot_contract::control::Report;
use lifeboot_contract::plan::Plan;
use lifeboot_contract::status::Address;
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
    ignored: BTreeSet<u32>,
    /// Usable addresses of every interface.
    addresses: BTreeSet<(u32, IpAddr)>,
    reported: Vec<Address>,
    resolv_conf: Option<String>,
    hostname: Option<String>,
    /// The interface that got the first address.
    first: Option<u32>,
    lost: bool,
    random: Random,
}

impl Engine {
    /// Looks at what is there, and switches on what is wanted.
    ///
    /// # Errors
    /// The kernel's, about its rtnetlink sockets.
    pub(super) fn start(plan: &Plan, reporter: &Reporter) -> Result<Engine, Errno> {
        let mut engine = Engine {
            plan: plan.clone(),
            reporter: reporter.clone(),
            netlink: Netlink::open()?,
            ports: BTreeMap::new(),
            ignored: BTreeSet::new(),
            addresses: BTreeSet::new(),
            reported: Vec::new(),
            resolv_conf: None,
            hostname: None,
            first: None,
            lost: false,
            random: Random(seed()),
        };
        let all = engine.netlink.dump()?;
        engine.take(all);
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
    pub(super) fn turn(&mut self, until: Option<Duration>, wake: Option<BorrowedFd<'_>>) -> Result<(), Errno> {
        let due = self.ports.values().filter_map(Port::deadline).chain(until).min();
        let left = due.map(|due| due.saturating_sub(now()));
        let timeout = left.and_then(|left| Timespec::try_from(left).ok());
        let mut watched = vec![PollFd::from_borrowed_fd(self.netlink.readable(), PollFlags::IN)];
        watched.extend(wake.map(|wake| PollFd::from_borrowed_fd(wake, PollFlags::IN)));
        watched.extend(
            self.ports.values().filter_map(Port::readable).map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)),
        );
        match poll(&mut watched, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
        drop(watched);
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
        Ok(())
    }

    /// Why there is no address, for people.
    pub(super) fn trouble(&self) -> Vec<String> {
        self.ports.values().filter_map(Port::trouble).collect()
    }

    /// Some news was lost: the kernel's state as a whole takes its place.
    fn look_again(&mut self) -> Result<(), Errno> {
        let all = self.netlink.dump()?;
        let there: BTreeSet<u32> =
            all.iter().filter_map(|news| if let News::Link(link) = news { Some(link.index) } else { None }).collect();
        let gone: Vec<u32> = self.ports.keys().copied().filter(|index| !there.contains(index)).collect();
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
                News::Address { index, address, usable: true } => {
                    self.addresses.insert((index, address));
                }
                News::Address { index, address, usable: false } | News::AddressGone { index, address } => {
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
        self.auto6();
        self.report();
    }

    fn link(&mut self, link: LinkNews) {
        let index = link.index;
        let known = self.ports.get_mut(&index);
        let carried = known.as_ref().is_some_and(|port| port.link.carrier);
        let carries = link.carrier;
        match known {
            Some(port) => port.link = link,
            None if self.ignored.contains(&index) => return,
            None => {
                if !self.adopt(link) {
                    return;
                }
            }
        }
        if carried != carries {
            self.carrier(index);
        }
    }

    /// A new interface; false when it is none of ours.
    fn adopt(&mut self, link: LinkNews) -> bool {
        let index = link.index;
        for vlan in self.plan.network.vlans.iter().filter(|vlan| vlan.parent == link.name) {
            match self.netlink.add_vlan(index, &vlan.name, vlan.id) {
                Err(Errno::EXIST) => {}
                result => self.reporter.ignore(&format!("make VLAN interface {}", vlan.name), result),
            }
        }
        let ways = match wanted::role(&self.plan.network, &link, is_wireless(&link.name)) {
            Role::Ignored => {
                self.ignored.insert(index);
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
            self.ignored.insert(index);
            return false;
        }
        let (mac, carrier) = (link.mac, link.carrier);
        let mut port = Port::new(link, ways, FIRST_METRIC + self.ports.len() as u32);
        if let Some(mac) = mac.filter(|_| port.asks() && !(port.is_one_of_all() && self.first.is_some())) {
            let name = self.own_hostname(Some(with_dashes(mac)));
            port.start_client(mac, name, u64::from(self.random.next()) << 32 | u64::from(self.random.next()));
        }
        if !carrier {
            self.reporter.event(link_event(self.reporter.debug("network.link"), &port));
        }
        self.ports.insert(index, port);
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
        let state = if port.link.carrier { "carries" } else { "does not carry" };
        let text = format!("{}: the link {state}", port.link.name);
        self.reporter.event(link_event(self.reporter.info("network.link"), port).text(text));
        let actions = port.carrier(now(), &self.reporter);
        if port.link.carrier && !port.fixed {
            self.fix(index);
        }
        self.act(index, actions);
    }

    /// Sets the plan's own addresses.
    fn fix(&mut self, index: u32) {
        let Some(port) = self.ports.get_mut(&index) else {
            return;
        };
        let (reporter, metric) = (&self.reporter, port.metric);
        let mut target = Target { netlink: &mut self.netlink, reporter, index, metric };
        let mut set = Vec::new();
        for way in &port.ways {
            if let Way::Static { address, prefix, gateway, peer } = *way
                && target.fixed(address, prefix, gateway, peer)
            {
                let text = format!("{}: {address}/{prefix} as given", port.link.name);
                reporter.event(
                    reporter
                        .info("network.static")
                        .with("interface", port.link.name.as_str())
                        .with("address", address.to_string())
                        .text(text),
                );
                set.push((index, address));
            }
        }
        if !set.is_empty() {
            port.fixed = true;
            self.addresses.extend(set);
            self.configured(index);
        }
    }

    /// `ip=auto6`: an address and a router make a network.
    fn auto6(&mut self) {
        let ready = self.ports.iter().find(|(index, port)| {
            let global = |(owner, address): &(u32, IpAddr)| {
                owner == *index && matches!(address, IpAddr::V6(v6) if !v6.is_unicast_link_local())
            };
            port.ways.contains(&Way::Auto6) && port.router6 && self.addresses.iter().any(global)
        });
        match ready.map(|(index, _)| *index) {
            Some(index) if self.first.is_none() => self.configured(index),
            _ => self.write_names(),
        }
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

    fn bound(&mut self, index: u32, lease: Lease) {
        let Some(port) = self.ports.get_mut(&index) else {
            return;
        };
        let mut target =
            Target { netlink: &mut self.netlink, reporter: &self.reporter, index, metric: port.metric };
        if target.lease(&lease, None) {
            self.reporter.event(lease_event(&self.reporter, &port.link.name, &lease));
            self.addresses.insert((index, IpAddr::V4(lease.address)));
            port.lease = Some(lease);
            self.configured(index);
        }
    }

    fn renewed(&mut self, index: u32, lease: Lease) {
        let Some(port) = self.ports.get_mut(&index) else {
            return;
        };
        let mut target =
            Target { netlink: &mut self.netlink, reporter: &self.reporter, index, metric: port.metric };
        target.lease(&lease, port.lease.as_ref());
        port.close_unicast();
        self.reporter.event(
            self.reporter
                .debug("network.renewed")
                .with("interface", port.link.name.as_str())
                .with("address", lease.address.to_string())
                .with("seconds", lease.seconds),
        );
        port.lease = Some(lease);
        self.write_names();
    }

    fn lost(&mut self, index: u32, what: &str) {
        let Some(port) = self.ports.get_mut(&index) else {
            return;
        };
        port.stop_client();
        let name = port.link.name.clone();
        if let Some(lease) = port.lease.take() {
            let mut target =
                Target { netlink: &mut self.netlink, reporter: &self.reporter, index, metric: port.metric };
            target.drop_lease(&lease);
            self.addresses.remove(&(index, IpAddr::V4(lease.address)));
        }
        self.say_lost(&name, what);
        self.report();
        if self.first == Some(index) {
            self.lost = true;
        } else if let Some(port) = self.ports.get_mut(&index)
            && let Some(mac) = port.link.mac
        {
            port.start_client(mac, self.hostname.clone(), u64::from(self.random.next()));
            let actions = port.carrier(now(), &self.reporter);
            self.act(index, actions);
        }
    }

    /// An interface has an address. The first one ends the search of those that only ask as one of all.
    fn configured(&mut self, index: u32) {
        if self.first.is_some() {
            self.write_names();
            self.report();
            return;
        }
        self.first = Some(index);
        for (_, port) in self.ports.iter_mut().filter(|(other, port)| **other != index && port.is_one_of_all()) {
            port.stop_client();
        }
        self.write_names();
        self.name_machine(index);
        self.report();
        let Some(port) = self.ports.get(&index) else {
            return;
        };
        let address = self.reported.iter().find(|address| address.interface == port.link.name);
        let address = address.map(|address| address.address.to_string()).unwrap_or_default();
        let event = self.reporter.debug("network.done").with("interface", port.link.name.as_str());
        self.reporter.event(event.with("address", address));
    }

    /// The name that the plan gives, `{mac}` and all.
    fn own_hostname(&self, mac: Option<String>) -> Option<String> {
        let facts = lifeboot_contract::template::Facts { mac, ..self.plan.facts.clone() };
        let template = self.plan.hostname.as_ref();
        let expanded = template.map(|template| template.expand(&facts)).and_then(|name| {
            name.inspect_err(|error| {
                let what = format!("lifeboot.hostname={}: {error}", self.plan.hostname.as_ref().map_or("", |t| t.as_str()));
                self.reporter.event(self.reporter.warn("child.error").with("child", "network").with("what", what));
            })
            .ok()
        });
        expanded.or_else(|| wanted::given(&self.plan.network).2)
    }

    fn name_machine(&mut self, index: u32) {
        let port = self.ports.get(&index);
        let mac = port.and_then(|port| port.link.mac).map(with_dashes);
        let leased = port.and_then(|port| port.lease.as_ref()).and_then(|lease| lease.hostname.clone());
        if let Some(name) = self.own_hostname(mac).or(leased)
            && names::set_hostname(&name, &self.reporter)
        {
            self.reporter.report(Report::Hostname(name.clone()));
            self.hostname = Some(name);
        }
    }

    /// Name servers and time servers, the plan's first, then those of the first interface, then the others'.
    fn servers(&self) -> (Vec<IpAddr>, Vec<String>) {
        let (mut dns, ntp, _) = wanted::given(&self.plan.network);
        let mut ntp: Vec<String> = ntp.iter().map(IpAddr::to_string).collect();
        let first = self.first.and_then(|first| self.ports.get(&first));
        let others = self.ports.iter().filter(|(index, _)| Some(**index) != self.first).map(|(_, port)| port);
        for port in first.into_iter().chain(others) {
            if let Some(lease) = &port.lease {
                dns.extend(lease.dns.iter().copied().map(IpAddr::V4));
                ntp.extend(lease.ntp.iter().map(ToString::to_string));
            }
            dns.extend(&port.dns6);
        }
        (dns, ntp)
    }

    fn write_names(&mut self) {
        if self.first.is_none() {
            return;
        }
        let domains: Vec<String> =
            self.ports.values().filter_map(|port| port.lease.as_ref()).flat_map(|lease| lease.domains.clone()).collect();
        let text = names::resolv_conf(&self.servers().0, &domains);
        if self.resolv_conf.as_ref() != Some(&text) {
            self.reporter.ignore("write resolv.conf", names::write_resolv_conf(&text));
            self.resolv_conf = Some(text);
        }
    }

    /// Tells the addresses that reach this machine, when they are others than before: those that reach far first.
    fn report(&mut self) {
        let mut all: Vec<Address> = self
            .addresses
            .iter()
            .filter_map(|(index, address)| {
                let interface = self.ports.get(index)?.link.name.clone();
                Some(Address { interface, address: *address })
            })
            .collect();
        let near = |address: &IpAddr| matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
        all.sort_by_key(|address| (near(&address.address), address.address.is_ipv6()));
        if all != self.reported {
            self.reported = all.clone();
            self.reporter.report(Report::Addresses(all));
        }
    }

    fn say_lost(&self, interface: &str, what: &str) {
        let event = self.reporter.warn("network.lost").with("interface", interface).with("what", what);
        self.reporter.event(event.text(format!("{interface}: {what}")));
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

fn link_event(event: lifeboot_contract::event::Event, port: &Port) -> lifeboot_contract::event::Event {
    event
        .with("interface", port.link.name.as_str())
        .with("mac", port.link.mac.map(with_dashes).unwrap_or_default())
        .with("carrier", port.link.carrier)
}

fn lease_event(reporter: &Reporter, interface: &str, lease: &Lease) -> lifeboot_contract::event::Event {
    let router = lease.router();
    let by = router.map(|router| format!(", router {router}")).unwrap_or_default();
    let dns: Vec<String> = lease.dns.iter().map(ToString::to_string).collect();
    reporter
        .info("network.lease")
        .text(format!("{interface}: {}/{} from {} by DHCP{by}", lease.address, lease.prefix, lease.server))
        .with("interface", interface)
        .with("address", lease.address.to_string())
        .with("router", router.map(|router| router.to_string()))
        .with("dns", dns)
        .with("server", lease.server.to_string())
        .with("seconds", lease.seconds)
}
