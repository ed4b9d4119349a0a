//! Programs of the host, run to their end.

use crate::interrupt;
use anyhow::{Context, Result, bail};
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// A new directory of this process alone, with a path short enough for Unix sockets in it.
///
/// # Errors
/// Those of the file system.
pub fn private_dir(what_for: &str) -> Result<PathBuf> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let dir = std::env::temp_dir().join(format!("lifeboot-{what_for}-{}-{count}", std::process::id()));
    if dir.exists() {
        fs::remove_dir_all(&dir).with_context(|| dir.display().to_string())?;
    }
    fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
    Ok(dir)
}

/// What a program left behind.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Exit status; `None`: ended by a signal.
    pub status: Option<i32>,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
}

impl Outcome {
    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard error as text.
    pub fn errors(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// The same, if the status was 0.
    ///
    /// # Errors
    /// Any other end, with both outputs.
    pub fn success(self) -> Result<Outcome> {
        match self.status {
            Some(0) => Ok(self),
            status => bail!(
                "ended with {}: {}{}",
                status.map_or_else(|| "a signal".to_owned(), |code| format!("status {code}")),
                self.text(),
                self.errors()
            ),
        }
    }
}

impl From<Output> for Outcome {
    fn from(output: Output) -> Outcome {
        Outcome {
            status: output.status.code(),
            stdout: output.stdout,
            stderr: output.stderr,
        }
    }
}

/// Runs `command` with `input` on its standard input.
///
/// # Errors
/// It could not be started or fed.
pub fn run_with(command: &mut Command, input: &[u8]) -> Result<Outcome> {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("could not run: {name}"))?;
    let pipe = child.stdin.take();
    let _running = interrupt::Running::is(child.id());
    let output = std::thread::scope(|scope| {
        let feeder = scope.spawn(move || pipe.map_or(Ok(()), |mut pipe| pipe.write_all(input)));
        let output = child.wait_with_output();
        match feeder.join() {
            // A program that did not want its input is judged by its status.
            Ok(Ok(())) => output,
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => output,
            Ok(Err(error)) => Err(error),
            Err(_) => Err(std::io::Error::other("the feeding thread panicked")),
        }
    })
    .with_context(|| name)?;
    Ok(output.into())
}

/// Runs `program` without input and wants status 0; returns its standard output.
///
/// # Errors
/// It could not be started or failed; the error has its outputs.
pub fn run<S: AsRef<OsStr>>(program: &str, arguments: impl IntoIterator<Item = S>) -> Result<String> {
    let mut command = Command::new(program);
    command.args(arguments);
    Ok(run_with(&mut command, b"")?
        .success()
        .with_context(|| program.to_owned())?
        .text())
}

/// For what may fail without anybody being the worse for it: cleaning up after something that has ended already. Said only when
/// `LIFEBOOT_TEST_VERBOSE` is set.
pub fn may_fail<T, E: std::fmt::Debug>(what: &str, result: std::result::Result<T, E>) {
    if let Err(error) = result
        && std::env::var_os("LIFEBOOT_TEST_VERBOSE").is_some()
    {
        eprintln!("{what}: {error:?}");
    }
}

/// `command` as a person would type it, for reports.
pub fn shown(command: &Command) -> String {
    let word = |text: &OsStr| {
        let text = text.to_string_lossy();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+@%".contains(c);
        if !text.is_empty() && text.chars().all(plain) {
            text.into_owned()
        } else {
            format!("'{}'", text.replace('\'', "'\\''"))
        }
    };
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(word)
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shown_command_can_be_pasted() {
        let mut command = Command::new("qemu");
        command.args(["-append", "root=http://a it's", "-m", "256"]);
        assert_eq!(shown(&command), "qemu -append 'root=http://a it'\\''s' -m 256");
    }

    #[test]
    fn status_and_both_outputs_are_kept_apart() {
        let mut command = Command::new("sh");
        command.args(["-c", "cat; echo no >&2; exit 3"]);
        let outcome = run_with(&mut command, b"yes").unwrap();
        assert_eq!(
            (outcome.status, outcome.text().as_str(), outcome.errors().as_str()),
            (Some(3), "yes", "no\n")
        );
        assert!(outcome.success().is_err());
    }
}
