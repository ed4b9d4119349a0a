//! Waiting for a program while signals come that would end this one: they are passed on, and what has to be undone is undone afterwards.

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, ExitStatus};
use tokio::signal::unix::{SignalKind, signal};

/// How it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Its exit status; 128 and the signal's number when a signal ended it.
    pub status: u8,
    /// Whether the session was cut meanwhile.
    pub hung_up: bool,
}

/// Runs it.
///
/// # Errors
/// It could not be started.
pub fn to_its_end(command: Command) -> anyhow::Result<Ended> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("runtime")?.block_on(wait(command))
}

async fn wait(command: Command) -> anyhow::Result<Ended> {
    // A terminal sends these to the program too; passed on is what is sent to this process alone.
    let mut hangup = signal(SignalKind::hangup()).context("signals")?;
    let mut terminate = signal(SignalKind::terminate()).context("signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("signals")?;
    let mut quit = signal(SignalKind::quit()).context("signals")?;
    let mut child = tokio::process::Command::from(command).spawn()?;
    let pid = child
        .id()
        .and_then(|id| i32::try_from(id).ok())
        .and_then(Pid::from_raw);
    let pass_on = |signal| {
        if let Some(pid) = pid {
            // It may have ended just now.
            crate::output::ignore(kill_process(pid, signal).map_err(std::io::Error::from));
        }
    };
    let mut hung_up = false;
    loop {
        tokio::select! {
            status = child.wait() => return Ok(Ended { status: number(status?), hung_up }),
            _ = hangup.recv() => {
                hung_up = true;
                pass_on(Signal::HUP);
                // A stopped one hears it when it goes on.
                pass_on(Signal::CONT);
            }
            _ = terminate.recv() => {
                hung_up = true;
                pass_on(Signal::TERM);
            }
            _ = interrupt.recv() => {}
            _ = quit.recv() => {}
        }
    }
}

fn number(status: ExitStatus) -> u8 {
    let number = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal));
    number
        .and_then(|number| u8::try_from(number).ok())
        .unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(script: &str) -> Ended {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        to_its_end(command).unwrap()
    }

    #[test]
    fn the_status_of_the_program_is_passed_on() {
        assert_eq!(ended("exit 7").status, 7);
        assert_eq!(ended("kill -9 $$").status, 137);
        assert!(to_its_end(Command::new("/nothing")).is_err());
    }
}
