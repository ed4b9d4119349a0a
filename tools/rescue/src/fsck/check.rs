//! One device from the first look to the last: what stands against it, what was found, what was done about it.

use super::found::{Condition, Found, Step};
use super::job::Job;
use super::kind::{self, Kind};
use super::log;
use super::mount::{self, Mounted};
use super::report::{Outcome, Report, title};
use super::{Wish, table};
use crate::disks::Disk;
use crate::interrupts::Interrupts;
use crate::tool;
use crate::work::{self, Purpose};
use anyhow::Context as _;
use lifeboot_init::stage::mount::SYSROOT;
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::fs::File;
use std::os::unix::fs::OpenOptionsExt as _;

/// How a repair ended.
enum Repair {
    /// Every step was done; whether it helped, another look tells.
    Done,
    /// A step could not be done, for this reason.
    Stuck(String),
    /// Somebody stopped it.
    Stopped,
}

/// Checks one of `all`, and repairs it where that was wished.
pub fn check(disk: &Disk, all: &[Disk], wish: &Wish, interrupts: &Interrupts) -> Report {
    let say = |outcome, what: &str| Report::of(disk, outcome, what);
    if let Some(point) = kind::mounted(disk, all) {
        return match point.as_str() {
            "[SWAP]" => say(
                Outcome::Nothing,
                "used as swap, on which there is nothing to check",
            ),
            SYSROOT => say(
                Outcome::Mounted,
                "ready to be started at /sysroot, not checked; 'umount /sysroot' first, the boot mounts it again when it goes on",
            ),
            _ => say(
                Outcome::Mounted,
                &format!("mounted on {point}, not checked; unmount it first"),
            ),
        };
    }
    let Some(kind) = Kind::of(disk) else {
        let (outcome, what) = kind::none_for(disk);
        return say(outcome, &what);
    };
    if let Some(missing) = kind.missing() {
        return say(Outcome::Missing, &missing);
    }
    let writes = wish.repair && !wish.dry_run;
    if writes && disk.read_only {
        return say(
            Outcome::Failed,
            &format!("read-only, not repaired; {}", disk.protection()),
        );
    }
    let purpose = if writes { Purpose::Repair } else { Purpose::Look };
    let lock = match work::take(&disk.device, purpose) {
        Ok(lock) => lock,
        Err(error) => return say(Outcome::Mounted, &format!("not checked: {error:#}")),
    };
    // A partition table may be looked at while its partitions are in use.
    let alone = writes || kind != Kind::Gpt;
    if let Some(user) = in_use(&disk.device).filter(|_| alone) {
        return say(Outcome::Mounted, &user);
    }
    let job = Job::new(disk, all, wish, interrupts);
    let report =
        go(kind, &job).unwrap_or_else(|error| say(Outcome::Failed, &format!("not checked: {error:#}")));
    job.end(&report.text);
    drop(lock);
    report
}

/// Whether the kernel lets nobody have the device alone: it is mounted elsewhere, or part of something that runs.
fn in_use(device: &str) -> Option<String> {
    let mut options = File::options();
    options.read(true).custom_flags(OFlags::EXCL.bits().cast_signed());
    let busy = options
        .open(device)
        .is_err_and(|error| error.raw_os_error() == Some(Errno::BUSY.raw_os_error()));
    busy.then(|| match work::in_the_way(device) {
        Some(told) => format!("in use, not checked: {told}"),
        None => "in use, not checked: something on it or made of it is active, 'rescue disks' shows what"
            .to_owned(),
    })
}

