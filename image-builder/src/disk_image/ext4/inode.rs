//! What an ext4 inode says besides the bytes of its file: <https://docs.kernel.org/filesystems/ext4/>, "Index Nodes" and
//! "Directory Entries". Every number is checked before it is followed: an image comes from anywhere.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use anyhow::{Context, Result, bail};

use super::super::medium::Slice;
use crate::tree::Kind;

const SUPERBLOCK: u64 = 1024;
/// Incompatible features.
const NEEDS_RECOVERY: u32 = 0x4;
const META_GROUPS: u32 = 0x10;
const WIDE: u32 = 0x80;
/// Inode flags.
const EXTENTS: u32 = 0x8_0000;
const EXTENT_MAGIC: u16 = 0xf30a;
/// The kernel makes none deeper.
const EXTENT_DEPTH: u16 = 5;
/// No directory on a system that is meant to run from RAM comes near.
const DIRECTORY_BLOCKS: u64 = 1 << 18;

/// The inode tables of a file system.
#[derive(Debug)]
pub struct Inodes {
    part: Slice,
    pub block_size: u64,
    blocks: u64,
    count: u32,
    in_group: u32,
    size: usize,
    /// Byte where each group's table starts.
    tables: Vec<u64>,
}

/// One of them.
#[derive(Debug)]
pub struct Inode {
    pub kind: Kind,
    pub mode: u32,
    pub user: u32,
    pub group: u32,
    pub size: u64,
    pub modified: i64,
    pub links: u64,
    pub device: (u32, u32),
    /// The whole of it.
    pub raw: Vec<u8>,
}

impl Inodes {
    /// Reads the superblock and the group descriptors.
    pub fn read(part: &Slice) -> Result<Self> {
        let superblock = part.bytes(SUPERBLOCK, 1024).context("ext4: superblock")?;
        let field = |at| u32_at(&superblock, at);
        let features = field(0x60)?;
        if features & NEEDS_RECOVERY != 0 {
            bail!(
                "ext4: was not unmounted, its journal holds changes that are not in the file system yet; let e2fsck write them \
                 back (e2fsck -fy on the partition) and try again"
            );
        }
        if features & META_GROUPS != 0 {
            bail!("ext4: feature meta_bg is not known here");
        }
        let shift = field(0x18)?;
        if shift > 6 {
            bail!("ext4: damaged superblock: block size 2^{}", u64::from(shift) + 10);
        }
        let block_size = 1024 << shift;
        let high = if features & WIDE == 0 {
            0
        } else {
            u64::from(field(0x150)?)
        };
        let blocks = u64::from(field(0x4)?) | high << 32;
        if blocks.saturating_mul(block_size) > part.length() {
            bail!(
                "ext4: {blocks} blocks of {block_size} bytes in a partition of {} bytes: cut short, or not resized with it",
                part.length()
            );
        }
        let (first, per_group, in_group) = (u64::from(field(0x14)?), u64::from(field(0x20)?), field(0x28)?);
        // As the kernel has it: a group's bitmap is one block, and so is its inodes'.
        let most = block_size * 8;
        let size = usize::from(u16_at(&superblock, 0x58)?);
        if !(256..=most).contains(&per_group) || first > 1 || in_group == 0 || u64::from(in_group) > most {
            bail!("ext4: damaged superblock: groups of {per_group} blocks and {in_group} inodes");
        }
        if !size.is_power_of_two() || size < 128 || size as u64 > block_size {
            bail!("ext4: damaged superblock: inodes of {size} bytes");
        }
        let groups = blocks.saturating_sub(first).div_ceil(per_group);
        let descriptor = if features & WIDE == 0 {
            32
        } else {
            usize::from(u16_at(&superblock, 0xfe)?)
        };
        if !(32..=1024).contains(&descriptor) {
            bail!("ext4: damaged superblock: group descriptors of {descriptor} bytes");
        }
        let table = part
            .bytes((first + 1) * block_size, usize::try_from(groups)? * descriptor)
            .context("ext4: group descriptors")?;
        let mut tables = Vec::new();
        for descriptor in table.chunks_exact(descriptor) {
            let high = if features & WIDE == 0 {
                0
            } else {
                u64::from(u32_at(descriptor, 0x28)?)
            };
            tables.push((u64::from(u32_at(descriptor, 0x8)?) | high << 32).saturating_mul(block_size));
        }
        Ok(Self {
            part: part.clone(),
            block_size,
            blocks,
            count: field(0x0)?,
            in_group,
            size,
            tables,
        })
    }

