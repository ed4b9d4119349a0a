//! Checkers that need no more than their exit codes: FAT, exFAT, F2FS, NTFS.

use super::found::{Condition, Found, Step, line};
use super::job::{Job, Ran};

/// FAT. See fsck.fat(8): 1 is errors, repaired or not.
///
/// # Errors
/// When it cannot be started.
pub fn fat(job: &Job) -> anyhow::Result<Found> {
    let device = job.disk.device.as_str();
    let ran = job.run("checking", &line(&["fsck.vfat", "-n", device]))?;
    Ok(judge(&ran, 1..=1, &["fsck.vfat", "-a", device]))
}

/// exFAT. See fsck.exfat(8): as e2fsck's, 4 is left uncorrected.
///
/// # Errors
/// When it cannot be started.
pub fn exfat(job: &Job) -> anyhow::Result<Found> {
    let device = job.disk.device.as_str();
    let ran = job.run("checking", &line(&["fsck.exfat", "-n", device]))?;
    Ok(judge(&ran, 1..=7, &["fsck.exfat", "-y", device]))
}

/// F2FS. See fsck.f2fs(8); older versions end with 0 whatever they found, so what they say counts too.
///
/// # Errors
/// When it cannot be started.
pub fn f2fs(job: &Job) -> anyhow::Result<Found> {
    let device = job.disk.device.as_str();
    let mut ran = job.run("checking", &line(&["fsck.f2fs", "--dry-run", device]))?;
    let complains = ran.said.contains("[Fail]") || ran.said.contains("[ASSERT]");
    if ran.code == Some(0) && complains {
        ran.code = Some(4);
    }
    Ok(judge(&ran, 1..=7, &["fsck.f2fs", "-f", "-y", device]))
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
