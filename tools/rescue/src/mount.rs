//! `rescue mount` and `rescue umount`: finds installed systems, mounts one as its own fstab says, and undoes exactly that.
//!
//! Looking writes nothing, see [`look`]. Only what is chosen is mounted for writing.
//!
//! Files in reading order: `volumes` makes devices appear, `find` looks into them (`look`, `os_release`, `fstab`, `options`), `choose` has a
//! person choose, `bring` leads from one to the next (`inside`), `plan` decides (`resolve`), `make` does it (`attach`), `state` remembers it, `undo` takes it down (`table`, `holders`).

use crate::disks;
use crate::output;
use anyhow::{Context as _, bail};
use argh::FromArgs;
use find::{Found, System};
pub use fstab::plain;
use make::Report;
use plan::{Asked, LeftOut};
use serde::Serialize;
use state::{By, Held};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use undo::{InUse, Manner};
use volumes::{For, Unlocked};

pub use bring::{Request, bring};

pub mod attach;
mod bring;
mod choose;
pub mod find;
mod fstab;
pub mod holders;
mod inside;
mod look;
mod make;
pub mod options;
pub mod os_release;
mod plan;
mod resolve;
pub mod state;
pub mod table;
pub mod undo;
pub mod volumes;

/// Where systems are mounted when nothing is said.
pub const PLACE: &str = "/mnt";

/// find installed systems and mount one as its own fstab says
#[derive(Debug, FromArgs)]
#[cfg_attr(test, derive(argh::ArgsInfo))]
#[argh(
    subcommand,
    name = "mount",
    note = "A system is found by its os-release or fstab, on plain disks, in RAIDs, volume groups and subvolumes, which are made to appear, and on LUKS devices, which are asked for when nothing else is found. Looking writes nothing. The chosen one is mounted at /mnt with everything its fstab names that is on this machine's disks; what is left out is named with the reason. One that has noted errors in itself is mounted read-only. A file system without a system is mounted alone.",
    example = "The system of this machine, for writing:\n$ {command_name}\nWhich there are:\n$ {command_name} --list\nOne of several, without changing anything on it:\n$ {command_name} --read-only /dev/vdb2\nWhat would be mounted where:\n$ {command_name} --dry-run LABEL=root\nUndo it:\n$ rescue umount"
)]
pub struct Mount {
    /// device, name, UUID=… or LABEL=… of the root, or of the disk or LUKS device it is on (default: the one there is)
    #[argh(positional)]
    device: Option<String>,
    /// show the systems there are, mount nothing
    #[argh(switch, short = 'l')]
    list: bool,
    /// write nothing, not even what a journal holds
    #[argh(switch, short = 'r')]
    read_only: bool,
    /// mount at this directory (default: /mnt)
    #[argh(option, arg_name = "dir")]
    at: Option<PathBuf>,
    /// mount the root alone
    #[argh(switch)]
    root_only: bool,
    /// the system in this btrfs subvolume
    #[argh(option, arg_name = "name")]
    subvolume: Option<String>,
    /// say what would be mounted where, mount nothing
    #[argh(switch)]
    dry_run: bool,
    /// print JSON
    #[argh(switch)]
    json: bool,
}

/// unmount what 'rescue mount' and 'rescue chroot' have mounted
#[derive(Debug, FromArgs)]
#[cfg_attr(test, derive(argh::ArgsInfo))]
#[argh(
    subcommand,
    name = "umount",
    note = "The deepest first, with what was mounted into it since; then RAIDs and volume groups that were made to appear for it are put back to sleep. LUKS devices stay unlocked unless --close is given. What is in use is left alone as a whole, and who uses it is named.",
    example = "Everything:\n$ {command_name}\nAnd lock what was unlocked for it:\n$ {command_name} --close\nOne of several:\n$ {command_name} /mnt\nOut of sight at once, unmounted when its last user has gone:\n$ {command_name} --lazy"
)]
pub struct Umount {
    /// the directory it is mounted at (default: all)
    #[argh(positional, arg_name = "path")]
    at: Option<PathBuf>,
    /// lock LUKS devices that were unlocked for it
    #[argh(switch)]
    close: bool,
    /// do not wait for those who use it
    #[argh(switch)]
    lazy: bool,
}

/// How it is said that something stands.
const MOUNTED: &str = "is mounted at";

/// Everything its fstab names, writable or not.
pub fn asked(read_only: bool) -> Asked {
    Asked {
        read_only,
        root_only: false,
    }
}

