//! rtnetlink messages as bytes (rtnetlink(7), include/uapi/linux/rtnetlink.h).
//!
//! Everything is in the machine's own byte order and padded to four bytes. Reading never fails: what is cut off or unknown is left
//! out, since the kernel adds attributes with every release.

use super::message::Mac;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub(super) const NEWLINK: u16 = 16;
pub(super) const DELLINK: u16 = 17;
pub(super) const GETLINK: u16 = 18;
pub(super) const NEWADDR: u16 = 20;
pub(super) const DELADDR: u16 = 21;
pub(super) const GETADDR: u16 = 22;
pub(super) const NEWROUTE: u16 = 24;
pub(super) const DELROUTE: u16 = 25;
pub(super) const GETROUTE: u16 = 26;
const NEWNDUSEROPT: u16 = 68;
const ERROR: u16 = 2;
const DONE: u16 = 3;

const HEADER: usize = 16;
const ETHERNET: u16 = 1;
const LOOPBACK: u16 = 772;
const UP: u32 = 1;
/// `IFF_RUNNING | IFF_LOWER_UP`: the driver has a carrier and the link may be used.
const CARRIER: u32 = 0x40 | 0x1_0000;
/// `IFA_F_DADFAILED | IFA_F_TENTATIVE`
const NOT_YET: u32 = 0x08 | 0x40;

/// What the kernel tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum News {
    Link(LinkNews),
    LinkGone(u32),
    /// `usable` once duplicate address detection has passed.
    Address {
        index: u32,
        address: IpAddr,
        usable: bool,
    },
    AddressGone {
        index: u32,
        address: IpAddr,
    },
    /// There is an IPv6 default route.
    Router6 {
        index: u32,
    },
    /// A router advertisement named these (RFC 8106).
    NameServers {
        index: u32,
        servers: Vec<IpAddr>,
    },
}

/// An interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LinkNews {
    pub index: u32,
    pub name: String,
    /// Absent where it is not an Ethernet address, or all zeroes.
    pub mac: Option<Mac>,
    /// `vlan`, `bridge`, `veth`; `None` for hardware.
    pub kind: Option<String>,
    pub medium: Medium,
    pub up: bool,
    pub carrier: bool,
    /// How often the carrier came or went. The kernel may tell of two changes as one, and then this alone shows that the cable was out.
    pub changes: u32,
}

/// `ARPHRD_*`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Medium {
    Ethernet,
    Loopback,
    Other,
}

/// A message being written.
pub(super) struct Request {
    bytes: Vec<u8>,
}

impl Request {
    /// A message of `kind`, with its fixed part.
    pub(super) fn new(kind: u16, flags: u16, fixed: &[u8]) -> Request {
        let mut bytes = vec![0; 4];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend([0; 8]);
        bytes.extend(fixed);
        Request { bytes }
    }

    /// With an attribute.
    #[must_use]
    pub(super) fn with(mut self, kind: u16, value: &[u8]) -> Request {
        self.bytes.extend(attribute(kind, value));
        self
    }

    /// The bytes, numbered.
    pub(super) fn finish(mut self, seq: u32) -> Vec<u8> {
        let length = self.bytes.len() as u32;
        self.bytes[..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&seq.to_ne_bytes());
        self.bytes
    }
}

/// An attribute as bytes, for nesting.
pub(super) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut out = ((4 + value.len()) as u16).to_ne_bytes().to_vec();
    out.extend(kind.to_ne_bytes());
    out.extend(value);
    out.resize(out.len().next_multiple_of(4), 0);
    out
}

/// `struct ifinfomsg`
pub(super) fn ifinfomsg(index: u32, flags: u32, change: u32) -> Vec<u8> {
    let mut out = vec![0; 4];
    out.extend(index.to_ne_bytes());
    out.extend(flags.to_ne_bytes());
    out.extend(change.to_ne_bytes());
    out
}

/// An address as the kernel wants it.
pub(super) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// `AF_INET` or `AF_INET6`.
pub(super) fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { 2 } else { 10 }
}

/// One message out of a datagram.
pub(super) enum Message<'a> {
    Done,
    /// The answer to a request: 0, or an errno.
    Ack {
        seq: u32,
        errno: i32,
    },
    Data {
        kind: u16,
        body: &'a [u8],
    },
}

