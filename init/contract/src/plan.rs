//! The plan: everything the boot will do, decided before anything is done.
//!
//! Made once by PID 1 from the command line, the baked configuration and what the device tree tells, then written to
//! [`crate::image::PLAN`] where the other processes read it. The one thing a reader would get wrong: a plan always comes
//! out. What cannot be understood becomes a [`Note`]; where going on with a default could run the wrong thing, it also becomes
//! [`Plan::refusal`], and the machine stays in rescue with network and ssh as planned.

use crate::config::Config;
use crate::event::{Level, Stage};
use crate::ip::{self, Directive, Vlan};
use crate::key_partition::{self, KeyFiles};
use crate::template::{Facts, Template};
use crate::tunnel::{Pin, Tunnel};
use crate::version::MinVersion;
use crate::words::{self, Word};
use serde::{Deserialize, Serialize};
use values::{absolute, address, address_and_port, choice, filled, host_and_port, hostname, number, stage};

mod contradictions;
mod luks;
mod policy;
mod reach;
mod ssh;
mod values;

pub use crate::root::{BlockId, Overlay, Source, Verify};
pub use luks::{FilePlace, Header, LuksOptions, LuksVolume};
pub use policy::{Hold, OnFailure, Retry, Tang};
pub use reach::Console;
pub(crate) use reach::shown;
pub(crate) use ssh::key_lines;
pub use ssh::{BakedKeys, Ssh};
pub use values::is_hostname;

/// What the boot will do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Where the OS may be, in the order tried; empty: stay in rescue.
    pub roots: Vec<Source>,
    /// How a local root is mounted.
    pub local: LocalRoot,
    /// What to execute in the new root, when not the usual.
    pub init: Option<String>,
    /// Arguments for it: what stood behind ` -- `, and the words init knows (`single`, runlevels).
    pub init_args: Vec<String>,
    /// Addresses, name servers, VLANs.
    pub network: Network,
    /// LUKS volumes to unlock before a local root is looked for.
    pub luks: Vec<LuksVolume>,
    /// Options for all of them.
    pub luks_options: LuksOptions,
    /// Whether Tang servers that a volume is bound to are asked.
    #[serde(default)]
    pub tang: Tang,
    /// Stop with a shell before this stage.
    pub break_before: Option<Stage>,
    /// How an OS image proves itself.
    pub verify: Verify,
    /// The names and least versions that a signed image may have; empty: any.
    #[serde(default)]
    pub min_versions: Vec<MinVersion>,
    /// Where its writable layer lives.
    pub overlay: Overlay,
    /// Whether sessions hold the handover.
    pub hold: Hold,
    /// What follows after the last try.
    pub on_failure: OnFailure,
    /// How often the roots are tried again.
    pub retry: Retry,
    /// Seconds until `on_failure` applies.
    pub deadline_s: Option<u64>,
    /// Timeout of the watchdog in seconds; `None`: leave it alone.
    pub watchdog_s: Option<u32>,
    /// Where this machine's own keys lie; looked for before the network and the ssh server.
    pub key_partition: Option<BlockId>,
    /// Seconds it may take to appear.
    pub key_wait_s: u64,
    /// The ssh server.
    pub ssh: Ssh,
    /// Bastions to which a reverse tunnel is kept.
    #[serde(default)]
    pub tunnels: Vec<Tunnel>,
    /// The host keys bastions must show.
    #[serde(default)]
    pub tunnel_pins: Vec<Pin>,
    /// What consoles ask for before they give a shell.
    #[serde(default)]
    pub console: Console,
    /// The host name, if it is not the lease's.
    pub hostname: Option<Template>,
    /// SNTP servers, HOST or HOST:PORT.
    pub ntp: Vec<String>,
    /// Least level printed on the consoles.
    pub log: Level,
    /// Device that gets the events, under /dev.
    pub events: Option<String>,
    /// ADDRESS[:PORT] that gets the events as syslog.
    pub syslog: Option<String>,
    /// The pipeline panics once before this stage.
    pub panic_before: Option<Stage>,
    /// What this machine is.
    pub facts: Facts,
    /// Words that were not taken.
    pub notes: Vec<Note>,
    /// Why no root may be tried.
    pub refusal: Option<String>,
    /// Words that the image locks.
    #[serde(default)]
    pub locked: Vec<String>,
}

/// How a local root is mounted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalRoot {
    /// `rootfstype=`
    pub fstype: Option<String>,
    /// `rootflags=`
    pub flags: Option<String>,
    /// `ro` or `rw`, the last one given.
    pub access: Access,
}

