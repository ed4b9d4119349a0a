//! An image on its way to a disk: everything but the first megabyte, then the check, then that.
//!
//! The one thing a reader would get wrong: until [`Landed::commit`] the disk has no partition table and no superblock, and that is
//! the point. Whatever goes wrong before, the power included, leaves a disk that nothing takes for whole.

use super::block::{ALIGN, Block};
use super::bmap::{Bmap, Watcher};
use super::medium::{HEAD, Medium};
use crate::progress::Watch;
use anyhow::{Context as _, anyhow, bail};
use std::io::{ErrorKind, Read};
use std::sync::Arc;

/// Bytes written, and later read back, at once: the erase block of many cards.
pub const CHUNK: usize = 4 << 20;

/// Zeros are looked for in pieces of this size; smaller ones would cut writes apart for little.
const GRAIN: usize = 256 << 10;

/// Tries at reading before writing zeros without a look, where none of them found zeros.
const LOOKS: u32 = 16;

/// Odd, so that multiplying by it loses nothing; 2^64 by the golden ratio, so that every bit reaches the upper half.
const ODD: u64 = 0x9e37_79b9_7f4a_7c15;

/// How zeros get onto the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Zeros {
    /// The disk makes them.
    Ordered,
    /// It cannot; where it has them already, nothing is written. So many tries in vain.
    Looked(u32),
    /// It has none.
    Written,
}

/// The writing side.
pub struct Writer<'m> {
    medium: &'m Medium,
    head: Block,
    scratch: Block,
    zeros: Zeros,
    at: u64,
    sums: Vec<u64>,
    not_written: u64,
    bmap: Option<Arc<Bmap>>,
    watcher: Option<Watcher>,
}

/// All of the image is there but its first megabyte.
pub struct Landed {
    head: Block,
    sums: Vec<u64>,
    /// Bytes of the image.
    pub len: u64,
    /// Of them zeros that did not have to be written.
    pub not_written: u64,
    bmap: Option<Arc<Bmap>>,
}

impl<'m> Writer<'m> {
    /// Nothing is written yet. Where there is a bmap, only what it has is.
    pub fn new(medium: &'m Medium, bmap: Option<Arc<Bmap>>) -> Writer<'m> {
        Writer {
            medium,
            watcher: bmap.clone().map(Watcher::new),
            bmap,
            head: Block::new(HEAD),
            scratch: Block::new(GRAIN),
            zeros: Zeros::Ordered,
            at: 0,
            sums: Vec::new(),
            not_written: 0,
        }
    }

    /// Writes the next chunk, a whole one unless it is the last.
    pub fn take(&mut self, chunk: &mut Block) -> anyhow::Result<u64> {
        let filled = chunk.filled;
        let (end, size) = (self.at + filled as u64, self.medium.size());
        if end > size {
            bail!(
                "{}: too small, the image has more than {size} bytes",
                self.medium.name()
            );
        }
        if let Some(watcher) = &mut self.watcher {
            watcher
                .pass(chunk.part(0, filled))
                .map_err(|what| anyhow!(what))?;
        }
        let length = self.medium.whole_sectors(filled);
        chunk.part_mut(filled, length).fill(0);
        self.sums.push(sum(chunk.part(0, length)));
        let mut from = 0;
        if self.at == 0 {
            from = length.min(HEAD);
            self.head.part_mut(0, from).copy_from_slice(chunk.part(0, from));
            self.head.filled = from;
        }
        for (from, to, meant) in meant(self.bmap.as_deref(), self.at, from, length) {
            if !meant {
                self.not_written += (to - from) as u64;
                continue;
            }
            for (from, to, zero) in runs(chunk, from, to) {
                let at = self.at + from as u64;
                match zero {
                    true => self.put_zeros(at, to - from)?,
                    false => self.medium.write(at, chunk.part(from, to))?,
                }
            }
        }
        self.at = end;
        Ok(end)
    }

    /// Everything was taken.
    pub fn finish(self) -> anyhow::Result<Landed> {
        if self.at == 0 {
            bail!("the image is empty");
        }
        if let Some(watcher) = &self.watcher {
            watcher.finish().map_err(|what| anyhow!(what))?;
        }
        self.medium.sync()?;
        Ok(Landed {
            head: self.head,
            sums: self.sums,
            len: self.at,
            not_written: self.not_written,
            bmap: self.bmap,
        })
    }

    fn put_zeros(&mut self, at: u64, length: usize) -> anyhow::Result<()> {
        if self.zeros == Zeros::Ordered {
            if self.medium.zero(at, length) {
                self.not_written += length as u64;
                return Ok(());
            }
            self.zeros = Zeros::Looked(0);
        }
        let mut done = 0;
        while done < length {
            let (at, count) = (at + done as u64, GRAIN.min(length - done));
            let there = self.zeros != Zeros::Written && {
                self.medium.read(at, self.scratch.part_mut(0, count))?;
                is_zero(self.scratch.part(0, count))
            };
            self.zeros = match (there, self.zeros) {
                (false, Zeros::Looked(tries)) if tries + 1 >= LOOKS => Zeros::Written,
                (false, Zeros::Looked(tries)) => Zeros::Looked(tries + 1),
                (true, _) => Zeros::Looked(0),
                (false, other) => other,
            };
            if there {
                self.not_written += count as u64;
            } else {
                self.scratch.part_mut(0, count).fill(0);
                self.medium.write(at, self.scratch.part(0, count))?;
            }
            done += count;
        }
        Ok(())
    }
}

impl Landed {
    /// Reads everything back from the disk and compares.
    ///
    /// # Errors
    /// The first place that differs.
    pub fn check(&self, medium: &Medium, watch: &dyn Watch) -> anyhow::Result<()> {
        medium.forget()?;
        let mut chunk = Block::new(CHUNK);
        let mut at = 0;
        for wanted in &self.sums {
            let filled = usize::try_from(self.len - at).map_or(CHUNK, |rest| rest.min(CHUNK));
            let length = medium.whole_sectors(filled);
            let held = if at == 0 { self.head.filled } else { 0 };
            // It is read back when it is there.
            chunk.part_mut(0, held).copy_from_slice(self.head.part(0, held));
            for (from, to, meant) in meant(self.bmap.as_deref(), at, held, length) {
                match meant {
                    true => medium.read(at + from as u64, chunk.part_mut(from, to))?,
                    // It was zeros in the image, and on the disk it is whatever it is.
                    false => chunk.part_mut(from, to).fill(0),
                }
            }
            if sum(chunk.part(0, length)) != *wanted {
                bail!(
                    "{}: does not keep what is written: bytes {at} to {} read back differently",
                    medium.name(),
                    at + length as u64
                );
            }
            at += filled as u64;
            watch.at(at);
        }
        Ok(())
    }

