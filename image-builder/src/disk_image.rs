//! The system inside a disk image, as a tree: nothing is mounted and nobody has to be root.
//!
//! The root is the ext4 partition that holds an operating system; the partitions its `/etc/fstab` puts below `/boot` appear
//! there, found by what stands in that file, not by their number.

mod ext4;
mod fat;
mod medium;
mod partitions;
mod unpack;

use std::path::Path;

use anyhow::{Context, Result, bail};

use self::medium::Slice;
use self::partitions::Partition;
use crate::tree::{Backing, Tree};

/// What tells that a file system is a system's root.
const ROOT_FILES: &[&str] = &["/etc/os-release", "/usr/lib/os-release", "/etc/fstab"];

/// A partition with a file system that can be read.
struct Volume {
    number: u32,
    kind: &'static str,
    /// `PARTUUID=…` and so on, the ways a line of fstab may name it.
    names: Vec<String>,
    backing: Box<dyn Backing>,
}

/// Opens an image, compressed or not; `scratch` is a directory with room for what has to be unpacked, which goes into a file
/// without a name there.
pub fn open(image: &Path, scratch: &Path) -> Result<Tree> {
    let name = image.file_name().map_or_else(
        || image.display().to_string(),
        |name| name.to_string_lossy().into_owned(),
    );
    let disk = Slice::whole(unpack::open(image, scratch)?);
    let partitions = if ext4::is_one(&disk) {
        // A root file system by itself.
        vec![Partition {
            number: 0,
            uuid: String::new(),
            bytes: disk,
        }]
    } else {
        partitions::read(&disk).with_context(|| image.display().to_string())?
    };
    let mut found = Vec::new();
    let mut volumes = Vec::new();
    for partition in &partitions {
        let volume = volume(&name, partition)?;
        found.push(format!(
            "partition {} {}",
            partition.number,
            volume
                .as_ref()
                .map_or_else(|| unknown(&partition.bytes), |volume| volume.kind)
        ));
        volumes.extend(volume);
    }
    let (root, mut others) = root(&name, volumes, &found)?;
    let mut tree = Tree::over(name, root);
    for (at, names) in mounts(&tree)? {
        if let Some(position) = others
            .iter()
            .position(|volume| names.iter().any(|name| volume.names.contains(name)))
        {
            tree.mount(&at, others.swap_remove(position).backing);
        }
    }
    mount_only_fat(&mut tree, others)?;
    Ok(tree)
}

fn volume(image: &str, partition: &Partition) -> Result<Option<Volume>> {
    let name = format!("{image}: partition {}", partition.number);
    let mut names = vec![
        format!("PARTUUID={}", partition.uuid),
        format!("/dev/{}", partition.number),
    ];
    let (kind, backing): (_, Box<dyn Backing>) = if ext4::is_one(&partition.bytes) {
        let found = ext4::FileSystem::open(name, &partition.bytes, u64::from(partition.number))?;
        names.extend([
            format!("UUID={}", found.uuid()),
            format!("LABEL={}", found.label()),
        ]);
        ("ext4", Box::new(found))
    } else if fat::is_one(&partition.bytes) {
        let found = fat::FileSystem::open(name, &partition.bytes, u64::from(partition.number))?;
        names.extend([
            format!("UUID={}", found.uuid()),
            format!("LABEL={}", found.label()),
        ]);
        ("FAT", Box::new(found))
    } else {
        return Ok(None);
    };
    Ok(Some(Volume {
        number: partition.number,
        kind,
        names,
        backing,
    }))
}

/// The one volume that holds a system, and the others.
fn root(image: &str, volumes: Vec<Volume>, found: &[String]) -> Result<(Box<dyn Backing>, Vec<Volume>)> {
    let mut roots = Vec::new();
    let mut others = Vec::new();
    for volume in volumes {
        if volume.kind == "ext4" {
            let tree = Tree::over(image.to_owned(), volume.backing);
            let mut is_root = false;
            for file in ROOT_FILES {
                is_root |= tree.exists(file)?;
            }
            let volume = Volume {
                backing: tree.into_root(),
                ..volume
            };
            if is_root {
                roots.push(volume)
            } else {
                others.push(volume)
            }
        } else {
            others.push(volume);
        }
    }
    match roots.len() {
        0 if others.iter().any(|volume| volume.kind == "ext4") => {
            bail!(
                "{image}: no system in its ext4 file systems, none has an /etc/os-release ({})",
                found.join(", ")
            )
        }
        0 => bail!(
            "{image}: no ext4 file system in it ({}); others are not read, and a damaged one e2fsck may repair (-b 32768)",
            found.join(", ")
        ),
        1 => Ok((roots.remove(0).backing, others)),
        many => {
            let numbers: Vec<String> = roots.iter().map(|root| root.number.to_string()).collect();
            bail!(
                "{image}: {many} systems in it, in partitions {}; unpack the one you mean and use --from-root",
                numbers.join(" ")
            )
        }
    }
}

/// What fstab puts below `/boot`: where, and the names of what.
fn mounts(tree: &Tree) -> Result<Vec<(String, Vec<String>)>> {
    if !tree.is_file("/etc/fstab")? {
        return Ok(Vec::new());
    }
    let text = tree.read("/etc/fstab")?;
    let mut found = Vec::new();
    for line in String::from_utf8_lossy(&text).lines() {
        let mut words = line.split_whitespace();
        let (Some(what), Some(at)) = (words.next(), words.next()) else {
            continue;
        };
        if !what.starts_with('#') && (at == "/boot" || at.starts_with("/boot/")) {
            let lower = match what.split_once('=') {
                Some(("LABEL", _)) | None => what.to_owned(),
                Some((key, value)) => format!("{key}={}", value.to_lowercase()),
            };
            // mmcblk0p1, sda1, vda1: the digits at the end.
            let number = what
                .rfind(|c: char| !c.is_ascii_digit())
                .and_then(|last| what.get(last + 1..));
            let device = format!("/dev/{}", number.unwrap_or_default());
            let named = if what.starts_with("/dev/") { device } else { lower };
            found.push((at.to_owned(), vec![named]));
        }
    }
    Ok(found)
}

/// A boot partition that fstab does not name, or by a name that another step of making the image has changed.
fn mount_only_fat(tree: &mut Tree, others: Vec<Volume>) -> Result<()> {
    let mut boots: Vec<Volume> = others.into_iter().filter(|volume| volume.kind == "FAT").collect();
    if boots.len() != 1 || tree.has_mounts() {
        return Ok(());
    }
    let at = if tree.exists("/boot/firmware")? {
        "/boot/firmware"
    } else {
        "/boot"
    };
    if let Some(boot) = boots.pop() {
        tree.mount(at, boot.backing);
    }
    Ok(())
}

/// What a partition is that cannot be read, for the message that says so.
fn unknown(part: &Slice) -> &'static str {
    let holds = |at, magic: &[u8]| part.bytes(at, magic.len()).is_ok_and(|bytes| bytes == magic);
    match () {
        () if holds(0, b"LUKS\xba\xbe") => "LUKS",
        () if holds(0x1_0040, b"_BHRfS_M") => "btrfs",
        () if holds(0, b"XFSB") => "XFS",
        () if holds(1024, &[0x10, 0x20, 0xf5, 0xf2]) => "F2FS",
        () if holds(0, b"hsqs") => "squashfs",
        () if holds(4086, b"SWAPSPACE2") => "swap",
        () => "unknown",
    }
}

#[cfg(test)]
mod tests;
