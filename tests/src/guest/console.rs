//! The serial console: a log file to read, a socket to type into.

use anyhow::{Context, Result};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

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
    // QEMU takes typed bytes as fast as the emulated port does; while we are connected its output must be read.
    socket
        .set_read_timeout(Some(Duration::from_millis(200)))
        .context("console")?;
    let mut bytes = [0; 4096];
    for _ in 0..5 {
        if let Ok(0) = socket.read(&mut bytes) {
            break;
        }
    }
    Ok(())
}
