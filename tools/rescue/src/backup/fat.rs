//! Which clusters of a FAT file system are free, by its own tables.
//!
//! Believed only of one that was closed in order and whose copies of the table are the same; anything else, and all of it is wanted.
//! Source: Microsoft's FAT specification of 2000 (fatgen103), and the kernel's fs/fat for the mark of one that was not closed.

use super::origin::Bytes;
use super::wanted::Wanted;
use crate::deploy::zip::number;
use std::ops::Range;

/// Bytes of a table read at once; a multiple of what an entry of any kind has.
const PIECE: u64 = 3 << 18;

/// The boot sector, as far as it matters. All lengths in bytes.
#[derive(Debug)]
struct Boot {
    /// Bits of an entry.
    bits: u64,
    table: Range<u64>,
    copies: u64,
    data: u64,
    cluster: u64,
    clusters: u64,
}

/// Spares what is free in the file system that lies in `place` of the disk.
///
/// # Errors
/// Why it is not certain what is; then nothing is spared.
pub fn spare(disk: &(impl Bytes + ?Sized), place: Range<u64>, wanted: &mut Wanted) -> Result<(), String> {
    let read = |at: u64, length: u64| {
        let length = usize::try_from(length).unwrap_or(0);
        disk.bytes(place.start + at, length)
            .map_err(|error| format!("its tables: {error}"))
    };
    let boot = Boot::parse(&read(0, 512)?, place.end - place.start)?;
    let mut spared = wanted.clone();
    let mut at = 0;
    let length = boot.table.end - boot.table.start;
    let mut run: Option<Range<u64>> = None;
    while at < length {
        let count = PIECE.min(length - at);
        let table = read(boot.table.start + at, count)?;
        for copy in 1..boot.copies {
            if read(boot.table.start + copy * length + at, count)? != table {
                return Err("its tables differ".to_owned());
            }
        }
        let first = at * 8 / boot.bits;
        if first == 0 {
            boot.closed(&table)?;
        }
        let end = ((at + count) * 8 / boot.bits).min(boot.clusters + 2);
        for cluster in first.max(2)..end {
            if !boot.is_free(boot.entry(&table, cluster - first)) {
                continue;
            }
            match &mut run {
                Some(run) if run.end == cluster => run.end += 1,
                run => {
                    boot.put(run.replace(cluster..cluster + 1), place.start, &mut spared);
                }
            }
        }
        at += count;
    }
    boot.put(run, place.start, &mut spared);
    *wanted = spared;
    Ok(())
}

impl Boot {
    fn parse(sector: &[u8], room: u64) -> Result<Boot, String> {
        let field = |at: usize, length: usize| number(sector.get(at..at + length).unwrap_or_default());
        let odd = || "its boot sector contradicts itself".to_owned();
        let (bytes, per_cluster) = (field(11, 2), field(13, 1));
        let sound = [512, 1024, 2048, 4096].contains(&bytes)
            && per_cluster.is_power_of_two()
            && field(510, 2) == 0xAA55
            && matches!(sector.first(), Some(0xEB | 0xE9));
        let (reserved, copies, roots) = (field(14, 2), field(16, 1), field(17, 2));
        let sectors = [field(19, 2), field(32, 4)].into_iter().find(|count| *count > 0);
        let wide = field(22, 2) == 0;
        let table = if wide { field(36, 4) } else { field(22, 2) };
        let (Some(sectors), true) = (sectors, sound && reserved > 0 && copies > 0 && table > 0) else {
            return Err(odd());
        };
        let data = reserved + copies * table + (roots * 32).div_ceil(bytes);
        let clusters = sectors.checked_sub(data).ok_or_else(odd)? / per_cluster;
        // The number of clusters alone decides the kind; that a FAT32 has no other size of its table must agree.
        let bits = match clusters {
            0 => return Err(odd()),
            1..4085 => 12,
            4085..65525 => 16,
            _ => 32,
        };
        if (bits == 32) != wide || (clusters + 2) * bits > table * bytes * 8 || sectors * bytes > room {
            return Err(odd());
        }
        // Mirroring may be off, and then one copy alone is the true one; a version other than 0 is nobody's.
        if wide && (field(40, 2) & 0x80 != 0 || field(42, 2) != 0) {
            return Err("it keeps its tables in an unusual way".to_owned());
        }
        // What Linux sets while it is mounted: bit 0 of a byte that is reserved.
        if field(if wide { 65 } else { 37 }, 1) & 1 != 0 {
            return Err("it was not closed in order".to_owned());
        }
        Ok(Boot {
            bits,
            table: reserved * bytes..(reserved + table) * bytes,
            copies,
            data: data * bytes,
            cluster: per_cluster * bytes,
            clusters,
        })
    }

    /// Entry 1 has a bit that is cleared while it is mounted, and one that is cleared when the disk had an error.
    fn closed(&self, table: &[u8]) -> Result<(), String> {
        let (mark, both) = (
            self.entry(table, 1),
            match self.bits {
                12 => return Ok(()),
                16 => 0xC000,
                _ => 0x0C00_0000,
            },
        );
        match mark & both == both {
            true => Ok(()),
            false => Err("it was not closed in order, or its disk had errors".to_owned()),
        }
    }

    fn entry(&self, table: &[u8], index: u64) -> u64 {
        let index = usize::try_from(index).unwrap_or(usize::MAX / 8);
        let (at, length) = match self.bits {
            12 => (index * 3 / 2, 2),
            16 => (index * 2, 2),
            _ => (index * 4, 4),
        };
        // What is not there is in use.
        let entry = table.get(at..at + length).map_or(1, number);
        match self.bits {
            12 if index % 2 == 1 => entry >> 4,
            12 => entry & 0xFFF,
            16 => entry,
            // The upper four bits are reserved.
            _ => entry & 0x0FFF_FFFF,
        }
    }

    /// Free, or marked as bad: what nobody can read is not to be read.
    fn is_free(&self, entry: u64) -> bool {
        let bad = match self.bits {
            12 => 0xFF7,
            16 => 0xFFF7,
            _ => 0x0FFF_FFF7,
        };
        entry == 0 || entry == bad
    }

    fn put(&self, run: Option<Range<u64>>, start: u64, spared: &mut Wanted) {
        if let Some(run) = run {
            let byte = |cluster: u64| start + self.data + (cluster - 2) * self.cluster;
            spared.spare(byte(run.start), byte(run.end));
        }
    }
}

#[cfg(test)]
mod tests;
