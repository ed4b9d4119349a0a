//! One machine's place on the network: a namespace.

use crate::process::{self, may_fail};
use anyhow::{Context, Result, anyhow, bail};
use nix::sched::{CloneFlags, setns};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// A network namespace, held open by a process that does nothing else.
#[derive(Debug)]
pub struct Station {
    holder: Child,
}

impl Station {
    /// With nothing in it but loopback.
    ///
    /// # Errors
    /// Not root, or unshare(1) is missing.
    pub(super) fn new() -> Result<Station> {
        let own = fs::metadata("/proc/self").context("/proc/self")?;
        if own.uid() != 0 {
            bail!("could not run: needs root, for network namespaces and taps");
        }
        // The holder ends with its standard input, however this process ends. Its line says that the namespace is there.
        let mut holder = Command::new("unshare")
            .args(["--net", "sh", "-c", "ip link set lo up && echo ready && exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("could not run: unshare(1) of util-linux")?;
        let output = holder.stdout.take().context("unshare")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).context("unshare")?;
        let station = Station { holder };
        if line != "ready\n" {
            bail!("could not run: no network namespace can be made here");
        }
        Ok(station)
    }

    /// Process id of the holder.
    pub(super) fn pid(&self) -> u32 {
        self.holder.id()
    }

    /// The file that stands for the namespace.
    pub fn namespace(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/net", self.pid()))
    }

    /// `program` on this machine, not started.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", self.namespace().display()))
            .args(["--", program]);
        command
    }

    /// Runs ip(8) here.
    ///
    /// # Errors
    /// Its own.
    pub fn ip(&self, arguments: &[&str]) -> Result<String> {
        let mut command = self.command("ip");
        command.args(arguments);
        Ok(process::run_with(&mut command, b"")?
            .success()
            .with_context(|| process::shown(&command))?
            .text())
    }

    /// Runs `work` in a thread that is on this machine; sockets it makes stay there.
    ///
    /// # Errors
    /// Those of `work`.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let path = self.namespace();
        let namespace = File::open(&path).with_context(|| path.display().to_string())?;
        std::thread::scope(|scope| {
            scope
                .spawn(move || {
                    setns(namespace, CloneFlags::CLONE_NEWNET).context("entering a network namespace")?;
                    work()
                })
                .join()
                .map_err(|_| anyhow!("a thread panicked"))?
        })
    }
}

impl Drop for Station {
    fn drop(&mut self) {
        may_fail("ending the holder of a namespace", self.holder.kill());
        may_fail("ending the holder of a namespace", self.holder.wait());
    }
}
