//! A bastion: a stock OpenSSH server on this machine's loopback, with a configuration and keys of its own, run as whoever runs the tests.

use crate::deadline::Deadline;
use crate::lan::Service;
use crate::loopback::Port;
use crate::process::{self, Outcome, may_fail};
use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// Where Debian puts it; sshd wants to be called by its whole path.
const SSHD: &str = "/usr/sbin/sshd";
/// The host as a guest of QEMU's user network sees it.
const HOST_OF_GUESTS: &str = "10.0.2.2";

/// A running bastion, and the operator's files for it.
#[derive(Debug)]
pub struct Bastion {
    dir: PathBuf,
    port: Port,
    user: String,
    service: Option<Service>,
    starts: u32,
}

impl Bastion {
    /// Starts one that lets in the operator alone.
    ///
    /// # Errors
    /// OpenSSH's server is not installed, or does not start.
    pub fn start() -> Result<Bastion> {
        Bastion::start_with("")
    }

    /// The same, but it hangs up on whoever does not answer for seconds: an emulated machine on a busy one may be as slow as that.
    ///
    /// # Errors
    /// As for [`Bastion::start`].
    pub fn start_impatient() -> Result<Bastion> {
        Bastion::start_with("ClientAliveInterval 3\nClientAliveCountMax 2\n")
    }

