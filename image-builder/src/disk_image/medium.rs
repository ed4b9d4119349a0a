//! The bytes of a disk, and of one partition of it, read at any place.

use std::fmt::Debug;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::rc::Rc;

use ext4_view::Ext4Read;

/// A disk's bytes.
pub trait Medium: Debug {
    /// How many there are.
    fn length(&self) -> u64;
    /// Fills the buffer; an error when the disk ends before.
    fn read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<()>;
}

/// An image, or a block device.
#[derive(Debug)]
pub struct Plain {
    file: File,
    length: u64,
}

/// A part of a disk, as if it were a disk of its own.
#[derive(Debug, Clone)]
pub struct Slice {
    medium: Rc<dyn Medium>,
    start: u64,
    length: u64,
    position: u64,
}

impl Plain {
    /// An open file; its length is asked by seeking, which block devices answer too.
    pub fn new(mut file: File) -> io::Result<Self> {
        let length = file.seek(SeekFrom::End(0))?;
        Ok(Self { file, length })
    }
}

impl Medium for Plain {
    fn length(&self) -> u64 {
        self.length
    }

    fn read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, at)
    }
}

impl Slice {
    /// The whole disk.
    pub fn whole(medium: Rc<dyn Medium>) -> Self {
        Self {
            length: medium.length(),
            medium,
            start: 0,
            position: 0,
        }
    }

    /// A part of this part; `None` when it does not lie in it.
    pub fn part(&self, start: u64, length: u64) -> Option<Self> {
        let end = start.checked_add(length)?;
        (end <= self.length).then(|| Self {
            medium: Rc::clone(&self.medium),
            start: self.start + start,
            length,
            position: 0,
        })
    }

    /// How long it is.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Fills the buffer from a place.
    pub fn read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<()> {
        let inside = at
            .checked_add(buffer.len() as u64)
            .is_some_and(|end| end <= self.length);
        if !inside {
            return Err(io::Error::other(format!(
                "{} bytes at {at}: beyond the partition's {} bytes",
                buffer.len(),
                self.length
            )));
        }
        self.medium.read_at(self.start + at, buffer)
    }

    /// So many bytes from a place.
    pub fn bytes(&self, at: u64, count: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        self.read_at(at, &mut bytes)?;
        Ok(bytes)
    }
}

impl Read for Slice {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.length.saturating_sub(self.position);
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let buffer = buffer.get_mut(..count).unwrap_or_default();
        self.read_at(self.position, buffer)?;
        self.position += count as u64;
        Ok(count)
    }
}

impl Seek for Slice {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(from) => self.length.checked_add_signed(from),
            SeekFrom::Current(from) => self.position.checked_add_signed(from),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

/// Asked for by the reader of FAT, which can write too; here nothing is ever written.
impl Write for Slice {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Ext4Read for Slice {
    fn read(
        &mut self,
        at: u64,
        buffer: &mut [u8],
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync + 'static>> {
        Ok(self.read_at(at, buffer)?)
    }
}
