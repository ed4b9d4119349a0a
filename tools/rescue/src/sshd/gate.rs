//! What the socket of a client, its channels and whoever watches it share: flow control and liveness.
//!
//! russh grants a channel a new window when data has arrived, whether or not anybody took it, and its session loop stops for
//! everything while one channel's queue is full. So nothing here ever blocks in that loop: channels take their data at once
//! and count it, and when too much waits the window is narrowed to [`NARROW`] bytes ([`Gate::window`]). The client then runs
//! out of window and sends next to nothing into that channel, while all the rest goes on: keys of other sessions, whose
//! windows are not used up, the end of a session, keepalives, windows for output, the end of the connection.
//!
//! The thing a reader would get wrong: the window must not be closed. russh looks at it when data arrives and at no other
//! time, so the few bytes that still come are what opens it again. How often they come is limited by a pause between two
//! reads of the socket, the longer the more waits; that alone slows down a client that ignores its window.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

/// Bytes of input that may wait for programs before the windows are narrowed.
const BACKLOG: usize = 1 << 20;

/// Bytes that a client may send into a channel before it hears of a new window, as long as nothing is in the way.
pub const WINDOW: u32 = 1 << 20;

/// The same while too much waits. The least that works: russh grants anew when less than half is left.
const NARROW: u32 = 2;

/// Pause between two reads of the socket, of up to 64 KiB each, for each [`BACKLOG`] that waits.
const PACE: Duration = Duration::from_millis(20);

/// What the socket, the channels and the watcher of one connection share.
#[derive(Debug)]
pub struct Gate {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    backlog: usize,
    pausing: bool,
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
                pausing: false,
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
        if state.pausing
            && state.backlog < BACKLOG
            && let Some(waker) = state.reader.take()
        {
            waker.wake();
        }
    }

    /// The window that a channel may be granted now.
    pub fn window(&self) -> u32 {
        if self.state().backlog < BACKLOG {
            WINDOW
        } else {
            NARROW
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

    /// How long the client has said nothing.
    pub fn silent_for(&self) -> Duration {
        self.state().heard.elapsed()
    }
}

impl State {
    /// How long to wait before the next read.
    fn pace(&self) -> Duration {
        let megabytes = u32::try_from(self.backlog / BACKLOG).unwrap_or(u32::MAX);
        PACE.saturating_mul(megabytes)
    }

    fn closed(&self) -> Option<io::Error> {
        self.closed
            .map(|why| io::Error::new(io::ErrorKind::ConnectionAborted, why))
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
            let pace = state.pace();
            state.pausing = !pace.is_zero();
            pace
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
    fn too_much_that_waits_narrows_the_window_until_it_is_taken() {
        let gate = Gate::new();
        gate.queued(BACKLOG - 1);
        assert_eq!(gate.window(), WINDOW);
        gate.queued(1);
        assert_eq!(gate.window(), NARROW);
        gate.taken(1);
        assert_eq!(gate.window(), WINDOW);
    }

    #[test]
    fn the_more_waits_the_slower_it_is_read() {
        let gate = Gate::new();
        gate.queued(BACKLOG - 1);
        assert_eq!(gate.state().pace(), Duration::ZERO);
        gate.queued(7 * BACKLOG + 1);
        assert_eq!(gate.state().pace(), 8 * PACE);
    }
}
