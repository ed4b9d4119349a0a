//! Which device a line of fstab means on this machine.

use super::find::System;
use super::os_release::tame;
use crate::disks::{self, Disk, Luks};
use std::fs;

/// The device, or why there is none.
///
/// # Errors
/// A sentence for people.
pub fn device<'a>(source: &str, system: &System, disks: &'a [Disk]) -> Result<&'a Disk, String> {
    let name = plain_name(source)?;
    let candidates: Vec<&Disk> = disks.iter().filter(|disk| disk.is_called(&name)).collect();
    let candidates = match candidates.as_slice() {
        // Not a copy of it that somebody is looking at through a loop device.
        [_, _, ..] => candidates
            .into_iter()
            .filter(|disk| disk.kind != "loop")
            .collect(),
        _ => candidates,
    };
    match candidates.as_slice() {
        [one] => Ok(one),
        [] => by_path(&name, disks).map_or_else(|| by_mapping(&name, system, disks), Ok),
        // One btrfs on several devices: each stands for all.
        [first, rest @ ..]
            if first.fs.as_deref() == Some("btrfs") && rest.iter().all(|disk| disk.uuid == first.uuid) =>
        {
            Ok(first)
        }
        several => {
            let devices: Vec<&str> = several.iter().map(|disk| disk.device.as_str()).collect();
            Err(format!("means {} devices: {}", several.len(), devices.join(", ")))
        }
    }
}

/// Another name for the same that does not need what udev makes below /dev/disk.
fn plain_name(source: &str) -> Result<String, String> {
    let Some(rest) = source.strip_prefix("/dev/disk/") else {
        return Ok(source.to_owned());
    };
    let tags = [
        ("by-uuid/", "UUID"),
        ("by-label/", "LABEL"),
        ("by-partuuid/", "PARTUUID"),
        ("by-partlabel/", "PARTLABEL"),
    ];
    let found = tags
        .iter()
        .find_map(|(dir, tag)| Some((tag, rest.strip_prefix(dir)?)));
    match found {
        Some((tag, value)) => Ok(format!("{tag}={}", unescape(value))),
        None => Err("names by id or path need udev, which is not here".to_owned()),
    }
}

/// udev writes `\x20` for what may not be in a file name.
fn unescape(value: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = value.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let code = rest.strip_prefix(b"\\x").and_then(|hex| {
            let digits = std::str::from_utf8(hex.get(..2)?).ok()?;
            u8::from_str_radix(digits, 16).ok()
        });
        bytes.push(code.unwrap_or(first));
        rest = match code {
            Some(_) => rest.get(4..).unwrap_or_default(),
            None => tail,
        };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// By the file: a link such as /dev/vg/root, or the other name of a logical volume.
fn by_path<'a>(name: &str, disks: &'a [Disk]) -> Option<&'a Disk> {
    let path = name.strip_prefix("/dev/")?;
    if let Some(mapped) = logical_volume(path) {
        let found = disks.iter().find(|disk| disk.device == mapped);
        if found.is_some() {
            return found;
        }
    }
    let real = fs::canonicalize(name).ok()?;
    disks::find(disks, &real.to_string_lossy()).ok()
}

/// `vg/root-lv` is `/dev/mapper/vg-root--lv` (lvm(8), "UNIQUE NAMES").
fn logical_volume(path: &str) -> Option<String> {
    let (group, volume) = path
        .split_once('/')
        .filter(|(group, volume)| *group != "mapper" && !volume.contains('/'))?;
    let doubled = |name: &str| name.replace('-', "--");
    Some(format!("/dev/mapper/{}-{}", doubled(group), doubled(volume)))
}

/// By the system's own crypttab: it calls its encrypted devices by other names than they have here.
fn by_mapping<'a>(name: &str, system: &System, disks: &'a [Disk]) -> Result<&'a Disk, String> {
    let absent = || Err("its device is not there".to_owned());
    let Some(mapped) = name.strip_prefix("/dev/mapper/") else {
        return match disks.iter().find(|disk| disk.luks == Some(Luks::Locked)) {
            Some(locked) => Err(format!("its device is not there; {} is locked", locked.device)),
            None => absent(),
        };
    };
    let Some(mapping) = system.mappings.iter().find(|mapping| mapping.name == mapped) else {
        return absent();
    };
    let held = plain_name(&mapping.device)?;
    let Some(holder) = disks.iter().find(|disk| disk.is_called(&held)) else {
        return Err(format!("its device {} is not there", tame(&mapping.device)));
    };
    match &holder.luks {
        Some(Luks::Unlocked(inner)) => disks
            .iter()
            .find(|disk| disk.device == *inner)
            .ok_or_else(|| format!("{inner} is not there")),
        Some(Luks::Locked) => Err(format!(
            "{} is locked; 'rescue unlock {0}' opens it",
            holder.device
        )),
        None => Err(format!("{} is no LUKS device", holder.device)),
    }
}

/// Encrypted devices that the system calls by another name than they have here: its update-initramfs goes by the name.
pub fn other_names(system: &System, disks: &[Disk]) -> Vec<String> {
    let renamed = system.mappings.iter().filter_map(|mapping| {
        let held = plain_name(&mapping.device).ok()?;
        let holder = disks.iter().find(|disk| disk.is_called(&held))?;
        let Some(Luks::Unlocked(mapper)) = &holder.luks else {
            return None;
        };
        let name = tame(&mapping.name);
        (*mapper != format!("/dev/mapper/{}", mapping.name)).then(|| {
            format!(
                "its crypttab calls what is in {0} '{name}', and here it is {mapper}; before update-initramfs in it: \
                 'rescue umount', 'rescue lock {0}', 'rescue unlock --name {name} {0}'",
                holder.device
            )
        })
    });
    renamed.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logical_volumes_have_two_names() {
        assert_eq!(logical_volume("vg/root").unwrap(), "/dev/mapper/vg-root");
        assert_eq!(
            logical_volume("my-vg/root-lv").unwrap(),
            "/dev/mapper/my--vg-root--lv"
        );
        for none in ["sda1", "mapper/vg-root", "disk/by-id/x", ""] {
            assert_eq!(logical_volume(none), None, "{none}");
        }
    }

    #[test]
    fn names_that_udev_makes_are_read_without_it() {
        assert_eq!(plain_name("/dev/disk/by-uuid/a-b").unwrap(), "UUID=a-b");
        assert_eq!(
            plain_name("/dev/disk/by-label/my\\x20disk").unwrap(),
            "LABEL=my disk"
        );
        assert_eq!(plain_name("/dev/sda1").unwrap(), "/dev/sda1");
        assert!(plain_name("/dev/disk/by-id/ata-X").is_err());
        assert_eq!(unescape("\\x2"), "\\x2");
        assert_eq!(unescape("\\xzz\\x41"), "\\xzzA");
    }
}
