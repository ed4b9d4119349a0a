//! What of an fstab is mounted here, in which order, and what is left out and why. Pure: it decides, [`super::make`] does.

use super::find::System;
use super::fstab::Entry;
use super::options::{Bind, Options};
use super::os_release::tame;
use super::resolve;
use crate::disks::Disk;
use serde::Serialize;

/// What is mounted at one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Inside the system: `/boot`
    pub target: String,
    /// What.
    pub what: What,
    /// How.
    pub options: Options,
}

/// What a step mounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A file system on a device.
    Device {
        /// `/dev/vda1`
        device: String,
        /// `ext4`
        fs: String,
    },
    /// A directory of the system itself.
    Directory {
        /// Inside the system: `/srv/data`
        path: String,
        /// With what is mounted in it, or without.
        bind: Bind,
    },
}

/// A line that is not mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// What it would have been.
    pub source: String,
    /// Where.
    pub target: String,
    /// Why it is not.
    pub why: String,
    /// Whether that is how it should be: nobody misses a swap.
    #[serde(skip)]
    pub expected: bool,
}

/// The whole of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// In the order in which they are mounted; the root first.
    pub steps: Vec<Step>,
    /// What is not.
    pub left_out: Vec<LeftOut>,
    /// What else a person should know.
    pub notes: Vec<String>,
}

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// Nothing may be written.
    pub read_only: bool,
    /// Its root and nothing else.
    pub root_only: bool,
}

/// Kinds of file systems that are on other machines.
const NETWORK: [&str; 12] = [
    "nfs",
    "nfs4",
    "cifs",
    "smbfs",
    "smb3",
    "sshfs",
    "ceph",
    "glusterfs",
    "9p",
    "afs",
    "davfs",
    "ncpfs",
];
/// Kinds of file systems that are no disk's; a chroot brings the ones it needs.
const OF_THE_KERNEL: [&str; 19] = [
    "tmpfs",
    "ramfs",
    "proc",
    "sysfs",
    "devtmpfs",
    "devpts",
    "cgroup",
    "cgroup2",
    "efivarfs",
    "debugfs",
    "tracefs",
    "securityfs",
    "configfs",
    "pstore",
    "bpf",
    "mqueue",
    "hugetlbfs",
    "binfmt_misc",
    "autofs",
];

impl Plan {
    /// Decides for a system.
    pub fn of(system: &System, disks: &[Disk], asked: Asked) -> Plan {
        let mut plan = Plan::default();
        plan.steps.push(plan_root(system, disks, &mut plan.notes));
        if system.fstab.is_empty() {
            plan.notes
                .push("its fstab names nothing, so only its root is mounted".to_owned());
        }
        for line in &system.unclear {
            plan.notes.push(format!(
                "line {} of its fstab is left out: {}: {}",
                line.line, line.why, line.text
            ));
        }
        plan.notes.extend(resolve::other_names(system, disks));
        let others = system.fstab.iter().filter(|entry| entry.target != "/");
        let mut steps = Vec::new();
        for entry in others.take_while(|_| !asked.root_only) {
            let options = entry.parsed();
            let (why, expected) = match passed_over(entry, &options) {
                Some(why) => (why.to_owned(), true),
                None => match step(entry, options, system, disks) {
                    Ok(step) => {
                        steps.push(step);
                        continue;
                    }
                    Err(why) => (why, false),
                },
            };
            plan.left_out.push(LeftOut {
                source: tame(&entry.source),
                target: tame(&entry.target),
                why,
                expected,
            });
        }
        plan.steps.extend(in_order(steps));
        if asked.read_only {
            plan.steps.iter_mut().for_each(refuse_writes);
        }
        plan
    }

    /// A file system that is no system.
    pub fn of_data(disk: &Disk, asked: Asked) -> Plan {
        let mut step = Step {
            target: "/".to_owned(),
            what: What::Device {
                device: disk.device.clone(),
                fs: disk.fs.clone().unwrap_or_default(),
            },
            options: Options::default(),
        };
        if asked.read_only {
            refuse_writes(&mut step);
        }
        Plan {
            steps: vec![step],
            ..Plan::default()
        }
    }
}

/// Read-only, and with the journal left alone.
fn refuse_writes(step: &mut Step) {
    step.options.read_only = true;
    if let What::Device { fs, .. } = &step.what {
        let own = super::look::unwritten(fs).own;
        step.options.own.extend(own);
    }
}

