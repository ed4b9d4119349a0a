//! The "newc" archive the kernel unpacks into its first root: kernel `Documentation/driver-api/early-userspace/buffer-format.rst`.
//!
//! Written here and not by a tool, because order, times and inode numbers decide whether the same input gives the same
//! bytes. Read back by `inspect`, which is given files from anywhere.

use std::io::{self, Write};

use thiserror::Error;

const MAGIC: &[u8; 6] = b"070701";
const HEADER: usize = 110;
const TRAILER: &str = "TRAILER!!!";

/// File type bits of `st_mode`.
const TYPES: [(char, u32); 6] = [
    ('f', 0o100_000),
    ('d', 0o040_000),
    ('l', 0o120_000),
    ('c', 0o020_000),
    ('b', 0o060_000),
    ('p', 0o010_000),
];

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node {
    /// `f`, `d`, `l`, `c`, `b` or `p`, as in the listing.
    pub kind: char,
    /// Permission bits.
    pub mode: u32,
    /// Of a device node.
    pub device: (u32, u32),
}

/// One entry of an archive that is read.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    pub path: String,
    pub node: Node,
    /// The contents of a file, the target of a link.
    pub data: &'a [u8],
}

/// Why an archive cannot be read.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum BadArchive {
    /// The bytes end inside an entry or before the end mark.
    #[error("cut short at byte {at}, after {entries} entries")]
    CutShort { at: usize, entries: usize },
    /// A header that is none.
    #[error("no newc entry at byte {at}, after {entries} entries")]
    NotAnEntry { at: usize, entries: usize },
}

/// Writes entries one after the other.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    inode: u32,
    time: u32,
}

impl<W: Write> Writer<W> {
    /// All entries carry the one time.
    pub fn new(out: W, time: u64) -> Self {
        Self {
            out,
            inode: 0,
            time: u32::try_from(time).unwrap_or(u32::MAX),
        }
    }

    /// Writes one entry; `path` without a leading slash.
    pub fn entry(&mut self, path: &str, node: Node, data: &[u8]) -> io::Result<()> {
        self.inode += 1;
        let kind = TYPES
            .iter()
            .find(|(letter, _)| *letter == node.kind)
            .map_or(0, |(_, bits)| *bits);
        let links = if node.kind == 'd' { 2 } else { 1 };
        self.header(
            path,
            [self.inode, kind | node.mode, links, self.time],
            node.device,
            data.len(),
        )?;
        self.out.write_all(data)?;
        self.pad(data.len())
    }

    /// Writes the end mark and gives the output back.
    pub fn finish(mut self) -> io::Result<W> {
        self.header(TRAILER, [0, 0, 1, 0], (0, 0), 0)?;
        Ok(self.out)
    }

    fn header(&mut self, path: &str, fields: [u32; 4], device: (u32, u32), size: usize) -> io::Result<()> {
        let size = u32::try_from(size)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, format!("{path}: larger than 4 GiB")))?;
        let name_size = u32::try_from(path.len() + 1).unwrap_or(u32::MAX);
        let [inode, mode, links, time] = fields;
        let fields = [
            inode, mode, 0, 0, links, time, size, 0, 0, device.0, device.1, name_size, 0,
        ];
        self.out.write_all(MAGIC)?;
        for field in fields {
            write!(self.out, "{field:08x}")?;
        }
        self.out.write_all(path.as_bytes())?;
        self.out.write_all(&[0])?;
        self.pad(HEADER + path.len() + 1)
    }

    fn pad(&mut self, written: usize) -> io::Result<()> {
        let zeros = [0_u8; 3];
        self.out
            .write_all(zeros.get(..padding(written)).unwrap_or_default())
    }
}

/// Reads archives up to the end, as the kernel does: one after the other, zeros between them passed over.
pub fn read(bytes: &[u8]) -> Result<Vec<Entry<'_>>, BadArchive> {
    let mut entries = Vec::new();
    let mut at = 0;
    loop {
        let (entry, end) = entry(bytes, at, entries.len())?;
        at = end;
        if entry.path != TRAILER {
            entries.push(entry);
            continue;
        }
        let rest = bytes.get(at..).unwrap_or_default();
        at += rest.iter().take_while(|byte| **byte == 0).count();
        if at >= bytes.len() {
            return Ok(entries);
        }
    }
}

