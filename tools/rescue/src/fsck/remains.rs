//! What is left of a file system whose first superblock was overwritten: its other superblocks.
//!
//! The one thing a reader would get wrong: they prove that a file system was there, not that it is what belongs there now. So they are asked
//! only where blkid sees nothing at all; what they lead to is repaired only when the device was named; and remains of several kinds lead to
//! nothing. Sources: the kernel's fs/xfs/libxfs/xfs_format.h and include/uapi/linux/btrfs_tree.h.

use super::ext;
use super::kind::Kind;
use crate::backup::sums::crc32c;
use crate::tool;
use std::fs::File;
use std::os::unix::fs::FileExt as _;

/// Where a btrfs has its first superblock, and its second.
pub const BTRFS: [u64; 2] = [64 << 10, 64 << 20];
const BTRFS_LENGTH: usize = 4096;
const BTRFS_MAGIC: &[u8] = b"_BHRfS_M";
const XFS_MAGIC: &[u8] = b"XFSB";
const XFS_INODE: &[u8] = b"IN";
/// Blocks of an XFS are looked for in these sizes, the usual one first.
const XFS_BLOCKS: [u64; 5] = [4096, 1024, 2048, 512, 65536];
/// An XFS that nobody has grown consists of so many groups, all alike but for the last; one of many terabytes of more, each as large as can be.
const XFS_GROUPS: std::ops::RangeInclusive<u64> = 2..=64;
const XFS_LARGEST: u64 = (1 << 40) - 1;

/// What is left on a device on which nothing was recognized, if it is of one kind.
pub fn on(device: &str) -> Option<Kind> {
    match kinds(device).as_slice() {
        [kind] => Some(*kind),
        _ => None,
    }
}

/// What is said of a device that has remains of several kinds.
pub fn several(device: &str) -> Option<String> {
    let kinds = kinds(device);
    let names: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
    (names.len() > 1).then(|| {
        format!(
            "no file system was recognized on it, and it has remains of several, {}; nothing here decides which is the one",
            names.join(" and ")
        )
    })
}

fn kinds(device: &str) -> Vec<Kind> {
    let Ok(disk) = File::open(device) else {
        return Vec::new();
    };
    let found = [
        (Kind::Ext, ext::is_hidden_on(device)),
        (Kind::Xfs, xfs(device).is_some()),
        (Kind::Btrfs, is_btrfs_at(&disk, BTRFS[1])),
    ];
    let kinds: Vec<Kind> = found
        .iter()
        .filter(|(_, is)| *is)
        .map(|(kind, _)| *kind)
        .collect();
    // Asked last, since most devices have nothing of all this.
    match kinds.is_empty() || !is_nothing(device) {
        true => Vec::new(),
        false => kinds,
    }
}

/// Whether blkid is sure that nothing at all is there. It is neither when it sees one thing nor when it sees several.
fn is_nothing(device: &str) -> bool {
    const NOTHING: i32 = 2;
    let ended = tool::run(tool::command("blkid", ["--probe", device]));
    ended.is_ok_and(|ended| ended.status.code() == Some(NOTHING))
}

fn read(disk: &File, at: u64, length: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; length];
    disk.read_exact_at(&mut bytes, at).ok().map(|()| bytes)
}

/// Whether the first superblock of a btrfs is where it belongs; whether it is whole is for btrfs to say.
pub fn has_btrfs(device: &str) -> bool {
    has(device, BTRFS[0] + 64, BTRFS_MAGIC)
}

/// The same of an XFS.
pub fn has_xfs(device: &str) -> bool {
    has(device, 0, XFS_MAGIC)
}

fn has(device: &str, at: u64, magic: &[u8]) -> bool {
    let disk = File::open(device).ok();
    disk.and_then(|disk| read(&disk, at, magic.len()))
        .is_some_and(|bytes| bytes == magic)
}

/// A superblock that says of itself that it belongs there, with its checksum right where it is of the usual kind.
fn is_btrfs_at(disk: &File, at: u64) -> bool {
    read(disk, at, BTRFS_LENGTH).is_some_and(|bytes| is_btrfs(&bytes, at))
}

fn is_btrfs(bytes: &[u8], at: u64) -> bool {
    let field = |from: usize, length: usize| bytes.get(from..from + length).unwrap_or_default();
    let whole = field(196, 2) != [0, 0]
        || bytes
            .get(32..)
            .is_some_and(|rest| field(0, 4) == (!crc32c(!0, rest)).to_le_bytes());
    field(64, 8) == BTRFS_MAGIC && field(48, 8) == at.to_le_bytes() && whole
}

/// What another superblock than the first tells of an XFS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Xfs {
    /// Where it is.
    pub at: u64,
    /// Where the inode of the root directory belongs, and whether it is there.
    root: u64,
    pub has_root: bool,
}

