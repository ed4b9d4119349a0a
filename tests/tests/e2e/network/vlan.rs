//! A network card whose cable carries one VLAN, with a DHCP server on it: no kernel of the host is needed for that, only QEMU's socket back end.

use anyhow::{Context, Result, ensure};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// The address it gives.
pub const ADDRESS: &str = "10.9.5.50";
const SERVER: [u8; 4] = [10, 9, 5, 1];
const GIVEN: [u8; 4] = [10, 9, 5, 50];
/// Priority 0 and the number of the VLAN.
const TAG: [u8; 2] = [0, 5];
/// From the head of BOOTP to its options, the magic number included (RFC 2131).
const FIXED: usize = 240;

/// The far end of the cable.
pub struct Cable {
    listener_port: u16,
    untagged: Arc<AtomicU32>,
}

impl Cable {
    /// Waits for QEMU in a thread that ends with the connection.
    pub fn new() -> Result<Cable> {
        let listener = TcpListener::bind("127.0.0.1:0").context("loopback")?;
        let cable = Cable {
            listener_port: listener.local_addr().context("loopback")?.port(),
            untagged: Arc::default(),
        };
        let untagged = cable.untagged.clone();
        std::thread::spawn(move || -> Result<()> {
            let (stream, _) = listener.accept()?;
            serve(stream, &untagged)
        });
        Ok(cable)
    }

    /// QEMU's arguments for a second card on it.
    pub fn arguments(&self) -> [String; 4] {
        let back = format!("socket,id=vlan,connect=127.0.0.1:{}", self.listener_port);
        let front = "virtio-net-pci,netdev=vlan,romfile=";
        ["-netdev".into(), back, "-device".into(), front.into()]
    }

    /// DHCP messages that came without a tag, and were not answered.
    pub fn untagged(&self) -> u32 {
        self.untagged.load(Ordering::Relaxed)
    }
}

/// QEMU puts the length of each frame before it, four bytes, the highest first.
fn serve(mut stream: TcpStream, untagged: &AtomicU32) -> Result<()> {
    loop {
        let mut length = [0; 4];
        stream.read_exact(&mut length)?;
        let length = u32::from_be_bytes(length) as usize;
        ensure!(length < 70_000, "a frame of {length} bytes");
        let mut frame = vec![0; length];
        stream.read_exact(&mut frame)?;
        if request(frame.get(12..).unwrap_or_default()).is_some() {
            untagged.fetch_add(1, Ordering::Relaxed);
        }
        let tagged = frame.get(12..14) == Some(&[0x81, 0]) && frame.get(14..16) == Some(&TAG);
        let asked = frame.get(16..).filter(|_| tagged).and_then(request);
        if let Some(answer) = asked.and_then(answer) {
            stream.write_all(&(answer.len() as u32).to_be_bytes())?;
            stream.write_all(&answer)?;
        }
    }
}

/// The BOOTP message in what follows the addresses and the tag, if it is one to a server.
fn request(packet: &[u8]) -> Option<&[u8]> {
    let ip = packet.strip_prefix(&[8, 0])?;
    let header = usize::from(ip.first()? & 15) * 4;
    let udp = ip.get(header..).filter(|_| ip.get(9) == Some(&17))?;
    let bootp = udp.get(8..).filter(|_| udp.get(2..4) == Some(&[0, 67]))?;
    (bootp.len() > FIXED && bootp[0] == 1).then_some(bootp)
}

/// Option 53 of a message.
fn kind(bootp: &[u8]) -> Option<u8> {
    let mut options = bootp.get(FIXED..)?;
    loop {
        match options {
            [0, rest @ ..] => options = rest,
            [53, 1, kind, ..] => return Some(*kind),
            [255, ..] | [] => return None,
            [_, length, rest @ ..] => options = rest.get(usize::from(*length)..)?,
            [_] => return None,
        }
    }
}

/// An offer for a discover, an acknowledgement for a request.
fn answer(bootp: &[u8]) -> Option<Vec<u8>> {
    let kind = match kind(bootp)? {
        1 => 2,
        3 => 5,
        _ => return None,
    };
    let mac = bootp.get(28..34)?;
    let mut message = vec![2, 1, 6, 0];
    message.extend_from_slice(bootp.get(4..8)?);
    message.resize(16, 0);
    message.extend_from_slice(&GIVEN);
    message.extend_from_slice(&SERVER);
    message.resize(28, 0);
    message.extend_from_slice(mac);
    message.resize(236, 0);
    message.extend_from_slice(&[0x63, 0x82, 0x53, 0x63, 53, 1, kind, 51, 4, 0, 0, 2, 88]);
    for option in [54, 3] {
        message.extend_from_slice(&[option, 4]);
        message.extend_from_slice(&SERVER);
    }
    message.extend_from_slice(&[1, 4, 255, 255, 255, 0, 255]);
    let length = u16::try_from(message.len()).ok()?;
    let mut ip = vec![0x45, 0];
    ip.extend((length + 28).to_be_bytes());
    ip.extend_from_slice(&[0, 0, 0, 0, 64, 17, 0, 0]);
    ip.extend_from_slice(&SERVER);
    ip.extend_from_slice(&[255; 4]);
    let sum = checksum(&ip).to_be_bytes();
    ip[10..12].copy_from_slice(&sum);
    let mut frame = [mac, &[2, 0, 0, 0, 0, 1, 0x81, 0], &TAG, &[8, 0]].concat();
    frame.extend(ip);
    frame.extend_from_slice(&[0, 67, 0, 68]);
    frame.extend((length + 8).to_be_bytes());
    // No checksum, which UDP allows over IPv4.
    frame.extend_from_slice(&[0, 0]);
    frame.extend(message);
    Some(frame)
}

/// Of a header of whole words (RFC 1071).
fn checksum(header: &[u8]) -> u16 {
    let mut sum: u32 = header
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
