//! The serial console: a log file to read, a socket to type into.

use crate::deadline::Deadline;
use anyhow::{Context, Result};
use std::cell::RefCell;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// Where somebody types. Once connected it stays: QEMU takes typed bytes only as fast as the emulated port does, and what it has not
/// taken is lost with the connection.
#[derive(Debug, Default)]
pub(super) struct Keyboard {
    line: RefCell<Option<UnixStream>>,
}

/// Everything shown so far.
pub(super) fn read(dir: &Path) -> Result<String> {
    let path = dir.join("console.log");
    match std::fs::read(&path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).replace('\r', "")),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(error).with_context(|| path.display().to_string()),
    }
}

impl Keyboard {
    /// Types `text` into the guest in `dir`, which gets it byte by byte, however slow it is.
    pub(super) fn type_text(&self, dir: &Path, text: &str) -> Result<()> {
        let mut line = self.line.borrow_mut();
        let line = match &mut *line {
            Some(line) => line,
            none => none.insert(connect(&dir.join("console"))?),
        };
        line.write_all(text.as_bytes()).context("console")
    }
}

/// While somebody is connected the guest's output must be read, or the guest waits with it.
fn connect(path: &Path) -> Result<UnixStream> {
    let line =
        Deadline::after(60).wait_for("socket of the console", || Ok(UnixStream::connect(path).ok()))?;
    let mut output = line.try_clone().context("console")?;
    std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(1..) = output.read(&mut bytes) {}
    });
    Ok(line)
}
