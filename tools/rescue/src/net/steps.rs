//! The way to one address, step by step, up to the first that fails.

use super::links::Network;
use super::targets::{Kind, Target};
use super::walked::{Step, Walked};
use crate::{cut, output};
use lifeboot_init::stage::fetch::probe::{self, NoAnswer};
use lifeboot_init::stage::fetch::{ByteLen, Limits};
use lifeboot_init::stage::network::inspect::{self, Answers, Way};
use lifeboot_init::stage::time;
use std::io::{self, Read as _};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs as _};
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// For a name. The C library itself gives up after ten seconds.
const NAME: Duration = Duration::from_secs(6);
/// For a connection, to each address of a name.
const CONNECT: Duration = Duration::from_secs(5);
/// For an answer.
const ANSWER: Duration = Duration::from_secs(8);
/// Addresses of a name that are tried.
const MOST_ADDRESSES: usize = 4;
/// A clock that is further off makes certificates seem too young or too old.
const CLOCK_OFF_MS: i64 = 60_000;

/// A step that failed, with one instruction.
struct Stop {
    step: &'static str,
    what: String,
    hint: String,
}

impl Stop {
    fn at(step: &'static str, what: impl Into<String>, hint: &str) -> Stop {
        Stop {
            step,
            what: what.into(),
            hint: hint.to_owned(),
        }
    }
}

struct Walk<'n> {
    network: &'n Network,
    steps: Vec<Step>,
    since: Instant,
}

/// Walks.
pub fn walk(network: &Network, target: &Target) -> Walked {
    let mut walk = Walk {
        network,
        steps: Vec::new(),
        since: Instant::now(),
    };
    let stop = walk.go(target).err();
    let hint = stop.map(|stop| {
        walk.step(stop.step, false, stop.what);
        stop.hint
    });
    Walked {
        why: target.why.to_owned(),
        name: cut::urls(&target.name),
        reached: hint.is_none(),
        steps: walk.steps,
        hint,
    }
}

