//! Packet sockets (packet(7)) that see DHCP answers and nothing else.
//!
//! rustix has no `sockaddr_ll` and neither crate has `SO_ATTACH_FILTER`. The filter matters: without it every packet of a fetch
//! would wake the thread that keeps the lease.

use nix::libc;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, OwnedFd};

/// A filter in classic BPF (the kernel's Documentation/networking/filter.rst): IPv4, UDP, not a later fragment, to port 68.
const DHCP_ANSWERS: [libc::sock_filter; 11] = [
    op(0x28, 0, 0, 12),       // ldh ethertype
    op(0x15, 0, 7, 0x0800),   // jeq IPv4, else drop
    op(0x30, 0, 0, 23),       // ldb protocol
    op(0x15, 0, 5, 17),       // jeq UDP, else drop
    op(0x28, 0, 0, 20),       // ldh fragment offset
    op(0x45, 3, 0, 0x1fff),   // jset: drop
    op(0xb1, 0, 0, 14),       // ldxb header length
    op(0x48, 0, 0, 16),       // ldh destination port
    op(0x15, 1, 0, 68),       // jeq client port: take
    op(0x06, 0, 0, 0),        // drop
    op(0x06, 0, 0, 0x4_0000), // take
];

const fn op(code: u16, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code, jt, jf, k }
}

/// A non-blocking packet socket on the interface with number `index`, for whole Ethernet frames.
///
/// # Errors
/// The kernel's: EAFNOSUPPORT without af_packet, ENODEV when the interface has gone.
pub(crate) fn dhcp_socket(index: u32) -> io::Result<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    // Protocol 0: nothing is received before the filter is in place and bind names the protocol.
    let socket = socket_with(AddressFamily::PACKET, SocketType::RAW, flags, None)?;
    attach(&socket)?;
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: (libc::ETH_P_IP as u16).to_be(),
        sll_ifindex: index as i32,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: bind reads `length` bytes of `address`, which is that long and outlives the call.
    let result = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
    if result == 0 {
        Ok(socket)
    } else {
        Err(io::Error::last_os_error())
    }
}

fn attach(socket: &OwnedFd) -> io::Result<()> {
    let mut filter = DHCP_ANSWERS;
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    let length = size_of::<libc::sock_fprog>() as libc::socklen_t;
    // SAFETY: setsockopt reads `length` bytes of `program` and the `len` instructions it points to; both outlive the call, and
    // the kernel copies them.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            length,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
