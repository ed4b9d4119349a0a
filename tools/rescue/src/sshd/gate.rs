//! The valve between a client's socket and russh: flow control and liveness.
//!
//! russh opens a channel's receive window again as soon as data has arrived, whether or not anybody took it, and its
//! session loop stops for everything while one channel's queue is full. So nothing here ever blocks in that loop:
//! channels take their data at once and count it, and when too much waits the valve stops reading the *socket*, which
//! pushes back through TCP. Writing goes on meanwhile, so that a program which writes while it is being written to
//! (`ssh device cat <big`) cannot lock up.
//!
//! The thing a reader would get wrong: while output waits for the client's window ([`Gate::starving`]) the valve has
//! to stay open, because the window is granted by a message that lies behind the data. It is then only narrowed, the more
//! the more waits: one channel may starve for hours (a paused download) while another's input goes to a slow disk.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

/// Bytes of input that may wait for a program before the socket is left alone.
const BACKLOG: usize = 1 << 20;

/// Pause between two reads of the socket, for each [`BACKLOG`] that waits. A packet of 32 KiB is two reads.
const PACE: Duration = Duration::from_millis(2);

/// What the socket, the channels and the watcher of one connection share.
#[derive(Debug)]
pub struct Gate {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    backlog: usize,
    starving: usize,
    stalled: bool,
    heard: Instant,
    closed: Option<&'static str>,
    authenticated: bool,
    refused: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Gate {
    /// A gate for a connection that was just accepted.
    pub fn new() -> Arc<Gate> {
        Arc::new(Gate {
            state: Mutex::new(State {
                backlog: 0,
                starving: 0,
                stalled: false,
                heard: Instant::now(),
                closed: None,
                authenticated: false,
                refused: false,
                reader: None,
                writer: None,
            }),
        })
    }

    // Nothing below can panic while the lock is held, so a poisoned lock is still sound.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `bytes` more of input wait for somebody; how many do now, in all channels.
    pub fn queued(&self, bytes: usize) -> usize {
        let mut state = self.state();
        state.backlog += bytes;
        state.backlog
    }

    /// `bytes` of input were taken by a program, or thrown away because it ended.
    pub fn taken(&self, bytes: usize) {
        let mut state = self.state();
        state.backlog = state.backlog.saturating_sub(bytes);
        state.wake_reader_if_open();
    }

    /// Output waits for the client's window, until the guard is dropped.
    pub fn starving(self: &Arc<Gate>) -> Starving {
        let mut state = self.state();
        state.starving += 1;
        state.wake_reader_if_open();
        Starving {
            gate: Arc::clone(self),
        }
    }

    /// Ends the connection: the next read or write of it fails.
    pub fn close(&self, why: &'static str) {
        let mut state = self.state();
        state.closed.get_or_insert(why);
        for waker in [state.reader.take(), state.writer.take()].into_iter().flatten() {
            waker.wake();
        }
    }

    /// Whether the connection was ended from here.
    pub fn is_closed(&self) -> bool {
        self.state().closed.is_some()
    }

    /// The client has shown an authorized key.
    pub fn authenticate(&self) {
        self.state().authenticated = true;
    }

    /// The client has shown a key that was not taken.
    pub fn refuse(&self) {
        self.state().refused = true;
    }

    /// Whether the client has shown a key that was not taken.
    pub fn has_refused(&self) -> bool {
        self.state().refused
    }

    /// Whether the client has shown an authorized key.
    pub fn is_authenticated(&self) -> bool {
        self.state().authenticated
    }

    /// How long the client has said nothing although it was listened to.
    pub fn silent_for(&self) -> Duration {
        let state = self.state();
        if state.stalled {
            Duration::ZERO
        } else {
            state.heard.elapsed()
        }
    }
}

impl State {
    fn open(&self) -> bool {
        self.backlog < BACKLOG || self.starving > 0
    }

    /// How long to wait before the next read; about as long as a megabyte of what waits may take to be written.
    fn pace(&self) -> Duration {
        let megabytes = u32::try_from(self.backlog / BACKLOG).unwrap_or(u32::MAX);
        PACE.saturating_mul(megabytes)
    }

