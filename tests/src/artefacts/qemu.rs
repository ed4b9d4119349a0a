//! A QEMU that has the machine wanted: the system's, or where that is too old the one of a newer Debian, unpacked into the cache and run
//! beside it.

use super::{cache_dir, once};
use crate::fixtures::tiny::packages;
use crate::guest::Board;
use crate::process;
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const PROGRAM: &str = "qemu-system-aarch64";

/// The command of a QEMU for arm64 that has `machine`, without further words.
///
/// # Errors
/// There is none; the message begins with "could not run".
pub fn with_machine(machine: &str) -> Result<Command> {
    if has(&mut Command::new(PROGRAM), machine) {
        return Ok(Command::new(PROGRAM));
    }
    let unpacked = unpacked();
    if has(&mut beside(&unpacked), machine) {
        return Ok(beside(&unpacked));
    }
    bail!(
        "could not run: this QEMU has no {machine}, which came with 9.0, and `make images` has not fetched a newer one"
    )
}

/// Fetches a newer QEMU unless the system's has `machine`.
///
/// # Errors
/// The packages could not be had.
pub fn fetch(machine: &str) -> Result<()> {
    if has(&mut Command::new(PROGRAM), machine) {
        return Ok(());
    }
    // For the machine that this runs on.
    let host = match std::env::consts::ARCH {
        "aarch64" => Board::VirtArm64,
        _ => Board::PcX86_64,
    };
    once(&unpacked(), |partial| {
        let archive = packages(host, "qemu-system-arm")?;
        fs::create_dir_all(partial)?;
        let mut command = Command::new("tar");
        // Device nodes are no part of what is wanted and cannot be made by everybody.
        command
            .args(["--no-same-owner", "--exclude=./dev/*", "-xf", "-", "-C"])
            .arg(partial);
        process::run_with(&mut command, &archive)?
            .success()
            .context("tar")?;
        Ok(())
    })
}

fn unpacked() -> PathBuf {
    cache_dir().join("qemu-trixie")
}

/// QEMU below `root`, with the libraries there and by the loader there.
fn beside(root: &Path) -> Command {
    let triplet = format!("{}-linux-gnu", std::env::consts::ARCH);
    let libraries = root.join("usr/lib").join(triplet);
    let loader = match std::env::consts::ARCH {
        "aarch64" => "usr/lib/ld-linux-aarch64.so.1",
        _ => "usr/lib64/ld-linux-x86-64.so.2",
    };
    let mut command = Command::new(root.join(loader));
    command.arg("--library-path").arg(libraries);
    command.arg(root.join("usr/bin").join(PROGRAM));
    command.arg("-L").arg(root.join("usr/share/qemu"));
    command
}

fn has(qemu: &mut Command, machine: &str) -> bool {
    let listed = process::run_with(qemu.args(["-M", "help"]), b"");
    listed.is_ok_and(|outcome| {
        outcome
            .text()
            .lines()
            .any(|line| line.split_whitespace().next() == Some(machine))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_no_qemu_has_is_told_apart_from_one_that_is_there() {
        assert!(with_machine("virt").is_ok());
        let error = with_machine("raspi99").unwrap_err().to_string();
        assert!(
            error.starts_with("could not run: this QEMU has no raspi99"),
            "{error}"
        );
    }
}
