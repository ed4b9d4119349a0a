//! One interface: its cable, its DHCP client and its sockets.

use super::dhcp::{Action, Client};
use super::frame::{self, CLIENT_PORT, SERVER_PORT};
use super::lease::Lease;
use super::message::{Kind, Mac, Outgoing, Reply};
use super::rtnl::LinkNews;
use super::wanted::{Asked, Way};
use crate::report::Reporter;
use crate::sys;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use std::io;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// With which DHCP discover it begins to look as if nobody answers.
const SILENT: u32 = 3;
/// By how much the routes of a guess come behind those of leases.
const BEHIND: u32 = 1000;

/// One interface that is switched on.
pub(super) struct Port {
    pub link: LinkNews,
    pub ways: Vec<Way>,
    pub client: Option<Client>,
    pub lease: Option<Lease>,
    pub metric: u32,
    /// The plan asks for another interface, and this one is tried in its place.
    pub stands_in: bool,
    /// The plan's own addresses are set.
    pub fixed: bool,
    /// There is an IPv6 default route.
    pub router6: bool,
    /// Name servers of router advertisements.
    pub dns6: Vec<IpAddr>,
    /// It has been said that nobody answers here.
    pub is_known_silent: bool,
    packets: Option<OwnedFd>,
    /// Renewals go through the kernel, which finds the server by ARP; held so that the answer has somewhere to go.
    unicast: Option<UdpSocket>,
}

impl Port {
    /// An interface that was just found.
    pub(super) fn new(link: LinkNews, ways: Vec<Way>, metric: u32) -> Port {
        Port {
            link,
            ways,
            client: None,
            lease: None,
            metric,
            stands_in: false,
            fixed: false,
            router6: false,
            dns6: Vec::new(),
            is_known_silent: false,
            packets: None,
            unicast: None,
        }
    }

    /// Metric of the plan's own routes. Behind every lease where they are a guess: what a server answers is none.
    pub(super) fn fixed_metric(&self) -> u32 {
        self.metric + if self.stands_in { BEHIND } else { 0 }
    }

    /// Whether the plan's own addresses are set here, this one among them.
    pub(super) fn has_fixed(&self, wanted: IpAddr) -> bool {
        let is_it = |way: &Way| matches!(way, Way::Static { address, .. } if *address == wanted);
        self.fixed && self.ways.iter().any(is_it)
    }

    /// Whether it asks only as one of all.
    pub(super) fn is_one_of_all(&self) -> bool {
        self.ways.contains(&Way::Dhcp(Asked::ForAll))
    }

    /// Whether it is to ask for a lease.
    pub(super) fn asks(&self) -> bool {
        self.ways.iter().any(|way| matches!(way, Way::Dhcp(_)))
    }

    /// Begins to ask, or begins anew.
    pub(super) fn start_client(&mut self, mac: Mac, hostname: Option<String>, seed: u64) {
        self.client = Some(Client::new(mac, hostname, seed));
    }

    /// Asks no longer; a lease that is not yet given runs out on the server.
    pub(super) fn stop_client(&mut self) {
        self.client = None;
        self.packets = None;
        self.unicast = None;
    }

