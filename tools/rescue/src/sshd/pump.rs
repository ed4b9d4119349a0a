//! The way out of one channel: what a program or a connection says, sent as the client's window allows.

use super::gate::Gate;
use bytes::Bytes;
use russh::{ChannelId, ChannelMsg, ChannelWriteHalf};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// How long output may be silent after the program's end before it is taken for complete.
pub const GRACE: Duration = Duration::from_millis(700);

/// Bytes read at a time.
const CHUNK: usize = 32 << 10;

/// What output comes from.
pub trait Source {
    /// Some bytes; 0 at the end.
    async fn read(&mut self, buf: &mut [u8]) -> io::Result<usize>;
}

/// A pipe or a socket.
pub struct Pipe<R>(pub R);

impl<R: AsyncRead + Unpin> Source for Pipe<R> {
    async fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf).await
    }
}

/// The way out to the other side, by a server's messages or a client's.
pub struct Out<'a, M: From<(ChannelId, ChannelMsg)>> {
    /// The channel.
    pub write: &'a ChannelWriteHalf<M>,
    /// The connection's gate.
    pub gate: &'a Arc<Gate>,
    /// Turns true when the program has ended; for a connection it never does.
    pub end: watch::Receiver<bool>,
}

impl<M: From<(ChannelId, ChannelMsg)> + Send + Sync + 'static> Out<'_, M> {
    /// Sends all that `source` gives; ends early when the program has ended and nothing comes for a while.
    ///
    /// # Errors
    /// The source's. When the client is gone that is no error: nobody is left to be told.
    pub async fn pump(&self, mut source: impl Source, extended: Option<u32>) -> io::Result<()> {
        let mut end = self.end.clone();
        let mut buffer = vec![0; CHUNK];
        loop {
            let read = {
                let mut reading = pin!(source.read(&mut buffer));
                let early = tokio::select! {
                    biased;
                    read = &mut reading => Some(read),
                    () = ended(&mut end) => None,
                };
                match early {
                    Some(read) => read,
                    None => match timeout(GRACE, reading).await {
                        Ok(read) => read,
                        Err(_) => return Ok(()),
                    },
                }
            };
            let count = read?;
            let data = buffer
                .get(..count)
                .map(Bytes::copy_from_slice)
                .unwrap_or_default();
            if data.is_empty() || self.send(data, extended).await.is_err() {
                return Ok(());
            }
        }
    }

    async fn send(&self, data: Bytes, extended: Option<u32>) -> Result<(), russh::Error> {
        let sending = async {
            match extended {
                Some(code) => self.write.extended_data_bytes(code, data).await,
                None => self.write.data_bytes(data).await,
            }
        };
        let mut sending = pin!(sending);
        let mut starving = None;
        loop {
            tokio::select! {
                biased;
                sent = &mut sending => return sent,
                () = sleep(Duration::from_millis(50)) => {}
            }
            if starving.is_none() && self.write.writable_packet_size().await == 0 {
                starving = Some(self.gate.starving());
            }
        }
    }
}

/// Returns when the program has ended.
async fn ended(end: &mut watch::Receiver<bool>) {
    if end.wait_for(|ended| *ended).await.is_err() {
        std::future::pending().await
    }
}
