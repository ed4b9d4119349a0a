//! The thread that checks what was written, a little behind the thread that writes.
//!
//! It reads the bytes back from the file instead of being handed the network's buffers: what is checked is then what is
//! mounted, whatever went wrong between the two. Two cores share the work, so the check costs almost no time of its own.

use super::CHUNK;
use crate::stage::verify::{Check, Finding};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// How far the file is written.
#[derive(Default)]
pub(super) struct Mark {
    state: Mutex<State>,
    moved: Condvar,
}

#[derive(Clone, Copy, Default)]
struct State {
    written: u64,
    phase: Phase,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Growing,
    Whole,
    GivenUp,
}

impl Mark {
    /// Everything before `written` is in the file and stays as it is.
    pub(super) fn advance(&self, written: u64) {
        self.lock().written = written;
        self.moved.notify_one();
    }

    /// The file is complete with `len` bytes and cannot change any more.
    pub(super) fn whole(&self, len: u64) {
        *self.lock() = State {
            written: len,
            phase: Phase::Whole,
        };
        self.moved.notify_one();
    }

    /// Ends the wait of the checking thread on every way out, a panic included.
    pub(super) fn given_up_on_drop(&self) -> GivenUp<'_> {
        GivenUp(self)
    }

    /// Waits until a chunk lies behind `done`, or the end is known.
    fn wait(&self, done: u64) -> State {
        let waiting = |state: &mut State| {
            state.phase == Phase::Growing && state.written.saturating_sub(done) < CHUNK as u64
        };
        *self
            .moved
            .wait_while(self.lock(), waiting)
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) struct GivenUp<'m>(&'m Mark);

impl Drop for GivenUp<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        if state.phase == Phase::Growing {
            state.phase = Phase::GivenUp;
            self.0.moved.notify_one();
        }
    }
}

/// Feeds the file to `check` as it grows, until `mark` says that it is whole or given up.
pub(super) fn run(file: &File, mut check: Check, mark: &Mark) -> Finding {
    let mut buffer = if check.reads() { vec![0; CHUNK] } else { Vec::new() };
    let mut done = 0;
    loop {
        let state = mark.wait(done);
        if state.phase == Phase::GivenUp {
            return Finding::unfinished();
        }
        while check.reads() && done < state.written {
            let most = usize::try_from(state.written - done).unwrap_or(CHUNK).min(CHUNK);
            let Some(chunk) = buffer.get_mut(..most) else {
                return Finding::unfinished();
            };
            if let Err(error) = file.read_exact_at(chunk, done) {
                return Finding::unreadable(&error);
            }
            check.update(chunk);
            done += most as u64;
        }
        done = state.written;
        if state.phase == Phase::Whole {
            return check.finish(done);
        }
    }
}
