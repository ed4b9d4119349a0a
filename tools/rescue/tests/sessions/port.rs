//! Ports of loopback that nobody else gets.

use rustix::net::sockopt::set_socket_reuseaddr;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, socket_with};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;

/// A port that the kernel gives to nobody, and whoever asks for it by number can listen on, as long as this is kept. Without a listener
/// connections to it are refused.
pub struct Port {
    pub number: u16,
    _kept: OwnedFd,
}

impl Port {
    pub fn reserve() -> Port {
        let kept = socket_with(
            AddressFamily::INET,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        // As every server asks for it: two such sockets may have one port while only one of them listens.
        set_socket_reuseaddr(&kept, true).unwrap();
        bind(&kept, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let address = SocketAddr::try_from(getsockname(&kept).unwrap()).unwrap();
        Port {
            number: address.port(),
            _kept: kept,
        }
    }
}
