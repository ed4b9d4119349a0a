//! The kernel's network configuration, through two rtnetlink sockets: one for news, one for requests that are answered.

use super::message::Mac;
use super::rtnl::{self, Message, News, Request, attribute, family, ifinfomsg, octets};
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send, socket_with,
};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

const REQUEST: u16 = 1;
const ACK: u16 = 4;
const DUMP: u16 = 0x300;
const REPLACE: u16 = 0x100;
const EXCL: u16 = 0x200;
const CREATE: u16 = 0x400;
/// Links, IPv4 and IPv6 addresses, IPv6 routes, options of router advertisements.
const GROUPS: u32 = 0x1 | 0x10 | 0x100 | 0x400 | (1 << 19);
const MAIN_TABLE: u8 = 254;
const UNICAST: u8 = 1;
const SCOPE_LINK: u8 = 253;
const ONLINK: u32 = 4;

/// Both sockets.
pub(super) struct Netlink {
    news: OwnedFd,
    requests: OwnedFd,
    seq: u32,
}

/// An address of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Assigned {
    pub index: u32,
    pub address: IpAddr,
    pub prefix: u8,
    pub broadcast: Option<Ipv4Addr>,
    pub peer: Option<IpAddr>,
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Route {
    pub index: u32,
    pub target: IpAddr,
    pub prefix: u8,
    pub via: Option<IpAddr>,
    /// The gateway need not lie in a subnet of the interface.
    pub onlink: bool,
    pub source: Option<IpAddr>,
    pub metric: u32,
    /// `RTPROT_*`
    pub protocol: u8,
}

impl Netlink {
    /// A question that is answered by one message, and acknowledged, so that its end is seen.
    pub(super) const REQUEST: u16 = REQUEST | ACK;

    /// Opens both.
    ///
    /// # Errors
    /// The kernel's; a kernel without rtnetlink cannot do networks.
    pub(super) fn open() -> Result<Netlink, Errno> {
        Ok(Netlink {
            news: socket(GROUPS, SocketFlags::NONBLOCK)?,
            requests: socket(0, SocketFlags::empty())?,
            seq: 0,
        })
    }

    /// Interfaces, addresses and IPv6 default routes as they are now.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn dump(&mut self) -> Result<Vec<News>, Errno> {
        let mut all = Vec::new();
        for (kind, fixed) in [
            (rtnl::GETLINK, ifinfomsg(0, 0, 0)),
            (rtnl::GETADDR, vec![0; 8]),
            (rtnl::GETROUTE, rtmsg6()),
        ] {
            all.extend(self.dump_one(kind, &fixed)?);
        }
        Ok(all)
    }

    /// What has happened; [`Errno::NOBUFS`] when some of it was lost and [`Netlink::dump`] is needed.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn news(&mut self) -> Result<Vec<News>, Errno> {
        let mut all = Vec::new();
        let mut buffer = vec![0; 65536];
        loop {
            let length = match recv(&self.news, &mut buffer[..], RecvFlags::DONTWAIT) {
                Ok((length, _)) => length,
                Err(Errno::AGAIN) => return Ok(all),
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error),
            };
            all.extend(data(buffer.get(..length).unwrap_or_default()));
        }
    }

    /// Becomes readable when there is news.
    pub(super) fn readable(&self) -> BorrowedFd<'_> {
        self.news.as_fd()
    }

    /// Switches an interface on.
    ///
    /// # Errors
    /// The kernel's, or the driver's.
    pub(super) fn up(&mut self, index: u32) -> Result<(), Errno> {
        self.ask(Request::new(
            rtnl::NEWLINK,
            REQUEST | ACK,
            &ifinfomsg(index, 1, 1),
        ))
    }

    /// Sets the MTU.
    ///
    /// # Errors
    /// EINVAL for one the driver cannot do.
    pub(super) fn set_mtu(&mut self, index: u32, mtu: u32) -> Result<(), Errno> {
        self.ask(
            Request::new(rtnl::NEWLINK, REQUEST | ACK, &ifinfomsg(index, 0, 0)).with(4, &mtu.to_ne_bytes()),
        )
    }

    /// Makes a VLAN interface; the kernel loads the module 8021q by itself.
    ///
    /// # Errors
    /// EEXIST, or EOPNOTSUPP without the module.
    pub(super) fn add_vlan(&mut self, parent: u32, name: &str, id: u16) -> Result<(), Errno> {
        let data = attribute(1, &id.to_ne_bytes());
        let info = [attribute(1, b"vlan"), attribute(2, &data)].concat();
        let request = Request::new(rtnl::NEWLINK, REQUEST | ACK | CREATE | EXCL, &ifinfomsg(0, 0, 0))
            .with(3, &[name.as_bytes(), b"\0"].concat())
            .with(5, &parent.to_ne_bytes())
            .with(18, &info);
        self.ask(request)
    }

    /// Gives an interface an address.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn add_address(&mut self, assigned: &Assigned) -> Result<(), Errno> {
        self.ask(assigned.request(rtnl::NEWADDR, CREATE | REPLACE))
    }

    /// Takes it away.
    ///
    /// # Errors
    /// EADDRNOTAVAIL when it is not there.
    pub(super) fn remove_address(&mut self, assigned: &Assigned) -> Result<(), Errno> {
        self.ask(assigned.request(rtnl::DELADDR, 0))
    }

    /// Adds a route.
    ///
    /// # Errors
    /// ENETUNREACH for a gateway that cannot be reached.
    pub(super) fn add_route(&mut self, route: &Route) -> Result<(), Errno> {
        self.ask(route.request(rtnl::NEWROUTE, CREATE | REPLACE))
    }

    /// Removes a route.
    ///
    /// # Errors
    /// ESRCH when it is not there.
    pub(super) fn remove_route(&mut self, route: &Route) -> Result<(), Errno> {
        self.ask(route.request(rtnl::DELROUTE, 0))
    }

    fn ask(&mut self, request: Request) -> Result<(), Errno> {
        self.answered(request, &mut |_, _| {})
    }

    fn dump_one(&mut self, kind: u16, fixed: &[u8]) -> Result<Vec<News>, Errno> {
        let mut all = Vec::new();
        self.each(kind, fixed, &mut |kind, body| all.extend(rtnl::news(kind, body)))?;
        Ok(all)
    }

    /// Every message of a dump.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn each(
        &mut self,
        kind: u16,
        fixed: &[u8],
        take: &mut dyn FnMut(u16, &[u8]),
    ) -> Result<(), Errno> {
        self.answered(Request::new(kind, REQUEST | DUMP, fixed), take)
    }

    /// The one message that answers a question.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn one(&mut self, request: Request, take: &mut dyn FnMut(u16, &[u8])) -> Result<(), Errno> {
        let mut first = true;
        self.answered(request, &mut |kind, body| {
            if std::mem::take(&mut first) {
                take(kind, body);
            }
        })
    }

    /// Sends a request; takes what comes until the kernel says that it is all, or acknowledges.
    fn answered(&mut self, request: Request, take: &mut dyn FnMut(u16, &[u8])) -> Result<(), Errno> {
        self.seq += 1;
        send(&self.requests, &request.finish(self.seq), SendFlags::empty())?;
        let mut buffer = vec![0; 65536];
        loop {
            let (length, _) =
                rustix::io::retry_on_intr(|| recv(&self.requests, &mut buffer[..], RecvFlags::empty()))?;
            for message in rtnl::messages(buffer.get(..length).unwrap_or_default()) {
                match message {
                    Message::Done => return Ok(()),
                    Message::Ack { seq, errno: 0 } if seq == self.seq => return Ok(()),
                    Message::Ack { seq, errno } if seq == self.seq => {
                        return Err(Errno::from_raw_os_error(errno));
                    }
                    Message::Ack { .. } => {}
                    Message::Data { kind, body } => take(kind, body),
                }
            }
        }
    }
}

