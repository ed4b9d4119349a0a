//! A mount for a moment, in a place of our own.

use super::job::Job;
use crate::control;
use crate::work::slug;
use anyhow::{Context as _, bail};
use std::fs;
use std::path::PathBuf;

/// How it went.
pub enum Mounted {
    /// It is mounted.
    At(Place),
    /// It cannot be mounted, for this reason.
    Not(String),
}

/// Where it is mounted. Whoever has it unmounts it.
#[must_use]
pub struct Place {
    path: PathBuf,
}

/// Mounts the device of `job` as `fs`, for writing, which replays what waits in its log.
///
/// # Errors
/// No program to mount it, or no place.
pub fn mount(job: &Job, fs: &str) -> anyhow::Result<Mounted> {
    mount_with(job, fs, "nosuid,nodev,noexec")
}

/// The same for reading alone. It writes nothing only where the kernel has nothing to replay: no XFS, no btrfs, no ext with a journal.
///
/// # Errors
/// As [`mount`].
pub fn mount_to_read(job: &Job, fs: &str) -> anyhow::Result<Mounted> {
    mount_with(job, fs, "ro,nosuid,nodev,noexec")
}

fn mount_with(job: &Job, fs: &str, options: &str) -> anyhow::Result<Mounted> {
    let device = job.disk.device.as_str();
    let path = control::run_dir()
        .join("fsck")
        .join(format!("{}.mount", slug(device)));
    fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
    let place = Place { path };
    let words = ["mount", "-t", fs, "-o", options, device, &place.path()].map(str::to_owned);
    let ran = job.run("mounting", &words)?;
    if ran.code == Some(0) {
        return Ok(Mounted::At(place));
    }
    crate::output::ignore(fs::remove_dir(&place.path));
    Ok(Mounted::Not(why(&ran.said)))
}

/// The last line that says something; util-linux sends people to dmesg below it.
fn why(said: &str) -> String {
    let says = |line: &&str| !line.is_empty() && !line.starts_with("dmesg(1)");
    let line = said.lines().map(str::trim).rfind(says);
    line.unwrap_or("mount failed").to_owned()
}

impl Place {
    /// As an argument.
    pub fn path(&self) -> String {
        self.path.display().to_string()
    }

    /// Unmounts it.
    ///
    /// # Errors
    /// It stays mounted.
    pub fn unmount(self, job: &Job) -> anyhow::Result<()> {
        let words = ["umount".to_owned(), self.path()];
        let ran = job.run("unmounting", &words)?;
        if ran.code != Some(0) {
            bail!("{}: could not be unmounted; type: umount {0}", self.path());
        }
        crate::output::ignore(fs::remove_dir(&self.path));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::why;

    #[test]
    fn why_it_is_not_mounted_is_the_last_line_that_says_something() {
        let said = "mount: /run/x: can't read superblock on /dev/vdc.\n       dmesg(1) may have more information after failed mount system call.\n";
        assert_eq!(why(said), "mount: /run/x: can't read superblock on /dev/vdc.");
        assert_eq!(
            why("mount: mounting /dev/vdc on /x failed: Input/output error\n\n"),
            "mount: mounting /dev/vdc on /x failed: Input/output error"
        );
        assert_eq!(why("\n"), "mount failed");
    }
}
