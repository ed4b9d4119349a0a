//! Extended attributes of an ext4 inode, behind its fields and in a block of their own: <https://docs.kernel.org/filesystems/ext4/>,
//! "Extended Attributes". Access lists are put into the form that system calls have them in, which is not the disk's.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use anyhow::{Context, Result, bail};

use super::inode::{Inode, Inodes, u16_at, u32_at};
use crate::tree::Attribute;

const MAGIC: u32 = 0xea02_0000;
/// Where an inode's fields end that every inode has.
const PLAIN_INODE: usize = 128;
/// Before the entries of a block of attributes.
const BLOCK_HEADER: usize = 32;
const ENTRY: usize = 16;

/// All attributes of an inode.
pub fn read(inodes: &Inodes, inode: &Inode) -> Result<Vec<Attribute>> {
    let mut found = Vec::new();
    if inode.raw.len() > PLAIN_INODE {
        let start = PLAIN_INODE + usize::from(u16_at(&inode.raw, PLAIN_INODE)?);
        let behind = inode.raw.get(start..).unwrap_or_default();
        if behind.len() > 4 && u32_at(behind, 0)? == MAGIC {
            let entries = behind.get(4..).unwrap_or_default();
            list(entries, entries, &mut found)?;
        }
    }
    let block = u64::from(u32_at(&inode.raw, 0x68)?) | u64::from(u16_at(&inode.raw, 0x76)?) << 32;
    if block != 0 {
        let block = inodes.block(block)?;
        if u32_at(&block, 0)? != MAGIC {
            bail!("damaged: not a block of attributes");
        }
        list(block.get(BLOCK_HEADER..).unwrap_or_default(), &block, &mut found)?;
    }
    Ok(found)
}

/// Entries up to one of zeros; the values lie at offsets from `base`.
fn list(entries: &[u8], base: &[u8], found: &mut Vec<Attribute>) -> Result<()> {
    let mut at = 0;
    while entries.len() >= at + 4 && u32_at(entries, at)? != 0 {
        let entry = entries.get(at..at + ENTRY).context("damaged: cut short")?;
        let (length, index) = (
            usize::from(entry.first().copied().unwrap_or(0)),
            entry.get(1).copied(),
        );
        let name = entries
            .get(at + ENTRY..at + ENTRY + length)
            .context("damaged: name")?;
        if u32_at(entry, 4)? != 0 {
            bail!("a value in an inode of its own (feature ea_inode) is not known here");
        }
        let (start, size) = (
            usize::from(u16_at(entry, 2)?),
            usize::try_from(u32_at(entry, 8)?)?,
        );
        let value = start.checked_add(size).and_then(|end| base.get(start..end));
        let value = value.context("damaged: value outside its block")?;
        if let Some(name) = whole_name(index.unwrap_or(0), name) {
            let is_list = name.as_bytes().starts_with(b"system.posix_acl_");
            found.push((
                name,
                if is_list {
                    access_list(value)?
                } else {
                    value.to_vec()
                },
            ));
        }
        at += (ENTRY + length).next_multiple_of(4);
    }
    Ok(())
}

/// `None` for what is the file system's own business.
fn whole_name(index: u8, rest: &[u8]) -> Option<OsString> {
    let prefix = match index {
        0 => "",
        1 => "user.",
        2 => "system.posix_acl_access",
        3 => "system.posix_acl_default",
        4 => "trusted.",
        6 => "security.",
        7 if rest == b"data" => return None,
        7 => "system.",
        8 => "system.richacl",
        _ => return None,
    };
    let mut name = OsString::from(prefix);
    name.push(OsStr::from_bytes(rest));
    Some(name)
}

/// On the disk an entry has an id only where it means a user or a group (tags 2 and 8); in memory always.
fn access_list(disk: &[u8]) -> Result<Vec<u8>> {
    const NO_ID: [u8; 4] = [0xff; 4];
    if u32_at(disk, 0)? != 1 {
        bail!("an access list of an unknown version");
    }
    let mut memory = 2_u32.to_le_bytes().to_vec();
    let mut at = 4;
    while at < disk.len() {
        let tag = u16_at(disk, at)?;
        let entry = disk.get(at..at + 4).context("damaged: access list")?;
        memory.extend_from_slice(entry);
        at += 4;
        if tag == 2 || tag == 8 {
            memory.extend_from_slice(disk.get(at..at + 4).context("damaged: access list")?);
            at += 4;
        } else {
            memory.extend_from_slice(&NO_ID);
        }
    }
    Ok(memory)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Entries of one attribute, `security.x` with four bytes at the end.
    fn entries() -> Vec<u8> {
        let mut entries = vec![0; 40];
        entries[..4].copy_from_slice(&[1, 6, 36, 0]);
        entries[8] = 4;
        entries[16] = b'x';
        entries[36..].copy_from_slice(b"abcd");
        entries
    }

    fn listed(entries: &[u8]) -> Result<Vec<Attribute>> {
        let mut found = Vec::new();
        list(entries, entries, &mut found)?;
        Ok(found)
    }

    #[test]
    fn a_value_is_found_and_one_outside_is_refused() {
        let found = listed(&entries()).unwrap();
        assert_eq!(found, [(OsString::from("security.x"), b"abcd".to_vec())]);
        for (at, byte, what) in [
            (2, 37, "value outside"),
            (8, 255, "value outside"),
            (0, 200, "name"),
            (4, 1, "ea_inode"),
        ] {
            let mut damaged = entries();
            damaged[at] = byte;
            let error = listed(&damaged).unwrap_err().to_string();
            assert!(error.contains(what), "{at}: {error}");
        }
    }

    #[test]
    fn an_access_list_gets_the_ids_it_has_not() {
        let disk = [
            &[1, 0, 0, 0][..],
            &[1, 0, 7, 0],
            &[8, 0, 5, 0, 4, 0, 0, 0],
            &[0x20, 0, 4, 0],
        ]
        .concat();
        let memory = access_list(&disk).unwrap();
        let expected = [
            &[2, 0, 0, 0][..],
            &[1, 0, 7, 0, 0xff, 0xff, 0xff, 0xff],
            &[8, 0, 5, 0, 4, 0, 0, 0],
            &[0x20, 0, 4, 0, 0xff, 0xff, 0xff, 0xff],
        ];
        assert_eq!(memory, expected.concat());
        assert!(access_list(&disk[..10]).is_err());
    }
}
