//! A server: an unmodified program that ends with the test.

use crate::deadline::Deadline;
use crate::process::{self, may_fail};
use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Seconds a server may take to be there.
const START: u64 = 60;
/// Seconds it may take to end when it is asked to.
const END: u64 = 5;

/// A running server.
#[derive(Debug)]
pub struct Service {
    name: String,
    log: PathBuf,
    child: Child,
}

impl Service {
    /// Starts it; what it writes goes to `log`.
    ///
    /// # Errors
    /// It is not installed.
    pub(crate) fn start(name: &str, command: Command, log: &Path) -> Result<Service> {
        let file = File::create(log).with_context(|| log.display().to_string())?;
        // The kernel ends it if this thread goes without dropping the value.
        let mut wrapped = Command::new("setpriv");
        wrapped.args(["--pdeathsig", "TERM", "--"]);
        wrapped.arg(command.get_program()).args(command.get_args());
        if let Some(dir) = command.get_current_dir() {
            wrapped.current_dir(dir);
        }
        wrapped.envs(
            command
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        );
        let child = wrapped
            .stdin(Stdio::null())
            .stdout(file.try_clone().context("log")?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("could not run: {}", process::shown(&wrapped)))?;
        Ok(Service {
            name: name.to_owned(),
            log: log.to_owned(),
            child,
        })
    }

    /// Waits until `there` says so.
    ///
    /// # Errors
    /// Not in time, or it ended; with what it wrote.
    pub(crate) fn wait_until(&mut self, what: &str, there: impl Fn() -> Result<bool>) -> Result<()> {
        let found = Deadline::after(START).wait_for(what, || {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended with {status}", self.name);
            }
            Ok(there()?.then_some(()))
        });
        found.with_context(|| self.log())
    }

    /// Its process id: setpriv becomes the server.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it is called in reports.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Everything it wrote.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Asked first: a server with workers ends them then.
        if let Ok(pid) = i32::try_from(self.child.id()) {
            may_fail(
                "asking a server to end",
                kill(Pid::from_raw(pid), Signal::SIGTERM),
            );
        }
        let ended = Deadline::after(END).wait_for("end", || Ok(self.child.try_wait()?));
        if ended.is_err() {
            may_fail("killing a server", self.child.kill());
            may_fail("waiting for a server", self.child.wait());
        }
    }
}
