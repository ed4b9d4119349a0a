//! The superblock, and what of it makes a file system one that is believed.

use super::{field, is_whole};

const MAGIC: u64 = 0x5846_5342;
/// The version in the low four bits: 5 is the one with checksums.
const VERSION: u64 = 5;
/// finobt, rmapbt, reflink, inobtcount.
const RO_COMPAT: u64 = 0x0F;
/// ftype, sparse inodes, meta_uuid, bigtime, nrext64, exchange-range, parent pointers. Not: needs repair, metadir, zoned.
const INCOMPAT: u64 = 0x1 | 0x2 | META_UUID | 0x8 | 0x20 | 0x40 | 0x80;
const META_UUID: u64 = 0x4;

/// The superblock, as far as it matters. Lengths in blocks unless it says otherwise.
#[derive(Debug)]
pub struct Super {
    /// Bytes of a block.
    pub block: u64,
    /// Bytes of a sector.
    pub sector: usize,
    pub blocks: u64,
    pub free: u64,
    /// Blocks of each group but the last.
    pub group: u64,
    pub groups: u64,
    /// What every block of a tree has in it.
    pub uuid: [u8; 16],
    /// What the records of the log have in them.
    pub log_uuid: [u8; 16],
    /// The group that the log lies in, and where in it.
    pub log_group: u64,
    pub log_block: u64,
    pub log_blocks: u64,
}

impl Super {
    /// `more` gives as many bytes of the beginning of the file system as it is asked for.
    ///
    /// # Errors
    /// Why the file system is not believed.
    pub fn parse(first: &[u8], more: impl FnOnce(usize) -> Result<Vec<u8>, String>) -> Result<Super, String> {
        let says = |at: usize, length: usize| field(first, at, length);
        let odd = || "its superblock contradicts itself".to_owned();
        if says(0, 4) != MAGIC {
            return Err("it has no superblock".to_owned());
        }
        if says(100, 2) & 0xF != VERSION {
            return Err("it is of a version without checksums".to_owned());
        }
        let (block, sector) = (says(4, 4), says(102, 2));
        let is_size = |size: u64, most: u64| size.is_power_of_two() && (512..=most).contains(&size);
        if !is_size(block, 65536) || !is_size(sector, 32768) || sector > block {
            return Err(odd());
        }
        let sector = usize::try_from(sector).map_err(|_| odd())?;
        if !is_whole(&more(sector)?, 224) {
            return Err("the checksum of its superblock is wrong".to_owned());
        }
        if says(216, 4) & !INCOMPAT != 0 || says(212, 4) & !RO_COMPAT != 0 || says(220, 4) != 0 {
            return Err("it has a feature that is not known here, or needs a repair".to_owned());
        }
        if says(126, 1) != 0 {
            return Err("it was not made to the end".to_owned());
        }
        if says(16, 8) != 0 || says(48, 8) == 0 {
            return Err("part of it lies on another device".to_owned());
        }
        let (blocks, group, groups, bits) = (says(8, 8), says(84, 4), says(88, 4), says(124, 1));
        let log = says(48, 8);
        let uuid = |at: usize| {
            let uuid = first.get(at..at + 16).and_then(|uuid| uuid.try_into().ok());
            uuid.ok_or_else(odd)
        };
        let sound = group > 0
            && groups > 0
            && blocks > (groups - 1) * group
            && blocks <= groups * group
            && bits < 32
            && group <= 1 << bits;
        if !sound {
            return Err(odd());
        }
        let fs = Super {
            block,
            sector,
            blocks,
            free: says(144, 8),
            group,
            groups,
            uuid: uuid(if says(216, 4) & META_UUID != 0 { 248 } else { 32 })?,
            log_uuid: uuid(32)?,
            log_group: log >> bits,
            log_block: log & ((1 << bits) - 1),
            log_blocks: says(96, 4),
        };
        let end = fs
            .log_group
            .checked_mul(group)
            .map(|at| at + fs.log_block + fs.log_blocks);
        let in_group = fs.log_block + fs.log_blocks <= group;
        match fs.log_blocks > 0 && in_group && end.is_some_and(|end| end <= blocks) {
            true => Ok(fs),
            false => Err(odd()),
        }
    }
}
