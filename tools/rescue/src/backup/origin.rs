//! The disk that is read: past the page cache, so that it is the disk's own bytes and not what was once read of it.
//!
//! The one thing a reader would get wrong: the page cache of a disk and those of its partitions know nothing of each other. What was read
//! of the disk before a partition was written would still be there, the old bitmaps of a file system included.

use super::witness::Witness;
use crate::deploy::block::{ALIGN, Block};
use anyhow::Context as _;
use lifeboot_init::block;
use rustix::fs::{Advice, OFlags, fadvise, ioctl_blksszget};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, ErrorKind, Seek as _, SeekFrom};
use std::num::NonZeroU64;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

/// A disk that nobody writes to while it is read.
pub struct Origin {
    file: File,
    pub name: String,
    pub size: u64,
    /// Bytes of a sector.
    pub sector: u64,
    direct: bool,
    /// Whether the kernel keeps others from mounting it. Not when it is mounted already, if only for reading.
    pub exclusive: bool,
    /// What it was before any of it was read.
    pub witness: Witness,
}

impl Origin {
    /// Opens `path`. Its partitions are those that are on it now.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open(path: &Path) -> anyhow::Result<Origin> {
        let name = path.display().to_string();
        // What partitions have been written to is on the disk then.
        rustix::fs::sync();
        let open = |flags: OFlags| {
            let mut options = File::options();
            options
                .read(true)
                .custom_flags((flags | OFlags::CLOEXEC).bits().cast_signed());
            options.open(path)
        };
        let is = |error: &io::Error, errno: Errno| error.raw_os_error() == Some(errno.raw_os_error());
        let mut exclusive = true;
        let mut opened = open(OFlags::EXCL | OFlags::DIRECT);
        if opened.as_ref().is_err_and(|error| is(error, Errno::BUSY)) {
            exclusive = false;
            opened = open(OFlags::DIRECT);
        }
        let direct = opened.is_ok();
        if opened.as_ref().is_err_and(|error| is(error, Errno::INVAL)) {
            opened = open(OFlags::empty());
        }
        let mut file = opened.with_context(|| name.clone())?;
        // For those who read it through the cache, blkid among them: nothing old is to be there.
        let cached = open(OFlags::empty()).with_context(|| name.clone())?;
        fadvise(&cached, 0, None, Advice::DontNeed).with_context(|| name.clone())?;
        let size = file.seek(SeekFrom::End(0)).with_context(|| name.clone())?;
        if exclusive {
            // What has no partitions does not mind.
            crate::output::ignore(block::reread_partitions(&file));
        }
        Ok(Origin {
            witness: Witness::new(&name),
            file,
            name,
            size,
            sector: ioctl_blksszget(&cached).map_or(512, u64::from),
            direct,
            exclusive,
        })
    }

    /// Reads what is in `block` from `from` to `to` from byte `at` on; all three whole sectors.
    ///
    /// # Errors
    /// The kernel's.
    pub fn read(&self, at: u64, block: &mut Block, (from, to): (usize, usize)) -> io::Result<()> {
        if !self.direct {
            fadvise(
                &self.file,
                at,
                NonZeroU64::new((to - from) as u64),
                Advice::DontNeed,
            )?;
        }
        self.file.read_exact_at(block.part_mut(from, to), at)
    }
}

/// Bytes at places, for those who look into partition tables and file systems.
pub trait Bytes {
    /// `length` bytes from byte `at` on.
    ///
    /// # Errors
    /// There are not so many, or they cannot be read.
    fn bytes(&self, at: u64, length: usize) -> io::Result<Vec<u8>>;
}

impl Bytes for Origin {
    fn bytes(&self, at: u64, length: usize) -> io::Result<Vec<u8>> {
        const UNIT: u64 = ALIGN as u64;
        let end = at.checked_add(length as u64).filter(|end| *end <= self.size);
        let end = end.ok_or(ErrorKind::UnexpectedEof)?;
        let (start, stop) = (at / UNIT * UNIT, end.next_multiple_of(UNIT).min(self.size));
        let whole = usize::try_from(stop - start).map_err(io::Error::other)?;
        let mut block = Block::new(whole);
        self.read(start, &mut block, (0, whole))?;
        let skip = usize::try_from(at - start).map_err(io::Error::other)?;
        Ok(block.part(skip, skip + length).to_vec())
    }
}

impl Bytes for [u8] {
    fn bytes(&self, at: u64, length: usize) -> io::Result<Vec<u8>> {
        let start = usize::try_from(at).map_err(io::Error::other)?;
        let end = start.checked_add(length).ok_or(ErrorKind::UnexpectedEof)?;
        Ok(self.get(start..end).ok_or(ErrorKind::UnexpectedEof)?.to_vec())
    }
}