    fn start_with(more: &str) -> Result<Bastion> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("lifeboot-bastion-{}-{count}", std::process::id()));
        fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
        for name in ["host", "operator", "other"] {
            let path = dir.join(name);
            let words = ["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"].map(std::ffi::OsStr::new);
            process::run("ssh-keygen", words.into_iter().chain([path.as_os_str()]))?;
        }
        let mut bastion = Bastion {
            user: process::run("id", ["-un"])?.trim().to_owned(),
            dir,
            port: Port::reserve()?,
            service: None,
            starts: 0,
        };
        bastion.authorize(&[])?;
        bastion.write_configuration(more)?;
        bastion.open()?;
        Ok(bastion)
    }

    fn write_configuration(&self, more: &str) -> Result<()> {
        let dir = self.dir.display();
        let text = format!(
            "Port {}\nListenAddress 127.0.0.1\nHostKey {dir}/host\nAuthorizedKeysFile {dir}/authorized_keys\nPidFile none\n\
             StrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin prohibit-password\nLogLevel VERBOSE\n{more}",
            self.port.number()
        );
        fs::write(self.dir.join("sshd_config"), text).context("sshd_config")
    }

    /// Starts the server, again or for the first time.
    ///
    /// # Errors
    /// It is not installed, or does not start.
    pub fn open(&mut self) -> Result<()> {
        // Debian's package has it made by systemd; only root is asked for it.
        may_fail("making /run/sshd", fs::create_dir_all("/run/sshd"));
        let mut command = Command::new(SSHD);
        command.args(["-D", "-e", "-f"]).arg(self.dir.join("sshd_config"));
        self.starts += 1;
        let log = self.dir.join(format!("sshd-{}.log", self.starts));
        let mut service = Service::start("sshd", command, &log)?;
        let port = self.port.number();
        service.wait_until("sshd accepts connections", || {
            Ok(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok())
        })?;
        self.service = Some(service);
        Ok(())
    }

    /// Kills the server with every connection it has.
    ///
    /// # Errors
    /// It does not run.
    pub fn kill(&mut self) -> Result<()> {
        let service = self.service.take().context("the bastion does not run")?;
        for pid in descendants(service.id()) {
            may_fail("killing a connection", kill(Pid::from_raw(pid), Signal::SIGKILL));
        }
        drop(service);
        Ok(())
    }

    /// From now on lets in the operator and whoever `lines` of authorized_keys name.
    ///
    /// # Errors
    /// The file's.
    pub fn authorize(&self, lines: &[&str]) -> Result<()> {
        let operator = fs::read_to_string(self.dir.join("operator.pub")).context("operator.pub")?;
        let text = format!("{operator}{}\n", lines.join("\n"));
        fs::write(self.dir.join("authorized_keys"), text).context("authorized_keys")
    }

    /// The value of `lifeboot.tunnel=` for a guest.
    pub fn for_guests(&self) -> String {
        format!("{}@{HOST_OF_GUESTS}:{}", self.user, self.port.number())
    }

    /// The port of its ssh server.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Its host key, as `lifeboot.tunnel-hostkey=` takes it.
    ///
    /// # Errors
    /// The file's.
    pub fn host_key(&self) -> Result<String> {
        self.public("host")
    }

    /// A key that is not its host key.
    ///
    /// # Errors
    /// The file's.
    pub fn other_key(&self) -> Result<String> {
        self.public("other")
    }

    fn public(&self, name: &str) -> Result<String> {
        let text = fs::read_to_string(self.dir.join(name).with_extension("pub")).context("public key")?;
        let words: Vec<&str> = text.split_whitespace().take(2).collect();
        Ok(words.join(" "))
    }

    /// The fingerprint of its host key.
    ///
    /// # Errors
    /// ssh-keygen's.
    pub fn fingerprint(&self) -> Result<String> {
        let path = self.dir.join("host.pub").display().to_string();
        let said = process::run("ssh-keygen", ["-l", "-f", path.as_str()])?;
        Ok(said.split_whitespace().nth(1).unwrap_or_default().to_owned())
    }

    /// Everything the server has written since it was last started.
    pub fn log(&self) -> String {
        self.service.as_ref().map(Service::log).unwrap_or_default()
    }

    /// What the operator types elsewhere: `ssh -J bastion -p PORT root@localhost WORDS…`, with the key `identity` for the device.
    ///
    /// # Errors
    /// The client could not be started.
    pub fn reach(&self, port: u16, identity: &Path, words: &[&str], input: &[u8]) -> Result<Outcome> {
        let dir = self.dir.display();
        let common = format!(
            "UserKnownHostsFile {dir}/known_hosts\nGlobalKnownHostsFile /dev/null\nStrictHostKeyChecking accept-new\n\
             IdentitiesOnly yes\nIdentityAgent none\nBatchMode yes\nLogLevel ERROR\nConnectTimeout 60\n"
        );
        let text = format!(
            "Host bastion\nHostName 127.0.0.1\nPort {}\nUser {}\nIdentityFile {dir}/operator\n{common}\
             Host device\nHostName localhost\nPort {port}\nUser root\nIdentityFile {}\nProxyJump bastion\n{common}",
            self.port.number(),
            self.user,
            identity.display()
        );
        let config = self.dir.join(format!("ssh_config-{port}"));
        fs::write(&config, text).context("ssh_config")?;
        let mut command = Command::new("ssh");
        command.arg("-F").arg(&config).arg("device").args(words);
        process::run_with(&mut command, input)
    }

    /// Waits until nobody but the operator is connected: what it had of a device is gone.
    ///
    /// # Errors
    /// Not in time.
    pub fn wait_until_lonely(&self, seconds: u64) -> Result<()> {
        let id = self
            .service
            .as_ref()
            .map(Service::id)
            .context("the bastion does not run")?;
        Deadline::after(seconds).wait_for("end of the bastion's connections", || {
            Ok(descendants(id).is_empty().then_some(()))
        })
    }
}

impl Drop for Bastion {
    fn drop(&mut self) {
        if self.service.is_some() {
            may_fail("killing the bastion", self.kill());
        }
        may_fail("removing the bastion's directory", fs::remove_dir_all(&self.dir));
    }
}

/// The processes that come from process `id`; each connection of sshd is in a session of its own, which signals to a group miss.
fn descendants(id: u32) -> Vec<i32> {
    let mut found = Vec::new();
    let mut parents = vec![i32::try_from(id).unwrap_or_default()];
    while let Some(parent) = parents.pop() {
        let path = format!("/proc/{parent}/task/{parent}/children");
        let children = fs::read_to_string(path).unwrap_or_default();
        let children = children.split_whitespace().filter_map(|word| word.parse().ok());
        let children: Vec<i32> = children.collect();
        found.extend(&children);
        parents.extend(children);
    }
    found
}
