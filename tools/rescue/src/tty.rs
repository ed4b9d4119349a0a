//! Entering a terminal: `rescue enter-tty [--status] PROGRAM ARG0 [ARG...]`, used by sshd and console, not by people.
//!
//! Making a terminal the controlling one has to happen in the new process itself, between fork and exec. Doing it in
//! a small program that then becomes the shell needs no unsafe code, and runs in the program that is being executed
//! anyway.

use anyhow::{Context as _, bail};
use rustix::process::{ioctl_tiocsctty, setsid};
use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::io::stdin;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// The word after `rescue`.
pub const WORD: &str = "enter-tty";

/// Whether the lines of status are printed before the program starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Greeting {
    /// Print them.
    Status,
    /// Start at once.
    Nothing,
}

/// The command that runs `program` as the leader of a session with its standard input as controlling terminal.
pub fn command(
    helper: &OsStr,
    greeting: Greeting,
    program: &OsStr,
    arg0: &OsStr,
    args: &[&OsStr],
) -> Command {
    let mut command = Command::new(helper);
    command.arg(WORD);
    if greeting == Greeting::Status {
        command.arg("--status");
    }
    command.arg(program).arg(arg0).args(args);
    command
}

/// Becomes the program named in `args`, the words after [`WORD`].
///
/// # Errors
/// Only when it could not: it does not return otherwise.
pub fn run(args: &[OsString]) -> anyhow::Result<Infallible> {
    let (greeting, args) = match args {
        [first, rest @ ..] if first == "--status" => (Greeting::Status, rest),
        rest => (Greeting::Nothing, rest),
    };
    let [program, arg0, args @ ..] = args else {
        bail!("{WORD}: no program named");
    };
    setsid().context("setsid")?;
    ioctl_tiocsctty(stdin()).context("controlling terminal")?;
    if greeting == Greeting::Status {
        crate::greeting::print();
    }
    let error = Command::new(program).arg0(arg0).args(args).exec();
    Err(error).with_context(|| program.display().to_string())
}
