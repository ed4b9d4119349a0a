//! Events: one JSON object a line, for machines; an optional sentence in each, for people.
//!
//! Tests and dashboards match [`Event::name`] and `fields`, never `text`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fmt;

/// The stages of the boot, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Command line, device tree and baked configuration become a plan.
    Plan,
    /// Kernel file systems, sentinel, modules.
    Devices,
    /// Links, addresses, routes, names.
    Network,
    /// The clock.
    Time,
    /// The OS image comes into memory.
    Fetch,
    /// Its signature or digest is checked.
    Verify,
    /// The new root is put together.
    Mount,
    /// The real init is executed.
    Handover,
}

impl Stage {
    /// Every stage, in order.
    pub const ALL: [Stage; 8] = [
        Stage::Plan,
        Stage::Devices,
        Stage::Network,
        Stage::Time,
        Stage::Fetch,
        Stage::Verify,
        Stage::Mount,
        Stage::Handover,
    ];

    /// The name used in events, on the console and in `rd.break=`.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Plan => "plan",
            Stage::Devices => "devices",
            Stage::Network => "network",
            Stage::Time => "time",
            Stage::Fetch => "fetch",
            Stage::Verify => "verify",
            Stage::Mount => "mount",
            Stage::Handover => "handover",
        }
    }

    /// The stage of that name.
    pub fn from_name(name: &str) -> Option<Stage> {
        Stage::ALL.into_iter().find(|stage| stage.name() == name)
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How much an event matters; defined by who reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Somebody has to do something.
    Error,
    /// Somebody should know.
    Warn,
    /// A person watching the console wants it.
    #[default]
    Info,
    /// Only for the person who debugs lifeboot.
    Debug,
}

impl Level {
    /// The level of that name.
    pub fn from_name(name: &str) -> Option<Level> {
        match name {
            "error" => Some(Level::Error),
            "warn" => Some(Level::Warn),
            "info" => Some(Level::Info),
            "debug" => Some(Level::Debug),
            _ => None,
        }
    }
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Number in the ring, counted from 1; given by PID 1.
    #[serde(default)]
    pub seq: u64,
    /// Milliseconds since the kernel started (CLOCK_BOOTTIME).
    pub ms: u64,
    /// `stage.happening`, one of [`NAMES`].
    pub name: String,
    /// Who should care.
    pub level: Level,
    /// One sentence for the console, without time or level in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The facts.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub fields: Map<String, Value>,
}

impl Event {
    /// An event of `name` at `ms`, to be filled by the methods below.
    pub fn new(ms: u64, level: Level, name: &str) -> Event {
        Event {
            seq: 0,
            ms,
            name: name.to_owned(),
            level,
            text: None,
            fields: Map::new(),
        }
    }

    /// With a sentence for the console.
    #[must_use]
    pub fn text(mut self, text: impl Into<String>) -> Event {
        self.text = Some(text.into());
        self
    }

    /// With a fact.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Event {
        self.fields.insert(key.to_owned(), value.into());
        self
    }

    /// A text field, empty when absent.
    pub fn str(&self, key: &str) -> &str {
        self.fields.get(key).and_then(Value::as_str).unwrap_or_default()
    }

    /// A number field.
    pub fn u64(&self, key: &str) -> Option<u64> {
        self.fields.get(key).and_then(Value::as_u64)
    }
}

