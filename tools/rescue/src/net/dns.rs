//! Whether the name servers answer: one question to each, as RFC 1035 has it.

use serde::Serialize;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

const RESOLV_CONF: &str = "/etc/resolv.conf";
const PORT: u16 = 53;
/// For one question; it is asked twice.
const PATIENCE: Duration = Duration::from_millis(1500);
const ADDRESS: u16 = 1;
const SOA: u16 = 6;

/// A name server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Resolver {
    pub server: IpAddr,
    /// What it was asked for.
    pub asked: String,
    /// Milliseconds until it answered.
    pub ms: Option<u64>,
    /// Its answer, or why there is none.
    pub what: String,
}

/// Asks every configured server for the name, or for the root where there is none.
pub fn test(name: &Option<String>) -> Vec<Resolver> {
    let text = fs::read_to_string(RESOLV_CONF).unwrap_or_default();
    let servers = servers(&text);
    std::thread::scope(|scope| {
        let asked: Vec<_> = servers
            .into_iter()
            .map(|server| {
                scope.spawn(move || ask(SocketAddr::new(server, PORT), name.as_deref().unwrap_or(".")))
            })
            .collect();
        asked
            .into_iter()
            .filter_map(|thread| thread.join().ok())
            .collect()
    })
}

/// For people.
pub fn lines(resolvers: &[Resolver]) -> Vec<String> {
    if resolvers.is_empty() {
        return vec!["dns: no server is configured".to_owned()];
    }
    resolvers
        .iter()
        .map(|resolver| match resolver.ms {
            Some(ms) => format!(
                "dns {}: answers after {ms} ms, for {}: {}",
                resolver.server, resolver.asked, resolver.what
            ),
            None => format!("dns {}: {}", resolver.server, resolver.what),
        })
        .collect()
}

/// What a person should hear first.
pub fn warnings(resolvers: &[Resolver]) -> Vec<String> {
    let silent = resolvers.iter().filter(|resolver| resolver.ms.is_none());
    silent
        .map(|resolver| format!("DNS server {}: {}", resolver.server, resolver.what))
        .collect()
}

fn servers(resolv_conf: &str) -> Vec<IpAddr> {
    let lines = resolv_conf.lines();
    let values = lines.filter_map(|line| line.trim().strip_prefix("nameserver"));
    values
        .filter_map(|value| value.split('%').next()?.trim().parse().ok())
        .collect()
}

fn ask(server: SocketAddr, name: &str) -> Resolver {
    let started = Instant::now();
    let mut answer = Err(io::ErrorKind::TimedOut.into());
    for _ in 0..2 {
        answer = ask_once(server, name);
        if answer.is_ok() {
            break;
        }
    }
    let (ms, what) = match answer {
        Ok(code) => (Some(started.elapsed().as_millis() as u64), meaning(code)),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
            (None, "no answer".to_owned())
        }
        Err(error) => (None, error.to_string()),
    };
    Resolver {
        server: server.ip(),
        asked: name.to_owned(),
        ms,
        what,
    }
}

/// The response code of the answer.
fn ask_once(server: SocketAddr, name: &str) -> io::Result<u8> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    // Connected: only this server's answers and errors arrive.
    socket.connect(server)?;
    let mut id = [0; 2];
    rustix::rand::getrandom(&mut id, rustix::rand::GetRandomFlags::INSECURE)?;
    socket.send(&question(id, name))?;
    let end = Instant::now() + PATIENCE;
    let mut buffer = [0; 1500];
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        socket.set_read_timeout(Some(left))?;
        let length = socket.recv(&mut buffer)?;
        if let Some(code) = code(buffer.get(..length).unwrap_or_default(), id) {
            return Ok(code);
        }
    }
}

/// A question with recursion desired: for the address of a name, or for who is responsible for the root.
fn question(id: [u8; 2], name: &str) -> Vec<u8> {
    let mut packet = vec![id[0], id[1], 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    let labels = name.split('.').filter(|label| (1..64).contains(&label.len()));
    for label in labels {
        packet.push(label.len() as u8);
        packet.extend(label.bytes());
    }
    packet.push(0);
    let kind = if packet.len() == 13 { SOA } else { ADDRESS };
    packet.extend(kind.to_be_bytes());
    packet.extend(1u16.to_be_bytes());
    packet
}

/// The response code, if the packet answers this question.
fn code(packet: &[u8], id: [u8; 2]) -> Option<u8> {
    let head = packet.first_chunk::<12>()?;
    (head[..2] == id && head[2] & 0x80 != 0).then_some(head[3] & 0x0f)
}

fn meaning(code: u8) -> String {
    match code {
        0 => "found".to_owned(),
        2 => "the server itself has failed".to_owned(),
        3 => "no such name".to_owned(),
        5 => "the server refuses".to_owned(),
        code => format!("response code {code}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_read_from_resolv_conf() {
        let text = "search lan\nnameserver 10.0.2.3\n nameserver fe80::1%eth0\nnameserver nonsense\n";
        let expected: Vec<IpAddr> = ["10.0.2.3", "fe80::1"].map(|a| a.parse().unwrap()).into();
        assert_eq!(servers(text), expected);
    }

    #[test]
    fn a_question_is_as_the_standard_has_it() {
        assert_eq!(
            question([1, 2], "boot.lan."),
            b"\x01\x02\x01\0\0\x01\0\0\0\0\0\0\x04boot\x03lan\0\0\x01\0\x01"
        );
        assert_eq!(question([1, 2], ".")[12..], [0, 0, 6, 0, 1]);
    }

    #[test]
    fn only_an_answer_to_this_question_counts() {
        let answer = |bytes: [u8; 4]| [&bytes[..], &[0; 8]].concat();
        assert_eq!(code(&answer([1, 2, 0x81, 0x83]), [1, 2]), Some(3));
        assert_eq!(code(&answer([1, 3, 0x81, 0x83]), [1, 2]), None);
        assert_eq!(code(&answer([1, 2, 0x01, 0x00]), [1, 2]), None, "a question");
        assert_eq!(code(&[1, 2, 0x81], [1, 2]), None, "cut off");
    }

    #[test]
    fn a_server_that_answers_is_told_from_one_that_does_not() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let server = socket.local_addr().unwrap();
        std::thread::spawn(move || {
            // Who hears nothing in time asks again.
            loop {
                let mut buffer = [0; 512];
                let (length, peer) = socket.recv_from(&mut buffer).unwrap();
                buffer[2] |= 0x80;
                drop(socket.send_to(&buffer[..length], peer));
            }
        });
        let asked = ask(server, "boot.lan");
        assert_eq!((asked.what.as_str(), asked.ms.is_some()), ("found", true));
        let closed = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let asked = ask(closed, ".");
        assert_eq!(asked.ms, None);
        assert_eq!(warnings(&[asked]).len(), 1);
    }
}
