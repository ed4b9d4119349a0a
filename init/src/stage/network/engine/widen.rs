//! A plan whose interfaces are not there: after a while every cable is tried, so that one wrong name does not cost the machine.

use super::{Engine, is_wireless, now};
use crate::report::{FailureExt, failure};
use crate::stage::network::Told;
use crate::stage::network::netlink::with_dashes;
use crate::stage::network::port::Port;
use crate::stage::network::rtnl::{LinkNews, Medium};
use crate::stage::network::wanted::{self, Reach, Role, with_colons};
use lifeboot_contract::event::{Failure, Stage};
use std::time::Duration;

impl Engine {
    /// What is done with an interface.
    pub(super) fn role(&self, link: &LinkNews) -> Role {
        wanted::role(&self.plan.network, self.reach, link, is_wireless(&link.name))
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
        let waits = self.reach == Reach::Named && !self.configures();
        waits.then_some(self.appear_by)
    }

    /// Whether there is an interface that is to have addresses.
    fn configures(&self) -> bool {
        self.ports.values().any(|port| !port.ways.is_empty())
    }

    /// Tries every cable when the time has come, and says so as soon as there is one.
    pub(super) fn widen(&mut self) {
        if self.widening().is_some_and(|due| due <= now()) {
            self.reach = Reach::Everything;
            let clause = wanted::absent(&self.plan.network, self.there());
            self.absent = Some(clause.unwrap_or_else(|| "ip= and BOOTIF= leave no interface".to_owned()));
            // What lies under a VLAN that the kernel will not make is a cable like any other.
            let refused = std::mem::take(&mut self.refused_vlans);
            self.plan
                .network
                .vlans
                .retain(|vlan| !refused.contains(&vlan.name));
            let indexes: Vec<u32> = self.ports.keys().copied().collect();
            for index in indexes {
                let role = self.ports.get(&index).map(|port| self.role(&port.link));
                if let (Some(Role::Configured(ways)), Some(port)) = (role, self.ports.get_mut(&index)) {
                    port.ways = ways;
                    self.ask(index);
                    self.carries(index);
                }
            }
        }
        if self.reach == Reach::Everything && self.configures() {
            self.say_absent();
        }
    }

    fn say_absent(&mut self) {
        let Some(absent) = self.absent.take() else {
            return;
        };
        let used: Vec<&LinkNews> = self
            .ports
            .values()
            .filter(|port| !port.ways.is_empty())
            .map(|port| &port.link)
            .collect();
        let how = match wanted::is_general(&self.plan.network) {
            true => "ip= is applied to",
            false => "DHCP is used on",
        };
        let named: Vec<String> = used.iter().map(|link| described(link)).collect();
        let text = format!("{absent}; {how} {}", named.join(", "));
        if self.told.absent.as_ref() == Some(&text) {
            return;
        }
        let interfaces: Vec<&str> = used.iter().map(|link| link.name.as_str()).collect();
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

    /// What was said, for the next try.
    pub(in crate::stage::network) fn told(mut self) -> Told {
        let silent = self.ports.values().filter(|port| port.is_silent());
        self.told.silent.extend(silent.map(|port| port.link.name.clone()));
        self.told
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
