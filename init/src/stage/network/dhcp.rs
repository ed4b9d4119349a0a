//! The DHCPv4 client of one interface (RFC 2131, figure 5), without any input or output.
//!
//! It is told what happens and answers with what to do, so that every path can be tested with a clock of the test's own. The one
//! thing a reader would get wrong: the random pause of 1 to 10 s that RFC 2131 wants before the first message is left out on
//! purpose; a rescue image that a person waits for asks the moment the cable carries.

use super::lease::Lease;
use super::message::{Answer, Kind, Mac, Outgoing, Reply};
use std::net::Ipv4Addr;
use std::time::Duration;

/// Requests for one offer before the search starts over.
const REQUESTS: u32 = 4;
/// Requests that confirm an old lease before it is simply used on.
const CONFIRMATIONS: u32 = 4;
/// Least pause between renewals, RFC 2131 section 4.4.5.
const RENEW_PAUSE: Duration = Duration::from_secs(60);
/// Longest pause between tries while there is no lease.
const LONGEST_PAUSE: u32 = 32;

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    /// Send to everybody; `from` is 0.0.0.0 while there is no address.
    Broadcast { from: Ipv4Addr, message: Outgoing },
    /// Send to the server that gave the lease.
    Unicast {
        from: Ipv4Addr,
        to: Ipv4Addr,
        message: Outgoing,
    },
    /// There is a lease: use it.
    Bound(Lease),
    /// The same address for longer; what goes with it may have changed.
    Renewed(Lease),
    /// The address may not be used any longer.
    Lost { what: &'static str },
}

/// A lease and when it was asked for.
#[derive(Debug, Clone)]
struct Held {
    lease: Lease,
    since: Duration,
}

impl Held {
    fn after(&self, seconds: u32) -> Duration {
        self.since + Duration::from_secs(u64::from(seconds))
    }

    fn end(&self) -> Option<Duration> {
        self.lease.lasts().map(|lasts| self.since + lasts)
    }
}

#[derive(Debug)]
enum State {
    /// The cable does not carry.
    Down(Option<Held>),
    Selecting,
    Requesting(Lease),
    /// The cable carries again: is the lease still ours?
    Rebooting(Held),
    Bound(Held),
    Renewing(Held),
    Rebinding(Held),
    /// Given up for good: the lease was lost.
    Over,
}

/// The client of one interface.
#[derive(Debug)]
pub(super) struct Client {
    mac: Mac,
    hostname: Option<String>,
    random: Random,
    xid: u32,
    /// When the present exchange began.
    began: Duration,
    /// When the address was first asked for: a lease counts from there (RFC 2131, section 4.4.1).
    asked: Duration,
    /// Messages sent in the present state.
    tries: u32,
    /// Discovers sent since the cable carries.
    discovers: u32,
    state: State,
    deadline: Option<Duration>,
}

impl Client {
    /// A client for an interface whose cable does not carry yet. `seed` makes the transaction numbers and the jitter.
    pub(super) fn new(mac: Mac, hostname: Option<String>, seed: u64) -> Client {
        Client {
            mac,
            hostname,
            random: Random(seed | 1),
            xid: 0,
            began: Duration::ZERO,
            asked: Duration::ZERO,
            tries: 0,
            discovers: 0,
            state: State::Down(None),
            deadline: None,
        }
    }

