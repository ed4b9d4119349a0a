//! What the kernel says of the disk itself while it is checked: a sector that cannot be read is no damage of the file system, and what mends
//! file systems makes a disk that dies die sooner.

use crate::disks::Disk;
use rustix::fs::{Mode, OFlags, SeekFrom, open, seek};
use rustix::io::{Errno, read};
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;

/// The kernel's log from when it was opened on.
#[derive(Debug)]
pub struct Kernel {
    log: Option<OwnedFd>,
    /// What the kernel calls the device, and what it lies on.
    names: Vec<String>,
}

impl Kernel {
    /// Listens to what is said of `disk`, one of `all`.
    pub fn listen(disk: &Disk, all: &[Disk]) -> Kernel {
        let mut names = vec![name(&disk.device)];
        let mut parent = disk.parent.as_deref();
        while let Some(device) = parent {
            names.push(name(device));
            let found = all.iter().find(|other| other.device == device);
            // A ring of parents would be odd, and is none of ours.
            parent = found
                .and_then(|disk| disk.parent.as_deref())
                .filter(|_| names.len() < 16);
        }
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let log = open("/dev/kmsg", flags, Mode::empty()).ok();
        let log = log.filter(|log| seek(log, SeekFrom::End(0)).is_ok());
        Kernel { log, names }
    }

    /// The errors since then, or since this was asked last. Each read gives one record (the kernel's Documentation/ABI/testing/dev-kmsg).
    pub fn errors(&self) -> Vec<String> {
        let mut errors = Vec::new();
        let Some(log) = &self.log else {
            return errors;
        };
        let mut record = [0; 8192];
        loop {
            match read(log, &mut record) {
                Ok(0) => return errors,
                Ok(length) => {
                    let text = String::from_utf8_lossy(record.get(..length).unwrap_or_default());
                    let said = text.split_once(';').and_then(|(_, said)| said.lines().next());
                    errors.extend(said.filter(|said| self.is_error(said)).map(str::to_owned));
                }
                // Records that were overwritten before they were read.
                Err(Errno::PIPE | Errno::INTR) => {}
                Err(_) => return errors,
            }
        }
    }

    /// `I/O error, dev sda, sector 8 op 0x0:(READ) …`, `critical medium error, dev …`, `Buffer I/O error on dev dm-0, logical block 1, …`.
    fn is_error(&self, said: &str) -> bool {
        let behind = said
            .split_once(" error, dev ")
            .or_else(|| said.split_once(" error on dev "));
        behind.is_some_and(|(_, behind)| {
            let name = behind.split([',', ' ']).next();
            self.names.iter().any(|one| Some(one.as_str()) == name)
        })
    }
}

/// What the kernel calls a device: `dm-0` for what is `/dev/mapper/data` to people.
fn name(device: &str) -> String {
    let of_number = |number: u64| {
        let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
        fs::read_link(format!("/sys/dev/block/{major}:{minor}")).ok()
    };
    let link = fs::metadata(device).ok().and_then(|meta| of_number(meta.rdev()));
    let name = link.and_then(|link| link.file_name().map(|name| name.to_string_lossy().into_owned()));
    name.unwrap_or_else(|| device.rsplit('/').next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_those_of_this_disk_and_what_it_lies_on() {
        let kernel = Kernel {
            log: None,
            names: vec!["sda1".to_owned(), "sda".to_owned()],
        };
        for (said, is) in [
            (
                "blk_update_request: I/O error, dev sda, sector 2048 op 0x0:(READ) flags 0x0",
                true,
            ),
            ("critical medium error, dev sda, sector 7", true),
            (
                "Buffer I/O error on dev sda1, logical block 1, async page read",
                true,
            ),
            ("I/O error, dev sdaa, sector 2048", false),
            (
                "Buffer I/O error on dev sda2, logical block 1, async page read",
                false,
            ),
            ("XFS (sda1): Mounting V5 Filesystem", false),
            ("sda: an error, device sda", false),
        ] {
            assert_eq!(kernel.is_error(said), is, "{said}");
        }
        assert!(kernel.errors().is_empty());
    }

    #[test]
    fn a_device_is_called_what_the_kernel_calls_it() {
        assert_eq!(name("/dev/mapper/no-such-device"), "no-such-device");
    }

    #[test]
    fn of_a_partition_the_disk_is_listened_for_too() {
        let mut all = crate::disks::tests::seen();
        all[1].parent = Some(all[0].device.clone());
        let names = Kernel::listen(&all[1], &all).names;
        assert_eq!(names.len(), 2, "{names:?}");
    }
}
