//! Looking into a file system without writing to it.
//!
//! `ro` is not enough: ext4 replays its journal and deletes what was left open even then, xfs and btrfs replay their logs. So the journal is
//! left alone by option, and the device itself refuses writes: what is mounted is a read-only loop device over it. The mount hangs nowhere
//! and goes away with this program, however it ends.

use super::attach::{Root, Wanted};
use super::options::Options;
use crate::disks::Disk;
use crate::tool;
use anyhow::Context as _;
use lifeboot_init::block::attach_loop;
use lifeboot_init::modules::Modules;
use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

/// File systems that a root can lie on.
const ROOTS: [&str; 6] = ["ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs"];

/// Whether a system can lie on this device itself.
pub fn can_hold_a_system(disk: &Disk) -> bool {
    disk.fs.as_deref().is_some_and(|fs| ROOTS.contains(&fs)) && !is_read_back(disk)
}

/// What a fetched or copied system is put together from. A root of its own, ready at /sysroot, is a system like another.
fn is_read_back(disk: &Disk) -> bool {
    disk.mounted.iter().any(|point| point == "/run/lifeboot/lower")
}

/// The root directory of the file system on `disk`; of btrfs the top, whichever subvolume is the default.
///
/// # Errors
/// It cannot be mounted, with the kernel's reason.
pub fn into(disk: &Disk) -> anyhow::Result<Root> {
    let fs = disk.fs.as_deref().unwrap_or_default();
    // What is in use has been written to already, and a second mount would have to agree with the first.
    let seen = disk.mounted.iter().find(|point| point.starts_with('/'));
    if let Some(point) = seen.filter(|_| fs != "btrfs") {
        return Root::open(Path::new(point));
    }
    let device = Path::new(&disk.device);
    if fs == "btrfs" {
        // It knows its parts by name, and a loop device would be taken for one of them.
        scan_btrfs();
        let options = if disk.mounted.is_empty() {
            "ro,rescue=nologreplay,subvolid=5"
        } else {
            "subvolid=5"
        };
        return mount(fs, device, &Options::parse(options));
    }
    // Where the loop driver is built in there is nothing to load; where it is missing the next line says so.
    drop(Modules::of_running_kernel().insert("loop"));
    let name = device.display().to_string();
    let file = File::open(device).with_context(|| name.clone())?;
    let copy = attach_loop(file.as_fd(), &name).context("loop device")?;
    mount(fs, &copy.path, &unwritten(fs))
}

/// The default subvolume of a btrfs that is not mounted.
///
/// # Errors
/// As for [`into`].
pub fn into_default(disk: &Disk) -> anyhow::Result<Root> {
    let options = if disk.mounted.is_empty() {
        "ro,rescue=nologreplay"
    } else {
        ""
    };
    mount("btrfs", Path::new(&disk.device), &Options::parse(options))
}

fn mount(fs: &str, source: &Path, options: &Options) -> anyhow::Result<Root> {
    let wanted = Wanted { fs, source, options };
    Ok(Root::new(wanted.mount()?))
}

/// Options with which nothing is written, not even what a journal holds.
pub fn unwritten(fs: &str) -> Options {
    Options::parse(match fs {
        "ext3" | "ext4" => "ro,noload",
        "xfs" | "f2fs" => "ro,norecovery",
        "btrfs" => "ro,rescue=nologreplay",
        _ => "ro",
    })
}

/// Tells the kernel which devices belong together.
pub fn scan_btrfs() {
    let Some(program) = program("btrfs") else { return };
    // A file system of one device needs no scan; one of several says at the mount what is missing.
    drop(tool::run(tool::command(
        &program.to_string_lossy(),
        ["device", "scan"],
    )));
}

/// Where a program of the image is, if the image has it.
pub fn program(name: &str) -> Option<PathBuf> {
    ["/usr/sbin", "/usr/bin", "/sbin", "/bin"]
        .iter()
        .map(|dir| Path::new(dir).join(name))
        .find(|path| path.exists())
}