    /// When [`Client::timeout`] is to be called.
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.deadline
    }

    /// How many discovers were sent.
    pub(super) fn discovers(&self) -> u32 {
        self.discovers
    }

    /// The cable carries, or no longer.
    pub(super) fn carrier(&mut self, now: Duration, up: bool) -> Vec<Action> {
        match (std::mem::replace(&mut self.state, State::Over), up) {
            (State::Down(None), true) => self.discover_anew(now),
            (State::Down(Some(held)), true) => {
                self.begin(now);
                self.confirm(now, held)
            }
            (
                State::Rebooting(held) | State::Bound(held) | State::Renewing(held) | State::Rebinding(held),
                false,
            ) => {
                self.deadline = held.end();
                self.state = State::Down(Some(held));
                Vec::new()
            }
            (State::Selecting | State::Requesting(_), false) => {
                self.deadline = None;
                self.state = State::Down(None);
                Vec::new()
            }
            (unchanged, _) => {
                self.state = unchanged;
                Vec::new()
            }
        }
    }

    /// A server said something, maybe to somebody else.
    pub(super) fn message(&mut self, now: Duration, reply: &Reply) -> Vec<Action> {
        if reply.xid != self.xid || reply.mac != self.mac {
            return Vec::new();
        }
        match (std::mem::replace(&mut self.state, State::Over), reply.kind) {
            (State::Selecting, Kind::Offer) => match Lease::from_reply(reply) {
                Some(lease) => {
                    self.tries = 0;
                    self.request(now, lease)
                }
                None => self.stay(State::Selecting),
            },
            (State::Requesting(offer), Kind::Ack) => match Lease::from_reply(reply) {
                Some(lease) if lease.server == offer.server => self.bind(lease, Action::Bound),
                _ => self.stay(State::Requesting(offer)),
            },
            (State::Requesting(offer), Kind::Nak) if reply.server().is_none_or(|s| s == offer.server) => {
                // Not at once: a server that offers and refuses for ever must not be asked in a tight circle.
                self.state = State::Selecting;
                let pause = self.pause(self.tries + 1);
                self.deadline = Some(now + pause);
                Vec::new()
            }
            (State::Rebooting(_) | State::Renewing(_) | State::Rebinding(_), Kind::Nak) => {
                self.lose("the server took the lease back")
            }
            (State::Rebooting(held), Kind::Ack) => self.extend(held, reply, State::Rebooting),
            (State::Renewing(held), Kind::Ack) => self.extend(held, reply, State::Renewing),
            (State::Rebinding(held), Kind::Ack) => self.extend(held, reply, State::Rebinding),
            (state, _) => self.stay(state),
        }
    }

    /// The deadline has come.
    pub(super) fn timeout(&mut self, now: Duration) -> Vec<Action> {
        if self.deadline.is_none_or(|deadline| now < deadline) {
            return Vec::new();
        }
        self.deadline = None;
        match std::mem::replace(&mut self.state, State::Over) {
            State::Selecting => self.discover(now),
            State::Requesting(offer) if self.tries < REQUESTS => self.request(now, offer),
            State::Requesting(_) => self.discover_anew(now),
            State::Rebooting(held) if self.tries < CONFIRMATIONS && !ended(&held, now) => {
                self.confirm(now, held)
            }
            State::Rebooting(held) | State::Bound(held) | State::Renewing(held) | State::Rebinding(held) => {
                self.keep(now, held)
            }
            State::Down(Some(held)) if ended(&held, now) => self.lose("the lease ran out without a cable"),
            state => self.stay(state),
        }
    }

    fn stay(&mut self, state: State) -> Vec<Action> {
        self.state = state;
        Vec::new()
    }

    /// A new exchange: new transaction number, new count.
    fn begin(&mut self, now: Duration) {
        self.xid = self.random.next();
        self.began = now;
        self.tries = 0;
    }

    fn discover_anew(&mut self, now: Duration) -> Vec<Action> {
        self.begin(now);
        self.discover(now)
    }

    fn discover(&mut self, now: Duration) -> Vec<Action> {
        self.discovers += 1;
        self.state = State::Selecting;
        let message = self.outgoing(now, Kind::Discover);
        self.sent(now);
        vec![Action::Broadcast {
            from: Ipv4Addr::UNSPECIFIED,
            message,
        }]
    }

    fn request(&mut self, now: Duration, offer: Lease) -> Vec<Action> {
        let message = Outgoing {
            requested: Some(offer.address),
            server: Some(offer.server),
            ..self.outgoing(now, Kind::Request)
        };
        self.sent(now);
        self.state = State::Requesting(offer);
        vec![Action::Broadcast {
            from: Ipv4Addr::UNSPECIFIED,
            message,
        }]
    }

    fn confirm(&mut self, now: Duration, held: Held) -> Vec<Action> {
        let message = Outgoing {
            requested: Some(held.lease.address),
            ..self.outgoing(now, Kind::Request)
        };
        self.sent(now);
        self.state = State::Rebooting(held);
        vec![Action::Broadcast {
            from: Ipv4Addr::UNSPECIFIED,
            message,
        }]
    }

    /// A lease is held and something is due: nothing yet, a renewal, a rebinding, or its end.
    fn keep(&mut self, now: Duration, held: Held) -> Vec<Action> {
        let (t1, t2) = (held.after(held.lease.t1), held.after(held.lease.t2));
        let Some(end) = held.end() else {
            return self.stay(State::Bound(held));
        };
        if now >= end {
            return self.lose("the lease ran out and no server renewed it");
        }
        if now < t1 {
            self.deadline = Some(t1);
            return self.stay(State::Bound(held));
        }
        self.begin(now);
        self.asked = now;
        let from = held.lease.address;
        let message = Outgoing {
            ciaddr: from,
            ..self.outgoing(now, Kind::Request)
        };
        let next = if now < t2 { t2 } else { end };
        self.deadline = Some(next.min(now + RENEW_PAUSE.max((next - now) / 2)));
        if now < t2 {
            let to = held.lease.server;
            self.state = State::Renewing(held);
            vec![Action::Unicast { from, to, message }]
        } else {
            self.state = State::Rebinding(held);
            vec![Action::Broadcast { from, message }]
        }
    }

    fn bind(&mut self, lease: Lease, action: fn(Lease) -> Action) -> Vec<Action> {
        let held = Held {
            since: self.asked,
            lease: lease.clone(),
        };
        self.deadline = held.end().map(|_| held.after(lease.t1));
        self.state = State::Bound(held);
        vec![action(lease)]
    }

    /// An acknowledgement for a lease that is held counts only for that very address.
    fn extend(&mut self, held: Held, reply: &Reply, otherwise: fn(Held) -> State) -> Vec<Action> {
        match Lease::from_reply(reply) {
            Some(lease) if lease.address == held.lease.address => self.bind(lease, Action::Renewed),
            _ => self.stay(otherwise(held)),
        }
    }

    fn lose(&mut self, what: &'static str) -> Vec<Action> {
        self.deadline = None;
        self.state = State::Over;
        vec![Action::Lost { what }]
    }

    fn sent(&mut self, now: Duration) {
        if self.tries == 0 {
            self.asked = now;
        }
        let pause = self.pause(self.tries);
        self.tries += 1;
        self.deadline = Some(now + pause);
    }

    /// 1, 2, 4 … 32 s, each up to a quarter more or less.
    fn pause(&mut self, tries: u32) -> Duration {
        let base = 1000
            * 1u32
                .checked_shl(tries)
                .unwrap_or(LONGEST_PAUSE)
                .min(LONGEST_PAUSE);
        Duration::from_millis(u64::from(base - base / 4 + self.random.next() % (base / 2)))
    }

    fn outgoing(&self, now: Duration, kind: Kind) -> Outgoing {
        Outgoing {
            kind,
            xid: self.xid,
            secs: now
                .saturating_sub(self.began)
                .as_secs()
                .try_into()
                .unwrap_or(u16::MAX),
            mac: self.mac,
            // Two tries without the flag, then in turn: neither kind of server is left out.
            answer: if self.tries >= 2 && self.tries.is_multiple_of(2) {
                Answer::Broadcast
            } else {
                Answer::Unicast
            },
            ciaddr: Ipv4Addr::UNSPECIFIED,
            requested: None,
            server: None,
            hostname: self.hostname.clone(),
        }
    }
}

fn ended(held: &Held, now: Duration) -> bool {
    held.end().is_some_and(|end| now >= end)
}

/// Xorshift: numbers that two machines started together do not share. Nothing is kept secret by them.
#[derive(Debug, Clone)]
pub(super) struct Random(pub u64);

impl Random {
    pub(super) fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 32) as u32
    }
}
