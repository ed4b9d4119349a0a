//! Building what tests and the demo boot.

use super::os_image::{Os, digest};
use super::{everything_dir, image_dir, keys_dir, target_dir, workspace};
use crate::fixtures::keys;
use crate::guest::Board;
use crate::process;
use crate::step::step;
use anyhow::{Context, Result, anyhow};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What shall be there afterwards.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Images for these boards.
    pub boards: BTreeSet<Board>,
    /// The image for the PC that has every feature.
    pub everything: bool,
    /// OS images.
    pub os: BTreeSet<(Os, Board)>,
}

/// Builds what is missing or stale, each step with its time. The files of the OS images are got together while the compiler
/// runs: the one waits for the network and for an emulator on one core, the other takes what cores there are.
///
/// # Errors
/// The first thing that could not be built.
pub fn prepare(wanted: &Wanted) -> Result<()> {
    keys::ssh()?;
    std::thread::scope(|scope| {
        let tarballs = scope.spawn(|| -> Result<()> {
            for (os, board) in &wanted.os {
                let what = format!(
                    "{os:?} for {}, its files (beside the compiler)",
                    board.debian_arch()
                );
                step(&what, || os.tarball(*board))?;
            }
            Ok(())
        });
        let images = compile(wanted);
        tarballs
            .join()
            .map_err(|_| anyhow!("making the OS images panicked"))??;
        images
    })?;
    for (os, board) in &wanted.os {
        step(
            &format!("{os:?} for {}, packed and signed", board.debian_arch()),
            || os.packed(*board),
        )?;
    }
    Ok(())
}

fn compile(wanted: &Wanted) -> Result<()> {
    step("image-builder", || {
        cargo(&["build", "--package", "lifeboot-image-builder"])
    })?;
    keys::minisign()?;
    let arches: BTreeSet<&str> = wanted.boards.iter().map(|board| board.arch()).collect();
    for arch in arches {
        step(&format!("device executable for {arch}"), || {
            device_executable(arch)
        })?;
    }
    if wanted.boards.contains(&Board::Pi4) {
        step("QEMU with a Pi 4", || super::qemu::fetch("raspi4b"))?;
    }
    for board in &wanted.boards {
        step(&format!("image for {}", board.name()), || image(*board))?;
    }
    if wanted.everything {
        step("image with every feature", everything)?;
    }
    Ok(())
}

/// The host program that builds images.
pub fn image_builder() -> PathBuf {
    target_dir().join("debug").join("image-builder")
}

/// Cargo's profile for the device: `LIFEBOOT_PROFILE` overrides it while developing.
fn profile() -> String {
    std::env::var("LIFEBOOT_PROFILE").unwrap_or_else(|_| "device".to_owned())
}

/// Builds the executable of the device for `arch` (`aarch64`, `x86_64`).
///
/// # Errors
/// Cargo failed.
pub fn device_executable(arch: &str) -> Result<PathBuf> {
    let target = format!("{arch}-unknown-linux-musl");
    let profile = profile();
    cargo(&[
        "build",
        "--profile",
        &profile,
        "--target",
        &target,
        "--package",
        "lifeboot-rescue",
    ])?;
    Ok(target_dir().join(target).join(profile).join("rescue"))
}

/// Builds the image for `board`, unless nothing that goes in has changed; returns what the builder said.
///
/// # Errors
/// The builder failed; the error has its words.
pub fn image(board: Board) -> Result<String> {
    // Nobody looks at what the image of a quickly built executable weighs.
    let quick = ["--level", "3"].map(OsStr::new);
    let more: &[&OsStr] = if profile() == "device" { &[] } else { &quick };
    unless_fresh(board, &image_dir(board), more)
}

/// Builds the image for the PC that has every feature, unless nothing that goes in has changed; returns what the builder said.
///
/// # Errors
/// The builder failed; the error has its words.
pub fn everything() -> Result<String> {
    let mut command = Command::new(image_builder());
    let features = process::run_with(command.arg("features"), b"")?.success()?.text();
    let names: Vec<&str> = features
        .lines()
        .filter_map(|line| line.trim_start_matches(['*', ' ']).split(' ').next())
        .collect();
    let names = names.join(",");
    // Packed quickly: what it weighs is not looked at.
    let words = ["--features", &names, "--level", "3"].map(OsStr::new);
    unless_fresh(Board::PcX86_64, &everything_dir(), &words)
}

fn unless_fresh(board: Board, dir: &Path, more: &[&OsStr]) -> Result<String> {
    let executable = target_dir()
        .join(format!("{}-unknown-linux-musl", board.arch()))
        .join(profile())
        .join("rescue");
    let builder = image_builder();
    let authority = keys::tls(keys::KNOWN_AUTHORITY)?.authority;
    let said_before = dir.join("build.log");
    let stamp = dir.join("built-from");
    let from = digest(&[
        &fs::read(&executable).with_context(|| executable.display().to_string())?,
        &fs::read(&builder).with_context(|| builder.display().to_string())?,
        &fs::read(keys_dir().join("authorized_keys")).context("authorized_keys")?,
        &fs::read(keys_dir().join(keys::TRUSTED).with_extension("pub")).context("the trusted key")?,
        &fs::read(&authority).with_context(|| authority.display().to_string())?,
    ]);
    if fs::read_to_string(&stamp).is_ok_and(|text| text == from) {
        return Ok(fs::read_to_string(&said_before).unwrap_or_default());
    }
    fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    let said = build(board, dir, more)?;
    fs::write(&said_before, &said).context("build.log")?;
    fs::write(&stamp, from).context("built-from")?;
    Ok(said)
}

/// Has the builder write what the tests boot on `board` to `dir`, with more words on its command line; returns what it said.
///
/// # Errors
/// The builder failed; the error has its words.
pub fn build(board: Board, dir: &Path, more: &[&OsStr]) -> Result<String> {
    let executable = target_dir()
        .join(format!("{}-unknown-linux-musl", board.arch()))
        .join(profile())
        .join("rescue");
    let mut command = Command::new(image_builder());
    command.args(["build", "--board", board.name(), "--out"]).arg(dir);
    command.arg("--executable").arg(&executable);
    command
        .arg("--authorized-keys")
        .arg(keys_dir().join("authorized_keys"));
    command
        .arg("--trusted-key")
        .arg(keys_dir().join(keys::TRUSTED).with_extension("pub"));
    command
        .arg("--ca")
        .arg(keys::tls(keys::KNOWN_AUTHORITY)?.authority);
    if matches!(board, Board::VirtArm64 | Board::PcX86_64) {
        // For firmware that boots from the network; the events' port is the one the guests of the harness have.
        command.args(["--uki", "--cmdline", "lifeboot.events=vport0p1"]);
    }
    command.args(more);
    Ok(process::run_with(&mut command, b"")?
        .success()
        .with_context(|| process::shown(&command))?
        .text())
}

/// Runs cargo in the workspace; its words go to the terminal only when it fails.
fn cargo(arguments: &[&str]) -> Result<()> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).arg("--quiet").current_dir(workspace());
    // Set by `cargo run` for the program it starts; a cargo inside must decide for itself.
    command.env_remove("CARGO_MANIFEST_DIR");
    process::run_with(&mut command, b"")?
        .success()
        .with_context(|| process::shown(&command))?;
    Ok(())
}
