//! A mount for a moment, in a place of our own.

use super::job::Job;
use crate::work::{self, Purpose, slug};
use crate::{control, output};
use anyhow::Context as _;
use rustix::io::Errno;
use rustix::mount::{
    FsOpenFlags, UnmountFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsopen, unmount,
};
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
    let device = job.disk.device.as_str();
    let path = place_of(device);
    fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
    let place = Place { path };
    let options = "nosuid,nodev,noexec";
    let words = ["mount", "-t", fs, "-o", options, device, &place.path()].map(str::to_owned);
    let ran = job.run("mounting", &words)?;
    if ran.code == Some(0) {
        return Ok(Mounted::At(place));
    }
    // One that is stopped may have done it all the same.
    output::ignore(place.free());
    Ok(Mounted::Not(why(&ran.said)))
}

/// Whether the kernel takes what is on `device` as a `fs` for reading. It has no place meanwhile and so it stays mounted nowhere, even
/// where this process is killed. It writes nothing only where the kernel has nothing to replay: no XFS, no btrfs, no ext with a journal.
///
/// # Errors
/// What the kernel says: it does not take it, or cannot try.
pub fn try_to_read(device: &str, fs: &str) -> rustix::io::Result<()> {
    let context = fsopen(fs, FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "source", device)?;
    fsconfig_set_flag(&context, "ro")?;
    fsconfig_create(&context)
}

/// Unmounts what one that was killed has left mounted in a place of ours.
pub fn leave_none() {
    let entries = fs::read_dir(places()).into_iter().flatten().flatten();
    for path in entries.map(|entry| entry.path()) {
        let Some(slug) = path
            .file_name()
            .and_then(|name| name.to_str()?.strip_suffix(".mount"))
        else {
            continue;
        };
        // Whoever mounts there has the device for itself as long as they live.
        if let Ok(lock) = work::take(slug, Purpose::Look) {
            output::ignore(Place { path }.free());
            drop(lock);
        }
    }
}

fn places() -> PathBuf {
    control::run_dir().join("fsck")
}

fn place_of(device: &str) -> PathBuf {
    places().join(format!("{}.mount", slug(device)))
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
        if ran.code == Some(0) {
            output::ignore(fs::remove_dir(&self.path));
            return Ok(());
        }
        // One that was stopped has not done it.
        let freed = self.free();
        freed.with_context(|| format!("{}: could not be unmounted; type: umount {0}", self.path()))
    }

    /// Removes the place, and unmounts before that what is mounted there.
    fn free(&self) -> std::io::Result<()> {
        match unmount(&self.path, UnmountFlags::NOFOLLOW) {
            // Nothing is.
            Ok(()) | Err(Errno::INVAL) => fs::remove_dir(&self.path),
            Err(errno) => Err(errno.into()),
        }
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
