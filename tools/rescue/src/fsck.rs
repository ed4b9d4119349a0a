//! `rescue fsck`: checks ext2/3/4 and FAT, and changes nothing unless told to.
//!
//! Whatever is uncertain turns repair off: a mounted file system is refused, a locked one is named, an unknown one is
//! left alone.

use crate::disks::{self, Disk, LUKS};
use crate::{control, output, tool};
use anyhow::{Context as _, bail};
use argh::FromArgs;
use serde::Serialize;
use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// check file systems, and repair them when told to
#[derive(Debug, FromArgs)]
#[cfg_attr(test, derive(argh::ArgsInfo))]
#[argh(
    subcommand,
    name = "fsck",
    note = "ext2, ext3, ext4 and FAT. Without --repair nothing is written. Mounted file systems are refused.",
    example = "Look at everything, change nothing:\n$ {command_name}\nRepair one:\n$ {command_name} --repair /dev/vda1\nFor a script:\n$ {command_name} --json LABEL=data"
)]
pub struct Fsck {
    /// write to the disk what the checker proposes
    #[argh(switch)]
    repair: bool,
    /// print JSON
    #[argh(switch)]
    json: bool,
    /// device, name, UUID=…, LABEL=… or 'all' (default: all, without --repair)
    #[argh(positional)]
    device: Option<String>,
}

/// Whether the checker may write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Look,
    Repair,
}

/// How it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    /// Nothing wrong.
    Clean,
    /// Something is wrong, and nothing was changed.
    Errors,
    /// Something was wrong and is not any more.
    Repaired,
    /// Something is still wrong.
    Unrepaired,
    /// It is mounted.
    Mounted,
    /// It is LUKS and locked, or the container of something else.
    Locked,
    /// No checker for it.
    Unsupported,
    /// The checker could not do its work.
    Failed,
}

/// What is said about one device.
#[derive(Debug, Serialize)]
struct Report {
    device: String,
    fs: Option<String>,
    outcome: Outcome,
    /// The sentence.
    text: String,
    /// Everything the checker said.
    log: Option<PathBuf>,
    /// How the checker ended.
    exit_code: Option<i32>,
}

/// The checkers there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Checker {
    Ext,
    Fat,
}

