//! What the bytes of a source become: looked at, then unpacked by one thread and written by another.

use super::block::Block;
use super::bmap::Bmap;
use super::format::{Format, LOOKED_AT};
use super::medium::Medium;
use super::pipe;
use super::unpack;
use super::write::{CHUNK, Landed, Writer, fill};
use super::zip;
use crate::progress::{Progress, Watch as _};
use anyhow::{anyhow, bail};
use lifeboot_init::stage::fetch::Sink;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

/// Chunks between unpacking and writing.
const CHUNKS: usize = 3;

/// What is to be done with the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Stop as soon as it is known what they are.
    Look,
    /// Pass over them: whoever gives them checks them.
    Check,
    /// Write.
    Write,
}

/// Whether the end of a raw source can be told from a cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// A signature or a digest says what all of it is.
    Whole,
    /// Only its length does.
    Length,
}

/// What was found out before the first write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// How it is packed.
    pub format: Format,
    /// Bytes of the source, where anybody knows.
    pub source: Option<u64>,
    /// Bytes of the image at least, where anybody knows.
    pub image: Option<u64>,
}

/// One image for one disk.
pub struct Job {
    pub purpose: Purpose,
    pub proof: Proof,
    /// What the person says that the image has.
    pub size: Option<u64>,
    pub device: String,
    pub room: u64,
    pub medium: Option<Arc<Medium>>,
    /// What of the image means something, where that is known.
    pub bmap: Option<Arc<Bmap>>,
    pub progress: Arc<Progress>,
    /// Whether anything was written.
    pub touched: Arc<AtomicBool>,
    pub found: Option<Found>,
    /// What went wrong here, in better words than the source has for it.
    pub error: Option<anyhow::Error>,
    first: Vec<u8>,
    came: u64,
    total: Option<u64>,
    running: Option<Running>,
}

/// The threads at work; nothing lands where there is only a look.
struct Running {
    sender: pipe::Sender,
    working: JoinHandle<anyhow::Result<Option<Landed>>>,
}

impl Job {
    /// Nothing has come yet; for a disk of that name and so many bytes.
    pub fn new(purpose: Purpose, proof: Proof, (device, room): (&str, u64), progress: Arc<Progress>) -> Job {
        Job {
            purpose,
            proof,
            size: None,
            device: device.to_owned(),
            room,
            medium: None,
            bmap: None,
            progress,
            touched: Arc::default(),
            found: None,
            error: None,
            first: Vec::new(),
            came: 0,
            total: None,
            running: None,
        }
    }

    /// The source has ended and proved itself: waits until all of the image but its first megabyte is on the disk.
    ///
    /// # Errors
    /// What unpacking or writing says, or an image that has not the size it should have.
    pub fn finish(&mut self) -> anyhow::Result<Landed> {
        if let Some(total) = self.total.filter(|total| *total != self.came) {
            // A server that first says so and then otherwise; a proof would have told as well.
            bail!("got {} of the {total} bytes announced", self.came);
        }
        if self.running.is_none() {
            self.start()?;
        }
        let Some(running) = self.running.take() else {
            bail!("nothing was to be written");
        };
        if !running.sender.end() {
            return Err(outcome(running.working).err().unwrap_or_else(behind));
        }
        match (outcome(running.working)?, self.size) {
            (None, _) => bail!("nothing was to be written"),
            (Some(landed), Some(size)) if size != landed.len => {
                bail!("the image has {} bytes, {size} were expected", landed.len)
            }
            (Some(landed), _) => Ok(landed),
        }
    }

