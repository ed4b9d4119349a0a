//! Stage handover: PID 1 becomes the real init.
//!
//! Everything that can fail is tried first, and a failed exec is undone: the mounts go back and PID 1 returns to rescue. The
//! initramfs is emptied by a helper process that waits for the exec to succeed, so nothing is deleted before it is certain that
//! it is not needed any more. The running kernel's modules stay where they are and are bound into a root that has none.

use crate::report::{FailureExt, Reporter, failure, unheeded};
use crate::stage::mount::executable;
use lifeboot_contract::control::ReadyRoot;
use lifeboot_contract::event::{Failure, Stage};
use lifeboot_contract::image::RUN;
use rustix::fs::{CWD, FsWord, Mode, OFlags, open, statfs};
use rustix::mount::{MoveMountFlags, mount_bind, mount_move, move_mount};
use std::fs;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};

mod secrets;

/// What moves into the new root, in this order.
const MOVED: [&str; 4] = ["dev", "proc", "sys", "run"];

/// What may have a file system in memory of its own, see `supervise::mounts`.
const PLACES: [&str; 2] = ["/root", "/tmp"];
/// TMPFS_MAGIC of the kernel's include/uapi/linux/magic.h.
const TMPFS: FsWord = 0x0102_1994;

/// Executes the real init. Returns only if that failed, with everything as it was before.
pub fn run(root: &ReadyRoot, reporter: &Reporter) -> Failure {
    match attempt(root, reporter) {
        Ok(never) => match never {},
        Err(failed) => failed,
    }
}

fn attempt(root: &ReadyRoot, reporter: &Reporter) -> Result<std::convert::Infallible, Failure> {
    let path = Path::new(&root.path);
    let fail = |what: String| failure(Stage::Handover, format!("{}: {what}", root.source));
    executable(path, &root.init).map_err(|why| fail(format!("{}: {why}", root.init)))?;
    prepare(path).map_err(|(dir, error)| fail(format!("{dir} cannot be made in it")).because(&error))?;
    reporter.ignore("modules", bind_modules(path));
    reporter.ignore("resolv.conf", name_servers(path));
    let directory = |of: &Path| {
        open(
            of,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
    };
    let old = directory(Path::new("/")).map_err(|error| fail("/".to_owned()).because(&error))?;
    let new = directory(path).map_err(|error| fail(root.path.clone()).because(&error))?;
    let sweeper =
        sweeper().map_err(|error| fail("the process that frees the initramfs".to_owned()).because(&error))?;
    let (secrets, taken) = secrets::take(Path::new(RUN));
    reporter.ignore("host key", taken);
    let entered = enter(path, &new);
    let cause = match entered {
        Ok(()) => execute(root),
        Err(errno) => errno.into(),
    };
    // Only reached when something went wrong. The sweeper is told to go away before its pipe closes.
    reporter.ignore("sweeper", call_off(sweeper));
    reporter.ignore("going back", leave(&old, &new));
    reporter.ignore("host key", secrets.put_back());
    Err(fail(format!("{} could not be executed", root.init)).because(&cause))
}

/// The directories that the moved mounts need.
fn prepare(root: &Path) -> Result<(), (String, std::io::Error)> {
    for name in MOVED {
        let dir = root.join(name);
        if !dir.is_dir() {
            fs::create_dir(&dir).map_err(|error| (format!("/{name}"), error))?;
        }
    }
    Ok(())
}

/// A root without modules for this kernel sees those of the rescue image.
fn bind_modules(root: &Path) -> std::io::Result<()> {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let ours = Path::new("/usr/lib/modules").join(&release);
    let base = if root.join("usr/lib").is_dir() {
        "usr/lib/modules"
    } else {
        "lib/modules"
    };
    let theirs = root.join(base).join(&release);
    if theirs.join("modules.dep").exists() || theirs.join("kernel").is_dir() || !ours.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(&theirs)?;
    mount_bind(&ours, &theirs).map_err(Into::into)
}

/// A root without an opinion about name servers gets those of the lease; a link (to systemd-resolved's file, say) is an opinion.
fn name_servers(root: &Path) -> std::io::Result<()> {
    let (ours, theirs) = (
        Path::new("/run/lifeboot/resolv.conf"),
        root.join("etc/resolv.conf"),
    );
    let wanted = fs::symlink_metadata(&theirs).map_or(true, |meta| meta.is_file() && meta.len() == 0);
    if wanted && ours.exists() && root.join("etc").is_dir() {
        fs::write(&theirs, fs::read(ours)?)?;
    }
    Ok(())
}

fn enter(path: &Path, new: &OwnedFd) -> rustix::io::Result<()> {
    for name in MOVED {
        mount_move(Path::new("/").join(name), path.join(name))?;
    }
    rustix::process::fchdir(new)?;
    mount_move(".", "/")?;
    rustix::process::chroot(".")?;
    rustix::process::chdir("/")
}

/// Undoes [`enter`], however far it came. The new root stays where it lies, above the old one.
fn leave(old: &OwnedFd, new: &OwnedFd) -> rustix::io::Result<()> {
    rustix::process::fchdir(old)?;
    rustix::process::chroot(".")?;
    for name in MOVED.iter().rev() {
        // Those that had not been moved yet are not there to be moved back.
        if move_mount(new, *name, old, *name, MoveMountFlags::empty()).is_err() {
            continue;
        }
    }
    // Put the root itself back to where the next attempt looks for it.
    move_mount(new, "", CWD, "sysroot", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

fn execute(root: &ReadyRoot) -> std::io::Error {
    Command::new(&root.init)
        .args(&root.args)
        .env_clear()
        .env(
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        )
        .env("HOME", "/")
        .env(
            "TERM",
            std::env::var("TERM").unwrap_or_else(|_| "linux".to_owned()),
        )
        .exec()
}

/// Starts the helper that empties the initramfs when its standard input closes, which exec does.
fn sweeper() -> std::io::Result<ChildStdin> {
    let mut child = Command::new("/init")
        .arg0("rescue")
        .arg("free-initramfs")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    child
        .stdin
        .take()
        .ok_or_else(|| std::io::ErrorKind::BrokenPipe.into())
}

fn call_off(mut sweeper: ChildStdin) -> std::io::Result<()> {
    std::io::Write::write_all(&mut sweeper, b"stay")
}

/// The helper: waits, then deletes every file of the initramfs but the kernel's modules.
///
/// Only files on the very file system this process was started on, and in memory on [`PLACES`], are touched; mounts below are not entered.
pub fn free_initramfs() -> u8 {
    let mut told = Vec::new();
    match std::io::stdin().read_to_end(&mut told) {
        Ok(0) => {}
        _ => return 1,
    }
    let root = Path::new("/");
    let Ok(device) = fs::metadata(root).map(|meta| meta.dev()) else {
        return 1;
    };
    for place in PLACES.map(Path::new) {
        // What somebody has mounted there is theirs, a server's directory for one.
        if let Ok(meta) = fs::metadata(place)
            && statfs(place).is_ok_and(|found| found.f_type == TMPFS)
        {
            sweep(place, meta.dev(), 0);
        }
    }
    sweep(root, device, 0);
    0
}

fn sweep(dir: &Path, device: u64, depth: usize) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let Ok(meta) = fs::symlink_metadata(&path) else {
            continue;
        };
        if meta.dev() != device || path == Path::new("/usr/lib/modules") || depth > 64 {
            continue;
        }
        if meta.is_dir() {
            sweep(&path, device, depth + 1);
        } else {
            // A file that cannot be deleted costs its memory, nothing else.
            unheeded("freeing the initramfs", fs::remove_file(&path));
        }
    }
}
