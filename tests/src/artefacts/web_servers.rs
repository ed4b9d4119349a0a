//! Web servers of docs/serving.md, unpacked into the cache and not installed: a package that is installed starts its service on port 80.

use super::{cache_dir, once};
use crate::process;
use anyhow::{Context, Result, ensure};
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// Packages of this machine's own Debian; each program is called like its package.
const PACKAGES: [&str; 2] = ["caddy", "nginx"];

/// Fetches those that are not there.
///
/// # Errors
/// The packages could not be had.
pub fn fetch() -> Result<()> {
    for package in PACKAGES.into_iter().filter(|program| !installed(program)) {
        once(&unpacked(package), |partial| {
            fs::create_dir_all(partial)?;
            let mut download = Command::new("apt-get");
            download
                .args(["download", "--quiet", package])
                .current_dir(partial);
            process::run_with(&mut download, b"")?
                .success()
                .context("apt-get download")?;
            let names = fs::read_dir(partial)?;
            let archives: Vec<PathBuf> = names.flatten().map(|entry| entry.path()).collect();
            ensure!(archives.len() == 1, "apt-get download left {archives:?}");
            process::run(
                "dpkg-deb",
                ["-x".as_ref(), archives[0].as_os_str(), partial.as_os_str()],
            )?;
            Ok(fs::remove_file(&archives[0])?)
        })?;
    }
    Ok(())
}

/// `PATH` with what was fetched behind what is installed.
pub fn search_path() -> OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/sbin");
    for package in PACKAGES {
        for directory in ["usr/bin", "usr/sbin"] {
            path.push(":");
            path.push(unpacked(package).join(directory));
        }
    }
    path
}

fn unpacked(package: &str) -> PathBuf {
    cache_dir().join("web-servers").join(package)
}

fn installed(program: &str) -> bool {
    ["/usr/bin", "/usr/sbin"]
        .iter()
        .any(|directory| PathBuf::from(directory).join(program).exists())
}
