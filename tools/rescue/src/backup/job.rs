//! One backup: read, packed and sent by three threads, then its digest, then read back.

use super::copy::{Copied, Unreadable, copy};
use super::origin::Origin;
use super::pack::{Out, Packing, pack};
use super::put::{Method, Trouble, Upload};
use super::report::{Outcome, Report};
use super::target::{Kept, Partial, Sink, Target, digest_file};
use super::verify;
use super::wanted::Wanted;
use super::witness::GONE;
use super::{Backup, STDOUT, in_use, packing};
use crate::deploy::block::Block;
use crate::deploy::bmap::hex;
use crate::deploy::format::Format;
use crate::deploy::pipe;
use crate::deploy::target::Target as Device;
use crate::deploy::write::CHUNK;
use crate::disks::human;
use crate::ended;
use crate::output;
use crate::progress::Progress;
use anyhow::{Context as _, anyhow, bail};
use lifeboot_contract::plan::Plan;
use lifeboot_init::stage::fetch::Limits;
use ring::digest::{Context, SHA256};
use std::io::{self, ErrorKind, Read as _};
use std::process::ExitCode;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Blocks between reading and packing.
const BLOCKS: usize = 3;
/// How often a whole upload is tried before it is given up.
const TRIES: u32 = 3;
/// Before the second of them; before the third twice as long.
const PAUSE: Duration = Duration::from_secs(2);

/// Everything that is known when it begins.
pub struct Job<'o> {
    pub options: &'o Backup,
    pub plan: Plan,
    pub device: Device,
    pub origin: Arc<Origin>,
    pub wanted: Arc<Wanted>,
    pub target: Target,
    pub kept: Kept,
    pub progress: Arc<Progress>,
    pub report: Report,
}

