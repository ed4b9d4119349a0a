//! The bytes of an archive, counted.

use super::broken;
use super::entry::{DESCRIPTOR, Entry, number};
use std::io::{self, BufRead as _, BufReader, ErrorKind, Read};

/// The source, and how far in it is.
pub struct Counted<R> {
    pub inner: BufReader<R>,
    pub count: u64,
    /// The signature read last.
    pub last: u32,
}

impl<R: Read> Counted<R> {
    pub fn new(source: R) -> Counted<R> {
        Counted {
            inner: BufReader::with_capacity(64 << 10, source),
            count: 0,
            last: 0,
        }
    }

    pub fn consume(&mut self, count: usize) {
        self.inner.consume(count);
        self.count += count as u64;
    }

    pub fn take_bytes(&mut self, count: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        self.inner.read_exact(&mut bytes)?;
        self.count += count as u64;
        Ok(bytes)
    }

    pub fn skip(&mut self, count: u64) -> io::Result<()> {
        let skipped = io::copy(&mut (&mut self.inner).take(count), &mut io::sink())?;
        self.count += skipped;
        match skipped == count {
            true => Ok(()),
            false => Err(ErrorKind::UnexpectedEof.into()),
        }
    }

    pub fn signature(&mut self) -> io::Result<u32> {
        let bytes = self.take_bytes(4)?;
        self.last = u32::try_from(number(&bytes)).unwrap_or(0);
        Ok(self.last)
    }

    /// Checksum and lengths behind an entry: with a signature or without, the lengths of four bytes or of eight. Which of them it
    /// is nobody says, but what they must be is known.
    pub fn descriptor(&mut self, found: &Entry) -> io::Result<()> {
        let crc = found.crc.unwrap_or_default().to_le_bytes();
        let lengths = [
            found.packed.unwrap_or_default(),
            found.unpacked.unwrap_or_default(),
        ];
        let narrow: Vec<u8> = lengths.iter().flat_map(|n| (*n as u32).to_le_bytes()).collect();
        let wide: Vec<u8> = lengths.iter().flat_map(|n| n.to_le_bytes()).collect();
        let mut have = self.take_bytes(12)?;
        if have.starts_with(&DESCRIPTOR.to_le_bytes()) && !have.starts_with(&crc) {
            have = [have.split_off(4), self.take_bytes(4)?].concat();
        }
        let wrong = || broken(&format!("{}: its checksum or its length is wrong", found.name));
        let rest = have.strip_prefix(&crc).ok_or_else(wrong)?;
        if found.wide || !narrow.starts_with(rest) {
            let rest = [rest, &self.take_bytes(8)?].concat();
            return if rest == wide { Ok(()) } else { Err(wrong()) };
        }
        Ok(())
    }
}
