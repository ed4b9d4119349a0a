//! This side of the pipes of a program that has no terminal.
//!
//! The thing a reader would get wrong: that they do not block is not enough. A program that moves bytes inside the kernel
//! (`splice`, `sendfile`; busybox's `cat` does) keeps the pipe locked as long as its source is silent or its target full,
//! and a read or write from here then waits for the lock, whatever `O_NONBLOCK` says and not to be ended by a signal: in
//! the one thread of the server that would be the end of every session. So each read and write is done in another thread,
//! where it can wait; that there is something to do is asked without the lock.

use super::pump::{Source, exact, readable};
use bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use tokio::io::unix::AsyncFd;
use tokio::task::spawn_blocking;

/// What the kernel keeps of a program's output, see pipe(7): fewer and larger pieces go the way through the other thread.
const PIPE: usize = 64 << 10;

/// The same for its input. What comes while a piece is on its way through the other thread goes with the next one.
pub const ROOM: usize = 256 << 10;

/// Where a program's output comes from.
#[derive(Debug)]
pub struct Outlet(AsyncFd<Arc<OwnedFd>>);

/// Where a program's input goes.
#[derive(Debug)]
pub struct Inlet(AsyncFd<Arc<OwnedFd>>);

/// A pipe for the output of a program, which gets the second end.
///
/// # Errors
/// Too many descriptors.
pub fn outlet() -> io::Result<(Outlet, OwnedFd)> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    Ok((Outlet(watched(reader)?), writer))
}

/// A pipe for the input of a program, which gets the second end.
///
/// # Errors
/// Too many descriptors.
pub fn inlet() -> io::Result<(Inlet, OwnedFd)> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    // Without the room it is only slower; root has it always.
    crate::output::ignore(
        fcntl_setpipe_size(&writer, ROOM)
            .map(drop)
            .map_err(io::Error::from),
    );
    Ok((Inlet(watched(writer)?), reader))
}

fn watched(fd: OwnedFd) -> io::Result<AsyncFd<Arc<OwnedFd>>> {
    let flags = fcntl_getfl(&fd)?;
    fcntl_setfl(&fd, flags | OFlags::NONBLOCK)?;
    #[expect(
        deprecated,
        reason = "what makes it unsound is a descriptor that changes; an OwnedFd does not, and its successor is unsafe"
    )]
    AsyncFd::new(Arc::new(fd))
}

/// Where it may wait.
async fn elsewhere<T: Send + 'static>(
    fd: &AsyncFd<Arc<OwnedFd>>,
    work: impl FnOnce(&OwnedFd) -> Result<T, Errno> + Send + 'static,
) -> Result<T, io::Error> {
    let fd = Arc::clone(fd.get_ref());
    let done = spawn_blocking(move || work(&fd)).await;
    Ok(done.map_err(io::Error::other)??)
}

impl Source for Outlet {
    async fn ready(&mut self) -> io::Result<()> {
        readable(&self.0).await
    }

    /// Dropped before it is done, what was read may be lost.
    async fn read(&mut self) -> io::Result<Bytes> {
        loop {
            let mut ready = self.0.readable().await?;
            let read = elsewhere(&self.0, |fd| {
                let mut piece = Vec::with_capacity(PIPE);
                rustix::io::read(fd, spare_capacity(&mut piece))?;
                Ok(piece)
            });
            match read.await {
                Ok(piece) => return Ok(exact(piece)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl Inlet {
    /// Writes all of `data`.
    ///
    /// # Errors
    /// The program reads no more.
    pub async fn write_all(&self, data: Vec<Bytes>) -> io::Result<()> {
        let mut left = VecDeque::from(data);
        while !left.is_empty() {
            let mut ready = self.0.writable().await?;
            let write = elsewhere(&self.0, move |fd| {
                let written = write_what_fits(fd, &mut left);
                Ok((written, left))
            });
            let written;
            (written, left) = write.await?;
            match written {
                Ok(()) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => ready.clear_ready(),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// Writes until everything is written or an error comes, and drops what is written.
fn write_what_fits(fd: &OwnedFd, left: &mut VecDeque<Bytes>) -> Result<(), Errno> {
    while !left.is_empty() {
        let pieces: Vec<IoSlice<'_>> = left.iter().map(|piece| IoSlice::new(piece)).collect();
        let mut written = rustix::io::writev(fd, &pieces)?;
        while let Some(piece) = left.front_mut() {
            let count = written.min(piece.len());
            drop(piece.split_to(count));
            written -= count;
            if !piece.is_empty() {
                break;
            }
            left.pop_front();
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Read as _;
    use std::time::Duration;

    /// More than the pipe holds, in pieces that end nowhere in particular.
    fn pieces() -> Vec<Bytes> {
        (1..=90_usize)
            .map(|number| {
                (0..number * 331)
                    .map(|at| (at * number) as u8)
                    .collect::<Vec<u8>>()
            })
            .map(Bytes::from)
            .collect()
    }

    #[tokio::test]
    async fn a_slow_reader_gets_every_byte_in_its_place() {
        let (inlet, reader) = inlet().unwrap();
        let reading = std::thread::spawn(move || {
            let (mut reader, mut all) = (File::from(reader), Vec::new());
            let mut piece = [0; 7001];
            loop {
                std::thread::sleep(Duration::from_millis(1));
                match reader.read(&mut piece).unwrap() {
                    0 => return all,
                    count => all.extend_from_slice(&piece[..count]),
                }
            }
        });
        inlet.write_all(pieces()).await.unwrap();
        drop(inlet);
        assert!(pieces().concat().len() > 4 * ROOM);
        assert!(reading.join().unwrap() == pieces().concat());
    }

    #[tokio::test]
    async fn a_reader_that_stops_in_the_middle_is_an_error() {
        let (inlet, reader) = inlet().unwrap();
        let reading = std::thread::spawn(move || File::from(reader).read_exact(&mut [0; 7001]).unwrap());
        let error = inlet.write_all(pieces()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        reading.join().unwrap();
    }
}
