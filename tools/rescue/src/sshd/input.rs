//! What a client sends into one channel, until somebody takes it.
//!
//! Taken from russh as it comes, never held back there (see [`super::gate`] for why), and counted at the gate.

use super::gate::Gate;
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::Notify;

/// Input that may wait in all channels of a connection together; only a client that ignores its windows, or has very many channels, gets there.
pub const MOST_INPUT: usize = 32 << 20;

/// A channel with less than this waiting is not the one to end when there is too much.
const FAIR_SHARE: usize = 1 << 20;

/// What waits.
#[derive(Debug)]
pub struct Input {
    gate: Arc<Gate>,
    state: Mutex<Waiting>,
    news: Notify,
    fed: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    data: VecDeque<Bytes>,
    bytes: usize,
    ended: bool,
    unwanted: bool,
}

/// Whether there is room for more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// There is.
    Left,
    /// Too much waits, and much of it here.
    Gone,
}

impl Input {
    /// Nothing yet, counted at `gate`.
    pub fn new(gate: &Arc<Gate>) -> Input {
        Input {
            gate: Arc::clone(gate),
            state: Mutex::default(),
            news: Notify::new(),
            fed: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, Waiting> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps `data`.
    pub fn add(&self, data: &Bytes) -> Room {
        let mut state = self.state();
        let mut room = Room::Left;
        if !state.unwanted {
            let altogether = self.gate.queued(data.len());
            state.bytes += data.len();
            state.data.push_back(data.clone());
            if altogether > MOST_INPUT && state.bytes > FAIR_SHARE {
                room = Room::Gone;
            }
        }
        self.news.notify_one();
        room
    }

    /// The client sends no more.
    pub fn end(&self) {
        self.state().ended = true;
        self.news.notify_one();
    }

    /// Nobody reads any more: what waits and what comes is thrown away.
    fn refuse(&self) {
        let mut state = self.state();
        state.unwanted = true;
        state.data.clear();
        self.gate.taken(std::mem::take(&mut state.bytes));
    }

    /// The next piece, which counts as waiting until [`Input::done`]; `None` at the end.
    pub async fn next(&self) -> Option<Bytes> {
        loop {
            {
                let mut state = self.state();
                if let Some(data) = state.data.pop_front() {
                    return Some(data);
                }
                if state.ended {
                    return None;
                }
            }
            self.news.notified().await;
        }
    }

    /// What follows the piece that came last, as far as it is there already and has no more than `room` bytes.
    pub fn more(&self, room: usize) -> Option<Bytes> {
        let mut state = self.state();
        let fits = state.data.front().is_some_and(|data| data.len() <= room);
        if fits { state.data.pop_front() } else { None }
    }

    /// So many bytes have been taken; whether that went `well`. After an error the rest is thrown away.
    pub fn done(&self, bytes: usize, well: bool) {
        {
            let mut state = self.state();
            state.bytes = state.bytes.saturating_sub(bytes);
            self.gate.taken(bytes);
        }
        if !well {
            self.refuse();
        }
    }

    /// Writes all that comes to `to`, and ends it when the client has ended.
    pub async fn feed(&self, mut to: impl AsyncWrite + Unpin) {
        while let Some(data) = self.next().await {
            let written = to.write_all(&data).await;
            self.done(data.len(), written.is_ok());
        }
        crate::output::ignore(to.shutdown().await);
        self.fed.notify_one();
    }

    /// Returns when [`Input::feed`] has written everything and ended.
    pub async fn fed(&self) {
        self.fed.notified().await;
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        let bytes = self.state().bytes;
        self.gate.taken(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_there_already_follows_as_far_as_there_is_room() {
        let input = Input::new(&Gate::new());
        for piece in ["one", "three", "five!"] {
            input.add(&Bytes::from_static(piece.as_bytes()));
        }
        assert_eq!(input.next().await.as_deref(), Some(&b"one"[..]));
        assert_eq!(input.more(4), None);
        assert_eq!(input.more(5).as_deref(), Some(&b"three"[..]));
        assert_eq!(input.more(usize::MAX).as_deref(), Some(&b"five!"[..]));
        assert_eq!(input.more(usize::MAX), None);
    }

    #[test]
    fn of_many_channels_the_one_that_keeps_much_waiting_has_to_go() {
        let gate = Gate::new();
        let (much, little) = (Input::new(&gate), Input::new(&gate));
        let piece = Bytes::from(vec![0; FAIR_SHARE]);
        for _ in 0..MOST_INPUT / FAIR_SHARE {
            assert_eq!(much.add(&piece), Room::Left);
        }
        assert_eq!(little.add(&piece), Room::Left);
        assert_eq!(much.add(&piece), Room::Gone);
        drop(much);
        assert_eq!(little.add(&piece), Room::Left);
    }
}
