//! From the blocks of a disk to the bytes that are sent: zstd, or as they are.

use crate::deploy::block::Block;
use crate::deploy::pipe;
use anyhow::Context as _;
use lifeboot_init::stage::fetch::mem_available;
use std::io::{self, ErrorKind, Write};
use std::sync::mpsc::{Receiver, Sender};
use zstd::stream::write::Encoder;

/// The usual one: what is better takes several times as long for a few per cent.
const LEVEL: i32 = 3;
/// More processors are left to what reads and sends.
const MOST_WORKERS: usize = 4;
/// Memory that a worker of that level takes at most; half of what there is may be used.
const WORKER: u64 = 24 << 20;

/// How a backup is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    Zstd,
    Raw,
}

impl Packing {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Packing::Zstd => "zstd",
            Packing::Raw => "raw",
        }
    }
}

/// Packs the blocks of a disk of `size` bytes as they come; whoever takes the packed bytes learns of an end only when it returns well.
///
/// # Errors
/// Nobody takes them any more.
pub fn pack(
    packing: Packing,
    size: u64,
    (full, free): (&Receiver<Block>, &Sender<Block>),
    out: &mut Out,
) -> anyhow::Result<()> {
    if packing == Packing::Raw {
        return each(full, free, |bytes| out.write_all(bytes));
    }
    let mut encoder = Encoder::new(out, LEVEL).context("zstd")?;
    // Whoever unpacks it knows the size from the first bytes on, and whether all of it is right at the last.
    encoder.set_pledged_src_size(Some(size)).context("zstd")?;
    encoder.include_contentsize(true).context("zstd")?;
    encoder.include_checksum(true).context("zstd")?;
    let workers = workers();
    if workers > 1 {
        encoder.multithread(workers).context("zstd")?;
    }
    each(full, free, |bytes| encoder.write_all(bytes))?;
    encoder.finish().map(drop).context("packing")
}

fn each(
    full: &Receiver<Block>,
    free: &Sender<Block>,
    mut take: impl FnMut(&[u8]) -> io::Result<()>,
) -> anyhow::Result<()> {
    while let Ok(block) = full.recv() {
        take(block.part(0, block.filled)).context("packing")?;
        // At the end nobody needs it any more.
        drop(free.send(block));
    }
    Ok(())
}

fn workers() -> u32 {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let room = mem_available().map_or(0, |memory| memory.0 / 2 / WORKER);
    let most = u32::try_from(processors.min(MOST_WORKERS)).unwrap_or(1);
    most.min(u32::try_from(room).unwrap_or(most)).max(1)
}

/// What is written goes into a pipe.
pub struct Out(pub pipe::Sender);

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.0.bytes(bytes.to_vec()) {
            true => Ok(bytes.len()),
            false => Err(ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
