//! This side of the pipes of a program that has no terminal.
//!
//! The thing a reader would get wrong: that they do not block is not enough. A program that moves bytes inside the kernel
//! (`splice`, `sendfile`; busybox's `cat` does) keeps the pipe locked as long as its source is silent or its target full,
//! and a read or write from here then waits for the lock, whatever `O_NONBLOCK` says and not to be ended by a signal: in
//! the one thread of the server that would be the end of every session. So each read and write is done in another thread,
//! where it can wait; that there is something to do is asked without the lock.

use super::pump::{Source, exact};
use bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use tokio::io::unix::AsyncFd;
use tokio::task::spawn_blocking;

/// What the kernel keeps of a program's output, see pipe(7): fewer and larger pieces go the way through the other thread.
const PIPE: usize = 64 << 10;

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
    pub async fn write_all(&self, mut data: Bytes) -> io::Result<()> {
        while !data.is_empty() {
            let mut ready = self.0.writable().await?;
            let piece = data.clone();
            match elsewhere(&self.0, move |fd| rustix::io::write(fd, &piece)).await {
                Ok(written) => drop(data.split_to(written.min(data.len()))),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
