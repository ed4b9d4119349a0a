//! Checkers that need little more than their exit codes: FAT, exFAT, F2FS, NTFS.

use super::found::{Condition, Found, Step, line};
use super::job::{Job, Ran};
use super::mount;
use rustix::io::Errno;

/// FAT. See fsck.fat(8): 1 is errors, repaired or not.
///
/// # Errors
/// When it cannot be started.
pub fn fat(job: &Job) -> anyhow::Result<Found> {
    let device = job.disk.device.as_str();
    let ran = job.run("checking", &line(&["fsck.vfat", "-n", device]))?;
    Ok(judge(&ran, 1..=1, &["fsck.vfat", "-a", device]))
}

/// What the kernel says where it does not take what is on the device.
const REFUSALS: [Errno; 3] = [Errno::INVAL, Errno::IO, Errno::UCLEAN];

/// exFAT. See fsck.exfat(8): as e2fsck's, 4 is left uncorrected.
///
/// A look of exfatprogs 1.2.9 overlooks that the allocation bitmap lacks itself, which a repair mends and without which the kernel
/// mounts nothing. So what it calls clean is mounted for a moment; there is no journal to replay, so nothing is written.
///
/// # Errors
/// When it cannot be started.
pub fn exfat(job: &Job) -> anyhow::Result<Found> {
    let device = job.disk.device.as_str();
    let repair = ["fsck.exfat", "-y", device];
    let ran = job.run("checking", &line(&["fsck.exfat", "-n", device]))?;
    let found = judge(&ran, 1..=7, &repair);
    if found.condition != Condition::Sound {
        return Ok(found);
    }
    let tried = mount::try_to_read(device, "exfat");
    let said = tried.map_or_else(|why| why.to_string(), |()| "taken".to_owned());
    job.note(&format!("a read-only mount of {device} for a moment: {said}"));
    Ok(match tried {
        Ok(()) => found,
        Err(why) => judge_unmounted(why, ran.code, &repair),
    })
}

fn judge_unmounted(why: Errno, code: Option<i32>, repair: &[&str]) -> Found {
    match REFUSALS.contains(&why) {
        true => Found::damaged(
            &format!("its checker finds nothing wrong, but the kernel cannot mount it: {why}"),
            code,
            vec![Step::Run(line(repair))],
        ),
        // A kernel that lacks the file system says nothing about this one.
        false => Found::sound(
            &format!("clean, though it could not be tried to mount it: {why}"),
            code,
        ),
    }
}

/// F2FS. See fsck.f2fs(8); older versions end with 0 whatever they found, so what they say counts too.
///
/// Where files lost their directory it asks whether to copy them out, whatever its options say, and dies without an answer. A look
/// answers no. A repair is given no answer: should it come upon such files only then, it dies before it deletes them.
///
/// # Errors
/// When it cannot be started.
pub fn f2fs(job: &Job) -> anyhow::Result<Found> {
    let device = job.disk.device.as_str();
    let words = line(&["fsck.f2fs", "--dry-run", device]);
    let mut ran = job.run_answering("checking", &words, &"n\n".repeat(16))?;
    let complains = ran.said.contains("[Fail]") || ran.said.contains("[ASSERT]");
    if ran.code == Some(0) && complains {
        ran.code = Some(4);
    }
    Ok(judge_f2fs(&ran, device))
}

/// What it copies out are regular files, one of each name, and it does not notice that there is no room for them: so a person does that.
fn judge_f2fs(ran: &Ran, device: &str) -> Found {
    let found = judge(ran, 1..=7, &["fsck.f2fs", "-f", "-y", device]);
    if found.condition != Condition::Damaged || !ran.said.contains("restore lost files") {
        return found;
    }
    Found {
        advice: Some(format!(
            "copy them out by hand: 'yes y | fsck.f2fs --dry-run {device}' in an empty directory, with more room than they need, since it \
             does not tell when it is full; directories are left out, and of files of one name all but one. Look into lost_found there, \
             and only then repair, which deletes them: 'yes n | fsck.f2fs -f -y {device}'"
        )),
        ..Found::damaged(
            "errors were found, and files that are in no directory: a repair would delete these",
            found.code,
            Vec::new(),
        )
    }
}

/// NTFS. Only Windows has a real checker; ntfsfix sees to the few things without which it is not mounted.
///
/// # Errors
/// When it cannot be started.
pub fn ntfs(job: &Job) -> anyhow::Result<Found> {
    let device = job.disk.device.as_str();
    let ran = job.run("checking", &line(&["ntfsfix", "-n", device]))?;
    let mut found = judge(&ran, 1..=1, &["ntfsfix", device]);
    if found.condition == Condition::Sound {
        "nothing wrong that can be seen here; Windows' chkdsk sees more".clone_into(&mut found.says);
    }
    found.advice = Some("Windows' chkdsk can do what is not possible here".to_owned());
    Ok(found)
}

fn judge(ran: &Ran, errors: std::ops::RangeInclusive<i32>, repair: &[&str]) -> Found {
    match ran.code {
        _ if ran.stopped => Found {
            condition: Condition::Stopped,
            ..Found::sound("", ran.code)
        },
        Some(0) => Found::sound("clean", ran.code),
        Some(code) if errors.contains(&code) => {
            Found::damaged("errors were found", ran.code, vec![Step::Run(line(repair))])
        }
        _ => Found::unable(ran.code),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_without_a_directory_turn_the_repair_of_an_f2fs_off() {
        let told = |code, said: &str| {
            let ran = Ran {
                code: Some(code),
                said: said.to_owned(),
                ..Ran::default()
            };
            judge_f2fs(&ran, "/dev/x")
        };
        let fails = "[FSCK] Unreachable nat entries [Fail] [0x1]\n";
        let found = told(4, fails);
        assert!(found.steps.len() == 1 && found.advice.is_none());
        let found = told(
            4,
            &format!("{fails}\nDo you want to restore lost files into ./lost_found/? [Y/N] "),
        );
        assert_eq!((found.condition, found.steps), (Condition::Damaged, Vec::new()));
        assert!(
            found
                .advice
                .is_some_and(|advice| advice.contains("--dry-run /dev/x"))
        );
        assert_eq!(told(255, "").condition, Condition::Unable);
    }

    #[test]
    fn what_the_kernel_does_not_take_is_damaged_and_a_kernel_without_exfat_says_nothing() {
        let told = |why| judge_unmounted(why, Some(0), &["fsck.exfat", "-y", "/dev/x"]);
        for why in [Errno::INVAL, Errno::IO] {
            assert_eq!(
                (told(why).condition, told(why).steps.len()),
                (Condition::Damaged, 1)
            );
        }
        for why in [Errno::NODEV, Errno::NOSYS] {
            assert_eq!(
                (told(why).condition, told(why).steps.len()),
                (Condition::Sound, 0)
            );
        }
    }

    #[test]
    fn exit_codes_that_are_not_known_are_no_errors_of_the_file_system() {
        let told = |code| {
            let ran = Ran {
                code,
                ..Ran::default()
            };
            judge(&ran, 1..=7, &["fsck"]).condition
        };
        assert_eq!(told(Some(0)), Condition::Sound);
        assert_eq!(told(Some(4)), Condition::Damaged);
        assert_eq!(told(Some(8)), Condition::Unable);
        assert_eq!(told(Some(127)), Condition::Unable);
        assert_eq!(told(None), Condition::Unable);
    }
}
