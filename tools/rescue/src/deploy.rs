//! `rescue deploy`: an image onto a disk, streamed, proved, read back.
//!
//! Whatever may be wrong is looked for before the first write; after it the disk is unusable until everything was proved. The one
//! thing a reader would get wrong: the order of the last steps is what keeps half an image from being booted - proof, read back,
//! then the first megabyte.
//!
//! Files in reading order: `target` which disk, `source` where the bytes come from, `job` what they become, `format`, `unpack` and `zip`
//! how they were packed, `bmap` which of them mean something, `write` and `medium` how they get onto the disk, `pipe` and `block` in between, `report` what
//! is seen, `worker` the process that a lost session does not end.

use crate::progress::Progress;
use crate::work::{self, Lock, Place, Purpose as Work};
use crate::{control, output};
use anyhow::{Context as _, anyhow, bail};
use argh::FromArgs;
use bmap::Bmap;
use job::{Job, Proof, Purpose};
use lifeboot_contract::plan::{Plan, Verify};
use lifeboot_init::stage::fetch::Saved;
use medium::Medium;
use report::Report;
use source::Source;
use std::io::{IsTerminal as _, Write as _, stderr, stdin};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use target::Target;

pub mod block;
pub mod bmap;
mod bytes;
pub mod format;
mod job;
mod medium;
pub mod pipe;
mod report;
pub mod source;
pub mod target;
pub mod unmount;
pub mod unpack;
mod worker;
pub mod write;
pub mod zip;

pub use worker::{MANNER, work};

/// What `-` means; `main` makes the one of the other.
pub const STDIN: &str = "/dev/stdin";

/// write an image to a disk, checked before the disk becomes usable
#[derive(Debug, FromArgs)]
#[cfg_attr(test, derive(argh::ArgsInfo))]
#[argh(
    subcommand,
    name = "deploy",
    note = "SOURCE is an http:// or https:// URL, a file, or - for standard input: raw, or packed with gzip, xz, zstd, bzip2 or zip (one file called .img, or one file), which its first bytes tell. It must prove itself as it is served, packed: by SOURCE.minisig of a key in the image, by --sha256, or not at all with --no-verify. The proof of what is streamed is only known at its end, so the disk has no partition table from the first write to the last check: the first megabyte is written last, after everything else was read back from the disk. Power may fail at any moment.\n\nA disk that is mounted, open or too small is refused before anything is written. A cut connection is resumed. If it ends with an error, it says whether the disk was touched; run it again.\n\nIt goes on when the session is cut: 'rescue disks' then shows that it runs, and the log in /run/lifeboot/log/ how far it is and how it ended. Only standard input ends with its session. Ctrl-C stops it.",
    example = "See what would happen, and that the signature is there:\n$ {command_name} --dry-run http://boot.example/pi.img.zst /dev/mmcblk0\nDo it; model, serial and size are shown and confirmed:\n$ {command_name} http://boot.example/pi.img.zst /dev/mmcblk0\nFrom your own machine, through ssh:\n$ ssh root@device {command_name} --yes --sha256 9f86d0… - /dev/sda <pi.img.xz\nFor a script:\n$ {command_name} --yes --json http://boot.example/pi.img.xz /dev/nvme0n1"
)]
pub struct Deploy {
    /// the SHA-256 of SOURCE, packed as it is
    #[argh(option, arg_name = "hex")]
    sha256: Option<String>,
    /// minisign file of SOURCE (default: SOURCE.minisig)
    #[argh(option, arg_name = "file")]
    signature: Option<PathBuf>,
    /// write whatever comes
    #[argh(switch)]
    no_verify: bool,
    /// write only what a bmap says that the image has: a file, a URL, or beside for SOURCE.bmap; proved by its own .minisig unless --bmap-sha256 or --no-verify is given
    #[argh(option, arg_name = "file")]
    bmap: Option<String>,
    /// the SHA-256 of the bmap
    #[argh(option, arg_name = "hex")]
    bmap_sha256: Option<String>,
    /// bytes of the unpacked image, with K, M, G or T for powers of 1024: refused early when the disk is smaller, and late when it is not so many
    #[argh(option, arg_name = "bytes", from_str_fn(bytes::parse))]
    size: Option<u64>,
    /// do not ask
    #[argh(switch)]
    yes: bool,
    /// check what can be checked, write nothing
    #[argh(switch)]
    dry_run: bool,
    /// print JSON
    #[argh(switch)]
    json: bool,
    /// URL, file, or -
    #[argh(positional)]
    source: String,
    /// disk or partition
    #[argh(positional)]
    device: String,
}

