//! `rescue fsck`: checks what is there, and changes nothing unless told to.
//!
//! Whatever is uncertain turns repair off: what is mounted or in use is refused, what is locked is named, what is unknown is left
//! alone, and what could lose data has a switch of its own. A look always comes first; after a repair comes another.
//!
//! Files in reading order: `kind` which checker for what, `check` one device from beginning to end, `found` what a look can find,
//! `ext` `xfs` `btrfs` `simple` `table` the checkers, `remains` what was overwritten, `job` how programs are run, `kernel` what is heard
//! meanwhile, `log` and `report` what is left of it, `mount` for what needs it.

use crate::disks::{self, Disk};
use crate::interrupts::Interrupts;
use crate::output;
use crate::work::{self, Manner};
use anyhow::{Context as _, bail};
use argh::FromArgs;
use std::ffi::OsString;
use std::process::ExitCode;

mod btrfs;
mod check;
mod ext;
mod found;
mod job;
mod kernel;
mod kind;
mod log;
mod mount;
mod remains;
mod report;
mod simple;
mod table;
mod xfs;

/// How a repair is watched: one Ctrl-C is not enough.
pub const MANNER: Manner = Manner {
    worker: "fsck-worker",
    warning: Some("The repair goes on, also when you leave. Ctrl-C once more has it stop as soon as it can."),
    stopping: "Stopping the repair; what is done stays done.",
};

/// check file systems, and repair them when told to
#[derive(Debug, FromArgs)]
#[cfg_attr(test, derive(argh::ArgsInfo))]
#[argh(
    subcommand,
    name = "fsck",
    note = "ext2/3/4, FAT, exFAT, XFS, btrfs, F2FS, NTFS and GUID partition tables, each where its feature is in the image. Without --repair nothing is written. What is mounted or in use is refused; LUKS, LVM and RAID are not looked into before they are open.\n\nA repair looks first, writes only where something is wrong, and looks again. It goes on when the session is cut: 'rescue disks' then shows that it runs, and the log in /run/lifeboot/log/ how it ended. Ctrl-C ends a check at once; a repair asks for a second one and then stops as soon as the checker can.\n\nWhat may lose data is never chosen by itself: --zero-log and --rewrite-btrfs are for when nothing else has helped, and take one device by its name.\n\nExit codes: 0 clean or repaired, 1 errors are left or it could not be checked.",
    example = "Look at everything, change nothing:\n$ {command_name}\nRepair one:\n$ {command_name} --repair /dev/vda1\nWhat would that do:\n$ {command_name} --repair --dry-run /dev/vda1\nA btrfs with all its data, not its structure alone:\n$ {command_name} --data LABEL=pool\nFor a script:\n$ {command_name} --json LABEL=data"
)]
pub struct Fsck {
    /// write to the disk what the checker proposes
    #[argh(switch)]
    repair: bool,
    /// with --repair: say what would be run, and only look
    #[argh(switch)]
    dry_run: bool,
    /// btrfs: read all data and compare its checksums, too
    #[argh(switch)]
    data: bool,
    /// with --repair: if an XFS cannot be mounted, throw its log away, and with it what was changed last
    #[argh(switch)]
    zero_log: bool,
    /// with --repair: run 'btrfs check --repair', which can make things worse; copy off it what can be read first
    #[argh(switch)]
    rewrite_btrfs: bool,
    /// print JSON
    #[argh(switch)]
    json: bool,
    /// device, name, UUID=…, LABEL=… or 'all' (default: all, without --repair)
    #[argh(positional)]
    device: Option<String>,
}

/// What is wished for each device.
#[derive(Debug)]
pub struct Wish {
    pub repair: bool,
    pub dry_run: bool,
    pub data: bool,
    pub zero_log: bool,
    pub rewrite_btrfs: bool,
    /// Whether the device was named, and not everything asked for.
    pub by_name: bool,
}

impl Wish {
    /// As it would be typed for one device.
    pub fn words(&self, device: &str) -> Vec<String> {
        let switches = [
            (self.repair, "--repair"),
            (self.dry_run, "--dry-run"),
            (self.data, "--data"),
            (self.zero_log, "--zero-log"),
            (self.rewrite_btrfs, "--rewrite-btrfs"),
        ];
        let typed = switches.iter().filter(|(is, _)| *is).map(|(_, word)| *word);
        typed.chain([device]).map(str::to_owned).collect()
    }
}

impl Fsck {
    /// The device, unless it is everything.
    fn named(&self) -> Option<&str> {
        self.device.as_deref().filter(|name| *name != "all")
    }