impl Job<'_> {
    /// Says what would be done.
    ///
    /// # Errors
    /// Nobody reads it.
    pub fn dry(mut self) -> anyhow::Result<ExitCode> {
        self.report.outcome = Outcome::Would;
        if self.options.json {
            output::line(&self.json()?)?;
            return Ok(ExitCode::SUCCESS);
        }
        let mut lines = vec![self.device.title()];
        lines.extend(self.report.plan());
        lines.push(format!(
            "Would read {} of {} into {} ({}). Nothing was written.",
            human(self.report.wanted_bytes),
            human(self.report.size),
            self.report.target,
            self.report.format
        ));
        match self.options.target == STDOUT {
            true => lines.iter().for_each(|line| output::complain(line)),
            false => output::lines(lines.iter().map(String::as_str))?,
        }
        Ok(ExitCode::SUCCESS)
    }

    fn json(&self) -> anyhow::Result<String> {
        serde_json::to_string_pretty(&self.report).context("report")
    }

    /// Does it.
    ///
    /// # Errors
    /// What is said on standard error.
    pub fn wet(mut self) -> anyhow::Result<ExitCode> {
        let kept = self.kept.clone();
        ended::on_signal(move || {
            kept.remove();
            "no backup was made".to_owned()
        })?;
        let started = Instant::now();
        let done = self.carry_out();
        self.progress.end();
        self.report.seconds = started.elapsed().as_secs_f64();
        if let Err(error) = done {
            self.report.error = Some(format!("{error:#}"));
            if self.options.json {
                output::line(&self.json()?)?;
            }
            return Err(error);
        }
        let damaged = !self.report.unread.is_empty();
        self.report.outcome = if damaged { Outcome::Damaged } else { Outcome::Done };
        match (self.options.json, &self.target) {
            (true, _) => output::line(&self.json()?)?,
            (false, Target::Stdout) => self.report.lines().iter().for_each(|line| output::complain(line)),
            (false, _) => output::lines(self.report.lines().iter().map(String::as_str))?,
        }
        Ok(if damaged {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        })
    }

    fn carry_out(&mut self) -> anyhow::Result<()> {
        let copied = self.tries()?;
        self.report.read_bytes = copied.read;
        self.report.unread = copied.gaps;
        self.leave_digest()?;
        if self.options.verify {
            let digest = self.report.sha256.clone().unwrap_or_default();
            let format = match packing(self.options) {
                Packing::Zstd => Format::Zstd,
                Packing::Raw => Format::Raw,
            };
            let unpacked = (format, self.report.size);
            verify::verify(
                &self.target,
                &self.plan,
                (&digest, &copied.sums.into()),
                unpacked,
                &self.progress,
            )
            .context("the backup was written and does not read back as it should")?;
            self.report.verified = true;
        }
        Ok(())
    }

    /// That what was read is a disk, and not some of it as it was and some as it is.
    fn unchanged(&self) -> anyhow::Result<()> {
        const CHANGED: &str = "it has changed while it was read";
        let name = &self.origin.name;
        if self.origin.witness.is_gone() {
            bail!("{name}: {GONE}");
        }
        // Nobody could mount it while it was held; where it was mounted for reading before, somebody may have changed that.
        if !self.origin.exclusive
            && let Some(refusal) = in_use::refusal(&Device::find(&self.device.disk.device, None)?)?
        {
            bail!("{CHANGED}: {refusal}");
        }
        // And who has unmounted it again has left this.
        if let Some((device, sectors)) = self.origin.witness.written() {
            bail!("{name}: {CHANGED}: {sectors} sectors of {device} were written or discarded meanwhile");
        }
        Ok(())
    }

    fn tries(&mut self) -> anyhow::Result<Copied> {
        let again = matches!(self.target, Target::Url(_)) && !self.options.post;
        let most = if again { TRIES } else { 1 };
        for tried in 1.. {
            match self.once() {
                Ok(copied) => return Ok(copied),
                Err(Trouble::Cut(error)) if tried < most => {
                    self.progress
                        .say(&format!("{error:#}; begun again from the first byte"));
                    std::thread::sleep(PAUSE * tried);
                }
                Err(trouble) => return Err(trouble.into_error()),
            }
        }
        bail!("no try was made")
    }

    /// All of the disk, once. What went wrong where it went to is worth more words than that nobody took it any more.
    fn once(&mut self) -> Result<Copied, Trouble> {
        let packing = packing(self.options);
        let method = if self.options.post {
            Method::Post
        } else {
            Method::Put
        };
        let length = (packing == Packing::Raw).then_some(self.origin.size);
        let mut sink = self.target.open(method, length, &self.kept)?;
        self.progress.begin("reading", Some(self.report.wanted_bytes));
        let (sender, mut receiver) = pipe::new();
        let working = self.start(packing, sender).map_err(Trouble::Final)?;
        let mut digest = Context::new(&SHA256);
        let mut buffer = vec![0; 256 << 10];
        // The last piece: without it nothing that is whole is anywhere, and it goes only when it is known to be true.
        let mut held = Vec::with_capacity(buffer.len());
        let mut packed = 0;
        let poured = loop {
            let count = match receiver.read(&mut buffer) {
                Ok(0) => break self.conclude(sink, &held),
                Ok(count) => count,
                // Why, the thread tells.
                Err(error) => break Err(Trouble::Final(error.into())),
            };
            let bytes = buffer.get(..count).unwrap_or_default();
            digest.update(bytes);
            packed += count as u64;
            if let Err(trouble) = sink.put(&held) {
                break Err(trouble);
            }
            held.clear();
            held.extend_from_slice(bytes);
        };
        drop(receiver);
        let worked = working
            .join()
            .unwrap_or_else(|_| Err(anyhow!("a thread panicked")));
        let copied = match (worked, poured) {
            (Ok(copied), Ok(())) => copied,
            (Err(error), _) if !is_unheeded(&error) => return Err(Trouble::Final(error)),
            (_, Err(trouble)) => return Err(trouble),
            (Err(error), Ok(())) => return Err(Trouble::Final(error)),
        };
        self.report.packed_bytes = packed;
        self.report.sha256 = Some(hex(digest.finish().as_ref()));
        Ok(copied)
    }

    fn conclude(&self, mut sink: Sink, last: &[u8]) -> Result<(), Trouble> {
        self.unchanged().map_err(Trouble::Final)?;
        sink.put(last)?;
        sink.finish()
    }

    /// Reads and packs, each in a thread; all of it went into `sender` when the second of them returns well.
    fn start(
        &self,
        packing: Packing,
        sender: pipe::Sender,
    ) -> anyhow::Result<JoinHandle<anyhow::Result<Copied>>> {
        let (full, blocks) = mpsc::sync_channel(BLOCKS);
        let (free, empty) = mpsc::channel();
        for _ in 0..BLOCKS {
            free.send(Block::new(CHUNK)).context("blocks")?;
        }
        let (origin, wanted) = (Arc::clone(&self.origin), Arc::clone(&self.wanted));
        let (progress, size) = (Arc::clone(&self.progress), origin.size);
        let unreadable = match self.options.skip_errors {
            true => Unreadable::Zeros,
            false => Unreadable::Fail,
        };
        let reading = spawn("read", move || {
            copy(&origin, &wanted, unreadable, (full, empty), &progress)
        })?;
        spawn("pack", move || {
            let mut out = Out(sender);
            let packed = pack(packing, size, (&blocks, &free), &mut out);
            // Whoever reads learns that nobody takes it.
            drop((blocks, free));
            let copied = reading
                .join()
                .unwrap_or_else(|_| Err(anyhow!("a thread panicked")));
            match (copied, packed) {
                (Ok(copied), Ok(())) if out.0.end() => Ok(copied),
                (Err(error), _) if !is_unheeded(&error) => Err(error),
                (_, Err(error)) | (Err(error), _) => Err(error),
                (Ok(_), Ok(())) => Err(io::Error::from(ErrorKind::BrokenPipe).into()),
            }
        })
    }

    /// The digest, beside the image.
    fn leave_digest(&self) -> anyhow::Result<()> {
        let text = format!("{}\n", self.report.digest());
        let left = match &self.target {
            Target::Url(url) if !self.options.post => {
                let mut url = url.clone();
                url.set_path(&format!("{}.sha256", url.path()));
                let length = Some(text.len() as u64);
                Upload::begin(&url, Method::Put, length, &Limits::default())
                    .map(|upload| Sink::Upload(Box::new(upload)))
                    .and_then(|mut sink| {
                        sink.put(text.as_bytes())?;
                        sink.finish()
                    })
                    .map_err(Trouble::into_error)
            }
            Target::File(path) => {
                let mut file = Partial::create(&digest_file(path), false, &self.kept)?;
                file.put(text.as_bytes())
                    .and_then(|()| file.keep())
                    .map_err(Into::into)
            }
            // Told with the rest.
            _ => Ok(()),
        };
        left.context("the image is there, but its digest file is not")
    }
}

fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> anyhow::Result<JoinHandle<T>> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .with_context(|| name.to_owned())
}

/// Whether an error only says that the next one in line has given up.
fn is_unheeded(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|error| error.kind() == ErrorKind::BrokenPipe)
}
