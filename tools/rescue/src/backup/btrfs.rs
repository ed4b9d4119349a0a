//! Which bytes of a btrfs are used, by its tree of extents: every copy of them.
//!
//! A btrfs is written so that its trees are whole at any moment, so it need not have been closed in order; only what `fsync` left in its log tree
//! must have been replayed. Believed only of one on this device alone, whose blocks that are looked at have their checksum, place, age and
//! owner right, and whose counters are those of the tree, block group by block group and in all.
//! Source: the kernel's include/uapi/linux/btrfs_tree.h and Documentation/filesystems/btrfs.

use super::origin::Bytes;
use super::sums::crc32c;
use super::wanted::Wanted;
use crate::deploy::zip::number;
use chunks::Chunks;
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use superblock::Super;
use tree::{Key, Tree, walk};

mod chunks;
mod superblock;
mod tree;

/// Before this there is nothing but the superblock, and what starts a machine.
const RESERVED: u64 = 1 << 20;
/// Where superblocks are; how many of them there are, the size decides.
const SUPERS: [u64; 3] = [superblock::AT, 64 << 20, 256 << 30];

/// Spares what is free in the file system that lies in `place` of the disk.
///
/// # Errors
/// Why it is not certain what is; then nothing is spared.
pub fn spare(disk: &(impl Bytes + ?Sized), place: Range<u64>, wanted: &mut Wanted) -> Result<(), String> {
    let fs = Super::parse(&bytes(disk, place.start + superblock::AT, superblock::LENGTH)?)?;
    if fs.size > place.end - place.start {
        return Err("it is larger than what it is in".to_owned());
    }
    for at in SUPERS.iter().filter(|at| **at + superblock::LENGTH <= fs.size) {
        // Of a disk that lost a write the first may be an old one.
        if fs.is_older_than(&bytes(disk, place.start + at, superblock::LENGTH)?) {
            return Err(format!("its superblock is older than the one at byte {at}"));
        }
    }
    let mut spared = wanted.clone();
    spared.spare(place.start + RESERVED, place.start + fs.size);
    for at in SUPERS.iter().filter(|at| **at < fs.size) {
        spared.keep(
            place.start + at,
            place.start + (at + superblock::LENGTH).min(fs.size),
        );
    }
    let mut used = Used {
        chunks: Chunks::read(disk, place.start, &fs)?,
        keep: &mut |piece| spared.keep(place.start + piece.start, place.start + piece.end),
        end: 0,
        in_chunks: BTreeMap::new(),
        told: BTreeMap::new(),
    };
    used.read(disk, place.start, &fs)?;
    used.fits(&fs)?;
    *wanted = spared;
    Ok(())
}

fn bytes(disk: &(impl Bytes + ?Sized), at: u64, length: u64) -> Result<Vec<u8>, String> {
    let length = usize::try_from(length).unwrap_or(0);
    let unread = |error: io::Error| format!("its trees: {error}");
    disk.bytes(at, length).map_err(unread)
}

/// A number; what is not there is zero, and everything that is read is checked.
fn field(bytes: &[u8], at: usize, length: usize) -> u64 {
    number(bytes.get(at..at + length).unwrap_or_default())
}

/// Whether the checksum that it begins with is that of the rest.
fn is_whole(bytes: &[u8]) -> bool {
    const BEHIND: usize = 32;
    let sum = bytes.get(BEHIND..).map(|rest| !crc32c(!0, rest));
    sum.is_some_and(|sum| bytes.starts_with(&sum.to_le_bytes()))
}

/// What the tree of extents says, in the order in which it says it.
struct Used<'u> {
    chunks: Chunks,
    keep: &'u mut dyn FnMut(Range<u64>),
    /// Behind the last extent.
    end: u64,
    /// Bytes used in each chunk, by its first byte: those of the extents, and those that its block group tells.
    in_chunks: BTreeMap<u64, u64>,
    told: BTreeMap<u64, u64>,
}

