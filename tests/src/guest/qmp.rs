//! QEMU's control socket, one command a connection.

use crate::deadline::Deadline;
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Gives a command and waits for its answer.
pub(super) fn command(dir: &Path, name: &str, arguments: &Value) -> Result<()> {
    let path = dir.join("qmp");
    // A guest that has only just been started makes it in a moment.
    let socket =
        Deadline::after(60).wait_for("QEMU's control socket", || Ok(UnixStream::connect(&path).ok()))?;
    socket
        .set_read_timeout(Some(Duration::from_secs(60)))
        .context("QEMU's control socket")?;
    let mut reader = BufReader::new(socket.try_clone().context("QEMU's control socket")?);
    let mut greeting = String::new();
    reader.read_line(&mut greeting).context("QEMU's greeting")?;
    ask(&socket, &mut reader, &json!({"execute": "qmp_capabilities"}))?;
    ask(
        &socket,
        &mut reader,
        &json!({"execute": name, "arguments": arguments}),
    )
}

fn ask(mut socket: &UnixStream, reader: &mut impl BufRead, request: &Value) -> Result<()> {
    socket
        .write_all(format!("{request}\n").as_bytes())
        .context("QEMU's control socket")?;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).context("QEMU's answer")? == 0 {
            bail!("QEMU hung up on {request}");
        }
        let answer: Value = serde_json::from_str(&line).with_context(|| line.clone())?;
        // Anything else is news about the machine.
        if answer.get("return").is_some() {
            return Ok(());
        }
        if let Some(error) = answer.get("error") {
            bail!("QEMU: {request}: {error}");
        }
    }
}