impl Walk<'_> {
    fn step(&mut self, step: &'static str, ok: bool, what: impl Into<String>) {
        let ms = self.since.elapsed().as_millis() as u64;
        self.since = Instant::now();
        let what = cut::urls(&what.into());
        self.steps.push(Step { step, ok, what, ms });
    }

    fn go(&mut self, target: &Target) -> Result<(), Stop> {
        match &target.kind {
            Kind::Unclear(what) => Err(Stop::at(
                "target",
                what.clone(),
                "correct it in the boot parameters",
            )),
            Kind::Http { url, place } => {
                self.tcp(&place.host, place.port)?;
                self.http(url, place.secure)
            }
            Kind::Tcp { host, port } => self.tcp(host, *port).map(drop),
            Kind::Ssh { host, port } => {
                let stream = self.tcp(host, *port)?;
                self.greeting(stream)
            }
            Kind::Ntp { server, host, port } => {
                self.on_the_way(host, *port)?;
                self.ntp(server)
            }
            Kind::Syslog { host, port } => {
                self.on_the_way(host, *port)?;
                self.step(
                    "udp",
                    true,
                    "nothing was sent; whether somebody listens cannot be seen",
                );
                Ok(())
            }
        }
    }

    /// Link, address, name and route; the addresses to try.
    fn on_the_way(&mut self, host: &str, port: u16) -> Result<Vec<(SocketAddr, Option<Way>)>, Stop> {
        let literal: Option<IpAddr> = host.parse().ok();
        let is_own = literal.is_some_and(|address| address.is_loopback());
        if !is_own && !self.network.has_interface() {
            return Err(Stop::at(
                "link",
                "there is no network interface",
                "see whether the driver of this machine's card is in the image, or plug in an adapter whose driver is",
            ));
        }
        if !is_own && !self.network.has_carrier() {
            return Err(Stop::at(
                "link",
                "no interface carries",
                "plug the cable in, or see whether the switch is on",
            ));
        }
        let addresses = match literal {
            Some(address) => vec![SocketAddr::new(address, port)],
            None => self.resolve(host, port)?,
        };
        let mut ways = Vec::new();
        let mut last = None;
        for address in addresses.into_iter().take(MOST_ADDRESSES) {
            match inspect::way_to(address.ip()) {
                Ok(way) => ways.push((address, way)),
                Err(error) => last = Some(format!("{}: {error}", address.ip())),
            }
        }
        match (ways.first(), last) {
            (Some((address, way)), _) => {
                let way = way.as_ref().map(|way| self.describe(way));
                self.step(
                    "route",
                    true,
                    format!("{} {}", address.ip(), way.unwrap_or_default()),
                );
                Ok(ways)
            }
            (None, Some(what)) if !literal.is_some_and(|address| self.network.has_address(address)) => {
                Err(Stop::at(
                    "address",
                    format!("{what}, and this machine has no address of that family"),
                    "see whether a DHCP server answers on this cable ('rescue log'), or give the address with ip=",
                ))
            }
            (None, what) => Err(Stop::at(
                "route",
                what.unwrap_or_else(|| "no address".to_owned()),
                "the lease or ip= has to name a gateway that leads there; 'rescue net' shows the routes",
            )),
        }
    }

    fn describe(&self, way: &Way) -> String {
        let via = way
            .via
            .map_or_else(|| "directly".to_owned(), |via| format!("via {via}"));
        format!("{via} on {}", self.network.name(way.index))
    }

    /// The addresses of a name, in a thread of its own: the C library cannot be hurried.
    fn resolve(&mut self, host: &str, port: u16) -> Result<Vec<SocketAddr>, Stop> {
        let (sender, receiver) = mpsc::channel();
        let name = host.to_owned();
        std::thread::spawn(move || {
            let found = (name.as_str(), port).to_socket_addrs();
            // Nobody may be waiting any more.
            drop(sender.send(found.map(|found| found.collect::<Vec<SocketAddr>>())));
        });
        let hint = "see whether the DNS servers answer ('rescue net' asks each), and whether the name is spelt right";
        match receiver.recv_timeout(NAME) {
            Ok(Ok(found)) if !found.is_empty() => {
                let mut addresses: Vec<String> =
                    found.iter().map(|address| address.ip().to_string()).collect();
                addresses.dedup();
                self.step("name", true, format!("{host} is {}", addresses.join(", ")));
                Ok(found)
            }
            Ok(Ok(_)) => Err(Stop::at("name", format!("{host} has no address"), hint)),
            Ok(Err(error)) => Err(Stop::at("name", format!("{host}: {error}"), hint)),
            Err(_) => Err(Stop::at(
                "name",
                format!("{host}: no answer within {} s", NAME.as_secs()),
                hint,
            )),
        }
    }

    /// A connection to the first address that takes one.
    fn tcp(&mut self, host: &str, port: u16) -> Result<TcpStream, Stop> {
        let mut failed = None;
        for (address, way) in self.on_the_way(host, port)? {
            match TcpStream::connect_timeout(&address, CONNECT) {
                Ok(stream) => {
                    self.step("tcp", true, format!("connected to {address}"));
                    return Ok(stream);
                }
                Err(error) => failed = Some((address, way, error)),
            }
        }
        match failed {
            Some((address, way, error)) => Err(not_connected(address, way, &error)),
            None => Err(Stop::at(
                "tcp",
                "no address to connect to",
                "give a name that has an address",
            )),
        }
    }

    fn http(&mut self, url: &str, secure: bool) -> Result<(), Stop> {
        let limits = Limits {
            connect: CONNECT,
            stall: ANSWER,
            ..Limits::default()
        };
        let head = probe::head(url, &limits).map_err(no_answer)?;
        if secure {
            self.step("tls", true, "the certificate is good");
        }
        let moved = head
            .moved_to
            .as_ref()
            .map(|to| format!(", by redirect from {to}"))
            .unwrap_or_default();
        if !head.is_there {
            let hint = match head.status.as_str() {
                status if status.starts_with("404") => {
                    "see whether the path is spelt right and the file lies on the server"
                }
                status if status.starts_with("40") => {
                    "the server wants a login or does not give this file to anybody"
                }
                _ => "look into the server's log",
            };
            return Err(Stop::at("http", format!("{}{moved}", head.status), hint));
        }
        let length = head.length.map_or_else(
            || "of unknown length".to_owned(),
            |length| ByteLen(length).to_string(),
        );
        let resumes = if head.resumes {
            "a cut download can go on"
        } else {
            "a cut download begins anew: this server does not do ranges"
        };
        self.step(
            "http",
            true,
            format!("{}{moved}, {length}, {resumes}", head.status),
        );
        Ok(())
    }

    fn greeting(&mut self, mut stream: TcpStream) -> Result<(), Stop> {
        let mut line = [0; 64];
        let read = stream
            .set_read_timeout(Some(ANSWER))
            .and_then(|()| stream.read(&mut line));
        let text = String::from_utf8_lossy(line.get(..read.unwrap_or(0)).unwrap_or_default()).into_owned();
        let first = text.lines().next().unwrap_or_default().trim().to_owned();
        if first.starts_with("SSH-") {
            self.step("ssh", true, first);
            return Ok(());
        }
        let what = if first.is_empty() {
            "nothing was said".to_owned()
        } else {
            format!("'{first}' was said")
        };
        Err(Stop::at(
            "ssh",
            what,
            "see whether an ssh server listens on this port",
        ))
    }

    fn ntp(&mut self, server: &str) -> Result<(), Stop> {
        let hint = "see whether UDP to port 123 is let through, or name another server with lifeboot.ntp=";
        let ahead = time::probe(server, Duration::from_secs(2))
            .or_else(|_| time::probe(server, Duration::from_secs(3)))
            .map_err(|what| Stop::at("ntp", what, hint))?;
        let off = if ahead.abs() > CLOCK_OFF_MS {
            "; this machine's clock is not set"
        } else {
            ""
        };
        self.step(
            "ntp",
            true,
            format!("its clock is {ahead} ms ahead of this machine's{off}"),
        );
        Ok(())
    }
}