/// The entry at a place, and where the next one begins.
fn entry(bytes: &[u8], at: usize, entries: usize) -> Result<(Entry<'_>, usize), BadArchive> {
    let part = |from: usize, length: usize| {
        bytes
            .get(from..from + length)
            .ok_or(BadArchive::CutShort { at, entries })
    };
    let fields = fields(part(at, HEADER)?).ok_or(BadArchive::NotAnEntry { at, entries })?;
    let field = |index: usize| fields.get(index).copied().unwrap_or_default();
    let (name_size, data_size) = (field(11) as usize, field(6) as usize);
    let name = part(at + HEADER, name_size)?;
    let data_from = at + HEADER + name_size + padding(HEADER + name_size);
    let data = part(data_from, data_size)?;
    let path = String::from_utf8_lossy(name.strip_suffix(&[0]).unwrap_or(name)).into_owned();
    let mode = field(1);
    let kind = TYPES
        .iter()
        .find(|(_, bits)| *bits == mode & 0o170_000)
        .map_or('?', |(letter, _)| *letter);
    let node = Node {
        kind,
        mode: mode & 0o7777,
        device: (field(9), field(10)),
    };
    Ok((
        Entry { path, node, data },
        data_from + data_size + padding(data_size),
    ))
}

fn fields(header: &[u8]) -> Option<Vec<u32>> {
    let rest = header.strip_prefix(MAGIC)?;
    rest.chunks(8)
        .map(|digits| u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok())
        .collect()
}

fn padding(length: usize) -> usize {
    length.wrapping_neg() & 3
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: Node = Node {
        kind: 'f',
        mode: 0o644,
        device: (0, 0),
    };

    fn sample() -> Vec<u8> {
        let mut writer = Writer::new(Vec::new(), 1_700_000_000);
        writer
            .entry("init", Node { mode: 0o755, ..FILE }, b"12345")
            .unwrap();
        writer
            .entry(
                "dev",
                Node {
                    kind: 'd',
                    mode: 0o755,
                    device: (0, 0),
                },
                b"",
            )
            .unwrap();
        writer
            .entry(
                "dev/null",
                Node {
                    kind: 'c',
                    mode: 0o666,
                    device: (1, 3),
                },
                b"",
            )
            .unwrap();
        writer
            .entry(
                "bin",
                Node {
                    kind: 'l',
                    mode: 0o777,
                    device: (0, 0),
                },
                b"usr/bin",
            )
            .unwrap();
        writer.finish().unwrap()
    }

    #[test]
    fn what_is_written_reads_back() {
        let bytes = sample();
        assert_eq!(bytes.len() % 4, 0);
        let entries = read(&bytes).unwrap();
        let paths: Vec<&str> = entries.iter().map(|entry| entry.path.as_str()).collect();
        assert_eq!(paths, ["init", "dev", "dev/null", "bin"]);
        assert_eq!(entries[0].data, b"12345");
        assert_eq!(
            entries[2].node,
            Node {
                kind: 'c',
                mode: 0o666,
                device: (1, 3)
            }
        );
        assert_eq!(entries[3].data, b"usr/bin");
    }

    #[test]
    fn every_cut_is_noticed() {
        let bytes = sample();
        let end = bytes.len() - 124;
        for length in 0..end {
            assert!(
                matches!(read(&bytes[..length]), Err(BadArchive::CutShort { .. })),
                "{length}"
            );
        }
    }

    #[test]
    fn no_damage_makes_the_reader_panic() {
        let bytes = sample();
        // A fixed sequence (the constants of Knuth's MMIX), so that a failure can be repeated.
        let mut state = 1_u64;
        let mut next = |below: usize| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below
        };
        let digits = b"0123456789abcdefF\0\xff";
        for _ in 0..20_000 {
            let mut damaged = bytes.clone();
            for _ in 0..1 + next(4) {
                let at = next(damaged.len());
                damaged[at] = digits[next(digits.len())];
            }
            if let Ok(entries) = read(&damaged) {
                assert!(entries.iter().all(|entry| entry.data.len() <= bytes.len()));
            }
        }
    }

    #[test]
    fn garbage_is_named_by_its_place() {
        let mut bytes = sample();
        bytes[124] = b'x';
        assert_eq!(
            read(&bytes).unwrap_err().to_string(),
            "no newc entry at byte 124, after 1 entries"
        );
    }
}
