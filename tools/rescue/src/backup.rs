//! `rescue backup`: a disk into an image that `rescue deploy` writes back, with nothing left out that anybody could miss.
//!
//! The one thing a reader would get wrong: what a file system does not use is zeros in the image, and which that is must be certain. Whatever
//! is not certain is read.
//!
//! Files in reading order: `target` where it goes, `origin` the disk, `survey` what is on it with `layout`, `ext4`, `fat` and `wanted`,
//! `copy` reading, `pack` packing, `put` and `answer` sending, `verify` reading back, `report` what is seen.

use crate::deploy::block::Block;
use crate::deploy::bmap::hex;
use crate::deploy::format::Format;
use crate::deploy::pipe;
use crate::deploy::target::Target as Device;
use crate::deploy::write::CHUNK;
use crate::disks::human;
use crate::progress::Progress;
use crate::{control, output};
use anyhow::{Context as _, anyhow, bail};
use argh::FromArgs;
use copy::{Copied, Unreadable, copy};
use lifeboot_contract::plan::Plan;
use lifeboot_init::stage::fetch::Limits;
use origin::Origin;
use pack::{Out, Packing, pack};
use put::{Method, Trouble, Upload};
use report::{Outcome, Report};
use ring::digest::{Context, SHA256};
use std::io::{self, ErrorKind, Read as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use survey::{blkid, survey};
use target::{Kept, Partial, Sink, Target, digest_file};
use wanted::Wanted;

mod answer;
mod copy;
mod ext4;
mod fat;
mod in_use;
mod layout;
mod origin;
mod pack;
mod put;
mod report;
mod survey;
mod target;
mod verify;
mod wanted;

/// What `-` means; `main` makes the one of the other.
pub const STDOUT: &str = "/dev/stdout";

/// Blocks between reading and packing.
const BLOCKS: usize = 3;
/// How often a whole upload is tried before it is given up.
const TRIES: u32 = 3;
/// Before the second of them; before the third twice as long.
const PAUSE: Duration = Duration::from_secs(2);

/// read a disk into an image that deploy writes back
#[derive(Debug, FromArgs)]
#[cfg_attr(test, derive(argh::ArgsInfo))]
#[argh(
    subcommand,
    name = "backup",
    note = "TARGET is an http:// or https:// URL, a file that is not there yet, or - for\nstandard output. In a URL {{serial}}, {{mac}} and the other templates may be used.\nThe image has all of the disk, its partition table included, packed with zstd;\n'rescue deploy' writes it to a disk of that size or larger.\n\nWhat ext2, ext3, ext4 and FAT say that nobody uses is zeros in it and is not\nread. That is believed only of a file system that is whole and was closed in\norder; of everything else all is read. --dry-run tells which it is.\n\nBeside the image lies its SHA-256: NAME.sha256, as sha256sum writes it; for\nstandard output it is told on standard error.\n\nA disk that is mounted for writing is refused: it would change while it is read.\nA sector that cannot be read ends the backup; docs/rescue-a-dying-disk.md has\nwhat to do then. With --skip-errors it becomes zeros, is told, and the exit code\nis 1: that image is not the whole disk.\n\nAn upload that is cut is begun again, three times, unless it is a POST. A server\nthat says that it has everything before it was sent is not believed.",
    example = "What would be read, and why:\n$ {command_name} --dry-run /dev/mmcblk0 http://boot.example/{{serial}}.img.zst\nTo a server that takes PUT:\n$ {command_name} --verify /dev/mmcblk0 http://boot.example/{{serial}}.img.zst\nTo your own machine, through ssh:\n$ ssh root@device {command_name} /dev/mmcblk0 - >pi.img.zst\nTo another disk:\n$ mount /dev/sda1 /mnt && {command_name} --verify /dev/mmcblk0 /mnt/pi.img.zst"
)]
pub struct Backup {
    /// read everything, also what nobody uses
    #[argh(switch)]
    all_blocks: bool,
    /// do not pack
    #[argh(switch)]
    raw: bool,
    /// put zeros where the disk cannot be read, and go on
    #[argh(switch)]
    skip_errors: bool,
    /// read the image back, unpack it, and compare it with what was read from the disk
    #[argh(switch)]
    verify: bool,
    /// POST instead of PUT
    #[argh(switch)]
    post: bool,
    /// say what would be read, read nothing
    #[argh(switch)]
    dry_run: bool,
    /// print JSON
    #[argh(switch)]
    json: bool,
    /// disk or partition
    #[argh(positional)]
    device: String,
    /// URL, file, or -
    #[argh(positional)]
    target: String,
}

