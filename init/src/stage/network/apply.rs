//! Leases and static addresses, into the kernel.

use super::lease::{Lease, Route4};
use super::netlink::{Assigned, Netlink, Route};
use crate::report::Reporter;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// `RTPROT_DHCP` and `RTPROT_STATIC`: `ip route` then says where a route came from.
const DHCP: u8 = 16;
const STATIC: u8 = 4;

/// Where what is applied goes.
pub(super) struct Target<'a> {
    pub netlink: &'a mut Netlink,
    pub reporter: &'a Reporter,
    pub index: u32,
    pub metric: u32,
}

impl Target<'_> {
    /// Uses `lease`; what `old` had and it has not is taken away. False when the kernel refuses the address.
    pub(super) fn lease(&mut self, lease: &Lease, old: Option<&Lease>) -> bool {
        if let Some(mtu) = lease.mtu {
            let result = self.netlink.set_mtu(self.index, u32::from(mtu));
            self.reporter.ignore("set the MTU", result);
        }
        if !self.address(&assigned(self.index, lease)) {
            return false;
        }
        for route in old.map(|old| old.routes.as_slice()).unwrap_or_default() {
            if !lease.routes.contains(route) {
                let gone = self.route4(lease, route);
                let result = self.netlink.remove_route(&gone);
                self.reporter.ignore("remove a route", result);
            }
        }
        // Routes without a gateway first: the others' gateways may lie behind them.
        let (near, far): (Vec<&Route4>, Vec<&Route4>) =
            lease.routes.iter().partition(|route| route.via.is_none());
        for route in near.into_iter().chain(far) {
            let route = self.route4(lease, route);
            self.add(&route);
        }
        true
    }

    /// Takes a lease's address away; routes with it as their source go with it.
    pub(super) fn drop_lease(&mut self, lease: &Lease) {
        for route in &lease.routes {
            let route = self.route4(lease, route);
            let result = self.netlink.remove_route(&route);
            self.reporter.ignore("remove a route", result);
        }
        let result = self.netlink.remove_address(&assigned(self.index, lease));
        self.reporter.ignore("remove the address", result);
    }

    /// Uses an address out of the plan. False when the kernel refuses it.
    pub(super) fn fixed(
        &mut self,
        address: IpAddr,
        prefix: u8,
        gateway: Option<IpAddr>,
        peer: Option<IpAddr>,
    ) -> bool {
        if !self.address(&given(self.index, address, prefix, peer)) {
            return false;
        }
        if let Some(via) = gateway {
            self.add(&self.default(address, prefix, peer, via));
        }
        true
    }

    /// Takes an address out of the plan away again; routes with it as their source go with it.
    pub(super) fn unfix(
        &mut self,
        address: IpAddr,
        prefix: u8,
        gateway: Option<IpAddr>,
        peer: Option<IpAddr>,
    ) {
        if let Some(via) = gateway {
            let result = self
                .netlink
                .remove_route(&self.default(address, prefix, peer, via));
            self.reporter.ignore("remove a route", result);
        }
        let result = self
            .netlink
            .remove_address(&given(self.index, address, prefix, peer));
        self.reporter.ignore("remove the address", result);
    }

    fn default(&self, address: IpAddr, prefix: u8, peer: Option<IpAddr>, via: IpAddr) -> Route {
        let prefix = if peer.is_some() { longest(address) } else { prefix };
        Route {
            index: self.index,
            target: match via {
                IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            },
            prefix: 0,
            via: Some(via),
            onlink: !within(via, address, prefix),
            // A source address that duplicate detection still looks at would be refused; IPv6 chooses well by itself.
            source: address.is_ipv4().then_some(address),
            metric: self.metric,
            protocol: STATIC,
        }
    }

    fn address(&mut self, assigned: &Assigned) -> bool {
        let result = self.netlink.add_address(assigned);
        let done = result.is_ok();
        self.reporter
            .ignore(&format!("set address {}", assigned.address), result);
        done
    }

    fn add(&mut self, route: &Route) {
        let result = self.netlink.add_route(route);
        self.reporter
            .ignore(&format!("add route to {}/{}", route.target, route.prefix), result);
    }

    fn route4(&self, lease: &Lease, route: &Route4) -> Route {
        let via = route.via.map(IpAddr::V4);
        Route {
            index: self.index,
            target: IpAddr::V4(route.target),
            prefix: route.prefix,
            via,
            onlink: via.is_some_and(|via| !within(via, IpAddr::V4(lease.address), lease.prefix)),
            source: Some(IpAddr::V4(lease.address)),
            metric: self.metric,
            protocol: DHCP,
        }
    }
}

fn assigned(index: u32, lease: &Lease) -> Assigned {
    Assigned {
        index,
        address: IpAddr::V4(lease.address),
        prefix: lease.prefix,
        broadcast: lease
            .broadcast
            .or_else(|| broadcast_of(lease.address, lease.prefix)),
        peer: None,
    }
}

fn given(index: u32, address: IpAddr, prefix: u8, peer: Option<IpAddr>) -> Assigned {
    let prefix = if peer.is_some() { longest(address) } else { prefix };
    Assigned {
        index,
        address,
        prefix,
        broadcast: match address {
            IpAddr::V4(v4) if peer.is_none() => broadcast_of(v4, prefix),
            _ => None,
        },
        peer,
    }
}

fn longest(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// `None` where RFC 3021 leaves no room for one.
fn broadcast_of(address: Ipv4Addr, prefix: u8) -> Option<Ipv4Addr> {
    let hosts = u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
    (prefix < 31).then(|| Ipv4Addr::from(u32::from(address) | hosts))
}

/// Whether `other` lies in the subnet of `address`; link-local routers always do.
fn within(other: IpAddr, address: IpAddr, prefix: u8) -> bool {
    match (other, address) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            (u32::from(a) ^ u32::from(b))
                .checked_shr(32 - u32::from(prefix.min(32)))
                .unwrap_or(0)
                == 0
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => {
            a.is_unicast_link_local()
                || (u128::from(a) ^ u128::from(b))
                    .checked_shr(128 - u32::from(prefix.min(128)))
                    .unwrap_or(0)
                    == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broadcast_addresses() {
        let of = |text: &str, prefix| broadcast_of(text.parse().unwrap(), prefix).map(|a| a.to_string());
        assert_eq!(of("192.168.1.5", 24).as_deref(), Some("192.168.1.255"));
        assert_eq!(of("10.1.2.3", 8).as_deref(), Some("10.255.255.255"));
        assert_eq!(of("10.1.2.3", 0).as_deref(), Some("255.255.255.255"));
        assert_eq!((of("10.1.2.3", 31), of("10.1.2.3", 32)), (None, None));
    }

    #[test]
    fn a_gateway_is_in_the_subnet_or_not() {
        let within = |other: &str, own: &str, prefix| {
            super::within(other.parse().unwrap(), own.parse().unwrap(), prefix)
        };
        assert!(within("10.0.0.1", "10.0.0.9", 24) && within("1.2.3.4", "10.0.0.9", 0));
        assert!(!within("10.0.1.1", "10.0.0.9", 24) && !within("10.0.0.1", "10.0.0.9", 32));
        assert!(within("fe80::1", "2001:db8::5", 64) && within("2001:db8::1", "2001:db8::5", 64));
        assert!(!within("2001:db9::1", "2001:db8::5", 64) && !within("10.0.0.1", "2001:db8::5", 64));
    }
}
