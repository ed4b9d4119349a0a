//! A plan whose interfaces are not there, or do not carry: after a while every cable is tried, so that neither one wrong name nor a cable in
//! the wrong port costs the machine.
//!
//! Only the search does that. Once there is an address, nothing is tried in place of what the plan asks for.

use super::{Engine, is_wireless, now};
use crate::report::{FailureExt, failure};
use crate::stage::network::Search;
use crate::stage::network::guess::{self, is_static};
use crate::stage::network::netlink::with_dashes;
use crate::stage::network::port::Port;
use crate::stage::network::rtnl::{LinkNews, Medium};
use crate::stage::network::wanted::{self, Asked, Reach, Role, Way, with_colons};
use lifeboot_contract::event::{Failure, Stage};
use std::time::Duration;

impl Engine {
    /// What is done with an interface.
    pub(super) fn role(&self, link: &LinkNews) -> Role {
        let role = self.role_within(self.reach, link);
        match role {
            // What has another's address by a guess is not to keep the others from being tried.
            Role::Configured(mut ways) if self.replaced.is_some() => {
                for way in ways.iter_mut().filter(|way| matches!(way, Way::Dhcp(_))) {
                    *way = Way::Dhcp(Asked::ByName);
                }
                Role::Configured(ways)
            }
            role => role,
        }
    }

    pub(super) fn role_within(&self, reach: Reach, link: &LinkNews) -> Role {
        wanted::role(&self.plan.network, reach, link, is_wireless(&link.name))
    }

    /// Begins to ask for a lease on an interface that is to have one.
    pub(super) fn ask(&mut self, index: u32) {
        let first = self.first.is_some();
        let seed = u64::from(self.random.next()) << 32 | u64::from(self.random.next());
        let Some(port) = self.ports.get(&index) else {
            return;
        };
        let mac = port
            .link
            .mac
            .filter(|_| port.asks() && !(port.is_one_of_all() && first));
        let name = mac.and_then(|mac| self.own_hostname(Some(with_dashes(mac))));
        if let Some((port, mac)) = self.ports.get_mut(&index).zip(mac) {
            port.is_known_silent = self.told.silent.contains(&port.link.name);
            port.start_client(mac, name, seed);
        }
    }

    /// When every cable is tried, if it comes to that.
    pub(super) fn widening(&self) -> Option<Duration> {
        if self.reach == Reach::Everything || self.first.is_some() {
            return None;
        }
        if !self.configures() {
            return Some(self.appear_by);
        }
        let due = self.dark_since? + self.carry;
        self.candidates().any(|link| link.carrier).then_some(due)
    }

    /// Whether there is an interface that is to have addresses.
    pub(super) fn configures(&self) -> bool {
        self.ports.values().any(|port| !port.ways.is_empty())
    }

    /// Tries every cable when the time has come, and says so as soon as there is one.
    pub(super) fn widen(&mut self) {
        if self.widening().is_some_and(|due| due <= now()) {
            self.absent = Some(self.missing());
            let movable = guess::movable(&self.plan.network).map(|(name, ways)| (name.to_owned(), ways));
            self.reach = Reach::Everything;
            // What lies under a VLAN that the kernel will not make is a cable like any other.
            let refused = std::mem::take(&mut self.refused_vlans);
            self.plan
                .network
                .vlans
                .retain(|vlan| !refused.contains(&vlan.name));
            let stand_in = movable.and_then(|(name, ways)| {
                let bare = |link: &&LinkNews| link.kind.as_deref() != Some("vlan");
                let candidates: Vec<&LinkNews> = self.candidates().filter(bare).collect();
                let meant = guess::meant(&self.plan.network, &candidates)?;
                Some((meant.index, name, ways))
            });
            self.replaced = stand_in.as_ref().map(|(_, name, _)| name.clone());
            self.spread(stand_in.map(|(index, _, ways)| (index, ways)));
        }
        if self.reach == Reach::Everything {
            self.say_absent();
        }
    }