    /// Becomes readable when an answer has come.
    pub(super) fn readable(&self) -> Option<BorrowedFd<'_>> {
        self.packets.as_ref().map(AsFd::as_fd)
    }

    /// When [`Port::timeout`] is due.
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.client.as_ref().and_then(Client::deadline)
    }

    /// Tells the client that the cable carries or not; what remains to be done by the caller comes back.
    pub(super) fn carrier(&mut self, now: Duration, reporter: &Reporter) -> Vec<Action> {
        let up = self.link.carrier;
        let Some(client) = self.client.as_mut() else {
            return Vec::new();
        };
        let actions = client.carrier(now, up);
        self.perform(actions, reporter)
    }

    /// The client's deadline may have come.
    pub(super) fn timeout(&mut self, now: Duration, reporter: &Reporter) -> Vec<Action> {
        let actions = self
            .client
            .as_mut()
            .map(|client| client.timeout(now))
            .unwrap_or_default();
        self.perform(actions, reporter)
    }

    /// Reads every answer that has come.
    pub(super) fn receive(&mut self, now: Duration, reporter: &Reporter) -> Vec<Action> {
        let mut all = Vec::new();
        let mut buffer = vec![0; 4096];
        while let Some(socket) = &self.packets {
            let Ok((length, _)) = recv(socket, &mut buffer[..], RecvFlags::DONTWAIT) else {
                break;
            };
            let payload = buffer.get(..length).and_then(frame::payload);
            let Some((reply, client)) = payload.and_then(Reply::decode).zip(self.client.as_mut()) else {
                continue;
            };
            let actions = client.message(now, &reply);
            all.extend(self.perform(actions, reporter));
        }
        all
    }

    /// Sends what is to be sent; the rest is the caller's.
    fn perform(&mut self, actions: Vec<Action>, reporter: &Reporter) -> Vec<Action> {
        let mut rest = Vec::new();
        for action in actions {
            match action {
                Action::Broadcast { from, message } => {
                    self.say(&message, reporter);
                    let result = self.broadcast(from, &message);
                    reporter.ignore(&format!("{}: send a DHCP message", self.link.name), result);
                }
                Action::Unicast { from, to, message } => {
                    let result = self.unicast(from, to, &message);
                    reporter.ignore(
                        &format!("{}: send a DHCP renewal to {to}", self.link.name),
                        result,
                    );
                }
                other => rest.push(other),
            }
        }
        rest
    }

    fn say(&self, message: &Outgoing, reporter: &Reporter) {
        if message.kind != Kind::Discover {
            return;
        }
        let tries = self.client.as_ref().map_or(0, Client::discovers);
        let event = match tries {
            // Told on the console once.
            SILENT if !self.is_known_silent => reporter
                .info("network.discover")
                .text(format!("{}: no answer to DHCP yet, still asking", self.link.name)),
            _ => reporter.debug("network.discover"),
        };
        reporter.event(
            event
                .with("interface", self.link.name.as_str())
                .with("try", tries),
        );
    }

    fn broadcast(&mut self, from: Ipv4Addr, message: &Outgoing) -> io::Result<()> {
        let socket = match self.packets.take() {
            Some(socket) => socket,
            None => sys::net::dhcp_socket(self.link.index)?,
        };
        let frame = frame::broadcast(message.mac, from, &message.encode());
        let result = send(&socket, &frame, SendFlags::empty());
        self.packets = Some(socket);
        result.map(|_| ()).map_err(io::Error::from)
    }

    fn unicast(&mut self, from: Ipv4Addr, to: Ipv4Addr, message: &Outgoing) -> io::Result<()> {
        let socket = match self.unicast.take() {
            Some(socket) => socket,
            None => UdpSocket::bind((from, CLIENT_PORT))?,
        };
        socket.send_to(&message.encode(), (to, SERVER_PORT))?;
        self.unicast = Some(socket);
        Ok(())
    }

    /// Whether it has been said that nobody answers.
    pub(super) fn is_silent(&self) -> bool {
        self.is_known_silent
            || self
                .client
                .as_ref()
                .is_some_and(|client| client.discovers() >= SILENT)
    }

    /// Forgets the socket of an address that is gone, and what its buffer holds.
    pub(super) fn close_unicast(&mut self) {
        self.unicast = None;
    }

    /// Why this interface has no address, for people.
    pub(super) fn trouble(&self) -> Option<String> {
        let name = &self.link.name;
        if self.ways.is_empty() {
            return None;
        }
        if !self.link.carrier {
            return Some(format!("{name} has no carrier"));
        }
        match &self.client {
            Some(client) => Some(match client.discovers() {
                1 => format!("no answer to the DHCP discover on {name} (carrier up)"),
                tries => format!("no answer to {tries} DHCP discovers on {name} (carrier up)"),
            }),
            None if self.asks() => Some(format!("{name} has no Ethernet address to ask with")),
            None if self.ways.contains(&Way::Auto6) => {
                Some(format!("no IPv6 router advertisement on {name} (carrier up)"))
            }
            None => Some(format!("{name} did not take its address")),
        }
    }
}
