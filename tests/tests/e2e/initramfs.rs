//! An initramfs that is not all there.

use crate::world::{BOOT, field_is_true, pc, pc_booting_from, tiny_server};
use anyhow::{Context, Result, ensure};
use lifeboot_tests::artefacts::{image_builder, keys_dir, test_image};
use lifeboot_tests::fixtures::disk::Disks;
use lifeboot_tests::guest::{Board, Peer};
use lifeboot_tests::{cpio, process};
use std::path::PathBuf;

/// The archive of the test image cut off after `percent` of its bytes, packed again.
fn cut_after(disks: &Disks, percent: usize) -> Result<PathBuf> {
    let whole = test_image(Board::PcX86_64)?.initrd;
    let mut archive = process::run_with(std::process::Command::new("zstd").args(["-dc"]).arg(&whole), b"")?
        .success()
        .context("zstd")?
        .stdout;
    archive.truncate(archive.len() / 100 * percent);
    let packed = process::run_with(std::process::Command::new("zstd").args(["-1", "-c"]), &archive)?
        .success()
        .context("zstd")?
        .stdout;
    let path = disks.dir().join(format!("initramfs-{percent}"));
    std::fs::write(&path, packed).context("initramfs")?;
    Ok(path)
}

#[test]
fn a_whole_initramfs_is_complete() -> Result<()> {
    let mut guest = pc("whole initramfs").boot()?;
    let sentinel = guest.wait_event("init.sentinel", BOOT)?;
    ensure!(field_is_true(&sentinel, "complete"), "{sentinel:?}");
    guest.passed()
}

#[test]
fn a_truncated_initramfs_is_noticed_and_ends_in_rescue() -> Result<()> {
    let (server, _) = tiny_server()?;
    let disks = Disks::new("truncated")?;
    let initrd = cut_after(&disks, 90)?;
    let mut guest = pc_booting_from(&server, "truncated initramfs")
        .initrd(initrd)
        .boot()?;
    let sentinel = guest.wait_event("init.sentinel", BOOT)?;
    ensure!(!field_is_true(&sentinel, "complete"), "{sentinel:?}");
    guest.wait_event("boot.failed", BOOT)?;
    ensure!(
        !guest.has_event("handover.start")?,
        "an OS was started from half an image"
    );
    guest.wait_ssh(Peer::Rescue, BOOT)?;
    guest.passed()
}

/// The test image's own executable packed into a small image by the builder, compressed as asked.
fn compressed_by(disks: &Disks, name: &str) -> Result<PathBuf> {
    let archive = process::run_with(
        std::process::Command::new("zstd")
            .arg("-dc")
            .arg(test_image(Board::PcX86_64)?.initrd),
        b"",
    )?;
    let archive = archive.success().context("zstd")?.stdout;
    let (_, executable) = cpio::files(&archive, |path| path == "init")?
        .into_iter()
        .next()
        .context("init")?;
    let init = disks.dir().join("init");
    std::fs::write(&init, executable).context("init")?;
    let out = disks.dir().join(name);
    let mut build = std::process::Command::new(image_builder());
    build.args([
        "build",
        "--board",
        Board::PcX86_64.name(),
        "--features",
        "core",
        "--compression",
        name,
    ]);
    build.arg("--executable").arg(&init).arg("--out").arg(&out);
    build
        .arg("--authorized-keys")
        .arg(keys_dir().join("authorized_keys"));
    process::run_with(&mut build, b"")?
        .success()
        .context(name.to_owned())?;
    let file = std::fs::read_dir(&out)
        .context("output")?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.to_string_lossy().contains("initramfs.cpio"));
    file.with_context(|| format!("{}: no initramfs", out.display()))
}

#[test]
#[ignore = "make test-all"]
fn every_compression_boots() -> Result<()> {
    let disks = Disks::new("compression")?;
    for name in ["zstd", "gzip", "xz", "lz4"] {
        let initrd = compressed_by(&disks, name)?;
        let mut guest = pc(name).initrd(initrd).boot()?;
        let sentinel = guest.wait_event("init.sentinel", BOOT)?;
        ensure!(field_is_true(&sentinel, "complete"), "{name}: {sentinel:?}");
        guest.passed()?;
    }
    Ok(())
}
