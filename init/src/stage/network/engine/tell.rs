//! What the machine and its people are told: name servers, the host name, addresses.

use super::Engine;
use crate::stage::network::netlink::with_dashes;
use crate::stage::network::{names, wanted};
use lifeboot_contract::control::Report;
use lifeboot_contract::status::Address;
use lifeboot_contract::template::Facts;
use std::net::IpAddr;

impl Engine {
    /// The name that the plan gives, `{mac}` and all.
    pub(super) fn own_hostname(&self, mac: Option<String>) -> Option<String> {
        let facts = Facts {
            mac,
            ..self.plan.facts.clone()
        };
        let template = self.plan.hostname.as_ref();
        let expanded = template.map(|template| template.expand(&facts)).and_then(|name| {
            name.inspect_err(|error| {
                let what = format!(
                    "lifeboot.hostname={}: {error}",
                    self.plan.hostname.as_ref().map_or("", |t| t.as_str())
                );
                self.reporter.event(
                    self.reporter
                        .warn("child.error")
                        .with("child", "network")
                        .with("what", what),
                );
            })
            .ok()
        });
        expanded.or_else(|| wanted::given(&self.plan.network).2)
    }

    pub(super) fn name_machine(&mut self, index: u32) {
        let port = self.ports.get(&index);
        let mac = port.and_then(|port| port.link.mac).map(with_dashes);
        let leased = port
            .and_then(|port| port.lease.as_ref())
            .and_then(|lease| lease.hostname.clone());
        if let Some(name) = self.own_hostname(mac).or(leased)
            && names::set_hostname(&name, &self.reporter)
        {
            self.reporter.report(Report::Hostname(name.clone()));
            self.hostname = Some(name);
        }
    }

    /// Name servers and time servers, the plan's first, then those of the first interface, then the others'.
    pub(super) fn servers(&self) -> (Vec<IpAddr>, Vec<String>) {
        let (mut dns, ntp, _) = wanted::given(&self.plan.network);
        let mut ntp: Vec<String> = ntp.iter().map(IpAddr::to_string).collect();
        let first = self.first.and_then(|first| self.ports.get(&first));
        let others = self
            .ports
            .iter()
            .filter(|(index, _)| Some(**index) != self.first)
            .map(|(_, port)| port);
        for port in first.into_iter().chain(others) {
            if let Some(lease) = &port.lease {
                dns.extend(lease.dns.iter().copied().map(IpAddr::V4));
                ntp.extend(lease.ntp.iter().map(ToString::to_string));
            }
            dns.extend(&port.dns6);
        }
        (dns, ntp)
    }

    pub(super) fn write_names(&mut self) {
        if self.first.is_none() {
            return;
        }
        let domains: Vec<String> = self
            .ports
            .values()
            .filter_map(|port| port.lease.as_ref())
            .flat_map(|lease| lease.domains.clone())
            .collect();
        let text = names::resolv_conf(&self.servers().0, &domains);
        if self.resolv_conf.as_ref() != Some(&text) {
            self.reporter
                .ignore("write resolv.conf", names::write_resolv_conf(&text));
            self.resolv_conf = Some(text);
        }
    }

    /// Tells the addresses that reach this machine, when they are others than before: those that reach far first.
    pub(super) fn report(&mut self) {
        let mut all: Vec<Address> = self
            .addresses
            .iter()
            .filter_map(|(index, address)| {
                let interface = self.ports.get(index)?.link.name.clone();
                Some(Address {
                    interface,
                    address: *address,
                })
            })
            .collect();
        let near = |address: &IpAddr| matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
        all.sort_by_key(|address| (near(&address.address), address.address.is_ipv6()));
        if all != self.reported {
            self.reported = all.clone();
            self.reporter.report(Report::Addresses(all));
        }
    }

    pub(super) fn say_lost(&self, interface: &str, what: &str) {
        let event = self
            .reporter
            .warn("network.lost")
            .with("interface", interface)
            .with("what", what);
        self.reporter.event(event.text(format!("{interface}: {what}")));
    }
}