/// Checks.
///
/// # Errors
/// When it cannot be found out what to check.
pub fn run(options: &Fsck) -> anyhow::Result<ExitCode> {
    let mode = if options.repair { Mode::Repair } else { Mode::Look };
    if options.repair && options.device.is_none() {
        output::complain("rescue: --repair needs a device, or 'all'");
        return Ok(ExitCode::from(2));
    }
    let disks = disks::list()?;
    let named = options.device.as_deref().filter(|name| *name != "all");
    let reports: Vec<Report> = match named {
        Some(name) => vec![check(disks::find(&disks, name)?, mode)],
        None => disks
            .iter()
            .filter(|disk| concerns(disk))
            .map(|disk| check(disk, mode))
            .collect(),
    };
    if options.json {
        output::line(&serde_json::to_string_pretty(&reports).context("report")?)?;
    } else {
        output::lines(reports.iter().map(|report| report.text.as_str()))?;
    }
    if reports.is_empty() {
        bail!("there is no file system that can be checked here; 'rescue disks' shows what is there");
    }
    let good = |report: &Report| match report.outcome {
        Outcome::Clean | Outcome::Repaired => true,
        // Asked for everything, what is in use is passed over; asked for that one, it was not done.
        Outcome::Mounted | Outcome::Locked => named.is_none(),
        _ => false,
    };
    Ok(if reports.iter().all(good) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Whether a device is spoken of when everything is asked for: what can be checked, and what hides something.
fn concerns(disk: &Disk) -> bool {
    Checker::of(disk).is_some() || disk.luks == Some(disks::Luks::Locked)
}

/// Whether an ext journal has changes that the file system has not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Journal {
    Settled,
    Waits,
}

impl Checker {
    fn command(self, device: &str, mode: Mode) -> Command {
        let (name, words): (&str, &[&str]) = match (self, mode) {
            (Checker::Ext, Mode::Look) => ("e2fsck", &["-f", "-n"]),
            (Checker::Ext, Mode::Repair) => ("e2fsck", &["-f", "-y"]),
            (Checker::Fat, Mode::Look) => ("fsck.vfat", &["-n"]),
            (Checker::Fat, Mode::Repair) => ("fsck.vfat", &["-a"]),
        };
        tool::command(name, words.iter().copied().chain([device]))
    }

    fn outcome(self, code: Option<i32>, mode: Mode) -> Outcome {
        match self {
            Checker::Ext => ext_outcome(code, mode),
            Checker::Fat => fat_outcome(code),
        }
    }

    fn of(disk: &Disk) -> Option<Checker> {
        match disk.fs.as_deref()? {
            "ext2" | "ext3" | "ext4" | "ext4dev" => Some(Checker::Ext),
            "vfat" | "msdos" => Some(Checker::Fat),
            _ => None,
        }
    }
}

fn check(disk: &Disk, mode: Mode) -> Report {
    let report = |outcome, text: String| Report {
        device: disk.device.clone(),
        fs: disk.fs.clone(),
        outcome,
        text: format!("{}: {text}", disk.device),
        log: None,
        exit_code: None,
    };
    if let Some(point) = disk.mounted.first() {
        return report(
            Outcome::Mounted,
            format!("mounted on {point}, not checked; unmount it first."),
        );
    }
    let Some(checker) = Checker::of(disk) else {
        return match disk.fs.as_deref() {
            Some(LUKS) => match &disk.luks {
                Some(disks::Luks::Unlocked(inner)) => report(
                    Outcome::Locked,
                    format!("LUKS, unlocked; check what is in it: rescue fsck {inner}"),
                ),
                _ => report(
                    Outcome::Locked,
                    format!("LUKS, locked; unlock it first: rescue unlock {}", disk.device),
                ),
            },
            Some(fs) => report(
                Outcome::Unsupported,
                format!("{fs} is not checked here, only ext2, ext3, ext4 and FAT."),
            ),
            None => report(
                Outcome::Unsupported,
                "no file system was recognized on it.".to_owned(),
            ),
        };
    };
    match run_checker(checker, disk, mode) {
        Ok(report) => report,
        Err(error) => report(Outcome::Failed, format!("not checked: {error:#}.")),
    }
}

fn run_checker(checker: Checker, disk: &Disk, mode: Mode) -> anyhow::Result<Report> {
    // Before the check: a repair replays the journal.
    let journal = if checker == Checker::Ext && needs_replay(&disk.device) {
        Journal::Waits
    } else {
        Journal::Settled
    };
    let ended = tool::run(checker.command(&disk.device, mode))?;
    let mut said = [ended.stdout.as_slice(), &ended.stderr].concat();
    let mut outcome = checker.outcome(ended.status.code(), mode);
    if checker == Checker::Fat && mode == Mode::Repair && outcome == Outcome::Errors {
        // Its exit code is the same for what it repaired and what it did not: a second look tells.
        let again = tool::run(checker.command(&disk.device, Mode::Look))?;
        said.extend([again.stdout, again.stderr].concat());
        outcome = match checker.outcome(again.status.code(), Mode::Look) {
            Outcome::Clean => Outcome::Repaired,
            _ => Outcome::Unrepaired,
        };
    }
    let log = keep(&disk.device, &said)?;
    let (size, fs) = (disks::human(disk.size), disk.fs.clone().unwrap_or_default());
    let what = sentence(outcome, journal, &disk.device, &log);
    Ok(Report {
        device: disk.device.clone(),
        fs: disk.fs.clone(),
        outcome,
        text: format!("{} ({fs}, {size}): {what}", disk.device),
        log: Some(log),
        exit_code: ended.status.code(),
    })
}

/// What came of it, for people.
fn sentence(outcome: Outcome, journal: Journal, device: &str, log: &Path) -> String {
    let log = log.display();
    match (outcome, journal) {
        (Outcome::Clean, Journal::Settled) => "clean.".to_owned(),
        (Outcome::Clean, Journal::Waits) => {
            "clean, though not unmounted cleanly: its journal is replayed when it is mounted.".to_owned()
        }
        (Outcome::Errors, Journal::Waits) => format!(
            "not unmounted cleanly, and nothing was changed; its journal is replayed by: rescue fsck --repair {device}"
        ),
        (Outcome::Errors, Journal::Settled) => {
            format!("errors were found and nothing was changed; repair with: rescue fsck --repair {device}")
        }
        (Outcome::Repaired, _) => format!("errors were found and repaired; details in {log}."),
        (Outcome::Unrepaired, _) => format!("errors are left that could not be repaired; details in {log}."),
        _ => format!("the checker could not do its work; details in {log}."),
    }
}

/// What e2fsck's exit code means, see e2fsck(8): 1 corrected, 2 corrected and the machine must restart, 4 left
/// uncorrected; from 8 on it did not do its work.
fn ext_outcome(code: Option<i32>, mode: Mode) -> Outcome {
    match code {
        Some(0) => Outcome::Clean,
        Some(1..=3) => Outcome::Repaired,
        Some(4..=7) if mode == Mode::Look => Outcome::Errors,
        Some(4..=7) => Outcome::Unrepaired,
        _ => Outcome::Failed,
    }
}

/// What fsck.vfat's exit code means, see fsck.fat(8): 1 is errors, repaired or not.
fn fat_outcome(code: Option<i32>) -> Outcome {
    match code {
        Some(0) => Outcome::Clean,
        Some(1) => Outcome::Errors,
        _ => Outcome::Failed,
    }
}

/// Whether an ext journal waits to be replayed. A check that writes nothing cannot replay it and then takes what the
/// journal would mend for damage.
fn needs_replay(device: &str) -> bool {
    let mut superblock = [0; 1024];
    let read = fs::File::open(device).and_then(|file| file.read_exact_at(&mut superblock, 1024));
    read.is_ok() && wants_recovery(&superblock)
}

/// Offsets and values from the kernel's fs/ext4/ext4.h: s_magic, s_feature_incompat, EXT4_FEATURE_INCOMPAT_RECOVER.
fn wants_recovery(superblock: &[u8; 1024]) -> bool {
    let is_ext = superblock[0x38..0x3A] == [0x53, 0xEF];
    is_ext && superblock[0x60] & 0x04 != 0
}

fn keep(device: &str, said: &[u8]) -> anyhow::Result<PathBuf> {
    let dir = control::run_dir().join("log");
    let name = device.trim_start_matches("/dev/").replace('/', "-");
    let path = dir.join(format!("fsck-{name}.log"));
    fs::create_dir_all(&dir)
        .and_then(|()| fs::write(&path, said))
        .with_context(|| path.display().to_string())?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e2fsck_exit_codes() {
        let look = |code| ext_outcome(Some(code), Mode::Look);
        let repair = |code| ext_outcome(Some(code), Mode::Repair);
        assert_eq!(look(0), Outcome::Clean);
        assert_eq!(look(4), Outcome::Errors);
        assert_eq!(look(8), Outcome::Failed);
        assert_eq!(look(12), Outcome::Failed);
        assert_eq!(repair(1), Outcome::Repaired);
        assert_eq!(repair(3), Outcome::Repaired);
        assert_eq!(repair(5), Outcome::Unrepaired);
        assert_eq!(repair(16), Outcome::Failed);
        assert_eq!(ext_outcome(None, Mode::Look), Outcome::Failed);
    }

    #[test]
    fn a_journal_is_seen_to_wait() {
        let mut superblock = [0u8; 1024];
        superblock[0x60] = 0x04;
        assert!(!wants_recovery(&superblock), "no magic");
        superblock[0x38] = 0x53;
        superblock[0x39] = 0xEF;
        assert!(wants_recovery(&superblock));
        superblock[0x60] = 0x02;
        assert!(!wants_recovery(&superblock));
    }
}