/// A stage that could not do its work: what people see and what decides the fallback.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Where.
    pub stage: Stage,
    /// The object and the number: `root.squashfs: got 41943040 of 118030336 bytes`.
    pub what: String,
    /// The chain of causes, joined by `: `.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// An instruction, true in every case that reaches it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.stage, self.what)?;
        match &self.cause {
            Some(cause) => write!(f, ": {cause}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Failure {}

/// Every event name, with the fields it carries. `docs/events.md` is made from this table.
pub const NAMES: [(&str, &str); 78] = [
    ("init.start", "PID 1 runs: version, kernel, board"),
    (
        "init.sentinel",
        "the initramfs was checked: complete (bool), entries, missing, first_missing",
    ),
    (
        "init.watchdog",
        "a watchdog is being petted: device, identity, timeout_s",
    ),
    (
        "init.respawn",
        "a child ended and is started again: child, reason, pause_ms",
    ),
    ("init.panic", "PID 1 caught a panic and went on: message"),
    ("init.signal", "PID 1 was sent a signal: signal"),
    ("plan.done", "roots (list), verify"),
    ("plan.note", "a boot parameter was not taken: key, what"),
    ("plan.failed", "the plan is refused: what"),
    ("devices.module", "a kernel module was loaded: module, ms"),
    ("devices.done", "modules (count), ms"),
    ("devices.failed", "what"),
    ("keys.done", "the key partition was read: device, files (list)"),
    (
        "keys.absent",
        "no key partition appeared in time: wanted, seconds",
    ),
    (
        "keys.failed",
        "a key partition, or a file of it, was not taken: what",
    ),
    ("network.link", "interface, mac, carrier (bool)"),
    ("network.discover", "a DHCP discover was sent: interface, try"),
    (
        "network.lease",
        "interface, address, router, dns (list), server, seconds",
    ),
    ("network.static", "interface, address"),
    ("network.renewed", "interface, address, seconds"),
    ("network.lost", "interface, what"),
    (
        "network.moved",
        "an address goes to the interface it was meant for, which has come after all: interface, address, to",
    ),
    ("network.done", "interface, address"),
    (
        "network.absent",
        "no interface that the boot parameters ask for has appeared, or none has a carrier, in time, and every cable is tried: what, interfaces (list)",
    ),
    (
        "network.failed",
        "a search of half a minute has found nothing, the next begins; told of the first, second, fourth, eighth ... in a row as a warning: what",
    ),
    (
        "time.floor",
        "the clock was behind the build time and was set to it: unix",
    ),
    ("time.set", "source (sntp or http-date), server, unix, step_ms"),
    ("time.failed", "what"),
    ("fetch.start", "url, bytes (when the server told)"),
    ("fetch.progress", "url, bytes, of, bytes_per_s"),
    ("fetch.retry", "url, at (bytes held), try, pause_ms, what"),
    ("fetch.resume", "url, at"),
    ("fetch.restart", "the file changed on the server: url, held"),
    (
        "fetch.done",
        "url, bytes, requests, ms (altogether), coming_ms (while bytes came)",
    ),
    (
        "fetch.failed",
        "what, root; as a warning when another root follows, else boot.failed says it",
    ),
    ("verify.done", "how (minisign, sha256, off), key, comment"),
    ("verify.off", "an unverified image is about to run: url"),
    ("verify.failed", "as fetch.failed: what, root"),
    ("mount.waiting", "the boot waits for a passphrase: uuid, device"),
    ("mount.unlocked", "uuid, device"),
    ("mount.fsck", "device, result"),
    (
        "unlock.key",
        "a key file did not unlock a volume: uuid, device, key, what",
    ),
    (
        "unlock.tang",
        "a volume's Tang servers were asked: uuid, device, token, url, result (opened, failed, unsupported), what, next_try_ms",
    ),
    (
        "unlock.lvm",
        "volume groups were activated: groups (list), volumes (list), what",
    ),
    ("mount.done", "root, overlay, init"),
    ("mount.failed", "as fetch.failed: what, root"),
    ("boot.attempt", "try, place, root"),
    ("boot.failed", "stage, what, cause, hint, next_try_ms"),
    ("boot.idle", "no root= was given: rescue stays"),
    ("boot.break", "stopped by rd.break: stage"),
    ("boot.once", "a person asked for another root: root"),
    (
        "boot.once-failed",
        "it failed, and the plan's list is in force again: root, what",
    ),
    ("boot.ready", "root, init: the real system can be executed"),
    ("boot.held", "holds (count), who (list)"),
    (
        "boot.unmounted",
        "what stood ready was unmounted by somebody and is mounted again: root",
    ),
    ("boot.deadline", "lifeboot.deadline passed: seconds"),
    ("handover.start", "init, root"),
    ("handover.failed", "what, next_try_ms"),
    (
        "ssh.listening",
        "port, fingerprint, sshfp (the DNS record's data), keys (count), host_key (key-partition, derived or generated)",
    ),
    ("ssh.off", "sshd does not run: what"),
    (
        "ssh.login",
        "user, key, peer, certificate and serial (where it was by one), through (the bastion, when it came through a tunnel)",
    ),
    ("ssh.logout", "user, peer, seconds"),
    (
        "ssh.refused",
        "user, peer, what, through; or count and what, when there were more than ten in a minute",
    ),
    (
        "tunnel.key",
        "what the bastions must let in: public_key, fingerprint, authorized_keys (the line for them)",
    ),
    (
        "tunnel.up",
        "a bastion leads here: bastion, port (there), host_key, source (the loopback address its connections come from)",
    ),
    (
        "tunnel.down",
        "it does not, and is tried again; told of the first, second, fourth, eighth ... failure in a row: bastion, what, tries",
    ),
    ("tunnel.off", "a tunnel is not kept: bastion, what"),
    (
        "tunnel.connection",
        "somebody comes through a tunnel: bastion, from (as the bastion sees it), peer (as the ssh server sees it)",
    ),
    ("console.login", "the right password was given: console"),
    ("console.refused", "a wrong one was: console, tries (in a row)"),
    (
        "deploy.done",
        "rescue deploy has written an image and read it back: source, device",
    ),
    ("deploy.failed", "it has not: source, device, what"),
    ("backup.done", "rescue backup has sent all of a disk: device"),
    ("backup.failed", "it has not: device, what"),
    ("session.start", "who, kind"),
    ("session.end", "who, kind"),
    (
        "session.cut",
        "somebody ends other people's sessions, who are told: who, tty (their own)",
    ),
    (
        "child.error",
        "a process reports something no other name fits: child, what",
    ),
];

/// `docs/events.md`.
pub fn markdown() -> String {
    let mut out = String::from(HEAD);
    for (name, meaning) in NAMES {
        out.push_str(&format!("| `{name}` | {meaning} |\n"));
    }
    out
}

const HEAD: &str = "\
<!-- Made from init/contract/src/event.rs by `UPDATE_DOCS=1 cargo test -p lifeboot-contract`; a test fails when it is stale. -->
# Events

What happens is reported as one JSON object a line: `{\"seq\":12,\"ms\":3120,\"name\":\"network.lease\",\"level\":\"info\",\"text\":\"…\",\"fields\":{…}}`. `ms` counts
from the kernel's start. They go to the device of `lifeboot.events=`, and `rescue log --json` prints those that are remembered. Match
`name` and `fields`; `text` is for people and may change.

| Name | Meaning and fields |
|---|---|
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_reads_back() {
        let event = Event::new(4711, Level::Warn, "fetch.retry")
            .text("trying again")
            .with("at", 5u64)
            .with("what", "reset");
        let line = serde_json::to_string(&event).unwrap();
        assert!(!line.contains('\n'));
        assert_eq!(serde_json::from_str::<Event>(&line).unwrap(), event);
    }

    #[test]
    fn names_are_distinct_and_formed_as_stage_dot_happening() {
        for (index, (name, _)) in NAMES.iter().enumerate() {
            assert!(name.split('.').count() == 2, "{name}");
            assert!(
                !NAMES[..index].iter().any(|(other, _)| other == name),
                "{name} twice"
            );
        }
    }

    #[test]
    fn stages_have_names_that_read_back() {
        for stage in Stage::ALL {
            assert_eq!(Stage::from_name(stage.name()), Some(stage));
        }
    }
}
