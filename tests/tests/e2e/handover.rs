//! What the handover empties: files in memory, and nothing that somebody has mounted.

use crate::world::{BOOT, FULL_BOOT, OS, pc_booting_from, tiny_server, wait_for_tiny};
use anyhow::{Context, Result, ensure};
use lifeboot_tests::fault_server::Fault;
use lifeboot_tests::fixtures::disk::{Damage, Disks, LETTER, LETTER_TEXT};
use lifeboot_tests::guest::{Disk, Guest, Peer};
use lifeboot_tests::process;
use std::path::Path;

/// What a person leaves in each place, in MiB; /tmp and /root have 40 % of the memory together.
const LEFT_MIB: u64 = 50;
/// Kilobytes of files that a system which has just been started from RAM has besides its image.
const OWN_KB: u64 = 25 * 1024;
/// Milliseconds within which ext4 has written a deletion to its disk, twice over.
const COMMITTED_MS: u64 = 10_000;

/// Mounts the disk at `place`. Under another name than the one in /dev: what is known for a disk is unmounted before the handover, and a
/// server's directory, for which this stands, is not.
fn mount_at(place: &str) -> String {
    format!(
        "mknod /disk b $(sed 's/:/ /' /sys/class/block/vda/dev) && mkdir -p {place} && mount -t ext4 /disk {place} && grep -q '^/disk {place} ' /proc/mounts"
    )
}

/// Kilobytes that files in memory take, told later than `ms`.
fn files_kb(guest: &mut Guest, ms: u64) -> Result<u64> {
    let told = guest.wait_event_where("tiny.memory", FULL_BOOT, |event| event.ms > ms)?;
    told.u64("files_kb").context("no number in tiny.memory")
}

/// A boot to the tiny OS, before which somebody leaves files in `filled` and the disk mounted at `place`.
fn handed_over(name: &str, filled: &[&str], place: &str, disk: &Path) -> Result<()> {
    let (server, os) = tiny_server()?;
    server.fault(
        OS,
        Fault::Status {
            code: 503,
            times: None,
        },
    );
    let mut guest = pc_booting_from(&server, name)
        .word("tiny.memory")
        .disk(Disk::raw(disk))
        .boot()?;
    let client = guest.wait_ssh(Peer::Rescue, BOOT)?;
    for dir in filled {
        let fill = format!("dd if=/dev/zero of={dir}/left bs=1M count={LEFT_MIB}");
        client.run(&[&fill])?.success()?;
    }
    client.run(&[&mount_at(place)])?.success()?;
    let before = client.run(&["awk '/^Shmem:/ { print $2 }' /proc/meminfo"])?;
    let before: u64 = before.success()?.text().trim().parse()?;
    let left = filled.len() as u64 * LEFT_MIB * 1024;
    ensure!(before > left, "{before} kB of files, {left} kB were left");

    server.heal(OS);
    let up = wait_for_tiny(&mut guest)?;
    let image = std::fs::metadata(&os.squashfs)?.len() / 1024;
    // The wait for the deletions, had there been any on the disk, is one for those in memory as well.
    let after = files_kb(&mut guest, up.ms + COMMITTED_MS)?;
    ensure!(
        after < image + OWN_KB,
        "{after} kB of files in memory, the image has {image} kB"
    );
    guest.cut_power()?;
    guest.passed()?;
    still_has_its_letter(disk)
}

/// What is on the disk once its journal is replayed.
fn still_has_its_letter(disk: &Path) -> Result<()> {
    let disk = disk.to_string_lossy();
    process::run("e2fsck", ["-p", &disk])?;
    let text = process::run("debugfs", ["-R", &format!("cat {LETTER}"), &disk])?;
    ensure!(text == LETTER_TEXT, "the letter reads {text:?}");
    Ok(())
}

#[test]
fn files_in_root_are_gone_after_the_handover_and_a_file_system_mounted_on_tmp_is_as_it_was() -> Result<()> {
    let disks = Disks::new("on-tmp")?;
    let disk = disks.ext4("on-tmp.img", "server", Damage::None)?;
    handed_over("mounted on /tmp", &["/root"], "/tmp", &disk)
}

#[test]
#[ignore = "make test-all"]
fn files_in_tmp_and_root_are_gone_after_the_handover_and_a_file_system_mounted_below_is_as_it_was()
-> Result<()> {
    let disks = Disks::new("below-tmp")?;
    let disk = disks.ext4("below-tmp.img", "server", Damage::None)?;
    handed_over("mounted below /tmp", &["/tmp", "/root"], "/tmp/server", &disk)
}