/// Lists or mounts.
///
/// # Errors
/// When nothing can be mounted, or it is not clear what.
pub fn run(options: &Mount) -> anyhow::Result<ExitCode> {
    let mut held = Held::take()?;
    tidy(&mut held)?;
    if options.list {
        return list(&mut held, options.json);
    }
    let at = options.at.clone().unwrap_or_else(|| PathBuf::from(PLACE));
    let request = Request {
        device: options.device.as_deref(),
        subvolume: options.subvolume.as_deref(),
        at: &at,
        asked: Asked {
            read_only: options.read_only,
            root_only: options.root_only,
        },
        by: By::Mount,
    };
    let outcome = match options.dry_run {
        true => bring::rehearse(&mut held, &request),
        false => bring(&mut held, &request),
    };
    let Some(report) = outcome? else {
        return Ok(ExitCode::from(2));
    };
    if options.json {
        output::line(&serde_json::to_string_pretty(&report).context("report")?)?;
    } else {
        let lines = if options.dry_run {
            sentences(&report, "would be mounted at")
        } else {
            sentences(&report, MOUNTED)
        };
        output::lines(lines.iter().map(String::as_str))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Puts to sleep again what a session that was cut had woken to look at.
fn tidy(held: &mut Held) -> anyhow::Result<()> {
    if held.state.systems.is_empty() && !held.state.opened.is_empty() {
        // A LUKS device that is to stay unlocked has been told of when that was decided.
        drop(volumes::close(&mut held.state.opened, Unlocked::Stays));
        held.save()?;
    }
    Ok(())
}

/// What `--list --json` prints.
#[derive(Debug, Serialize)]
struct Listing<'a> {
    #[serde(flatten)]
    found: &'a Found,
    notes: &'a [String],
}

fn list(held: &mut Held, json: bool) -> anyhow::Result<ExitCode> {
    let activated = volumes::activate(For::Looking)?;
    let count = activated.opened.len();
    held.state.opened.extend(activated.opened);
    held.save()?;
    let found = find::systems(&disks::list()?);
    let mut woken = held.state.opened.split_off(held.state.opened.len() - count);
    let mut notes = activated.notes;
    notes.extend(volumes::close(&mut woken, Unlocked::Stays));
    held.state.opened.extend(woken);
    held.save()?;
    if json {
        let listing = Listing {
            found: &found,
            notes: &notes,
        };
        output::line(&serde_json::to_string_pretty(&listing).context("systems")?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let systems: Vec<&System> = found.systems.iter().collect();
    let mut lines = match systems.as_slice() {
        [] => vec!["No installed system was found.".to_owned()],
        systems => choose::table(systems),
    };
    lines.extend(choose::remarks(&found));
    lines.extend(notes.iter().map(|note| format!("{note}.")));
    output::lines(lines.iter().map(String::as_str))?;
    Ok(ExitCode::SUCCESS)
}

/// What was done, for people.
fn sentences(report: &Report, verb: &str) -> Vec<String> {
    let mut lines = vec![format!("{} {verb} {}:", report.title, report.at.display())];
    let width = |text: fn(&make::Made) -> String| {
        report
            .mounts
            .iter()
            .map(|made| text(made).chars().count())
            .max()
            .unwrap_or(0)
    };
    let (target, source) = (
        width(|made| made.target.display().to_string()),
        width(|made| made.source.clone()),
    );
    lines.extend(report.mounts.iter().map(|made| {
        format!(
            "  {:<target$}  {:<source$}  {}  {}",
            made.target.display().to_string(),
            made.source,
            made.fs.as_deref().unwrap_or("bind"),
            made.options
        )
    }));
    lines.extend(report.left_out.iter().map(left_out));
    lines.extend(report.notes.iter().map(|note| format!("Note: {note}.")));
    if verb == MOUNTED {
        lines.push("'rescue chroot' goes into it, 'rescue umount' undoes this.".to_owned());
    }
    lines
}

/// The same for whoever wants to go in at once: only what may surprise.
pub fn brief(report: &Report) -> Vec<String> {
    let mut lines = vec![format!(
        "{} is mounted at {} for this.",
        report.title,
        report.at.display()
    )];
    let missed = report.left_out.iter().filter(|line| !line.expected);
    lines.extend(missed.map(left_out));
    lines.extend(report.notes.iter().map(|note| format!("Note: {note}.")));
    lines
}

fn left_out(line: &LeftOut) -> String {
    format!("Left out: {} ({}): {}.", line.target, line.source, line.why)
}

/// Unmounts.
///
/// # Errors
/// When something is in use, with who uses it.
pub fn umount(options: &Umount) -> anyhow::Result<ExitCode> {
    let mut held = Held::take()?;
    let manner = if options.lazy { Manner::Lazy } else { Manner::Whole };
    let places: Vec<PathBuf> = match &options.at {
        Some(at) => vec![named(at)],
        None => held
            .state
            .systems
            .iter()
            .rev()
            .map(|placed| placed.at.clone())
            .collect(),
    };
    for at in &places {
        match undo::system(&mut held, at, manner) {
            Ok(()) => output::line(&format!("{} is unmounted.", at.display()))?,
            Err(error) if error.is::<InUse>() => {
                bail!("{error:#}; end that, or 'rescue umount --lazy'")
            }
            Err(error) => return Err(error),
        }
    }
    if places.is_empty() && held.state.opened.is_empty() {
        output::line("Nothing is mounted that 'rescue mount' or 'rescue chroot' had mounted.")?;
    }
    if held.state.systems.is_empty() {
        let unlocked = if options.close {
            Unlocked::Closes
        } else {
            Unlocked::Stays
        };
        let said = volumes::close(&mut held.state.opened, unlocked);
        held.save()?;
        output::lines(said.iter().map(String::as_str))?;
        if options.close && !held.state.opened.is_empty() {
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// `/mnt/` is `/mnt`.
fn named(at: &Path) -> PathBuf {
    at.components().collect()
}

/// Undoes a mount of `rescue chroot` when the last chroot has gone.
///
/// # Errors
/// As [`undo::system`].
pub fn take_down(held: &mut Held, at: &Path) -> anyhow::Result<Vec<String>> {
    undo::system(held, at, Manner::Whole)?;
    let mut said = Vec::new();
    if held.state.systems.is_empty() {
        said = volumes::close(&mut held.state.opened, Unlocked::Stays);
        held.save()?;
    }
    Ok(said)
}
