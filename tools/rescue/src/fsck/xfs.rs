//! XFS: xfs_repair, which refuses a file system whose log waits; mounting it once replays the log.
//!
//! `xfs_repair -L` throws the log away and with it what was changed last. It is run only where somebody typed --zero-log and the
//! file system cannot be mounted.

use super::found::{Condition, Found, Step, line};
use super::job::{Job, Ran};
use super::remains;

/// What xfs_repair says in both modes when the log is not empty.
const LOG_WAITS: &str = "valuable metadata changes in a log";

/// Looks.
///
/// # Errors
/// When xfs_repair cannot be started.
pub fn look(job: &Job) -> anyhow::Result<Found> {
    let device = job.disk.device.as_str();
    let hidden = (!remains::has_xfs(device))
        .then(|| remains::xfs(device))
        .flatten();
    let ran = job.run("checking", &line(&["xfs_repair", "-n", device]))?;
    Ok(match hidden {
        Some(copy) => judge_hidden(&ran, device, copy),
        None => judge(&ran, device, job.wish.zero_log),
    })
}

/// xfs_repair looks for another superblock by itself, and goes no further than that where it must not write.
fn judge_hidden(ran: &Ran, device: &str, copy: remains::Xfs) -> Found {
    let found = match ran.code {
        _ if ran.stopped => Found {
            condition: Condition::Stopped,
            ..Found::sound("", ran.code)
        },
        Some(1) if copy.has_root => Found::damaged(
            &format!(
                "an XFS whose superblock was overwritten; the copy at byte {} is good",
                copy.at
            ),
            ran.code,
            vec![Step::Run(line(&["xfs_repair", device]))],
        ),
        // Without it nothing keeps its name, and some of the files are gone with it.
        Some(1) => Found {
            advice: Some(format!(
                "copy the disk first; xfs_repair {device} on the copy puts what it finds into lost+found"
            )),
            ..Found::damaged(
                &format!(
                    "an XFS whose superblock was overwritten and its root directory with it; the copy at byte {} is good",
                    copy.at
                ),
                ran.code,
                Vec::new(),
            )
        },
        _ => Found::unable(ran.code),
    };
    Found {
        // It may be what is left of a file system that was given up.
        only_by_name: true,
        ..found
    }
}

fn judge(ran: &Ran, device: &str, zero_log: bool) -> Found {
    let waits = ran.said.contains(LOG_WAITS);
    let repair = Step::Run(line(&["xfs_repair", device]));
    let replay = Step::Replay {
        fs: "xfs",
        otherwise: zero_log.then(|| line(&["xfs_repair", "-L", device])),
    };
    let advice = waits.then(|| {
        format!(
            "what is left is to throw its log away, and with it what was changed last, files may be lost or mixed up: \
             rescue fsck --repair --zero-log {device}"
        )
    });
    let found = match (ran.code, waits) {
        _ if ran.stopped => Found {
            condition: Condition::Stopped,
            ..Found::sound("", ran.code)
        },
        (Some(0), false) => Found::sound("clean", ran.code),
        (Some(0), true) => Found {
            condition: Condition::Waiting,
            steps: vec![replay],
            ..Found::sound(
                "clean, though not unmounted cleanly: its log is replayed when it is mounted",
                ran.code,
            )
        },
        (Some(1), true) => Found::damaged(
            "not unmounted cleanly: its log waits, and what was found may be no more than that; mounting it once replays the log",
            ran.code,
            vec![replay, repair],
        ),
        (Some(1), false) => Found::damaged("errors were found", ran.code, vec![repair]),
        _ => Found::unable(ran.code),
    };
    Found { advice, ..found }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ran(code: i32, said: &str) -> Ran {
        Ran {
            code: Some(code),
            said: said.to_owned(),
            stopped: false,
        }
    }

    const WAITS: &str =
        "ALERT: The filesystem has valuable metadata changes in a log which is being\nignored";

    #[test]
    fn a_log_that_waits_is_replayed_before_anything_is_repaired() {
        let found = judge(&ran(1, WAITS), "/dev/x", false);
        assert_eq!(found.condition, Condition::Damaged);
        assert!(matches!(found.steps[0], Step::Replay { otherwise: None, .. }));
        assert_eq!(judge(&ran(1, ""), "/dev/x", false).steps.len(), 1);
        assert_eq!(
            judge(&ran(0, WAITS), "/dev/x", false).condition,
            Condition::Waiting
        );
        assert_eq!(judge(&ran(2, ""), "/dev/x", false).condition, Condition::Unable);
    }

    #[test]
    fn what_was_overwritten_is_repaired_by_name_only_and_never_without_its_log() {
        let copy = remains::xfs_at(7, true);
        let found = judge_hidden(&ran(1, ""), "/dev/x", copy);
        assert!(found.only_by_name && found.says.contains("byte 7"));
        assert_eq!(found.steps, [Step::Run(line(&["xfs_repair", "/dev/x"]))]);
        assert!(judge_hidden(&ran(2, ""), "/dev/x", copy).steps.is_empty());
        let rootless = remains::xfs_at(7, false);
        let found = judge_hidden(&ran(1, ""), "/dev/x", rootless);
        assert!(found.steps.is_empty() && found.advice.is_some());
    }

    #[test]
    fn the_log_is_thrown_away_only_when_that_was_typed() {
        let shown = |zero_log| {
            let found = judge(&ran(1, WAITS), "/dev/x", zero_log);
            let steps = found.steps.iter().map(|step| step.shown("/dev/x"));
            steps.collect::<Vec<_>>().join("; ")
        };
        assert!(!shown(false).contains("-L"), "{}", shown(false));
        assert!(shown(true).contains("-L"), "{}", shown(true));
    }
}
