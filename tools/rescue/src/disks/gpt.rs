//! GUID partition tables: whether both copies are whole, and the good one put in place of the bad one.
//!
//! Layout from the UEFI specification, 5.3: the header in sector 1 and again in the last sector, each pointing at its array of
//! entries and at the other; sector 0 is a table of the old kind that keeps old programs away. The kernel looks at the backup only
//! when it is told `gpt` on its command line, so a disk whose first sectors are damaged seems to have no partitions at all.

use anyhow::{Context as _, bail};
use rustix::fs::ioctl_blksszget;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;

const SIGNATURE: &[u8; 8] = b"EFI PART";
/// The specification's own size of the header; makers may use more of the sector.
const HEADER: usize = 92;
/// More than this is no table anybody made: 128 entries of 128 bytes are usual.
const ENTRIES_AT_MOST: usize = 1 << 20;

/// How the two copies are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Gpt {
    /// Both are whole and agree.
    Whole,
    /// The one at the beginning is damaged, the one at the end is good.
    PrimaryDamaged,
    /// The one at the beginning is good, the one it points at is damaged.
    BackupDamaged,
    /// Both are good, but the backup is not at the end of the disk: an image was written to a larger one.
    BackupNotAtEnd,
    /// Both are good and do not say the same.
    Differing,
    /// Both are damaged.
    Lost,
}

/// One header that proved itself, with its entries.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Copy {
    sector: Vec<u8>,
    entries: Vec<u8>,
}

/// What a disk has.
#[derive(Debug)]
pub struct Table {
    pub state: Gpt,
    primary: Option<Copy>,
    backup: Option<Copy>,
    sector: usize,
    last: u64,
}

/// Reads both copies; `None`: there is no sign of a GPT, or the disk belongs to a table of the old kind.
///
/// # Errors
/// The disk's.
pub fn read(disk: &mut File, device: &str) -> anyhow::Result<Option<Table>> {
    let sector = ioctl_blksszget(&*disk).map_or(512, |size| size.clamp(512, 4096)) as usize;
    let size = disk.seek(SeekFrom::End(0)).with_context(|| device.to_owned())?;
    inspect(disk, size, sector).with_context(|| device.to_owned())
}

fn inspect(disk: &File, size: u64, sector: usize) -> std::io::Result<Option<Table>> {
    let sectors = size / sector as u64;
    if sectors < 6 {
        return Ok(None);
    }
    let last = sectors - 1;
    let mut first = vec![0; sector];
    disk.read_exact_at(&mut first, 0)?;
    let protective = match old_table(&first) {
        Old::Other => return Ok(None),
        Old::Protective => true,
        Old::None => false,
    };
    let primary = copy_at(disk, sector, last, 1);
    let pointed = primary.as_ref().map_or(last, |copy| number(&copy.sector, 32));
    let backup = copy_at(disk, sector, last, pointed);
    let state = match (&primary, &backup) {
        (Some(primary), Some(backup)) if !alike(primary, backup) => Gpt::Differing,
        (Some(_), Some(_)) if pointed != last => Gpt::BackupNotAtEnd,
        (Some(_), Some(_)) => Gpt::Whole,
        (Some(_), None) => Gpt::BackupDamaged,
        (None, Some(_)) => Gpt::PrimaryDamaged,
        (None, None) if protective => Gpt::Lost,
        (None, None) => return Ok(None),
    };
    Ok(Some(Table {
        state,
        primary,
        backup,
        sector,
        last,
    }))
}

impl Table {
    /// Writes the damaged copy anew from the good one, and sector 0 where it protects nothing.
    ///
    /// # Errors
    /// Not exactly one of them is damaged, or the disk's errors.
    pub fn restore(&self, disk: &File, device: &str) -> anyhow::Result<()> {
        let (good, at, other) = match (self.state, &self.primary, &self.backup) {
            (Gpt::PrimaryDamaged, _, Some(backup)) => (backup, 1, self.last),
            (Gpt::BackupDamaged, Some(primary), _) => (primary, self.last, 1),
            _ => bail!("{device}: not one of the two copies of its partition table is damaged"),
        };
        let (first, last) = (number(&good.sector, 40), number(&good.sector, 48));
        let room = good.entries.len().div_ceil(self.sector) as u64;
        let entries = if at == 1 {
            2
        } else {
            self.last.saturating_sub(room)
        };
        if (at == 1 && first < 2 + room) || (at != 1 && last >= entries) {
            bail!(
                "{device}: partitions may lie in the sectors {first} to {last}, where the table needs {room} from {entries} on"
            );
        }
        let mut header = good.sector.clone();
        put(&mut header, 24, at);
        put(&mut header, 32, other);
        put(&mut header, 72, entries);
        seal(&mut header);
        let write = |bytes: &[u8], at: u64| {
            disk.write_all_at(bytes, at * self.sector as u64)
                .with_context(|| format!("{device}: writing sector {at}"))
        };
        // The header last: it says that the entries are there.
        write(&good.entries, entries)?;
        let mut protective = vec![0; self.sector];
        disk.read_exact_at(&mut protective, 0)
            .with_context(|| device.to_owned())?;
        if old_table(&protective) == Old::None {
            protect(&mut protective, self.last);
            write(&protective, 0)?;
        }
        disk.sync_all().with_context(|| device.to_owned())?;
        write(&header, at)?;
        // The good one points at where the other is.
        if number(&good.sector, 32) != at {
            let mut pointing = good.sector.clone();
            put(&mut pointing, 32, at);
            seal(&mut pointing);
            write(&pointing, other)?;
        }
        disk.sync_all().with_context(|| device.to_owned())
    }
}