impl Assigned {
    fn request(&self, kind: u16, flags: u16) -> Request {
        // No duplicate address detection: the operator or the server chose the address, and it is to work at once.
        let nodad = if self.address.is_ipv6() { 2 } else { 0 };
        let mut fixed = vec![family(self.address), self.prefix, nodad, 0];
        fixed.extend(self.index.to_ne_bytes());
        let mut request = Request::new(kind, REQUEST | ACK | flags, &fixed)
            .with(2, &octets(self.address))
            .with(1, &octets(self.peer.unwrap_or(self.address)));
        if let Some(broadcast) = self.broadcast {
            request = request.with(4, &broadcast.octets());
        }
        request
    }
}

impl Route {
    fn request(&self, kind: u16, flags: u16) -> Request {
        let scope = if self.via.is_none() && self.target.is_ipv4() {
            SCOPE_LINK
        } else {
            0
        };
        let onlink = if self.onlink { ONLINK } else { 0 };
        let mut fixed = vec![
            family(self.target),
            self.prefix,
            0,
            0,
            MAIN_TABLE,
            self.protocol,
            scope,
            UNICAST,
        ];
        fixed.extend(onlink.to_ne_bytes());
        let mut request = Request::new(kind, REQUEST | ACK | flags, &fixed)
            .with(4, &self.index.to_ne_bytes())
            .with(6, &self.metric.to_ne_bytes());
        if self.prefix > 0 {
            request = request.with(1, &octets(self.target));
        }
        if let Some(via) = self.via {
            request = request.with(5, &octets(via));
        }
        if let Some(source) = self.source {
            request = request.with(7, &octets(source));
        }
        request
    }
}

fn socket(groups: u32, flags: SocketFlags) -> Result<OwnedFd, Errno> {
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC | flags,
        None,
    )?;
    bind(&socket, &SocketAddrNetlink::new(0, groups))?;
    Ok(socket)
}

fn rtmsg6() -> Vec<u8> {
    let mut fixed = vec![0; 12];
    fixed[0] = 10;
    fixed
}

fn data(bytes: &[u8]) -> Vec<News> {
    let news = |message| match message {
        Message::Data { kind, body } => rtnl::news(kind, body),
        _ => None,
    };
    rtnl::messages(bytes).into_iter().filter_map(news).collect()
}

/// `dc-a6-32-01-36-c2`.
pub(super) fn with_dashes(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join("-")
}
