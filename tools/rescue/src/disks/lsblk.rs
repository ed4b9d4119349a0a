//! Which block devices there are and what is inside what: `lsblk`'s JSON.
//!
//! Only what the kernel knows by itself is asked for. With other columns lsblk looks into the devices too, one after the other, and
//! hangs with the first that hangs.

use super::{Disk, sysfs};
use crate::tool;
use anyhow::{Context as _, bail};
use serde::Deserialize;
use std::time::Duration;

/// Without `NAME` it prints a flat list in which nothing is inside anything.
const COLUMNS: &str = "NAME,PATH,SIZE,TYPE,RO,TRAN,MOUNTPOINTS";
/// The kernel answers from memory, but a mount on a server that is gone is in the way of some.
const PATIENCE: Duration = Duration::from_secs(20);

/// Every block device that has a size, parents before children.
///
/// # Errors
/// When lsblk cannot be run or understood.
pub fn ask() -> anyhow::Result<Vec<Disk>> {
    let words = ["--json", "--bytes", "--output", COLUMNS];
    let ended = tool::run_within(tool::command("lsblk", words), PATIENCE)?;
    if !ended.status.success() {
        bail!("lsblk: {}", tool::last_words(&ended));
    }
    let mut disks = parse(&ended.stdout).context("lsblk")?;
    for disk in disks.iter_mut().filter(|disk| disk.depth == 0) {
        let dir = sysfs::dir(&disk.device);
        disk.model = disk.model.take().or_else(|| sysfs::told(&dir, &sysfs::MODEL));
        disk.serial = sysfs::told(&dir, &sysfs::SERIAL);
    }
    Ok(disks)
}

#[derive(Deserialize)]
struct Lsblk {
    blockdevices: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    path: Option<String>,
    size: Option<Number>,
    #[serde(rename = "type")]
    kind: Option<String>,
    fstype: Option<String>,
    label: Option<String>,
    uuid: Option<String>,
    partlabel: Option<String>,
    partuuid: Option<String>,
    #[serde(default)]
    mountpoints: Vec<Option<String>>,
    model: Option<String>,
    tran: Option<String>,
    #[serde(default)]
    ro: Flag,
    #[serde(default)]
    children: Vec<Node>,
}

/// A number, which lsblk has written with and without quotes.
#[derive(Deserialize)]
#[serde(untagged)]
enum Number {
    Plain(u64),
    Quoted(String),
}

/// A yes or no, which lsblk has written as a word and as a number in quotes.
#[derive(Deserialize, Default)]
#[serde(untagged)]
enum Flag {
    Plain(bool),
    Quoted(String),
    #[default]
    Absent,
}

/// Reads lsblk's JSON.
pub fn parse(json: &[u8]) -> serde_json::Result<Vec<Disk>> {
    let tree: Lsblk = serde_json::from_slice(json)?;
    let mut disks = Vec::new();
    for node in tree.blockdevices {
        add(&mut disks, node, None, 0);
    }
    Ok(disks)
}

fn add(disks: &mut Vec<Disk>, node: Node, parent: Option<&str>, depth: usize) {
    let size = match node.size {
        Some(Number::Plain(bytes)) => bytes,
        Some(Number::Quoted(text)) => text.trim().parse().unwrap_or(0),
        None => 0,
    };
    // Empty drives and unused loop devices.
    let Some(device) = node.path.filter(|_| size > 0) else {
        return;
    };
    // A device with two parents (a RAID) is listed under each.
    if disks.iter().any(|disk| disk.device == device) {
        return;
    }
    let filled = |value: Option<String>| {
        value
            .map(|text| text.trim().to_owned())
            .filter(|text| !text.is_empty())
    };
    disks.push(Disk {
        device: device.clone(),
        kind: node.kind.unwrap_or_default(),
        size,
        fs: filled(node.fstype),
        label: filled(node.label),
        uuid: filled(node.uuid),
        partlabel: filled(node.partlabel),
        partuuid: filled(node.partuuid),
        mounted: node.mountpoints.into_iter().flatten().collect(),
        model: filled(node.model),
        transport: filled(node.tran),
        read_only: match node.ro {
            Flag::Plain(yes) => yes,
            Flag::Quoted(text) => text == "1",
            Flag::Absent => false,
        },
        parent: parent.map(str::to_owned),
        depth,
        ..Disk::default()
    });
    for child in node.children {
        add(disks, child, Some(&device), depth + 1);
    }
}

impl Disk {
    /// Where to look when it refuses writes: cards have a switch, what is made of other devices has been opened like that.
    pub fn protection(&self) -> &'static str {
        match self.kind.as_str() {
            "disk" | "part" | "rom" => "a card may have a switch for that",
            _ => "it was made to appear so, or a device it is made of refuses writes",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_be_a_card_is_said_to_have_a_switch() {
        let of = |kind: &str| Disk {
            kind: kind.to_owned(),
            ..Disk::default()
        };
        assert!(of("disk").protection().contains("switch") && of("part").protection().contains("switch"));
        for kind in ["lvm", "crypt", "raid1", "loop"] {
            assert!(!of(kind).protection().contains("switch"), "{kind}");
        }
    }
}
