//! What the kernel knows of a disk while it is read: that it is still there, and that nobody writes to it.
//!
//! The one thing a reader would get wrong: who asks for a disk alone keeps others from mounting it, but is not given it while a part of it is
//! mounted or active, and nobody is kept from writing to it past that. So it is the sectors written that are counted.

use crate::disks::{stack, sysfs};
use std::fs;
use std::path::{Path, PathBuf};

/// What is said of one that is.
pub const GONE: &str = "it is gone, unplugged or broken down, while it was read";

/// A disk as it was when reading it began.
#[derive(Debug)]
pub struct Witness {
    /// The kernel's directories of it and of what it is made of. Those of the hardware, so that another disk in its place is another.
    places: Vec<PathBuf>,
    device: String,
    before: Vec<Written>,
}

/// Sectors of 512 bytes written to a device, or discarded, since there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Written {
    device: String,
    sectors: u64,
}

impl Witness {
    /// Looks at it for the first time.
    pub fn new(device: &str) -> Witness {
        let parts = [vec![device.to_owned()], stack::below(device)].concat();
        let places = parts.iter().map(|part| fs::canonicalize(sysfs::dir(part)));
        Witness {
            places: places.filter_map(Result::ok).collect(),
            device: device.to_owned(),
            before: all_written(device),
        }
    }

    /// Whether it was unplugged, or one was that it is made of.
    pub fn is_gone(&self) -> bool {
        !self.places.iter().all(|place| is_there(place))
    }

    /// What was written to since, and how many sectors of 512 bytes.
    pub fn written(&self) -> Option<(String, u64)> {
        moved(&self.before, &all_written(&self.device))
    }
}

/// The driver takes its size from a disk that is unplugged, and then the disk away.
fn is_there(place: &Path) -> bool {
    sysfs::number(&place.join("size")).is_some_and(|sectors| sectors > 0)
}

/// Of `device` and all that is made of it, the nearest first.
fn all_written(device: &str) -> Vec<Written> {
    let all = [vec![device.to_owned()], stack::above(device)].concat();
    let written = |device: String| {
        let stat = sysfs::word(&sysfs::dir(&device).join("stat"))?;
        let sectors = sectors(&stat)?;
        Some(Written { device, sectors })
    };
    all.into_iter().filter_map(written).collect()
}

/// Fields 7 and 14 (Documentation/block/stat.rst in the kernel); before Linux 4.19 there are 11.
fn sectors(stat: &str) -> Option<u64> {
    let fields: Vec<u64> = stat
        .split_whitespace()
        .filter_map(|field| field.parse().ok())
        .collect();
    Some(fields.get(6)? + fields.get(13).unwrap_or(&0))
}

/// What lies highest tells most about who it was. What was not there before has been written to only if it has a number.
fn moved(before: &[Written], now: &[Written]) -> Option<(String, u64)> {
    let since = |one: &Written| {
        let known = before.iter().find(|known| known.device == one.device);
        one.sectors.abs_diff(known.map_or(0, |known| known.sectors))
    };
    let moved = now.iter().rev().find(|one| since(one) > 0)?;
    Some((moved.device.clone(), since(moved)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(all: &[(&str, u64)]) -> Vec<Written> {
        let one = |(device, sectors): &(&str, u64)| Written {
            device: (*device).to_owned(),
            sectors: *sectors,
        };
        all.iter().map(one).collect()
    }

    #[test]
    fn what_was_written_is_counted_and_what_was_read_is_not() {
        let stat = |text: &str| sectors(text).unwrap();
        let before = "  4120  33  262144  97  12  5  2048  4  0  80  101  2  0  64  1  3  1";
        assert_eq!(stat(before), 2112);
        assert_eq!(
            stat("9120 33 993000 97 12 5 2048 4 0 80 101 2 0 64 1 3 1"),
            2112,
            "read"
        );
        assert_eq!(stat("4120 33 262144 97 13 5 2056 4 0 80 101 2 0 64 1 3 1"), 2120);
        assert_eq!(stat("4120 33 262144 97 12 5 2048 4 0 80 101 3 0 128 1 3 1"), 2176);
        assert_eq!(stat("1 0 8 0 12 5 2048 4 0 80 101"), 2048);
        assert_eq!(sectors("1 0 8"), None);
    }

    #[test]
    fn the_highest_that_was_written_to_is_named_and_what_only_appeared_is_not() {
        let before = written(&[("/dev/vda", 10), ("/dev/vda1", 0), ("/dev/vda2", 10)]);
        assert_eq!(moved(&before, &before), None);
        let woken = [before.clone(), written(&[("/dev/mapper/a", 0)])].concat();
        assert_eq!(moved(&before, &woken), None);
        let named = |now: &[(&str, u64)]| moved(&before, &written(now));
        let partition = named(&[("/dev/vda", 18), ("/dev/vda1", 0), ("/dev/vda2", 18)]);
        assert_eq!(partition, Some(("/dev/vda2".to_owned(), 8)));
        let volume = named(&[("/dev/vda", 18), ("/dev/vda2", 18), ("/dev/mapper/a", 8)]);
        assert_eq!(volume, Some(("/dev/mapper/a".to_owned(), 8)));
        // One that was made for it and is away again has left its mark below.
        assert_eq!(named(&[("/dev/vda", 11)]), Some(("/dev/vda".to_owned(), 1)));
    }

    #[test]
    fn a_disk_without_size_or_directory_is_gone() {
        let dir = std::env::temp_dir().join(format!("lifeboot-gone-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("size"), "2048\n").unwrap();
        let witness = Witness {
            places: vec![dir.clone()],
            device: String::new(),
            before: Vec::new(),
        };
        assert!(!witness.is_gone());
        fs::write(dir.join("size"), "0\n").unwrap();
        assert!(witness.is_gone());
        fs::remove_dir_all(&dir).unwrap();
        assert!(witness.is_gone());
    }
}
