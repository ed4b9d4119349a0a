//! Devices that are not there until somebody says so: RAIDs, logical volumes, LUKS.
//!
//! What was done is returned, so that exactly that can be undone. A RAID is started so that nothing is written to it before its first
//! user writes; `looking` activates volumes that refuse writes altogether.

use super::look;
use super::state::Opened;
use crate::disks::{self, Disk, Luks};
use crate::{output, tool};
use anyhow::{Context as _, bail};
use lifeboot_init::lvm;
use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Stdio};

/// What a volume is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum For {
    /// Nothing is written.
    Looking,
    /// To be mounted.
    Use,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Activated {
    /// In the order in which it was done.
    pub opened: Vec<Opened>,
    /// What could not be done, for people.
    pub notes: Vec<String>,
}

/// Makes every RAID and logical volume appear whose parts are there; each may be on another.
///
/// # Errors
/// When it cannot be found out what is there.
pub fn activate(wanted: For) -> anyhow::Result<Activated> {
    let mut activated = Activated::default();
    // RAID, a group on it, a RAID on that: nobody has more.
    for _ in 0..3 {
        let disks = disks::list()?;
        let before = activated.opened.len();
        if has_idle_member(&disks) {
            assemble(&mut activated);
        }
        if disks.iter().any(|disk| disk.fs.as_deref() == Some(lvm::MEMBER)) {
            match lvm::is_here() {
                true => activate_groups(wanted, &mut activated),
                false => note(
                    &mut activated,
                    "a volume group is not activated: this image lacks the feature lvm".to_owned(),
                ),
            }
        }
        if activated.opened.len() == before {
            break;
        }
    }
    Ok(activated)
}

/// Whether a part of a RAID is there, and no RAID made of it.
fn has_idle_member(disks: &[Disk]) -> bool {
    let is_array = |kind: &str| kind.starts_with("raid") || kind == "linear";
    let mut members = disks
        .iter()
        .filter(|disk| disk.fs.as_deref() == Some("linux_raid_member"));
    members.any(|member| {
        let made_of_it = |disk: &Disk| disk.parent.as_deref() == Some(&member.device) && is_array(&disk.kind);
        // One of several members is listed above it alone.
        !disks.iter().any(made_of_it)
    })
}

fn assemble(activated: &mut Activated) {
    if look::program("mdadm").is_none() {
        note(
            activated,
            "a RAID is not assembled: this image lacks the feature raid".to_owned(),
        );
        return;
    }
    // Started, but nothing is written to it, its own superblocks included, before its first user writes.
    output::ignore(fs::write("/sys/module/md_mod/parameters/start_ro", "1"));
    let before = arrays();
    let said = tool::run(tool::command("mdadm", ["--assemble", "--scan"]));
    let new: Vec<String> = arrays().difference(&before).cloned().collect();
    if new.is_empty() {
        let why = said.map_or_else(|error| format!("{error:#}"), |said| tool::last_words(&said));
        note(activated, format!("no RAID was assembled: {why}"));
    }
    activated
        .opened
        .extend(new.into_iter().map(|device| Opened::Raid { device }));
}

/// RAIDs that run.
fn arrays() -> BTreeSet<String> {
    let entries = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    entries
        .filter(|entry| {
            let state = fs::read_to_string(entry.path().join("md/array_state")).unwrap_or_default();
            !["", "clear", "inactive"].contains(&state.trim())
        })
        .map(|entry| format!("/dev/{}", entry.file_name().to_string_lossy()))
        .collect()
}

fn activate_groups(wanted: For, activated: &mut Activated) {
    let said = match wanted {
        For::Use => lvm::activate(),
        For::Looking => lvm::activate_read_only(),
    };
    match said {
        Ok(new) => {
            let volumes = new.map(|new| new.volumes).unwrap_or_default();
            activated
                .opened
                .extend(volumes.into_iter().map(|name| Opened::Volume { name }));
        }
        Err(why) => note(
            activated,
            format!("not every logical volume was activated: {why}"),
        ),
    }
}

fn note(activated: &mut Activated, text: String) {
    if !activated.notes.contains(&text) {
        activated.notes.push(text);
    }
}

/// Has a person open a LUKS device, by `rescue unlock` itself: it knows how to ask, and tells the boot.
///
/// # Errors
/// When it was not opened.
pub fn unlock(device: &str) -> anyhow::Result<Vec<Opened>> {
    let before = lvm::active();
    let own = std::env::current_exe().unwrap_or_else(|_| "/init".into());
    // What it reports is no part of what we report.
    let ended = Command::new(own)
        .args(["unlock", device])
        .stdout(Stdio::null())
        .status()
        .context("rescue unlock")?;
    if !ended.success() {
        bail!("{device} is still locked");
    }
    let disks = disks::list()?;
    match &disks::find(&disks, device)?.luks {
        Some(Luks::Unlocked(mapper)) => {
            let mut opened = vec![Opened::Luks {
                device: device.to_owned(),
                mapper: mapper.clone(),
            }];
            // It has activated the groups on it, too.
            let volumes = lvm::active()
                .into_iter()
                .filter(|volume| !before.contains(volume));
            opened.extend(volumes.map(|name| Opened::Volume { name }));
            Ok(opened)
        }
        _ => bail!("{device}: what is in it has not appeared"),
    }
}

/// What is done with what is unlocked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unlocked {
    /// It stays so: a passphrase is dear.
    Stays,
    /// It is locked.
    Closes,
}

/// Undoes what was opened, the last first; what could not be undone or is to stay is left in `opened`.
pub fn close(opened: &mut Vec<Opened>, unlocked: Unlocked) -> Vec<String> {
    let mut said = Vec::new();
    while let Some(last) = opened.last() {
        let done = match last {
            Opened::Luks { device, mapper } if unlocked == Unlocked::Stays => {
                said.push(format!(
                    "{device} stays unlocked as {mapper}; 'rescue umount --close' locks it."
                ));
                return said;
            }
            Opened::Luks { mapper, .. } => run("cryptsetup", &["close", mapper]),
            Opened::Volume { name } => lvm::deactivate(name).map_err(anyhow::Error::msg),
            Opened::Raid { device } => run("mdadm", &["--stop", device]),
        };
        if let Err(error) = done {
            said.push(format!("{} is left as it is: {error:#}.", last.shown()));
            return said;
        }
        opened.pop();
    }
    said
}

fn run(program: &str, words: &[&str]) -> anyhow::Result<()> {
    let said = tool::run(tool::command(program, words))?;
    if !said.status.success() {
        bail!("{program}: {}", tool::last_words(&said));
    }
    Ok(())
}

impl Opened {
    fn shown(&self) -> &str {
        match self {
            Opened::Raid { device } => device,
            Opened::Volume { name } => name,
            Opened::Luks { mapper, .. } => mapper,
        }
    }
}
