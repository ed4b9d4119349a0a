//! The way out of one channel: what a program or a connection says, sent as the client's window allows.

use bytes::Bytes;
use russh::{ChannelId, ChannelMsg, ChannelWriteHalf};
use std::io;
use std::pin::pin;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::sync::watch;
use tokio::time::timeout;

/// How long output may be silent after the program's end before it is taken for complete.
pub const GRACE: Duration = Duration::from_millis(700);

/// Bytes read from a connection at a time.
const CHUNK: usize = 32 << 10;

/// What output comes from.
pub trait Source {
    /// Some bytes; none at the end.
    async fn read(&mut self) -> io::Result<Bytes>;
}

/// A pipe or a socket.
pub struct Pipe<R>(pub R);

impl<R: AsyncRead + Unpin> Source for Pipe<R> {
    async fn read(&mut self) -> io::Result<Bytes> {
        let mut piece = Vec::with_capacity(CHUNK);
        self.0.read_buf(&mut piece).await?;
        Ok(exact(piece))
    }
}

/// Without the room that was left: a line of output may wait long for the client's window.
pub fn exact(mut piece: Vec<u8>) -> Bytes {
    piece.shrink_to_fit();
    piece.into()
}

/// The way out to the other side, by a server's messages or a client's.
pub struct Out<'a, M: From<(ChannelId, ChannelMsg)>> {
    /// The channel.
    pub write: &'a ChannelWriteHalf<M>,
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
        loop {
            let data = {
                let mut reading = pin!(source.read());
                let early = tokio::select! {
                    biased;
                    read = &mut reading => Some(read),
                    () = ended(&mut end) => None,
                };
                match early {
                    Some(read) => read?,
                    None => match timeout(GRACE, reading).await {
                        Ok(read) => read?,
                        Err(_) => return Ok(()),
                    },
                }
            };
            if data.is_empty() || self.send(data, extended).await.is_err() {
                return Ok(());
            }
        }
    }

    async fn send(&self, data: Bytes, extended: Option<u32>) -> Result<(), russh::Error> {
        match extended {
            Some(code) => self.write.extended_data_bytes(code, data).await,
            None => self.write.data_bytes(data).await,
        }
    }
}

/// Returns when the program has ended.
async fn ended(end: &mut watch::Receiver<bool>) {
    if end.wait_for(|ended| *ended).await.is_err() {
        std::future::pending().await
    }
}
