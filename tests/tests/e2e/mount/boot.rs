//! What is mounted, and the ways out: the boot, the handover, switching off.

use super::{UUID, logged_in, mounted};
use crate::world::{BOOT, FULL_BOOT, pc, pc_booting_from, tiny_server, wait_for_tiny};
use anyhow::{Result, ensure};
use lifeboot_tests::deadline::Deadline;
use lifeboot_tests::fixtures::disk::Disks;
use lifeboot_tests::fixtures::system::System;
use lifeboot_tests::guest::{Board, Disk};
use lifeboot_tests::process;
use std::path::Path;

const SYSTEM: System<'static> = System {
    name: "Test 1",
    fstab: "",
    uuid: UUID,
    board: Board::PcX86_64,
};

/// Whether its journal has nothing to replay.
fn is_clean(image: &Path) -> Result<bool> {
    let said = process::run("dumpe2fs", ["-h", &image.to_string_lossy()])?;
    Ok(said.contains("state:         clean") && !said.contains("needs_recovery"))
}

#[test]
fn a_root_that_is_mounted_for_repair_is_not_booted_until_it_is_unmounted() -> Result<()> {
    let disks = Disks::new("mounted-root")?;
    let path = SYSTEM.ext4(&disks, "root.img")?;
    let builder = pc("mounted root")
        .disk(Disk::raw(path))
        .word(format!("root=UUID={UUID}"));
    let (mut guest, client) = logged_in(builder.word("rd.break=mount"))?;
    client.run(&["rescue", "mount"])?.success()?;
    client.run(&["rescue", "boot"])?.success()?;
    let failed = guest.wait_event("boot.failed", FULL_BOOT)?;
    ensure!(
        failed.str("what").contains("is mounted at /mnt"),
        "{}",
        failed.str("what")
    );
    client.run(&["rescue", "umount"])?.success()?;
    // Each attempt stops once more before the stage, until somebody says that it may go on.
    Deadline::after(FULL_BOOT).wait_for("the handover", || {
        if guest.has_event("handover.start")? {
            return Ok(Some(()));
        }
        client.run(&["rescue", "boot"])?;
        std::thread::sleep(std::time::Duration::from_secs(2));
        Ok(None)
    })?;
    guest.passed()
}

#[test]
fn a_root_that_stands_ready_is_a_system_like_another_and_is_mounted_again_after_a_check() -> Result<()> {
    let disks = Disks::new("ready-root")?;
    let path = SYSTEM.ext4(&disks, "root.img")?;
    let builder = pc("ready root").disk(Disk::raw(path)).word("ro");
    let builder = builder.word(format!("root=UUID={UUID}"));
    let (mut guest, client) = logged_in(builder.word("lifeboot.hold=always"))?;
    guest.wait_event("boot.held", FULL_BOOT)?;
    let told = |command: &str| client.run(&[command]);
    ensure!(told("rescue mount --list")?.success()?.text().contains("Test 1"));
    // A file system is writable wherever it is mounted or nowhere.
    let refused = told("rescue mount 2>&1")?.text();
    ensure!(refused.contains("mount -o remount,rw /sysroot"), "{refused}");
    told("mount -o remount,rw /sysroot && rescue mount && touch /mnt/root/written && rescue umount")?
        .success()?;
    let checked = told("rescue fsck /dev/vda")?.text();
    ensure!(checked.contains("'umount /sysroot' first"), "{checked}");
    told("umount /sysroot && rescue fsck /dev/vda")?.success()?;
    ensure!(
        !guest.has_event("boot.unmounted")?,
        "it was mounted under the check"
    );
    drop(client.run(&["rescue", "boot"])?);
    guest.wait_event("boot.unmounted", FULL_BOOT)?;
    guest.wait_event("handover.start", FULL_BOOT)?;
    ensure!(!guest.has_event("handover.failed")?, "it was not there");
    guest.passed()
}

#[test]
#[ignore = "make test-all"]
fn the_handover_unmounts_what_people_have_mounted() -> Result<()> {
    let disks = Disks::new("handover")?;
    let path = SYSTEM.ext4(&disks, "root.img")?;
    let (server, _os) = tiny_server()?;
    let builder = pc_booting_from(&server, "handover with a mount").disk(Disk::raw(&path));
    let (mut guest, client) = logged_in(builder.word("rd.break=fetch"))?;
    client
        .run(&["rescue mount && touch /mnt/root/written"])?
        .success()?;
    ensure!(!is_clean(&path)?, "mounted, it should not look clean");
    client.run(&["rescue", "boot"])?.success()?;
    let up = wait_for_tiny(&mut guest)?;
    ensure!(!up.str("mounts").contains("/mnt"), "{}", up.str("mounts"));
    ensure!(is_clean(&path)?, "the disk was left as after a loss of power");
    guest.passed()
}

#[test]
#[ignore = "make test-all"]
fn switching_off_from_a_chroot_leaves_a_clean_disk() -> Result<()> {
    let disks = Disks::new("poweroff")?;
    let path = SYSTEM.ext4(&disks, "root.img")?;
    let (mut guest, client) = logged_in(pc("poweroff in a chroot").disk(Disk::raw(&path)))?;
    let mut session = client.converse(&["rescue", "chroot"])?;
    session.expect("Ctrl-D", BOOT)?;
    session.send("echo x >/root/written; echo do''ne\n")?;
    session.expect("done", BOOT)?;
    ensure!(mounted(&client, "/mnt")?.len() > 3);
    // The machine may be off before the last word of this session.
    drop(client.run(&["rescue", "poweroff"])?);
    guest.wait_exit(BOOT)?;
    ensure!(is_clean(&path)?, "the disk was left as after a loss of power");
    guest.passed()
}
