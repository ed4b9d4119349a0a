//! The children that PID 1 keeps alive, and the pauses between their lives.

use crate::report::now_ms;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// A child that lived this long starts anew without a pause.
const GOOD_LIFE_MS: u64 = 30_000;
const FIRST_PAUSE_MS: u64 = 250;
const LAST_PAUSE_MS: u64 = 30_000;

/// Which child.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Pipeline,
    Sshd,
    Tunnel,
    Console(String),
}

/// A child, running or waiting for its next start.
#[derive(Debug)]
pub(super) struct Child {
    pub(super) kind: Kind,
    running: Option<(Pid, OwnedFd)>,
    started_ms: u64,
    failures: u32,
    next_start_ms: u64,
}

impl Kind {
    pub(super) fn name(&self) -> String {
        match self {
            Kind::Pipeline => "pipeline".to_owned(),
            Kind::Sshd => "sshd".to_owned(),
            Kind::Tunnel => "tunnel".to_owned(),
            Kind::Console(tty) => format!("console-{tty}"),
        }
    }

    fn args(&self) -> Vec<&str> {
        match self {
            Kind::Pipeline => vec!["boot-pipeline"],
            Kind::Sshd => vec!["sshd"],
            Kind::Tunnel => vec!["tunnel", "--serve"],
            Kind::Console(tty) => vec!["console", tty],
        }
    }
}

impl Child {
    /// A child that is due at once.
    pub(super) fn new(kind: Kind) -> Child {
        Child {
            kind,
            running: None,
            started_ms: 0,
            failures: 0,
            next_start_ms: 0,
        }
    }

    pub(super) fn pidfd(&self) -> Option<&OwnedFd> {
        self.running.as_ref().map(|(_, fd)| fd)
    }

    pub(super) fn is(&self, pid: Pid) -> bool {
        self.running.as_ref().is_some_and(|(own, _)| *own == pid)
    }

    /// When it is to be started; `None` while it runs.
    pub(super) fn due_ms(&self) -> Option<u64> {
        self.running.is_none().then_some(self.next_start_ms)
    }

    /// Starts it.
    ///
    /// # Errors
    /// The fork's or exec's; the next start is put off.
    pub(super) fn start(&mut self) -> io::Result<()> {
        self.started_ms = now_ms();
        match self.spawn() {
            Ok(running) => {
                self.running = Some(running);
                Ok(())
            }
            Err(error) => {
                self.put_off();
                Err(error)
            }
        }
    }

    fn spawn(&self) -> io::Result<(Pid, OwnedFd)> {
        let log = File::create(self.log_path()).map_or_else(|_| Stdio::null(), Stdio::from);
        let child = Command::new("/init")
            .arg0("rescue")
            .args(self.kind.args())
            .process_group(0)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        let pid = i32::try_from(child.id())
            .ok()
            .and_then(Pid::from_raw)
            .ok_or(io::ErrorKind::InvalidData)?;
        Ok((pid, pidfd_open(pid, PidfdFlags::empty())?))
    }

    /// It has ended; returns the pause before its next start in milliseconds.
    pub(super) fn ended(&mut self) -> u64 {
        self.running = None;
        if now_ms().saturating_sub(self.started_ms) > GOOD_LIFE_MS {
            self.failures = 0;
        }
        self.put_off()
    }

    /// It was ended behind this table's back.
    pub(super) fn lost(&mut self) {
        if self.running.is_some() {
            self.ended();
        }
    }

    /// Not before `ms` from now; returns when that is.
    pub(super) fn postpone(&mut self, ms: u64) -> u64 {
        self.next_start_ms = self.next_start_ms.max(now_ms() + ms);
        self.next_start_ms
    }

    /// As soon as possible.
    pub(super) fn hurry(&mut self) {
        self.next_start_ms = 0;
    }

    fn put_off(&mut self) -> u64 {
        let pause = (FIRST_PAUSE_MS << self.failures.min(10)).min(LAST_PAUSE_MS);
        self.failures += 1;
        self.next_start_ms = now_ms() + pause;
        pause
    }

    /// The last line it wrote to its standard error: a panic's message, usually.
    pub(super) fn last_words(&self) -> String {
        let text = fs::read(self.log_path()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let line = text
            .lines()
            .map(str::trim)
            .rfind(|line| !line.is_empty() && !line.starts_with("note: "));
        line.unwrap_or_default().to_owned()
    }

    fn log_path(&self) -> String {
        format!("/run/lifeboot/log/{}.err", self.kind.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_and_stop_growing() {
        let mut child = Child::new(Kind::Sshd);
        child.started_ms = now_ms();
        let pauses: Vec<u64> = (0..10).map(|_| child.ended()).collect();
        assert_eq!(&pauses[..4], [250, 500, 1000, 2000]);
        assert_eq!(pauses[9], LAST_PAUSE_MS);
    }
}
