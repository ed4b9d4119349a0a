//! What a tree's files lie in, and what is known about one of them.

use std::ffi::OsString;
use std::fmt::Debug;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Result;

/// A file system, or a directory of this host. Paths are relative to its root, the root itself is the empty path, and no
/// link stands in them before the last name: the tree follows links, so that none leads out of it.
pub trait Backing: Debug {
    /// What lies there, a link not followed; `None` when nothing does.
    fn lstat(&self, path: &Path) -> Result<Option<Metadata>>;
    /// The names in a directory, in any order, without `.` and `..`.
    fn entries(&self, path: &Path) -> Result<Vec<OsString>>;
    /// Where a symbolic link points.
    fn read_link(&self, path: &Path) -> Result<PathBuf>;
    /// A regular file's bytes, from its start.
    fn reader(&self, path: &Path) -> Result<Box<dyn Read + '_>>;
    /// Extended attributes by their whole names (`security.capability`), in any order.
    fn attributes(&self, path: &Path) -> Result<Vec<Attribute>>;
}

/// An extended attribute: its whole name and its value as `getxattr(2)` gives it.
pub type Attribute = (OsString, Vec<u8>);

/// What an inode is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    File,
    Directory,
    Link,
    BlockDevice,
    CharacterDevice,
    Pipe,
    Socket,
}

/// What is known about a file besides its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    pub kind: Kind,
    /// The permission bits with set-uid, set-gid and sticky: `& 0o7777` of `st_mode`.
    pub mode: u32,
    pub user: u32,
    pub group: u32,
    /// Seconds since 1970.
    pub modified: i64,
    /// Bytes of a file; of other kinds whatever the file system says.
    pub size: u64,
    /// How many names it has.
    pub links: u64,
    /// Major and minor number of a device node, else zeros.
    pub device: (u32, u32),
    /// File system and inode: equal for two names of one file.
    pub identity: (u64, u64),
}

impl Kind {
    /// From the upper bits of `st_mode`.
    pub fn of_mode(mode: u32) -> Option<Self> {
        Some(match mode & 0o170_000 {
            0o010_000 => Self::Pipe,
            0o020_000 => Self::CharacterDevice,
            0o040_000 => Self::Directory,
            0o060_000 => Self::BlockDevice,
            0o100_000 => Self::File,
            0o120_000 => Self::Link,
            0o140_000 => Self::Socket,
            _ => return None,
        })
    }
}
