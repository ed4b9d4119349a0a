//! How things stand: what `rescue status` prints, and the three lines that greet whoever logs in.

use crate::control::SessionKind;
use crate::event::{Failure, Stage};
use crate::image::ImageInfo;
use crate::plan::Hold;
use serde::{Deserialize, Serialize};

mod trying;
mod tunnels;

pub use trying::Doing;
pub use tunnels::{TunnelState, TunnelStatus};

/// How things stand.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// What the boot is doing.
    pub phase: Phase,
    /// The image that runs.
    pub image: ImageInfo,
    /// Name of this machine.
    pub hostname: String,
    /// Board model, if it tells.
    pub model: Option<String>,
    /// Milliseconds since the kernel started.
    pub uptime_ms: u64,
    /// Addresses that reach it.
    pub addresses: Vec<Address>,
    /// The ssh server, if it runs.
    pub ssh: Option<SshStatus>,
    /// The tunnels, in the order they were first heard of.
    #[serde(default)]
    pub tunnels: Vec<TunnelStatus>,
    /// Who is logged in.
    pub sessions: Vec<Session>,
    /// What keeps a ready system from being started; nothing does after `rescue boot`.
    #[serde(default)]
    pub hold: Hold,
    /// How often the list of roots was tried.
    pub attempts: u32,
    /// What the roots before the last one have failed of, in this pass over the list or the last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<String>,
    /// What a stage that takes its time is at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doing: Option<Doing>,
    /// What people should know: parameters not taken, verification off, an incomplete initramfs.
    pub warnings: Vec<String>,
}

/// What the boot is doing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum Phase {
    /// The pipeline has not reported yet.
    #[default]
    Starting,
    /// A stage runs.
    Booting {
        /// Which.
        stage: Stage,
    },
    /// The boot goes on when these are unlocked.
    WaitingForPassphrase {
        /// Which.
        volumes: Vec<LockedVolume>,
    },
    /// No root was named.
    Rescue,
    /// `rd.break=`
    Break {
        /// The stage that would come next.
        stage: Stage,
    },
    /// Every root failed.
    Failed {
        /// The last failure.
        failure: Failure,
        /// When, in milliseconds since the kernel started.
        since_ms: u64,
        /// When the next try is, on the same clock; `None`: there is none.
        next_try_ms: Option<u64>,
        /// Whether the boot parameters name no root: what failed was asked for once, and only asking again tries again.
        #[serde(default)]
        rootless: bool,
        /// Whether the plan was refused: no root is tried before that is corrected and the machine restarts.
        #[serde(default)]
        refused: bool,
    },
    /// The system could be started, but somebody is logged in or `lifeboot.hold=always`.
    Held {
        /// Where the root came from.
        source: String,
    },
    /// The real init is about to be executed.
    HandingOver,
}

/// An address of an interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// The interface.
    pub interface: String,
    /// The address, without prefix length.
    pub address: std::net::IpAddr,
}

/// The ssh server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SshStatus {
    /// TCP port.
    pub port: u16,
    /// `SHA256:…` of the host key.
    pub fingerprint: String,
    /// The same as data of a DNS record of type SSHFP.
    #[serde(default)]
    pub sshfp: String,
}

/// Somebody who is logged in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Who, for people.
    pub who: String,
    /// How.
    pub kind: SessionKind,
    /// Since when, milliseconds since the kernel started.
    pub since_ms: u64,
}

/// A LUKS volume nobody has unlocked yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockedVolume {
    /// Where it is, if it has been found.
    pub device: Option<String>,
    /// UUID of the LUKS header.
    pub uuid: String,
    /// Name it will get under /dev/mapper.
    pub name: String,
}

impl Status {
    /// What state the boot is in, why, and what can be typed next.
    pub fn three_lines(&self) -> [String; 3] {
        let (state, why, next) = self.phase_lines();
        let name = if self.hostname.is_empty() {
            "this machine"
        } else {
            &self.hostname
        };
        [format!("{name}: {state}"), why, next]
    }

