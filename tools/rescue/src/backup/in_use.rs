//! Whether somebody writes to the disk while it would be read.

use crate::deploy::target::Target as Device;
use crate::deploy::unmount;
use anyhow::Context as _;
use std::fs;

/// Why the disk would change while it is read. What is mounted for reading alone does not change.
///
/// # Errors
/// The kernel's list of mounts cannot be read.
pub fn refusal(device: &Device) -> anyhow::Result<Option<String>> {
    const MOUNTS: &str = "/proc/self/mountinfo";
    let mounts = fs::read_to_string(MOUNTS).context(MOUNTS)?;
    Ok(changes(device, &mounts))
}

fn changes(device: &Device, mounts: &str) -> Option<String> {
    let name = &device.disk.device;
    for part in std::iter::once(&device.disk).chain(&device.inside) {
        for point in &part.mounted {
            if point == "[SWAP]" {
                return Some(format!(
                    "{name}: {} is used as swap and changes; first: swapoff {0}",
                    part.device
                ));
            }
            if is_writable(mounts, point) {
                return Some(format!(
                    "{name}: {} is mounted for writing on {point} and would change while it is read; first: {}",
                    part.device,
                    unmount::command(point)
                ));
            }
        }
        if part.kind.starts_with("raid") {
            return Some(format!(
                "{name}: it belongs to {}, which runs and may write to it; back that up, or stop it first: mdadm --stop {0}",
                part.device
            ));
        }
    }
    None
}

/// By the options of the file system, not of the place it is seen at: that may be for reading while another is not. What the list does
/// not have is taken for writable.
fn is_writable(mounts: &str, point: &str) -> bool {
    let mut known = false;
    for line in mounts.lines() {
        let (Some(place), Some((_, behind))) = (line.split(' ').nth(4), line.split_once(" - ")) else {
            continue;
        };
        if unescaped(place) != point {
            continue;
        }
        known = true;
        let options = behind.split(' ').nth(2).unwrap_or_default();
        if options.split(',').next() != Some("ro") {
            return true;
        }
    }
    !known
}

/// Blanks and the like are written as three octal digits (proc(5)).
fn unescaped(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (escape, letter)| {
            text.replace(escape, letter)
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disks;

    const MOUNTS: &str = "22 1 0:20 / /proc rw shared:1 - proc proc rw\n\
        30 1 254:1 / /mnt ro,relatime shared:2 - ext4 /dev/vda1 ro\n\
        31 1 254:2 / /with\\040blank rw - ext4 /dev/vda2 rw,errors=remount-ro\n\
        32 1 254:3 / /seen ro - ext4 /dev/vda3 rw\n";

    fn device() -> Device {
        let disks = disks::tests::seen();
        Device {
            disk: disks[0].clone(),
            inside: disks[1..].to_vec(),
            around: Vec::new(),
            model: None,
            serial: None,
            read_only: false,
            holders: Vec::new(),
            has_keys: false,
        }
    }

    #[test]
    fn what_is_mounted_for_reading_may_be_read_and_what_is_written_to_may_not() {
        let mut device = device();
        assert_eq!(device.inside[0].mounted, ["/mnt"]);
        assert_eq!(changes(&device, MOUNTS), None);
        for point in ["/with blank", "/seen", "/elsewhere"] {
            device.inside[0].mounted = vec!["/mnt".to_owned(), point.to_owned()];
            assert!(changes(&device, MOUNTS).unwrap().contains(point), "{point}");
        }
        device.inside[0].mounted = vec!["[SWAP]".to_owned()];
        assert!(changes(&device, MOUNTS).unwrap().contains("swapoff /dev/vda1"));
        device.inside[0].mounted.clear();
        device.inside[1].kind = "raid1".to_owned();
        assert!(changes(&device, MOUNTS).unwrap().contains("mdadm"));
    }
}
