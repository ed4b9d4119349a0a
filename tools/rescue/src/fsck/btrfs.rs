//! btrfs: `btrfs check` looks; scrub mends what has a good copy; `btrfs check --repair` is a last resort.
//!
//! btrfs knows by its checksums which of two copies is right. So a bad copy is mended by mounting the file system and reading all of
//! it, which cannot make anything worse. `btrfs check --repair` has no such certainty, its own manual warns of it: it is run only
//! where somebody typed --rewrite-btrfs and the device's name.

use super::found::{Condition, Found, Step, line};
use super::job::{Job, Ran};
use super::remains;

/// What is wished of it.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    data: bool,
    repair: bool,
    rewrite: bool,
}

/// Looks.
///
/// # Errors
/// When btrfs cannot be started.
pub fn look(job: &Job) -> anyhow::Result<Found> {
    let device = job.disk.device.as_str();
    if !remains::has_btrfs(device) {
        let words = ["btrfs", "check", "--readonly", "-s", "1", device];
        return Ok(judge_hidden(&job.run("checking", &line(&words))?, device));
    }
    let mut words = line(&["btrfs", "check", "--readonly"]);
    words.extend(job.wish.data.then(|| "--check-data-csum".to_owned()));
    words.push(device.to_owned());
    let ran = job.run("checking", &words)?;
    let wanted = Wanted {
        data: job.wish.data,
        repair: job.wish.repair,
        rewrite: job.wish.rewrite_btrfs,
    };
    Ok(judge(&ran, device, wanted))
}

/// What the second superblock leads to.
fn judge_hidden(ran: &Ran, device: &str) -> Found {
    let says = format!(
        "a btrfs whose superblock was overwritten; the copy at byte {} is good",
        remains::BTRFS[1]
    );
    let found = match ran.code {
        _ if ran.stopped => Found {
            condition: Condition::Stopped,
            ..Found::sound("", ran.code)
        },
        Some(0) => Found::damaged(
            &says,
            ran.code,
            vec![Step::Run(line(&[
                "btrfs",
                "rescue",
                "super-recover",
                "-y",
                device,
            ]))],
        ),
        Some(1) => Found {
            advice: Some(format!(
                "there are errors in its trees too: copy off it what can be read (btrfs restore -u 1 {device} DIRECTORY)"
            )),
            ..Found::damaged(&says, ran.code, Vec::new())
        },
        _ => Found::unable(ran.code),
    };
    Found {
        // It may be what is left of a file system that was given up.
        only_by_name: true,
        ..found
    }
}

fn judge(ran: &Ran, device: &str, wanted: Wanted) -> Found {
    let bad_copy = ran.said.contains("checksum verify failed") || ran.said.contains("expected csum");
    let trees = complains_of_trees(&ran.said);
    let named = |found: Found| Found {
        only_by_name: true,
        ..found
    };
    match ran.code {
        _ if ran.stopped => Found {
            condition: Condition::Stopped,
            ..Found::sound("", ran.code)
        },
        Some(0) if bad_copy => named(Found::damaged(
            "blocks with wrong checksums were found, and good copies of them",
            ran.code,
            vec![Step::Scrub],
        )),
        // The second copies of the trees are read by scrub alone.
        Some(0) if wanted.data && wanted.repair => named(Found {
            condition: Condition::Waiting,
            steps: vec![Step::Scrub],
            ..Found::sound("clean", ran.code)
        }),
        Some(0) if wanted.data => Found::sound("clean, its data too", ran.code),
        Some(0) => Found::sound("clean; its data was not read, --data does that", ran.code),
        Some(1) if bad_copy && !trees => named(Found::damaged(
            "data with wrong checksums was found; scrub mends what has a good copy",
            ran.code,
            vec![Step::Scrub],
        )),
        Some(1) if wanted.rewrite => named(Found::damaged(
            "errors were found in its trees",
            ran.code,
            vec![Step::Dangerous {
                words: line(&["btrfs", "check", "--repair", device]),
                warning: "its own manual says that it can make things worse; what can still be read should have been copied off it",
            }],
        )),
        Some(1) => Found {
            advice: Some(format!(
                "copy off it what can be read (mount -o ro,rescue=all {device} /mnt); only then, since it can make things \
                 worse: rescue fsck --repair --rewrite-btrfs {device}"
            )),
            ..named(Found::damaged(
                "errors were found in its trees",
                ran.code,
                Vec::new(),
            ))
        },
        _ => Found::unable(ran.code),
    }
}

/// Complaints about data alone are about copies; every other error is about the trees.
fn complains_of_trees(said: &str) -> bool {
    said.lines()
        .any(|text| text.starts_with("ERROR:") && !text.contains("errors found in csum tree"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(code: i32, said: &str, repair: bool, rewrite: bool) -> Found {
        let ran = Ran {
            code: Some(code),
            said: said.to_owned(),
            stopped: false,
        };
        let wanted = Wanted {
            data: false,
            repair,
            rewrite,
        };
        judge(&ran, "/dev/x", wanted)
    }

    #[test]
    fn a_bad_copy_is_mended_by_scrub_and_by_name_only() {
        let found = told(
            0,
            "checksum verify failed on 30605312 wanted 1 found 2\n",
            true,
            false,
        );
        assert_eq!((found.steps, found.only_by_name), (vec![Step::Scrub], true));
        let data = "mirror 1 bytenr 64 csum 1 expected csum 2\nERROR: errors found in csum tree\n";
        assert_eq!(told(1, data, true, true).steps, [Step::Scrub]);
    }

    #[test]
    fn what_was_overwritten_comes_back_by_name_only_and_only_when_the_trees_are_sound() {
        let told = |code| {
            let ran = Ran {
                code: Some(code),
                ..Ran::default()
            };
            judge_hidden(&ran, "/dev/x")
        };
        assert!(told(0).only_by_name && told(0).steps.len() == 1);
        assert!(told(1).steps.is_empty() && told(1).advice.is_some());
        assert_eq!(told(2).condition, Condition::Unable);
    }

    #[test]
    fn the_trees_are_rewritten_only_when_that_was_typed() {
        let errors = "ERROR: errors found in extent allocation tree or chunk allocation\n";
        let offered = told(1, errors, true, false);
        assert!(offered.steps.is_empty() && offered.advice.is_some());
        assert_eq!(told(1, errors, true, true).steps.len(), 1);
        assert!(told(0, "", true, true).steps.is_empty());
    }
}