/// The first superblock of an XFS that is not the first of the disk. A few hundred places are looked at, those where groups begin
/// in an XFS that fills the disk.
pub fn xfs(device: &str) -> Option<Xfs> {
    let disk = File::open(device).ok()?;
    let size = std::io::Seek::seek(&mut &disk, std::io::SeekFrom::End(0)).ok()?;
    let places = XFS_BLOCKS.iter().flat_map(|block| {
        let blocks = size / block;
        let even = XFS_GROUPS.map(move |count| blocks.div_ceil(count) * block);
        even.chain([XFS_LARGEST / block * block])
    });
    let found = places
        .into_iter()
        .find_map(|at| read_xfs(&read(&disk, at, 512)?, at, size))?;
    let root = read(&disk, found.root, XFS_INODE.len());
    Some(Xfs {
        has_root: root.is_some_and(|bytes| bytes == XFS_INODE),
        ..found
    })
}

/// A superblock that says of itself that it begins the second group, and that the file system fits.
fn read_xfs(bytes: &[u8], at: u64, size: u64) -> Option<Xfs> {
    let number = |from: usize, length: usize| {
        let bytes = bytes.get(from..from + length).unwrap_or_default();
        bytes.iter().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte))
    };
    let (block, blocks, group, groups) = (number(4, 4), number(8, 8), number(84, 4), number(88, 4));
    let sound = bytes.starts_with(XFS_MAGIC)
        && XFS_BLOCKS.contains(&block)
        && group * block == at
        && groups > 1
        && blocks > (groups - 1) * group
        && blocks <= groups * group
        && blocks <= size / block;
    // The number of an inode has three parts: group, block of it, inode of the block.
    let (number_of_root, in_block, in_group) = (number(56, 8), number(123, 1), number(124, 1));
    if !sound || in_block > 16 || in_group > 32 {
        return None;
    }
    let part = |from: u64, bits: u64| number_of_root >> from & ((1 << bits) - 1);
    let block_of_root = (number_of_root >> (in_block + in_group))
        .checked_mul(group)?
        .checked_add(part(in_block, in_group))?;
    let inode = part(0, in_block) * number(104, 2);
    Some(Xfs {
        at,
        root: block_of_root.checked_mul(block)?.checked_add(inode)?,
        has_root: false,
    })
}

/// For tests of what is made of it.
#[cfg(test)]
pub fn xfs_at(at: u64, has_root: bool) -> Xfs {
    Xfs {
        at,
        root: 0,
        has_root,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_superblock_of_xfs_counts_only_where_its_own_numbers_put_it() {
        let mut bytes = [0_u8; 512];
        bytes[..4].copy_from_slice(XFS_MAGIC);
        bytes[4..8].copy_from_slice(&4096_u32.to_be_bytes());
        bytes[8..16].copy_from_slice(&80_000_u64.to_be_bytes());
        bytes[84..88].copy_from_slice(&20_000_u32.to_be_bytes());
        bytes[88..92].copy_from_slice(&4_u32.to_be_bytes());
        let (at, size) = (20_000 * 4096, 80_000 * 4096);
        // Inode 131 of eight in a block, in groups of 2^15 blocks.
        bytes[63] = 131;
        bytes[104..106].copy_from_slice(&512_u16.to_be_bytes());
        (bytes[123], bytes[124]) = (3, 15);
        let found = read_xfs(&bytes, at, size).unwrap();
        assert_eq!((found.at, found.root), (at, 16 * 4096 + 3 * 512));
        assert_eq!(read_xfs(&bytes, at + 4096, size), None, "elsewhere");
        assert_eq!(read_xfs(&bytes, at, size - 4096), None, "on a smaller disk");
        for (place, byte) in [
            (0, 0),
            (7, 1),
            (91, 3),
            (91, 5),
            (91, 0),
            (123, 99),
            (124, 99),
            (56, 255),
        ] {
            let mut other = bytes;
            other[place] = byte;
            assert_eq!(read_xfs(&other, at, size), None, "{place}");
        }
    }

    #[test]
    fn a_superblock_of_btrfs_counts_only_where_it_says_and_when_it_is_whole() {
        let mut bytes = [0_u8; BTRFS_LENGTH];
        bytes[48..56].copy_from_slice(&BTRFS[1].to_le_bytes());
        bytes[64..72].copy_from_slice(BTRFS_MAGIC);
        let sum = !crc32c(!0, &bytes[32..]);
        bytes[..4].copy_from_slice(&sum.to_le_bytes());
        assert!(is_btrfs(&bytes, BTRFS[1]));
        assert!(!is_btrfs(&bytes, BTRFS[0]));
        bytes[3000] = 1;
        assert!(!is_btrfs(&bytes, BTRFS[1]), "with a wrong checksum");
        bytes[196] = 1;
        assert!(is_btrfs(&bytes, BTRFS[1]), "with a checksum of another kind");
        assert!(!is_btrfs(&bytes[..60], BTRFS[1]));
    }
}
