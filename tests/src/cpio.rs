//! The archive format of an initramfs ("newc"), as far as the benchmark beside ours needs it: writing a few files, and
//! taking a few out of a built image.

use anyhow::{Context, Result};
use std::fmt::Write as _;

const HEADER: usize = 110;
const TRAILER: &str = "TRAILER!!!";

/// An archive being written.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
    inode: u32,
}

impl Writer {
    /// A regular file.
    pub fn file(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.entry(path, 0o100_000 | mode, 0, content);
    }

    /// A directory.
    pub fn directory(&mut self, path: &str) {
        self.entry(path, 0o040_755, 0, b"");
    }

    /// A symbolic link.
    pub fn link(&mut self, path: &str, target: &str) {
        self.entry(path, 0o120_777, 0, target.as_bytes());
    }

    /// `/dev/console`, without which init has no output.
    pub fn console(&mut self) {
        self.entry("dev/console", 0o020_600, 5, b"");
    }

    /// The whole archive.
    pub fn finish(mut self) -> Vec<u8> {
        self.entry(TRAILER, 0, 0, b"");
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, major: u32, content: &[u8]) {
        self.inode += 1;
        let minor = u32::from(major > 0);
        let length = content.len();
        let mut header = String::from("070701");
        let fields = [
            self.inode,
            mode,
            0,
            0,
            1,
            0,
            u32::try_from(length).unwrap_or(u32::MAX),
            0,
            0,
            major,
            minor,
        ];
        for field in fields {
            // Writing to a String cannot fail.
            write!(header, "{field:08x}").unwrap_or_default();
        }
        write!(header, "{:08x}{:08x}", path.len() + 1, 0).unwrap_or_default();
        self.bytes.extend_from_slice(header.as_bytes());
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// The regular files of an archive that `wanted` accepts, by path; archives behind one another are read as one.
///
/// # Errors
/// The archive ends in the middle of an entry.
pub fn files(archive: &[u8], wanted: impl Fn(&str) -> bool) -> Result<Vec<(String, Vec<u8>)>> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(start) = archive
        .get(at..)
        .and_then(|rest| rest.iter().position(|byte| *byte != 0))
    {
        at += start;
        let header = archive.get(at..at + HEADER).context("half a cpio header")?;
        let field = |index: usize| -> Result<usize> {
            let digits = &header[6 + 8 * index..14 + 8 * index];
            usize::from_str_radix(std::str::from_utf8(digits)?, 16).context("a cpio header")
        };
        let (mode, length, name_length) = (field(1)?, field(6)?, field(11)?);
        let name = archive
            .get(at + HEADER..at + HEADER + name_length - 1)
            .context("half a cpio name")?;
        let content = (at + HEADER + name_length).next_multiple_of(4);
        let name = String::from_utf8_lossy(name).into_owned();
        if mode & 0o170_000 == 0o100_000 && wanted(&name) {
            let bytes = archive
                .get(content..content + length)
                .context("half a cpio file")?;
            found.push((name, bytes.to_vec()));
        }
        at = (content + length).next_multiple_of(4);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back_over_several_archives() {
        let mut first = Writer::default();
        first.directory("dev");
        first.console();
        first.file("init", 0o755, b"#!/bin/sh\n");
        let mut second = Writer::default();
        second.link("sh", "busybox");
        second.file("a/b", 0o644, b"12345");
        let mut archive = first.finish();
        archive.resize(archive.len().next_multiple_of(512), 0);
        archive.extend(second.finish());
        let found = files(&archive, |_| true).unwrap();
        assert_eq!(
            found,
            [
                ("init".to_owned(), b"#!/bin/sh\n".to_vec()),
                ("a/b".to_owned(), b"12345".to_vec())
            ]
        );
        assert!(files(&archive[..archive.len() - 200], |_| true).is_err());
    }
}
