//! What PID 1 mounts before anything else, as a table.

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
