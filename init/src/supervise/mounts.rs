//! What PID 1 mounts before anything else, as a table, and what it unmounts after everything else.

use crate::report::unheeded;
use rustix::mount::{MountFlags as Flags, UnmountFlags, mount_bind, mount_remount, unmount};
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
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
            data: "mode=1777,size=5%",
        },
        Entry {
            kind: "tmpfs",
            target: "/run",
            flags: MountFlags::NOSUID | MountFlags::NODEV,
            data: "mode=0755,size=20%",
        },
    ]
}

/// What the files that people make may take of the memory, where nothing else limits them. With the limits of the table and an unpacked
/// image there is memory left for processes even when all of these are full: a kernel that finds none panics.
const SCRATCH: &str = "mode=0700,size=40%";
/// Where people put files, and who may.
const PLACES: [(&str, u32); 2] = [("/root", 0o700), ("/tmp", 0o1777)];
/// RAMFS_MAGIC of the kernel's include/uapi/linux/magic.h.
const RAMFS: rustix::fs::FsWord = 0x8584_58F6;

/// Bytes; with less left, something that was unpacked found no room.
const FULL: u64 = 1 << 20;

/// Seconds from a kernel panic to the restart, where `panic=` does not say: nobody is there to press a button.
const PANIC_SECONDS: &str = "10";

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
    if let Err(error) = limit_files() {
        trouble.push(format!("a limit for files in /tmp and /root: {error}"));
    }
    if let Err(error) = restart_after_panic() {
        trouble.push(format!("/proc/sys/kernel/panic: {error}"));
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

/// With `root=` on the command line the kernel unpacks the initramfs into a ramfs, which has no limit, and without it into a tmpfs of half the
/// memory (`init_rootfs` in the kernel's init/do_mounts.c). Then one tmpfs with a limit takes the files of all [`PLACES`].
fn limit_files() -> std::io::Result<()> {
    if rustix::fs::statfs("/")?.f_type != RAMFS {
        return Ok(());
    }
    let limited = "/tmp";
    Mount::builder()
        .fstype("tmpfs")
        .flags(MountFlags::NOSUID | MountFlags::NODEV)
        .data(SCRATCH)
        .mount("tmpfs", limited)?;
    for (place, mode) in PLACES {
        let own = Path::new(limited).join(place.trim_start_matches('/'));
        fs::create_dir(&own)?;
        fs::set_permissions(&own, fs::Permissions::from_mode(mode))?;
        // The last hides the whole of it.
        mount_bind(&own, place)?;
    }
    Ok(())
}

/// Whether there was no room for the whole initramfs, as the end of a sentence about what is missing of it; a ramfs is never full.
pub(super) fn when_full(root: &Path) -> String {
    let Ok(found) = rustix::fs::statvfs(root) else {
        return String::new();
    };
    let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
    said_of(bytes(found.f_blocks), bytes(found.f_bavail))
}

fn said_of(size: u64, left: u64) -> String {
    if size == 0 || left >= FULL {
        return String::new();
    }
    let megabytes = size / 1_000_000;
    format!(
        "; it does not fit: unpacked it may have {megabytes} MB here, half of the memory, and more memory or an image with fewer features helps"
    )
}

fn restart_after_panic() -> std::io::Result<()> {
    let said = fs::read_to_string("/proc/cmdline")?;
    if said.split_whitespace().any(|word| word.starts_with("panic=")) {
        return Ok(());
    }
    fs::write("/proc/sys/kernel/panic", PANIC_SECONDS)
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

/// Whether something is mounted at exactly this place; also when the kernel does not say.
pub(super) fn is_mounted(place: &str) -> bool {
    fs::read_to_string("/proc/mounts").map_or(true, |table| has(&table, place))
}

fn has(table: &str, place: &str) -> bool {
    let target = |line: &str| Some(unescaped(line.split(' ').nth(1)?));
    table.lines().filter_map(target).any(|target| target == place)
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
    fn a_place_is_mounted_or_only_lies_in_a_mount() {
        assert!(has(TABLE, "/sysroot") && has(TABLE, "/my disk"));
        assert!(!has(TABLE, "/sysroot/boot") && !has(TABLE, "/my"));
    }

    #[test]
    fn what_the_next_system_stands_on_stays_and_what_people_mounted_does_not() {
        let beside = of_disks(TABLE, &["/sysroot", "/run/lifeboot"]);
        assert_eq!(beside, ["/mnt", "/mnt/boot", "/mnt/dev", "/mnt/proc", "/my disk"]);
    }

    #[test]
    fn what_did_not_fit_is_said_where_it_is_full_and_has_a_limit() {
        assert!(said_of(96_000_000, FULL - 1).contains("96 MB"));
        assert_eq!(said_of(96_000_000, FULL), "");
        assert_eq!(said_of(0, 0), "", "a ramfs");
    }

    #[test]
    fn a_table_that_is_none_names_nothing() {
        for table in ["", "\n", "x", "/dev/x", " \n "] {
            assert!(of_disks(table, &[]).iter().all(String::is_empty), "{table:?}");
        }
    }
}
