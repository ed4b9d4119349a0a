//! Which checker is for what, and what is to be said of devices that have none.

use super::found::Found;
use super::job::Job;
use super::report::Outcome;
use super::{btrfs, ext, remains, simple, table, xfs};
use crate::disks::gpt::Gpt;
use crate::disks::{Disk, LUKS, Luks, Standing, lvm, md};
use crate::tool;

/// The checkers there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Ext,
    Fat,
    Exfat,
    Xfs,
    Btrfs,
    F2fs,
    Ntfs,
    /// A partition table of two copies.
    Gpt,
}

impl Kind {
    /// The checker for what is on a device.
    pub fn of(disk: &Disk) -> Option<Kind> {
        match disk.fs.as_deref() {
            Some("ext2" | "ext3" | "ext4" | "ext4dev") => Some(Kind::Ext),
            Some("vfat" | "msdos") => Some(Kind::Fat),
            Some("exfat") => Some(Kind::Exfat),
            Some("xfs") => Some(Kind::Xfs),
            Some("btrfs") => Some(Kind::Btrfs),
            Some("f2fs") => Some(Kind::F2fs),
            Some("ntfs") => Some(Kind::Ntfs),
            Some(_) => None,
            None if disk.gpt.is_some() => Some(Kind::Gpt),
            None if is_bare(disk) => remains::on(&disk.device),
            None => None,
        }
    }

    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Ext => "ext",
            Kind::Fat => "FAT",
            Kind::Exfat => "exFAT",
            Kind::Xfs => "XFS",
            Kind::Btrfs => "btrfs",
            Kind::F2fs => "F2FS",
            Kind::Ntfs => "NTFS",
            Kind::Gpt => "GPT",
        }
    }

    /// The program that checks it and the feature that has it; `None`: it needs none.
    fn program(self) -> Option<(&'static str, &'static str)> {
        match self {
            Kind::Ext => Some(("e2fsck", "ext4")),
            Kind::Fat => Some(("fsck.vfat", "vfat")),
            Kind::Exfat => Some(("fsck.exfat", "exfat")),
            Kind::Xfs => Some(("xfs_repair", "xfs")),
            Kind::Btrfs => Some(("btrfs", "btrfs")),
            Kind::F2fs => Some(("fsck.f2fs", "f2fs")),
            Kind::Ntfs => Some(("ntfsfix", "ntfs")),
            Kind::Gpt => None,
        }
    }

    /// What is missing in the image, as a sentence.
    pub fn missing(self) -> Option<String> {
        let (name, feature) = self.program()?;
        let absent = tool::place(name).is_none();
        absent.then(|| format!("not checked: {name} is not in this image: build it with feature {feature}"))
    }

    /// Looks, and writes nothing.
    ///
    /// # Errors
    /// When the checker cannot be started.
    pub fn look(self, job: &Job) -> anyhow::Result<Found> {
        match self {
            Kind::Ext => ext::look(job),
            Kind::Fat => simple::fat(job),
            Kind::Exfat => simple::exfat(job),
            Kind::Xfs => xfs::look(job),
            Kind::Btrfs => btrfs::look(job),
            Kind::F2fs => simple::f2fs(job),
            Kind::Ntfs => simple::ntfs(job),
            Kind::Gpt => table::look(job),
        }
    }
}

/// Whether nothing at all was recognized on it, and it could hold something.
fn is_bare(disk: &Disk) -> bool {
    disk.table.is_none() && disk.trouble.is_none() && disk.kind != "rom"
}

/// Whether a device is spoken of when everything is asked for: what can be checked, and what hides something.
pub fn concerns(disk: &Disk, all: &[Disk]) -> bool {
    let inside = || {
        all.iter()
            .any(|other| other.parent.as_deref() == Some(disk.device.as_str()))
    };
    match Kind::of(disk) {
        // Of a good partition table the partitions are spoken of.
        Some(Kind::Gpt) => !matches!(disk.gpt, Some(Gpt::Whole | Gpt::BackupNotAtEnd)),
        // A btrfs of several devices is checked once, by the first.
        Some(Kind::Btrfs) if disk.fs.is_some() => first_of(disk, all),
        Some(_) if disk.fs.is_none() => !inside(),
        Some(_) => true,
        None => {
            let asleep = disk.part_of.as_ref().is_some_and(|part| {
                !matches!(
                    part.standing,
                    Standing::Active | Standing::Degraded | Standing::Unused
                )
            });
            disk.luks == Some(Luks::Locked) || asleep
        }
    }
}

