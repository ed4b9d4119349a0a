//! A server of the real executable on a loopback port.

use crate::stand_in::{StandIn, directory};
use lifeboot_contract::plan::Plan;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

pub struct Server {
    pub dir: PathBuf,
    pub port: u16,
    pub process: Child,
    pub init: StandIn,
}

impl Server {
    /// A server that knows the keys `ed25519`, `ecdsa` and `rsa` in its directory.
    pub fn start() -> Server {
        let dir = directory();
        let keys = [
            ("ed25519", "256"),
            ("ecdsa", "384"),
            ("rsa", "2048"),
            ("unknown", "256"),
        ];
        for (name, bits) in keys {
            let kind = if name == "unknown" { "ed25519" } else { name };
            let path = dir.join(name);
            let made = Command::new("ssh-keygen")
                .args(["-q", "-N", "", "-t", kind, "-b", bits, "-f"])
                .arg(path)
                .status()
                .unwrap();
            assert!(made.success());
        }
        let public = |name: &str| {
            fs::read_to_string(dir.join(name).with_extension("pub"))
                .unwrap()
                .trim()
                .to_owned()
        };
        let mut plan = Plan::default();
        plan.ssh.authorized_keys = ["ed25519", "ecdsa", "rsa"].map(public).to_vec();
        Server::start_with(dir, &plan)
    }

    pub fn start_with(dir: PathBuf, plan: &Plan) -> Server {
        fs::create_dir_all(dir.join("home")).unwrap();
        fs::write(dir.join("plan.json"), serde_json::to_string(plan).unwrap()).unwrap();
        let init = StandIn::listen(&dir);
        let process = sshd(&dir).spawn().unwrap();
        let mut server = Server {
            dir,
            port: 0,
            process,
            init,
        };
        server.port = server
            .init
            .event("ssh.listening")
            .u64("port")
            .unwrap()
            .try_into()
            .unwrap();
        server
    }

    /// Kills the server and starts another in the same directory, as PID 1 does.
    pub fn restart(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.init.forget_events();
        self.process = sshd(&self.dir).spawn().unwrap();
        self.port = self
            .init
            .event("ssh.listening")
            .u64("port")
            .unwrap()
            .try_into()
            .unwrap();
    }

    /// Options for ssh, scp and sftp that keep the user's own configuration out.
    pub fn options(&self, key: &str) -> Vec<String> {
        let known = self.dir.join("known_hosts");
        let mut options = vec!["-F".to_owned(), "none".to_owned()];
        for option in [
            format!("IdentityFile={}", self.dir.join(key).display()),
            "IdentitiesOnly=yes".to_owned(),
            "IdentityAgent=none".to_owned(),
            "BatchMode=yes".to_owned(),
            "StrictHostKeyChecking=accept-new".to_owned(),
            format!("UserKnownHostsFile={}", known.display()),
            "LogLevel=ERROR".to_owned(),
            "ConnectTimeout=20".to_owned(),
            format!("Port={}", self.port),
        ] {
            options.extend(["-o".to_owned(), option]);
        }
        options
    }

    /// `ssh` with `options`, to run `words` as root.
    pub fn ssh(&self, options: &[&str], words: &[&str]) -> Command {
        self.ssh_as("ed25519", options, words)
    }

    pub fn ssh_as(&self, key: &str, options: &[&str], words: &[&str]) -> Command {
        let mut command = Command::new("ssh");
        command
            .args(self.options(key))
            .args(options)
            .arg("root@127.0.0.1")
            .args(words);
        command.stdin(Stdio::null());
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        if !std::thread::panicking() {
            fs::remove_dir_all(&self.dir).unwrap();
        }
    }
}

/// The program as PID 1 starts it: keys for signals reach its shells, also where the tests were started in the background, with these
/// signals ignored.
pub fn rescue() -> Command {
    let mut command = Command::new("env");
    command.args(["--default-signal=INT,QUIT", env!("CARGO_BIN_EXE_rescue")]);
    command
}

/// The server as PID 1 would start it, on any free port.
pub fn sshd(dir: &Path) -> Command {
    let mut command = rescue();
    command
        .args(["sshd", "--port", "0", "--listen", "127.0.0.1", "--home"])
        .arg(dir.join("home"));
    command.env("LIFEBOOT_RUN", dir).stdin(Stdio::null());
    command
}
