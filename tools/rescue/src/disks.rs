//! `rescue disks`: what block devices there are, what is on them, and what of it wants attention.
//!
//! `lsblk` finds them, a process for each looks into it, the kernel and lvm tell what belongs together. [`crate::unlock`],
//! [`crate::fsck`] and others go by the same list.
//!
//! Files in reading order: `lsblk` which there are, `look` and `gpt` what is on one, `md` and `lvm` what is made of several,
//! `stack` what of what, `left_over` what of nothing any more,
//! `health` how they feel, `notes` what to do about it, `table` how it is shown; `find` which one is meant,
//! `sysfs` what drivers tell.

use crate::output;
use crate::work::{self, Holder};
use anyhow::Context as _;
use argh::FromArgs;
use serde::Serialize;
use std::io::{IsTerminal as _, stdout};
use std::process::ExitCode;

mod find;
pub mod gpt;
mod health;
mod left_over;
pub mod links;
pub mod look;
pub mod lsblk;
pub mod lvm;
pub mod md;
mod notes;
pub mod stack;
pub mod sysfs;
mod table;

pub use find::find;
pub use table::human;

/// File system types of what is no file system but holds another device.
pub const LUKS: &str = "crypto_LUKS";

/// show disks, partitions, what is on them and what is wrong with them
#[derive(Debug, FromArgs)]
#[cfg_attr(test, derive(argh::ArgsInfo))]
#[argh(
    subcommand,
    name = "disks",
    note = "One line for each device, those inside it below it; then a sentence for each thing that wants attention, with the command that helps: a damaged partition table, an array without one half, a volume group that is not active.\n\nNothing is written, and a disk that does not answer is named after 8 s and holds up nobody. On a terminal that is too narrow UUIDs have a table of their own. What eMMCs tell of their wear is always looked at; --health asks SATA, NVMe and USB disks too, which wakes sleeping ones and takes up to 15 s.",
    example = "Everything that is there:\n$ {command_name}\nAsk the disks how they feel:\n$ {command_name} --health\nThe same for a script:\n$ {command_name} --json"
)]
pub struct Disks {
    /// ask the disks themselves how they feel (features smart, nvme)
    #[argh(switch)]
    health: bool,
    /// print JSON
    #[argh(switch)]
    json: bool,
}

/// A block device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Disk {
    /// `/dev/vda1`
    pub device: String,
    /// `disk`, `part`, `crypt`, `lvm`, `raid1`, `loop`, `rom`
    pub kind: String,
    /// Bytes.
    pub size: u64,
    /// What blkid finds: `ext4`, `vfat`, `crypto_LUKS`, `swap`, …
    pub fs: Option<String>,
    /// Label of the file system.
    pub label: Option<String>,
    /// UUID of the file system or the LUKS header.
    pub uuid: Option<String>,
    /// Name of the partition.
    pub partlabel: Option<String>,
    /// UUID of the partition.
    pub partuuid: Option<String>,
    /// The partition table on it: `gpt`, `dos`.
    pub table: Option<String>,
    /// How the two copies of a GPT are.
    pub gpt: Option<gpt::Gpt>,
    /// Whether a LUKS device is unlocked; absent for others.
    pub luks: Option<Luks>,
    /// What it is a member of.
    pub part_of: Option<PartOf>,
    /// The RAID that it is.
    pub array: Option<md::Array>,
    /// What a member of a RAID has written on it about the RAID.
    #[serde(skip)]
    pub raid: Option<md::Told>,
    /// Where it is mounted.
    pub mounted: Vec<String>,
    /// What the maker calls it.
    pub model: Option<String>,
    /// The maker's number.
    pub serial: Option<String>,
    /// `sata`, `usb`, `nvme`, `mmc`, `virtio`
    pub transport: Option<String>,
    /// Whether the kernel lets nobody write to it.
    pub read_only: bool,
    /// What it says of itself.
    pub health: Option<health::Health>,
    /// Whether the disk it was made of has gone.
    pub left_over: bool,
    /// Why not more is known.
    pub trouble: Option<String>,
    /// Who repairs, writes or reads it and lets nobody else.
    pub holder: Option<Holder>,
    /// What wants attention, and what helps.
    pub notes: Vec<String>,
    /// The device it is a part of.
    pub parent: Option<String>,
    /// How deep it lies: a disk is 0, its partition 1, what is unlocked from it 2.
    #[serde(skip)]
    pub depth: usize,
}

