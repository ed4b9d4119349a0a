//! The superblock, and what of it makes a file system one that is believed.

use super::tree::Tree;
use super::{field, is_whole};

/// Where the first of them is.
pub const AT: u64 = 64 << 10;
pub const LENGTH: u64 = 4096;

const MAGIC: &[u8] = b"_BHRfS_M";
/// Written, relocation. Not: an error, a seed, a dump, an identity or checksums that are being changed.
const FLAGS: u64 = 0x3;
/// All up to RAID of three and four copies but RAID 5 and 6; simple quotas. Not: zones, a second kind of extent tree, a tree of stripes.
const INCOMPAT: u64 = 0x0F7F | 0x1_0000;
const METADATA_UUID: u64 = 0x400;
/// The free space tree, whether it is valid, verity, the block group tree.
const RO_COMPAT: u64 = 0xF;
/// Numbers of trees.
const ROOTS: u64 = 1;
const CHUNKS: u64 = 3;

/// The superblock, as far as it matters. Lengths in bytes.
pub struct Super {
    pub size: u64,
    pub used: u64,
    pub sector: u64,
    pub node: u64,
    /// What every block of a tree has in it.
    pub id: Vec<u8>,
    /// What every superblock of it has in it.
    fs_id: Vec<u8>,
    /// The number of this device.
    pub device: u64,
    pub root: Tree,
    pub chunk_root: Tree,
    /// Keys and chunks without which the chunk tree cannot be read.
    pub system_chunks: Vec<u8>,
}

impl Super {
    /// # Errors
    /// Why the file system is not believed.
    pub fn parse(bytes: &[u8]) -> Result<Super, String> {
        let says = |at: usize, length: usize| field(bytes, at, length);
        let odd = || "its superblock contradicts itself".to_owned();
        if bytes.get(64..72) != Some(MAGIC) {
            return Err("it has no superblock".to_owned());
        }
        if says(196, 2) != 0 {
            return Err("its checksums are of a kind that is not known here".to_owned());
        }
        if !is_whole(bytes) || says(48, 8) != AT {
            return Err("the checksum of its superblock is wrong".to_owned());
        }
        let known =
            says(56, 8) & !FLAGS == 0 && says(180, 8) & !RO_COMPAT == 0 && says(188, 8) & !INCOMPAT == 0;
        if !known {
            return Err("it has a feature that is not known here".to_owned());
        }
        if says(136, 8) != 1 {
            return Err("it lies on several devices".to_owned());
        }
        if says(96, 8) != 0 {
            return Err("it was not closed in order: its log waits".to_owned());
        }
        let (sector, node) = (says(144, 4), says(148, 4));
        let sound = sector.is_power_of_two()
            && (4096..=65536).contains(&sector)
            && node.is_power_of_two()
            && (sector..=65536).contains(&node)
            // The device's own account of its size, and of the file system's.
            && says(112, 8) == says(209, 8);
        let id = if says(188, 8) & METADATA_UUID != 0 {
            571
        } else {
            32
        };
        let system = usize::try_from(says(160, 4)).map_err(|_| odd())?;
        let (Some(id), Some(system), true) = (
            bytes.get(id..id + 16),
            bytes.get(811..811 + system).filter(|_| system <= 2048),
            sound,
        ) else {
            return Err(odd());
        };
        Ok(Super {
            size: says(112, 8),
            used: says(120, 8),
            sector,
            node,
            id: id.to_vec(),
            fs_id: bytes.get(32..48).unwrap_or_default().to_vec(),
            device: says(201, 8),
            root: Tree {
                owner: ROOTS,
                at: says(80, 8),
                level: says(198, 1),
                generation: says(72, 8),
            },
            chunk_root: Tree {
                owner: CHUNKS,
                at: says(88, 8),
                level: says(199, 1),
                generation: says(164, 8),
            },
            system_chunks: system.to_vec(),
        })
    }

    /// Whether `other` is a later superblock of the same file system.
    pub fn is_older_than(&self, other: &[u8]) -> bool {
        other.get(64..72) == Some(MAGIC)
            && other.get(32..48) == Some(&self.fs_id[..])
            && is_whole(other)
            && field(other, 72, 8) > self.root.generation
    }
}
