//! An OpenSSH client of an older Debian (8.4, of 2020), unpacked into the cache and run beside the system's.

use super::{cache_dir, once};
use crate::process;
use anyhow::{Context, Result};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The oldest Debian that mirrors still have.
const SUITE: &str = "bullseye";

/// The directory it is in.
///
/// # Errors
/// It could not be had; the message begins with "could not run".
pub fn unpacked() -> Result<PathBuf> {
    let dir = cache_dir().join(format!("openssh-{SUITE}"));
    once(&dir, |partial| {
        fs::create_dir_all(partial)?;
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts");
        let mirror = process::run(&scripts.join("apt-source").to_string_lossy(), [""; 0])?;
        let mut fetch = Command::new("mmdebstrap");
        fetch.args([
            "--quiet",
            "--variant=extract",
            "--format=tar",
            "--include=openssh-client",
        ]);
        fetch.args(["--aptopt=Acquire::Check-Valid-Until \"false\";", SUITE, "-"]);
        fetch.arg(format!("deb {} {SUITE} main", mirror.trim()));
        let archive = process::run_with(&mut fetch, b"")?
            .success()
            .with_context(|| format!("could not run: no openssh-client of {SUITE}"))?
            .stdout;
        let mut unpack = Command::new("tar");
        unpack
            .args(["--no-same-owner", "--exclude=./dev/*", "-xf", "-", "-C"])
            .arg(partial);
        process::run_with(&mut unpack, &archive)?
            .success()
            .context("tar")?;
        Ok(())
    })?;
    Ok(dir)
}

/// A program of it, with the libraries there and by the loader there.
pub fn command(root: &Path, program: &str) -> Command {
    let [loader, rest @ ..] = words(root);
    let mut command = Command::new(loader);
    command.args(rest).arg(root.join("usr/bin").join(program));
    command
}

/// A script at `path` that is its `ssh`, for `scp -S`.
///
/// # Errors
/// The file's.
pub fn script(root: &Path, path: &Path) -> Result<()> {
    let ssh = root.join("usr/bin/ssh");
    let text = format!(
        "#!/bin/sh\nexec {} {} \"$@\"\n",
        words(root).join(" "),
        ssh.display()
    );
    fs::write(path, text).with_context(|| path.display().to_string())?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).with_context(|| path.display().to_string())
}

fn words(root: &Path) -> [String; 3] {
    let arch = std::env::consts::ARCH;
    let loader = match arch {
        "aarch64" => "ld-linux-aarch64.so.1",
        _ => "ld-linux-x86-64.so.2",
    };
    // Not the one in /lib64, a link that leads out of this directory.
    let libraries = |dir: &str| root.join(dir).join(format!("{arch}-linux-gnu"));
    let loader = libraries("lib").join(loader).display().to_string();
    let path = format!(
        "{}:{}",
        libraries("usr/lib").display(),
        libraries("lib").display()
    );
    [loader, "--library-path".to_owned(), path]
}
