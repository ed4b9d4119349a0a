//! Which systems are installed on this machine.
//!
//! A system is a file system with an os-release, or with an fstab and users. On btrfs it may be a subvolume, whatever its name.

use super::attach::Root;
use super::fstab::{Fstab, Mapping, crypttab};
use super::look;
use super::os_release::{self, OsRelease, tame};
use super::table;
use crate::disks::{Disk, LUKS, Luks};
use rustix::fs::{AtFlags, Dir, OFlags, fstat, statat};
use serde::Serialize;
use std::path::Path;

/// More of a text file than any system has.
const LONGEST: u64 = 256 * 1024;
/// The inode of a subvolume's root directory (BTRFS_FIRST_FREE_OBJECTID, include/uapi/linux/btrfs_tree.h).
const SUBVOLUME: u64 = 256;
/// More subvolumes than anybody boots from.
const MOST: usize = 64;

/// An installed system.
#[derive(Debug, Clone, Serialize)]
pub struct System {
    /// `Debian GNU/Linux 13 (trixie)`
    pub name: String,
    /// `debian`
    pub id: Option<String>,
    /// `13`
    pub version: Option<String>,
    /// Where its root is.
    pub device: String,
    /// What that is formatted as.
    pub fs: String,
    /// Label of that.
    pub label: Option<String>,
    /// UUID of that.
    pub uuid: Option<String>,
    /// The subvolume, where it is one that has to be named.
    pub subvolume: Option<String>,
    /// Where that is mounted.
    pub mounted: Vec<String>,
    /// Lines of its fstab.
    pub fstab: Vec<super::fstab::Entry>,
    /// Lines of it that are none.
    pub unclear: Vec<super::fstab::Unclear>,
    /// Names it has for its encrypted devices.
    #[serde(skip)]
    pub mappings: Vec<Mapping>,
}

/// Everything that was seen.
#[derive(Debug, Default, Serialize)]
pub struct Found {
    /// The systems.
    pub systems: Vec<System>,
    /// LUKS devices that nobody has opened.
    pub locked: Vec<String>,
    /// Devices that could hold one and could not be looked into, with the reason.
    pub unreadable: Vec<Unreadable>,
}

/// A device that did not let itself be looked into.
#[derive(Debug, Serialize)]
pub struct Unreadable {
    /// `/dev/vda1`
    pub device: String,
    /// Why.
    pub why: String,
}

/// Looks at all of `disks`.
pub fn systems<'a>(disks: impl IntoIterator<Item = &'a Disk>) -> Found {
    let mut found = Found::default();
    let mut seen: Vec<String> = Vec::new();
    for disk in disks {
        if disk.fs.as_deref() == Some(LUKS) && disk.luks == Some(Luks::Locked) {
            found.locked.push(disk.device.clone());
        }
        if !look::can_hold_a_system(disk) || is_a_copy(disk, &mut seen) {
            continue;
        }
        match on(disk) {
            Ok(systems) => found.systems.extend(systems),
            Err(error) => found.unreadable.push(Unreadable {
                device: disk.device.clone(),
                why: format!("{error:#}"),
            }),
        }
    }
    found
}

/// Whether a btrfs has been seen under another of its devices.
fn is_a_copy(disk: &Disk, seen: &mut Vec<String>) -> bool {
    let Some(uuid) = disk.uuid.as_ref().filter(|_| disk.fs.as_deref() == Some("btrfs")) else {
        return false;
    };
    let known = seen.contains(uuid);
    seen.push(uuid.clone());
    known
}

fn on(disk: &Disk) -> anyhow::Result<Vec<System>> {
    let root = look::into(disk)?;
    let mut systems: Vec<System> = system(disk, &root, None).into_iter().collect();
    if disk.fs.as_deref() != Some("btrfs") {
        return Ok(systems);
    }
    let names = subvolumes(&root);
    let mut known: Vec<u64> = fstat(&root).map(|stat| stat.st_dev).into_iter().collect();
    for name in names {
        let Ok(inner) = root.find_with(&name, OFlags::RDONLY | OFlags::DIRECTORY) else {
            continue;
        };
        known.extend(fstat(&inner).map(|stat| stat.st_dev));
        systems.extend(system(disk, &Root::new(inner), Some(name)));
    }
    // The one that is mounted when nothing is said, where it has none of the names above.
    if let Ok(default) = look::into_default(disk)
        && fstat(&default).is_ok_and(|stat| !known.contains(&stat.st_dev))
    {
        systems.extend(system(disk, &default, None));
    }
    Ok(systems)
}

/// Subvolumes in the top directory.
fn subvolumes(root: &Root) -> Vec<String> {
    let Ok(directory) = root.find_with("/", OFlags::RDONLY | OFlags::DIRECTORY) else {
        return Vec::new();
    };
    let entries = Dir::read_from(&directory).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.file_name().to_str().ok().map(str::to_owned))
        .filter(|name| name != "." && name != "..")
        .filter(|name| {
            let stat = statat(&directory, name.as_str(), AtFlags::SYMLINK_NOFOLLOW);
            stat.is_ok_and(|stat| stat.st_ino == SUBVOLUME)
        })
        .take(MOST)
        .collect();
    names.sort();
    names
}

fn system(disk: &Disk, root: &Root, subvolume: Option<String>) -> Option<System> {
    let read = |path: &str| root.read(path, LONGEST).ok();
    let release = read("/etc/os-release").or_else(|| read("/usr/lib/os-release"));
    let fstab = read("/etc/fstab");
    if release.is_none() && !(fstab.is_some() && root.find("/etc/passwd").is_ok()) {
        return None;
    }
    let release = release.map_or_else(OsRelease::default, |text| os_release::parse(&text));
    let fstab = Fstab::parse(&fstab.unwrap_or_default());
    Some(System {
        name: release
            .name
            .unwrap_or_else(|| "a system without a name".to_owned()),
        id: release.id,
        version: release.version,
        device: disk.device.clone(),
        fs: disk.fs.clone().unwrap_or_default(),
        label: disk.label.clone(),
        uuid: disk.uuid.clone(),
        mounted: places(disk, subvolume.as_deref()),
        subvolume: subvolume.map(|name| tame(&name)),
        fstab: fstab.entries,
        unclear: fstab.unclear,
        mappings: crypttab(&read("/etc/crypttab").unwrap_or_default()),
    })
}

/// Where it is mounted; of a disk with subvolumes, this one.
fn places(disk: &Disk, subvolume: Option<&str>) -> Vec<String> {
    let Some(name) = subvolume else {
        return disk.mounted.clone();
    };
    let mounts = table::read().unwrap_or_default();
    let shows = |place: &&String| {
        let mount = table::at(&mounts, Path::new(place.as_str()));
        mount.is_some_and(|mount| mount.root.trim_start_matches('/') == name)
    };
    disk.mounted.iter().filter(shows).cloned().collect()
}

impl System {
    /// The name, and where it is.
    pub fn title(&self) -> String {
        match &self.subvolume {
            Some(subvolume) => format!("{} on {}, subvolume {subvolume}", self.name, self.device),
            None => format!("{} on {}", self.name, self.device),
        }
    }
}