/// Deploys.
///
/// # Errors
/// What is said on standard error, with whether the disk was touched; with `--json` also in the report.
pub fn run(options: &Deploy) -> anyhow::Result<ExitCode> {
    in_place(options, Place::Elsewhere)
}

fn in_place(options: &Deploy, place: Place) -> anyhow::Result<ExitCode> {
    let mut plan = control::plan(&control::run_dir()).unwrap_or_default();
    match verification(options) {
        Ok(verify) => plan.verify = verify,
        Err(what) => return usage(&what),
    }
    if options.bmap_sha256.is_some() && options.bmap.is_none() {
        return usage("--bmap-sha256 is of a bmap: give --bmap");
    }
    let elsewhere = place == Place::Elsewhere && !options.dry_run && options.source != STDIN;
    if elsewhere && options.yes {
        // Nobody is to be asked, so the process there looks at everything, and nothing is looked at twice.
        return work::start(&MANNER, &worker::words(options));
    }
    let source = Source::parse(&options.source, options.signature.as_deref(), &plan)?;
    let target = Target::find(&options.device, plan.key_partition.as_ref())?;
    let lock = match options.dry_run {
        true => None,
        false => Some(work::take(&target.disk.device, Work::Deploy)?),
    };
    let is_source = |device: &str| {
        let number = std::fs::metadata(device).map(|meta| meta.rdev()).ok();
        number.is_some() && number == source.block_device()
    };
    if let Some(refusal) = target.refusal().or_else(|| target.overlap(is_source)) {
        bail!(refusal);
    }
    if let Some(refusal) = options.size.and_then(|size| target.too_small(size)) {
        bail!(refusal);
    }
    if plan.verify == Verify::Required && source::trusted_keys(|_| ()).is_empty() {
        bail!(
            "{}: nothing can prove it, this image trusts no key (hint: --sha256 HEX names what it must be, \
             --no-verify writes whatever comes)",
            options.source
        );
    }
    let verify_bmap = match verification_of_bmap(options) {
        Ok(verify) => verify,
        Err(what) => return usage(&what),
    };
    if !options.dry_run
        && let Consent::Refused(what) = consent(options, &target)?
    {
        return usage(&what);
    }
    if elsewhere {
        // The process there takes it.
        drop(lock);
        return work::start(&MANNER, &worker::words(options));
    }
    if place == Place::Here {
        let title = format!("rescue deploy {}", worker::words(options).join(" "));
        work::keep_log(Work::Deploy, &target.disk.device, &title)?;
    }
    let (touched, whole) = (Arc::default(), Arc::default());
    worker::leave_word(&target.disk.device, &touched, &whole)?;
    let mut deployment = Deployment {
        options,
        plan: &plan,
        source,
        target,
        bmap: None,
        progress: Arc::new(Progress::new()),
        report: Report::new(&options.source),
        touched,
        whole,
        lock,
    };
    if let Some(place) = &options.bmap {
        deployment.bmap = Some(Arc::new(deployment.read_bmap(place, verify_bmap)?));
    }
    deployment.report.about(&deployment.target);
    if options.dry_run {
        deployment.dry()?;
        return Ok(ExitCode::SUCCESS);
    }
    deployment.wet()
}

