//! The serial console: a log file to read, a socket to type into.

use anyhow::{Context, Result};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// Bytes that the emulated port (a 16550A) takes at once.
const FIFO: usize = 16;
/// Time for QEMU to take so many.
const BRIEF: Duration = Duration::from_millis(200);
/// Without output for so long the guest has taken what was typed.
const QUIET: Duration = Duration::from_millis(500);
/// A guest that never stops talking is not waited for longer.
const LONGEST: Duration = Duration::from_secs(10);

/// Everything shown so far.
pub(super) fn read(dir: &Path) -> Result<String> {
    let path = dir.join("console.log");
    match std::fs::read(&path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).replace('\r', "")),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(error).with_context(|| path.display().to_string()),
    }
}

/// Types `text`.
pub(super) fn type_text(dir: &Path, text: &str) -> Result<()> {
    let path = dir.join("console");
    let mut socket = UnixStream::connect(&path).with_context(|| path.display().to_string())?;
    socket.write_all(text.as_bytes()).context("console")?;
    // QEMU takes typed bytes only as fast as the emulated port does, and what it has not taken is lost when we hang up: the guest
    // has everything when it says no more. A few keys go at once, and what answers them may be waited for. While we are connected
    // its output must be read.
    let (quiet, reads) = match text.len() {
        0..=FIFO => (BRIEF, 2),
        _ => (QUIET, usize::MAX),
    };
    socket.set_read_timeout(Some(quiet)).context("console")?;
    let until = Instant::now() + LONGEST;
    let mut bytes = [0; 4096];
    for _ in 0..reads {
        if Instant::now() > until || !matches!(socket.read(&mut bytes), Ok(1..)) {
            break;
        }
    }
    Ok(())
}
