//! What an OS image is made of, one name after the other: the same from a tarball, a directory and a disk image.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::tree::Attribute;

/// A name in the image.
#[derive(Debug, Clone)]
pub struct Node {
    /// Relative to the image's root, without `.` and `..`; the root itself is the empty path.
    pub path: PathBuf,
    pub what: What,
    /// Permission bits, set-uid and such included.
    pub mode: u32,
    pub user: u64,
    pub group: u64,
    /// Seconds since 1970.
    pub modified: u64,
    /// Extended attributes, sorted by name.
    pub attributes: Vec<Attribute>,
}

/// What lies there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A file of so many bytes.
    File(u64),
    Directory,
    /// A symbolic link, its target as it stands there.
    Link(PathBuf),
    /// Another name of a file that came before.
    Same(PathBuf),
    CharacterDevice(u32, u32),
    BlockDevice(u32, u32),
    Pipe,
}

impl Node {
    /// Something of root's that nobody else may write.
    pub fn of_root(path: &Path, what: What, modified: u64) -> Self {
        let mode = match what {
            What::Directory => 0o755,
            What::Link(_) => 0o777,
            _ => 0o644,
        };
        Self {
            path: path.to_owned(),
            what,
            mode,
            user: 0,
            group: 0,
            modified,
            attributes: Vec::new(),
        }
    }
}

/// Takes nodes in the order in which they come.
pub trait Sink {
    /// `data` gives the bytes of a [`What::File`], and nothing for all else.
    fn take(&mut self, node: Node, data: &mut dyn Read) -> Result<()>;
}

/// Bytes of which just so many must come: a source that ends early must not pass for a shorter file.
#[derive(Debug)]
pub struct Exactly<R> {
    from: R,
    left: u64,
}

impl<R: Read> Exactly<R> {
    pub fn new(from: R, length: u64) -> Self {
        Self { from, left: length }
    }
}

impl<R: Read> Read for Exactly<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let count = self.from.read(buffer.get_mut(..most).unwrap_or_default())?;
        if count == 0 {
            return Err(std::io::Error::new(
                std::io::ErrorKind::UnexpectedEof,
                format!("ends {} bytes early", self.left),
            ));
        }
        self.left -= count as u64;
        Ok(count)
    }
}