/// Whether TLS or what follows it failed, with this machine's clock, which certificates are judged by.
fn no_answer(error: NoAnswer) -> Stop {
    match error {
        NoAnswer::Tls(what) => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            Stop::at(
                "tls",
                format!(
                    "{what}; this machine's clock says {}",
                    output::date(now.as_secs())
                ),
                "see whether the clock is right, whether the certificate is for this name, and whether its authority is in the image (image-builder build --ca)",
            )
        }
        NoAnswer::Http(what) => Stop::at(
            "http",
            what,
            "look into the server's log; something else may listen on this port",
        ),
    }
}

/// Whether it was the server, somebody on the way, or nobody at all.
fn not_connected(address: SocketAddr, way: Option<Way>, error: &io::Error) -> Stop {
    let next = way.as_ref().and_then(|way| way.via).unwrap_or(address.ip());
    let neighbours = inspect::neighbours().unwrap_or_default();
    let known = neighbours.iter().find(|neighbour| neighbour.address == next);
    let silent = known.is_some_and(|neighbour| neighbour.answers != Answers::Yes);
    let silent = silent || (known.is_none() && error.kind() == io::ErrorKind::HostUnreachable);
    let asked = if next.is_ipv4() {
        "ARP"
    } else {
        "neighbour discovery"
    };
    match error.kind() {
        _ if silent => Stop::at(
            "neighbour",
            format!("{next} does not answer to {asked}"),
            "see whether that machine is on and in the same network (VLAN, netmask)",
        ),
        io::ErrorKind::ConnectionRefused => Stop::at(
            "tcp",
            format!("{address}: refused"),
            "the machine is there and nobody listens on this port: start the server, or correct the port",
        ),
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Stop::at(
            "tcp",
            format!("{address}: no answer within {} s", CONNECT.as_secs()),
            "the machine is off, or a firewall on the way drops this port",
        ),
        _ => Stop::at(
            "tcp",
            format!("{address}: {error}"),
            "a router on the way says why; see the routes of 'rescue net'",
        ),
    }
}

#[cfg(test)]
#[path = "steps_tests.rs"]
mod tests;
