//! What is said about each device, and about all of them.

use crate::disks::{Disk, human};
use serde::Serialize;
use std::path::PathBuf;

/// How it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Nothing wrong.
    Clean,
    /// Something is wrong, and nothing was changed.
    Errors,
    /// Something is wrong, nothing was changed, and what a repair would do was asked.
    Would,
    /// Something was wrong and is not any more.
    Repaired,
    /// Something is still wrong.
    Unrepaired,
    /// It is mounted, or in use otherwise.
    Mounted,
    /// It is LUKS and locked, or the container of something else.
    Locked,
    /// There is nothing to check on it: swap.
    Nothing,
    /// No checker for it.
    Unsupported,
    /// There is a checker for it, and the image has it not.
    Missing,
    /// Somebody stopped it.
    Stopped,
    /// The checker could not do its work.
    Failed,
}

/// What is said about one device.
#[derive(Debug, Serialize)]
pub struct Report {
    pub device: String,
    pub fs: Option<String>,
    pub outcome: Outcome,
    /// The sentence.
    pub text: String,
    /// Everything the checkers said.
    pub log: Option<PathBuf>,
    /// How the last checker ended.
    pub exit_code: Option<i32>,
    /// Errors of the disk itself that the kernel told of meanwhile.
    pub disk_errors: usize,
    /// What a repair did, or would do.
    pub steps: Vec<String>,
}

impl Report {
    /// Without a checker having run.
    pub fn of(disk: &Disk, outcome: Outcome, what: &str) -> Report {
        Report {
            device: disk.device.clone(),
            fs: disk.fs.clone(),
            outcome,
            text: format!("{}: {what}.", title(disk)),
            log: None,
            exit_code: None,
            disk_errors: 0,
            steps: Vec::new(),
        }
    }

    /// Whether what was asked for is done, on a disk that can be read. What is in use is passed over when everything was asked for; when that device was, it was
    /// not done.
    pub fn is_good(&self, by_name: bool) -> bool {
        if self.disk_errors > 0 {
            return false;
        }
        match self.outcome {
            Outcome::Clean | Outcome::Repaired | Outcome::Would | Outcome::Nothing => true,
            Outcome::Mounted | Outcome::Locked => !by_name,
            _ => false,
        }
    }
}

/// `/dev/vda (ext4, 64 MiB)`
pub fn title(disk: &Disk) -> String {
    let what = disk.fs.as_deref().or(disk.table.as_deref());
    let size = human(disk.size);
    match what {
        Some(what) => format!("{} ({what}, {size})", disk.device),
        None => format!("{} ({size})", disk.device),
    }
}

/// One line about all of them: `7 checked: 5 clean, 1 repaired, 1 with errors. 2 not checked: 1 in use, 1 locked.`
pub fn summary(reports: &[Report]) -> String {
    let count = |outcomes: &[(Outcome, &str)]| {
        let counted: Vec<(usize, String)> = outcomes
            .iter()
            .map(|(outcome, word)| {
                (
                    reports.iter().filter(|report| report.outcome == *outcome).count(),
                    word,
                )
            })
            .filter(|(count, _)| *count > 0)
            .map(|(count, word)| (count, format!("{count} {word}")))
            .collect();
        let sum: usize = counted.iter().map(|(count, _)| count).sum();
        let words: Vec<String> = counted.into_iter().map(|(_, words)| words).collect();
        (sum, words.join(", "))
    };
    let (checked, how) = count(&[
        (Outcome::Clean, "clean"),
        (Outcome::Repaired, "repaired"),
        (Outcome::Errors, "with errors"),
        (Outcome::Would, "to be repaired"),
        (Outcome::Unrepaired, "with errors that are left"),
    ]);
    let (passed, why) = count(&[
        (Outcome::Mounted, "in use"),
        (Outcome::Locked, "to be opened first"),
        (Outcome::Missing, "without a checker in this image"),
        (Outcome::Unsupported, "of another kind"),
        (Outcome::Stopped, "stopped"),
        (Outcome::Failed, "failed"),
    ]);
    let mut text = match checked {
        0 => "Nothing was checked.".to_owned(),
        checked => format!("{checked} checked: {how}."),
    };
    if passed > 0 {
        text.push_str(&format!(" {passed} not checked: {why}."));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reports(outcomes: &[Outcome]) -> Vec<Report> {
        let disk = Disk::default();
        outcomes
            .iter()
            .map(|outcome| Report::of(&disk, *outcome, "x"))
            .collect()
    }

    #[test]
    fn the_summary_counts_what_was_checked_and_what_was_not() {
        let some = reports(&[Outcome::Clean, Outcome::Clean, Outcome::Errors, Outcome::Locked]);
        assert_eq!(
            summary(&some),
            "3 checked: 2 clean, 1 with errors. 1 not checked: 1 to be opened first."
        );
        assert_eq!(summary(&reports(&[Outcome::Repaired])), "1 checked: 1 repaired.");
        assert_eq!(
            summary(&reports(&[Outcome::Missing])),
            "Nothing was checked. 1 not checked: 1 without a checker in this image."
        );
    }

    #[test]
    fn what_is_in_use_is_a_failure_only_for_who_asked_for_it() {
        for (outcome, by_name, all) in [
            (Outcome::Mounted, false, true),
            (Outcome::Clean, true, true),
            (Outcome::Errors, false, false),
            (Outcome::Missing, false, false),
        ] {
            let report = &reports(&[outcome])[0];
            assert_eq!(
                (report.is_good(true), report.is_good(false)),
                (by_name, all),
                "{outcome:?}"
            );
        }
        let mut repaired = reports(&[Outcome::Repaired]).remove(0);
        assert!(repaired.is_good(true));
        repaired.disk_errors = 1;
        assert!(!repaired.is_good(true));
    }
}
