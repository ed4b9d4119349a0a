//! LUKS on logical volumes and logical volumes on LUKS. Both are made inside a guest: this machine has no device mapper.

use crate::world::{BOOT, FULL_BOOT, pc};
use anyhow::{Result, ensure};
use lifeboot_tests::fixtures::disk::{self, Disks, PASSPHRASE};
use lifeboot_tests::guest::{Client, Disk, Guest, Peer};
use std::path::PathBuf;

/// Makes `vg0` on /dev/vda with a LUKS volume in it, and on /dev/vdb a LUKS volume with `vg1` in it; leaves all of it closed.
const MAKE: &str = "set -e; \
    format='cryptsetup luksFormat --type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --batch-mode --key-file /tmp/p'; \
    cat >/tmp/p; exec 2>&1; \
    pvcreate -y /dev/vda; vgcreate vg0 /dev/vda; lvcreate -y -L 40M -n secret vg0; \
    $format /dev/vg0/secret; \
    $format /dev/vdb; cryptsetup open --key-file /tmp/p /dev/vdb making; \
    pvcreate -y /dev/mapper/making; vgcreate vg1 /dev/mapper/making; lvcreate -y -L 40M -n root vg1; \
    mkfs.ext4 -q /dev/vg1/root; \
    vgchange -an vg0 vg1; cryptsetup close making; rm /tmp/p; sync";

fn made(disks: &Disks) -> Result<(Guest, Client, [PathBuf; 2])> {
    let paths = [disks.blank("vg0.img", 96)?, disks.blank("luks.img", 96)?];
    let mut guest = pc("LUKS and LVM")
        .with_everything()?
        .disk(Disk::raw(&paths[0]))
        .disk(Disk::raw(&paths[1]))
        .boot()?;
    guest.wait_event("ssh.listening", BOOT)?;
    let client = guest.wait_ssh(Peer::Rescue, BOOT)?;
    client.run_with(&[MAKE], PASSPHRASE.as_bytes())?.success()?;
    Ok((guest, client, paths))
}

#[test]
#[ignore = "make test-all"]
fn luks_on_lvm_and_lvm_on_luks_are_unlocked_and_locked_by_hand_without_a_word_about_lvm() -> Result<()> {
    let disks = Disks::new("lvm")?;
    let (guest, client, _) = made(&disks)?;
    let exists =
        |device: &str| -> Result<bool> { Ok(client.run(&["test", "-b", device])?.status == Some(0)) };
    let passphrase = PASSPHRASE.as_bytes();
    ensure!(
        !exists("/dev/vg0/secret")? && !exists("/dev/vg1/root")?,
        "a group is active already"
    );
    client
        .run_with(&["rescue", "unlock", "/dev/vg0/secret"], passphrase)?
        .success()?;
    let opened = client
        .run_with(&["rescue", "unlock", "--json", "/dev/vdb"], passphrase)?
        .success()?
        .text();
    ensure!(opened.contains("/dev/vg1/root"), "{opened}");
    ensure!(exists("/dev/vg1/root")?, "no /dev/vg1/root");
    client
        .run(&["mkdir -p /mnt && mount /dev/vg1/root /mnt"])?
        .success()?;
    let refused = client.run(&["rescue", "lock", "/dev/vdb"])?;
    ensure!(
        refused.status == Some(1) && refused.errors().contains("/mnt"),
        "{}",
        refused.errors()
    );
    client.run(&["umount", "/mnt"])?.success()?;
    client.run(&["rescue", "lock", "/dev/vdb"])?.success()?;
    ensure!(!exists("/dev/vg1/root")?, "/dev/vg1/root is still there");
    client.run(&["rescue", "lock", "/dev/vg0/secret"])?.success()?;
    guest.passed()
}

#[test]
#[ignore = "make test-all"]
fn a_boot_that_needs_luks_on_lvm_and_lvm_on_luks_goes_on_after_one_passphrase() -> Result<()> {
    let disks = Disks::new("lvm-root")?;
    let (mut first, client, paths) = made(&disks)?;
    let on_lvm = client
        .run(&["vgchange -ay vg0 >/tmp/said 2>&1; cryptsetup luksUUID /dev/vg0/secret; vgchange -an vg0 >/tmp/said 2>&1; sync"])?
        .success()?
        .text();
    first.cut_power()?;
    first.passed()?;
    let uuid = disk::luks_uuid(&paths[1])?;
    let mut guest = pc("root on LVM on LUKS")
        .with_everything()?
        .disk(Disk::raw(&paths[0]))
        .disk(Disk::raw(&paths[1]))
        .word("root=/dev/vg1/root")
        .word(format!("rd.luks.uuid={uuid}"))
        .word(format!("rd.luks.uuid={}", on_lvm.trim()))
        .boot()?;
    guest.wait_event_where("mount.waiting", BOOT, |event| event.str("uuid") == on_lvm.trim())?;
    let client = guest.wait_ssh(Peer::Rescue, BOOT)?;
    // Both are what the boot waits for, so neither needs to be named.
    client
        .run_with(&["rescue", "unlock"], PASSPHRASE.as_bytes())?
        .success()?;
    // The root was found and mounted: what is missing is an init.
    let failed = guest.wait_event("boot.failed", FULL_BOOT)?;
    ensure!(
        failed.str("what").contains("/dev/vg1/root"),
        "{}",
        failed.str("what")
    );
    ensure!(
        guest.has_event("mount.fsck")?,
        "it was not found: {}",
        failed.str("what")
    );
    guest.passed()
}

#[test]
#[ignore = "make test-all"]
fn volumes_on_a_disk_that_went_away_are_removed_by_lock_and_it_is_unlocked_again() -> Result<()> {
    let disks = Disks::new("lvm-gone")?;
    let (guest, client, _) = made(&disks)?;
    let passphrase = PASSPHRASE.as_bytes();
    client
        .run_with(&["rescue", "unlock", "/dev/vdb"], passphrase)?
        .success()?;
    let mapper = client.run(&["ls /dev/mapper/luks-*"])?.success()?.text();
    let mapper = mapper.trim();
    client
        .run(&["mkdir -p /mnt && mount /dev/vg1/root /mnt"])?
        .success()?;
    client
        .run(&["echo 1 >$(readlink -f /sys/block/vdb)/../../../remove; sleep 1; echo 1 >/sys/bus/pci/rescan; sleep 2"])?
        .success()?;
    let refused = client.run(&["rescue", "lock", mapper])?;
    ensure!(
        refused.status == Some(1) && refused.errors().contains("mounted on /mnt"),
        "{}{}",
        refused.text(),
        refused.errors()
    );
    client.run(&["umount", "/mnt"])?.success()?;
    let refused = client.run_with(&["rescue", "unlock", "/dev/vdc"], passphrase)?;
    ensure!(
        refused.status == Some(1) && refused.errors().contains(&format!("rescue lock {mapper}")),
        "{}{}",
        refused.text(),
        refused.errors()
    );
    client.run(&["rescue", "lock", mapper])?.success()?;
    client
        .run_with(&["rescue", "unlock", "/dev/vdc"], passphrase)?
        .success()?;
    client
        .run(&["mount /dev/vg1/root /mnt && touch /mnt/x && umount /mnt"])?
        .success()?;
    guest.passed()
}
