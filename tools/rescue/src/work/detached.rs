//! Work in a process of its own, and somebody who watches it.
//!
//! The process leads a session without a terminal, so neither a hangup nor Ctrl-C reaches it: what is half done is worse than what
//! was not begun, and connections break. It writes on the same outputs, for as long as somebody is there to read them.

use crate::control::Connection;
use crate::interrupts::Interrupts;
use crate::output;
use anyhow::{Context as _, bail};
use lifeboot_contract::control::{Reply, Request, SessionKind};
use rustix::process::{Pid, Signal, kill_process, setsid};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

/// How it is watched.
pub struct Manner {
    /// The word behind `rescue` that starts the process; not for people.
    pub worker: &'static str,
    /// What is said to the first Ctrl-C where that one is not passed on.
    pub warning: Option<&'static str>,
    /// What is said when Ctrl-C is passed on.
    pub stopping: &'static str,
}

/// Starts the work that `words` ask for and waits for its end.
///
/// # Errors
/// It could not be started.
pub fn start(manner: &Manner, words: &[String]) -> anyhow::Result<ExitCode> {
    let interrupts = Interrupts::heed()?;
    let program = std::env::current_exe().context("rescue")?;
    let mut child = Command::new(program)
        .arg(manner.worker)
        .args(words)
        .stdin(Stdio::null())
        .spawn()
        .with_context(|| manner.worker.to_owned())?;
    let id = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let mut heard = 0;
    loop {
        if let Some(status) = child.try_wait().with_context(|| manner.worker.to_owned())? {
            let code = status.code().and_then(|code| u8::try_from(code).ok());
            return Ok(ExitCode::from(code.unwrap_or(1)));
        }
        let count = interrupts.count();
        if count > heard {
            match manner.warning {
                Some(warning) if (heard, count) == (0, 1) => output::complain(&format!("\n{warning}")),
                _ => {
                    output::complain(&format!("\n{}", manner.stopping));
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

/// What the process that [`start`] has started begins with: a session of its own. As long as what is returned is kept, the machine
/// does not leave for the full system.
///
/// # Errors
/// The kernel's.
pub fn begin(who: &str) -> anyhow::Result<Option<Connection>> {
    setsid().context("setsid")?;
    Ok(hold(who))
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