/// Whether something is mounted writable.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// As the kernel does without a word.
    #[default]
    ReadOnly,
    /// `rw`
    ReadWrite,
}

/// Addresses, name servers, VLANs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// One for each `ip=`; empty: DHCP on every wired interface.
    pub ip: Vec<Directive>,
    /// `nameserver=`
    pub nameservers: Vec<std::net::IpAddr>,
    /// MAC address of `BOOTIF=`, lower case, colons.
    pub bootif: Option<String>,
    /// `vlan=`
    pub vlans: Vec<Vlan>,
}

/// A word that was not taken, or not as it was meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// The word's key.
    pub key: String,
    /// What is wrong with it.
    pub what: String,
}

impl Plan {
    /// Makes the plan. `keys` are the baked key files, or the text of the one for root.
    pub fn make(cmdline: &str, config: &Config, facts: Facts, keys: impl Into<BakedKeys>) -> Plan {
        Plan::with_key_files(cmdline, config, facts, keys, &KeyFiles::default())
    }

    /// Makes the plan with what a key partition says.
    pub fn with_key_files(
        cmdline: &str,
        config: &Config,
        facts: Facts,
        keys: impl Into<BakedKeys>,
        files: &KeyFiles,
    ) -> Plan {
        let (given, args) = words::split(cmdline);
        let mut plan = Plan {
            facts,
            watchdog_s: Some(15),
            key_wait_s: key_partition::WAIT_S,
            init_args: args,
            log: Level::Info,
            locked: config.locked.iter().cloned().collect(),
            ..Plan::default()
        };
        plan.ssh = Ssh::read(&keys.into(), &mut plan.notes);
        plan.ssh
            .authorized_keys
            .extend(files.keys(config, &mut plan.notes));
        let config = files.over(config, &mut plan.notes);
        let words = merge(given, &config, &mut plan.notes);
        plan.contradictions(&words);
        for (at, word) in words.iter().enumerate() {
            if let Err(what) = plan.take(word) {
                plan.complain(&word.key, ssh::numbered(&words, at, what));
            }
        }
        plan.settle();
        plan
    }

    /// Adds a reason not to try any root.
    pub fn refuse(&mut self, what: String) {
        self.refusal = Some(match self.refusal.take() {
            Some(before) => format!("{before}; {what}"),
            None => what,
        });
    }

    /// The first note about a key that does not let in whom it was to.
    pub fn refused_key(&self) -> Option<&Note> {
        let of_keys = |note: &&Note| ssh::brings_keys(&note.key) || note.key == key_partition::KEYS_NOTED;
        self.notes.iter().find(of_keys)
    }

    /// Whether the image locks a word.
    pub fn is_locked(&self, key: &str) -> bool {
        self.locked.iter().any(|locked| locked == key)
    }

    fn complain(&mut self, key: &str, what: String) {
        let decides = [
            "root",
            "init",
            "lifeboot.verify",
            "lifeboot.min-version",
            "lifeboot.overlay",
        ];
        if decides.contains(&key) || key.starts_with("rd.luks.") {
            self.refuse(format!("{key}: {what}"));
        }
        self.notes.push(Note {
            key: key.to_owned(),
            what,
        });
    }

    fn take(&mut self, word: &Word) -> Result<(), String> {
        let value = word.text();
        match word.key.as_str() {
            "root" => self.roots.push(Source::parse(value)?),
            "rootfstype" => self.local.fstype = Some(filled(value)?),
            "rootflags" => self.local.flags = Some(filled(value)?),
            "ro" => self.local.access = Access::ReadOnly,
            "rw" => self.local.access = Access::ReadWrite,
            "init" => self.init = Some(absolute(value)?),
            "single" | "s" | "S" | "1" | "2" | "3" | "4" | "5" if word.value.is_none() => {
                self.init_args.push(word.key.clone())
            }
            "ip" => self
                .network
                .ip
                .push(Directive::parse(value).map_err(|error| error.to_string())?),
            "nameserver" => self.network.nameservers.push(address(value)?),
            "BOOTIF" => self.network.bootif = Some(ip::bootif(value).map_err(|error| error.to_string())?),
            "vlan" => self
                .network
                .vlans
                .push(Vlan::parse(value).map_err(|error| error.to_string())?),
            key if key.starts_with("rd.") => self.take_rd(key, value)?,
            key if key.starts_with("lifeboot.") => self.take_own(key, value)?,
            _ => {}
        }
        Ok(())
    }

