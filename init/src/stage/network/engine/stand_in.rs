//! Cables that are tried in place of those that the plan asks for, and what they give back when the right one comes.

use super::{Engine, now};
use crate::stage::network::apply::Target;
use crate::stage::network::guess::is_static;
use crate::stage::network::port::Port;
use crate::stage::network::rtnl::LinkNews;
use crate::stage::network::wanted::{Reach, Role, Way};
use std::net::IpAddr;

impl Engine {
    /// Interfaces that are switched on, that get no addresses, and that would be tried with all others.
    pub(super) fn candidates(&self) -> impl Iterator<Item = &LinkNews> {
        let idle = self.ports.values().filter(|port| port.ways.is_empty());
        idle.map(|port| &port.link)
            .filter(|link| matches!(self.role_within(Reach::Everything, link), Role::Configured(_)))
    }

    /// Whether an interface is only tried because what the plan asks for is not to be had.
    pub(super) fn is_extra(&self, link: &LinkNews) -> bool {
        let asked_for = matches!(self.role_within(Reach::Named, link), Role::Configured(_));
        self.reach == Reach::Everything && !asked_for
    }

    /// Keeps in mind since when nothing that the plan asks for has had a carrier.
    pub(super) fn watch(&mut self) {
        let is_asked_for = |port: &&Port| !port.ways.is_empty() && !port.stands_in;
        let mut asked_for = self.ports.values().filter(is_asked_for).peekable();
        let dark = asked_for.peek().is_some() && asked_for.all(|port| !port.link.carrier);
        self.dark_since = dark.then(|| self.dark_since.unwrap_or_else(now));
    }

    /// The plan's addresses are about to be set on the interface they are meant for: first every other gives them back, since
    /// IPv6 would find them taken.
    pub(super) fn take_back(&mut self, index: u32) {
        let Some(owner) = self.ports.get(&index).filter(|port| !port.stands_in) else {
            return;
        };
        let (name, own) = (owner.link.name.clone(), owner.ways.clone());
        let extra = self.ports.iter().filter(|(_, port)| port.stands_in);
        for other in extra.map(|(index, _)| *index).collect::<Vec<u32>>() {
            let moved = self.give_back(other, &own);
            for address in &moved {
                self.say_moved(other, *address, &name);
            }
            if !moved.is_empty() && self.first == Some(other) {
                self.first = Some(index);
            }
        }
    }

    /// Takes those of `own` away that were set on an interface in place of another; a lease stays.
    fn give_back(&mut self, index: u32, own: &[Way]) -> Vec<IpAddr> {
        let Some(port) = self.ports.get_mut(&index) else {
            return Vec::new();
        };
        let (given, rest): (Vec<Way>, Vec<Way>) = std::mem::take(&mut port.ways)
            .into_iter()
            .partition(|way| is_static(way) && own.contains(way));
        port.ways = rest;
        let was_fixed = port.fixed;
        port.fixed &= port.ways.iter().any(is_static);
        if given.is_empty() || !was_fixed {
            return Vec::new();
        }
        let leased = port.lease.as_ref().map(|lease| IpAddr::V4(lease.address));
        let mut moved = Vec::new();
        let mut target = Target {
            netlink: &mut self.netlink,
            reporter: &self.reporter,
            index,
            metric: port.fixed_metric(),
        };
        for way in given {
            if let Way::Static {
                address,
                prefix,
                gateway,
                peer,
            } = way
                && leased != Some(address)
            {
                target.unfix(address, prefix, gateway, peer);
                self.addresses.remove(&(index, address));
                moved.push(address);
            }
        }
        if let Some(lease) = &port.lease {
            // The kernel takes further addresses of a network away with the first one.
            target.metric = port.metric;
            target.lease(lease, None);
        }
        moved
    }

    fn say_moved(&self, index: u32, address: IpAddr, owner: &str) {
        let name = self.ports.get(&index).map_or("", |port| port.link.name.as_str());
        let event = self.reporter.info("network.moved").with("interface", name);
        let event = event.with("address", address.to_string()).with("to", owner);
        self.reporter
            .event(event.text(format!("{name}: {address} has moved to {owner}")));
    }
}
