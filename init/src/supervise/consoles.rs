//! Where events go: sentences to the consoles, JSON to the event port, datagrams to syslog. A port that does not drain loses
//! output; it never holds up PID 1.

use crate::report::unheeded;
use lifeboot_contract::event::{Event, Level};
use rustix::fs::{Mode, OFlags, open};
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

const MOST_UNSENT: usize = 256 * 1024;

/// Every place that gets events.
pub(super) struct Outputs {
    level: Level,
    consoles: Vec<Port>,
    /// The kernel's own way to its console, as long as no terminal of its name is there: on a Pi 4 with mainline's device tree the
    /// serial port belongs to the Bluetooth chip, and what is written here still comes out of it.
    nameless: Port,
    events: Option<Port>,
    syslog: Option<(UdpSocket, SocketAddr)>,
}

/// A terminal or serial port, opened when it is there.
pub(super) struct Port {
    name: String,
    file: Option<File>,
    unsent: Vec<u8>,
}

impl Port {
    fn new(name: &str) -> Port {
        Port {
            name: name.to_owned(),
            file: None,
            unsent: Vec::new(),
        }
    }

    fn put(&mut self, bytes: &[u8]) {
        if self.unsent.len() + bytes.len() <= MOST_UNSENT {
            self.unsent.extend_from_slice(bytes);
        }
        self.write();
    }

    /// Writes what the port takes; opens it first if it has appeared meanwhile.
    pub(super) fn write(&mut self) {
        if self.file.is_none() {
            let flags = OFlags::WRONLY | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
            self.file = open(node(&self.name), flags, Mode::empty()).ok().map(File::from);
        }
        let Some(file) = &mut self.file else { return };
        while !self.unsent.is_empty() {
            match file.write(&self.unsent) {
                Ok(length) => drop(self.unsent.drain(..length)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => {
                    self.file = None;
                    return;
                }
            }
        }
    }

    pub(super) fn waiting_fd(&self) -> Option<BorrowedFd<'_>> {
        self.file
            .as_ref()
            .filter(|_| !self.unsent.is_empty())
            .map(|file| file.as_fd())
    }
}

impl Outputs {
    pub(super) fn new(level: Level, events: Option<String>, syslog: Option<&str>) -> Outputs {
        let mut outputs = Outputs {
            level,
            consoles: Vec::new(),
            nameless: Port::new("console"),
            events: events.as_deref().map(Port::new),
            syslog: syslog.and_then(target),
        };
        outputs.rescan();
        outputs
    }

    /// Takes up consoles that have appeared; their names.
    pub(super) fn rescan(&mut self) -> Vec<String> {
        let active = fs::read_to_string("/sys/class/tty/console/active").unwrap_or_default();
        let there = |name: &str| Path::new("/dev").join(name).exists();
        let mut fresh = terminals(&active, there);
        fresh.retain(|name| !self.consoles.iter().any(|port| port.name == *name));
        self.consoles.extend(fresh.iter().map(|name| Port::new(name)));
        fresh
    }

    fn speaking(&mut self) -> impl Iterator<Item = &mut Port> {
        let nameless = self.consoles.is_empty().then_some(&mut self.nameless);
        self.consoles.iter_mut().chain(nameless)
    }

    pub(super) fn consoles(&self) -> Vec<String> {
        self.consoles.iter().map(|port| port.name.clone()).collect()
    }

    /// Distributes an event. On the consoles named in `sitting` somebody works: they get only warnings and errors.
    pub(super) fn event(&mut self, event: &Event, sitting: &[String]) {
        if let Some(text) = event.text.as_ref().filter(|_| event.level <= self.level) {
            let line = format!("[{:4}.{:02}] {text}\r\n", event.ms / 1000, event.ms % 1000 / 10);
            for port in self.speaking() {
                if event.level <= Level::Warn || !sitting.iter().any(|who| who.ends_with(&port.name)) {
                    port.put(line.as_bytes());
                }
            }
        }
        let Ok(mut line) = serde_json::to_vec(event) else {
            return;
        };
        if let Some((socket, to)) = &self.syslog {
            unheeded("syslog", socket.send_to(&syslog_line(event), to));
        }
        if let Some(port) = &mut self.events {
            line.push(b'\n');
            port.put(&line);
        }
    }