    /// How it can be reached: the ssh server's key for people and for DNS, and the tunnels.
    pub fn reach_lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(ssh) = &self.ssh {
            lines.push(format!("ssh: port {}, host key {}", ssh.port, ssh.fingerprint));
            lines.push(format!("DNS: SSHFP {}", ssh.sshfp));
        }
        let tunnels = self.tunnels.iter();
        lines.extend(tunnels.map(|tunnel| tunnel.line(self.uptime_ms)));
        lines
    }

    fn phase_lines(&self) -> (String, String, String) {
        let text = |a: &str, b: &str, c: &str| (a.to_owned(), b.to_owned(), c.to_owned());
        match &self.phase {
            Phase::Starting => text(
                "starting",
                "The boot has not begun yet.",
                "Type 'rescue status' again in a moment.",
            ),
            Phase::Booting { stage } => (
                format!("booting, stage {stage}"),
                self.under_way(*stage),
                "Type 'rescue log --follow' to watch, 'rescue help' for the rest.".to_owned(),
            ),
            Phase::WaitingForPassphrase { volumes } => (
                "waiting for a passphrase".to_owned(),
                format!(
                    "Locked: {}.",
                    volumes
                        .iter()
                        .map(LockedVolume::describe)
                        .collect::<Vec<_>>()
                        .join(", ")
                ),
                "Type 'rescue unlock'; the boot then goes on by itself.".to_owned(),
            ),
            Phase::Rescue => text(
                "in rescue",
                "No root= was given, so no system is started.",
                "Type 'rescue disks' to see what is there, 'rescue help' for the rest.",
            ),
            Phase::Break { stage } => (
                format!("stopped before stage {stage}"),
                format!("rd.break={stage} was given."),
                "Type 'rescue boot' to go on.".to_owned(),
            ),
            Phase::Failed {
                failure,
                since_ms,
                next_try_ms,
                rootless,
                refused,
            } => {
                let next = match (refused, rootless) {
                    (true, _) => "Correct that and type 'rescue reboot'",
                    (_, true) => "Type 'rescue boot ROOT' to try another root",
                    (_, false) => "Type 'rescue boot' to try now",
                };
                let (state, why) = self.failed_lines(failure, *since_ms, *next_try_ms);
                let next = format!("{next}, 'rescue log' for what happened, 'rescue help' for the rest.");
                (state, why, next)
            }
            Phase::Held { source } => (
                "ready to start the system".to_owned(),
                self.holding(&format!("{source} is ready; it waits for 'rescue boot'.")),
                "Type 'rescue boot' to start it now.".to_owned(),
            ),
            Phase::HandingOver => text(
                "starting the system",
                "The real init is being executed.",
                "This session ends now.",
            ),
        }
    }

    fn failed_lines(&self, failure: &Failure, since_ms: u64, next: Option<u64>) -> (String, String) {
        let ago = seconds(self.uptime_ms.saturating_sub(since_ms));
        let when = match next {
            Some(at) => format!("next try in {}", seconds(at.saturating_sub(self.uptime_ms))),
            None => "no further try".to_owned(),
        };
        let hint = failure
            .hint
            .as_deref()
            .map(|hint| format!(" Hint: {hint}."))
            .unwrap_or_default();
        (
            format!("in rescue, boot failed {ago} ago, {when}"),
            format!("Failed: {failure}.{hint}"),
        )
    }
}

impl LockedVolume {
    /// `/dev/vda2 (UUID …)`.
    pub fn describe(&self) -> String {
        match &self.device {
            Some(device) => format!("{device} (UUID {})", self.uuid),
            None => format!("UUID {}, not found yet", self.uuid),
        }
    }
}

fn seconds(ms: u64) -> String {
    match ms / 1000 {
        s if s < 120 => format!("{s} s"),
        s if s < 7200 => format!("{} min", s / 60),
        s => format!("{} h", s / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_boot_says_what_since_when_and_when_next() {
        let failure = Failure {
            stage: Stage::Fetch,
            what: "http://a/x: 404".into(),
            cause: None,
            hint: None,
        };
        let lines = |rootless, refused| {
            let phase = Phase::Failed {
                failure: failure.clone(),
                since_ms: 1000,
                next_try_ms: Some(46_000),
                rootless,
                refused,
            };
            let status = Status {
                phase,
                uptime_ms: 41_000,
                hostname: "pi".into(),
                ..Status::default()
            };
            status.three_lines()
        };
        let asked_for = lines(true, false);
        assert!(asked_for[2].contains("'rescue boot ROOT'"), "{}", asked_for[2]);
        let refused = lines(false, true);
        assert!(
            refused[2].starts_with("Correct that and type 'rescue reboot',"),
            "{}",
            refused[2]
        );
        let lines = lines(false, false);
        assert_eq!(lines[0], "pi: in rescue, boot failed 40 s ago, next try in 5 s");
        assert_eq!(lines[1], "Failed: fetch: http://a/x: 404.");
        assert!(lines[2].contains("'rescue boot'"));
    }

    #[test]
    fn every_phase_has_three_lines_with_something_to_do() {
        let volume = LockedVolume {
            device: None,
            uuid: "1-2".into(),
            name: "x".into(),
        };
        for phase in [
            Phase::Starting,
            Phase::Booting {
                stage: Stage::Network,
            },
            Phase::WaitingForPassphrase {
                volumes: vec![volume],
            },
            Phase::Rescue,
            Phase::Break { stage: Stage::Mount },
            Phase::Held {
                source: "http://a".into(),
            },
            Phase::HandingOver,
        ] {
            let status = Status {
                phase,
                ..Status::default()
            };
            assert!(status.three_lines().iter().all(|line| !line.is_empty()));
            let text = serde_json::to_string(&status).unwrap();
            assert_eq!(serde_json::from_str::<Status>(&text).unwrap(), status);
        }
    }
}