fn first_of(disk: &Disk, all: &[Disk]) -> bool {
    let same = |other: &&Disk| other.fs == disk.fs && other.uuid.is_some() && other.uuid == disk.uuid;
    all.iter()
        .find(same)
        .is_none_or(|first| first.device == disk.device)
}

/// Where it, or another device of the same btrfs, is mounted.
pub fn mounted<'a>(disk: &'a Disk, all: &'a [Disk]) -> Option<&'a String> {
    let btrfs = |other: &&Disk| {
        disk.fs.as_deref() == Some("btrfs")
            && other.fs == disk.fs
            && other.uuid.is_some()
            && other.uuid == disk.uuid
    };
    let own = disk.mounted.first();
    own.or_else(|| all.iter().filter(btrfs).find_map(|other| other.mounted.first()))
}

/// What is said of a device for which there is no checker.
pub fn none_for(disk: &Disk) -> (Outcome, String) {
    let device = &disk.device;
    if let Some(trouble) = &disk.trouble {
        return (Outcome::Failed, format!("not checked: {trouble}"));
    }
    match disk.fs.as_deref() {
        Some(LUKS) => match &disk.luks {
            Some(Luks::Unlocked(inner)) => (
                Outcome::Locked,
                format!("LUKS, unlocked; check what is in it: rescue fsck {inner}"),
            ),
            _ => (
                Outcome::Locked,
                format!("LUKS, locked; unlock it first: rescue unlock {device}"),
            ),
        },
        Some(lvm::MEMBER | md::MEMBER) => (Outcome::Locked, member(disk)),
        Some("swap") => (
            Outcome::Nothing,
            "swap, on which there is nothing to check".to_owned(),
        ),
        Some(fs) => (Outcome::Unsupported, format!("there is no checker for {fs} here")),
        None if disk.table.is_some() => (
            Outcome::Nothing,
            "a partition table; 'rescue fsck all' checks what is in the partitions".to_owned(),
        ),
        None => (
            Outcome::Unsupported,
            remains::several(device).unwrap_or_else(|| "no file system was recognized on it".to_owned()),
        ),
    }
}

fn member(disk: &Disk) -> String {
    let Some(part) = &disk.part_of else {
        return "a member of something else; check what is in that".to_owned();
    };
    let what = part.what;
    let name = part.name.as_deref().unwrap_or("without a name");
    match (&part.activate, &part.standing) {
        (_, Standing::LeftOut) => format!("left out of {name}; check {name} instead"),
        (Some(how), _) => format!("{what} {name}, not active; activate it, then check what is in it: {how}"),
        (None, _) => format!("{what} {name}; check what is in it, 'rescue disks' shows that"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disks::PartOf;

    fn with(fs: &str) -> Disk {
        Disk {
            device: "/dev/vda".to_owned(),
            fs: Some(fs.to_owned()),
            ..Disk::default()
        }
    }

    #[test]
    fn every_file_system_has_its_checker_and_what_is_none_points_inside() {
        for (fs, kind) in [
            ("ext3", Kind::Ext),
            ("vfat", Kind::Fat),
            ("xfs", Kind::Xfs),
            ("f2fs", Kind::F2fs),
        ] {
            assert_eq!(Kind::of(&with(fs)), Some(kind), "{fs}");
        }
        assert_eq!(Kind::of(&with("zfs_member")), None);
        assert_eq!(none_for(&with("zfs_member")).0, Outcome::Unsupported);
        assert_eq!(none_for(&with("swap")).0, Outcome::Nothing);
        let mut disk = with(lvm::MEMBER);
        disk.part_of = Some(PartOf {
            what: "LVM",
            name: Some("vg0".to_owned()),
            standing: Standing::Inactive,
            activate: Some("vgchange -ay vg0".to_owned()),
        });
        let (outcome, text) = none_for(&disk);
        assert!(
            outcome == Outcome::Locked && text.ends_with("vgchange -ay vg0"),
            "{text}"
        );
        assert!(concerns(&disk, &[]));
    }

    #[test]
    fn a_btrfs_of_two_devices_is_mounted_when_either_is_and_checked_once() {
        let mut one = with("btrfs");
        one.uuid = Some("u".to_owned());
        let mut other = one.clone();
        other.device = "/dev/vdb".to_owned();
        other.mounted = vec!["/mnt".to_owned()];
        let all = [one.clone(), other.clone()];
        assert_eq!(mounted(&one, &all).unwrap(), "/mnt");
        assert!(concerns(&one, &all) && !concerns(&other, &all));
        other.mounted.clear();
        assert_eq!(mounted(&one, &[one.clone(), other]), None);
    }
}
