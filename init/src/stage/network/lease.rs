//! What a server lends: an address and what goes with it.

use super::message::Reply;
use lifeboot_contract::plan::is_hostname;
use std::net::Ipv4Addr;
use std::time::Duration;

/// Lease time when the server names none, which RFC 2131 does not allow.
const UNTOLD: u32 = 3600;
/// No server can make us ask more often than this.
const SHORTEST: u32 = 20;
/// `0xffffffff`
const FOREVER: u32 = u32::MAX;

/// A lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lease {
    pub address: Ipv4Addr,
    pub prefix: u8,
    pub broadcast: Option<Ipv4Addr>,
    pub routes: Vec<Route4>,
    pub dns: Vec<Ipv4Addr>,
    pub ntp: Vec<Ipv4Addr>,
    pub domains: Vec<String>,
    pub hostname: Option<String>,
    pub mtu: Option<u16>,
    pub server: Ipv4Addr,
    /// Seconds it lasts; `u32::MAX` is forever.
    pub seconds: u32,
    /// Seconds until the server is asked to renew it.
    pub t1: u32,
    /// Seconds until any server is asked to.
    pub t2: u32,
}

/// A route of a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Route4 {
    pub target: Ipv4Addr,
    pub prefix: u8,
    /// `None`: directly on the cable.
    pub via: Option<Ipv4Addr>,
}

impl Lease {
    /// The lease in an offer or an acknowledgement; `None` when its address or its server cannot be one.
    pub(super) fn from_reply(reply: &Reply) -> Option<Lease> {
        let address = reply.address;
        let server = reply.server().filter(|server| usable(*server))?;
        if !usable(address) {
            return None;
        }
        let mask = reply.address_option(1).and_then(prefix_of);
        let seconds = reply.number(51).unwrap_or(UNTOLD).max(SHORTEST);
        let (t1, t2) = times(seconds, reply.number(58), reply.number(59));
        Some(Lease {
            address,
            prefix: mask.unwrap_or_else(|| classful(address)),
            broadcast: reply
                .address_option(28)
                .filter(|address| !address.is_unspecified()),
            routes: routes(reply),
            dns: reply.addresses(6),
            ntp: reply.addresses(42),
            domains: domains(reply),
            hostname: reply.text(12).filter(|name| is_hostname(name)).map(str::to_owned),
            mtu: reply
                .option(26)
                .and_then(|value| value.try_into().ok())
                .map(u16::from_be_bytes)
                .filter(|mtu| *mtu >= 576),
            server,
            seconds,
            t1,
            t2,
        })
    }

    /// How long it lasts; `None`: forever.
    pub(super) fn lasts(&self) -> Option<Duration> {
        (self.seconds != FOREVER).then(|| Duration::from_secs(u64::from(self.seconds)))
    }

    /// The router, for people.
    pub(super) fn router(&self) -> Option<Ipv4Addr> {
        self.routes
            .iter()
            .find(|route| route.prefix == 0)
            .and_then(|route| route.via)
    }
}

/// T1 and T2, RFC 2131 section 4.4.5; the server's own only when they are in order.
fn times(seconds: u32, t1: Option<u32>, t2: Option<u32>) -> (u32, u32) {
    let usual2 = (u64::from(seconds) * 7 / 8) as u32;
    let t2 = t2.filter(|t2| (2..seconds).contains(t2)).unwrap_or(usual2);
    let t1 = t1
        .filter(|t1| (1..t2).contains(t1))
        .unwrap_or((seconds / 2).min(t2));
    (t1, t2)
}

fn usable(address: Ipv4Addr) -> bool {
    !(address.octets()[0] == 0
        || address.is_loopback()
        || address.is_multicast()
        || address.octets()[0] >= 240)
}

fn prefix_of(mask: Ipv4Addr) -> Option<u8> {
    let mask = u32::from(mask);
    (mask != 0 && mask.leading_ones() + mask.trailing_zeros() == 32).then(|| mask.leading_ones() as u8)
}

fn classful(address: Ipv4Addr) -> u8 {
    match address.octets()[0] {
        0..=127 => 8,
        128..=191 => 16,
        _ => 24,
    }
}

/// Classless routes win over the router (RFC 3442), which then is not even looked at.
fn routes(reply: &Reply) -> Vec<Route4> {
    if let Some(routes) = reply.option(121).and_then(classless) {
        return routes;
    }
    let router = reply.addresses(3).into_iter().next();
    let default = router.map(|via| Route4 {
        target: Ipv4Addr::UNSPECIFIED,
        prefix: 0,
        via: Some(via),
    });
    default.into_iter().collect()
}

fn classless(mut bytes: &[u8]) -> Option<Vec<Route4>> {
    let mut routes = Vec::new();
    while let [prefix @ 0..=32, rest @ ..] = bytes {
        let significant = usize::from(*prefix).div_ceil(8);
        let (head, rest) = rest.split_at_checked(significant)?;
        let (via, rest) = rest.split_first_chunk::<4>()?;
        let mut target = [0; 4];
        target[..significant].copy_from_slice(head);
        let mask = u32::MAX.checked_shl(32 - u32::from(*prefix)).unwrap_or(0);
        let via = Ipv4Addr::from(*via);
        routes.push(Route4 {
            target: Ipv4Addr::from(u32::from_be_bytes(target) & mask),
            prefix: *prefix,
            via: (!via.is_unspecified()).then_some(via),
        });
        bytes = rest;
    }
    (bytes.is_empty() && !routes.is_empty()).then_some(routes)
}

/// Where short names are looked up: the search list (RFC 3397), else the domain.
fn domains(reply: &Reply) -> Vec<String> {
    let listed = reply.option(119).map(search_list).unwrap_or_default();
    if !listed.is_empty() {
        return listed;
    }
    let domain = reply.text(15).unwrap_or_default();
    domain
        .split_whitespace()
        .filter(|name| is_hostname(name))
        .map(str::to_owned)
        .collect()
}

/// Names in DNS wire format, with compression pointers into the option itself. Each name may follow only a few pointers, and only
/// backwards, so that hostile ones end.
pub(super) fn search_list(bytes: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    let mut at = 0;
    while at < bytes.len() && names.len() < 6 {
        let Some((name, next)) = dns_name(bytes, at) else {
            break;
        };
        if is_hostname(&name) {
            names.push(name);
        }
        at = next;
    }
    names
}

fn dns_name(bytes: &[u8], start: usize) -> Option<(String, usize)> {
    let mut labels: Vec<&str> = Vec::new();
    let mut at = start;
    let mut after = None;
    loop {
        match usize::from(*bytes.get(at)?) {
            0 => return Some((labels.join("."), after.unwrap_or(at + 1))),
            length @ 1..=63 => {
                labels.push(std::str::from_utf8(bytes.get(at + 1..at + 1 + length)?).ok()?);
                at += 1 + length;
            }
            pointer @ 192.. => {
                let target = (pointer & 63) << 8 | usize::from(*bytes.get(at + 1)?);
                after.get_or_insert(at + 2);
                if target >= at {
                    return None;
                }
                at = target;
            }
            _ => return None,
        }
        if labels.len() > 127 {
            return None;
        }
    }
}