    /// Ports that still have something to say.
    pub(super) fn waiting(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.consoles
            .iter()
            .chain([&self.nameless])
            .chain(&self.events)
            .filter_map(Port::waiting_fd)
    }

    /// Writes what the ports take.
    pub(super) fn write(&mut self) {
        self.consoles
            .iter_mut()
            .chain(
                [&mut self.nameless]
                    .into_iter()
                    .filter(|port| !port.unsent.is_empty()),
            )
            .chain(&mut self.events)
            .for_each(Port::write);
    }
}

/// The terminals of the kernel's list of active consoles that are there to be opened, each once.
fn terminals(active: &str, there: impl Fn(&str) -> bool) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for name in active.split_whitespace() {
        // tty0 is "whichever is in front"; a shell needs one of its own.
        let name = if name == "tty0" { "tty1" } else { name };
        if there(name) && !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    names
}

/// The device of a port. `virtio-ports/NAME` is a link that udev would make; there is none here, so the name is looked up.
fn node(name: &str) -> String {
    let wanted = name.strip_prefix("virtio-ports/");
    let ports = fs::read_dir("/sys/class/virtio-ports")
        .into_iter()
        .flatten()
        .flatten();
    let named = |port: &fs::DirEntry| {
        fs::read_to_string(port.path().join("name")).is_ok_and(|text| Some(text.trim()) == wanted)
    };
    match wanted.and_then(|_| ports.into_iter().find(named)) {
        Some(port) => format!("/dev/{}", port.file_name().to_string_lossy()),
        None => format!("/dev/{name}"),
    }
}

/// HOST[:PORT] with an IP address: PID 1 asks no name server.
fn target(text: &str) -> Option<(UdpSocket, SocketAddr)> {
    let bare = |text: &str| {
        text.trim_start_matches('[')
            .trim_end_matches(']')
            .parse::<IpAddr>()
            .map(|ip| SocketAddr::new(ip, 514))
    };
    let to = text.parse().or_else(|_| bare(text)).ok()?;
    let local: SocketAddr = if to.is_ipv4() {
        ([0, 0, 0, 0], 0).into()
    } else {
        ([0u16; 8], 0).into()
    };
    let socket = UdpSocket::bind(local).ok()?;
    socket.set_nonblocking(true).ok()?;
    Some((socket, to))
}

/// RFC 5424, facility daemon, without a time stamp (the clock may not be set): the receiver's counts.
fn syslog_line(event: &Event) -> Vec<u8> {
    let severity = match event.level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug => 7,
    };
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let text = event
        .text
        .clone()
        .unwrap_or_else(|| serde_json::to_string(&event.fields).unwrap_or_default());
    format!(
        "<{}>1 - {host} lifeboot - {} - {text}",
        3 * 8 + severity,
        event.name
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_console_without_a_terminal_of_its_name_is_not_taken_for_one() {
        let active = "tty0 ttyAMA0 ttyS1 tty1\n";
        assert_eq!(terminals(active, |_| true), ["tty1", "ttyAMA0", "ttyS1"]);
        assert_eq!(terminals(active, |name| name != "ttyAMA0"), ["tty1", "ttyS1"]);
        assert!(terminals("", |_| true).is_empty());
    }

    #[test]
    fn syslog_targets_are_addresses_with_an_optional_port() {
        assert_eq!(target("127.0.0.1").unwrap().1.port(), 514);
        assert_eq!(target("127.0.0.1:5140").unwrap().1.port(), 5140);
        assert_eq!(target("[::1]").map(|(_, to)| to.port()).unwrap_or(514), 514);
        assert!(target("logs.example.net").is_none());
    }

    #[test]
    fn a_syslog_line_carries_severity_and_name() {
        let event = Event::new(1, Level::Error, "boot.failed").text("no");
        let line = String::from_utf8(syslog_line(&event)).unwrap();
        assert!(
            line.starts_with("<27>1 - ") && line.ends_with(" lifeboot - boot.failed - no"),
            "{line}"
        );
    }
}
