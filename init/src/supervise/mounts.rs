//! What PID 1 mounts before anything else, as a table, and what it unmounts after everything else.

use crate::report::unheeded;
use rustix::mount::{MountFlags as Flags, UnmountFlags, mount_remount, unmount};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use sys_mount::{Mount, MountFlags};

struct Entry {
    kind: &'static str,
    target: &'static str,
    flags: MountFlags,
    data: &'static str,
}

fn table() -> [Entry; 6] {
    let safe = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    [
        Entry {
            kind: "proc",
            target: "/proc",
            flags: safe,
            data: "",
        },
        Entry {
            kind: "sysfs",
            target: "/sys",
            flags: safe,
            data: "",
        },
        Entry {
            kind: "devtmpfs",
            target: "/dev",
            flags: MountFlags::NOSUID,
            data: "mode=0755",
        },
        Entry {
            kind: "devpts",
            target: "/dev/pts",
            flags: MountFlags::NOSUID | MountFlags::NOEXEC,
            data: "mode=0620,ptmxmode=0666,gid=5",
        },
        Entry {
            kind: "tmpfs",
            target: "/dev/shm",
            flags: MountFlags::NOSUID | MountFlags::NODEV,
            data: "mode=1777",
        },
        Entry {
            kind: "tmpfs",
            target: "/run",
            flags: MountFlags::NOSUID | MountFlags::NODEV,
            data: "mode=0755,size=25%",
        },
    ]
}

/// Links that programs expect in /dev and the kernel does not make.
const LINKS: [(&str, &str); 4] = [
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
];

/// Mounts the table; what went wrong is returned as sentences, and the rest is done all the same.
pub(super) fn basic() -> Vec<String> {
    let mut trouble = Vec::new();
    for entry in table() {
        let made = fs::create_dir_all(entry.target);
        let mounted = made.and_then(|()| {
            Mount::builder()
                .fstype(entry.kind)
                .flags(entry.flags)
                .data(entry.data)
                .mount(entry.kind, entry.target)
        });
        if let Err(error) = mounted {
            trouble.push(format!("{} on {}: {error}", entry.kind, entry.target));
        }
    }
    for (to, link) in LINKS {
        if !Path::new(link).exists()
            && let Err(error) = symlink(to, link)
        {
            trouble.push(format!("{link}: {error}"));
        }
    }
    for dir in ["/run/lifeboot/log", "/tmp", "/mnt", "/root"] {
        if let Err(error) = fs::create_dir_all(dir) {
            trouble.push(format!("{dir}: {error}"));
        }
    }
    // Until a lease, ip= or lifeboot.hostname= says better.
    if rustix::system::uname().nodename().to_bytes() == b"(none)"
        && let Err(error) = rustix::system::sethostname(b"lifeboot")
    {
        trouble.push(format!("host name: {error}"));
    }
    if let Err(error) = quiet_kernel() {
        trouble.push(format!("/proc/sys/kernel/printk: {error}"));
    }
    trouble
}

/// Keeps the kernel's chatter from the consoles, unless `loglevel=`, `quiet` or `debug` chose a level: all of them move it away from its default, 7.
fn quiet_kernel() -> std::io::Result<()> {
    let levels = fs::read_to_string("/proc/sys/kernel/printk")?;
    if levels.split_whitespace().next() == Some("7") {
        fs::write("/proc/sys/kernel/printk", "4")
    } else {
        Ok(())
    }
}

/// Unmounts what is mounted from block devices, with what lies in it (a chroot's /proc, say), the last first, so that nothing is left dirty;
/// what is beneath one of `kept` stays. What is in use all the same becomes read-only.
pub(super) fn unmount_disks(kept: &[&str]) {
    let table = fs::read_to_string("/proc/mounts").unwrap_or_default();
    for target in of_disks(&table, kept).iter().rev() {
        if unmount(target.as_str(), UnmountFlags::NOFOLLOW).is_err() {
            unheeded(target, mount_remount(target.as_str(), Flags::RDONLY, c""));
        }
    }
}

/// Places of /proc/mounts where a disk or an overlay is mounted, or something inside one, in the order of mounting.
fn of_disks(table: &str, kept: &[&str]) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for line in table.lines() {
        let Some((source, target)) = line
            .split_once(' ')
            .and_then(|(source, rest)| Some((source, rest.split(' ').next()?)))
        else {
            continue;
        };
        let target = unescaped(target);
        let beneath = |place: &str| Path::new(&target).starts_with(place);
        let wanted =
            source.starts_with("/dev/") || source == "overlay" || found.iter().any(|place| beneath(place));
        if wanted && !kept.iter().any(|place| beneath(place)) {
            found.push(target);
        }
    }
    found
}

/// Blanks and their like are written as `\040` (proc_pid_mounts(5)).
fn unescaped(field: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(field.to_owned(), |text, (code, character)| {
            text.replace(code, character)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
rootfs / rootfs rw 0 0
devtmpfs /dev devtmpfs rw 0 0
/dev/loop0 /run/lifeboot/lower squashfs ro 0 0
overlay /sysroot overlay rw 0 0
/dev/vda2 /mnt ext4 rw 0 0
/dev/vda1 /mnt/boot vfat rw 0 0
devtmpfs /mnt/dev devtmpfs rw 0 0
proc /mnt/proc proc rw 0 0
/dev/vdb1 /my\\040disk ext4 rw 0 0
tmpfs /mnt2 tmpfs rw 0 0
";

    #[test]
    fn disks_are_unmounted_with_what_a_chroot_has_put_into_them() {
        let all = of_disks(TABLE, &[]);
        let expected = [
            "/run/lifeboot/lower",
            "/sysroot",
            "/mnt",
            "/mnt/boot",
            "/mnt/dev",
            "/mnt/proc",
            "/my disk",
        ];
        assert_eq!(all, expected);
    }

    #[test]
    fn what_the_next_system_stands_on_stays_and_what_people_mounted_does_not() {
        let beside = of_disks(TABLE, &["/sysroot", "/run/lifeboot"]);
        assert_eq!(beside, ["/mnt", "/mnt/boot", "/mnt/dev", "/mnt/proc", "/my disk"]);
    }

    #[test]
    fn a_table_that_is_none_names_nothing() {
        for table in ["", "\n", "x", "/dev/x", " \n "] {
            assert!(of_disks(table, &[]).iter().all(String::is_empty), "{table:?}");
        }
    }
}
