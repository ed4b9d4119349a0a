//! The system's OpenSSH client, with nothing of the user's own configuration.

use crate::artefacts;
use crate::deadline::Deadline;
use crate::lan::Station;
use crate::process::{self, Outcome, may_fail};
use anyhow::{Context, Result, bail};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a server may take to introduce itself, in an emulator, when it is first tried; on a machine that is slower it gets longer
/// each time.
const PATIENCE: Duration = Duration::from_millis(800);
/// How long it may take at most.
const MOST_PATIENCE: Duration = Duration::from_secs(8);

/// Whose host key is expected: the rescue system and the system it starts answer at the same address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// lifeboot.
    Rescue,
    /// The system that was started.
    FullOs,
}

/// An OpenSSH client aimed at one guest.
#[derive(Debug, Clone)]
pub struct Client {
    known_hosts: PathBuf,
    port: u16,
    identity: PathBuf,
    /// A network namespace and an address in it, instead of a port of loopback.
    elsewhere: Option<(PathBuf, String)>,
}

impl Client {
    pub(super) fn new(dir: &Path, port: u16, peer: Peer) -> Client {
        let known_hosts = match peer {
            Peer::Rescue => "known_hosts.rescue",
            Peer::FullOs => "known_hosts.full",
        };
        Client {
            known_hosts: dir.join(known_hosts),
            port,
            identity: artefacts::keys_dir().join("ed25519"),
            elsewhere: None,
        }
    }

    /// The same server at an address of a test network, seen from one of its machines.
    #[must_use]
    pub fn from(mut self, station: &Station, address: &str) -> Client {
        self.elsewhere = Some((station.namespace(), address.to_owned()));
        self.port = 22;
        self
    }

    /// Forgets the host key met so far.
    ///
    /// # Errors
    /// The file's.
    pub(super) fn forget_host(&self) -> Result<()> {
        match std::fs::remove_file(&self.known_hosts) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| self.known_hosts.display().to_string())
            }
            _ => Ok(()),
        }
    }

    /// The same with another private key.
    #[must_use]
    pub fn identity(mut self, identity: impl Into<PathBuf>) -> Client {
        self.identity = identity.into();
        self
    }

    /// Options that shut out the user's configuration, agent and known hosts.
    fn options(&self) -> Vec<String> {
        let mut options = vec!["-F".to_owned(), "/dev/null".to_owned()];
        for option in [
            format!("IdentityFile={}", self.identity.display()),
            format!("UserKnownHostsFile={}", self.known_hosts.display()),
            "GlobalKnownHostsFile=/dev/null".to_owned(),
            "IdentitiesOnly=yes".to_owned(),
            "IdentityAgent=none".to_owned(),
            "StrictHostKeyChecking=accept-new".to_owned(),
            "PreferredAuthentications=publickey".to_owned(),
            "BatchMode=yes".to_owned(),
            "LogLevel=ERROR".to_owned(),
            // The exchange of keys is counted too, and twenty at once share one emulated processor.
            "ConnectTimeout=40".to_owned(),
            "ServerAliveInterval=15".to_owned(),
        ] {
            options.extend(["-o".to_owned(), option]);
        }
        options
    }

    /// `ssh OPTIONS ARGUMENTS… root@guest WORDS…`, not started.
    pub fn command(&self, arguments: &[&str], words: &[&str]) -> Command {
        let mut command = match &self.elsewhere {
            None => Command::new("ssh"),
            Some((namespace, _)) => {
                let mut command = Command::new("nsenter");
                command
                    .arg(format!("--net={}", namespace.display()))
                    .args(["--", "ssh"]);
                command
            }
        };
        let address = self
            .elsewhere
            .as_ref()
            .map_or("127.0.0.1", |(_, address)| address);
        command.args(self.options()).args(["-p", &self.port.to_string()]);
        command.args(arguments).arg(format!("root@{address}")).args(words);
        command
    }

    /// What a person would type to log in.
    pub fn shown(&self) -> String {
        process::shown(&self.command(&[], &[]))
    }

    /// Runs a command there.
    ///
    /// # Errors
    /// The client could not be started.
    pub fn run(&self, words: &[&str]) -> Result<Outcome> {
        self.run_with(words, b"")
    }

    /// Runs a command there with `input`.
    ///
    /// # Errors
    /// The client could not be started.
    pub fn run_with(&self, words: &[&str], input: &[u8]) -> Result<Outcome> {
        process::run_with(&mut self.command(&[], words), input)
    }

    /// Runs a command there on a terminal of 43 lines and 132 columns, to talk with it.
    ///
    /// # Errors
    /// The client could not be started.
    pub fn converse(&self, words: &[&str]) -> Result<Conversation> {
        // The client takes the size from its own terminal, so it is given one.
        let client = process::shown(&self.command(&["-t"], words));
        let mut command = Command::new("script");
        command.args([
            "-q",
            "-e",
            "-c",
            &format!("stty rows 43 cols 132; exec {client}"),
            "/dev/null",
        ]);
        Conversation::start(command)
    }

    /// What `rsync -e` calls.
    pub fn rsync_shell(&self) -> String {
        let port = self.port.to_string();
        let words = self.options().into_iter().chain(["-p".to_owned(), port]);
        std::iter::once("ssh".to_owned())
            .chain(words)
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// Copies with `scp`; the guest's side is written `guest:PATH`.
    ///
    /// # Errors
    /// The client could not be started or failed.
    pub fn scp(&self, arguments: &[&str], from: &str, to: &str) -> Result<()> {
        let mut command = Command::new("scp");
        command.args(arguments).args(self.scp_arguments(from, to));
        process::run_with(&mut command, b"")?.success().context("scp")?;
        Ok(())
    }

    /// What `scp` is told for that.
    pub fn scp_arguments(&self, from: &str, to: &str) -> Vec<String> {
        let there = |path: &str| path.replacen("guest:", "root@127.0.0.1:", 1);
        let mut arguments = self.options();
        arguments.extend(["-P".to_owned(), self.port.to_string()]);
        arguments.extend([there(from), there(to)]);
        arguments
    }

    /// Runs a batch of `sftp` commands.
    ///
    /// # Errors
    /// The client could not be started or failed.
    pub fn sftp(&self, batch: &str) -> Result<String> {
        let mut command = Command::new("sftp");
        command
            .args(self.options())
            .args(["-P", &self.port.to_string(), "-b", "-", "root@127.0.0.1"]);
        Ok(process::run_with(&mut command, batch.as_bytes())?
            .success()
            .context("sftp")?
            .text())
    }
}

