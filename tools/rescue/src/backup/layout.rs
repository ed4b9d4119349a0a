//! Where the partitions of a disk lie, by its own table.
//!
//! The kernel's list may be older than the table on the disk; what is left out of a backup is left out by the disk's own word. Whatever
//! is not quite as it should be means that there are no partitions to look into, and everything is read.

use super::origin::Bytes;
use crate::deploy::zip::number;
use flate2::Crc;
use std::io;

/// Sectors of partition tables; disks of 4096 bytes have tables in these.
const SECTORS: [u64; 2] = [512, 4096];

/// A partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Its first byte.
    pub from: u64,
    /// The first behind it.
    pub to: u64,
}

/// What the table of a disk of that size says.
///
/// # Errors
/// Why it is not believed.
pub fn read(disk: &(impl Bytes + ?Sized), size: u64, sector: u64) -> Result<Vec<Part>, String> {
    let sector = if SECTORS.contains(&sector) {
        sector
    } else {
        SECTORS[0]
    };
    let first = bytes(disk, 0, sector)?;
    if first.get(510..512) != Some(&[0x55, 0xAA]) {
        return Ok(Vec::new());
    }
    let entries = old_entries(&first);
    let mut parts = match entries.iter().filter(|entry| entry.kind == 0xEE).count() {
        0 => old(disk, &entries, size, sector)?,
        1 if entries.len() == 1 => gpt(disk, size, sector)?,
        _ => return Err("it has two partition tables".to_owned()),
    };
    parts.sort_by_key(|part| part.from);
    if parts.iter().any(|part| part.from >= part.to || part.to > size) {
        return Err("a partition reaches behind the end".to_owned());
    }
    match parts.windows(2).any(|two| two[0].to > two[1].from) {
        true => Err("partitions overlap".to_owned()),
        false => Ok(parts),
    }
}

fn bytes(disk: &(impl Bytes + ?Sized), at: u64, length: u64) -> Result<Vec<u8>, String> {
    let told = |error: io::Error| format!("its partition table: {error}");
    disk.bytes(at, usize::try_from(length).unwrap_or(0)).map_err(told)
}

/// A line of a table of the old kind, in sectors.
#[derive(Clone, Copy)]
struct Entry {
    kind: u8,
    start: u64,
    length: u64,
}

fn old_entries(sector: &[u8]) -> Vec<Entry> {
    let lines = sector.get(446..510).unwrap_or_default().chunks_exact(16);
    lines
        .map(|line| Entry {
            kind: line[4],
            start: number(&line[8..12]),
            length: number(&line[12..16]),
        })
        .filter(|entry| entry.kind != 0 && entry.length != 0)
        .collect()
}

/// Four partitions, one of which may be a chain of more.
fn old(disk: &(impl Bytes + ?Sized), entries: &[Entry], size: u64, sector: u64) -> Result<Vec<Part>, String> {
    const CHAINS: [u8; 3] = [0x05, 0x0F, 0x85];
    const LONGEST: usize = 256;
    let part = |start: u64, length: u64| Part {
        from: start * sector,
        to: (start + length) * sector,
    };
    let is_chain = |entry: &&Entry| CHAINS.contains(&entry.kind);
    let mut parts: Vec<Part> = Vec::new();
    for entry in entries.iter().filter(|entry| !is_chain(entry)) {
        parts.push(part(entry.start, entry.length));
    }
    let chains: Vec<&Entry> = entries.iter().filter(is_chain).collect();
    let [chain] = chains.as_slice() else {
        return match chains.is_empty() {
            true => Ok(parts),
            false => Err("it has two extended partitions".to_owned()),
        };
    };
    let mut at = chain.start;
    for _ in 0..LONGEST {
        if at.saturating_mul(sector) >= size {
            return Err("its extended partition reaches behind the end".to_owned());
        }
        let link = bytes(disk, at * sector, sector)?;
        if link.get(510..512) != Some(&[0x55, 0xAA]) {
            return Err("its extended partition is damaged".to_owned());
        }
        let entries = old_entries(&link);
        for entry in entries.iter().filter(|entry| !is_chain(entry)) {
            parts.push(part(at + entry.start, entry.length));
        }
        match entries.iter().find(is_chain) {
            Some(next) => at = chain.start + next.start,
            None => return Ok(parts),
        }
    }
    Err("its extended partition has no end".to_owned())
}

/// A GUID partition table (UEFI specification, 5.3); the copy at the beginning alone, as the kernel reads it.
fn gpt(disk: &(impl Bytes + ?Sized), size: u64, sector: u64) -> Result<Vec<Part>, String> {
    let damaged = || "its GPT is damaged; 'rescue disks' says more".to_owned();
    let header = bytes(disk, sector, sector)?;
    let field = |at: usize, length: usize| number(header.get(at..at + length).unwrap_or_default());
    let length = usize::try_from(field(12, 4)).unwrap_or(0);
    if !header.starts_with(b"EFI PART") || !(92..=header.len()).contains(&length) {
        return Err(damaged());
    }
    let mut bare = header.get(..length).unwrap_or_default().to_vec();
    bare[16..20].fill(0);
    let (count, each) = (field(80, 4), field(84, 4));
    let room = count
        .checked_mul(each)
        .filter(|room| *room <= 1 << 20 && each >= 128);
    let at = field(72, 8).checked_mul(sector).filter(|at| *at < size);
    let (Some(room), Some(at)) = (room, at) else {
        return Err(damaged());
    };
    if crc(&bare) != field(16, 4) || field(24, 8) != 1 {
        return Err(damaged());
    }
    let entries = bytes(disk, at, room)?;
    if crc(&entries) != field(88, 4) {
        return Err(damaged());
    }
    let used = entries
        .chunks_exact(usize::try_from(each).unwrap_or(128))
        .filter(|entry| entry[..16] != [0; 16]);
    used.map(|entry| {
        let (first, last) = (number(&entry[32..40]), number(&entry[40..48]));
        let end = last.checked_add(1).and_then(|end| end.checked_mul(sector));
        Ok(Part {
            from: first.checked_mul(sector).ok_or_else(damaged)?,
            to: end.ok_or_else(damaged)?,
        })
    })
    .collect()
}

fn crc(bytes: &[u8]) -> u64 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum().into()
}

#[cfg(test)]
mod tests;