fn usage(what: &str) -> anyhow::Result<ExitCode> {
    output::complain(&format!("rescue: {what}"));
    Ok(ExitCode::from(2))
}

/// What the source must satisfy. What the boot wants of its OS image is not asked: that is another file.
fn verification(options: &Deploy) -> Result<Verify, String> {
    let given = [
        options.sha256.is_some(),
        options.signature.is_some(),
        options.no_verify,
    ];
    if given.iter().filter(|given| **given).count() > 1 {
        return Err("--sha256, --signature and --no-verify contradict each other".to_owned());
    }
    match &options.sha256 {
        Some(hex) => Verify::parse(&format!("sha256:{}", hex.to_lowercase())),
        None if options.no_verify => Ok(Verify::Off),
        None if options.source == STDIN && options.signature.is_none() => Err(
            "standard input has no signature beside it: give --sha256, --signature or --no-verify".to_owned(),
        ),
        None => Ok(Verify::Required),
    }
}

/// What a bmap must satisfy: a forged one would leave out what the image needs to be zeros.
fn verification_of_bmap(options: &Deploy) -> Result<Verify, String> {
    match &options.bmap_sha256 {
        Some(hex) => Verify::parse(&format!("sha256:{}", hex.to_lowercase())),
        None if options.no_verify => Ok(Verify::Off),
        None => Ok(Verify::Required),
    }
}

/// Whether the disk may be overwritten.
enum Consent {
    Given,
    Refused(String),
}

fn consent(options: &Deploy, target: &Target) -> anyhow::Result<Consent> {
    let device = &target.disk.device;
    if options.yes {
        return Ok(Consent::Given);
    }
    if target.has_keys {
        return Ok(Consent::Refused(format!(
            "{device} has the key partition of this machine; --yes overwrites it all the same"
        )));
    }
    if options.source == STDIN || !stdin().is_terminal() {
        return Ok(Consent::Refused(format!(
            "{device}: nobody can be asked here; --yes overwrites it without asking"
        )));
    }
    output::complain(&format!("{}\n", target.title()));
    target.contents().iter().for_each(|line| output::complain(line));
    write!(
        stderr(),
        "\nAll of it is overwritten by {}. Type 'yes' to go on: ",
        options.source
    )?;
    let mut answer = String::new();
    stdin().read_line(&mut answer)?;
    match answer.trim() {
        "yes" => Ok(Consent::Given),
        _ => bail!("{device}: left as it is"),
    }
}

/// Everything that is known when it begins.
struct Deployment<'a> {
    options: &'a Deploy,
    plan: &'a Plan,
    source: Source,
    target: Target,
    bmap: Option<Arc<Bmap>>,
    progress: Arc<Progress>,
    report: Report,
    /// Whether anything was written.
    touched: Arc<AtomicBool>,
    /// Whether all of it was.
    whole: Arc<AtomicBool>,
    /// That nobody else writes to the disk meanwhile.
    lock: Option<Lock>,
}