    /// A source that came to its end before it was looked at.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn look_at_all(&mut self) -> anyhow::Result<()> {
        if self.found.is_none() {
            self.start()?;
        }
        if let Some(running) = self.running.take() {
            // It may have seen enough.
            let _taken = running.sender.end();
            outcome(running.working)?;
        }
        Ok(())
    }

    /// From now on nothing is written.
    pub fn stop(&mut self) {
        if self.running.is_some() {
            drop(self.reason());
        }
    }

    /// What comes is known now; writes for the first time, where that is the purpose.
    fn start(&mut self) -> anyhow::Result<()> {
        let found = self.look()?;
        self.found = Some(found);
        let verb = if self.purpose == Purpose::Write {
            "writing"
        } else {
            "checking"
        };
        self.progress.begin(verb, found.source);
        let (sender, receiver) = pipe::new();
        let format = found.format;
        let working = match (self.purpose, self.medium.clone()) {
            (Purpose::Write, Some(medium)) => {
                let (touched, progress) = (Arc::clone(&self.touched), Arc::clone(&self.progress));
                let bmap = self.bmap.clone();
                if format == Format::Raw {
                    touch(&medium, &touched)?;
                }
                spawn("write", move || {
                    write(format, receiver, (&medium, bmap, &touched), &progress).map(Some)
                })?
            }
            (Purpose::Look, _) if format != Format::Raw => {
                spawn("look", move || within(format, receiver).map(|()| None))?
            }
            _ => return Ok(()),
        };
        // The first bytes find a reader, or the reason why there is none is told by the thread.
        let _taken = sender.bytes(std::mem::take(&mut self.first));
        self.running = Some(Running { sender, working });
        Ok(())
    }

    fn look(&self) -> anyhow::Result<Found> {
        if self.first.is_empty() {
            bail!("it is empty");
        }
        let format = Format::of(&self.first).map_err(|what| anyhow!("it is {what}"))?;
        let whole = Some(self.came).filter(|came| *came < LOOKED_AT as u64);
        if format == Format::Zip {
            zip::look(&self.first)?;
        }
        let source = self.total.or(whole);
        let mapped = self.bmap.as_ref().map(|bmap| bmap.image);
        let image = format.unpacked(&self.first, source).max(self.size).max(mapped);
        if format == Format::Raw && self.proof == Proof::Length && self.total.or(self.size).is_none() {
            bail!(
                "nobody says how long it is, and without a proof its end could be a cut; give --size, --sha256 or --signature"
            );
        }
        if let Some(image) = image.filter(|image| *image > self.room) {
            bail!(
                "{}: too small, the image has {image} bytes and it has {}",
                self.device,
                self.room
            );
        }
        Ok(Found {
            format,
            source,
            image,
        })
    }

    fn take(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.came += bytes.len() as u64;
        self.progress.source(self.came);
        if let Some(running) = &self.running {
            if running.sender.bytes(bytes.to_vec()) {
                return Ok(());
            }
            return Err(self.reason());
        }
        if self.found.is_some() && self.purpose != Purpose::Write {
            return Ok(());
        }
        self.first.extend_from_slice(bytes);
        if self.first.len() < LOOKED_AT {
            return Ok(());
        }
        self.start()?;
        match self.purpose {
            Purpose::Look if self.running.is_none() => Err(only_looked_at()),
            _ => Ok(()),
        }
    }

    /// Why the threads have ended.
    fn reason(&mut self) -> anyhow::Error {
        let ended = self.running.take().map(|running| {
            drop(running.sender);
            outcome(running.working)
        });
        match ended {
            Some(Ok(None)) => only_looked_at(),
            Some(Err(error)) => {
                // What a look finds to be wrong was not found to be right.
                self.found = self.found.filter(|_| self.purpose != Purpose::Look);
                error
            }
            _ => behind(),
        }
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Sink for Job {
    fn begin(&mut self, total: Option<u64>) -> io::Result<()> {
        // What an earlier pass made is given up; the disk stays unusable meanwhile.
        self.stop();
        self.progress.begin("starting", total);
        self.first.clear();
        self.found = None;
        self.came = 0;
        self.total = total;
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.take(bytes).map_err(|error| {
            let short = io::Error::other(error.to_string());
            self.error = Some(error);
            short
        })
    }
}

fn behind() -> anyhow::Error {
    anyhow!("unpacking: something follows the end of the packed image")
}

fn only_looked_at() -> anyhow::Error {
    anyhow!("it was only looked at")
}

fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(work)
}

fn outcome<T>(thread: JoinHandle<anyhow::Result<T>>) -> anyhow::Result<T> {
    thread
        .join()
        .unwrap_or_else(|_| Err(anyhow!("a thread panicked")))
}

/// Makes the disk unusable, unless that was done.
fn touch(medium: &Medium, touched: &AtomicBool) -> anyhow::Result<()> {
    if !touched.swap(true, Ordering::SeqCst) {
        medium.blank()?;
        // The old partitions go at once, so that nobody mounts one of them now.
        medium.reread_partitions();
        medium.discard();
    }
    Ok(())
}

/// What is packed must be meant for a disk, too. It may be packed once more: a partition may hold such a thing.
fn judge(first: &[u8]) -> anyhow::Result<()> {
    match Format::of(first) {
        Ok(_) => Ok(()),
        Err(what) => bail!("what is packed in it is {what}"),
    }
}

/// Looks at the first bytes of what is packed.
fn within(format: Format, receiver: pipe::Receiver) -> anyhow::Result<()> {
    let mut first = Block::new(LOOKED_AT);
    fill(&mut first, &mut *unpack::reader(format, receiver)?)?;
    judge(first.part(0, first.filled))
}

/// Writes what another thread unpacks.
fn write(
    format: Format,
    receiver: pipe::Receiver,
    (medium, bmap, touched): (&Medium, Option<Arc<Bmap>>, &AtomicBool),
    progress: &Progress,
) -> anyhow::Result<Landed> {
    let mut writer = None;
    let (full, chunks) = mpsc::sync_channel::<Block>(CHUNKS);
    let (free, empty) = mpsc::channel();
    for _ in 0..CHUNKS {
        free.send(Block::new(CHUNK)).map_err(|_| anyhow!("no reader"))?;
    }
    let unpacking = spawn("unpack", move || -> anyhow::Result<()> {
        let mut reader = unpack::reader(format, receiver)?;
        while let Ok(mut chunk) = empty.recv() {
            fill(&mut chunk, &mut *reader)?;
            let last = chunk.filled < chunk.capacity();
            if full.send(chunk).is_err() || last {
                break;
            }
        }
        Ok(())
    })?;
    for mut chunk in chunks {
        if chunk.filled == 0 {
            continue;
        }
        let writer = match &mut writer {
            Some(writer) => writer,
            none => {
                judge(chunk.part(0, chunk.filled.min(LOOKED_AT)))?;
                touch(medium, touched)?;
                none.insert(Writer::new(medium, bmap.clone()))
            }
        };
        progress.at(writer.take(&mut chunk)?);
        // At the end nobody takes it any more.
        drop(free.send(chunk));
    }
    outcome(unpacking)?;
    match writer {
        Some(writer) => writer.finish(),
        None => bail!("the image is empty"),
    }
}

#[cfg(test)]
mod tests;