/// State of a LUKS device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "is", content = "as")]
pub enum Luks {
    /// Nobody has given the passphrase.
    Locked,
    /// Its content is this device.
    Unlocked(String),
}

/// What a device is a member of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PartOf {
    /// `LVM`, `RAID`
    pub what: &'static str,
    /// The volume group, the running array's device, or the array's own name.
    pub name: Option<String>,
    /// How it is.
    pub standing: Standing,
    /// What makes it usable.
    pub activate: Option<String>,
}

/// How what a device is a member of is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum Standing {
    /// It runs with this device.
    Active,
    /// It runs with this device, and others are missing.
    Degraded,
    /// It runs without this device.
    LeftOut,
    /// It does not run.
    Inactive,
    /// It does not run, and not all of it is here.
    InactiveIncomplete {
        /// Devices that are here and up to date.
        here: u64,
        /// Devices it is made for.
        of: u64,
    },
    /// A volume group of which some volumes are not here.
    Incomplete {
        /// How many.
        missing: u64,
    },
    /// It belongs to nothing yet.
    Unused,
    /// The program that would tell is not in the image.
    Unknown,
}

impl Disk {
    /// Takes over what a look into it found.
    fn learn(&mut self, seen: look::Seen) {
        self.fs = seen.fs;
        self.label = seen.label;
        self.uuid = seen.uuid;
        self.partlabel = seen.partlabel;
        self.partuuid = seen.partuuid;
        self.table = seen.table;
        self.gpt = seen.gpt;
        self.raid = seen.raid;
        self.trouble = seen.trouble;
    }

    /// Whether `name` means this device: a path, a name without `/dev/`, or one of `UUID= LABEL= PARTUUID= PARTLABEL=`.
    pub fn is_called(&self, name: &str) -> bool {
        let same = |value: &Option<String>, wanted: &str| value.as_deref() == Some(wanted);
        match name.split_once('=') {
            Some(("UUID", uuid)) => self
                .uuid
                .as_deref()
                .is_some_and(|own| own.eq_ignore_ascii_case(uuid)),
            Some(("LABEL", label)) => same(&self.label, label),
            Some(("PARTUUID", uuid)) => self
                .partuuid
                .as_deref()
                .is_some_and(|own| own.eq_ignore_ascii_case(uuid)),
            Some(("PARTLABEL", label)) => same(&self.partlabel, label),
            _ => self.device == name || self.device.strip_prefix("/dev/") == Some(name),
        }
    }
}

