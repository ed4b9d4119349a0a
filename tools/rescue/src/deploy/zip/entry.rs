//! What a zip archive says of one of its files, before its content and again in its directory.

use super::counted::Counted;
use super::{broken, refused};
use std::io::{self, Read};

/// Before a file's content.
pub const LOCAL: u32 = 0x0403_4B50;
/// Behind it, where the lengths were not known before. The signature itself is optional.
pub const DESCRIPTOR: u32 = 0x0807_4B50;
/// A line of the directory.
pub const CENTRAL: u32 = 0x0201_4B50;
/// Behind the directory, where four bytes are too few for a length.
pub const END_64: u32 = 0x0606_4B50;
/// Where that is.
pub const LOCATOR_64: u32 = 0x0706_4B50;
/// The end.
pub const END: u32 = 0x0605_4B50;

/// How a file is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    Stored,
    Deflate,
    Other(u16),
}

/// One file.
#[derive(Debug, Clone)]
pub struct Entry {
    pub name: String,
    pub method: Method,
    pub encrypted: bool,
    /// Whether checksum and lengths follow the content.
    pub descriptor: bool,
    /// Whether they have eight bytes there.
    pub wide: bool,
    pub crc: Option<u32>,
    pub packed: Option<u64>,
    pub unpacked: Option<u64>,
    /// Where its local header begins.
    pub start: u64,
}

impl Entry {
    /// Reads a local header behind its signature.
    pub fn local<R: Read>(source: &mut Counted<R>) -> io::Result<Entry> {
        let head = source.take_bytes(26)?;
        let field = |at: usize, length: usize| number(head.get(at..at + length).unwrap_or_default());
        let (name, extra) = names(source, field(22, 2), field(24, 2))?;
        let flags = field(2, 2);
        let descriptor = flags & 8 != 0;
        let narrow = [field(18, 4), field(14, 4)];
        let (lengths, wide) = widened(&extra, &narrow)?;
        // What is only known later is zero here, or whatever somebody guessed.
        let told = |what: u64| (!descriptor).then_some(what);
        Ok(Entry {
            name,
            method: method(field(4, 2)),
            encrypted: flags & 1 != 0,
            descriptor,
            wide,
            crc: told(field(10, 4)).and_then(|crc| u32::try_from(crc).ok()),
            packed: told(lengths[1]),
            unpacked: told(lengths[0]),
            start: 0,
        })
    }

    /// Reads a line of the directory behind its signature.
    pub fn central<R: Read>(source: &mut Counted<R>) -> io::Result<Entry> {
        let head = source.take_bytes(42)?;
        let field = |at: usize, length: usize| number(head.get(at..at + length).unwrap_or_default());
        let (name, extra) = names(source, field(24, 2), field(26, 2))?;
        source.skip(field(28, 2))?;
        let narrow = [field(20, 4), field(16, 4), field(38, 4)];
        let (numbers, wide) = widened(&extra, &narrow)?;
        Ok(Entry {
            name,
            method: method(field(6, 2)),
            encrypted: field(4, 2) & 1 != 0,
            descriptor: false,
            wide,
            crc: u32::try_from(field(12, 4)).ok(),
            packed: Some(numbers[1]),
            unpacked: Some(numbers[0]),
            start: numbers[2],
        })
    }

    /// Whether the directory speaks of what was read.
    pub fn is_same(&self, other: &Entry) -> bool {
        let key = |entry: &Entry| (entry.start, entry.crc, entry.packed, entry.unpacked, entry.method);
        key(self) == key(other) && self.name == other.name
    }

    /// Whether it can be meant at all: no directory, and not what macOS puts beside each file.
    pub fn is_file(&self) -> bool {
        !self.name.ends_with('/') && !self.name.starts_with("__MACOSX/")
    }

    /// Whether it is called like an image.
    pub fn is_image(&self) -> bool {
        self.is_file() && self.name.to_lowercase().ends_with(".img")
    }

    /// Whether it can be read as it comes.
    ///
    /// # Errors
    /// Why not.
    pub fn takable(&self) -> io::Result<()> {
        let name = &self.name;
        match self.method {
            _ if self.encrypted => Err(refused(&format!("has {name} in it, which is encrypted"))),
            Method::Other(number) => Err(refused(&format!(
                "has {name} in it, packed by method {number}; only deflate and stored are known"
            ))),
            Method::Stored if self.descriptor => Err(refused(&format!(
                "has {name} in it, stored without its length; unpack it first"
            ))),
            _ => Ok(()),
        }
    }
}

/// Bytes, the least significant first.
pub fn number(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .rev()
        .fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

fn method(number: u64) -> Method {
    match number {
        0 => Method::Stored,
        8 => Method::Deflate,
        other => Method::Other(u16::try_from(other).unwrap_or(u16::MAX)),
    }
}

/// The name, and what else there is to say of a file.
fn names<R: Read>(source: &mut Counted<R>, name: u64, extra: u64) -> io::Result<(String, Vec<u8>)> {
    let bytes = |count: u64| usize::try_from(count).unwrap_or(0);
    let name = source.take_bytes(bytes(name))?;
    let extra = source.take_bytes(bytes(extra))?;
    let name = String::from_utf8_lossy(&name);
    // It gets onto terminals.
    Ok((name.replace(char::is_control, "?"), extra))
}

/// Numbers that did not fit into four bytes follow in eight, in their order (APPNOTE 4.5.3).
fn widened(extra: &[u8], narrow: &[u64]) -> io::Result<(Vec<u64>, bool)> {
    const ZIP_64: u64 = 1;
    const ELSEWHERE: u64 = 0xFFFF_FFFF;
    let mut rest = extra;
    let mut field = None;
    while let (Some(kind), Some(length)) = (rest.get(..2), rest.get(2..4)) {
        let end = 4 + usize::try_from(number(length)).unwrap_or(0);
        if number(kind) == ZIP_64 {
            field = rest.get(4..end);
        }
        rest = rest.get(end..).unwrap_or_default();
    }
    let mut wide = field.unwrap_or_default().chunks_exact(8);
    let missing = || broken("a length of 64 bits is missing");
    let numbers = narrow
        .iter()
        .map(|narrow| match *narrow {
            ELSEWHERE if field.is_some() => wide.next().map(number).ok_or_else(missing),
            narrow => Ok(narrow),
        })
        .collect::<io::Result<Vec<u64>>>()?;
    Ok((numbers, field.is_some()))
}
