//! What is stopped or killed while it has a file system mounted leaves none mounted, and does nothing more that was not waited for.

use super::{ends, guest, start};
use crate::mount::mounted;
use crate::world::BOOT;
use anyhow::{Result, ensure};
use lifeboot_tests::deadline::Deadline;
use lifeboot_tests::fixtures::disk::{Damage, Disks};

/// Where `rescue fsck` mounts.
const PLACES: &str = "/run/lifeboot/fsck";

/// A script that puts these lines in the place of mount(8).
fn instead_of_mount(lines: &str) -> String {
    format!("set -e; m=$(command -v mount); rm $m; printf '%s\\n' '#!/bin/sh' '{lines}' >$m; chmod 755 $m")
}

#[test]
#[ignore = "make test-all"]
fn an_exfat_is_checked_without_a_place_and_what_a_killed_run_left_mounted_is_unmounted() -> Result<()> {
    let disks = Disks::new("places")?;
    let paths = [disks.exfat("exfat", "x", Damage::None)?];
    let (guest, client) = start(guest("places", &paths)?)?;
    // Whoever had it mounted would have it mounted long enough to be seen, and to be stopped in.
    let slow = instead_of_mount("busybox mount \"$@\"; status=$?; sleep 3; exit $status");
    let watch = format!(
        "(while sleep 0.1; do grep -q ' {PLACES}/' /proc/mounts && touch /run/seen; done) >/dev/null 2>&1 &"
    );
    client.run(&[&slow])?.success()?;
    client.run(&[&watch])?.success()?;
    ends(&client, &["rescue", "fsck", "/dev/vda"], 0)?;
    ends(&client, &["test", "-e", "/run/seen"], 1)?;

    let left = format!("mkdir -p {PLACES}/vda.mount && mount -t exfat -o ro /dev/vda {PLACES}/vda.mount");
    client.run(&[&left])?.success()?;
    ends(&client, &["test", "-e", "/run/seen"], 0)?;
    ends(&client, &["rescue", "fsck", "/dev/vda"], 0)?;
    ensure!(mounted(&client, PLACES)?.is_empty(), "it is still mounted");

    // Somebody else's mount is theirs.
    let own = "mkdir -p /mnt && mount -t exfat -o ro /dev/vda /mnt";
    client.run(&[own])?.success()?;
    ends(&client, &["rescue", "fsck", "/dev/vda"], 1)?;
    ensure!(mounted(&client, "/mnt")?.len() == 1, "it was unmounted");
    guest.passed()
}

#[test]
#[ignore = "make test-all"]
fn a_repair_that_is_stopped_while_a_log_is_replayed_does_not_throw_the_log_away() -> Result<()> {
    let disks = Disks::new("stopped-replay")?;
    let paths = [
        disks.xfs("live", "live", Damage::None)?,
        disks.blank("copy", 320)?,
    ];
    let (guest, client) = start(guest("stopped replay", &paths)?)?;
    // What is on the disk while it is in use is what is left of it when the power fails.
    let script = "set -e; mkdir -p /mnt; mount -t xfs /dev/vda /mnt; for n in $(seq 200); do echo $n >/mnt/f$n; done; sync
                  dd if=/dev/vda of=/dev/vdb bs=1M 2>/dev/null; umount /mnt; sync";
    client.run(&[script])?.success()?;
    client
        .run(&[&instead_of_mount("touch /run/mounting; exec sleep 3600")])?
        .success()?;
    let mut session = client.converse(&["rescue", "fsck", "--repair", "--zero-log", "/dev/vdb"])?;
    Deadline::after(BOOT).wait_for("the replay", || {
        let begun = client.run(&["test", "-e", "/run/mounting"])?.status == Some(0);
        Ok(begun.then_some(()))
    })?;
    session.send("\u{3}")?;
    session.expect("Ctrl-C", BOOT)?;
    session.send("\u{3}")?;
    ensure!(session.end(BOOT)? == 1, "{}", session.heard());
    let log = client
        .run(&["cat /run/lifeboot/log/fsck-vdb.log"])?
        .success()?
        .text();
    ensure!(log.contains("$ mount") && !log.contains("xfs_repair -L"), "{log}");
    let count = "busybox mount -t xfs /dev/vdb /mnt && ls /mnt | wc -l; umount /mnt";
    ensure!(
        client.run(&[count])?.success()?.text().trim() == "200",
        "what was synced is lost"
    );
    guest.passed()
}
