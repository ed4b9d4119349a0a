//! What has been built: where it lies, and how it is brought about.
//!
//! `make` builds with [`prepare`]; tests only look. What is expensive and the same for every checkout (OS images, keys) lies in the
//! user's cache directory under a name made of what went in; the rest lies in the target directory.

pub mod old_openssh;
mod os_image;
mod prepare;
mod qemu;
pub mod raspios;
pub mod web_servers;

pub use os_image::{Os, OsImage, debian_os, sign, tiny_os};
pub use prepare::{Wanted, build, device_executable, everything, image, image_builder, prepare};
pub use qemu::with_machine as qemu_with_machine;

use crate::guest::Board;
use anyhow::{Context, Result, bail};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// What QEMU loads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootFiles {
    /// The kernel.
    pub kernel: PathBuf,
    /// The initramfs.
    pub initrd: PathBuf,
    /// The device tree, where QEMU does not make one.
    pub dtb: Option<PathBuf>,
}

/// The checkout.
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Cargo's target directory.
pub fn target_dir() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => workspace().join(dir),
        None => workspace().join("target"),
    }
}

/// The user's cache directory for lifeboot.
pub fn cache_dir() -> PathBuf {
    let base = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute());
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/root".into())).join(".cache");
    base.unwrap_or_else(home).join("lifeboot")
}

/// Throw-away keys: they are made once and open test guests on this machine's loopback, nothing else.
pub fn keys_dir() -> PathBuf {
    cache_dir().join("test-keys")
}

/// The image built for tests on `board`, if it has been.
///
/// # Errors
/// It has not been built.
pub fn test_image(board: Board) -> Result<BootFiles> {
    let dir = image_dir(board);
    let dtb = match board {
        Board::Pi3 => Some(dir.join("bcm2837-rpi-3-b.dtb")),
        Board::Pi4 => Some(dir.join("bcm2711-rpi-4-b.dtb")),
        Board::VirtArm64 | Board::PcX86_64 => None,
    };
    let files = BootFiles {
        kernel: dir.join("kernel"),
        initrd: dir.join("initramfs.cpio.zst"),
        dtb,
    };
    if !files.initrd.exists() {
        bail!(
            "could not run: {}: not there, `make images` builds it",
            files.initrd.display()
        );
    }
    Ok(files)
}

/// The image for the PC that has every feature, if it has been built.
///
/// # Errors
/// It has not been built.
pub fn everything_image() -> Result<BootFiles> {
    let dir = everything_dir();
    let files = BootFiles {
        kernel: dir.join("kernel"),
        initrd: dir.join("initramfs.cpio.zst"),
        dtb: None,
    };
    if !files.initrd.exists() {
        bail!(
            "could not run: {}: not there, `make images` builds it",
            files.initrd.display()
        );
    }
    Ok(files)
}

/// Where that image is built.
fn everything_dir() -> PathBuf {
    target_dir().join("lifeboot").join("images").join("everything")
}

/// The unified kernel image of `board`, if it has been built.
///
/// # Errors
/// It has not been built.
pub fn uki(board: Board) -> Result<PathBuf> {
    let path = image_dir(board).join("lifeboot.efi");
    if !path.exists() {
        bail!(
            "could not run: {}: not there, `make images` builds it",
            path.display()
        );
    }
    Ok(path)
}

/// Where the image for tests on `board` is built.
pub fn image_dir(board: Board) -> PathBuf {
    target_dir().join("lifeboot").join("images").join(board.name())
}

/// Runs `make` unless `path` is there; `make` gets another name, which becomes `path` when all of it is written. Two processes that
/// want the same thing wait for one another.
///
/// # Errors
/// Those of `make`, or of the file system.
pub(crate) fn once(path: &Path, make: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let dir = path
        .parent()
        .with_context(|| format!("{}: no directory", path.display()))?;
    fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    let name = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let lock = File::create(dir.join(format!(".{name}.lock"))).with_context(|| path.display().to_string())?;
    lock.lock().with_context(|| path.display().to_string())?;
    if path.exists() {
        return Ok(());
    }
    let partial = dir.join(format!(".{name}.partial"));
    make(&partial).with_context(|| name)?;
    fs::rename(&partial, path).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_not_made_again_and_a_failure_leaves_nothing() {
        let dir = std::env::temp_dir().join(format!("lifeboot-once-{}", std::process::id()));
        let path = dir.join("thing");
        assert!(once(&path, |_| bail!("no")).is_err());
        assert!(!path.exists());
        once(&path, |partial| Ok(fs::write(partial, "1")?)).unwrap();
        once(&path, |_| bail!("made twice")).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "1");
        fs::remove_dir_all(&dir).unwrap();
    }
}