/// Prints the table.
///
/// # Errors
/// When lsblk cannot be run or understood.
pub fn run(options: &Disks) -> anyhow::Result<ExitCode> {
    let mut disks = list()?;
    if options.health {
        if let Err(missing) = health::thorough(&mut disks) {
            output::complain(&format!("rescue: {missing}"));
        }
        notes::add(&mut disks);
    }
    if options.json {
        output::line(&serde_json::to_string_pretty(&disks).context("disks")?)?;
    } else if disks.is_empty() {
        output::line("There is no disk.")?;
    } else {
        let notes = notes::lines(&disks, width());
        output::lines(lines(&disks).iter().chain(&notes).map(String::as_str))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The table, as the terminal has room for it.
pub fn lines(disks: &[Disk]) -> Vec<String> {
    match width() {
        Some(width) => table::lines_within(disks, width),
        None => table::lines(disks),
    }
}

/// A sentence in lines that fit the terminal, without tearing a command apart.
pub fn broken(sentence: &str) -> Vec<String> {
    notes::broken(sentence, width().unwrap_or(usize::MAX))
}

/// Columns of the terminal; `None`: nobody said, or it is none.
fn width() -> Option<usize> {
    let size = stdout()
        .is_terminal()
        .then(|| rustix::termios::tcgetwinsize(stdout()))?;
    match size {
        Ok(size) if size.ws_col > 0 => Some(usize::from(size.ws_col)),
        // A serial console does not know how wide it is.
        _ => Some(80),
    }
}

/// Every block device that has a size, parents before children.
///
/// # Errors
/// When lsblk cannot be run or understood.
pub fn list() -> anyhow::Result<Vec<Disk>> {
    let mut disks = lsblk::ask()?;
    let devices: Vec<String> = disks.iter().map(|disk| disk.device.clone()).collect();
    for (disk, seen) in disks.iter_mut().zip(look::at(&devices)) {
        disk.learn(seen);
    }
    see_luks(&mut disks);
    md::relate(&mut disks);
    lvm::relate(&mut disks);
    left_over::add(&mut disks);
    for disk in &mut disks {
        disk.holder = work::holder(&disk.device);
        if disk.depth == 0 {
            disk.health = health::cheap(disk);
        }
    }
    notes::add(&mut disks);
    Ok(disks)
}

/// Which LUKS devices are open: those with a mapped device inside.
fn see_luks(disks: &mut [Disk]) {
    let open: Vec<(String, String)> = disks
        .iter()
        .filter(|disk| disk.kind == "crypt")
        .filter_map(|disk| Some((disk.parent.clone()?, disk.device.clone())))
        .collect();
    for disk in disks.iter_mut().filter(|disk| disk.fs.as_deref() == Some(LUKS)) {
        let inside = open.iter().find(|(parent, _)| *parent == disk.device);
        disk.luks = Some(inside.map_or(Luks::Locked, |(_, device)| Luks::Unlocked(device.clone())));
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    const JSON: &str = r#"{"blockdevices": [
        {"path":"/dev/loop0","size":0,"type":"loop","fstype":null,"mountpoints":[null]},
        {"path":"/dev/vda","size":"2147483648","type":"disk","fstype":null,"label":null,"uuid":null,
         "mountpoints":[null],"model":"QEMU DISK ","children":[
            {"path":"/dev/vda1","size":1047527424,"type":"part","fstype":"ext4","label":"data","uuid":"u-1",
             "partuuid":"p-1","mountpoints":[null,"/mnt"]},
            {"path":"/dev/vda2","size":524288000,"type":"part","fstype":"crypto_LUKS","label":null,"uuid":"u-2",
             "mountpoints":[null],"children":[
                {"path":"/dev/mapper/luks-u-2","size":507510784,"type":"crypt","fstype":"ext4","label":"root",
                 "uuid":"u-3","mountpoints":[null]}]},
            {"path":"/dev/vda3","size":1048576,"type":"part","fstype":"crypto_LUKS","label":null,"uuid":"u-4",
             "mountpoints":[null]}]}]}"#;

    /// What the sample is seen as.
    pub fn seen() -> Vec<Disk> {
        let mut disks = lsblk::parse(JSON.as_bytes()).unwrap();
        see_luks(&mut disks);
        disks
    }

    #[test]
    fn what_lsblk_says_becomes_a_flat_list() {
        let disks = seen();
        let devices: Vec<_> = disks.iter().map(|d| (d.device.as_str(), d.depth)).collect();
        let expected = [
            ("/dev/vda", 0),
            ("/dev/vda1", 1),
            ("/dev/vda2", 1),
            ("/dev/mapper/luks-u-2", 2),
            ("/dev/vda3", 1),
        ];
        assert_eq!(devices, expected);
        assert_eq!(disks[0].size, 2 << 30);
        assert_eq!(disks[0].model.as_deref(), Some("QEMU DISK"));
        assert_eq!(disks[1].mounted, ["/mnt"]);
        assert_eq!(disks[2].luks, Some(Luks::Unlocked("/dev/mapper/luks-u-2".into())));
        assert_eq!(disks[4].luks, Some(Luks::Locked));
        assert_eq!(disks[3].parent.as_deref(), Some("/dev/vda2"));
    }

    #[test]
    fn what_is_not_lsblk_output_is_an_error() {
        for text in ["", "{}", "[]", "{\"blockdevices\": 3}"] {
            assert!(lsblk::parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
