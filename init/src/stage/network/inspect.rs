//! The kernel's network as it is, for whoever looks into why something cannot be reached. Nothing is changed.

use super::netlink::Netlink;
use super::rtnl::{GETADDR, GETROUTE, Request, attributes, family, ip, octets, u32_at};
use rustix::io::Errno;
use std::net::IpAddr;

/// `RTM_GETNEIGH`
const GETNEIGH: u16 = 30;
const MAIN_TABLE: u8 = 254;
const UNICAST: u8 = 1;

/// An address of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnAddress {
    /// Number of the interface.
    pub index: u32,
    /// The address.
    pub address: IpAddr,
    /// Length of its network's prefix.
    pub prefix: u8,
}

/// A route of the main table, or the answer which way an address is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    /// Number of the interface.
    pub index: u32,
    /// Where it leads; `None`: everywhere else.
    pub target: Option<IpAddr>,
    /// Length of the target's prefix.
    pub prefix: u8,
    /// The gateway; `None`: directly on the cable.
    pub via: Option<IpAddr>,
    /// The lower wins.
    pub metric: u32,
}

/// What is known of a machine on the same cable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbour {
    /// Number of the interface.
    pub index: u32,
    /// Its address.
    pub address: IpAddr,
    /// Whether it answers: by ARP, or by neighbour discovery.
    pub answers: Answers,
}

/// `NUD_*` of include/uapi/linux/neighbour.h, as far as it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answers {
    /// It has.
    Yes,
    /// It is being asked.
    Asking,
    /// It did not.
    No,
}

/// Every address of every interface.
///
/// # Errors
/// The kernel's.
pub fn addresses() -> Result<Vec<OwnAddress>, Errno> {
    let mut all = Vec::new();
    Netlink::open()?.each(GETADDR, &[0; 8], &mut |_, body| all.extend(own_address(body)))?;
    Ok(all)
}

/// The routes of the main table.
///
/// # Errors
/// The kernel's.
pub fn routes() -> Result<Vec<Way>, Errno> {
    let mut all = Vec::new();
    Netlink::open()?.each(GETROUTE, &[0; 12], &mut |_, body| {
        // Local addresses, broadcasts and what the kernel keeps for itself are other kinds.
        if body.get(4) == Some(&MAIN_TABLE) && body.get(7) == Some(&UNICAST) {
            all.extend(way(body));
        }
    })?;
    Ok(all)
}

/// Which way packets to `target` go.
///
/// # Errors
/// ENETUNREACH where no route leads there.
pub fn way_to(target: IpAddr) -> Result<Option<Way>, Errno> {
    let bits = if target.is_ipv4() { 32 } else { 128 };
    let mut fixed = [0; 12];
    fixed[0] = family(target);
    fixed[1] = bits;
    let request = Request::new(GETROUTE, Netlink::REQUEST, &fixed).with(1, &octets(target));
    let mut found = None;
    Netlink::open()?.one(request, &mut |_, body| found = way(body))?;
    Ok(found)
}

/// Who is known on the cables.
///
/// # Errors
/// The kernel's.
pub fn neighbours() -> Result<Vec<Neighbour>, Errno> {
    let mut all = Vec::new();
    Netlink::open()?.each(GETNEIGH, &[0; 12], &mut |_, body| all.extend(neighbour(body)))?;
    Ok(all)
}

fn own_address(body: &[u8]) -> Option<OwnAddress> {
    let value = |wanted| {
        attributes(body.get(8..)?)
            .find(|(kind, _)| *kind == wanted)
            .and_then(|(_, value)| ip(value))
    };
    Some(OwnAddress {
        index: u32_at(body, 4)?,
        // On a point-to-point link the first is the other end's.
        address: value(2).or_else(|| value(1))?,
        prefix: *body.get(1)?,
    })
}

fn way(body: &[u8]) -> Option<Way> {
    let mut way = Way {
        index: 0,
        target: None,
        prefix: *body.get(1)?,
        via: None,
        metric: 0,
    };
    for (kind, value) in attributes(body.get(12..)?) {
        match kind {
            1 => way.target = ip(value),
            4 => way.index = u32_at(value, 0)?,
            5 => way.via = ip(value),
            6 => way.metric = u32_at(value, 0)?,
            _ => {}
        }
    }
    Some(way)
}

fn neighbour(body: &[u8]) -> Option<Neighbour> {
    let state = u16::from_ne_bytes(body.get(8..10)?.try_into().ok()?);
    let (_, address) = attributes(body.get(12..)?).find(|(kind, _)| *kind == 1)?;
    Some(Neighbour {
        index: u32_at(body, 4)?,
        address: ip(address)?,
        answers: match state {
            0x01 => Answers::Asking,
            0x20 => Answers::No,
            _ => Answers::Yes,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_a_loopback_and_the_way_there() {
        let own = addresses().unwrap();
        assert!(
            own.iter().any(|own| own.address.is_loopback() && own.prefix >= 8),
            "{own:?}"
        );
        let way = way_to("127.0.0.1".parse().unwrap()).unwrap().unwrap();
        assert_eq!((way.index, way.via), (1, None));
        assert!(routes().is_ok() && neighbours().is_ok());
    }

    #[test]
    fn messages_that_are_cut_off_are_left_out() {
        let mut body = vec![2, 24, 0, 0, 1, 0, 0, 0];
        body.extend(super::super::rtnl::attribute(2, &[10, 0, 2, 15]));
        let whole = own_address(&body).unwrap();
        assert_eq!(
            (whole.address.to_string().as_str(), whole.prefix),
            ("10.0.2.15", 24)
        );
        for length in 0..body.len() {
            assert_eq!(own_address(&body[..length]), None, "{length}");
            assert_eq!(neighbour(&body[..length]), None);
        }
    }
}