    fn wake_reader_if_open(&mut self) {
        if self.stalled && self.open() {
            self.stalled = false;
            // The time spent not listening does not count as silence.
            self.heard = Instant::now();
            if let Some(waker) = self.reader.take() {
                waker.wake();
            }
        }
    }

    fn closed(&self) -> Option<io::Error> {
        self.closed
            .map(|why| io::Error::new(io::ErrorKind::ConnectionAborted, why))
    }
}

/// Output is waiting for the client's window as long as this lives.
#[derive(Debug)]
pub struct Starving {
    gate: Arc<Gate>,
}

impl Drop for Starving {
    fn drop(&mut self) {
        let mut state = self.gate.state();
        state.starving = state.starving.saturating_sub(1);
    }
}

/// A client's socket behind its gate.
#[derive(Debug)]
pub struct Line {
    socket: TcpStream,
    gate: Arc<Gate>,
    was_full: bool,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Line {
    /// Puts `socket` behind `gate`.
    pub fn new(socket: TcpStream, gate: Arc<Gate>) -> Line {
        Line {
            socket,
            gate,
            was_full: false,
            pause: None,
        }
    }

    fn ready_to_write(&self, cx: &Context<'_>) -> io::Result<()> {
        let mut state = self.gate.state();
        state.writer = Some(cx.waker().clone());
        state.closed().map_or(Ok(()), Err)
    }
}

impl AsyncRead for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let pace = {
            let mut state = self.gate.state();
            if let Some(error) = state.closed() {
                return Poll::Ready(Err(error));
            }
            state.reader = Some(cx.waker().clone());
            if !state.open() {
                state.stalled = true;
                return Poll::Pending;
            }
            state.pace()
        };
        if pace.is_zero() {
            self.pause = None;
        } else {
            let pause = self.pause.get_or_insert_with(|| Box::pin(sleep(pace)));
            std::task::ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        let before = buf.filled().len();
        let poll = Pin::new(&mut self.socket).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.gate.state().heard = Instant::now();
        }
        poll
    }
}

impl AsyncWrite for Line {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.ready_to_write(cx)?;
        let poll = Pin::new(&mut self.socket).poll_write(cx, data);
        match poll {
            Poll::Pending => self.was_full = true,
            // The socket's buffer was full and has room: the client acknowledged something. russh reads nothing while
            // it writes, so on a slow link this is the only sign of life.
            Poll::Ready(Ok(_)) if self.was_full => {
                self.was_full = false;
                self.gate.state().heard = Instant::now();
            }
            Poll::Ready(_) => {}
        }
        poll
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.ready_to_write(cx)?;
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.ready_to_write(cx)?;
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_backlog_stops_reading_until_it_is_taken() {
        let gate = Gate::new();
        gate.queued(BACKLOG);
        assert!(!gate.state().open());
        gate.taken(1);
        assert!(gate.state().open());
    }

    #[test]
    fn output_that_waits_for_the_window_keeps_the_gate_open() {
        let gate = Gate::new();
        gate.queued(BACKLOG);
        let starving = gate.starving();
        assert!(gate.state().open());
        drop(starving);
        assert!(!gate.state().open());
    }

    #[test]
    fn the_more_waits_the_slower_it_is_read() {
        let gate = Gate::new();
        gate.queued(BACKLOG - 1);
        assert_eq!(gate.state().pace(), Duration::ZERO);
        gate.queued(7 * BACKLOG + 1);
        assert_eq!(gate.state().pace(), 8 * PACE);
    }

    #[test]
    fn a_stalled_client_is_not_silent() {
        let gate = Gate::new();
        gate.state().heard = Instant::now().checked_sub(Duration::from_secs(100)).unwrap();
        assert!(gate.silent_for() > Duration::from_secs(99));
        gate.state().stalled = true;
        assert_eq!(gate.silent_for(), Duration::ZERO);
    }
}
