//! An `.xz` file read at any place: its index says where each block lies, and blocks are unpacked when something in them is
//! asked for, several at once. A system is read to a tenth when an image is built from it, so most of a large download is
//! never unpacked at all. Every block that is used is checked against its own checksum.
//!
//! The format: <https://tukaani.org/xz/xz-file-format.txt>.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::thread;

use anyhow::{Context, Result, bail};
use liblzma::stream::{Action, Status, Stream};

use super::super::medium::Medium;
use super::{LARGEST, PIECE, Scratch, put};

const HEADER: u64 = 12;
const FOOTER: u64 = 12;
/// Index of a hundred thousand blocks and more.
const LARGEST_INDEX: u64 = 4 << 20;
/// Bytes, for each of the threads: `xz -9` needs 65 MiB.
const MEMORY: u64 = 160 << 20;
const THREADS: usize = 2;

/// An `.xz` file and what of it was unpacked so far.
#[derive(Debug)]
pub struct Unpacked {
    packed: File,
    scratch: Scratch,
    plain: File,
    length: u64,
    blocks: Vec<Block>,
    present: RefCell<Vec<bool>>,
}

#[derive(Debug, Clone, Copy)]
struct Block {
    /// In the packed file; a multiple of four bytes long.
    start: u64,
    length: u64,
    /// Of the stream the block is in: it says what checksum is used.
    stream: u64,
    plain_start: u64,
    plain_length: u64,
}

impl Unpacked {
    /// Reads the index.
    pub fn open(packed: File, scratch: Scratch) -> Result<Self> {
        let mut end = packed.metadata()?.len();
        // From the last stream to the first: only a stream's end says how long it is.
        let mut streams = Vec::new();
        while end > 0 {
            let (start, blocks) = stream(&packed, end)?;
            streams.push(blocks);
            end = start;
        }
        let mut length = 0_u64;
        let mut blocks: Vec<Block> = streams.into_iter().rev().flatten().collect();
        for block in &mut blocks {
            block.plain_start = length;
            length = length.saturating_add(block.plain_length);
        }
        if length > LARGEST {
            bail!("xz: claims to unpack to {length} bytes");
        }
        let plain = scratch.file()?;
        plain.set_len(length).context("xz")?;
        Ok(Self {
            packed,
            scratch,
            plain,
            length,
            present: RefCell::new(vec![false; blocks.len()]),
            blocks,
        })
    }

    /// Unpacks the blocks that hold a range, and those behind them which other threads have time for meanwhile.
    fn ensure(&self, at: u64, length: u64) -> Result<()> {
        let mut present = self.present.borrow_mut();
        let mut next = self
            .blocks
            .partition_point(|block| block.plain_start + block.plain_length <= at);
        while self
            .blocks
            .get(next)
            .is_some_and(|block| block.plain_start < at + length)
        {
            if present.get(next) == Some(&true) {
                next += 1;
                continue;
            }
            let missing = present
                .iter()
                .enumerate()
                .skip(next)
                .filter(|(_, present)| !**present);
            let batch: Vec<usize> = missing.take(THREADS).map(|(number, _)| number).collect();
            let blocks: Vec<&Block> = batch
                .iter()
                .filter_map(|number| self.blocks.get(*number))
                .collect();
            self.scratch
                .need(blocks.iter().map(|block| block.plain_length).sum())?;
            let (packed, plain) = (&self.packed, &self.plain);
            let results: Vec<Result<()>> = thread::scope(|scope| {
                let start = |block| scope.spawn(move || unpack(packed, block, plain));
                let threads: Vec<_> = blocks.into_iter().map(start).collect();
                let join = |thread: thread::ScopedJoinHandle<Result<()>>| {
                    thread
                        .join()
                        .unwrap_or_else(|_| bail!("the thread that unpacks it died"))
                };
                threads.into_iter().map(join).collect()
            });
            for ((number, result), wanted) in batch
                .iter()
                .zip(results)
                .zip([true].into_iter().chain(std::iter::repeat(false)))
            {
                match result {
                    Ok(()) => {
                        if let Some(present) = present.get_mut(*number) {
                            *present = true;
                        }
                    }
                    // What nobody asked for may be damaged.
                    Err(_) if !wanted => {}
                    Err(error) => {
                        return Err(error.context(format!(
                            "xz: block {} of {}",
                            number + 1,
                            self.blocks.len()
                        )));
                    }
                }
            }
        }
        Ok(())
    }
}

impl Medium for Unpacked {
    fn length(&self) -> u64 {
        self.length
    }

    fn read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.ensure(at, buffer.len() as u64)
            .map_err(|error| io::Error::other(format!("{error:#}")))?;
        self.plain.read_exact_at(buffer, at)
    }
}