fn go(kind: Kind, job: &Job) -> anyhow::Result<Report> {
    let found = kind.look(job)?;
    let wish = job.wish;
    let errors = job.errors_of_disk();
    if errors > 0 && found.condition != Condition::Stopped {
        return Ok(dying(job, &found, errors));
    }
    let wants = matches!(found.condition, Condition::Waiting | Condition::Damaged);
    if !wish.repair || !wants || found.steps.is_empty() || (found.only_by_name && !wish.by_name) {
        return Ok(looked(job, &found));
    }
    let steps: Vec<String> = found
        .steps
        .iter()
        .map(|step| step.shown(&job.disk.device))
        .collect();
    if wish.dry_run {
        let text = format!("{}; a repair would run: {}", found.says, steps.join("; then "));
        return Ok(Report {
            steps,
            ..told(job, Outcome::Would, &text, &found)
        });
    }
    let ended = match repair(job, &found.steps)? {
        Repair::Stopped => stopped(job, &found),
        Repair::Stuck(why) => {
            let advice = found
                .advice
                .as_deref()
                .map_or_else(String::new, |advice| format!("; {advice}"));
            let text = format!("{}, and the repair could not be done: {why}{advice}", found.says);
            told(job, Outcome::Unrepaired, &text, &found)
        }
        Repair::Done => again(kind, job, &found)?,
    };
    let ended = Report { steps, ..ended };
    Ok(match job.errors_of_disk() {
        0 => ended,
        errors => Report {
            disk_errors: errors,
            text: format!(
                "{} The kernel told of {errors} errors of the disk itself meanwhile: it may be dying; {}",
                ended.text,
                copy_first()
            ),
            ..ended
        },
    })
}

/// The report where the disk could not be read. Nothing is written to it: a checker takes what it cannot read for damage.
fn dying(job: &Job, found: &Found, errors: usize) -> Report {
    let writes = job.wish.repair && !job.wish.dry_run;
    let outcome = match found.condition {
        Condition::Unable => Outcome::Failed,
        _ if writes => Outcome::Unrepaired,
        _ => Outcome::Errors,
    };
    let text = format!(
        "{}; but the kernel told of {errors} errors of the disk itself meanwhile, so nothing was changed: it may be dying; {}",
        found.says,
        copy_first()
    );
    Report {
        disk_errors: errors,
        ..told(job, outcome, &text, found)
    }
}

fn copy_first() -> String {
    let feature = match tool::place("ddrescue") {
        Some(_) => "",
        None => ", feature ddrescue",
    };
    format!(
        "copy it with ddrescue before anything else is tried, and check the copy (docs/rescue-a-dying-disk.md{feature})"
    )
}

/// Looks once more, since not every checker tells what it repaired and what it did not.
fn again(kind: Kind, job: &Job, before: &Found) -> anyhow::Result<Report> {
    let after = kind.look(job)?;
    let log = log::path(&job.disk.device);
    let log = log.display();
    Ok(match (after.condition, before.condition) {
        (Condition::Stopped, _) => stopped(job, &after),
        (Condition::Sound, Condition::Waiting) => told(
            job,
            Outcome::Repaired,
            "what waited to be done was done, and it is clean",
            &after,
        ),
        // A scrub leaves nothing to be seen of what waited.
        (Condition::Waiting, Condition::Waiting) => told(
            job,
            Outcome::Repaired,
            &format!("clean; details in {log}"),
            &after,
        ),
        (Condition::Sound | Condition::Waiting, _) => {
            let joint = joint(&before.says);
            let text = format!("{}{joint} repaired; details in {log}", before.says);
            told(job, Outcome::Repaired, &text, &after)
        }
        _ => {
            let advice = after
                .advice
                .as_deref()
                .map_or_else(String::new, |advice| format!("; {advice}"));
            let text = format!("errors are left that could not be repaired{advice}; details in {log}");
            told(job, Outcome::Unrepaired, &text, &after)
        }
    })
}

/// The report of a look after which nothing is done.
fn looked(job: &Job, found: &Found) -> Report {
    let device = &job.disk.device;
    let log = log::path(device);
    match found.condition {
        Condition::Sound => told(job, Outcome::Clean, &found.says, found),
        Condition::Waiting => told(job, Outcome::Clean, &found.says, found),
        Condition::Stopped => stopped(job, found),
        Condition::Unable => told(
            job,
            Outcome::Failed,
            &format!("{}; details in {}", found.says, log.display()),
            found,
        ),
        Condition::Damaged => {
            let what = match (&found.advice, found.steps.is_empty()) {
                (_, false) => format!("repair with: rescue fsck --repair {device}"),
                (Some(advice), true) => advice.clone(),
                (None, true) => format!("details in {}", log.display()),
            };
            let text = format!("{}{} nothing was changed; {what}", found.says, joint(&found.says));
            told(job, Outcome::Errors, &text, found)
        }
    }
}

