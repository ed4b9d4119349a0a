//! Mounting, by the kernel's newer calls: first a mount that hangs nowhere, then hung where it belongs.
//!
//! The place is an open descriptor, found inside the installed system's own root. A link in it that begins with `/` therefore leads where it
//! leads when that system runs, and never into the rescue system.

use super::options::{Bind, Options};
use super::os_release::tame;
use anyhow::{Context as _, bail};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount_remount, move_mount, open_tree,
};
use std::fs;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// A file system that the kernel did not mount.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// No driver for it.
    #[error("this image has no driver for {0}")]
    NoDriver(String),
    /// An option that this kernel or this file system does not take, with what was said about it.
    #[error("option '{0}' is not taken: {1}")]
    Option(String, String),
    /// Nothing can be written to the device.
    #[error("it is write-protected")]
    WriteProtected,
    /// Anything else.
    #[error("{0}")]
    Kernel(String),
}

/// What is to be mounted of a file system.
#[derive(Debug)]
pub struct Wanted<'a> {
    /// `ext4`, as blkid says.
    pub fs: &'a str,
    /// `/dev/vda1`, or the file system's name where there is no device.
    pub source: &'a Path,
    /// How.
    pub options: &'a Options,
}

impl Wanted<'_> {
    /// A mount that hangs nowhere yet, and goes away with its descriptor.
    ///
    /// # Errors
    /// As the kernel says, in its own words where it has some.
    pub fn mount(&self) -> Result<OwnedFd, Refused> {
        let mut refused = Refused::NoDriver(self.fs.to_owned());
        for kind in kinds(self.fs) {
            match fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC) {
                Ok(context) => return self.create(&context),
                Err(Errno::NODEV) => {}
                Err(error) => refused = Refused::Kernel(error.to_string()),
            }
        }
        Err(refused)
    }

    fn create(&self, context: &OwnedFd) -> Result<OwnedFd, Refused> {
        let set = |key: &str, value: Option<&str>| {
            let done = match value {
                Some(value) => fsconfig_set_string(context, key, value),
                None => fsconfig_set_flag(context, key),
            };
            done.map_err(|error| Refused::Option(tame(key), words(context, error)))
        };
        fsconfig_set_string(context, "source", self.source)
            .map_err(|error| Refused::Kernel(words(context, error)))?;
        if self.options.read_only {
            set("ro", None)?;
        }
        for (key, value) in &self.options.own {
            set(key, value.as_deref())?;
        }
        match fsconfig_create(context) {
            Ok(()) => {}
            Err(Errno::ROFS | Errno::ACCESS) if !self.options.read_only => {
                return Err(Refused::WriteProtected);
            }
            Err(error) => return Err(Refused::Kernel(words(context, error))),
        }
        let mut attributes = self.options.attributes;
        if self.options.read_only {
            attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY;
        }
        fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
            .map_err(|error| Refused::Kernel(words(context, error)))
    }
}

/// Names the kernel may know a file system by.
fn kinds(fs: &str) -> Vec<&str> {
    match fs {
        // Kernels since 7.1 have a new driver under the old name.
        "ntfs" => vec!["ntfs3", "ntfs"],
        "msdos" => vec!["vfat"],
        "ext4dev" => vec!["ext4"],
        fs => vec![fs],
    }
}

/// What the kernel says about a failure: the last line it left with the file system being made, else the error's name.
fn words(context: &OwnedFd, error: Errno) -> String {
    let mut said = error.to_string();
    let mut line = [0; 512];
    while let Ok(count @ 3..) = rustix::io::read(context, &mut line) {
        // "e ext4: Unknown parameter 'x'": the first letter is how bad it is.
        if let Some(text) = line.get(2..count).filter(|_| line[0] == b'e') {
            said = tame(String::from_utf8_lossy(text).trim());
        }
    }
    said
}

/// A directory of the rescue system, with what is mounted in it if that is asked; it hangs nowhere yet.
///
/// # Errors
/// As the kernel says.
pub fn clone(of: BorrowedFd<'_>, bind: Bind) -> rustix::io::Result<OwnedFd> {
    let mut flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    if bind == Bind::Recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    open_tree(of, "", flags)
}

