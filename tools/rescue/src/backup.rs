//! `rescue backup`: a disk into an image that `rescue deploy` writes back, with nothing left out that anybody could miss.
//!
//! The one thing a reader would get wrong: what a file system does not use is zeros in the image, and which that is must be certain. Whatever
//! is not certain is read.
//!
//! Files in reading order: `job` all of it, `target` where it goes, `origin` the disk, `witness` that nobody changes it, `survey` what is on it with `layout`, `ext4`, `fat`, `xfs`, `btrfs` and
//! `wanted`, `copy` reading, `pack` packing, `put` and `answer` sending, `verify` reading back, `report` what is seen.

use crate::deploy::target::Target as Device;
use crate::progress::Progress;
use crate::work::{self, Manner, Place, Purpose};
use crate::{control, output};
use anyhow::bail;
use argh::FromArgs;
use job::Job;
use origin::Origin;
use pack::Packing;
use report::{Outcome, Report};
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use survey::{blkid, survey};
use target::{Kept, Target};
use wanted::Wanted;

mod answer;
mod btrfs;
mod copy;
mod ext4;
mod fat;
mod in_use;
mod job;
mod layout;
mod origin;
mod pack;
mod put;
mod report;
#[cfg(test)]
mod sample;
pub mod sums;
mod survey;
mod target;
mod verify;
mod wanted;
mod witness;
mod xfs;

/// What `-` means; `main` makes the one of the other.
pub const STDOUT: &str = "/dev/stdout";

/// read a disk into an image that deploy writes back
#[derive(Debug, FromArgs)]
#[cfg_attr(test, derive(argh::ArgsInfo))]
#[argh(
    subcommand,
    name = "backup",
    note = "TARGET is an http:// or https:// URL, a file that is not there yet, or - for standard output. In a URL {{serial}}, {{mac}} and the other templates may be used. The image has all of the disk, its partition table included, packed with zstd; 'rescue deploy' writes it to a disk of that size or larger.\n\nWhat ext2, ext3, ext4, FAT, XFS and btrfs say that nobody uses is zeros in it and is not read. That is believed only of a file system that is whole and was closed in order; of everything else all is read. --dry-run tells which it is.\n\nBeside the image lies its SHA-256: NAME.sha256, as sha256sum writes it; for standard output it is told on standard error.\n\nA disk that is mounted for writing is refused: it would change while it is read. A sector that cannot be read ends the backup; docs/rescue-a-dying-disk.md has what to do then. With --skip-errors it becomes zeros, is told, and the exit code is 1: that image is not the whole disk.\n\nAn upload that is cut is begun again, three times, unless it is a POST. A server that says that it has everything before it was sent is not believed.\n\nIt goes on when the session is cut: 'rescue disks' then shows that it runs, and the log in /run/lifeboot/log/ how it ended. Only what goes to standard output ends with its session. Ctrl-C stops it.",
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

/// How it is watched: half a backup is none, so one Ctrl-C is enough.
pub const MANNER: Manner = Manner {
    worker: "backup-worker",
    warning: None,
    stopping: "Stopping.",
};

impl Backup {
    /// As it would be typed.
    fn words(&self) -> Vec<String> {
        let switches = [
            (self.all_blocks, "--all-blocks"),
            (self.raw, "--raw"),
            (self.skip_errors, "--skip-errors"),
            (self.verify, "--verify"),
            (self.post, "--post"),
            (self.json, "--json"),
        ];
        let switches = switches.iter().filter(|(is, _)| *is).map(|(_, word)| *word);
        let operands = [self.device.as_str(), self.target.as_str()];
        switches.chain(operands).map(str::to_owned).collect()
    }
}

/// Backs up.
///
/// # Errors
/// What is said on standard error; with `--json` also in the report.
pub fn run(options: &Backup) -> anyhow::Result<ExitCode> {
    in_place(options, Place::Elsewhere)
}

/// Becomes the process that backs up. `typed` are the words behind [`Manner::worker`].
///
/// # Errors
/// As [`run`].
pub fn work(typed: &[OsString]) -> anyhow::Result<ExitCode> {
    let options: Backup = work::parsed("backup", typed)?;
    let hold = work::begin(&format!("rescue backup {}", options.device))?;
    let ended = in_place(&options, Place::Here);
    work::tell("backup", &ended, &[("device", options.device.as_str())]);
    drop(hold);
    ended
}

fn in_place(options: &Backup, place: Place) -> anyhow::Result<ExitCode> {
    let plan = control::plan(&control::run_dir()).unwrap_or_default();
    let to_stdout = options.target == STDOUT;
    if let Some(what) = contradiction(options, to_stdout) {
        output::complain(&format!("rescue: {what}"));
        return Ok(ExitCode::from(2));
    }
    if place == Place::Elsewhere && !options.dry_run && !to_stdout {
        return work::start(&MANNER, &options.words());
    }
    let target = Target::parse(&options.target, &plan)?;
    let device = Device::find(&options.device, None)?;
    if let Some(refusal) = in_use::refusal(&device)? {
        bail!(refusal);
    }
    let _lock = match options.dry_run {
        true => None,
        false => Some(work::take(&device.disk.device, Purpose::Backup)?),
    };
    if place == Place::Here {
        work::keep_log(
            Purpose::Backup,
            &device.disk.device,
            &format!("rescue backup {}", device.disk.device),
        )?;
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
