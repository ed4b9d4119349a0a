//! Which blocks of an XFS are free, by the trees of free space that each of its groups has.
//!
//! Believed only of one whose log has nothing to replay (`log`), whose every block that is looked at has its checksum, its place and its owner
//! right, whose counters are those of the trees, group by group and in all, and whose two trees, by place and by size, list the same: a disk
//! that lost a write may have an old block of one of them, which is right in itself. What a group keeps for its own trees to grow (its free
//! list) counts as used. Source: the kernel's fs/xfs/libxfs/xfs_format.h.

use super::origin::Bytes;
use super::sums::crc32c;
use super::wanted::Wanted;
use std::io;
use std::ops::Range;
use superblock::Super;

mod log;
mod superblock;

/// A group's header of free space; behind the superblock of the group.
const AGF: u64 = 0x5841_4746;
/// A block of a tree of free space with a checksum: by place, by size.
const BY_PLACE: u64 = 0x4142_3342;
const BY_SIZE: u64 = 0x4142_3343;
/// Bytes before the records of such a block.
const HEAD: usize = 56;
/// `XFS_BTREE_MAXLEVELS`.
const LEVELS: u64 = 9;

/// Spares what is free in the file system that lies in `place` of the disk.
///
/// # Errors
/// Why it is not certain what is; then nothing is spared.
pub fn spare(disk: &(impl Bytes + ?Sized), place: Range<u64>, wanted: &mut Wanted) -> Result<(), String> {
    // A sector may have up to 32 KiB; how much, the first bytes say.
    let first = disk.bytes(place.start, 512).map_err(unread)?;
    let fs = Super::parse(&first, |length| disk.bytes(place.start, length).map_err(unread))?;
    if fs.blocks > (place.end - place.start) / fs.block {
        return Err("it is larger than what it is in".to_owned());
    }
    log::is_empty(disk, place.start, &fs)?;
    let mut spared = wanted.clone();
    let (mut blocks, mut free) = (0, 0);
    for number in 0..fs.groups {
        let group = Group::read(disk, place.start, &fs, number)?;
        group.runs(disk, place.start, &fs, &mut |run| {
            let byte = |block: u64| place.start + (number * fs.group + block) * fs.block;
            spared.spare(byte(run.start), byte(run.end));
        })?;
        blocks += group.blocks;
        free += group.in_all;
    }
    if blocks != fs.blocks {
        return Err(format!(
            "its groups have {blocks} blocks and it says {}",
            fs.blocks
        ));
    }
    if free != fs.free {
        return Err(format!("it has {free} free blocks and says {}", fs.free));
    }
    *wanted = spared;
    Ok(())
}

fn unread(error: io::Error) -> String {
    format!("its structures: {error}")
}

/// A number as XFS writes it, the most significant byte first.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

fn field(bytes: &[u8], at: usize, length: usize) -> u64 {
    number(bytes.get(at..at + length).unwrap_or_default())
}

/// Whether the checksum at `at`, which alone of all numbers has its least significant byte first, is that of the rest.
fn is_whole(bytes: &[u8], at: usize) -> bool {
    let (Some(before), Some(told), Some(behind)) =
        (bytes.get(..at), bytes.get(at..at + 4), bytes.get(at + 4..))
    else {
        return false;
    };
    let sum = crc32c(crc32c(crc32c(!0, before), &[0; 4]), behind);
    (!sum).to_le_bytes() == told
}

/// Where a tree begins.
#[derive(Clone, Copy)]
struct Root {
    at: u64,
    levels: u64,
    /// What its blocks begin with.
    magic: u64,
}

/// What a group says of its free space.
struct Group {
    number: u64,
    blocks: u64,
    by_place: Root,
    by_size: Root,
    /// Blocks in either tree.
    free: u64,
    longest: u64,
    /// With the free list and what its trees of free space occupy: what the superblock counts.
    in_all: u64,
}

impl Group {
    fn read(disk: &(impl Bytes + ?Sized), start: u64, fs: &Super, number: u64) -> Result<Group, String> {
        let at = start + number * fs.group * fs.block + fs.sector as u64;
        let bytes = disk.bytes(at, fs.sector).map_err(unread)?;
        let says = |at: usize| field(&bytes, at, 4);
        let sound = says(0) == AGF
            && says(4) == 1
            && says(8) == number
            && bytes.get(64..80) == Some(&fs.uuid[..])
            && is_whole(&bytes, 216);
        if !sound {
            return Err(format!("the header of group {number} is wrong"));
        }
        let last = number + 1 == fs.groups;
        let blocks = says(12);
        let (by_place, by_size) = (
            Root {
                at: says(16),
                levels: says(28),
                magic: BY_PLACE,
            },
            Root {
                at: says(20),
                levels: says(32),
                magic: BY_SIZE,
            },
        );
        let is_tree = |root: Root| (1..=LEVELS).contains(&root.levels);
        if !(blocks == fs.group || last && blocks < fs.group) || !is_tree(by_place) || !is_tree(by_size) {
            return Err(format!("group {number} contradicts the superblock"));
        }
        Ok(Group {
            number,
            blocks,
            by_place,
            by_size,
            free: says(52),
            longest: says(56),
            in_all: says(52) + says(48) + says(60),
        })
    }

