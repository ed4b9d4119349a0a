//! A GUID partition table, of which the disk has two copies.

use super::found::{Found, Step};
use super::job::Job;
use crate::disks::gpt::{self, Gpt};
use anyhow::Context as _;
use lifeboot_init::block;
use std::fs::File;

/// Looks.
///
/// # Errors
/// The disk's.
pub fn look(job: &Job) -> anyhow::Result<Found> {
    let device = job.disk.device.as_str();
    let mut disk = File::open(device).with_context(|| device.to_owned())?;
    let Some(table) = gpt::read(&mut disk, device)? else {
        return Ok(Found::unable(None));
    };
    Ok(judge(table.state))
}

fn judge(state: Gpt) -> Found {
    match state {
        Gpt::Whole => Found::sound("both copies of its partition table are good", None),
        Gpt::BackupNotAtEnd => Found::sound(
            "its partition table is good; the copy is not at the end of the disk, as after writing an image of a smaller one",
            None,
        ),
        Gpt::PrimaryDamaged => Found::damaged(
            "its partition table is damaged, so the kernel sees no partitions; the copy at the end of the disk is good",
            None,
            vec![Step::RestoreTable],
        ),
        Gpt::BackupDamaged => Found::damaged(
            "its partition table is good, the copy at the end of the disk is damaged",
            None,
            vec![Step::RestoreTable],
        ),
        Gpt::Differing => Found {
            advice: Some("'fdisk -l' shows the first; nothing here decides which is right".to_owned()),
            ..Found::damaged("the two copies of its partition table differ", None, Vec::new())
        },
        Gpt::Lost => Found {
            advice: Some(
                "a program that searches for lost partitions is needed, or a note of where they were"
                    .to_owned(),
            ),
            ..Found::damaged("both copies of its partition table are damaged", None, Vec::new())
        },
    }
}

/// Writes the damaged copy from the good one and has the kernel look for partitions again.
///
/// # Errors
/// The disk's.
pub fn restore(device: &str) -> anyhow::Result<()> {
    let mut disk = File::options()
        .read(true)
        .write(true)
        .open(device)
        .with_context(|| device.to_owned())?;
    let table = gpt::read(&mut disk, device)?.context("no partition table is left")?;
    table.restore(&disk, device)?;
    if block::reread_partitions(&disk).is_err() {
        crate::output::complain(&format!(
            "rescue: {device}: the kernel does not look for partitions while the disk is in use"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fsck::found::Condition;

    #[test]
    fn only_what_has_a_good_copy_is_written_to() {
        for (state, condition, steps) in [
            (Gpt::Whole, Condition::Sound, 0),
            (Gpt::BackupNotAtEnd, Condition::Sound, 0),
            (Gpt::PrimaryDamaged, Condition::Damaged, 1),
            (Gpt::BackupDamaged, Condition::Damaged, 1),
            (Gpt::Differing, Condition::Damaged, 0),
            (Gpt::Lost, Condition::Damaged, 0),
        ] {
            let found = judge(state);
            assert_eq!(
                (found.condition, found.steps.len()),
                (condition, steps),
                "{state:?}"
            );
        }
    }
}