    /// An inode by its number.
    pub fn inode(&self, number: u32) -> Result<Inode> {
        let index = number
            .checked_sub(1)
            .filter(|_| number <= self.count)
            .with_context(|| format!("the file system has {}", self.count))?;
        let table = usize::try_from(index / self.in_group)?;
        let start = self.tables.get(table).context("in no group")?;
        let at = start.saturating_add(u64::from(index % self.in_group) * self.size as u64);
        Inode::parse(self.part.bytes(at, self.size)?)
    }

    /// A block, by its place in the file system.
    pub fn block(&self, number: u64) -> Result<Vec<u8>> {
        if number == 0 || number >= self.blocks {
            bail!("damaged: block {number} of {}", self.blocks);
        }
        Ok(self
            .part
            .bytes(number * self.block_size, usize::try_from(self.block_size)?)?)
    }

    /// The names in a directory with their inodes, without `.` and `..`.
    pub fn names(&self, directory: &Inode) -> Result<BTreeMap<OsString, u32>> {
        let mut names = BTreeMap::new();
        for block in self.content(directory)? {
            add_names(&self.block(block)?, &mut names)?;
        }
        Ok(names)
    }

    /// The blocks a directory's names stand in, those that there are, in order.
    fn content(&self, inode: &Inode) -> Result<Vec<u64>> {
        let count = inode.size.div_ceil(self.block_size);
        if count > DIRECTORY_BLOCKS.min(self.blocks) {
            bail!("damaged: a directory of {} bytes", inode.size);
        }
        let mut found = Vec::new();
        let root = inode.raw.get(0x28..0x64).unwrap_or_default();
        if u32_at(&inode.raw, 0x20)? & EXTENTS != 0 {
            self.extents(root, EXTENT_DEPTH, count, &mut found)?;
        } else {
            // Twelve blocks, then a block of blocks, a block of those, and one more level.
            for (at, depth) in (0..15).map(|at| (at, [0, 1, 2, 3][usize::max(at, 11) - 11])) {
                let block = u64::from(u32_at(root, at * 4)?);
                self.mapped(block, depth, count, &mut found)?;
            }
        }
        Ok(found)
    }

    fn extents(&self, node: &[u8], deepest: u16, count: u64, found: &mut Vec<u64>) -> Result<()> {
        let (magic, entries, depth) = (u16_at(node, 0)?, u16_at(node, 2)?, u16_at(node, 6)?);
        if magic != EXTENT_MAGIC || depth > deepest {
            bail!("damaged: extent tree");
        }
        for at in (1..=usize::from(entries)).map(|entry| entry * 12) {
            if depth > 0 {
                let child = u64::from(u32_at(node, at + 4)?) | u64::from(u16_at(node, at + 8)?) << 32;
                self.extents(&self.block(child)?, depth - 1, count, found)?;
                continue;
            }
            let length = u64::from(u16_at(node, at + 4)?);
            let start = u64::from(u32_at(node, at + 8)?) | u64::from(u16_at(node, at + 6)?) << 32;
            // More than 32768 marks blocks that were never written: a directory has none.
            if length > 32768 || found.len() as u64 + length > count {
                bail!("damaged: an extent of {length} blocks in a directory of {count}");
            }
            found.extend(start..start + length);
        }
        Ok(())
    }

    /// The block map of ext2 and ext3; block 0 is a hole.
    fn mapped(&self, block: u64, depth: u8, count: u64, found: &mut Vec<u64>) -> Result<()> {
        if block == 0 || found.len() as u64 >= count {
            return Ok(());
        }
        if depth == 0 {
            found.push(block);
            return Ok(());
        }
        for child in self.block(block)?.chunks_exact(4) {
            self.mapped(u64::from(u32_at(child, 0)?), depth - 1, count, found)?;
        }
        Ok(())
    }
}

