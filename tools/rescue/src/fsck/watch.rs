//! A repair in a process of its own, and somebody who watches it.
//!
//! The process leads a session without a terminal, so neither a hangup nor Ctrl-C reaches it: what is half repaired is worse than
//! what is damaged, and connections break. It writes on the same outputs, for as long as somebody is there to read them.

use super::interrupts::Interrupts;
use super::{Fsck, WORKER};
use crate::control::Connection;
use crate::output;
use anyhow::{Context as _, bail};
use argh::FromArgs as _;
use lifeboot_contract::control::{Reply, Request, SessionKind};
use rustix::process::{Pid, Signal, kill_process, setsid};
use std::ffi::OsString;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

/// Starts the repair that `words` ask for and waits for its end. Ctrl-C is passed on the second time it is typed.
///
/// # Errors
/// It could not be started.
pub fn start(words: &[String]) -> anyhow::Result<ExitCode> {
    let interrupts = Interrupts::heed()?;
    let program = std::env::current_exe().context("rescue")?;
    let mut child = Command::new(program)
        .arg(WORKER)
        .args(words)
        .stdin(Stdio::null())
        .spawn()
        .context("starting the repair")?;
    let id = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let mut heard = 0;
    loop {
        if let Some(status) = child.try_wait().context("waiting for the repair")? {
            let code = status.code().and_then(|code| u8::try_from(code).ok());
            return Ok(ExitCode::from(code.unwrap_or(1)));
        }
        let count = interrupts.count();
        if count > heard {
            match (heard, count) {
                (0, 1) => output::complain(
                    "\nThe repair goes on, also when you leave. Ctrl-C once more has it stop as soon as it can.",
                ),
                _ => {
                    output::complain("\nStopping the repair; what is done stays done.");
                    if let Some(id) = id {
                        output::ignore(kill_process(id, Signal::INT).map_err(std::io::Error::from));
                    }
                }
            }
            heard = count;
        }
        std::thread::sleep(Duration::from_millis(40));
    }
}

/// Becomes the process that repairs. `words` are those behind [`WORKER`].
///
/// # Errors
/// As [`super::run`].
pub fn work(words: &[OsString]) -> anyhow::Result<ExitCode> {
    setsid().context("setsid")?;
    let interrupts = Interrupts::heed()?;
    let words: Vec<String> = words
        .iter()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let shown: Vec<&str> = words.iter().map(String::as_str).collect();
    let options = match Fsck::from_args(&["rescue", "fsck"], &shown) {
        Ok(options) => options,
        Err(exit) => bail!(exit.output),
    };
    // As long as it is open the machine does not leave for the full system.
    let hold = hold(&format!("rescue fsck {}", shown.join(" ")));
    let ended = super::perform(&options, &interrupts);
    drop(hold);
    ended
}

fn hold(who: &str) -> Option<Connection> {
    let request = Request::Hold {
        who: who.to_owned(),
        kind: SessionKind::Exec,
    };
    let asked = Connection::open().and_then(|mut connection| match connection.ask(&request)? {
        Reply::Error { what } => bail!(what),
        _ => Ok(connection),
    });
    match asked {
        Ok(connection) => Some(connection),
        Err(error) => {
            output::complain(&format!("rescue: the boot is not held: {error:#}"));
            None
        }
    }
}