/// Hangs a mount over what `place` is open at.
///
/// # Errors
/// As the kernel says.
pub fn hang(mount: BorrowedFd<'_>, place: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, "", place, "", flags)
}

/// Makes what hangs at `place` read-only, for this place alone.
///
/// # Errors
/// As the kernel says.
pub fn refuse_writes(place: &Path) -> rustix::io::Result<()> {
    mount_remount(place, MountFlags::BIND | MountFlags::RDONLY, c"")
}

/// The directory of an installed system, from which everything in it is found.
#[derive(Debug)]
pub struct Root(OwnedFd);

impl Root {
    /// Of a mount or an open directory.
    pub fn new(directory: OwnedFd) -> Root {
        Root(directory)
    }

    /// Of a directory by name.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn open(directory: &Path) -> anyhow::Result<Root> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(directory, flags, Mode::empty());
        Ok(Root(opened.with_context(|| directory.display().to_string())?))
    }

    /// What is at `path` inside it; links are followed inside it.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn find(&self, path: &str) -> rustix::io::Result<OwnedFd> {
        self.find_with(path, OFlags::PATH)
    }

    /// The same, opened as said.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn find_with(&self, path: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let inside = path.trim_start_matches('/');
        let inside = if inside.is_empty() { "." } else { inside };
        openat2(
            &self.0,
            inside,
            flags | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::IN_ROOT,
        )
    }

    /// The first `limit` bytes of a file.
    ///
    /// # Errors
    /// As the kernel says; what is no file is one too.
    pub fn read(&self, path: &str, limit: u64) -> std::io::Result<Vec<u8>> {
        use std::io::Read as _;
        // A FIFO would wait for a writer.
        let file = fs::File::from(self.find_with(path, OFlags::RDONLY | OFlags::NONBLOCK)?);
        if !file.metadata()?.is_file() {
            return Err(std::io::Error::from(std::io::ErrorKind::InvalidData));
        }
        let mut bytes = Vec::new();
        file.take(limit).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Where a descriptor is open, as the kernel names it from here.
pub fn name_of(descriptor: BorrowedFd<'_>) -> anyhow::Result<PathBuf> {
    fs::read_link(format!("/proc/self/fd/{}", descriptor.as_raw_fd())).context("/proc/self/fd")
}

/// Makes sure that something may be mounted at `place`: a directory that is empty or not there yet, and not the rescue system's own root.
///
/// # Errors
/// Why not.
pub fn empty_place(place: &Path) -> anyhow::Result<OwnedFd> {
    let shown = place.display();
    if !place.is_absolute() || place == Path::new("/") {
        bail!("{shown}: not a place to mount a system at; give a directory such as /mnt");
    }
    fs::create_dir_all(place).with_context(|| shown.to_string())?;
    if fs::read_dir(place)
        .with_context(|| shown.to_string())?
        .next()
        .is_some()
    {
        bail!("{shown}: not empty; its files would be hidden");
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, place, flags, Mode::empty()).with_context(|| shown.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_of_an_installed_system_are_followed_inside_it() {
        let dir = std::env::temp_dir().join(format!("lifeboot-attach-{}", std::process::id()));
        fs::create_dir_all(dir.join("usr/lib")).unwrap();
        fs::create_dir_all(dir.join("etc")).unwrap();
        fs::write(dir.join("usr/lib/os-release"), "ID=x\n").unwrap();
        symlink("/usr/lib/os-release", dir.join("etc/os-release")).unwrap();
        symlink("../../../../../../etc/hostname", dir.join("etc/out")).unwrap();
        let root = Root::open(&dir).unwrap();
        assert_eq!(root.read("/etc/os-release", 100).unwrap(), b"ID=x\n");
        assert_eq!(root.read("etc/os-release", 2).unwrap(), b"ID");
        assert!(root.read("/etc/out", 100).is_err(), "it led into this machine");
        assert!(root.read("/etc", 100).is_err(), "a directory is no file");
        assert_eq!(name_of(root.find("/").unwrap().as_fd()).unwrap(), dir);
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn nothing_is_mounted_over_files_of_the_rescue_system() {
        for place in ["/", "mnt", "/etc"] {
            assert!(empty_place(Path::new(place)).is_err(), "{place}");
        }
    }
}
