//! Unmounting: the deepest first, all or nothing as far as that can be known before, and never behind anybody's back.

use super::holders::{self, Holder};
use super::state::{By, Held};
use super::table;
use anyhow::{Context as _, bail};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};
use std::path::{Path, PathBuf};

/// What an unmount does with what is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Nothing is unmounted then.
    Whole,
    /// It goes out of sight now, and is unmounted when its last user has gone.
    Lazy,
}

/// Why something is still mounted.
#[derive(Debug, thiserror::Error)]
#[error("{} is in use by {}", at.display(), shown(holders))]
pub struct InUse {
    /// What.
    pub at: PathBuf,
    /// By whom.
    pub holders: Vec<Holder>,
}

fn shown(holders: &[Holder]) -> String {
    match holders {
        [] => "the kernel".to_owned(),
        some => holders::shown(some),
    }
}

/// Unmounts everything at and beneath `place`.
///
/// # Errors
/// [`InUse`], or as the kernel says.
pub fn everything(place: &Path, manner: Manner) -> anyhow::Result<()> {
    if manner == Manner::Lazy {
        // All of it goes at once, whatever is in use.
        while !table::within(&table::read()?, place).is_empty() {
            let mounts = table::read()?;
            let Some(last) = table::within(&mounts, place)
                .pop()
                .map(|mount| mount.target.clone())
            else {
                break;
            };
            unmount(&last, UnmountFlags::DETACH).with_context(|| last.display().to_string())?;
        }
        return Ok(());
    }
    let holders = holders::of(place);
    if !holders.is_empty() {
        bail!(InUse {
            at: place.to_owned(),
            holders
        });
    }
    loop {
        let mounts = table::read()?;
        let Some(last) = deepest(&mounts, place) else {
            return Ok(());
        };
        match unmount(&last, UnmountFlags::NOFOLLOW) {
            Ok(()) => {}
            Err(Errno::BUSY) => bail!(InUse {
                holders: holders::of(&last),
                at: last
            }),
            Err(error) => return Err(error).with_context(|| last.display().to_string()),
        }
    }
}

/// The mount to take down next: the youngest of those with the longest path.
fn deepest(mounts: &[table::Mounted], place: &Path) -> Option<PathBuf> {
    let within = table::within(mounts, place);
    let depth = |target: &Path| target.components().count();
    let last = within.iter().max_by_key(|mount| depth(&mount.target))?;
    Some(last.target.clone())
}

/// Unmounts the system at `at` and forgets it. What a person mounted by hand stays.
///
/// # Errors
/// As [`everything`]; then it is still remembered.
pub fn system(held: &mut Held, at: &Path, manner: Manner) -> anyhow::Result<()> {
    let Some(placed) = held.state.at(at).cloned() else {
        bail!(
            "{}: nothing of 'rescue mount' or 'rescue chroot' is there",
            at.display()
        );
    };
    if placed.by == By::Person {
        binds(&placed.binds, manner)?;
    } else {
        everything(at, manner)?;
    }
    held.state.systems.retain(|other| other.at != at);
    held.save()
}

/// Unmounts what a chroot has put into a system, the last first.
///
/// # Errors
/// As [`everything`].
pub fn binds(binds: &[PathBuf], manner: Manner) -> anyhow::Result<()> {
    for bind in binds.iter().rev() {
        if table::at(&table::read()?, bind).is_some() {
            everything(bind, manner)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_deepest_goes_first_and_the_last_mount_of_a_place_before_the_first() {
        let mount = |id, target: &str| table::Mounted {
            id,
            target: target.into(),
            root: String::new(),
            fs: String::new(),
            source: String::new(),
            read_only: false,
        };
        let mut mounts = vec![
            mount(1, "/"),
            mount(2, "/mnt"),
            mount(3, "/mnt/boot"),
            mount(4, "/mnt/boot/efi"),
            mount(5, "/mnt/proc"),
            mount(6, "/mnt2"),
        ];
        let mut order = Vec::new();
        while let Some(next) = deepest(&mounts, Path::new("/mnt")) {
            let index = mounts.iter().rposition(|mount| mount.target == next).unwrap();
            order.push(mounts.remove(index).id);
        }
        assert_eq!(order, [4, 5, 3, 2]);
    }
}