/// The messages of a datagram.
pub(super) fn messages(mut bytes: &[u8]) -> Vec<Message<'_>> {
    let mut out = Vec::new();
    while let (Some(length), Some(kind), Some(seq)) = (u32_at(bytes, 0), u16_at(bytes, 4), u32_at(bytes, 8)) {
        let length = length as usize;
        let Some(body) = bytes.get(HEADER..length) else {
            break;
        };
        out.push(match kind {
            DONE => Message::Done,
            ERROR => Message::Ack {
                seq,
                errno: u32_at(body, 0).unwrap_or(0).wrapping_neg() as i32,
            },
            kind => Message::Data { kind, body },
        });
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    out
}

/// What a message tells, if it is of interest here.
pub(super) fn news(kind: u16, body: &[u8]) -> Option<News> {
    match kind {
        NEWLINK => link(body).map(News::Link),
        DELLINK => Some(News::LinkGone(u32_at(body, 4)?)),
        NEWADDR | DELADDR => address(kind, body),
        NEWROUTE => router6(body),
        NEWNDUSEROPT => name_servers(body),
        _ => None,
    }
}

fn link(body: &[u8]) -> Option<LinkNews> {
    let flags = u32_at(body, 8)?;
    let mut link = LinkNews {
        index: u32_at(body, 4)?,
        name: String::new(),
        mac: None,
        kind: None,
        medium: match u16_at(body, 2)? {
            ETHERNET => Medium::Ethernet,
            LOOPBACK => Medium::Loopback,
            _ => Medium::Other,
        },
        up: flags & UP != 0,
        carrier: flags & CARRIER == CARRIER,
        changes: 0,
    };
    // AF_BRIDGE messages tell of a port of a bridge, not of the interface.
    if body.first() != Some(&0) {
        return None;
    }
    for (kind, value) in attributes(body.get(16..)?) {
        match kind {
            1 => link.mac = value.try_into().ok().filter(|mac: &Mac| *mac != [0; 6]),
            3 => link.name = text(value),
            35 => link.changes = u32_at(value, 0).unwrap_or(0),
            18 => {
                link.kind = attributes(value)
                    .find(|(kind, _)| *kind == 1)
                    .map(|(_, value)| text(value))
            }
            _ => {}
        }
    }
    (!link.name.is_empty()).then_some(link)
}

fn address(kind: u16, body: &[u8]) -> Option<News> {
    let index = u32_at(body, 4)?;
    let mut flags = u32::from(*body.get(2)?);
    let (mut remote, mut local) = (None, None);
    for (kind, value) in attributes(body.get(8..)?) {
        match kind {
            1 => remote = ip(value),
            2 => local = ip(value),
            8 => flags = u32_at(value, 0)?,
            _ => {}
        }
    }
    let address = local.or(remote)?;
    Some(match kind {
        DELADDR => News::AddressGone { index, address },
        _ => News::Address {
            index,
            address,
            usable: flags & NOT_YET == 0,
        },
    })
}

fn router6(body: &[u8]) -> Option<News> {
    let (family, target_length, table, kind) = (*body.first()?, *body.get(1)?, *body.get(4)?, *body.get(7)?);
    let main_unicast = table == 254 && kind == 1;
    if family != 10 || target_length != 0 || !main_unicast {
        return None;
    }
    attributes(body.get(12..)?)
        .find(|(kind, _)| *kind == 4)
        .and_then(|(_, value)| {
            Some(News::Router6 {
                index: u32_at(value, 0)?,
            })
        })
}

/// `struct nduseroptmsg`, then options of router advertisements; 25 is RDNSS.
fn name_servers(body: &[u8]) -> Option<News> {
    let length = usize::from(u16_at(body, 2)?);
    let index = u32_at(body, 4)?;
    let mut options = body.get(16..16 + length)?;
    let mut servers = Vec::new();
    while let [kind, units, ..] = options {
        let (option, rest) = options.split_at_checked(usize::from(*units).max(1) * 8)?;
        let lifetime = option.get(4..8).is_some_and(|lifetime| lifetime != [0; 4]);
        if *kind == 25 && lifetime {
            let (addresses, _) = option.get(8..)?.as_chunks::<16>();
            servers.extend(addresses.iter().map(|octets| IpAddr::V6(Ipv6Addr::from(*octets))));
        }
        options = rest;
    }
    (!servers.is_empty()).then_some(News::NameServers { index, servers })
}

/// The attributes of a message.
pub(super) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(bytes, 0)?);
        let kind = u16_at(bytes, 2)? & 0x3fff;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned()
}

/// An address of either family.
pub(super) fn ip(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(|octets| IpAddr::V4(Ipv4Addr::from(octets)));
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(|octets| IpAddr::V6(Ipv6Addr::from(octets))))
        .ok()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// A number at a place, if the place is there.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}
