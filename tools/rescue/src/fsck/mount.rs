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
    let device = job.disk.device.as_str();
    let path = control::run_dir()
        .join("fsck")
        .join(format!("{}.mount", slug(device)));
    fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
    let place = Place { path };
    let words = [
        "mount",
        "-t",
        fs,
        "-o",
        "nosuid,nodev,noexec",
        device,
        &place.path(),
    ]
    .map(str::to_owned);
    let ran = job.run("mounting", &words)?;
    if ran.code == Some(0) {
        return Ok(Mounted::At(place));
    }
    crate::output::ignore(fs::remove_dir(&place.path));
    let said = ran.said.lines().rfind(|line| !line.trim().is_empty());
    let why = said.map_or_else(|| "mount failed".to_owned(), |line| line.trim().to_owned());
    Ok(Mounted::Not(why))
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
