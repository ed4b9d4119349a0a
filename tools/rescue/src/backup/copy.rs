//! Reading a disk from its beginning to its end: what is wanted from the disk, zeros for the rest.

use super::origin::Origin;
use super::wanted::Wanted;
use super::witness::GONE;
use crate::deploy::block::{ALIGN, Block};
use crate::deploy::write::{CHUNK, sum};
use crate::progress::{Progress, Watch as _};
use anyhow::bail;
use serde::Serialize;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};

/// What is not wanted is read all the same where it is less than this between two wanted pieces: a disk is quicker that way.
const HOP: u64 = 128 << 10;
/// What cannot be read at once is read in pieces of this size, and what of those cannot be in pieces of [`ALIGN`].
const PIECE: usize = 64 << 10;
/// Tries for the last of them.
const TRIES: u32 = 3;

/// What to do about what cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreadable {
    /// It ends the backup.
    Fail,
    /// Zeros take its place, and it is told.
    Zeros,
}

/// Bytes that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Gap {
    pub from: u64,
    pub size: u64,
    pub error: String,
}

/// What reading came to.
#[derive(Debug, Default)]
pub struct Copied {
    /// Bytes read.
    pub read: u64,
    pub gaps: Vec<Gap>,
    /// By which each chunk is known again.
    pub sums: Vec<u64>,
}

/// Reads all of `origin` into blocks from `empty`, which come out of `full` in order.
///
/// # Errors
/// What cannot be read, with its place; or nobody takes the blocks any more.
pub fn copy(
    origin: &Origin,
    wanted: &Wanted,
    unreadable: Unreadable,
    (full, empty): (SyncSender<Block>, Receiver<Block>),
    progress: &Arc<Progress>,
) -> anyhow::Result<Copied> {
    let mut reader = Reader {
        origin,
        unreadable,
        copied: Copied::default(),
    };
    let mut at = 0;
    while at < origin.size {
        let Ok(mut block) = empty.recv() else {
            return Err(io::Error::from(ErrorKind::BrokenPipe).into());
        };
        let end = (at + CHUNK as u64).min(origin.size);
        block.filled = offset(at, end);
        reader.fill(&mut block, wanted, at..end)?;
        reader.copied.sums.push(sum(block.part(0, block.filled)));
        progress.at(reader.copied.read);
        if full.send(block).is_err() {
            return Err(io::Error::from(ErrorKind::BrokenPipe).into());
        }
        at = end;
    }
    Ok(reader.copied)
}

fn offset(base: u64, at: u64) -> usize {
    usize::try_from(at - base).unwrap_or(CHUNK)
}

struct Reader<'o> {
    origin: &'o Origin,
    unreadable: Unreadable,
    copied: Copied,
}

impl Reader<'_> {
    fn fill(
        &mut self,
        block: &mut Block,
        wanted: &Wanted,
        range: std::ops::Range<u64>,
    ) -> anyhow::Result<()> {
        let pieces = wanted.pieces(range.start, range.end);
        let mut hops: Vec<(u64, u64)> = Vec::new();
        for piece in &pieces {
            match hops.last_mut() {
                Some(last) if piece.0 - last.1 < HOP => last.1 = piece.1,
                _ => hops.push(*piece),
            }
        }
        for (from, to) in hops {
            let (from, to) = (offset(range.start, from), offset(range.start, to));
            if self
                .origin
                .read(range.start + from as u64, block, (from, to))
                .is_err()
            {
                self.carefully(block, &pieces, range.start, (from, to))?;
            }
            self.copied.read += (to - from) as u64;
        }
        // Between the pieces lies what was not read, or read on the way.
        let mut done = 0;
        for (from, to) in pieces {
            block.part_mut(done, offset(range.start, from)).fill(0);
            done = offset(range.start, to);
        }
        let filled = block.filled;
        block.part_mut(done, filled).fill(0);
        Ok(())
    }

    /// Piece by piece; what is not wanted may be as broken as it likes.
    fn carefully(
        &mut self,
        block: &mut Block,
        pieces: &[(u64, u64)],
        start: u64,
        (from, to): (usize, usize),
    ) -> anyhow::Result<()> {
        for (first, end) in parts(from, to, PIECE) {
            if self
                .origin
                .read(start + first as u64, block, (first, end))
                .is_ok()
            {
                continue;
            }
            for (first, end) in parts(first, end, ALIGN) {
                let at = start + first as u64;
                let is_wanted = pieces
                    .iter()
                    .any(|piece| piece.0 < start + end as u64 && at < piece.1);
                // What is not wanted is not worth the time that a broken disk takes.
                let tries = if is_wanted { TRIES } else { 0 };
                let mut outcome = Ok(());
                for _ in 0..tries {
                    outcome = self.origin.read(at, block, (first, end));
                    if outcome.is_ok() {
                        break;
                    }
                }
                if let Err(error) = outcome {
                    self.give_up(block, at, (first, end), error)?;
                }
            }
        }
        Ok(())
    }

    fn give_up(
        &mut self,
        block: &mut Block,
        at: u64,
        (from, to): (usize, usize),
        error: io::Error,
    ) -> anyhow::Result<()> {
        // Then there is nothing to be had of it by any means, nor is the rest of it zeros.
        if self.origin.witness.is_gone() {
            bail!("{}: {GONE}: nothing comes from byte {at} on", self.origin.name);
        }
        if self.unreadable == Unreadable::Fail {
            bail!(
                "{}: {} bytes at byte {at} cannot be read, in {TRIES} tries: {error} \
                 (hint: ddrescue gets what can be had of it; --skip-errors puts zeros there)",
                self.origin.name,
                to - from
            );
        }
        block.part_mut(from, to).fill(0);
        let size = (to - from) as u64;
        match self.copied.gaps.last_mut() {
            Some(last) if last.from + last.size == at => last.size += size,
            _ => self.copied.gaps.push(Gap {
                from: at,
                size,
                error: error.to_string(),
            }),
        }
        Ok(())
    }
}

fn parts(from: usize, to: usize, size: usize) -> impl Iterator<Item = (usize, usize)> {
    (from..to).step_by(size).map(move |at| (at, (at + size).min(to)))
}
