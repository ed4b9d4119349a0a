//! OS images: a real Debian under systemd, and a tiny one that only reports what it found.

use super::{cache_dir, image_builder, keys_dir, once};
use crate::fixtures::{keys, tiny};
use crate::guest::Board;
use crate::process;
use anyhow::{Context, Result};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};

/// Packs with most of zstd's gain in a fraction of its time: these images are made on the machine that tests them.
const LEVEL: &str = "6";

/// A squashfs and its signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OsImage {
    /// The squashfs.
    pub squashfs: PathBuf,
    /// Its minisign signature by [`keys::TRUSTED`].
    pub signature: PathBuf,
    /// The tarball it was made from.
    pub tarball: PathBuf,
}

/// Which OS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Os {
    /// A Debian that boots to systemd's multi-user target and lets the test key in by ssh.
    Debian,
    /// Boots in seconds, reports what it found as an event, and carries a payload large enough to be cut in.
    Tiny,
}

/// The Debian for that board's architecture; two minutes the first time.
///
/// # Errors
/// It could not be made.
pub fn debian_os(board: Board) -> Result<OsImage> {
    Os::Debian.packed(board)
}

/// The tiny OS for that board's architecture.
///
/// # Errors
/// It could not be made.
pub fn tiny_os(board: Board) -> Result<OsImage> {
    Os::Tiny.packed(board)
}

impl Os {
    /// The tarball of its files, made once.
    ///
    /// # Errors
    /// It could not be made.
    pub fn tarball(self, board: Board) -> Result<PathBuf> {
        keys::ssh()?;
        let arch = board.debian_arch();
        let script = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("scripts")
            .join("debian-os");
        let key = keys_dir().join("ed25519.pub");
        let (name, what_went_in) = match self {
            Os::Debian => ("debian", digest(&[&fs::read(&script)?, &fs::read(&key)?])),
            Os::Tiny => (
                "tiny",
                digest(&[tiny::INIT.as_bytes(), &tiny::PAYLOAD_BYTES.to_le_bytes()]),
            ),
        };
        let tarball = cache_dir()
            .join("os")
            .join(format!("{name}-{arch}-{what_went_in}.tar"));
        once(&tarball, |partial| match self {
            Os::Debian => {
                let words = [arch.as_ref(), key.as_os_str(), partial.as_os_str()];
                process::run(&script.to_string_lossy(), words).map(drop)
            }
            Os::Tiny => tiny::make(board, partial),
        })?;
        Ok(tarball)
    }

    /// The squashfs of that tarball and its signature, made once.
    ///
    /// # Errors
    /// It could not be made.
    pub fn packed(self, board: Board) -> Result<OsImage> {
        keys::minisign()?;
        packed(self.tarball(board)?)
    }
}

fn packed(tarball: PathBuf) -> Result<OsImage> {
    let name = tarball
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let trusted = keys_dir().join(keys::TRUSTED);
    let key_id = digest(&[&fs::read(trusted.with_extension("pub")).context("the trusted key")?]);
    let squashfs = cache_dir()
        .join("os")
        .join(format!("{name}-{LEVEL}-{key_id}.squashfs"));
    once(&squashfs, |partial| {
        let words = [
            "squashfs".as_ref(),
            // Making new ones under emulation would be most of a boot.
            "--keep-ssh-host-keys".as_ref(),
            "--level".as_ref(),
            LEVEL.as_ref(),
            tarball.as_os_str(),
            partial.as_os_str(),
        ];
        process::run(&image_builder().to_string_lossy(), words).map(drop)
    })?;
    let signature = with_suffix(&squashfs, ".minisig");
    once(&signature, |partial| {
        let made = sign(&squashfs, keys::TRUSTED)?;
        fs::rename(&made, partial).with_context(|| made.display().to_string())
    })?;
    Ok(OsImage {
        squashfs,
        signature,
        tarball,
    })
}

/// Signs `file` with the test key of that name; the signature lies in the cache, not beside the file.
///
/// # Errors
/// The builder could not sign it.
pub fn sign(file: &Path, key: &str) -> Result<PathBuf> {
    let name = file.file_name().context("nothing to sign")?;
    let dir = cache_dir()
        .join("os")
        .join(format!("signed-{key}-{}", std::process::id()));
    fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
    // The builder writes beside what it signs.
    let beside = dir.join(name);
    if !beside.exists() {
        std::os::unix::fs::symlink(file, &beside).with_context(|| beside.display().to_string())?;
    }
    let secret = keys_dir().join(key).with_extension("key");
    let words = [
        "sign".as_ref(),
        "--key".as_ref(),
        secret.as_os_str(),
        beside.as_os_str(),
    ];
    process::run(&image_builder().to_string_lossy(), words)?;
    let signature = cache_dir()
        .join("os")
        .join(format!(".{}.{key}.minisig", name.to_string_lossy()));
    fs::rename(with_suffix(&beside, ".minisig"), &signature)
        .with_context(|| signature.display().to_string())?;
    fs::remove_dir_all(&dir).with_context(|| dir.display().to_string())?;
    Ok(signature)
}

pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// The first 16 hex digits of the SHA-256 over all parts, each with its length.
pub(super) fn digest(parts: &[&[u8]]) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher
        .finalize()
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
