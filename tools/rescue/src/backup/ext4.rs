//! Which blocks of an ext2, ext3 or ext4 are free, by its own bitmaps.
//!
//! The one thing a reader would get wrong: a bitmap that is wrong by one bit costs somebody a file. So the bitmaps are believed only of
//! a file system that was closed in order, has no feature that is not known here, whose checksums are right where it has any, and whose
//! counters of free blocks are those of the bitmaps, group by group and in all. Anything else, and all of it is wanted.
//! Source: the kernel's Documentation/filesystems/ext4.

use super::origin::Bytes;
use super::sums::{crc16, crc32c};
use super::wanted::Wanted;
use crate::deploy::zip::number;
use std::io;
use std::ops::Range;
use superblock::{GDT_CSUM, META_BG, METADATA_CSUM, SPARSE, SPARSE_2, Super};

mod superblock;

const SUPER: usize = 1024;
/// Flag of a group: its bitmap was never written.
const BLOCK_UNINIT: u64 = 0x2;

/// Spares what is free in the file system that lies in `place` of the disk.
///
/// # Errors
/// Why it is not certain what is; then nothing is spared.
pub fn spare(disk: &(impl Bytes + ?Sized), place: Range<u64>, wanted: &mut Wanted) -> Result<(), String> {
    let unread = |error: io::Error| format!("its superblock: {error}");
    let bytes = disk.bytes(place.start + SUPER as u64, SUPER).map_err(unread)?;
    let fs = Super::parse(&bytes)?;
    if fs
        .blocks
        .checked_mul(fs.block)
        .is_none_or(|len| len > place.end - place.start)
    {
        return Err("it is larger than what it is in".to_owned());
    }
    let descriptors = fs.descriptors(disk, place.start)?;
    let meta = fs.metadata(&descriptors)?;
    let mut spared = wanted.clone();
    let mut free_in_all = 0;
    for (group, descriptor) in (0..fs.groups).zip(&descriptors) {
        let bitmap = match descriptor.uninit {
            true => fs.made_bitmap(group, &meta),
            false => fs.bitmap(disk, place.start, group, descriptor)?,
        };
        let range = fs.clusters(group);
        let count = range.end - range.start;
        let free = (0..count).filter(|bit| !is_set(&bitmap, *bit)).count() as u64;
        if free != descriptor.free {
            return Err(format!(
                "group {group} has {free} free clusters and says {}",
                descriptor.free
            ));
        }
        free_in_all += free;
        for run in runs(&bitmap, count) {
            let byte = |cluster: u64| {
                place.start + (fs.first + (range.start + cluster) * fs.ratio).min(fs.blocks) * fs.block
            };
            spared.spare(byte(run.start), byte(run.end));
        }
    }
    if free_in_all * fs.ratio != fs.free {
        return Err(format!(
            "it has {} free blocks and says {}",
            free_in_all * fs.ratio,
            fs.free
        ));
    }
    *wanted = spared;
    Ok(())
}

fn is_set(bitmap: &[u8], bit: u64) -> bool {
    let byte = usize::try_from(bit / 8).ok().and_then(|byte| bitmap.get(byte));
    // What is not there is in use.
    byte.is_none_or(|byte| byte >> (bit % 8) & 1 == 1)
}

/// The runs of zeros among the first `count` bits.
fn runs(bitmap: &[u8], count: u64) -> Vec<Range<u64>> {
    let mut runs: Vec<Range<u64>> = Vec::new();
    for bit in (0..count).filter(|bit| !is_set(bitmap, *bit)) {
        match runs.last_mut() {
            Some(last) if last.end == bit => last.end = bit + 1,
            _ => runs.push(bit..bit + 1),
        }
    }
    runs
}

/// A group, as far as it matters.
struct Descriptor {
    bitmap: u64,
    inode_bitmap: u64,
    inode_table: u64,
    free: u64,
    uninit: bool,
    checksum: u64,
}

impl Super {
    fn per_block(&self) -> u64 {
        self.block / self.descriptor as u64
    }

    /// Clusters of a group, counted from the first of the file system.
    fn clusters(&self, group: u64) -> Range<u64> {
        let all = (self.blocks - self.first).div_ceil(self.ratio);
        let start = group * self.clusters_per_group;
        start..(start + self.clusters_per_group).min(all)
    }

    fn first_block(&self, group: u64) -> u64 {
        self.first + group * self.clusters_per_group * self.ratio
    }

    /// Blocks before the superblock of a group: the boot block, where blocks are small and counted from it.
    fn head_offset(&self, group: u64) -> u64 {
        u64::from(group == 0 && self.first == 0 && self.block == 1024)
    }

    /// Whether a group begins with a copy of the superblock.
    fn has_super(&self, group: u64) -> bool {
        let power = |base: u64| {
            let mut power = base;
            while power < group {
                power *= base;
            }
            power == group
        };
        match group {
            0 => true,
            _ if self.compat & SPARSE_2 != 0 => self.backups.contains(&group),
            1 => true,
            _ if self.ro_compat & SPARSE == 0 => true,
            _ => power(3) || power(5) || power(7),
        }
    }

    fn descriptors(&self, disk: &(impl Bytes + ?Sized), start: u64) -> Result<Vec<Descriptor>, String> {
        let size = usize::try_from(self.block).unwrap_or(0);
        let mut descriptors = Vec::new();
        for index in 0..self.groups.div_ceil(self.per_block()) {
            let at = match self.incompat & META_BG != 0 && index >= self.first_meta {
                false => self.first + self.head_offset(0) + 1 + index,
                true => {
                    let group = index * self.per_block();
                    self.first_block(group) + self.head_offset(group) + u64::from(self.has_super(group))
                }
            };
            let block = disk
                .bytes(start + at * self.block, size)
                .map_err(|error| format!("its group descriptors: {error}"))?;
            for bytes in block.chunks_exact(self.descriptor) {
                let group = descriptors.len() as u64;
                if group < self.groups {
                    descriptors.push(self.descriptor(group, bytes)?);
                }
            }
        }
        Ok(descriptors)
    }

