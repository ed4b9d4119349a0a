//! Files on other devices: key files and detached headers.
//!
//! The file system is mounted read-only at no place at all: the mount belongs to a descriptor and is gone with it, also when this
//! process is killed. No journal is replayed, so the device is not written to.

use crate::block;
use crate::secret::{LONGEST_KEY, Secret};
use lifeboot_contract::plan::{BlockId, FilePlace, Header};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string,
    fsmount, fsopen,
};
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// File systems a key or a header is read from, with what keeps each from writing.
const KINDS: [(&str, &str, &str); 7] = [
    ("vfat", "vfat", ""),
    ("exfat", "exfat", ""),
    ("ext2", "ext4", "noload"),
    ("ext3", "ext4", "noload"),
    ("ext4", "ext4", "noload"),
    ("xfs", "xfs", "norecovery"),
    ("iso9660", "iso9660", ""),
];

/// The bytes of a key file, wherever it is.
///
/// # Errors
/// The device is not there, its file system is not one that is read, the file is not there or too long.
pub fn read_key(place: &FilePlace) -> Result<Secret, String> {
    let at = |what: String| format!("{place}: {what}");
    let file = open(place).map_err(at)?;
    let meta = file.metadata().map_err(|error| at(error.to_string()))?;
    if !meta.is_file() {
        return Err(at("is not a file".to_owned()));
    }
    if meta.len() > LONGEST_KEY as u64 {
        return Err(at(format!(
            "has {} bytes, at most {LONGEST_KEY} are read",
            meta.len()
        )));
    }
    // The length is known, so no buffer has to grow and leave a copy behind.
    let secret = Secret::read_at_most(meta.len() as usize, file).map_err(|error| at(error.to_string()))?;
    match secret.bytes() {
        [] => Err(at("is empty".to_owned())),
        _ => Ok(secret),
    }
}

/// Calls `work` with a path of the header that is good as long as this call lasts.
pub(super) fn with_header<T>(
    header: &Header,
    work: impl FnOnce(&Path) -> Result<T, String>,
) -> Result<T, String> {
    match header {
        Header::Device(id) => work(&present(id)?),
        Header::File(place) => match &place.device {
            None => work(Path::new(&place.path)),
            Some(_) => {
                let file = open(place).map_err(|what| format!("header {place}: {what}"))?;
                // cryptsetup opens it by the descriptor we hold: the mount it lies in has no path.
                let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
                work(Path::new(&path))
            }
        },
    }
}

fn open(place: &FilePlace) -> Result<File, String> {
    let Some(id) = &place.device else {
        return File::open(&place.path).map_err(|error| error.to_string());
    };
    let mount = mount(&present(id)?)?;
    let path = Path::new(&place.path);
    let relative = path.strip_prefix("/").unwrap_or(path);
    // A stick's links lead nowhere but to the stick, its device nodes are not opened, and nothing on it can make this wait.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let confined = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    let file =
        openat2(&mount, relative, flags, Mode::empty(), confined).map_err(|error| error.to_string())?;
    let file = File::from(file);
    match file.metadata() {
        Ok(meta) if meta.is_file() => Ok(file),
        Ok(_) => Err("is not a file".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// The device of that name, which must be one and must be there.
fn present(id: &BlockId) -> Result<PathBuf, String> {
    let found = block::find_all(id).map_err(|error| error.to_string())?;
    match found.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(format!("{id} is not there")),
        several => Err(format!("{id} means {} devices", several.len())),
    }
}

/// Mounts a file system read-only; it stays mounted as long as the descriptor, or one in it, is open.
fn mount(device: &Path) -> Result<OwnedFd, String> {
    let name = device.display();
    let kind = block::fstype(device).map_err(|error| error.to_string())?;
    let kind = kind.ok_or_else(|| format!("{name}: no file system is recognised"))?;
    let known = KINDS.iter().find(|(found, ..)| *found == kind);
    let (_, driver, without_journal) = known.ok_or_else(|| {
        let names: Vec<&str> = KINDS.iter().map(|(name, ..)| *name).collect();
        format!(
            "{name} is {kind}, keys and headers are read from {}",
            names.join(", ")
        )
    })?;
    let made = fsopen(*driver, FsOpenFlags::FSOPEN_CLOEXEC).and_then(|context| {
        fsconfig_set_string(&context, "source", device)?;
        fsconfig_set_flag(&context, "ro")?;
        if !without_journal.is_empty() {
            fsconfig_set_flag(&context, *without_journal)?;
        }
        fsconfig_create(&context)?;
        let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
            | MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
    });
    made.map_err(|error| format!("{name} ({kind}) cannot be mounted: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_of_this_machine_is_read_as_it_is() {
        let path = std::env::temp_dir().join(format!("lifeboot-key-{}", std::process::id()));
        std::fs::write(&path, b"a key\n\0").unwrap();
        let place = FilePlace::parse(path.to_str().unwrap()).unwrap();
        assert_eq!(read_key(&place).unwrap().bytes(), b"a key\n\0");
        std::fs::write(&path, b"").unwrap();
        assert!(read_key(&place).is_err());
        std::fs::remove_file(&path).unwrap();
        let told = read_key(&place).err().unwrap();
        assert!(told.contains("No such file"), "{told}");
        assert!(read_key(&FilePlace::parse("/tmp").unwrap()).is_err());
    }

    #[test]
    fn a_device_that_is_not_there_is_named() {
        let place = FilePlace::parse("/k:/dev/lifeboot-none").unwrap();
        let told = read_key(&place).err().unwrap();
        assert_eq!(told, "/k on /dev/lifeboot-none: /dev/lifeboot-none is not there");
    }
}
