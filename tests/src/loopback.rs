//! Ports of this machine's loopback.

use anyhow::{Context, Result, ensure};
use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket, sockopt};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;

/// A TCP port that is nobody else's as long as this lives: it is bound and nobody listens on it, so whoever connects is refused. Who is to
/// listen binds it a second time, with SO_REUSEADDR, as servers do; a port that was merely seen to be free may be somebody's by then.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _held: OwnedFd,
}

impl Port {
    /// One that is free.
    ///
    /// # Errors
    /// No loopback, or no port.
    pub fn reserve() -> Result<Port> {
        let held = socket(AddressFamily::INET, SocketType::STREAM, None).context("loopback")?;
        rustix::io::fcntl_setfd(&held, rustix::io::FdFlags::CLOEXEC).context("loopback")?;
        sockopt::set_socket_reuseaddr(&held, true).context("loopback")?;
        bind(&held, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).context("loopback")?;
        let address = SocketAddr::try_from(getsockname(&held).context("loopback")?).context("loopback")?;
        ensure!(address.port() != 0, "loopback: no port");
        Ok(Port {
            number: address.port(),
            _held: held,
        })
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.number
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn a_reserved_port_is_for_whoever_names_it_again_and_again_and_refuses_in_between() {
        let port = Port::reserve().unwrap();
        let address = (Ipv4Addr::LOCALHOST, port.number());
        for _ in 0..3 {
            assert!(TcpStream::connect(address).is_err());
            let listener = TcpListener::bind(address).unwrap();
            let client = TcpStream::connect(address).unwrap();
            drop((listener.accept().unwrap(), client));
        }
    }

    #[test]
    fn nobody_who_asks_for_any_port_gets_a_reserved_one() {
        let reserved: Vec<Port> = (0..300).map(|_| Port::reserve().unwrap()).collect();
        let is_taken = |number| reserved.iter().any(|port| port.number() == number);
        for _ in 0..3000 {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            assert!(!is_taken(listener.local_addr().unwrap().port()));
        }
    }
}