    fn descriptor(&self, group: u64, bytes: &[u8]) -> Result<Descriptor, String> {
        let field = |at: usize, length: usize| number(bytes.get(at..at + length).unwrap_or_default());
        let wide = self.descriptor >= 64;
        let both = |low: usize, high: usize, length: usize| {
            field(low, length)
                | if wide {
                    field(high, length) << (8 * length)
                } else {
                    0
                }
        };
        let checked = match (self.ro_compat & METADATA_CSUM, self.ro_compat & GDT_CSUM) {
            (0, 0) => true,
            (0, _) => {
                let sum = crc16(!0, &self.uuid);
                let sum = crc16(sum, &u32::try_from(group).unwrap_or(!0).to_le_bytes());
                let sum = crc16(sum, &bytes[..0x1E]);
                u64::from(crc16(sum, &bytes[0x20..])) == field(0x1E, 2)
            }
            _ => {
                let sum = crc32c(self.seed, &u32::try_from(group).unwrap_or(!0).to_le_bytes());
                let sum = crc32c(sum, &bytes[..0x1E]);
                let sum = crc32c(sum, &[0, 0]);
                u64::from(crc32c(sum, &bytes[0x20..]) & 0xFFFF) == field(0x1E, 2)
            }
        };
        if !checked {
            return Err(format!("the checksum of group {group} is wrong"));
        }
        // Without checksums the flag means nothing, and no bitmap is left unwritten.
        let flags = if self.ro_compat & (METADATA_CSUM | GDT_CSUM) == 0 {
            0
        } else {
            field(0x12, 2)
        };
        Ok(Descriptor {
            bitmap: both(0x00, 0x20, 4),
            inode_bitmap: both(0x04, 0x24, 4),
            inode_table: both(0x08, 0x28, 4),
            free: both(0x0C, 0x2C, 2),
            uninit: flags & BLOCK_UNINIT != 0,
            checksum: field(0x18, 2) | if wide { field(0x38, 2) << 16 } else { 0 },
        })
    }

    /// Every block that the file system itself occupies, whether a bitmap says so or not; sorted.
    fn metadata(&self, descriptors: &[Descriptor]) -> Result<Vec<Range<u64>>, String> {
        let mut meta = Vec::new();
        for (group, descriptor) in (0..self.groups).zip(descriptors) {
            for (at, count) in [
                (descriptor.bitmap, 1),
                (descriptor.inode_bitmap, 1),
                (descriptor.inode_table, self.inode_table),
            ] {
                if at < self.first || at + count > self.blocks {
                    return Err(format!("group {group} has its tables outside"));
                }
                meta.push(at..at + count);
            }
            meta.push(self.head(group));
        }
        meta.sort_by_key(|range| range.start);
        Ok(meta)
    }

    /// What a group begins with: superblock, descriptors, room for more of them.
    fn head(&self, group: u64) -> Range<u64> {
        let start = self.first_block(group);
        let has = u64::from(self.has_super(group));
        let index = group / self.per_block();
        let tables = match self.incompat & META_BG != 0 && index >= self.first_meta {
            // One block of descriptors in the first two groups and the last of those it is of.
            true => u64::from([0, 1, self.per_block() - 1].contains(&(group % self.per_block()))),
            false => {
                let old = match self.incompat & META_BG {
                    0 => self.groups.div_ceil(self.per_block()),
                    _ => self.first_meta,
                };
                has * (old + self.reserved_gdt)
            }
        };
        start..start + self.head_offset(group) + has + tables
    }

    /// The bitmap that a group would have: nothing in it but what the file system itself occupies.
    fn made_bitmap(&self, group: u64, meta: &[Range<u64>]) -> Vec<u8> {
        let range = self.clusters(group);
        let mut bitmap = vec![0; usize::try_from(self.clusters_per_group.div_ceil(8)).unwrap_or(0)];
        let start = self.first_block(group);
        let end = start + (range.end - range.start) * self.ratio;
        for blocks in meta
            .iter()
            .filter(|blocks| blocks.start < end && blocks.end > start)
        {
            for block in blocks.start.max(start)..blocks.end.min(end) {
                let bit = (block - start) / self.ratio;
                let byte = usize::try_from(bit / 8).unwrap_or(usize::MAX);
                if let Some(byte) = bitmap.get_mut(byte) {
                    *byte |= 1 << (bit % 8);
                }
            }
        }
        bitmap
    }

    fn bitmap(
        &self,
        disk: &(impl Bytes + ?Sized),
        start: u64,
        group: u64,
        descriptor: &Descriptor,
    ) -> Result<Vec<u8>, String> {
        let length = usize::try_from(self.clusters_per_group / 8).unwrap_or(0);
        let bitmap = disk
            .bytes(start + descriptor.bitmap * self.block, length)
            .map_err(|error| format!("the bitmap of group {group}: {error}"))?;
        if self.ro_compat & METADATA_CSUM != 0 {
            // Of the old, small descriptors only half of it has room.
            let kept = if self.descriptor >= 64 {
                0xFFFF_FFFF
            } else {
                0xFFFF
            };
            if u64::from(crc32c(self.seed, &bitmap)) & kept != descriptor.checksum {
                return Err(format!("the checksum of the bitmap of group {group} is wrong"));
            }
        }
        Ok(bitmap)
    }
}

#[cfg(test)]
mod tests;
