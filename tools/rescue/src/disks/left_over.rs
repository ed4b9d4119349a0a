//! What the device mapper made of a disk that has gone since: no parent leads to it any more, so lsblk does not show it.
//!
//! Nobody looks into it: what can be read is what somebody happens to have read before.

use super::Disk;
use crate::mount::table;
use lifeboot_init::block::{Mapped, Mappings, number_of};
use std::fs;
use std::path::Path;

/// Adds what is left over.
pub fn add(disks: &mut Vec<Disk>) {
    let mappings = Mappings::read();
    for one in mappings.left_over() {
        let parent = mappings.beneath(one).map(Mapped::path);
        if !disks.iter().any(|disk| disk.device == one.path()) {
            let depth = disks
                .iter()
                .find(|disk| Some(&disk.device) == parent.as_ref())
                .map_or(0, |parent| parent.depth + 1);
            disks.push(disk(one, parent, depth));
        }
    }
}

fn disk(one: &Mapped, parent: Option<String>, depth: usize) -> Disk {
    let device = one.path();
    let remedy = match (one.is_crypt(), &parent) {
        (true, None) => format!("; this removes it: rescue lock {device}"),
        (false, None) => format!("; this removes it: dmsetup remove {}", one.name),
        // What removes the one beneath removes it.
        (_, Some(_)) => String::new(),
    };
    Disk {
        kind: if one.is_crypt() { "crypt" } else { "lvm" }.to_owned(),
        size: one.size(),
        mounted: places(&one.number),
        left_over: true,
        trouble: Some(format!("left over from a disk that went away{remedy}")),
        parent,
        depth,
        device,
        ..Disk::default()
    }
}

/// Where it is mounted; what has the node has the number, whatever the node is called.
fn places(number: &str) -> Vec<String> {
    let is_it = |node: &str| number_of(Path::new(node)).as_deref() == Some(number);
    let mounts = table::read().unwrap_or_default();
    let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
    let swap = swaps.lines().filter_map(|line| line.split(' ').next()).any(is_it);
    mounts
        .iter()
        .filter(|mount| mount.source.starts_with('/') && is_it(&mount.source))
        .map(|mount| mount.target.display().to_string())
        .chain(swap.then(|| "[SWAP]".to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_over_says_what_removes_it_and_what_is_on_it_does_not() {
        let mapped = |name: &str, uuid: &str| Mapped {
            name: name.into(),
            uuid: uuid.into(),
            ..Mapped::default()
        };
        let trouble = |one: &Mapped, parent: Option<&str>| {
            let disk = disk(one, parent.map(str::to_owned), 0);
            assert!(disk.left_over);
            (disk.kind, disk.trouble.unwrap())
        };
        let (crypt, volume) = (
            mapped("luks-u", "CRYPT-LUKS2-u-luks-u"),
            mapped("vg-root", "LVM-a"),
        );
        let (kind, says) = trouble(&crypt, None);
        assert_eq!(kind, "crypt");
        assert!(says.ends_with(": rescue lock /dev/mapper/luks-u"), "{says}");
        let (kind, says) = trouble(&volume, None);
        assert_eq!(kind, "lvm");
        assert!(says.ends_with(": dmsetup remove vg-root"), "{says}");
        assert_eq!(
            trouble(&volume, Some("/dev/mapper/luks-u")).1,
            "left over from a disk that went away"
        );
    }
}
