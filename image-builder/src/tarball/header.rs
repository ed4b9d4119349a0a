//! What stands before a member: its block, and the members that only say more about the next one.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;

use anyhow::{Context, Result, bail};
use tar::Header;

use crate::tree::Attribute;

/// Records of PAX headers and the long names of GNU tar, for one member.
#[derive(Debug, Default, Clone)]
pub struct More {
    pub path: Option<Vec<u8>>,
    /// The name of a sparse file, whose `path` is made up.
    pub sparse_path: Option<Vec<u8>>,
    pub link: Option<Vec<u8>>,
    pub attributes: BTreeMap<OsString, Vec<u8>>,
    numbers: BTreeMap<&'static str, u64>,
    /// What there is about a sparse file, in its order, keys without `GNU.sparse.`: its data is not what the file holds.
    pub sparse: Vec<(String, String)>,
}

const ATTRIBUTE: &[u8] = b"SCHILY.xattr.";
const NUMBERS: [&str; 4] = ["size", "uid", "gid", "mtime"];

impl More {
    /// Takes over the records of a PAX header: `LENGTH KEY=VALUE\n` each, the length that of the whole record. A value may
    /// hold any byte, so only the length says where it ends.
    pub fn records(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let malformed = "malformed PAX header";
            let blank = bytes.iter().position(|byte| *byte == b' ').context(malformed)?;
            let digits = std::str::from_utf8(bytes.get(..blank).unwrap_or_default()).context(malformed)?;
            let length: usize = digits.parse().context(malformed)?;
            let record = bytes.get(blank + 1..length).context(malformed)?;
            let record = record.strip_suffix(b"\n").context(malformed)?;
            let equals = record.iter().position(|byte| *byte == b'=').context(malformed)?;
            let (key, value) = record.split_at(equals);
            self.record(key, value.get(1..).unwrap_or_default())?;
            bytes = bytes.get(length..).unwrap_or_default();
        }
        Ok(())
    }

    fn record(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        if let Some(name) = key.strip_prefix(ATTRIBUTE) {
            self.attributes
                .insert(OsString::from_vec(name.to_vec()), value.to_vec());
        } else if let Some(name) = key.strip_prefix(b"GNU.sparse.") {
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).context("GNU.sparse");
            if name == b"name" {
                self.sparse_path = Some(value.to_vec());
            } else {
                self.sparse.push((text(name)?, text(value)?));
            }
        } else if key == b"path" {
            self.path = Some(value.to_vec());
        } else if key == b"linkpath" {
            self.link = Some(value.to_vec());
        } else if let Some(name) = NUMBERS.into_iter().find(|name| name.as_bytes() == key) {
            let text = std::str::from_utf8(value).context(name)?;
            // Times have fractions, and may lie before 1970.
            let whole = text.split('.').next().unwrap_or_default();
            let number = if name == "mtime" && whole.starts_with('-') {
                0
            } else {
                whole.parse().with_context(|| format!("PAX {name}={text}"))?
            };
            self.numbers.insert(name, number);
        }
        Ok(())
    }

    /// Size, owner, group and time: what was said before wins over the block, whose fields are small.
    pub fn size(&self, header: &Header) -> Result<u64> {
        match self.numbers.get("size") {
            Some(size) => Ok(*size),
            None => header.entry_size().context("size"),
        }
    }

    pub fn user(&self, header: &Header) -> Result<u64> {
        match self.numbers.get("uid") {
            Some(id) => Ok(*id),
            None => or_nothing(&header.as_old().uid, header.uid()).context("uid"),
        }
    }

    pub fn group(&self, header: &Header) -> Result<u64> {
        match self.numbers.get("gid") {
            Some(id) => Ok(*id),
            None => or_nothing(&header.as_old().gid, header.gid()).context("gid"),
        }
    }

    pub fn modified(&self, header: &Header) -> u64 {
        let before_1970 = || header.mtime().unwrap_or(0);
        self.numbers.get("mtime").copied().unwrap_or_else(before_1970)
    }

    pub fn attributes(&mut self) -> Vec<Attribute> {
        std::mem::take(&mut self.attributes).into_iter().collect()
    }
}

/// Permission bits.
pub fn mode(header: &Header) -> Result<u32> {
    or_nothing(&header.as_old().mode, header.mode()).context("mode")
}

/// A field that was left empty, as some programs do for links, says zero.
fn or_nothing<T: Default>(field: &[u8], number: io::Result<T>) -> io::Result<T> {
    if field.iter().all(|byte| matches!(byte, 0 | b' ')) {
        return Ok(T::default());
    }
    number
}

/// A block that is a header, by its sum.
pub fn checked(block: &[u8; 512]) -> Result<&Header> {
    let header = Header::from_byte_slice(block);
    let (before, rest) = block.split_at(148);
    let sum: u32 = before
        .iter()
        .chain(rest.get(8..).unwrap_or_default())
        .map(|byte| u32::from(*byte))
        .sum();
    // The sum's own eight bytes count as blanks.
    if header.cksum().ok() != Some(sum + 8 * 32) {
        bail!("no header where one should be");
    }
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_ends_where_its_length_says() {
        let mut more = More::default();
        more.records(b"29 SCHILY.xattr.user.a=1\n2=\n\n20 mtime=-12345.678\n16 path=a\nb/cde\n")
            .unwrap();
        assert_eq!(
            more.attributes(),
            [(OsString::from("user.a"), b"1\n2=\n".to_vec())]
        );
        assert_eq!(more.path.as_deref(), Some(&b"a\nb/cde"[..]));
        assert_eq!(more.numbers.get("mtime"), Some(&0));
    }

    #[test]
    fn records_that_are_none_are_refused() {
        for bad in [
            &b"x path=a\n"[..],
            b"99 path=a\n",
            b"9 path=ab",
            b"8 path a\n",
            b"0 path=a\n",
            b"11 size=-12\n",
            b"path",
        ] {
            assert!(
                More::default().records(bad).is_err(),
                "{}",
                String::from_utf8_lossy(bad)
            );
        }
    }
}
