//! An initramfs that is not all there.

use crate::world::{BOOT, field_is_true, pc, pc_booting_from, tiny_server};
use anyhow::{Context, Result, ensure};
use lifeboot_tests::artefacts::test_image;
use lifeboot_tests::fixtures::disk::Disks;
use lifeboot_tests::guest::{Board, Peer};
use lifeboot_tests::process;
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