    /// Gives every interface what it is to have now, one of them what was meant for another.
    fn spread(&mut self, stand_in: Option<(u32, Vec<Way>)>) {
        let indexes: Vec<u32> = self.ports.keys().copied().collect();
        for index in indexes {
            let Some(link) = self.ports.get(&index).map(|port| &port.link) else {
                continue;
            };
            let (role, is_extra) = (self.role(link), self.is_extra(link));
            let moved = stand_in.as_ref().filter(|(chosen, _)| *chosen == index);
            if let (Role::Configured(ways), Some(port)) = (role, self.ports.get_mut(&index)) {
                let was_idle = port.ways.is_empty();
                port.ways = moved.map_or(ways, |(_, moved)| moved.clone());
                port.stands_in = is_extra;
                if was_idle {
                    self.ask(index);
                    self.carries(index);
                }
            }
        }
    }

    /// What the plan asks for and is not to be had, as a clause for people.
    fn missing(&self) -> String {
        let absent = wanted::absent(&self.plan.network, self.there());
        let dark = self.ports.values().filter(|port| !port.ways.is_empty());
        let dark: Vec<String> = dark.map(|port| described(&port.link)).collect();
        let verb = if dark.len() == 1 { "has" } else { "have" };
        let dark = (!dark.is_empty()).then(|| format!("{} {verb} no carrier", dark.join(" and ")));
        match (absent, dark) {
            (Some(absent), Some(dark)) => format!("{absent}, and {dark}"),
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => "ip= and BOOTIF= leave no interface".to_owned(),
        }
    }

    fn say_absent(&mut self) {
        let used: Vec<&Port> = self
            .ports
            .values()
            .filter(|port| port.stands_in && !port.ways.is_empty())
            .collect();
        if used.is_empty() {
            return;
        }
        let Some(absent) = self.absent.take() else {
            return;
        };
        let all =
            |ports: &[&Port]| -> Vec<String> { ports.iter().map(|port| described(&port.link)).collect() };
        let has_static = |port: &&Port| port.ways.iter().any(is_static);
        let how = match &self.replaced {
            Some(name) => {
                let (moved, others): (Vec<&Port>, Vec<&Port>) = used.iter().copied().partition(has_static);
                let also: Vec<String> = ["it".to_owned()].into_iter().chain(all(&others)).collect();
                let (moved, also) = (all(&moved).join(", "), also.join(", "));
                format!("ip= of {name} is applied to {moved}, and DHCP is used on {also} too")
            }
            None if wanted::is_general(&self.plan.network) => {
                format!("ip= is applied to {}", all(&used).join(", "))
            }
            None => format!("DHCP is used on {}", all(&used).join(", ")),
        };
        let text = format!("{absent}; {how}");
        if self.told.absent.as_ref() == Some(&text) {
            return;
        }
        let interfaces: Vec<&str> = used.iter().map(|port| port.link.name.as_str()).collect();
        let event = self
            .reporter
            .warn("network.absent")
            .with("what", absent)
            .with("interfaces", interfaces);
        self.reporter.event(event.text(text.as_str()));
        self.told.absent = Some(text);
    }

    fn there(&self) -> impl Iterator<Item = &LinkNews> + Clone {
        let ports = self.ports.values().map(|port| &port.link);
        ports.chain(self.ignored.values())
    }

    /// Leaves what was said and waited for to the next try.
    pub(in crate::stage::network) fn hand_on(mut self, search: &mut Search) {
        let silent = self.ports.values().filter(|port| port.is_silent());
        self.told.silent.extend(silent.map(|port| port.link.name.clone()));
        search.told = self.told;
        search.dark_since = self.dark_since;
    }

    /// Why there is no address.
    pub(in crate::stage::network) fn given_up(&self) -> Failure {
        let troubles = self.ports.values().filter_map(Port::trouble);
        let troubles: Vec<String> = self.refused.iter().cloned().chain(troubles).collect();
        if !troubles.is_empty() {
            return failure(Stage::Network, troubles.join(", "));
        }
        let mut what = "no network interface to configure".to_owned();
        if let Some(absent) = wanted::absent(&self.plan.network, self.there()) {
            what = format!("{what}: {absent}");
        }
        let unfit = self.there().filter(|link| link.medium != Medium::Loopback);
        let unfit: Vec<String> = unfit.map(described).collect();
        if !unfit.is_empty() {
            what = format!("{what}; there is {}", unfit.join(", "));
        }
        failure(Stage::Network, what)
            .hint("check ip= and BOOTIF=, and that the image has the driver's module")
    }
}

/// `eth0 (52:54:00:12:34:56)`
fn described(link: &LinkNews) -> String {
    match link.mac {
        Some(mac) => format!("{} ({})", link.name, with_colons(mac)),
        None => link.name.clone(),
    }
}