/// Asks whether an ssh server introduces itself. QEMU's user network takes every connection and, when the guest is not yet there, waits
/// longer and longer before it tries that one again; a client would wait with it, a new connection does not.
pub(super) struct Doorbell {
    port: u16,
    patience: Duration,
}

impl Doorbell {
    /// At that port of loopback.
    pub(super) fn at(port: u16) -> Doorbell {
        Doorbell {
            port,
            patience: PATIENCE,
        }
    }

    /// Whether it does this time.
    pub(super) fn is_answered(&mut self) -> bool {
        let begun = Instant::now();
        let Ok(mut connection) = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)) else {
            return false;
        };
        let mut first = [0; 4];
        let answered = connection.set_read_timeout(Some(self.patience)).is_ok()
            && connection.read_exact(&mut first).is_ok()
            && first == *b"SSH-";
        if !answered && begun.elapsed() >= self.patience {
            self.patience = self.patience.mul_f64(1.1).min(MOST_PATIENCE);
        }
        answered
    }
}

/// A command on a terminal of the guest.
#[derive(Debug)]
pub struct Conversation {
    child: Child,
    input: ChildStdin,
    heard: Arc<Mutex<Vec<u8>>>,
    read: usize,
}

impl Conversation {
    fn start(mut command: Command) -> Result<Conversation> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("could not run: ssh")?;
        let input = child.stdin.take().context("ssh has no input")?;
        let mut output = child.stdout.take().context("ssh has no output")?;
        let heard = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&heard);
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                shared
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .extend_from_slice(&bytes[..count]);
            }
        });
        Ok(Conversation {
            child,
            input,
            heard,
            read: 0,
        })
    }

    /// Everything heard so far.
    pub fn heard(&self) -> String {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&heard).replace('\r', "")
    }

    /// Waits for `text` behind what was waited for before.
    ///
    /// # Errors
    /// It did not come in time; with what was heard.
    pub fn expect(&mut self, text: &str, seconds: u64) -> Result<()> {
        let from = self.read;
        let place = Deadline::after(seconds)
            .wait_for(&format!("'{text}'"), || {
                let heard = self.heard();
                let found = heard.get(from..).and_then(|tail| tail.find(text));
                Ok(found.map(|place| from + place + text.len()))
            })
            .with_context(|| format!("heard: {}", self.heard()))?;
        self.read = place;
        Ok(())
    }

    /// Types `text`.
    ///
    /// # Errors
    /// The client is gone.
    pub fn send(&mut self, text: &str) -> Result<()> {
        self.input.write_all(text.as_bytes()).context("ssh")?;
        self.input.flush().context("ssh")
    }

    /// Waits for its end; returns the exit status.
    ///
    /// # Errors
    /// Not in time, or ended by a signal.
    pub fn end(&mut self, seconds: u64) -> Result<i32> {
        let ended = Deadline::after(seconds).wait_for("end of ssh", || Ok(self.child.try_wait()?));
        match ended.with_context(|| format!("heard: {}", self.heard()))?.code() {
            Some(code) => Ok(code),
            None => bail!("ssh was ended by a signal"),
        }
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        // It may have ended already.
        may_fail("killing ssh", self.child.kill());
        may_fail("waiting for ssh", self.child.wait());
    }
}