impl Used<'_> {
    fn read(&mut self, disk: &(impl Bytes + ?Sized), start: u64, fs: &Super) -> Result<(), String> {
        let roots = self.roots(disk, start, fs)?;
        let extents = roots.get(&EXTENTS).ok_or("it has no tree of extents")?;
        // The chunks are looked at while the rest of this is written to.
        let chunks = std::mem::take(&mut self.chunks);
        let read = |at: u64| chunks.block(disk, start, fs, at);
        let walked = walk(fs, extents, &read, &mut |key, item| {
            self.see(fs, &chunks, key, item)
        });
        let groups = match (walked, roots.get(&BLOCK_GROUPS)) {
            (Ok(()), Some(groups)) => walk(fs, groups, &read, &mut |key, item| {
                self.see(fs, &chunks, key, item)
            }),
            (walked, _) => walked,
        };
        self.chunks = chunks;
        groups
    }

    /// The trees that matter.
    fn roots(
        &self,
        disk: &(impl Bytes + ?Sized),
        start: u64,
        fs: &Super,
    ) -> Result<BTreeMap<u64, Tree>, String> {
        let mut roots = BTreeMap::new();
        let read = |at: u64| self.chunks.block(disk, start, fs, at);
        walk(fs, &fs.root, &read, &mut |key, item| {
            if key.kind == ROOT && matches!(key.object, EXTENTS | BLOCK_GROUPS) {
                let tree = Tree {
                    owner: key.object,
                    at: field(item, 176, 8),
                    level: field(item, 238, 1),
                    generation: field(item, 160, 8),
                };
                if item.len() < 239 || roots.insert(key.object, tree).is_some() {
                    return Err("its tree of trees is damaged".to_owned());
                }
            }
            Ok(())
        })?;
        Ok(roots)
    }

    fn see(&mut self, fs: &Super, chunks: &Chunks, key: Key, item: &[u8]) -> Result<(), String> {
        let length = match key.kind {
            EXTENT => key.offset,
            BLOCK => fs.node,
            GROUP => {
                let chunk = chunks.of(&(key.object..key.object + 1));
                let same = chunk.is_some_and(|chunk| {
                    (chunk.at, chunk.length, chunk.kind) == (key.object, key.offset, field(item, 16, 8))
                });
                let known = self.told.insert(key.object, field(item, 0, 8));
                return match same && item.len() == 24 && known.is_none() {
                    true => Ok(()),
                    false => Err("a block group is not what its chunk is".to_owned()),
                };
            }
            _ => return Ok(()),
        };
        let odd = || format!("its tree of extents is damaged at byte {}", key.object);
        let end = key.object.checked_add(length).ok_or_else(odd)?;
        if length == 0 || length % fs.sector != 0 || key.object < self.end {
            return Err(odd());
        }
        let chunk = chunks.of(&(key.object..end)).ok_or_else(odd)?;
        self.end = end;
        *self.in_chunks.entry(chunk.at).or_default() += length;
        for copy in chunk.copies(&(key.object..end)) {
            (self.keep)(copy);
        }
        Ok(())
    }

    /// # Errors
    /// The counters are not those of the extents.
    fn fits(&self, fs: &Super) -> Result<(), String> {
        for chunk in self.chunks.iter() {
            let used = self.in_chunks.get(&chunk.at).copied().unwrap_or(0);
            let told = self.told.get(&chunk.at);
            if told != Some(&used) {
                let told = told.copied().unwrap_or(0);
                return Err(format!(
                    "{used} bytes of the block group at {} are used and it says {told}",
                    chunk.at
                ));
            }
        }
        let used: u64 = self.in_chunks.values().sum();
        match used == fs.used {
            true => Ok(()),
            false => Err(format!("{used} bytes of it are used and it says {}", fs.used)),
        }
    }
}

/// Numbers of trees.
const EXTENTS: u64 = 2;
const BLOCK_GROUPS: u64 = 11;
/// Kinds of items.
const ROOT: u64 = 132;
const EXTENT: u64 = 168;
const BLOCK: u64 = 169;
const GROUP: u64 = 192;

#[cfg(test)]
mod tests;