    /// Tells `found` of what both trees say is free.
    fn runs(
        &self,
        disk: &(impl Bytes + ?Sized),
        start: u64,
        fs: &Super,
        found: &mut dyn FnMut(Range<u64>),
    ) -> Result<(), String> {
        let walk = |root: Root, found: &mut dyn FnMut(Range<u64>)| {
            let mut walk = Walk {
                fs,
                group: self,
                root,
                start,
                next: (0, 0),
                free: 0,
                longest: 0,
                sum: 0,
            };
            walk.down(disk, root.at, root.levels, found).map(|()| walk)
        };
        let (by_place, by_size) = (walk(self.by_place, found)?, walk(self.by_size, &mut |_| ())?);
        let number = self.number;
        if (by_place.free, by_place.longest) != (self.free, self.longest) {
            return Err(format!(
                "group {number} has {} free blocks and says {}",
                by_place.free, self.free
            ));
        }
        match (by_place.free, by_place.sum) == (by_size.free, by_size.sum) {
            true => Ok(()),
            false => Err(format!("the two lists of free blocks of group {number} differ")),
        }
    }
}

/// A walk through the free space of a group, in the order of a tree.
struct Walk<'w> {
    fs: &'w Super,
    group: &'w Group,
    root: Root,
    start: u64,
    /// What the next run must not come before: a place, or a size and a place.
    next: (u64, u64),
    free: u64,
    longest: u64,
    /// By which the runs are known again, whatever their order.
    sum: u64,
}

impl Walk<'_> {
    /// `levels` are left, this one included.
    fn down(
        &mut self,
        disk: &(impl Bytes + ?Sized),
        at: u64,
        levels: u64,
        found: &mut dyn FnMut(Range<u64>),
    ) -> Result<(), String> {
        let bytes = self.block(disk, at, levels - 1)?;
        let count = usize::try_from(field(&bytes, 6, 2)).unwrap_or(0);
        let room = bytes.len() - HEAD;
        let (record, most) = match levels {
            1 => (8, room / 8),
            // Of each block below the first record, and behind all of these where it is.
            _ => (8, room / 12),
        };
        // Without free space the root alone is left, and empty.
        if count > most || count == 0 && (levels > 1 || at != self.root.at) {
            return Err(self.odd());
        }
        for index in 0..count {
            if levels > 1 {
                let below = field(&bytes, HEAD + most * record + index * 4, 4);
                self.down(disk, below, levels - 1, found)?;
                continue;
            }
            let (from, length) = (
                field(&bytes, HEAD + index * record, 4),
                field(&bytes, HEAD + index * record + 4, 4),
            );
            let run = from..from + length;
            let (order, next) = match self.root.magic {
                BY_PLACE => ((from, 0), (run.end + 1, 0)),
                _ => ((length, from), (length, from + 1)),
            };
            if length == 0 || order < self.next || run.end > self.group.blocks || self.is_fixed(&run) {
                return Err(self.odd());
            }
            self.next = next;
            self.sum = self.sum.wrapping_add(mixed(from << 32 | length));
            self.free += length;
            self.longest = self.longest.max(length);
            found(run);
        }
        Ok(())
    }

    fn block(&self, disk: &(impl Bytes + ?Sized), at: u64, level: u64) -> Result<Vec<u8>, String> {
        if at >= self.group.blocks {
            return Err(self.odd());
        }
        let (fs, number) = (self.fs, self.group.number);
        let byte = (number * fs.group + at) * fs.block;
        let length = usize::try_from(fs.block).unwrap_or(0);
        let bytes = disk.bytes(self.start + byte, length).map_err(unread)?;
        let sound = field(&bytes, 0, 4) == self.root.magic
            && field(&bytes, 4, 2) == level
            && field(&bytes, 16, 8) == byte / 512
            && bytes.get(32..48) == Some(&fs.uuid[..])
            && field(&bytes, 48, 4) == number
            && is_whole(&bytes, 52);
        match sound {
            true => Ok(bytes),
            false => Err(self.odd()),
        }
    }

    /// Whether something lies there that is never free: the headers of the group, the log.
    fn is_fixed(&self, run: &Range<u64>) -> bool {
        let fs = self.fs;
        let log = match fs.log_group == self.group.number {
            true => fs.log_block..fs.log_block + fs.log_blocks,
            false => 0..0,
        };
        let headers = (4 * fs.sector as u64).div_ceil(fs.block);
        run.start < headers || run.start < log.end && log.start < run.end
    }

    fn odd(&self) -> String {
        format!(
            "the list of free blocks of group {} is damaged",
            self.group.number
        )
    }
}

/// Another number for each; numbers that are alike become ones that are not (the finalizer of SplitMix64).
fn mixed(number: u64) -> u64 {
    let number = (number ^ number >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let number = (number ^ number >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    number ^ number >> 31
}

#[cfg(test)]
mod tests;