    fn wish(&self) -> Wish {
        Wish {
            repair: self.repair,
            dry_run: self.dry_run,
            data: self.data,
            zero_log: self.zero_log,
            rewrite_btrfs: self.rewrite_btrfs,
            by_name: self.named().is_some(),
        }
    }

    /// What is wrong with what was typed.
    fn contradiction(&self) -> Option<&'static str> {
        let last_resort = self.zero_log || self.rewrite_btrfs;
        if self.repair && self.device.is_none() {
            Some("--repair needs a device, or 'all'")
        } else if self.dry_run && !self.repair {
            Some("--dry-run says what a repair would do: give --repair too")
        } else if last_resort && !(self.repair && self.named().is_some()) {
            Some("--zero-log and --rewrite-btrfs need --repair and one device by its name")
        } else {
            None
        }
    }
}

/// Checks.
///
/// # Errors
/// When it cannot be found out what to check.
pub fn run(options: &Fsck) -> anyhow::Result<ExitCode> {
    if let Some(what) = options.contradiction() {
        output::complain(&format!("rescue: {what}"));
        return Ok(ExitCode::from(2));
    }
    if options.repair && !options.dry_run {
        let mut words = options.wish().words(options.device.as_deref().unwrap_or("all"));
        words.extend(options.json.then(|| "--json".to_owned()));
        return work::start(&MANNER, &words);
    }
    // Ctrl-C ends it and the checker with it: neither writes.
    perform(options, &Interrupts::default())
}

/// Becomes the process that repairs. `words` are those behind [`Manner::worker`].
///
/// # Errors
/// As [`run`].
pub fn work(words: &[OsString]) -> anyhow::Result<ExitCode> {
    let options: Fsck = work::parsed("fsck", words)?;
    let typed = options.wish().words(options.device.as_deref().unwrap_or("all"));
    let hold = work::begin(&format!("rescue fsck {}", typed.join(" ")))?;
    let interrupts = Interrupts::heed()?;
    let ended = perform(&options, &interrupts);
    drop(hold);
    ended
}

/// Does what is wished, in this process.
fn perform(options: &Fsck, interrupts: &Interrupts) -> anyhow::Result<ExitCode> {
    mount::leave_none();
    let disks = disks::list()?;
    let wish = options.wish();
    let chosen: Vec<&Disk> = match options.named() {
        Some(name) => vec![disks::find(&disks, name)?],
        None => disks.iter().filter(|disk| kind::concerns(disk, &disks)).collect(),
    };
    let mut reports = Vec::new();
    for disk in chosen {
        if interrupts.count() > 0 {
            break;
        }
        let report = check::check(disk, &disks, &wish, interrupts);
        if !options.json {
            for line in disks::broken(&report.text) {
                say(&wish, &line)?;
            }
        }
        reports.push(report);
    }
    if options.json {
        say(&wish, &serde_json::to_string_pretty(&reports).context("report")?)?;
    } else if !wish.by_name && reports.len() > 1 {
        say(&wish, &report::summary(&reports))?;
    }
    if reports.is_empty() {
        bail!("there is no file system that can be checked here; 'rescue disks' shows what is there");
    }
    let good = interrupts.count() == 0 && reports.iter().all(|report| report.is_good(wish.by_name));
    Ok(if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Says it. That nobody listens any more does not end a repair.
fn say(wish: &Wish, text: &str) -> std::io::Result<()> {
    match wish.repair {
        true => {
            output::ignore(output::line(text));
            Ok(())
        }
        false => output::line(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(words: &[&str]) -> Fsck {
        Fsck::from_args(&["fsck"], words).unwrap()
    }

    #[test]
    fn what_may_lose_data_needs_repair_and_a_name() {
        for words in [
            &["--zero-log", "/dev/vda"][..],
            &["--repair", "--zero-log", "all"],
            &["--repair", "--rewrite-btrfs"],
            &["--dry-run", "/dev/vda"],
            &["--repair"],
        ] {
            assert!(typed(words).contradiction().is_some(), "{words:?}");
        }
        for words in [
            &["--repair", "--zero-log", "/dev/vda"][..],
            &["--repair", "--dry-run", "all"],
            &["all"],
            &[],
        ] {
            assert!(typed(words).contradiction().is_none(), "{words:?}");
        }
    }

    #[test]
    fn the_process_that_repairs_is_told_what_was_typed() {
        let words = ["--repair", "--data", "--zero-log", "/dev/vda"];
        assert_eq!(typed(&words).wish().words("/dev/vda"), words);
    }
}
