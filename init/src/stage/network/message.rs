//! DHCPv4 messages (RFC 2131, RFC 2132).
//!
//! Only what a client needs. Answers come from whoever is on the cable: whatever they hold, reading ends in a [`Reply`] or in
//! `None`, and an option that is wrong is as if it were absent. Options may be cut into several of the same code (RFC 3396) and go
//! on in the fields of the server's name and boot file (option 52).

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// An Ethernet address.
pub(super) type Mac = [u8; 6];

const COOKIE: [u8; 4] = [99, 130, 83, 99];
const OPTIONS: usize = 240;
/// Least length of a BOOTP message; some relays drop shorter ones (RFC 1542, section 2.1).
const LEAST: usize = 300;
/// Subnet mask, router, DNS, host name, domain, MTU, NTP, lease time, server, T1, T2, search list, classless routes. RFC 3442 wants
/// its option before the router.
const WANTED: [u8; 13] = [1, 121, 3, 6, 12, 15, 26, 42, 51, 54, 58, 59, 119];

/// Option 53.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Discover,
    Offer,
    Request,
    Ack,
    Nak,
}

impl Kind {
    fn code(self) -> u8 {
        match self {
            Kind::Discover => 1,
            Kind::Offer => 2,
            Kind::Request => 3,
            Kind::Ack => 5,
            Kind::Nak => 6,
        }
    }

    fn from_code(code: u8) -> Option<Kind> {
        let all = [Kind::Discover, Kind::Offer, Kind::Request, Kind::Ack, Kind::Nak];
        all.into_iter().find(|kind| kind.code() == code)
    }
}

/// Who takes the unicast answer of a server that does not know us yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// To our Ethernet address; the packet socket sees it.
    Unicast,
    /// To everybody, for servers and relays that cannot do that.
    Broadcast,
}

/// A message to a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outgoing {
    pub kind: Kind,
    pub xid: u32,
    pub secs: u16,
    pub mac: Mac,
    pub answer: Answer,
    /// Our address, where we have it and use it.
    pub ciaddr: Ipv4Addr,
    /// Option 50.
    pub requested: Option<Ipv4Addr>,
    /// Option 54.
    pub server: Option<Ipv4Addr>,
    /// Option 12.
    pub hostname: Option<String>,
}

impl Outgoing {
    /// As bytes for UDP.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = vec![1, 1, 6, 0];
        out.extend(self.xid.to_be_bytes());
        out.extend(self.secs.to_be_bytes());
        out.extend(match self.answer {
            Answer::Unicast => [0, 0],
            Answer::Broadcast => [0x80, 0],
        });
        out.extend(self.ciaddr.octets());
        out.extend([0; 12]);
        out.extend(self.mac);
        out.resize(OPTIONS - COOKIE.len(), 0);
        out.extend(COOKIE);
        let mut option = |code: u8, value: &[u8]| {
            out.extend([code, value.len() as u8]);
            out.extend(value);
        };
        option(53, &[self.kind.code()]);
        option(61, &[&[1][..], &self.mac].concat());
        if let Some(address) = self.requested {
            option(50, &address.octets());
        }
        if let Some(server) = self.server {
            option(54, &server.octets());
        }
        if let Some(name) = self
            .hostname
            .as_ref()
            .filter(|name| (1..=64).contains(&name.len()))
        {
            option(12, name.as_bytes());
        }
        option(57, &1472u16.to_be_bytes());
        option(60, b"lifeboot");
        option(55, &WANTED);
        out.push(255);
        out.resize(out.len().max(LEAST), 0);
        out
    }
}

/// A message from a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply {
    pub kind: Kind,
    pub xid: u32,
    pub mac: Mac,
    pub address: Ipv4Addr,
    options: BTreeMap<u8, Vec<u8>>,
}

impl Reply {
    /// Reads a message; `None` for everything that is not a DHCP answer to an Ethernet client.
    pub(super) fn decode(bytes: &[u8]) -> Option<Reply> {
        let ethernet_reply = [2, 1, 6];
        if bytes.get(..3)? != ethernet_reply || bytes.get(236..OPTIONS)? != COOKIE {
            return None;
        }
        let mut options = BTreeMap::new();
        collect(bytes.get(OPTIONS..)?, &mut options);
        let overload = options
            .get(&52)
            .and_then(|value| value.first())
            .copied()
            .unwrap_or(0);
        // RFC 2131, section 4.1: the boot file's field is read before the server name's.
        if overload & 1 != 0 {
            collect(bytes.get(108..236)?, &mut options);
        }
        if overload & 2 != 0 {
            collect(bytes.get(44..108)?, &mut options);
        }
        Some(Reply {
            kind: Kind::from_code(*options.get(&53)?.first()?)?,
            xid: u32::from_be_bytes(bytes.get(4..8)?.try_into().ok()?),
            mac: bytes.get(28..34)?.try_into().ok()?,
            address: Ipv4Addr::from(<[u8; 4]>::try_from(bytes.get(16..20)?).ok()?),
            options,
        })
    }

    /// The raw value of an option.
    pub(super) fn option(&self, code: u8) -> Option<&[u8]> {
        self.options.get(&code).map(Vec::as_slice)
    }

    /// The server that sent it (option 54).
    pub(super) fn server(&self) -> Option<Ipv4Addr> {
        self.address_option(54)
    }

    /// An option that is one address.
    pub(super) fn address_option(&self, code: u8) -> Option<Ipv4Addr> {
        self.option(code).and_then(octets).map(Ipv4Addr::from)
    }

    /// An option that is a list of addresses; impossible ones left out.
    pub(super) fn addresses(&self, code: u8) -> Vec<Ipv4Addr> {
        let (quads, _) = self.option(code).unwrap_or_default().as_chunks::<4>();
        quads
            .iter()
            .map(|quad| Ipv4Addr::from(*quad))
            .filter(|address| !address.is_unspecified() && !address.is_broadcast() && !address.is_multicast())
            .collect()
    }

    /// An option that is a number of four bytes.
    pub(super) fn number(&self, code: u8) -> Option<u32> {
        self.option(code).and_then(octets).map(u32::from_be_bytes)
    }

    /// An option that is text; servers may end it with zero bytes.
    pub(super) fn text(&self, code: u8) -> Option<&str> {
        let text = std::str::from_utf8(self.option(code)?)
            .ok()?
            .trim_end_matches('\0');
        (!text.is_empty() && !text.chars().any(char::is_control)).then_some(text)
    }
}

fn octets(value: &[u8]) -> Option<[u8; 4]> {
    value.try_into().ok()
}

/// Adds the options in `bytes`; stops where they are cut off.
fn collect(mut bytes: &[u8], into: &mut BTreeMap<u8, Vec<u8>>) {
    while let [code, rest @ ..] = bytes {
        bytes = match code {
            0 => rest,
            255 => return,
            code => {
                let Some((value, after)) = rest
                    .split_first()
                    .and_then(|(length, rest)| rest.split_at_checked(usize::from(*length)))
                else {
                    return;
                };
                into.entry(*code).or_default().extend(value);
                after
            }
        };
    }
}