/// Backs up.
///
/// # Errors
/// What is said on standard error; with `--json` also in the report.
pub fn run(options: &Backup) -> anyhow::Result<ExitCode> {
    let plan = control::plan(&control::run_dir()).unwrap_or_default();
    let to_stdout = options.target == STDOUT;
    if let Some(what) = contradiction(options, to_stdout) {
        output::complain(&format!("rescue: {what}"));
        return Ok(ExitCode::from(2));
    }
    let target = Target::parse(&options.target, &plan)?;
    let device = Device::find(&options.device, None)?;
    if let Some(refusal) = in_use::refusal(&device)? {
        bail!(refusal);
    }
    let origin = Origin::open(Path::new(&device.disk.device))?;
    let (wanted, areas) = match options.all_blocks {
        true => (Wanted::all(origin.size), Vec::new()),
        false => survey(&origin, (origin.size, origin.sector), &|place| {
            blkid(&origin.name, place)
        }),
    };
    let report = Report {
        outcome: Outcome::Failed,
        device: device.disk.device.clone(),
        model: device.model.clone(),
        serial: device.serial.clone(),
        size: origin.size,
        target: target.name(),
        format: packing(options).word(),
        wanted_bytes: wanted.count(),
        read_bytes: 0,
        packed_bytes: 0,
        sha256: None,
        verified: false,
        unread: Vec::new(),
        areas,
        seconds: 0.0,
        error: None,
        file_name: target.file_name(),
    };
    if let Some(refusal) = target.refusal(report.wanted_bytes) {
        bail!(refusal);
    }
    let job = Job {
        options,
        plan,
        device,
        origin: Arc::new(origin),
        wanted: Arc::new(wanted),
        target,
        kept: Kept::default(),
        progress: Arc::new(Progress::new()),
        report,
    };
    match options.dry_run {
        true => job.dry(),
        false => job.wet(),
    }
}

fn contradiction(options: &Backup, to_stdout: bool) -> Option<&'static str> {
    let to_server = options.target.contains("://");
    match () {
        () if to_stdout && options.verify => {
            Some("what went to standard output cannot be read back: --verify")
        }
        () if to_stdout && options.json => Some("standard output is for the image: --json"),
        () if options.post && !to_server => Some("--post is for http:// and https:// URLs"),
        () => None,
    }
}

fn packing(options: &Backup) -> Packing {
    match options.raw {
        true => Packing::Raw,
        false => Packing::Zstd,
    }
}

/// Everything that is known when it begins.
struct Job<'o> {
    options: &'o Backup,
    plan: Plan,
    device: Device,
    origin: Arc<Origin>,
    wanted: Arc<Wanted>,
    target: Target,
    kept: Kept,
    progress: Arc<Progress>,
    report: Report,
}

impl Job<'_> {
    /// Says what would be done.
    fn dry(mut self) -> anyhow::Result<ExitCode> {
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
    fn wet(mut self) -> anyhow::Result<ExitCode> {
        in_use::on_signal(&self.kept)?;
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
        // Nobody could mount it while it was held; where it was mounted for reading before, somebody may have changed that.
        if !self.origin.exclusive
            && let Some(refusal) = in_use::refusal(&Device::find(&self.device.disk.device, None)?)?
        {
            bail!("it has changed while it was read: {refusal}");
        }
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
        let mut packed = 0;
        let poured = loop {
            let count = match receiver.read(&mut buffer) {
                Ok(0) => break sink.finish(),
                Ok(count) => count,
                // Why, the thread tells.
                Err(error) => break Err(Trouble::Final(error.into())),
            };
            let bytes = buffer.get(..count).unwrap_or_default();
            digest.update(bytes);
            packed += count as u64;
            if let Err(trouble) = sink.put(bytes) {
                break Err(trouble);
            }
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
