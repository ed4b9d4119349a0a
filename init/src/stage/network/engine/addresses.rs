//! Addresses come and go: leases, the plan's own, those of router advertisements.

use super::{Engine, now};
use crate::report::Reporter;
use crate::stage::network::apply::Target;
use crate::stage::network::lease::Lease;
use crate::stage::network::wanted::Way;
use lifeboot_contract::event::Event;
use std::net::IpAddr;

impl Engine {
    /// Sets the plan's own addresses.
    pub(super) fn fix(&mut self, index: u32) {
        self.take_back(index);
        let Some(port) = self.ports.get_mut(&index) else {
            return;
        };
        let (reporter, metric) = (&self.reporter, port.fixed_metric());
        let mut target = Target {
            netlink: &mut self.netlink,
            reporter,
            index,
            metric,
        };
        let mut set = Vec::new();
        for way in &port.ways {
            if let Way::Static {
                address,
                prefix,
                gateway,
                peer,
            } = *way
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
    pub(super) fn auto6(&mut self) {
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

    pub(super) fn bound(&mut self, index: u32, lease: Lease) {
        let Some(port) = self.ports.get_mut(&index) else {
            return;
        };
        let mut target = Target {
            netlink: &mut self.netlink,
            reporter: &self.reporter,
            index,
            metric: port.metric,
        };
        if target.lease(&lease, None) {
            self.reporter
                .event(lease_event(&self.reporter, &port.link.name, &lease));
            self.addresses.insert((index, IpAddr::V4(lease.address)));
            port.lease = Some(lease);
            self.configured(index);
        } else {
            let what = format!(
                "{}: the kernel refuses {}/{}",
                port.link.name, lease.address, lease.prefix
            );
            self.reporter.event(
                self.reporter
                    .warn("child.error")
                    .with("child", "network")
                    .with("what", what.as_str()),
            );
            self.refused.push(what);
        }
    }

    pub(super) fn renewed(&mut self, index: u32, lease: Lease) {
        let Some(port) = self.ports.get_mut(&index) else {
            return;
        };
        let mut target = Target {
            netlink: &mut self.netlink,
            reporter: &self.reporter,
            index,
            metric: port.metric,
        };
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

    pub(super) fn lost(&mut self, index: u32, what: &str) {
        let Some(port) = self.ports.get_mut(&index) else {
            return;
        };
        port.stop_client();
        let name = port.link.name.clone();
        if let Some(lease) = port.lease.take() {
            let mut target = Target {
                netlink: &mut self.netlink,
                reporter: &self.reporter,
                index,
                metric: port.metric,
            };
            let address = IpAddr::V4(lease.address);
            if !port.has_fixed(address) {
                target.drop_lease(&lease);
                self.addresses.remove(&(index, address));
            }
        }
        self.say_lost(&name, what);
        self.report();
        let is_fixed = self.ports.get(&index).is_some_and(|port| port.fixed);
        if self.first == Some(index) && !is_fixed {
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
    pub(super) fn configured(&mut self, index: u32) {
        if self.first.is_some() {
            self.write_names();
            self.report();
            return;
        }
        self.first = Some(index);
        for (_, port) in self
            .ports
            .iter_mut()
            .filter(|(other, port)| **other != index && port.is_one_of_all())
        {
            port.stop_client();
        }
        self.write_names();
        self.name_machine(index);
        self.report();
        let Some(port) = self.ports.get(&index) else {
            return;
        };
        let address = self
            .reported
            .iter()
            .find(|address| address.interface == port.link.name);
        let address = address
            .map(|address| address.address.to_string())
            .unwrap_or_default();
        let event = self
            .reporter
            .debug("network.done")
            .with("interface", port.link.name.as_str());
        self.reporter.event(event.with("address", address));
    }
}

fn lease_event(reporter: &Reporter, interface: &str, lease: &Lease) -> Event {
    let router = lease.router();
    let by = router
        .map(|router| format!(", router {router}"))
        .unwrap_or_default();
    let dns: Vec<String> = lease.dns.iter().map(ToString::to_string).collect();
    reporter
        .info("network.lease")
        .text(format!(
            "{interface}: {}/{} from {} by DHCP{by}",
            lease.address, lease.prefix, lease.server
        ))
        .with("interface", interface)
        .with("address", lease.address.to_string())
        .with("router", router.map(|router| router.to_string()))
        .with("dns", dns)
        .with("server", lease.server.to_string())
        .with("seconds", lease.seconds)
}
