//! An SNTP client (RFC 4330; RFC 5905, section 14): one packet there, one back.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// Seconds from 1900, where NTP counts from, to 1970.
const TO_UNIX: u64 = 2_208_988_800;
const LENGTH: usize = 48;

/// Why a server's answer was not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The name, the network, or nothing came in time.
    #[error("no answer")]
    Io(#[from] io::Error),
    #[error("the name has no address")]
    NoAddress,
    /// A kiss of death (RFC 5905, section 7.4): it is not to be asked again.
    #[error("the server declines: {0}")]
    GoAway(String),
    /// The answer is none to our question, or the server does not know the time either.
    #[error("{0}")]
    Bad(&'static str),
}

/// What a server said.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// When it sent the answer, since 1970.
    sent: Duration,
    /// How long it took to answer.
    held: Duration,
}

/// Asks one server; the time that it is now.
pub(super) fn ask(server: SocketAddr, wait: Duration) -> Result<Duration, Error> {
    let any = match server {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = UdpSocket::bind(any)?;
    // Connected, so that only this server's packets and errors arrive.
    socket.connect(server)?;
    let nonce = nonce();
    let start = Instant::now();
    socket.send(&request(nonce))?;
    let mut buffer = [0; 512];
    loop {
        let left = wait.saturating_sub(start.elapsed());
        if left.is_zero() {
            return Err(io::Error::from(io::ErrorKind::TimedOut).into());
        }
        socket.set_read_timeout(Some(left))?;
        let length = socket.recv(&mut buffer)?;
        match read(buffer.get(..length).unwrap_or_default(), nonce) {
            // Late or forged: the true answer may still come.
            Err(Error::Bad(NOT_OURS)) => {}
            Err(error) => return Err(error),
            Ok(answer) => {
                let way = start.elapsed().saturating_sub(answer.held);
                return Ok(answer.sent + way / 2);
            }
        }
    }
}

const NOT_OURS: &str = "the answer is not to this question";

/// Version 4, mode client. The transmit time is a random number: the server only repeats it, and nobody needs to know our clock.
pub(super) fn request(nonce: [u8; 8]) -> [u8; LENGTH] {
    let mut packet = [0; LENGTH];
    packet[0] = 4 << 3 | 3;
    packet[40..].copy_from_slice(&nonce);
    packet
}

/// Judges an answer, as RFC 4330 section 5 lists.
pub(super) fn read(packet: &[u8], nonce: [u8; 8]) -> Result<Answer, Error> {
    let packet: &[u8; LENGTH] = packet.first_chunk().ok_or(Error::Bad(NOT_OURS))?;
    let (leap, mode, stratum) = (packet[0] >> 6, packet[0] & 7, packet[1]);
    if mode != 4 || packet[24..32] != nonce {
        return Err(Error::Bad(NOT_OURS));
    }
    if stratum == 0 {
        return Err(Error::GoAway(packet[12..16].escape_ascii().to_string()));
    }
    if leap == 3 || stratum > 15 {
        return Err(Error::Bad("the server's own clock is not set"));
    }
    let sent = timestamp(packet, 40).ok_or(Error::Bad("the answer holds no time"))?;
    let held = timestamp(packet, 32).map_or(Duration::ZERO, |received| sent.saturating_sub(received));
    Ok(Answer { sent, held })
}

/// Seconds since 1900 in 32 bits, and a fraction. Without the highest bit it is after 2036 (RFC 4330, section 3).
fn timestamp(packet: &[u8; LENGTH], at: usize) -> Option<Duration> {
    let word = |at: usize| Some(u32::from_be_bytes(packet.get(at..at + 4)?.try_into().ok()?));
    let (seconds, fraction) = (u64::from(word(at)?), u64::from(word(at + 4)?));
    if seconds == 0 && fraction == 0 {
        return None;
    }
    let era = if seconds & 0x8000_0000 == 0 { 1 << 32 } else { 0 };
    let nanoseconds = (fraction * 1_000_000_000) >> 32;
    Some(Duration::new(
        (seconds + era).checked_sub(TO_UNIX)?,
        nanoseconds as u32,
    ))
}

fn nonce() -> [u8; 8] {
    let mut bytes = [0; 8];
    // Must not block for the kernel's pool; without randomness the time since the start serves.
    match rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::INSECURE) {
        Ok(8) => bytes,
        _ => crate::report::now_ms().to_ne_bytes(),
    }
}