    fn take_rd(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            "rd.luks.uuid" => {
                self.luks_volume(value)?;
            }
            "rd.luks.name" => self.luks_name(value)?,
            "rd.luks.key" => self.luks_key(value)?,
            "rd.luks.data" => self.luks_data(value)?,
            "rd.luks.options" => self.take_luks_options(value)?,
            "rd.break" => self.break_before = Some(stage(value)?),
            _ => {}
        }
        Ok(())
    }

    fn take_own(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            "lifeboot.overlay" => self.overlay = Overlay::parse(value)?,
            "lifeboot.hold" => {
                self.hold = choice(
                    value,
                    &[
                        ("never", Hold::Never),
                        ("session", Hold::Session),
                        ("always", Hold::Always),
                    ],
                )?;
            }
            "lifeboot.on-failure" => {
                self.on_failure = choice(
                    value,
                    &[("rescue", OnFailure::Rescue), ("reboot", OnFailure::Reboot)],
                )?;
            }
            "lifeboot.retry" if value == "forever" => self.retry = Retry::Forever,
            "lifeboot.retry" => self.retry = Retry::Times(number(value, 0, u64::from(u32::MAX))? as u32),
            "lifeboot.deadline" => self.deadline_s = Some(number(value, 1, 30 * 24 * 3600)?),
            "lifeboot.watchdog" if value == "off" => self.watchdog_s = None,
            "lifeboot.watchdog" => self.watchdog_s = Some(number(value, 1, 3600)? as u32),
            "lifeboot.hostname" => self.hostname = Some(hostname(value)?),
            "lifeboot.ntp" => self.ntp.push(host_and_port(value)?),
            "lifeboot.log" => {
                self.log = Level::from_name(value)
                    .ok_or_else(|| format!("'{value}' is none of error, warn, info and debug"))?;
            }
            "lifeboot.events" => self.events = Some(filled(value)?.trim_start_matches("/dev/").to_owned()),
            "lifeboot.debug" => {
                let named = value
                    .strip_prefix("panic:")
                    .ok_or_else(|| format!("'{value}' is not panic:STAGE"))?;
                self.panic_before = Some(stage(named)?);
            }
            "lifeboot.syslog" => self.syslog = Some(address_and_port(value)?),
            key => self.take_trust(key, value)?,
        }
        Ok(())
    }

    /// What decides who may log in and what may run.
    fn take_trust(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            "lifeboot.verify" => self.verify = Verify::parse(value)?,
            "lifeboot.tang" => self.tang = choice(value, &[("on", Tang::On), ("off", Tang::Off)])?,
            "lifeboot.min-version" => self.min_versions.push(MinVersion::parse(value)?),
            "lifeboot.key-partition" => self.key_partition = key_partition::parse(value)?,
            "lifeboot.key-wait" => self.key_wait_s = number(value, 0, 600)?,
            "lifeboot.tunnel" | "lifeboot.tunnel-hostkey" | "lifeboot.console-password" => {
                self.take_reach(key, value)?;
            }
            _ => {
                let unknown = || Err("is not a boot parameter of lifeboot".to_owned());
                self.ssh.take(key, value).unwrap_or_else(unknown)?;
            }
        }
        Ok(())
    }

    /// What only shows when all words are known.
    fn settle(&mut self) {
        self.settle_luks();
        self.settle_reach();
        let urls = self
            .roots
            .iter()
            .filter(|root| matches!(root, Source::Http(_)))
            .count();
        if matches!(self.verify, Verify::Sha256(_)) && urls > 1 {
            self.complain(
                "lifeboot.verify",
                format!("one SHA-256 is given, but root= names {urls} URLs"),
            );
        }
        if self.overlay == Overlay::None && self.local.access == Access::ReadWrite && urls > 0 {
            self.complain(
                "lifeboot.overlay",
                "none leaves an OS image read-only, but 'rw' is given".to_owned(),
            );
        }
    }
}

/// The words of the file that the command line does not replace, then those of the command line.
fn merge(given: Vec<Word>, config: &Config, notes: &mut Vec<Note>) -> Vec<Word> {
    let (locked, free): (Vec<_>, Vec<_>) = given.into_iter().partition(|word| config.locks(&word.key));
    for word in locked {
        let what = format!(
            "'{}' on the command line is ignored: the image locks this word",
            shown(&word)
        );
        notes.push(Note { key: word.key, what });
    }
    let baked = config
        .words
        .iter()
        .filter(|word| !free.iter().any(|other| other.key == word.key))
        .cloned();
    baked.chain(free.iter().cloned()).collect()
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
