//! `rescue disks`: what block devices there are and what is on them.
//!
//! `lsblk` finds them; this reads its JSON, adds what a rescuer asks first (is it LUKS and locked, is it mounted) and
//! gives [`crate::unlock`] and [`crate::fsck`] the same list.

use crate::{output, tool};
use anyhow::{Context as _, bail};
use argh::FromArgs;
use serde::{Deserialize, Serialize};
use std::process::ExitCode;

mod table;

pub use table::{human, lines};

/// Columns asked of lsblk. Without `NAME` it prints a flat list in which nothing is inside anything.
const COLUMNS: &str = "NAME,PATH,SIZE,TYPE,FSTYPE,LABEL,UUID,PARTLABEL,PARTUUID,MOUNTPOINTS,MODEL";

/// File system types of what is no file system but holds another device.
pub const LUKS: &str = "crypto_LUKS";

/// show disks, partitions and what is on them
#[derive(Debug, FromArgs)]
#[cfg_attr(test, derive(argh::ArgsInfo))]
#[argh(
    subcommand,
    name = "disks",
    example = "Everything that is there:\n$ {command_name}\nThe same for a script:\n$ {command_name} --json"
)]
pub struct Disks {
    /// print JSON
    #[argh(switch)]
    json: bool,
}

/// A block device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
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
    /// Whether a LUKS device is unlocked; absent for others.
    pub luks: Option<Luks>,
    /// Where it is mounted.
    pub mounted: Vec<String>,
    /// What the maker calls it.
    pub model: Option<String>,
    /// The device it is a part of.
    pub parent: Option<String>,
    /// How deep it lies: a disk is 0, its partition 1, what is unlocked from it 2.
    #[serde(skip)]
    depth: usize,
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

impl Disk {
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
    let disks = list()?;
    if options.json {
        output::line(&serde_json::to_string_pretty(&disks).context("disks")?)?;
    } else if disks.is_empty() {
        output::line("There is no disk.")?;
    } else {
        let table = table::lines(&disks);
        output::lines(table.iter().map(String::as_str))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Every block device that has a size, parents before children.
///
/// # Errors
/// When lsblk cannot be run or understood.
pub fn list() -> anyhow::Result<Vec<Disk>> {
    let ended = tool::run(tool::command("lsblk", ["--json", "--bytes", "--output", COLUMNS]))?;
    if !ended.status.success() {
        bail!("lsblk: {}", tool::last_words(&ended));
    }
    let mut disks = parse(&ended.stdout).context("lsblk")?;
    for disk in &mut disks {
        if disk.fs.is_none() {
            probe(disk);
        }
    }
    see_luks(&mut disks);
    Ok(disks)
}

/// The one device called `name`.
///
/// # Errors
/// When there is none, or a label is there twice.
pub fn find<'a>(disks: &'a [Disk], name: &str) -> anyhow::Result<&'a Disk> {
    let mut name = name.to_owned();
    // /dev/disk/by-…, /dev/root and the like.
    if name.starts_with('/')
        && let Ok(real) = std::fs::canonicalize(&name)
        && !disks.iter().any(|disk| disk.is_called(&name))
    {
        name = real.to_string_lossy().into_owned();
    }
    let found: Vec<&Disk> = disks
        .iter()
        .filter(|disk| disk.is_called(&name) || is_mapped(disk, &name))
        .collect();
    match found.as_slice() {
        [] => bail!("{name}: no such block device; 'rescue disks' shows what is there"),
        [one] => Ok(one),
        several => {
            let devices: Vec<&str> = several.iter().map(|disk| disk.device.as_str()).collect();
            bail!("{name}: means {} devices: {}", several.len(), devices.join(", "))
        }
    }
}

/// Whether `path` is the kernel's own name of a device that lsblk shows under /dev/mapper.
fn is_mapped(disk: &Disk, path: &str) -> bool {
    path.starts_with("/dev/dm-")
        && std::fs::canonicalize(&disk.device).is_ok_and(|real| real.as_os_str() == path)
}

/// Without a udev database older versions of lsblk do not look into devices themselves; blkid does.
fn probe(disk: &mut Disk) {
    let command = tool::command("blkid", ["--probe", "--output", "export", &disk.device]);
    // Nothing recognized is how most of these end; it is no error and nothing is then known, as before.
    let Ok(ended) = tool::run(command) else { return };
    for line in String::from_utf8_lossy(&ended.stdout).lines() {
        match line.split_once('=') {
            Some(("TYPE", value)) => disk.fs = Some(value.to_owned()),
            Some(("LABEL", value)) => disk.label = Some(value.to_owned()),
            Some(("UUID", value)) => disk.uuid = Some(value.to_owned()),
            _ => {}
        }
    }
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

/// Reads lsblk's JSON.
fn parse(json: &[u8]) -> serde_json::Result<Vec<Disk>> {
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
        luks: None,
        mounted: node.mountpoints.into_iter().flatten().collect(),
        model: filled(node.model),
        parent: parent.map(str::to_owned),
        depth,
    });
    for child in node.children {
        add(disks, child, Some(&device), depth + 1);
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
        let mut disks = parse(JSON.as_bytes()).unwrap();
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
    fn a_device_is_found_by_any_of_its_names() {
        let disks = parse(JSON.as_bytes()).unwrap();
        for name in ["/dev/vda1", "vda1", "UUID=U-1", "LABEL=data", "PARTUUID=P-1"] {
            assert_eq!(find(&disks, name).unwrap().device, "/dev/vda1", "{name}");
        }
        assert!(
            find(&disks, "vdb")
                .unwrap_err()
                .to_string()
                .contains("no such block device")
        );
    }

    #[test]
    fn what_is_not_lsblk_output_is_an_error() {
        for text in ["", "{}", "[]", "{\"blockdevices\": 3}"] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