/// What stands between what was found and what came of it.
fn joint(says: &str) -> &'static str {
    if says.contains([',', ';', ':']) {
        ";"
    } else {
        " and"
    }
}

fn stopped(job: &Job, found: &Found) -> Report {
    let text = match job.wish.repair {
        true => format!(
            "stopped before it was done; what was repaired so far stays, and this goes on with the rest: rescue fsck --repair {}",
            job.disk.device
        ),
        false => "stopped before it was done".to_owned(),
    };
    told(job, Outcome::Stopped, &text, found)
}

fn told(job: &Job, outcome: Outcome, text: &str, found: &Found) -> Report {
    // A command at the end is not followed by a full stop that somebody copies with it.
    let stop = if text.contains(": rescue ") { "" } else { "." };
    Report {
        log: Some(log::path(&job.disk.device)),
        exit_code: found.code,
        text: format!("{}: {text}{stop}", title(job.disk)),
        ..Report::of(job.disk, outcome, "")
    }
}

fn repair(job: &Job, steps: &[Step]) -> anyhow::Result<Repair> {
    for step in steps {
        let ended = match step {
            Step::Run(words) => run(job, words)?,
            Step::Dangerous { words, warning } => {
                let sentence = format!("{}: now running {}: {warning}", job.disk.device, words.join(" "));
                job.note(&sentence);
                crate::output::complain(&format!("rescue: {sentence}"));
                run(job, words)?
            }
            Step::Replay { fs, otherwise } => replay(job, fs, otherwise.as_deref())?,
            Step::Scrub => scrub(job)?,
            Step::RestoreTable => {
                job.note("writing the damaged copy of the partition table from the good one");
                table::restore(&job.disk.device)?;
                Repair::Done
            }
        };
        if job.is_stopped() {
            return Ok(Repair::Stopped);
        }
        if !matches!(ended, Repair::Done) {
            return Ok(ended);
        }
    }
    Ok(Repair::Done)
}

/// What it did is judged by the next look; here it only must have ended by itself.
fn run(job: &Job, words: &[String]) -> anyhow::Result<Repair> {
    let ran = job.run("repairing", words)?;
    Ok(match ran.code {
        _ if ran.stopped => Repair::Stopped,
        Some(_) => Repair::Done,
        None => Repair::Stuck(format!("{} was killed", words.first().map_or("", String::as_str))),
    })
}

fn replay(job: &Job, fs: &str, otherwise: Option<&[String]>) -> anyhow::Result<Repair> {
    match (mount::mount(job, fs)?, otherwise) {
        (Mounted::At(place), _) => {
            place.unmount(job).context("its log is replayed")?;
            Ok(Repair::Done)
        }
        // What throws the log away was asked for where it cannot be replayed, not where nobody waits for that any more.
        (Mounted::Not(_), _) if job.is_stopped() => Ok(Repair::Stopped),
        (Mounted::Not(why), None) => Ok(Repair::Stuck(why)),
        (Mounted::Not(_), Some(words)) => run(job, words),
    }
}

fn scrub(job: &Job) -> anyhow::Result<Repair> {
    let place = match mount::mount(job, "btrfs")? {
        Mounted::At(place) => place,
        Mounted::Not(why) => return Ok(Repair::Stuck(why)),
    };
    let words = super::found::line(&["btrfs", "scrub", "start", "-B", &place.path()]);
    let ran = job.run("reading everything and mending what has a good copy", &words);
    place.unmount(job)?;
    let ran = ran?;
    Ok(match ran.code {
        _ if ran.stopped => Repair::Stopped,
        Some(0) => Repair::Done,
        // See btrfs-scrub(8).
        Some(3) => Repair::Stuck("some of it has no good copy any more, the log names which".to_owned()),
        _ => Repair::Stuck("btrfs scrub failed".to_owned()),
    })
}
