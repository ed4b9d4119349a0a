//! One connection through a tunnel: bytes both ways between a channel of the bastion and this machine's ssh server.
//!
//! russh opens a channel's window again whether or not anybody took the data, so what waits is counted at the connection's
//! [`Gate`], which stops reading the bastion's socket when it is too much. That stops every channel of the bastion; one that takes nothing
//! for [`STUCK`] while others wait is ended for their sake.

use crate::sshd::gate::Gate;
use bytes::Bytes;
use russh::client::Msg;
use russh::{Channel, ChannelMsg, ChannelReadHalf, ChannelWriteHalf};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{sleep, timeout};

/// How long a connection may take nothing while much waits for it and others wait for that.
const STUCK: Duration = Duration::from_secs(120);

/// What waits for one connection, from which on it is held to be in the way.
const MUCH: usize = 256 << 10;

/// Bytes read at a time.
const CHUNK: usize = 32 << 10;

/// Carries bytes until both directions have ended, or one end is gone. `crowd` tells whether there are other connections.
pub async fn carry(channel: Channel<Msg>, local: TcpStream, gate: Arc<Gate>, crowd: impl Fn() -> bool) {
    let (mut from_far, to_far) = channel.split();
    let (from_near, to_near) = local.into_split();
    let owed = Owed {
        gate: Arc::clone(&gate),
        bytes: AtomicUsize::new(0),
    };
    let (queue, queued) = unbounded_channel();
    let both = async {
        let inward = feed(queued, to_near, &owed, crowd);
        let outward = fetch(from_near, &to_far, &gate);
        // An end that breaks ends the other direction too.
        tokio::try_join!(inward, outward)
    };
    let mut messages = pin!(receive(&mut from_far, queue, &owed));
    tokio::select! {
        ended = both => drop(ended),
        () = &mut messages => {}
    }
    // The bastion may be gone by now, which nobody is left to be told.
    drop(to_far.close().await);
}

/// Bytes counted at the gate that nobody has taken yet; let go of when the connection ends.
struct Owed {
    gate: Arc<Gate>,
    bytes: AtomicUsize,
}

impl Owed {
    fn add(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.gate.queued(bytes);
    }

    fn take(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.gate.taken(bytes);
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        self.gate.taken(self.bytes.load(Ordering::Relaxed));
    }
}

/// Takes what the bastion sends at once, so that the session's own loop never waits; returns when the channel is closed.
async fn receive(from_far: &mut ChannelReadHalf, queue: UnboundedSender<Bytes>, owed: &Owed) {
    let mut queue = Some(queue);
    while let Some(message) = from_far.wait().await {
        match message {
            ChannelMsg::Data { data } => {
                if let Some(queue) = &queue {
                    owed.add(data.len());
                    if let Err(refused) = queue.send(data) {
                        owed.take(refused.0.len());
                    }
                }
            }
            ChannelMsg::Eof => queue = None,
            ChannelMsg::Close => return,
            _ => {}
        }
    }
}

/// Feeds the near end, and tells it when the far one has said all.
async fn feed(
    mut queued: UnboundedReceiver<Bytes>,
    mut to_near: OwnedWriteHalf,
    owed: &Owed,
    crowd: impl Fn() -> bool,
) -> io::Result<()> {
    while let Some(data) = queued.recv().await {
        let mut rest = data.as_ref();
        while !rest.is_empty() {
            match timeout(STUCK, to_near.write(rest)).await {
                Ok(written) => {
                    let count = written?;
                    owed.take(count);
                    rest = rest.get(count..).unwrap_or_default();
                }
                Err(_) if crowd() && owed.bytes.load(Ordering::Relaxed) >= MUCH => {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                Err(_) => {}
            }
        }
    }
    to_near.shutdown().await
}

/// Sends what the near end says, as the far one's window allows, and then its end.
async fn fetch(
    mut from_near: OwnedReadHalf,
    to_far: &ChannelWriteHalf<Msg>,
    gate: &Arc<Gate>,
) -> io::Result<()> {
    let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
    let mut buffer = vec![0; CHUNK];
    loop {
        let count = from_near.read(&mut buffer).await?;
        let Some(data) = buffer.get(..count).filter(|data| !data.is_empty()) else {
            return to_far.eof().await.map_err(gone);
        };
        let mut sending = pin!(to_far.data_bytes(Bytes::copy_from_slice(data)));
        let mut starving = None;
        loop {
            tokio::select! {
                biased;
                sent = &mut sending => {
                    sent.map_err(gone)?;
                    break;
                }
                () = sleep(Duration::from_millis(50)) => {}
            }
            // The window comes behind what is not being read.
            if starving.is_none() && to_far.writable_packet_size().await == 0 {
                starving = Some(gate.starving());
            }
        }
    }
}
