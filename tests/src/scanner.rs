//! A scanner of ssh servers: connections of every kind that scanners make, from the addresses they make them from.
//!
//! The one thing a reader would get wrong: a server that knows scanners closes most of these unheard, so a write or a read that
//! fails here is no failure of anything.

use crate::process::may_fail;
use anyhow::{Context, Result};
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

/// How long a scanner waits for a server's words.
const PATIENCE: Duration = Duration::from_millis(500);

/// What a connection does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Shows a key that lets in nobody.
    WrongKey,
    /// Closes at once.
    Close,
    /// Says its version, reads the server's, and closes.
    Banner,
    /// Sends what is no ssh, and closes.
    Garbage,
    /// Says nothing, and stays.
    Silent,
}

impl Kind {
    /// Of the connection of that number: of twenty one shows a key, four close at once, five look at the banner, six send garbage, four
    /// stay.
    fn of(number: usize) -> Kind {
        match number % 20 {
            0 => Kind::WrongKey,
            1..5 => Kind::Close,
            5..10 => Kind::Banner,
            10..16 => Kind::Garbage,
            _ => Kind::Silent,
        }
    }
}

/// What is left of a scan: its silent connections are open as long as this lives.
#[derive(Debug)]
pub struct Scanned {
    /// Keys that were shown.
    pub keys: usize,
    silent: Vec<TcpStream>,
}

impl Scanned {
    /// Connections that say nothing and are, as far as the scanner knows, still there.
    pub fn silent(&self) -> usize {
        self.silent.len()
    }
}

/// Makes `count` connections to `server` from `addresses` in turn; `show_key` is the client that shows a wrong key for the first, second, …
/// time, and `between` is called with the number of every connection before it is made.
///
/// # Errors
/// A connection could not be made at all, a client could not be started, or those of `between`.
pub fn scan(
    server: SocketAddr,
    addresses: &[Ipv4Addr],
    count: usize,
    mut show_key: impl FnMut(usize) -> Command,
    mut between: impl FnMut(usize) -> Result<()>,
) -> Result<Scanned> {
    let mut silent = Vec::new();
    let mut clients = Vec::new();
    for (number, from) in addresses.iter().cycle().take(count).enumerate() {
        between(number)?;
        match Kind::of(number) {
            Kind::WrongKey => {
                let mut client = show_key(clients.len());
                client
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .stderr(Stdio::null());
                clients.push(client.spawn().context("could not run: ssh")?);
            }
            Kind::Close => drop(connect_from(*from, server)?),
            Kind::Banner => {
                let mut stream = connect_from(*from, server)?;
                stream.set_read_timeout(Some(PATIENCE)).context("socket")?;
                may_fail("a version", stream.write_all(b"SSH-2.0-scan\r\n"));
                may_fail("a banner", stream.read(&mut [0; 64]));
            }
            Kind::Garbage => {
                let mut stream = connect_from(*from, server)?;
                may_fail("garbage", stream.write_all(b"GET / HTTP/1.1\r\n\r\n\0\x01\x02"));
            }
            Kind::Silent => silent.push(connect_from(*from, server)?),
        }
    }
    let keys = clients.len();
    for mut client in clients {
        client.wait().context("ssh")?;
    }
    Ok(Scanned { keys, silent })
}

/// A connection from one of the addresses that this machine has.
///
/// # Errors
/// It could not be made.
pub fn connect_from(from: Ipv4Addr, to: SocketAddr) -> Result<TcpStream> {
    let what = || format!("{to} from {from}");
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).with_context(what)?;
    bind(&socket, &SocketAddr::new(IpAddr::V4(from), 0)).with_context(what)?;
    connect(&socket, &to).with_context(what)?;
    Ok(TcpStream::from(socket))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn a_scan_is_of_every_kind_and_from_every_address() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let addresses = [Ipv4Addr::new(127, 0, 1, 1), Ipv4Addr::new(127, 0, 1, 2)];
        let scanning =
            std::thread::spawn(move || scan(address, &addresses, 40, |_| Command::new("true"), |_| Ok(())));
        let from: Vec<IpAddr> = (0..38).map(|_| listener.accept().unwrap().1.ip()).collect();
        let scanned = scanning.join().unwrap().unwrap();
        assert_eq!((scanned.keys, scanned.silent()), (2, 8));
        for address in addresses {
            assert!(from.iter().filter(|ip| **ip == address).count() >= 18);
        }
    }
}
