//! What the device's processes say to PID 1 and what it answers, over the Unix socket [`crate::image::CONTROL`].
//!
//! One JSON value a line in both directions. A request gets exactly one answer, except [`Request::Log`] with `follow` and
//! [`Request::Pipeline`], which get a stream until the connection ends. A hold lasts as long as the connection that asked for
//! it: a session that crashes lets go by dying.

use crate::event::{Event, Failure, Stage};
use crate::plan::Source;
use crate::status::{Address, LockedVolume, Status};
use serde::{Deserialize, Serialize};

/// What a process asks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// How things stand; answered by [`Reply::Status`].
    Status,
    /// Events from number `since` on, each a [`Reply::Event`]; then [`Reply::Done`] unless `follow`.
    Log {
        /// First number wanted.
        since: u64,
        /// Whether new ones are sent as they happen.
        follow: bool,
    },
    /// A person wants the boot to go on: holds are dropped, a failed boot is tried at once, a break ends.
    Boot {
        /// Another root than the boot parameters name, for this once.
        #[serde(default)]
        root: Option<Source>,
    },
    /// A session begins; lasts until the connection ends. After the answer it may get a [`Reply::Event`]: `session.cut`.
    Hold {
        /// Who, for people: `root from 10.0.2.2`.
        who: String,
        /// What kind.
        kind: SessionKind,
    },
    /// Something the boot may wait for has changed: look again now.
    Nudge,
    /// Unmount what can be unmounted and restart.
    Reboot {
        /// What the firmware is told with it, see reboot(2), LINUX_REBOOT_CMD_RESTART2.
        #[serde(default)]
        argument: Option<String>,
    },
    /// Unmount what can be unmounted and switch off.
    Poweroff,
    /// Something happened, for the ring and the consoles.
    Event(Event),
    /// The sender is the pipeline: it gets [`Reply::Order`]s on this connection and sends [`Request::Report`]s.
    Pipeline,
    /// How the pipeline is doing.
    Report(Report),
}

/// What kind of session holds the boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SessionKind {
    /// A shell.
    Shell,
    /// One command.
    Exec,
    /// A file transfer.
    Sftp,
    /// A shell on a console.
    Console,
}

/// What the pipeline tells PID 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Report {
    /// A stage begins.
    Stage(Stage),
    /// The search for a key partition has ended, and the plan has been made anew with what it holds.
    Replanned,
    /// The machine's addresses are now these.
    Addresses(Vec<Address>),
    /// The host name is now this.
    Hostname(String),
    /// The sshd and others should know that a stage waits for passphrases of these; empty: no longer.
    Waiting(Vec<LockedVolume>),
    /// No root is named.
    Idle,
    /// Stopped by `rd.break=`.
    Break(Stage),
    /// Every root failed.
    Failed {
        /// The last failure.
        failure: Failure,
        /// How often the list has been tried.
        attempts: u32,
        /// Milliseconds from now until the next try; `None`: there is none.
        next_try_ms: Option<u64>,
    },
    /// The new root stands.
    Ready(ReadyRoot),
}

/// A root that can be handed over to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadyRoot {
    /// Where it is mounted.
    pub path: String,
    /// What to execute in it.
    pub init: String,
    /// With which arguments.
    pub args: Vec<String>,
    /// Where it came from, for people.
    pub source: String,
}

/// What PID 1 answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// Done; the text says what follows, where anything does.
    Done {
        /// A sentence for the person, may be empty.
        text: String,
    },
    /// How things stand.
    Status(Box<Status>),
    /// One of the events asked for.
    Event(Event),
    /// Could not.
    Error {
        /// Why.
        what: String,
    },
    /// For the pipeline.
    Order(Order),
}

/// What PID 1 tells the pipeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// A person typed `rescue boot`: end the pause or the break.
    GoOn,
    /// A person typed `rescue boot ROOT`: that one next, and only once.
    BootOnce(Source),
    /// Look again at what is being waited for.
    Nudge,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Level;

    #[test]
    fn requests_read_back() {
        let failure = Failure {
            stage: Stage::Fetch,
            what: "x".into(),
            cause: None,
            hint: None,
        };
        for request in [
            Request::Status,
            Request::Log {
                since: 1,
                follow: true,
            },
            Request::Hold {
                who: "root from ::1".into(),
                kind: SessionKind::Shell,
            },
            Request::Event(Event::new(1, Level::Info, "boot.idle")),
            Request::Boot { root: None },
            Request::Boot {
                root: Some(Source::parse("LABEL=other").unwrap()),
            },
            Request::Reboot {
                argument: Some("0 tryboot".into()),
            },
            Request::Report(Report::Failed {
                failure,
                attempts: 2,
                next_try_ms: Some(5),
            }),
            Request::Report(Report::Waiting(vec![])),
        ] {
            let line = serde_json::to_string(&request).unwrap();
            assert!(!line.contains('\n'));
            assert_eq!(serde_json::from_str::<Request>(&line).unwrap(), request);
        }
    }

    #[test]
    fn what_may_be_left_out_may_be_left_out() {
        let read = |line: &str| serde_json::from_str::<Request>(line).unwrap();
        assert_eq!(read("{\"boot\":{}}"), Request::Boot { root: None });
        assert_eq!(read("{\"reboot\":{}}"), Request::Reboot { argument: None });
    }

    #[test]
    fn replies_read_back() {
        for reply in [
            Reply::Done { text: String::new() },
            Reply::Status(Box::default()),
            Reply::Error { what: "no".into() },
            Reply::Order(Order::GoOn),
            Reply::Order(Order::BootOnce(Source::parse("http://h/os").unwrap())),
        ] {
            let line = serde_json::to_string(&reply).unwrap();
            assert_eq!(serde_json::from_str::<Reply>(&line).unwrap(), reply);
        }
    }
}
