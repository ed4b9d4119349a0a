//! The directories of a FAT file system: built from paths, then written entry by entry.

use std::collections::BTreeMap;

use anyhow::{Result, bail};

use super::Table;
use super::geometry::{Geometry, Kind, SECTOR};
use super::name::{self, Short};

const DIRECTORY: u8 = 0x10;
const ARCHIVE: u8 = 0x20;
const LABEL: u8 = 0x08;
/// Bytes of an entry.
const ENTRY: usize = 32;

/// What a name stands for: a file or a directory, by its number.
#[derive(Debug, Clone, Copy)]
enum Target {
    File(usize),
    Directory(usize),
}

#[derive(Debug)]
struct Named {
    name: String,
    short: Short,
    target: Target,
}

#[derive(Debug)]
struct Directory {
    parent: usize,
    names: Vec<Named>,
}

/// Directories by number; 0 is the root.
#[derive(Debug)]
pub struct Tree {
    directories: Vec<Directory>,
    sizes: Vec<usize>,
}

/// The first cluster of every directory and file, 0 where it has none.
#[derive(Debug, Default)]
pub struct Starts {
    directories: Vec<u32>,
    pub files: Vec<u32>,
}

impl Tree {
    /// From paths; a directory is made where a path goes through it.
    pub fn of(files: &[(String, Vec<u8>)]) -> Result<Self> {
        let mut tree = Self {
            directories: vec![Directory {
                parent: 0,
                names: Vec::new(),
            }],
            sizes: files.iter().map(|(_, data)| data.len()).collect(),
        };
        let mut known = BTreeMap::from([(String::new(), 0)]);
        for (number, (path, _)) in files.iter().enumerate() {
            let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
            let parent = tree.directory(directory, &mut known)?;
            tree.add(parent, path, name, Target::File(number))?;
        }
        Ok(tree)
    }

    fn directory(&mut self, path: &str, known: &mut BTreeMap<String, usize>) -> Result<usize> {
        if let Some(number) = known.get(path) {
            return Ok(*number);
        }
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        let parent = self.directory(above, known)?;
        let number = self.directories.len();
        self.directories.push(Directory {
            parent,
            names: Vec::new(),
        });
        self.add(parent, path, name, Target::Directory(number))?;
        known.insert(path.to_owned(), number);
        Ok(number)
    }

    fn add(&mut self, parent: usize, path: &str, name: &str, target: Target) -> Result<()> {
        name::check(name)?;
        let Some(directory) = self.directories.get_mut(parent) else {
            bail!("{path}: no directory for it");
        };
        let there = directory
            .names
            .iter()
            .find(|named| named.name.eq_ignore_ascii_case(name));
        if let Some(there) = there {
            bail!("{path}: FAT takes it and {} for the same name", there.name);
        }
        let short = name::short(name, |short| {
            directory.names.iter().any(|named| named.short == *short)
        });
        directory.names.push(Named {
            name: name.to_owned(),
            short,
            target,
        });
        Ok(())
    }

    /// Entries of the root directory: the label, and every name with its long form.
    pub fn root_entries(&self) -> usize {
        self.directories.first().map_or(1, |root| 1 + entries(root))
    }

    /// Sectors that all directories but the root take.
    pub fn directory_sectors(&self) -> usize {
        let below = self.directories.iter().skip(1);
        below.map(|directory| bytes(directory).div_ceil(SECTOR)).sum()
    }

    /// Gives every directory its clusters; the root's come first, where it has any.
    pub fn allocate(&self, geometry: &Geometry, table: &mut Table) -> Starts {
        let cluster = geometry.cluster_bytes();
        let mut starts = Starts::default();
        for (number, directory) in self.directories.iter().enumerate() {
            let clusters = match (number, geometry.kind) {
                (0, Kind::Fat32) => (self.root_entries() * ENTRY).div_ceil(cluster),
                (0, _) => 0,
                _ => bytes(directory).div_ceil(cluster),
            };
            starts.directories.push(table.chain(clusters));
        }
        starts
    }

    /// The bytes of every directory, and where they begin.
    pub fn directories(
        &self,
        geometry: &Geometry,
        starts: &Starts,
        label: &str,
        time: u64,
    ) -> Vec<(u64, Vec<u8>)> {
        let stamp = Stamp::of(time);
        let written = self.directories.iter().enumerate().map(|(number, directory)| {
            let mut bytes = Vec::new();
            let start = starts.directories.get(number).copied().unwrap_or_default();
            let at = if number == 0 {
                bytes.extend(stamp.entry(&blank(label), LABEL, 0, 0));
                geometry.root_directory_at()
            } else {
                // FAT32 too writes 0 for the root as a parent.
                let parent = match directory.parent {
                    0 => 0,
                    parent => starts.directories.get(parent).copied().unwrap_or_default(),
                };
                bytes.extend(stamp.entry(&blank("."), DIRECTORY, start, 0));
                bytes.extend(stamp.entry(&blank(".."), DIRECTORY, parent, 0));
                geometry.cluster_at(start)
            };
            for named in &directory.names {
                bytes.extend(name::long(&named.name, &named.short).concat());
                bytes.extend(self.entry(named, starts, &stamp));
            }
            (at, bytes)
        });
        written.collect()
    }

