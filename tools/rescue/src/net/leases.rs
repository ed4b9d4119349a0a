//! Leases, by PID 1's record of what happened.

use crate::control::Connection;
use lifeboot_contract::control::{Reply, Request};
use lifeboot_contract::event::Event;
use serde::Serialize;

/// A lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lease {
    pub interface: String,
    pub address: String,
    pub server: Option<String>,
    /// Seconds it lasts altogether; absent: for ever.
    pub seconds: Option<u64>,
    /// Seconds until it ends.
    pub left: Option<u64>,
}

impl Lease {
    /// For people.
    pub fn line(&self) -> String {
        let server = self
            .server
            .as_ref()
            .map(|server| format!(" from {server}"))
            .unwrap_or_default();
        let left = match (self.left, self.seconds) {
            (Some(left), Some(seconds)) => format!("{left} of {seconds} s left"),
            _ => "for ever".to_owned(),
        };
        format!("lease {} on {}{server}, {left}", self.address, self.interface)
    }
}

/// Everything PID 1 remembers.
pub fn events() -> anyhow::Result<Vec<Event>> {
    let mut connection = Connection::open()?;
    connection.send(&Request::Log {
        since: 0,
        follow: false,
    })?;
    let mut events = Vec::new();
    while let Some(Reply::Event(event)) = connection.receive()? {
        events.push(event);
    }
    Ok(events)
}

/// The last word on each interface's lease.
pub fn leases(events: &[Event], now_ms: u64) -> Vec<Lease> {
    let mut leases: Vec<Lease> = Vec::new();
    for event in events {
        let interface = event.str("interface").to_owned();
        let before = leases.iter().position(|lease| lease.interface == interface);
        let before = before.map(|at| leases.remove(at));
        match event.name.as_str() {
            "network.lease" | "network.renewed" => {
                let given = Some(event.str("server")).filter(|server| !server.is_empty());
                let seconds = event
                    .u64("seconds")
                    .filter(|seconds| *seconds < u64::from(u32::MAX));
                let age = now_ms.saturating_sub(event.ms) / 1000;
                leases.push(Lease {
                    interface,
                    address: event.str("address").to_owned(),
                    server: given.map(str::to_owned).or_else(|| before?.server),
                    seconds,
                    left: seconds.map(|seconds| seconds.saturating_sub(age)),
                });
            }
            "network.lost" => {}
            _ => leases.extend(before),
        }
    }
    leases
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifeboot_contract::event::Level;

    fn event(ms: u64, name: &str) -> Event {
        Event::new(ms, Level::Info, name).with("interface", "eth0")
    }

    #[test]
    fn the_last_word_on_a_lease_counts() {
        let lease = event(1_000, "network.lease")
            .with("address", "10.0.2.15")
            .with("server", "10.0.2.2")
            .with("seconds", 3600);
        let renewed = event(61_000, "network.renewed")
            .with("address", "10.0.2.15")
            .with("seconds", 1800);
        let told = leases(&[lease.clone(), renewed, event(1, "network.link")], 71_000);
        assert_eq!(
            (told[0].server.as_deref(), told[0].left, told.len()),
            (Some("10.0.2.2"), Some(1790), 1)
        );
        assert_eq!(
            told[0].line(),
            "lease 10.0.2.15 on eth0 from 10.0.2.2, 1790 of 1800 s left"
        );
        assert!(leases(&[lease, event(9, "network.lost")], 10).is_empty());
    }
}