impl Inode {
    fn parse(raw: Vec<u8>) -> Result<Self> {
        let half = |at| u16_at(&raw, at).map(u32::from);
        let mode = half(0)?;
        let kind = Kind::of_mode(mode).with_context(|| format!("damaged: mode {mode:o}"))?;
        let is_device = matches!(kind, Kind::BlockDevice | Kind::CharacterDevice);
        let device = if is_device {
            device(u32_at(&raw, 0x28)?, u32_at(&raw, 0x2c)?)
        } else {
            (0, 0)
        };
        // Two more bits of seconds since the inode grew, where it did: until 2446.
        let extra = raw.len() > 128 && half(0x80)? >= 0x0c;
        let epoch = if extra {
            i64::from(u32_at(&raw, 0x88)? & 3) << 32
        } else {
            0
        };
        let seconds = i64::from(u32_at(&raw, 0x10)?.cast_signed());
        Ok(Self {
            kind,
            mode: mode & 0o7777,
            user: half(0x2)? | half(0x78)? << 16,
            group: half(0x18)? | half(0x7a)? << 16,
            size: u64::from(u32_at(&raw, 0x4)?) | u64::from(u32_at(&raw, 0x6c)?) << 32,
            modified: seconds + epoch,
            links: u64::from(half(0x1a)?),
            device,
            raw,
        })
    }
}

/// The old form of a device number, else the new one: what the kernel's `old_decode_dev` and `new_decode_dev` make of them.
fn device(old: u32, new: u32) -> (u32, u32) {
    if old != 0 {
        return ((old >> 8) & 0xff, old & 0xff);
    }
    ((new & 0xf_ff00) >> 8, (new & 0xff) | (new >> 12) & 0xf_ff00)
}

fn add_names(block: &[u8], names: &mut BTreeMap<OsString, u32>) -> Result<()> {
    let mut at = 0;
    while at + 8 <= block.len() {
        let (inode, name) = (
            u32_at(block, at)?,
            usize::from(*block.get(at + 6).context("name")?),
        );
        // Blocks of 64 KiB do not fit into the field.
        let length = match u16_at(block, at + 4)? {
            0 | 0xffff => 1 << 16,
            length => usize::from(length),
        };
        if length < 8 + name || length % 4 != 0 || at + length > block.len() {
            bail!("damaged: a directory entry of {length} bytes");
        }
        let name = OsStr::from_bytes(block.get(at + 8..at + 8 + name).unwrap_or_default());
        let unnamed = name.is_empty() || name == "." || name == "..";
        if inode != 0 && !unnamed {
            names.insert(name.to_owned(), inode);
        }
        at += length;
    }
    Ok(())
}

/// A little-endian field.
pub fn u16_at(bytes: &[u8], at: usize) -> Result<u16> {
    let field = bytes.get(at..at + 2).context("damaged: cut short")?;
    Ok(u16::from_le_bytes(field.try_into()?))
}

/// A little-endian field.
pub fn u32_at(bytes: &[u8], at: usize) -> Result<u32> {
    let field = bytes.get(at..at + 4).context("damaged: cut short")?;
    Ok(u32::from_le_bytes(field.try_into()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers_of_both_forms() {
        assert_eq!(device(0x0103, 0), (1, 3));
        assert_eq!(device(0, 0x0001_0302), (259, 2));
        assert_eq!(device(0, 0x1230_0145), (1, 0x1_2345));
    }

    #[test]
    fn a_directory_block_is_read_to_its_end_and_no_further() {
        let mut block = vec![0; 64];
        let mut entry = |at: usize, inode: u32, length: u16, name: &[u8]| {
            block[at..at + 4].copy_from_slice(&inode.to_le_bytes());
            block[at + 4..at + 6].copy_from_slice(&length.to_le_bytes());
            block[at + 6] = u8::try_from(name.len()).unwrap();
            block[at + 8..at + 8 + name.len()].copy_from_slice(name);
        };
        entry(0, 2, 12, b".");
        entry(12, 2, 12, b"..");
        entry(24, 0, 12, b"gone");
        entry(36, 12, 28, b"here");
        let mut names = BTreeMap::new();
        add_names(&block, &mut names).unwrap();
        assert_eq!(names, BTreeMap::from([(OsString::from("here"), 12)]));
        for (at, byte) in [(40, 0), (40, 32), (40, 30), (42, 255)] {
            let mut damaged = block.clone();
            damaged[at] = byte;
            let error = add_names(&damaged, &mut BTreeMap::new()).unwrap_err().to_string();
            assert!(error.starts_with("damaged: a directory entry"), "{error}");
        }
    }
}