/// What is in sector 0.
#[derive(Debug, PartialEq, Eq)]
enum Old {
    None,
    /// One entry of type EE, which stands for a GPT.
    Protective,
    /// Partitions of the old kind.
    Other,
}

fn old_table(sector: &[u8]) -> Old {
    if sector.get(510..512) != Some(&[0x55, 0xAA]) {
        return Old::None;
    }
    let kinds: Vec<u8> = (0..4)
        .filter_map(|entry| sector.get(446 + entry * 16 + 4).copied())
        .collect();
    match kinds.as_slice() {
        kinds if kinds.contains(&0xEE) => Old::Protective,
        [0, 0, 0, 0] => Old::None,
        _ => Old::Other,
    }
}

/// Makes sector 0 stand for a GPT. Boot code before the table stays.
fn protect(sector: &mut [u8], last: u64) {
    let length = u32::try_from(last).unwrap_or(u32::MAX);
    let mut entry = [0, 0, 2, 0, 0xEE, 0xFF, 0xFF, 0xFF, 1, 0, 0, 0, 0, 0, 0, 0];
    entry[12..].copy_from_slice(&length.to_le_bytes());
    if let Some(table) = sector.get_mut(446..510) {
        table.fill(0);
        table[..16].copy_from_slice(&entry);
    }
    if let Some(end) = sector.get_mut(510..512) {
        end.copy_from_slice(&[0x55, 0xAA]);
    }
}

/// The header in sector `at` and its entries, if every checksum is right. What cannot be read is not there.
fn copy_at(disk: &File, size: usize, last: u64, at: u64) -> Option<Copy> {
    let mut sector = vec![0; size];
    if at > last || disk.read_exact_at(&mut sector, at * size as u64).is_err() {
        return None;
    }
    let length = entries_of(&sector, at, last)?;
    let mut entries = vec![0; length];
    let start = number(&sector, 72).checked_mul(size as u64)?;
    disk.read_exact_at(&mut entries, start).ok()?;
    (crc32(&entries) == short(&sector, 88)).then_some(Copy { sector, entries })
}

/// Bytes of the entries that a header names, if the header is one.
fn entries_of(sector: &[u8], at: u64, last: u64) -> Option<usize> {
    let length = short(sector, 12) as usize;
    if sector.get(..8)? != SIGNATURE || length < HEADER || length > sector.len() {
        return None;
    }
    let mut bare = sector.get(..length)?.to_vec();
    bare.get_mut(16..20)?.fill(0);
    let [first, end, entries] = [40, 48, 72].map(|offset| number(sector, offset));
    let sound = crc32(&bare) == short(sector, 16)
        && number(sector, 24) == at
        && first <= end
        && end <= last
        && entries <= last;
    let bytes = (short(sector, 80) as usize).checked_mul(short(sector, 84) as usize)?;
    (sound && bytes > 0 && bytes <= ENTRIES_AT_MOST).then_some(bytes)
}

/// Whether two copies say the same: the identity of the disk, where partitions may lie, and the partitions.
fn alike(one: &Copy, other: &Copy) -> bool {
    one.sector.get(40..72) == other.sector.get(40..72) && one.entries == other.entries
}

fn number(bytes: &[u8], at: usize) -> u64 {
    let part = bytes.get(at..at + 8).and_then(|part| part.try_into().ok());
    part.map_or(0, u64::from_le_bytes)
}

fn short(bytes: &[u8], at: usize) -> u32 {
    let part = bytes.get(at..at + 4).and_then(|part| part.try_into().ok());
    part.map_or(0, u32::from_le_bytes)
}

fn put(bytes: &mut [u8], at: usize, value: u64) {
    if let Some(part) = bytes.get_mut(at..at + 8) {
        part.copy_from_slice(&value.to_le_bytes());
    }
}

/// Writes the checksum of a header into it.
fn seal(header: &mut [u8]) {
    let length = (short(header, 12) as usize).min(header.len());
    if let Some(place) = header.get_mut(16..20) {
        place.fill(0);
    }
    let sum = crc32(header.get(..length).unwrap_or_default());
    if let Some(place) = header.get_mut(16..20) {
        place.copy_from_slice(&sum.to_le_bytes());
    }
}

/// The CRC of Ethernet and zip. A few KiB at most, so without a table.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

#[cfg(test)]
mod tests;
