//! The way out of one channel: what a program or a connection says, sent as the client's window allows.

use bytes::Bytes;
use russh::{ChannelId, ChannelMsg, ChannelWriteHalf};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::sync::watch;
use tokio::time::sleep;

/// How long output may be silent after the program's end before it is taken for complete.
pub const GRACE: Duration = Duration::from_millis(700);

/// How long it may take after the program's end to read what is there: a machine with much to do is slow, and a child left behind may keep
/// the pipe locked for ever (see [`super::pipes`]).
const PATIENCE: Duration = Duration::from_secs(15);

/// Bytes read from a connection at a time.
const CHUNK: usize = 32 << 10;

/// What output comes from.
pub trait Source {
    /// Returns when there is something to read, be it the end; at once where that cannot be told without reading.
    async fn ready(&mut self) -> io::Result<()>;

    /// Some bytes; none at the end.
    async fn read(&mut self) -> io::Result<Bytes>;
}

/// Returns when there is something to read from `fd`. What tokio knows of it may be of before the last read.
pub async fn readable<T: AsFd + AsRawFd>(fd: &AsyncFd<T>) -> io::Result<()> {
    loop {
        let mut ready = fd.readable().await?;
        let mut polled = [PollFd::new(fd.get_ref(), PollFlags::IN)];
        match poll(&mut polled, Some(&Timespec::default())) {
            Ok(0) => ready.clear_ready(),
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// A pipe or a socket.
pub struct Pipe<R>(pub R);

impl<R: AsyncRead + Unpin> Source for Pipe<R> {
    async fn ready(&mut self) -> io::Result<()> {
        Ok(())
    }

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
            let data = next(&mut source, &mut end).await?;
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

/// What comes next; nothing at the end, and when the program has ended and nothing comes for a while.
async fn next(source: &mut impl Source, end: &mut watch::Receiver<bool>) -> io::Result<Bytes> {
    tokio::select! {
        biased;
        ready = source.ready() => ready?,
        () = ended(end, GRACE) => return Ok(Bytes::new()),
    }
    tokio::select! {
        biased;
        read = source.read() => read,
        () = ended(end, PATIENCE) => Ok(Bytes::new()),
    }
}

/// Returns when the program has ended and so much time is over.
async fn ended(end: &mut watch::Receiver<bool>, since: Duration) {
    if end.wait_for(|ended| *ended).await.is_err() {
        std::future::pending().await
    }
    sleep(since).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Has a word to say, now or never, and takes its time to say it.
    struct Slow {
        says: bool,
        takes: Duration,
    }

    impl Source for Slow {
        async fn ready(&mut self) -> io::Result<()> {
            if !self.says {
                std::future::pending().await
            }
            Ok(())
        }

        async fn read(&mut self) -> io::Result<Bytes> {
            sleep(self.takes).await;
            Ok(Bytes::from_static(b"word"))
        }
    }

    #[tokio::test]
    async fn what_is_there_at_the_end_is_read_however_slowly_and_what_is_not_is_not_waited_for() {
        for (says, heard) in [(true, "word"), (false, "")] {
            let takes = GRACE * 2;
            let (_program, mut end) = watch::channel(true);
            let came = next(&mut Slow { says, takes }, &mut end).await.unwrap();
            assert_eq!(came, heard);
        }
    }
}
