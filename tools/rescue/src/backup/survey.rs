//! What is on a disk, and which of it a backup needs.
//!
//! blkid is asked what lies where, and only where it names one file system alone is its bitmap looked for: under a RAID or a volume
//! group there may still be the superblock of what was there before, and it is as good as new.

use super::origin::Bytes;
use super::wanted::Wanted;
use super::{btrfs, ext4, fat, layout, xfs};
use crate::tool;
use serde::Serialize;
use std::ops::Range;

/// A piece of a disk that was looked into.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Area {
    /// Its first byte.
    pub from: u64,
    /// Bytes of it.
    pub size: u64,
    /// What blkid calls it.
    pub fs: Option<String>,
    /// Bytes of it that are read.
    pub wanted: u64,
    /// Why all of it is read.
    pub whole: Option<String>,
}

/// Who says what lies in a piece of a disk; an error where that is not certain.
pub type Namer<'n> = &'n dyn Fn(&Range<u64>) -> Result<Option<String>, String>;

/// Looks at the disk.
pub fn survey(
    disk: &(impl Bytes + ?Sized),
    (size, sector): (u64, u64),
    name: Namer<'_>,
) -> (Wanted, Vec<Area>) {
    let mut wanted = Wanted::all(size);
    let parts = layout::read(disk, size, sector).and_then(|parts| match name(&(0..size))? {
        Some(what) if !parts.is_empty() => Err(format!("it has partitions and is {what} as a whole")),
        _ => Ok(parts),
    });
    let parts = match parts {
        Ok(parts) => parts,
        Err(why) => return (wanted, vec![area(0..size, None, size, Some(why))]),
    };
    let mut places: Vec<Range<u64>> = parts.iter().map(|part| part.from..part.to).collect();
    if places.is_empty() {
        places.push(0..size);
    }
    let mut areas = Vec::new();
    for place in places {
        let named = name(&place);
        let fs = named.clone().unwrap_or_default();
        let spared = named.and_then(|fs| match fs.as_deref() {
            Some("ext2" | "ext3" | "ext4") => ext4::spare(disk, place.clone(), &mut wanted),
            Some("vfat") => fat::spare(disk, place.clone(), &mut wanted),
            Some("xfs") => xfs::spare(disk, place.clone(), &mut wanted),
            Some("btrfs") => btrfs::spare(disk, place.clone(), &mut wanted),
            Some(_) => Err("it is not known here which of it is used".to_owned()),
            None => Err("nobody knows what it is".to_owned()),
        });
        let left = wanted.pieces(place.start, place.end);
        let left = left.iter().map(|piece| piece.1 - piece.0).sum();
        areas.push(area(place, fs, left, spared.err()));
    }
    (wanted, areas)
}

fn area(place: Range<u64>, fs: Option<String>, wanted: u64, whole: Option<String>) -> Area {
    Area {
        from: place.start,
        size: place.end - place.start,
        fs,
        wanted,
        whole,
    }
}

/// Asks blkid about a piece of `device`.
///
/// # Errors
/// It cannot be asked, or sees several things there.
pub fn blkid(device: &str, place: &Range<u64>) -> Result<Option<String>, String> {
    /// `blkid --probe`: nothing was found.
    const NOTHING: i32 = 2;
    let (offset, size) = (place.start.to_string(), (place.end - place.start).to_string());
    let words = [
        "--probe", "--offset", &offset, "--size", &size, "--output", "export", device,
    ];
    let ended = tool::run(tool::command("blkid", words)).map_err(|error| format!("{error:#}"))?;
    let text = String::from_utf8_lossy(&ended.stdout);
    let told = text.lines().find_map(|line| line.strip_prefix("TYPE="));
    match ended.status.code() {
        Some(0) => Ok(told.map(str::to_owned)),
        Some(NOTHING) => Ok(None),
        _ => Err(format!("blkid: {}", tool::last_words(&ended))),
    }
}
