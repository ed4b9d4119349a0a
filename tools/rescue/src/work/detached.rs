//! Work in a process of its own, and somebody who watches it.
//!
//! The process leads a session without a terminal, so neither a hangup nor Ctrl-C reaches it: what is half done is worse than what
//! was not begun, and connections break. It writes on the same outputs, for as long as somebody is there to read them.

use super::lock::Purpose;
use crate::control::{self, Connection};
use crate::interrupts::Interrupts;
use crate::{cut, output};
use anyhow::{Context as _, anyhow, bail};
use argh::FromArgs;
use lifeboot_contract::control::{Reply, Request, SessionKind};
use lifeboot_contract::event::Level;
use rustix::process::{Pid, Signal, kill_process, setsid};
use std::ffi::OsString;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

/// Where work is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In a process of its own, which a lost session does not take with it.
    Elsewhere,
    /// In this one, which is that.
    Here,
}

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

/// What [`start`] was told.
///
/// # Errors
/// It is no such command.
pub fn parsed<T: FromArgs>(command: &str, typed: &[OsString]) -> anyhow::Result<T> {
    let typed: Vec<String> = typed
        .iter()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let typed: Vec<&str> = typed.iter().map(String::as_str).collect();
    T::from_args(&["rescue", command], &typed).map_err(|exit| anyhow!(exit.output))
}

/// How it ended, for `rescue log`: `COMMAND.done` or `COMMAND.failed`, with these facts.
pub fn tell(command: &str, ended: &anyhow::Result<ExitCode>, facts: &[(&str, &str)]) {
    let (level, how, what) = match ended {
        Ok(code) if *code == ExitCode::SUCCESS => (Level::Info, "done", None),
        Ok(_) => (Level::Error, "failed", None),
        Err(error) => (Level::Error, "failed", Some(format!("{error:#}"))),
    };
    let event = control::event(level, &format!("{command}.{how}"));
    let event = facts
        .iter()
        .fold(event, |event, (key, value)| event.with(key, *value));
    let event = match what {
        Some(what) => event.with("what", cut::urls(&what)),
        None => event,
    };
    if let Err(error) = control::ask(&Request::Event(event)) {
        output::complain(&format!("rescue: this is not in 'rescue log': {error:#}"));
    }
}

/// From now on what is said is in the device's log too, and nobody need be there to hear it.
///
/// # Errors
/// The log cannot be written.
pub fn keep_log(purpose: Purpose, device: &str, title: &str) -> anyhow::Result<()> {
    let path = purpose.log(device);
    output::keep(&path).with_context(|| path.display().to_string())?;
    output::note(&format!("== {}", cut::urls(title)));
    Ok(())
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
