//! `/etc/fstab` of a system that shall run from RAM.
//!
//! systemd waits a minute and a half for a disk that is not there and then stops in its emergency mode. So what belongs to
//! the card the system came from is commented out: the root, the boot partition, swap, and every other partition of a disk
//! that one of these names. Other disks are the owner's business; those that would be waited for are only named.

use std::collections::BTreeSet;

/// Stands before every line that was taken out; finding it again tells what happened.
pub const NOTE: &str = "# lifeboot, root in RAM: ";

/// A text and what became of it.
#[derive(Debug, PartialEq, Eq)]
pub struct Adapted {
    pub text: String,
    /// Mount points (`swap` for swap) that were commented out.
    pub out: Vec<String>,
    /// Mount points whose disk is waited for.
    pub waited_for: Vec<String>,
}

struct Line<'a> {
    device: &'a str,
    place: &'a str,
    kind: &'a str,
    options: &'a str,
}

/// Comments out what would be waited for in vain.
pub fn for_ram(text: &str) -> Adapted {
    let card: BTreeSet<&str> = text
        .lines()
        .filter_map(entry)
        .filter(Line::is_systems_own)
        .filter_map(|line| disk(line.device))
        .collect();
    let mut adapted = Adapted {
        text: String::with_capacity(text.len()),
        out: Vec::new(),
        waited_for: Vec::new(),
    };
    for whole in text.split_inclusive('\n') {
        if let Some(line) = entry(whole) {
            let of_card = disk(line.device).is_some_and(|disk| card.contains(disk));
            let name = if line.kind == "swap" {
                line.kind
            } else {
                line.place
            };
            if line.is_systems_own() || of_card {
                adapted.text.push_str(NOTE);
                adapted.out.push(name.to_owned());
            } else if line.is_waited_for() {
                adapted.waited_for.push(name.to_owned());
            }
        }
        adapted.text.push_str(whole);
    }
    adapted
}

fn entry(line: &str) -> Option<Line<'_>> {
    let line = line.trim();
    if line.starts_with('#') {
        return None;
    }
    let mut words = line.split_whitespace();
    Some(Line {
        device: words.next()?,
        place: words.next()?,
        kind: words.next()?,
        options: words.next().unwrap_or_default(),
    })
}

impl Line<'_> {
    /// The root, what starts the system, and swap, whether a partition or a file in the root: neither is there, or it
    /// would be RAM. Compressed RAM is no card.
    fn is_systems_own(&self) -> bool {
        let boot = self.place == "/efi" || self.place == "/boot" || self.place.starts_with("/boot/");
        let swap = self.kind == "swap" && !self.device.starts_with("/dev/zram");
        self.place == "/" || boot || swap
    }

    fn is_waited_for(&self) -> bool {
        let by = ["UUID=", "PARTUUID=", "LABEL=", "PARTLABEL=", "/dev/"];
        let optional = |option| matches!(option, "nofail" | "noauto");
        by.iter().any(|by| self.device.starts_with(by))
            && !self.device.starts_with("/dev/zram")
            && !self.options.split(',').any(optional)
    }
}

/// What partitions of one disk have in common: the disk's number in an MBR's PARTUUID, or the disk's name.
fn disk(device: &str) -> Option<&str> {
    if let Some(partition) = device.strip_prefix("PARTUUID=") {
        let (disk, number) = partition.trim_matches('"').split_once('-')?;
        return (disk.len() == 8 && number.len() == 2).then_some(disk);
    }
    let name = device.strip_prefix("/dev/")?;
    let disk = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let numbered = ["mmcblk", "nvme", "loop", "nbd"];
    if numbered.iter().any(|prefix| name.starts_with(prefix)) {
        return disk
            .strip_suffix('p')
            .filter(|disk| disk.ends_with(|c: char| c.is_ascii_digit()));
    }
    (name.starts_with("sd") || name.starts_with("vd")).then_some(disk)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_raspberry_pi_os_writes_leaves_proc_alone() {
        let text = "proc            /proc           proc    defaults          0       0\n\
                    PARTUUID=5de1e7a3-01  /boot/firmware  vfat    defaults          0       2\n\
                    PARTUUID=5de1e7a3-02  /               ext4    defaults,noatime  0       1\n\
                    # a swapfile is not a swap partition, no line here\n";
        let adapted = for_ram(text);
        assert_eq!(adapted.out, ["/boot/firmware", "/"]);
        assert!(adapted.waited_for.is_empty());
        let lines: Vec<&str> = adapted.text.lines().collect();
        assert!(lines[0].starts_with("proc ") && lines[3].starts_with("# a swapfile"));
        assert_eq!(
            lines[1],
            format!("{NOTE}PARTUUID=5de1e7a3-01  /boot/firmware  vfat    defaults          0       2")
        );
        assert_eq!(
            for_ram(&adapted.text).text,
            adapted.text,
            "a second time changes nothing"
        );
    }

    #[test]
    fn every_way_to_name_the_card_is_known() {
        for device in [
            "UUID=1-2",
            "LABEL=rootfs",
            "PARTLABEL=root",
            "/dev/mmcblk0p2",
            "/dev/root",
        ] {
            assert_eq!(
                for_ram(&format!("{device} / ext4 defaults 0 1")).out,
                ["/"],
                "{device}"
            );
        }
        for swap in [
            "/dev/sda5 none swap sw 0 0",
            "/var/swap swap swap defaults",
            "UUID=3 none swap sw",
        ] {
            assert_eq!(for_ram(swap).out, ["swap"], "{swap}");
        }
        assert!(for_ram("/dev/zram0 none swap sw 0 0").out.is_empty());
    }

    #[test]
    fn other_partitions_of_the_card_go_and_other_disks_stay() {
        let table =
            |data: &str| format!("/dev/mmcblk0p2 / ext4 defaults 0 1\n{data} /data ext4 defaults 0 2\n");
        assert_eq!(for_ram(&table("/dev/mmcblk0p3")).out, ["/", "/data"]);
        let other = for_ram(&table("/dev/sda1"));
        assert_eq!((other.out.len(), other.waited_for), (1, vec!["/data".to_owned()]));
        let optional = for_ram("UUID=4 /data ext4 defaults,nofail 0 2");
        assert!(optional.out.is_empty() && optional.waited_for.is_empty());
    }

    #[test]
    fn a_disk_is_known_by_its_partitions() {
        for (device, expected) in [
            ("PARTUUID=5de1e7a3-02", Some("5de1e7a3")),
            ("PARTUUID=0b8bbc5e-3f2b-4a3f-9d1c-5de1e7a30002", None),
            ("/dev/mmcblk0p2", Some("mmcblk0")),
            ("/dev/mmcblk0", None),
            ("/dev/nvme0n1p1", Some("nvme0n1")),
            ("/dev/sda2", Some("sda")),
            ("/dev/mapper/x", None),
            ("UUID=1", None),
        ] {
            assert_eq!(disk(device), expected, "{device}");
        }
    }

    #[test]
    fn lines_that_are_none_and_a_missing_end_survive() {
        for text in ["", "\n\n", "word", "two words", "tmpfs /tmp tmpfs", "a\r\n"] {
            assert_eq!(for_ram(text).text, text);
        }
    }
}