fn plan_root(system: &System, disks: &[Disk], notes: &mut Vec<String>) -> Step {
    let entry = system.fstab.iter().find(|entry| entry.target == "/");
    let mut options = entry.map(Entry::parsed).unwrap_or_default();
    if let Some(entry) = entry {
        match resolve::device(&entry.source, system, disks) {
            Ok(disk) if disk.device == system.device || disk.uuid == system.uuid => {}
            Ok(disk) => notes.push(format!(
                "its fstab says that its root is {} ({}), and this is {}",
                tame(&entry.source),
                disk.device,
                system.device
            )),
            Err(why) => notes.push(format!(
                "its fstab says that its root is {}: {why}",
                tame(&entry.source)
            )),
        }
    }
    // The subvolume it was found in, whatever the table says.
    if system.fs == "btrfs" {
        options
            .own
            .retain(|(key, _)| key != "subvol" && key != "subvolid");
        let subvolume = system
            .subvolume
            .clone()
            .map(|name| ("subvol".to_owned(), Some(name)));
        options.own.extend(subvolume);
    }
    options.bind = None;
    Step {
        target: "/".to_owned(),
        what: What::Device {
            device: system.device.clone(),
            fs: system.fs.clone(),
        },
        options,
    }
}

/// What a line becomes, or why it becomes nothing.
fn step(entry: &Entry, options: Options, system: &System, disks: &[Disk]) -> Result<Step, String> {
    let what = match options.bind {
        Some(bind) if entry.source.starts_with('/') => What::Directory {
            path: entry.source.clone(),
            bind,
        },
        Some(_) => return Err(format!("'{}' is no directory", tame(&entry.source))),
        None => {
            let disk = resolve::device(&entry.source, system, disks)?;
            What::Device {
                device: disk.device.clone(),
                fs: kind(entry, disk)?,
            }
        }
    };
    Ok(Step {
        target: entry.target.clone(),
        what,
        options,
    })
}

fn passed_over(entry: &Entry, options: &Options) -> Option<&'static str> {
    let fs = entry.fs.as_str();
    if fs == "swap" {
        return Some("swap");
    }
    if entry.target == "none" || fs == "ignore" {
        return Some("not mounted anywhere");
    }
    let remote = entry.source.starts_with("//") || entry.source.contains(":/");
    if options.network || NETWORK.contains(&fs) || fs.starts_with("fuse.sshfs") || remote {
        return Some("on the network");
    }
    if OF_THE_KERNEL.contains(&fs) {
        return Some("not on a disk");
    }
    if fs.starts_with("fuse") || fs == "overlay" || fs == "zfs" || fs == "bcachefs" {
        return Some("a kind of file system that is not mounted here");
    }
    if options.image_file {
        return Some("a file that wants a loop device");
    }
    if options.not_automatic {
        return Some("noauto");
    }
    // The places a chroot needs are its own.
    let own = ["/dev", "/proc", "/sys", "/run"];
    let taken = own
        .iter()
        .any(|place| entry.target == *place || entry.target.starts_with(&format!("{place}/")));
    taken.then_some("not on a disk")
}

/// What is really on the device; a line that says something else may mean another device.
fn kind(entry: &Entry, disk: &Disk) -> Result<String, String> {
    let Some(there) = disk.fs.clone() else {
        return Err(format!("no file system is recognised on {}", disk.device));
    };
    let family = |fs: &str| match fs {
        "ext2" | "ext3" | "ext4" => "ext".to_owned(),
        "ntfs" | "ntfs3" | "ntfs-3g" => "ntfs".to_owned(),
        "msdos" | "vfat" => "fat".to_owned(),
        other => other.to_owned(),
    };
    let said = entry
        .fs
        .split(',')
        .any(|fs| fs == "auto" || family(fs) == family(&there));
    // Names like /dev/sda1 wander from machine to machine, and one kernel's disk is another's stick.
    if !said {
        return Err(format!("{} is {there}, not {}", disk.device, tame(&entry.fs)));
    }
    Ok(there)
}

/// Sorts so that nothing is mounted before what it lies in, and otherwise as written.
fn in_order(mut waiting: Vec<Step>) -> Vec<Step> {
    let mut ordered: Vec<Step> = Vec::new();
    while !waiting.is_empty() {
        let free = (0..waiting.len()).find(|index| !waits(*index, &waiting));
        // Two directories each shown in the other: one of them has to come first.
        ordered.push(waiting.remove(free.unwrap_or(0)));
    }
    ordered
}

/// Whether one of the others has to be mounted before this one.
fn waits(index: usize, waiting: &[Step]) -> bool {
    let Some(step) = waiting.get(index) else {
        return false;
    };
    waiting.iter().enumerate().any(|(other, first)| {
        let holds_target = lies_in(&step.target, &first.target) && step.target != first.target;
        // Of two at one place the later line hides the earlier.
        let covers = step.target == first.target && other < index;
        let holds_source = match &step.what {
            What::Directory { path, .. } => lies_in(path, &first.target) && first.target != step.target,
            What::Device { .. } => false,
        };
        other != index && (holds_target || covers || holds_source)
    })
}

fn lies_in(path: &str, directory: &str) -> bool {
    std::path::Path::new(path).starts_with(directory)
}

#[cfg(test)]
mod tests;
