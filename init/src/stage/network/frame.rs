//! DHCP messages as Ethernet frames.
//!
//! Before there is an address the kernel's own UDP cannot be used, so the IPv4 and UDP headers are made and checked here
//! (RFC 791, RFC 768). The one thing a reader would get wrong: a frame that never left the machine's memory (virtio, veth) may
//! carry a half-made UDP checksum, the sum over the pseudo header alone, which the kernel calls `CHECKSUM_PARTIAL` and leaves to
//! hardware that does not exist there. It is accepted.

use super::message::Mac;
use std::net::Ipv4Addr;

const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
const UDP: u8 = 17;
const ETHERNET: usize = 14;
const IPV4: usize = 20;
const UDP_HEADER: usize = 8;
/// UDP port of DHCP servers.
pub(super) const SERVER_PORT: u16 = 67;
/// UDP port of DHCP clients.
pub(super) const CLIENT_PORT: u16 = 68;

/// A broadcast frame from `mac` and `source` (0.0.0.0 before there is a lease), DHCP client to server.
pub(super) fn broadcast(mac: Mac, source: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let udp_len = (UDP_HEADER + payload.len()) as u16;
    let mut udp = Vec::with_capacity(usize::from(udp_len));
    udp.extend(CLIENT_PORT.to_be_bytes());
    udp.extend(SERVER_PORT.to_be_bytes());
    udp.extend(udp_len.to_be_bytes());
    udp.extend([0, 0]);
    udp.extend(payload);
    let pseudo = pseudo_sum(source, Ipv4Addr::BROADCAST, udp_len);
    let checksum = match !fold(pseudo + sum(&udp)) {
        0 => 0xffff,
        other => other,
    };
    udp[6..8].copy_from_slice(&checksum.to_be_bytes());

    let mut ip = vec![0x45, 0x10];
    ip.extend((IPV4 as u16 + udp_len).to_be_bytes());
    ip.extend([0, 0, 0, 0, 64, UDP, 0, 0]);
    ip.extend(source.octets());
    ip.extend(Ipv4Addr::BROADCAST.octets());
    let header = !fold(sum(&ip));
    ip[10..12].copy_from_slice(&header.to_be_bytes());

    let mut frame = vec![0xff; 6];
    frame.extend(mac);
    frame.extend(ETHERTYPE_IPV4);
    frame.extend(ip);
    frame.extend(udp);
    frame
}

/// The DHCP message in a frame, if it is one from a server to a client and arrived whole.
pub(super) fn payload(frame: &[u8]) -> Option<&[u8]> {
    if frame.get(12..14)? != ETHERTYPE_IPV4 {
        return None;
    }
    let ip = frame.get(ETHERNET..)?;
    let first = *ip.first()?;
    let header = usize::from(first & 0x0f) * 4;
    let total = usize::from(be16(ip, 2)?);
    let fragmented = be16(ip, 6)? & 0x3fff != 0;
    if first >> 4 != 4 || header < IPV4 || fragmented || *ip.get(9)? != UDP {
        return None;
    }
    if fold(sum(ip.get(..header)?)) != 0xffff {
        return None;
    }
    // Ethernet pads short frames: what counts is the length that the IP header tells.
    let udp = ip.get(header..total)?;
    let length = be16(udp, 4)?;
    let udp = udp.get(..usize::from(length))?;
    if be16(udp, 0)? != SERVER_PORT || be16(udp, 2)? != CLIENT_PORT {
        return None;
    }
    let pseudo = pseudo_sum(address(ip, 12)?, address(ip, 16)?, length);
    let written = be16(udp, 6)?;
    let good = written == 0 || fold(pseudo + sum(udp)) == 0xffff || written == fold(pseudo);
    if good { udp.get(UDP_HEADER..) } else { None }
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn address(bytes: &[u8], at: usize) -> Option<Ipv4Addr> {
    let octets: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(Ipv4Addr::from(octets))
}

fn pseudo_sum(source: Ipv4Addr, target: Ipv4Addr, udp_len: u16) -> u32 {
    sum(&source.octets()) + sum(&target.octets()) + u32::from(UDP) + u32::from(udp_len)
}

fn sum(bytes: &[u8]) -> u32 {
    bytes
        .chunks(2)
        .map(|pair| (u32::from(pair[0]) << 8) | u32::from(pair.get(1).copied().unwrap_or(0)))
        .sum()
}

fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server's answer, made from our own broadcast by turning the ports round.
    pub(in super::super) fn from_server(payload: &[u8]) -> Vec<u8> {
        let mut frame = broadcast([2; 6], Ipv4Addr::new(10, 0, 2, 2), payload);
        frame[34..38].copy_from_slice(&[0, 67, 0, 68]);
        frame
    }

    #[test]
    fn what_is_written_reads_back() {
        for length in [0, 1, 240, 301, 1400] {
            let sent = vec![0xa5; length];
            assert_eq!(payload(&from_server(&sent)), Some(&sent[..]), "{length}");
        }
    }

    #[test]
    fn padding_after_the_packet_is_cut() {
        let mut frame = from_server(b"abc");
        frame.extend([0; 30]);
        assert_eq!(payload(&frame), Some(&b"abc"[..]));
    }

    #[test]
    fn no_checksum_and_a_half_made_one_are_taken_and_a_wrong_one_is_not() {
        let mut frame = from_server(b"abcd");
        frame[40..42].copy_from_slice(&[0, 0]);
        assert!(payload(&frame).is_some(), "none");
        let half = fold(pseudo_sum(Ipv4Addr::new(10, 0, 2, 2), Ipv4Addr::BROADCAST, 12));
        frame[40..42].copy_from_slice(&half.to_be_bytes());
        assert!(payload(&frame).is_some(), "half");
        frame[40..42].copy_from_slice(&[0x12, 0x34]);
        assert!(payload(&frame).is_none(), "wrong");
    }

    #[test]
    fn our_own_broadcasts_fragments_and_other_protocols_are_not_answers() {
        assert!(payload(&broadcast([2; 6], Ipv4Addr::UNSPECIFIED, b"x")).is_none());
        for (at, value) in [(12, 0x86), (14, 0x65), (14, 0x44), (20, 0x20), (23, 6)] {
            let mut frame = from_server(b"abcd");
            frame[at] = value;
            assert!(payload(&frame).is_none(), "byte {at} = {value}");
        }
    }

    #[test]
    fn a_cut_or_changed_frame_never_panics_and_changed_contents_are_noticed() {
        let whole = from_server(&[7; 60]);
        for end in 0..whole.len() {
            assert!(payload(&whole[..end]).is_none(), "{end}");
        }
        for at in 12..whole.len() {
            for bit in 0..8 {
                let mut frame = whole.clone();
                frame[at] ^= 1 << bit;
                assert!(payload(&frame).is_none_or(|text| text.len() <= 60));
                assert!(at < 42 || payload(&frame).is_none(), "byte {at}");
            }
        }
    }
}
