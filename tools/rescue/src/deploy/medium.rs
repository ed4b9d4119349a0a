//! The disk itself: opened so that nobody else can, past the page cache, in whole sectors.

use super::block::{ALIGN, Block};
use anyhow::{Context as _, bail};
use lifeboot_init::block;
use rustix::fs::{Advice, FallocateFlags, OFlags, fadvise, fallocate, ioctl_blksszget};
use rustix::io::Errno;
use std::fs::File;
use std::io::{Seek as _, SeekFrom};
use std::num::NonZeroU64;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

/// What makes a disk usable lies here: partition table, boot sectors, the superblocks of most file systems.
pub const HEAD: usize = 1 << 20;

/// How much is discarded with one order.
const DISCARD: u64 = 4 << 30;

/// A disk that is ours alone until this is dropped.
pub struct Medium {
    file: File,
    name: String,
    size: u64,
    sector: u64,
    direct: bool,
}

impl Medium {
    /// Opens `path`.
    ///
    /// # Errors
    /// Somebody uses it, a partition of it included: the kernel then refuses O_EXCL. Or the kernel's own reasons.
    pub fn open(path: &Path) -> anyhow::Result<Medium> {
        let name = path.display().to_string();
        let flags = OFlags::EXCL | OFlags::CLOEXEC;
        let open = |flags: OFlags| {
            let mut options = File::options();
            options.read(true).write(true);
            options.custom_flags(flags.bits().cast_signed()).open(path)
        };
        let direct = open(flags | OFlags::DIRECT);
        let is_direct = direct.is_ok();
        let opened = match direct {
            // What cannot be written past the cache is written through it.
            Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => open(flags),
            other => other,
        };
        let mut file = match opened {
            Err(error) if error.raw_os_error() == Some(Errno::BUSY.raw_os_error()) => {
                bail!("{name}: in use; unmount or close what is on it first, 'rescue disks' shows it")
            }
            other => other.with_context(|| name.clone())?,
        };
        let size = file.seek(SeekFrom::End(0)).with_context(|| name.clone())?;
        // A file has no sectors; what holds for disks does no harm there.
        let sector = ioctl_blksszget(&file).map_or(512, u64::from).max(512);
        Ok(Medium {
            file,
            name,
            size,
            sector,
            direct: is_direct,
        })
    }

    /// Bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// `/dev/vda`
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `length` and what is missing to a whole sector.
    pub fn whole_sectors(&self, length: usize) -> usize {
        let sector = usize::try_from(self.sector).unwrap_or(ALIGN);
        length.div_ceil(sector) * sector
    }

    /// Writes there; both must be whole sectors, and `bytes` in a [`Block`].
    pub fn write(&self, at: u64, bytes: &[u8]) -> anyhow::Result<()> {
        self.file
            .write_all_at(bytes, at)
            .with_context(|| format!("{}: writing {} bytes at byte {at}", self.name, bytes.len()))
    }

    /// Reads from there; both must be whole sectors, and `bytes` in a [`Block`].
    pub fn read(&self, at: u64, bytes: &mut [u8]) -> anyhow::Result<()> {
        self.file
            .read_exact_at(bytes, at)
            .with_context(|| format!("{}: reading back {} bytes at byte {at}", self.name, bytes.len()))
    }

    /// Has the disk make zeros by itself; `false` from one that cannot.
    pub fn zero(&self, at: u64, length: usize) -> bool {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        fallocate(&self.file, flags, at, length as u64).is_ok()
    }

    /// Everything written so far survives the loss of power.
    pub fn sync(&self) -> anyhow::Result<()> {
        self.file
            .sync_all()
            .with_context(|| format!("{}: writing out", self.name))
    }

    /// What is read next comes from the disk and not from memory.
    pub fn forget(&self) -> anyhow::Result<()> {
        if self.direct {
            return Ok(());
        }
        fadvise(&self.file, 0, NonZeroU64::new(self.size), Advice::DontNeed)
            .with_context(|| format!("{}: dropping caches", self.name))
    }

    /// Zeros where partition tables, boot sectors and superblocks begin, and at the end, where GPT has its second copy.
    pub fn blank(&self) -> anyhow::Result<()> {
        let mut zeros = Block::new(HEAD);
        let head = self.size.min(HEAD as u64);
        self.write(0, zeros.part_mut(0, usize::try_from(head).unwrap_or(HEAD)))?;
        let from = self
            .size
            .saturating_sub(HEAD as u64)
            .next_multiple_of(ALIGN as u64);
        if from > 0 && from < self.size {
            let length = usize::try_from(self.size - from).unwrap_or(HEAD);
            self.write(from, zeros.part_mut(0, length))?;
        }
        self.sync()
    }

    /// Tells the disk that nothing between its first and its last megabyte is needed; `false` from one that does not care. Those two
    /// were zeroed, and what is discarded may come back.
    pub fn discard(&self) -> bool {
        let end = self.size.saturating_sub(HEAD as u64) / ALIGN as u64 * ALIGN as u64;
        let mut at = HEAD as u64;
        while at < end {
            let length = DISCARD.min(end - at);
            if block::discard(&self.file, at, length).is_err() {
                return false;
            }
            at += length;
        }
        true
    }

    /// Has the kernel look for partitions again. What has none, and a kernel that does not want to, is no harm to what was written.
    pub fn reread_partitions(&self) -> bool {
        block::reread_partitions(&self.file).is_ok()
    }
}
