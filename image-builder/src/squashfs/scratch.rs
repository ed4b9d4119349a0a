//! The directory an image grows in, beside where it belongs, so that the last step is one rename.
//!
//! A program that is killed cannot tidy up. So the directory is locked while it is in use, and the next image that is made beside it
//! removes those that nobody holds.

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use tempfile::TempDir;

/// How their names begin; six letters of chance follow.
const PREFIX: &str = ".lifeboot-squashfs-";
/// Between being made and being locked it may look like a leftover.
const YOUNG: Duration = Duration::from_secs(60);

/// With fewer bytes than this free, space is what a write that failed has lacked: more than a block of a squashfs.
const FULL: u64 = 2 << 20;

/// Removed with all that is in it when dropped.
#[derive(Debug)]
pub struct Scratch {
    directory: TempDir,
    /// Held until then; the kernel lets go of it however the program ends.
    _lock: Option<File>,
}

impl Scratch {
    /// Makes one for an image, after leftovers of earlier ones are gone.
    pub fn beside(image: &Path) -> Result<Self> {
        let parent = image.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("."));
        remove_leftovers(parent, SystemTime::now());
        let directory = tempfile::Builder::new().prefix(PREFIX).tempdir_in(parent);
        let directory = directory.with_context(|| image.display().to_string())?;
        let lock = locked(directory.path());
        Ok(Self {
            directory,
            _lock: lock,
        })
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }
}

/// The directory's lock, if it is free. Where a file system has no locks nobody gets one, and nothing is taken for a leftover.
fn locked(directory: &Path) -> Option<File> {
    let open = File::open(directory).ok()?;
    open.try_lock().is_ok().then_some(open)
}

fn remove_leftovers(parent: &Path, now: SystemTime) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let path = entry.path();
        // Of a link this is about the link, so that none is followed.
        let Ok(meta) = entry.metadata() else { continue };
        let age = meta
            .modified()
            .map(|time| now.duration_since(time).unwrap_or_default());
        let ours = entry.file_name().to_string_lossy().starts_with(PREFIX)
            && meta.is_dir()
            && age.is_ok_and(|age| age > YOUNG);
        let Some(_lock) = ours.then(|| locked(&path)).flatten() else {
            continue;
        };
        match fs::remove_dir_all(&path) {
            Ok(()) => eprintln!("{}: removed, of a run that was ended", path.display()),
            Err(error) => eprintln!("{}: {error}", path.display()),
        }
    }
}

/// An error of a program that wrote this file and does not say why it could not, with what is known of the space it had. The file
/// is held open: the program takes the name away, and until it is closed the file keeps what it has filled.
pub fn with_space(error: anyhow::Error, file: &File) -> anyhow::Error {
    match rustix::fs::fstatvfs(file) {
        Ok(space) if space.f_bavail.saturating_mul(space.f_frsize) < FULL => {
            error.context("no space left on the device that the image is written to")
        }
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn place(names: &[&str]) -> TempDir {
        let place = tempfile::tempdir().unwrap();
        for name in names {
            fs::create_dir(place.path().join(name)).unwrap();
            fs::write(place.path().join(name).join("image"), "half").unwrap();
        }
        place
    }

    fn names(place: &TempDir) -> Vec<String> {
        let entries = fs::read_dir(place.path()).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn what_a_killed_run_left_is_removed_and_what_a_running_one_has_is_not() {
        let leftover = ".lifeboot-squashfs-aaaaaa";
        let place = place(&[leftover]);
        let later = SystemTime::now() + YOUNG + Duration::from_secs(1);
        let running = Scratch::beside(&place.path().join("image")).unwrap();
        assert_eq!(names(&place).len(), 2, "young ones stay");
        remove_leftovers(place.path(), later);
        let own = running.path().file_name().unwrap().to_str().unwrap().to_owned();
        assert_eq!(names(&place), [own]);
        drop(running);
        assert!(names(&place).is_empty());
    }

    #[test]
    fn nothing_else_is_removed() {
        let place = place(&[".squashfs-aaaaaa", "lifeboot-squashfs-aaaaaa"]);
        fs::write(place.path().join(".lifeboot-squashfs-file"), "x").unwrap();
        let (own, link) = (tempfile::tempdir().unwrap(), ".lifeboot-squashfs-link");
        fs::write(own.path().join("mine"), "x").unwrap();
        symlink(own.path(), place.path().join(link)).unwrap();
        let before = names(&place);
        remove_leftovers(place.path(), SystemTime::now() + YOUNG * 60 * 24 * 2);
        assert_eq!(names(&place), before);
        assert!(own.path().join("mine").exists());
    }

    #[test]
    fn a_full_device_is_named_where_a_program_says_nothing_of_it() {
        let told = |file: File| format!("{:#}", with_space(anyhow::anyhow!("I/O error."), &file));
        // A file system without any free block.
        assert_eq!(
            told(File::open("/proc/version").unwrap()),
            "no space left on the device that the image is written to: I/O error."
        );
        assert_eq!(told(tempfile::tempfile().unwrap()), "I/O error.");
    }
}
