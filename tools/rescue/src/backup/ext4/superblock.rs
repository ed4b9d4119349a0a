//! The superblock, and what of it makes a file system one that is believed.

use super::SUPER;
use crate::backup::sums::crc32c;
use crate::deploy::zip::number;

/// `s_state`: closed in order, and no errors were met.
const CLEAN: u64 = 1;

/// Features of which the bitmaps do not depend, or in a way that is known here: filetype, meta_bg, extents, 64bit, flex_bg, ea_inode,
/// csum_seed, largedir, inline_data, encrypt, casefold. Not: compression, recover, journal_dev, mmp, dirdata.
const INCOMPAT: u64 =
    0x2 | META_BG | 0x40 | WIDE | 0x200 | 0x400 | CSUM_SEED | 0x4000 | 0x8000 | 0x10000 | 0x20000;
pub const META_BG: u64 = 0x10;
pub const WIDE: u64 = 0x80;
const CSUM_SEED: u64 = 0x2000;
/// sparse_super, large_file, btree_dir, huge_file, gdt_csum, dir_nlink, extra_isize, quota, bigalloc, metadata_csum, readonly, project,
/// verity. Not: orphan_present, shared_blocks, snapshots.
const RO_COMPAT: u64 = SPARSE
    | 0x2
    | 0x4
    | 0x8
    | GDT_CSUM
    | 0x20
    | 0x40
    | 0x100
    | BIGALLOC
    | METADATA_CSUM
    | 0x1000
    | 0x2000
    | 0x8000;
pub const SPARSE: u64 = 0x1;
pub const GDT_CSUM: u64 = 0x10;
pub const BIGALLOC: u64 = 0x200;
pub const METADATA_CSUM: u64 = 0x400;
/// `s_feature_compat`: backups of the superblock in two groups only.
pub const SPARSE_2: u64 = 0x200;

/// The superblock, as far as it matters.
pub struct Super {
    pub block: u64,
    pub blocks: u64,
    pub first: u64,
    /// Blocks in a cluster, which is what a bit stands for.
    pub ratio: u64,
    pub clusters_per_group: u64,
    pub groups: u64,
    pub free: u64,
    pub inode_table: u64,
    pub incompat: u64,
    pub ro_compat: u64,
    pub compat: u64,
    pub reserved_gdt: u64,
    pub first_meta: u64,
    pub descriptor: usize,
    pub backups: [u64; 2],
    pub uuid: Vec<u8>,
    pub seed: u32,
}

impl Super {
    /// Reads it; only of a file system of which nothing is in doubt.
    ///
    /// # Errors
    /// What is in doubt.
    pub fn parse(bytes: &[u8]) -> Result<Super, String> {
        let field = |at: usize, length: usize| number(bytes.get(at..at + length).unwrap_or_default());
        if field(0x38, 2) != 0xEF53 {
            return Err("it has no superblock".to_owned());
        }
        if field(0x3A, 2) != CLEAN {
            return Err("it was not closed in order or has errors".to_owned());
        }
        let (compat, incompat, ro_compat) = (field(0x5C, 4), field(0x60, 4), field(0x64, 4));
        if incompat & 0x4 != 0 || field(0xE8, 4) != 0 {
            return Err("its journal must be replayed first".to_owned());
        }
        let unknown = (incompat & !INCOMPAT, ro_compat & !RO_COMPAT);
        if unknown != (0, 0) {
            return Err(format!(
                "it has features that are not known here: {:#x}, {:#x}",
                unknown.0, unknown.1
            ));
        }
        let uuid = bytes.get(0x68..0x78).unwrap_or_default().to_vec();
        if ro_compat & METADATA_CSUM != 0
            && (field(0x175, 1) != 1 || u64::from(crc32c(!0, &bytes[..SUPER - 4])) != field(0x3FC, 4))
        {
            return Err("the checksum of its superblock is wrong".to_owned());
        }
        let wide = incompat & WIDE != 0;
        let both = |low: usize, high: usize| field(low, 4) | if wide { field(high, 4) << 32 } else { 0 };
        let (log_block, log_cluster) = (field(0x18, 4), field(0x1C, 4));
        let bigalloc = ro_compat & BIGALLOC != 0;
        let odd = || "its superblock contradicts itself".to_owned();
        if log_block > 6
            || log_cluster > 20
            || log_cluster < log_block
            || (!bigalloc && log_cluster != log_block)
        {
            return Err(odd());
        }
        let ratio = 1 << (log_cluster - log_block);
        let block = 1024 << log_block;
        let (blocks, first) = (both(0x04, 0x150), field(0x14, 4));
        let (blocks_per_group, clusters_per_group) = (field(0x20, 4), field(0x24, 4));
        let (inodes_per_group, inode) = (field(0x28, 4), field(0x58, 2));
        let fits = blocks_per_group == clusters_per_group * ratio
            && (1..=block * 8).contains(&clusters_per_group)
            && first == u64::from(block == 1024 && !bigalloc)
            && (first + 1..1 << 48).contains(&blocks)
            && (128..=block).contains(&inode)
            && (1..=block * 8).contains(&inodes_per_group);
        if !fits {
            return Err(odd());
        }
        let descriptor = match (wide, field(0xFE, 2)) {
            (true, size @ 64..=1024) if size.is_power_of_two() => size,
            (false, _) => 32,
            _ => return Err(odd()),
        };
        Ok(Super {
            block,
            blocks,
            first,
            ratio,
            clusters_per_group,
            groups: (blocks - first).div_ceil(blocks_per_group),
            free: both(0x0C, 0x158),
            inode_table: (inodes_per_group * inode).div_ceil(block),
            incompat,
            ro_compat,
            compat,
            reserved_gdt: field(0xCE, 2),
            first_meta: field(0x104, 4),
            descriptor: usize::try_from(descriptor).unwrap_or(32),
            backups: [field(0x24C, 4), field(0x250, 4)],
            seed: match incompat & CSUM_SEED {
                0 => crc32c(!0, &uuid),
                _ => u32::try_from(field(0x270, 4)).unwrap_or(0),
            },
            uuid,
        })
    }
}
