//! Clients that have not shown a key yet, and what their addresses have done before: scanners must neither lock anybody out nor cost much.
//!
//! Places for strangers are few; when they run out, the oldest of the address with the most gives way. What an address does wrong adds up to
//! a penalty that runs off with time (OpenSSH's PerSourcePenalties): beyond [`PATIENCE`] its connections are closed unheard until it has run
//! off. The one thing a reader would get wrong: the most it can come to is short, since behind one address there may be a scanner *and* an
//! operator, and nobody guesses a key in the meantime; an address from which somebody has logged in is not punished at all.

use super::gate::Gate;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

/// Clients that have not shown a key yet, at most.
const MOST_STRANGERS: usize = 32;

/// A penalty up to this much has no effect: a person who mistypes, a monitor that only looks whether the port is open.
const PATIENCE: Duration = Duration::from_secs(15);

/// The most a penalty can come to.
const MOST_PENALTY: Duration = Duration::from_secs(120);

/// For so long after a login or logout an address is not punished.
const TRUST: Duration = Duration::from_secs(3600);

/// Addresses that are remembered, about 100 bytes each.
const MOST_SOURCES: usize = 1024;

/// What was wrong with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offence {
    /// Keys were shown, none was taken.
    WrongKey,
    /// It ended, or gave way, before a key was shown.
    NoKey,
    /// No key within the time for one.
    TooSlow,
    /// What came was not the protocol.
    Garbage,
}

impl Offence {
    fn penalty(self) -> Duration {
        Duration::from_secs(match self {
            Offence::NoKey => 1,
            Offence::WrongKey => 5,
            Offence::TooSlow | Offence::Garbage => 10,
        })
    }
}

/// All of them.
#[derive(Debug, Default)]
pub struct Sources {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    strangers: Vec<Stranger>,
    records: HashMap<IpAddr, Record>,
}

#[derive(Debug)]
struct Stranger {
    gate: Weak<Gate>,
    source: IpAddr,
}

/// What is known of an address.
#[derive(Debug, Clone, Copy)]
enum Record {
    /// Its penalty has run off at `until`; `active` once it was beyond patience.
    Punished { until: Instant, active: bool },
    /// Somebody has logged in from there.
    Trusted { until: Instant },
}

impl Sources {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a connection from `client` is heard at all.
    pub fn admits(&self, client: IpAddr, now: Instant) -> bool {
        let mut state = self.state();
        match state.records.get(&source(client)) {
            Some(Record::Punished { until, active: true }) if *until > now => false,
            Some(Record::Punished { until, .. } | Record::Trusted { until }) if *until <= now => {
                state.records.remove(&source(client));
                true
            }
            _ => true,
        }
    }

    /// A stranger is here; another may have to give way.
    pub fn add(&self, client: IpAddr, gate: &Arc<Gate>) {
        let mut state = self.state();
        let strange = |stranger: &Stranger| {
            let gate = stranger.gate.upgrade();
            gate.is_some_and(|gate| !gate.is_authenticated() && !gate.is_closed())
        };
        state.strangers.retain(strange);
        if state.strangers.len() >= MOST_STRANGERS {
            let at = state.most_crowded();
            if let Some(gate) = state.strangers.remove(at).gate.upgrade() {
                gate.close("too many clients without a key");
            }
        }
        state.strangers.push(Stranger {
            gate: Arc::downgrade(gate),
            source: source(client),
        });
    }

    /// A connection has ended without a login.
    pub fn punish(&self, client: IpAddr, offence: Offence, now: Instant) {
        let mut state = self.state();
        let source = source(client);
        let (before, was_active) = match state.records.get(&source) {
            Some(Record::Trusted { until }) if *until > now => return,
            Some(Record::Punished { until, active }) if *until > now => (*until, *active),
            _ => (now, false),
        };
        let until = (before + offence.penalty()).min(now + MOST_PENALTY);
        let active = was_active || until.duration_since(now) > PATIENCE;
        state.make_room(now);
        state.records.insert(source, Record::Punished { until, active });
    }

    /// Somebody has logged in from there, or out.
    pub fn trust(&self, client: IpAddr, now: Instant) {
        let mut state = self.state();
        state.make_room(now);
        let until = now + TRUST;
        state.records.insert(source(client), Record::Trusted { until });
    }
}

impl State {
    /// The place of the oldest stranger of the address that has the most; there is at least one.
    fn most_crowded(&self) -> usize {
        let mut counts: HashMap<IpAddr, usize> = HashMap::new();
        for stranger in &self.strangers {
            *counts.entry(stranger.source).or_default() += 1;
        }
        let most = counts.values().max().copied().unwrap_or_default();
        let first = |stranger: &Stranger| counts.get(&stranger.source) == Some(&most);
        self.strangers.iter().position(first).unwrap_or_default()
    }