/// The blocks of the stream that ends here, and where it starts.
fn stream(packed: &File, mut end: u64) -> Result<(u64, Vec<Block>)> {
    let footer = loop {
        let at = end.checked_sub(FOOTER).context("xz: cut short")?;
        let footer = bytes(packed, at, FOOTER)?;
        if footer.iter().rev().take(4).any(|byte| *byte != 0) {
            break footer;
        }
        end -= 4;
    };
    let field = |at: usize| u32_at(&footer, at);
    if footer.get(10..) != Some(b"YZ") || crc(footer.get(4..10).unwrap_or_default()) != field(0)? {
        bail!("xz: cut short, or damaged at its end");
    }
    let index_length = (u64::from(field(4)?) + 1) * 4;
    let index_start = end.checked_sub(FOOTER + index_length);
    let index_start = index_start
        .filter(|_| index_length <= LARGEST_INDEX)
        .context("xz: damaged index")?;
    let index = bytes(packed, index_start, index_length)?;
    let (records, checksum) = index.split_at(index.len().saturating_sub(4));
    if crc(records) != u32_at(checksum, 0)? || records.first() != Some(&0) {
        bail!("xz: damaged index");
    }
    let mut rest = records.get(1..).unwrap_or_default();
    let count = number(&mut rest)?;
    let mut sizes = Vec::new();
    for _ in 0..count {
        let (length, plain_length) = (number(&mut rest)?, number(&mut rest)?);
        sizes.push((
            length.checked_next_multiple_of(4).context("xz: damaged index")?,
            plain_length,
        ));
    }
    let total = sizes
        .iter()
        .try_fold(HEADER, |sum, (length, _)| sum.checked_add(*length));
    let start = total
        .and_then(|total| index_start.checked_sub(total))
        .context("xz: damaged index")?;
    let mut at = start + HEADER;
    let blocks = sizes
        .into_iter()
        .map(|(length, plain_length)| {
            let block = Block {
                start: at,
                length,
                stream: start,
                plain_start: 0,
                plain_length,
            };
            at += length;
            block
        })
        .collect();
    Ok((start, blocks))
}

/// A block, given to the decoder behind its stream's header as if it were the stream's first.
fn unpack(packed: &File, block: &Block, plain: &File) -> Result<()> {
    let mut decoder = Stream::new_stream_decoder(MEMORY, 0)?;
    let mut out = vec![0; PIECE];
    let mut filled = 0;
    let mut written = 0;
    let mut left = (block.start, block.length);
    let mut input = bytes(packed, block.stream, HEADER)?;
    loop {
        let mut used = 0;
        while used < input.len() {
            let (before_in, before_out) = (decoder.total_in(), decoder.total_out());
            let room = out.get_mut(filled..).unwrap_or_default();
            let status = decoder.process(input.get(used..).unwrap_or_default(), room, Action::Run)?;
            let (taken, made) = (decoder.total_in() - before_in, decoder.total_out() - before_out);
            used += usize::try_from(taken)?;
            filled += usize::try_from(made)?;
            if filled == out.len() {
                put_inside(plain, block, &mut written, &out)?;
                filled = 0;
            } else if taken == 0 && made == 0 || status == Status::StreamEnd {
                bail!("damaged");
            }
        }
        if left.1 == 0 {
            break;
        }
        let count = left.1.min(1 << 18);
        input = bytes(packed, left.0, count)?;
        left = (left.0 + count, left.1 - count);
    }
    put_inside(plain, block, &mut written, out.get(..filled).unwrap_or_default())?;
    if written != block.plain_length {
        bail!("damaged: {written} bytes of {}", block.plain_length);
    }
    Ok(())
}

/// Writes at the block's place, and never beside it.
fn put_inside(plain: &File, block: &Block, written: &mut u64, bytes: &[u8]) -> Result<()> {
    let at = *written;
    *written += bytes.len() as u64;
    if *written > block.plain_length {
        bail!("damaged: more than {} bytes", block.plain_length);
    }
    Ok(put(plain, block.plain_start + at, bytes)?)
}

fn bytes(file: &File, at: u64, count: u64) -> Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(count)?];
    file.read_exact_at(&mut bytes, at).context("xz: cut short")?;
    Ok(bytes)
}

/// Seven bits a byte, the lowest first.
fn number(rest: &mut &[u8]) -> Result<u64> {
    let mut number = 0;
    for shift in (0..63).step_by(7) {
        let (byte, behind) = rest.split_first().context("xz: damaged index")?;
        *rest = behind;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    bail!("xz: damaged index")
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32> {
    let field = bytes.get(at..at + 4).context("xz: cut short")?;
    Ok(u32::from_le_bytes(field.try_into()?))
}

fn crc(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}