    fn entry(&self, named: &Named, starts: &Starts, stamp: &Stamp) -> [u8; ENTRY] {
        let of = |list: &[u32], number: usize| list.get(number).copied().unwrap_or_default();
        match named.target {
            Target::Directory(number) => {
                stamp.entry(&named.short, DIRECTORY, of(&starts.directories, number), 0)
            }
            Target::File(number) => {
                let size = self.sizes.get(number).copied().unwrap_or_default();
                let start = of(&starts.files, number);
                stamp.entry(
                    &named.short,
                    ARCHIVE,
                    start,
                    u32::try_from(size).unwrap_or(u32::MAX),
                )
            }
        }
    }
}

fn entries(directory: &Directory) -> usize {
    let names = directory.names.iter();
    names.map(|named| name::entries(&named.name, &named.short)).sum()
}

/// Of a directory below the root, with the two entries for itself and its parent.
fn bytes(directory: &Directory) -> usize {
    (entries(directory) + 2) * ENTRY
}

/// Eleven characters, filled up with blanks.
fn blank(text: &str) -> Short {
    let mut short = [b' '; 11];
    for (place, letter) in short.iter_mut().zip(text.bytes()) {
        *place = letter;
    }
    short
}

/// A time as FAT keeps it: two seconds fine, from 1980 to 2107, taken for UTC.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    date: u16,
    time: u16,
}

impl Stamp {
    fn of(seconds: u64) -> Self {
        // 1980-01-01 and 2107-12-31 23:59:58.
        let seconds = seconds.clamp(315_532_800, 4_354_819_198);
        let (days, second) = (seconds / 86_400, seconds % 86_400);
        let (mut year, mut day) = (1970, days);
        let length = |year: u64| if leap(year) { 366 } else { 365 };
        while day >= length(year) {
            day -= length(year);
            year += 1;
        }
        let february = if leap(year) { 29 } else { 28 };
        let mut month = 1;
        for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
            if day < length {
                break;
            }
            day -= length;
            month += 1;
        }
        let date = ((year - 1980) << 9) | (month << 5) | (day + 1);
        let time = ((second / 3600) << 11) | ((second / 60 % 60) << 5) | (second % 60 / 2);
        Self {
            date: date as u16,
            time: time as u16,
        }
    }

    fn entry(&self, short: &Short, attributes: u8, start: u32, size: u32) -> [u8; ENTRY] {
        let mut bytes = Vec::with_capacity(ENTRY);
        bytes.extend_from_slice(short);
        bytes.extend([attributes, 0, 0]);
        // Made, and last read; then the cluster's upper half, changed, its lower half.
        bytes.extend(self.time.to_le_bytes());
        bytes.extend(self.date.to_le_bytes());
        bytes.extend(self.date.to_le_bytes());
        let [low_0, low_1, high_0, high_1] = start.to_le_bytes();
        bytes.extend([high_0, high_1]);
        bytes.extend(self.time.to_le_bytes());
        bytes.extend(self.date.to_le_bytes());
        bytes.extend([low_0, low_1]);
        bytes.extend(size.to_le_bytes());
        let mut entry = [0; ENTRY];
        for (place, byte) in entry.iter_mut().zip(bytes) {
            *place = byte;
        }
        entry
    }
}

fn leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_what_date_prints() {
        // date -u -d @1709210096: 2024-02-29 12:34:56
        let leap_day = Stamp::of(1_709_210_096);
        assert_eq!(leap_day.date, (2024 - 1980) << 9 | 2 << 5 | 29);
        assert_eq!(leap_day.time, 12 << 11 | 34 << 5 | 28);
        // date -u -d @1735689599: 2024-12-31 23:59:59
        let last = Stamp::of(1_735_689_599);
        assert_eq!(
            (last.date, last.time),
            (44 << 9 | 12 << 5 | 31, 23 << 11 | 59 << 5 | 29)
        );
    }

    #[test]
    fn times_before_1980_become_1980_and_later_ones_than_fat_knows_its_last() {
        assert_eq!(Stamp::of(0), Stamp::of(315_532_800));
        assert_eq!(
            Stamp::of(0),
            Stamp {
                date: 1 << 5 | 1,
                time: 0
            }
        );
        assert_eq!(Stamp::of(u64::MAX).date, 127 << 9 | 12 << 5 | 31);
    }
}