    /// Forgets what has run off; when that is not enough, the record that would be forgotten first.
    fn make_room(&mut self, now: Instant) {
        if self.records.len() < MOST_SOURCES {
            return;
        }
        self.records.retain(|_, record| record.until() > now);
        if self.records.len() >= MOST_SOURCES
            && let Some(first) = self.records.iter().min_by_key(|(_, record)| record.until())
        {
            let address = *first.0;
            self.records.remove(&address);
        }
    }
}

impl Record {
    fn until(&self) -> Instant {
        match self {
            Record::Punished { until, .. } | Record::Trusted { until } => *until,
        }
    }
}

/// One customer of a provider has at least a /64 of IPv6.
fn source(client: IpAddr) -> IpAddr {
    match client {
        IpAddr::V4(_) => client,
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn the_oldest_stranger_gives_way_and_known_clients_do_not_count() {
        let sources = Sources::default();
        let here = address("10.0.0.1");
        let known = Gate::new();
        sources.add(here, &known);
        known.authenticate();
        let gates: Vec<_> = (0..=MOST_STRANGERS).map(|_| Gate::new()).collect();
        gates.iter().for_each(|gate| sources.add(here, gate));
        let closed = |gate: &Arc<Gate>| gate.is_closed();
        assert!(!closed(&known) && closed(&gates[0]) && gates[1..].iter().all(|gate| !closed(gate)));
    }

    #[test]
    fn who_crowds_the_door_makes_room_for_another() {
        let sources = Sources::default();
        let other = Gate::new();
        sources.add(address("10.0.0.2"), &other);
        let crowd: Vec<_> = (0..MOST_STRANGERS * 2).map(|_| Gate::new()).collect();
        crowd
            .iter()
            .for_each(|gate| sources.add(address("10.0.0.1"), gate));
        assert!(!other.is_closed());
    }

    #[test]
    fn a_few_mistakes_are_borne_and_a_scan_is_not_until_it_is_forgotten() {
        let sources = Sources::default();
        let (bad, good, start) = (address("10.0.0.1"), address("10.0.0.2"), Instant::now());
        for _ in 0..3 {
            sources.punish(bad, Offence::WrongKey, start);
        }
        assert!(sources.admits(bad, start));
        sources.punish(bad, Offence::NoKey, start);
        assert!(!sources.admits(bad, start) && sources.admits(good, start));
        // Until it has run off altogether, not only below the limit.
        assert!(!sources.admits(bad, after(start, 15)));
        assert!(sources.admits(bad, after(start, 16)));
        sources.punish(bad, Offence::WrongKey, after(start, 17));
        assert!(sources.admits(bad, after(start, 17)));
    }

    #[test]
    fn a_penalty_grows_no_further_than_two_minutes() {
        let sources = Sources::default();
        let (bad, start) = (address("10.0.0.1"), Instant::now());
        for _ in 0..1000 {
            sources.punish(bad, Offence::Garbage, start);
        }
        assert!(!sources.admits(bad, after(start, 119)));
        assert!(sources.admits(bad, after(start, 120)));
    }

    #[test]
    fn where_somebody_has_logged_in_nobody_is_punished() {
        let sources = Sources::default();
        let (here, start) = (address("10.0.0.1"), Instant::now());
        sources.trust(here, start);
        for _ in 0..1000 {
            sources.punish(here, Offence::WrongKey, after(start, 10));
        }
        assert!(sources.admits(here, after(start, 10)));
        for _ in 0..10 {
            sources.punish(here, Offence::WrongKey, after(start, 3601));
        }
        assert!(!sources.admits(here, after(start, 3601)));
        sources.trust(here, after(start, 3602));
        assert!(sources.admits(here, after(start, 3602)));
    }

    #[test]
    fn a_network_of_ipv6_is_one_address_and_the_memory_is_bounded() {
        let sources = Sources::default();
        let start = Instant::now();
        for host in 0..10u16 {
            sources.punish(address(&format!("2001:db8::{host:x}")), Offence::WrongKey, start);
        }
        assert!(!sources.admits(address("2001:db8::ffff"), start));
        assert!(sources.admits(address("2001:db8:0:1::1"), start));
        for number in 0..5000u32 {
            sources.punish(
                std::net::Ipv4Addr::from_bits(number).into(),
                Offence::NoKey,
                start,
            );
        }
        assert!(sources.state().records.len() <= MOST_SOURCES);
        // What weighs most is kept longest.
        assert!(!sources.admits(address("2001:db8::1"), start));
    }
}
