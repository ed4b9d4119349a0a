//! Reading a backup back: the bytes as they lie there by their digest, and unpacked against what was read from the disk.

use super::target::Target;
use crate::deploy::block::Block;
use crate::deploy::format::Format;
use crate::deploy::pipe;
use crate::deploy::source::Source;
use crate::deploy::unpack;
use crate::deploy::write::{CHUNK, fill, sum};
use crate::progress::{Progress, Watch as _};
use anyhow::{Context as _, anyhow, bail};
use lifeboot_contract::plan::{Plan, Verify};
use lifeboot_init::stage::fetch::Sink;
use rustix::fs::{Advice, fadvise};
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

/// Reads `target` back, which must have that digest, and unpacked those sums of chunks and `size` bytes.
///
/// # Errors
/// It has not, or cannot be read.
pub fn verify(
    target: &Target,
    plan: &Plan,
    (digest, sums): (&str, &Arc<Vec<u64>>),
    (format, size): (Format, u64),
    progress: &Arc<Progress>,
) -> anyhow::Result<()> {
    let source = match target {
        Target::Stdout => bail!("what went to standard output cannot be read back"),
        Target::Url(url) => Source::Url(url.to_string()),
        Target::File(path) => {
            let file = File::open(path).with_context(|| path.display().to_string())?;
            // From the disk it lies on, not from memory.
            fadvise(&file, 0, None, Advice::DontNeed).context("dropping caches")?;
            Source::File {
                path: path.clone(),
                signature: PathBuf::new(),
            }
        }
    };
    let mut plan = plan.clone();
    plan.verify = Verify::parse(&format!("sha256:{digest}")).map_err(|what| anyhow!(what))?;
    let mut comparison = Comparison {
        sums: Arc::clone(sums),
        format,
        size,
        came: 0,
        progress: Arc::clone(progress),
        running: None,
    };
    let given = source.give(&plan, &mut comparison, progress);
    if !comparison.has_begun() {
        return given.and_then(|_| Err(anyhow!("it is empty")));
    }
    // What the thread found is the better reason.
    let compared = comparison.finish(given.is_ok());
    match (given, compared) {
        (Ok(_), compared) => compared,
        (Err(_), Err(error)) if !error.chain().any(|cause| cause.to_string() == pipe::BROKE_OFF) => {
            Err(error)
        }
        (Err(error), _) => Err(error),
    }
}

/// Compares what comes with what was read, unpacked by a thread.
struct Comparison {
    sums: Arc<Vec<u64>>,
    format: Format,
    size: u64,
    came: u64,
    progress: Arc<Progress>,
    running: Option<(pipe::Sender, JoinHandle<anyhow::Result<()>>)>,
}

impl Comparison {
    fn has_begun(&self) -> bool {
        self.running.is_some()
    }

    fn finish(&mut self, whole: bool) -> anyhow::Result<()> {
        let Some((sender, thread)) = self.running.take() else {
            return Ok(());
        };
        // One that has ended early says why.
        let _taken = match whole {
            true => sender.end(),
            false => {
                drop(sender);
                false
            }
        };
        thread
            .join()
            .unwrap_or_else(|_| Err(anyhow!("a thread panicked")))
    }
}

impl Sink for Comparison {
    fn begin(&mut self, total: Option<u64>) -> io::Result<()> {
        drop(self.finish(false));
        self.came = 0;
        self.progress.begin("verifying", total);
        let (sender, receiver) = pipe::new();
        let (sums, format, size) = (Arc::clone(&self.sums), self.format, self.size);
        let thread = std::thread::Builder::new()
            .name("compare".to_owned())
            .spawn(move || compare(format, receiver, &sums, size))?;
        self.running = Some((sender, thread));
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.came += bytes.len() as u64;
        // They are what is gone through; there is nothing that they come from.
        self.progress.at(self.came);
        match &self.running {
            Some((sender, _)) if sender.bytes(bytes.to_vec()) => Ok(()),
            _ => Err(io::Error::other("it is not what was read")),
        }
    }
}

fn compare(format: Format, receiver: pipe::Receiver, sums: &[u64], size: u64) -> anyhow::Result<()> {
    let mut reader = unpack::reader(format, receiver)?;
    let mut chunk = Block::new(CHUNK);
    let mut at = 0;
    for known in sums {
        fill(&mut chunk, &mut *reader)?;
        if sum(chunk.part(0, chunk.filled)) != *known {
            bail!(
                "the image differs from the disk between byte {at} and byte {}",
                at + CHUNK as u64
            );
        }
        at += chunk.filled as u64;
    }
    fill(&mut chunk, &mut *reader)?;
    match at == size && chunk.filled == 0 {
        true => Ok(()),
        false => bail!("the image has not the {size} bytes of the disk"),
    }
}

#[cfg(test)]
mod tests;
