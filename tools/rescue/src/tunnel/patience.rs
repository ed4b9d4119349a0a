//! A socket that is not waited for longer than is good for others.
//!
//! Too much that waits for one connection slows down the reading of its bastion's socket (see [`Gate`]), and with it every other connection of
//! that tunnel; russh's client grants windows whatever waits, so that in the end one of them would have to go. So a write that does not go on
//! for [`STUCK`] fails when it is in somebody's way, and only then.

use crate::sshd::gate::Gate;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

/// How long a connection may take nothing when it is in the way.
const STUCK: Duration = Duration::from_secs(60);

/// Waiting bytes of all connections of a bastion from which on one that takes nothing is in the way.
const MUCH: usize = 512 << 10;

/// The socket; `crowd` tells whether there are other connections.
pub struct Patience<F> {
    socket: TcpStream,
    gate: Arc<Gate>,
    crowd: F,
    limit: Duration,
    waited: Option<Pin<Box<Sleep>>>,
}

impl<F: Fn() -> bool> Patience<F> {
    /// For a connection counted at `gate`.
    pub fn new(socket: TcpStream, gate: Arc<Gate>, crowd: F) -> Patience<F> {
        Patience {
            socket,
            gate,
            crowd,
            limit: STUCK,
            waited: None,
        }
    }

    /// Whether it is time to give up; woken again when it may be.
    fn is_stuck(&mut self, cx: &mut Context<'_>) -> bool {
        let limit = self.limit;
        let waited = self.waited.get_or_insert_with(|| Box::pin(sleep(limit)));
        while waited.as_mut().poll(cx).is_ready() {
            if (self.crowd)() && self.gate.queued(0) >= MUCH {
                return true;
            }
            waited.set(sleep(limit));
        }
        false
    }
}

impl<F: Fn() -> bool + Unpin> AsyncRead for Patience<F> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl<F: Fn() -> bool + Unpin> AsyncWrite for Patience<F> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(cx, data);
        if written.is_ready() {
            self.waited = None;
        } else if self.is_stuck(cx) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;
    use tokio::time::timeout;

    /// Writes to somebody who does not read, until that fails or so much time is over.
    async fn write_to_nobody(waiting: usize, crowd: bool, at_most: Duration) -> Option<io::ErrorKind> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let _unread = listener.accept().await.unwrap();
        let gate = Gate::new();
        gate.queued(waiting);
        let mut patience = Patience::new(socket, gate, || crowd);
        patience.limit = Duration::from_millis(50);
        let data = vec![0; 64 << 20];
        let written = timeout(at_most, patience.write_all(&data)).await;
        written
            .ok()
            .and_then(|written| written.err().map(|error| error.kind()))
    }

    #[test]
    fn only_who_takes_nothing_while_much_waits_and_others_are_there_is_given_up() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let (soon, late) = (Duration::from_millis(500), Duration::from_secs(60));
            let given_up = write_to_nobody(MUCH, true, late).await;
            assert_eq!(given_up, Some(io::ErrorKind::TimedOut));
            assert_eq!(write_to_nobody(MUCH, false, soon).await, None);
            assert_eq!(write_to_nobody(MUCH - 1, true, soon).await, None);
        });
    }
}