    /// Makes the disk usable: the first megabyte, and of it last the first block, which has the partition table.
    ///
    /// # Errors
    /// It cannot be written or reads back differently; then it is zeroed again as far as the disk lets us.
    pub fn commit(&self, medium: &Medium) -> anyhow::Result<()> {
        let first = self.head.filled.min(ALIGN);
        let written = (|| {
            if self.head.filled > first {
                medium.write(first as u64, self.head.part(first, self.head.filled))?;
                medium.sync()?;
            }
            medium.write(0, self.head.part(0, first))?;
            medium.sync()?;
            medium.forget()?;
            let mut back = Block::new(HEAD);
            medium.read(0, back.part_mut(0, self.head.filled))?;
            if back.part(0, self.head.filled) != self.head.part(0, self.head.filled) {
                bail!("{}: its first megabyte reads back differently", medium.name());
            }
            Ok(())
        })();
        match written {
            Err(error) => match medium.blank() {
                Ok(()) => Err(error),
                Err(second) => Err(error.context(format!("and it cannot be made unusable ({second:#})"))),
            },
            Ok(()) => Ok(()),
        }
    }
}

/// Fills `chunk` from `source`; less than all of it only at the end.
///
/// # Errors
/// The source's.
pub fn fill(chunk: &mut Block, source: &mut dyn Read) -> anyhow::Result<()> {
    chunk.filled = 0;
    while chunk.filled < chunk.capacity() {
        let (from, to) = (chunk.filled, chunk.capacity());
        match source.read(chunk.part_mut(from, to)) {
            Ok(0) => break,
            Ok(count) => chunk.filled += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error).context("unpacking"),
        }
    }
    Ok(())
}

/// The pieces `from..to` of a chunk that lies at `at`, each with whether it means something.
fn meant(bmap: Option<&Bmap>, at: u64, from: usize, to: usize) -> Vec<(usize, usize, bool)> {
    let Some(bmap) = bmap else {
        return if from < to {
            vec![(from, to, true)]
        } else {
            Vec::new()
        };
    };
    let within = |place: u64| usize::try_from(place - at).unwrap_or(to);
    let split = bmap.split(at + from as u64, at + to as u64);
    let pieces = split
        .into_iter()
        .map(|(from, to, meant)| (within(from), within(to), meant));
    pieces.collect()
}

/// The pieces `from..to` of a chunk, each all zeros or not.
fn runs(chunk: &Block, from: usize, to: usize) -> Vec<(usize, usize, bool)> {
    let mut runs: Vec<(usize, usize, bool)> = Vec::new();
    let mut at = from;
    while at < to {
        let end = to.min(at + GRAIN);
        let zero = is_zero(chunk.part(at, end));
        match runs.last_mut() {
            Some(last) if last.2 == zero => last.1 = end,
            _ => runs.push((at, end, zero)),
        }
        at = end;
    }
    runs
}

/// By words: the C library of the device compares byte by byte.
pub fn is_zero(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks();
    words.iter().all(|word| u128::from_ne_bytes(*word) == 0) && rest.iter().all(|byte| *byte == 0)
}

/// By which a chunk is known again. Against bad disks, not against people: those the signature is for. No step forgets anything, so two
/// chunks that differ in one word never have the same.
pub fn sum(bytes: &[u8]) -> u64 {
    let step = |sum: u64, word: u64| {
        let sum = (sum ^ word).wrapping_mul(ODD);
        sum ^ (sum >> 32)
    };
    let (words, rest) = bytes.as_chunks();
    let sum = words.iter().fold(bytes.len() as u64, |sum, word| {
        step(sum, u64::from_le_bytes(*word))
    });
    rest.iter().fold(sum, |sum, byte| step(sum, u64::from(*byte)))
}

#[cfg(test)]
mod tests;