impl Deployment<'_> {
    fn job(&self, purpose: Purpose) -> Job {
        let proof = match self.plan.verify {
            Verify::Off => Proof::Length,
            _ => Proof::Whole,
        };
        let disk = (self.target.disk.device.as_str(), self.target.disk.size);
        let mut job = Job::new(purpose, proof, disk, Arc::clone(&self.progress));
        job.size = self.options.size;
        job.bmap = self.bmap.clone();
        job.touched = Arc::clone(&self.touched);
        job
    }

    /// Reads the bmap and checks it, whole before anything is written.
    fn read_bmap(&self, place: &str, verify: Verify) -> anyhow::Result<Bmap> {
        let beside = format!("{}.bmap", self.options.source);
        let place = match place {
            "beside" => &beside,
            place => place,
        };
        let mut plan = self.plan.clone();
        plan.verify = verify;
        let mut text = source::Little::new(bmap::LONGEST);
        Source::parse(place, None, &plan)?.give(&plan, &mut text, &self.progress)?;
        let bmap = Bmap::parse(&text.bytes).map_err(|what| anyhow!("{place}: {what}"))?;
        match self.target.too_small(bmap.image) {
            Some(refusal) => bail!(refusal),
            None => Ok(bmap),
        }
    }

    /// Says what would be done.
    fn dry(mut self) -> anyhow::Result<()> {
        // Closed again at once: nobody else uses it, which only the kernel knows for certain.
        Medium::open(Path::new(&self.target.disk.device))?;
        let mut job = self.job(Purpose::Look);
        if !self.source.is_stdin() {
            let looked = self.source.give(self.plan, &mut job, &self.progress);
            // Stopping is how it learns that it has seen enough; and whatever is shorter than that comes to its end.
            let seen_enough = job.found.is_some();
            match (looked, job.error.take()) {
                (Ok(_), _) => job.look_at_all().context(self.options.source.clone())?,
                (Err(_), Some(_)) if seen_enough => {}
                (Err(_), Some(error)) => return Err(error).context(self.options.source.clone()),
                (Err(error), None) => return Err(error),
            }
        }
        self.report.found(job.found);
        self.report.would = true;
        if self.options.json {
            return Ok(output::line(&self.report.json()?)?);
        }
        let mut lines = vec![self.target.title(), String::new()];
        lines.extend(self.target.contents());
        lines.push(String::new());
        lines.push(self.report.would_do());
        Ok(output::lines(lines.iter().map(String::as_str))?)
    }

    /// Does it.
    fn wet(mut self) -> anyhow::Result<ExitCode> {
        let started = Instant::now();
        let done = self.carry_out();
        self.progress.end();
        self.lock = None;
        self.report.seconds = started.elapsed().as_secs_f64();
        match done {
            Ok(()) => self.report.contents(&self.target.disk.device)?,
            Err(error) if self.options.json => {
                self.report.error = Some(format!("{error:#}"));
                output::line(&self.report.json()?)?;
                return Err(error);
            }
            Err(error) => {
                let device = &self.target.disk.device;
                return Err(error.context(report::state(device, self.report.touched)));
            }
        }
        match self.options.json {
            true => output::line(&self.report.json()?)?,
            false => output::lines(self.report.lines().iter().map(String::as_str))?,
        }
        Ok(ExitCode::SUCCESS)
    }

    fn carry_out(&mut self) -> anyhow::Result<()> {
        if self.source.can_be_read_twice() {
            // The proof can be had before the first write, so it is.
            self.progress.begin("checking", None);
            let mut job = self.job(Purpose::Check);
            self.pass(&mut job)?;
        }
        let medium = Arc::new(Medium::open(Path::new(&self.target.disk.device))?);
        let mut job = self.job(Purpose::Write);
        job.room = medium.size();
        job.medium = Some(Arc::clone(&medium));
        let landed = self.pass(&mut job).and_then(|saved| {
            self.report.saved(&saved);
            job.finish()
        });
        // Whether the disk was touched is only certain when nobody can touch it any more.
        job.stop();
        self.report.found(job.found);
        self.report.touched = self.touched.load(Ordering::SeqCst);
        let landed = landed?;
        self.progress.begin("reading back", Some(landed.len));
        landed.check(&medium, &*self.progress)?;
        landed.commit(&medium)?;
        self.whole.store(true, Ordering::SeqCst);
        self.report.landed(&landed);
        medium.reread_partitions();
        Ok(())
    }

    /// Gives the source to a job, and finds the best words for what goes wrong.
    fn pass(&mut self, job: &mut Job) -> anyhow::Result<Saved> {
        let given = self.source.give(self.plan, job, &self.progress);
        match (given, job.error.take()) {
            (Ok(saved), _) => Ok(saved),
            (Err(_), Some(error)) => Err(error.context(self.options.source.clone())),
            (Err(error), None) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests;
