//! Systems on logical volumes, on LUKS in or around them, and in btrfs subvolumes; made in the guest, since this machine has no device mapper.

use super::{OTHER, each, json, logged_in, mounted};
use crate::world::{pc, sha256};
use anyhow::{Result, ensure};
use lifeboot_tests::fixtures::disk::{Disks, PASSPHRASE};
use lifeboot_tests::fixtures::system::System;
use lifeboot_tests::guest::{Board, Client, Disk, Guest};

fn with_blank(name: &str, disks: &Disks, megabytes: u64) -> Result<(Guest, Client, std::path::PathBuf)> {
    let path = disks.blank("blank.img", megabytes)?;
    let (guest, client) = logged_in(pc(name).memory_mb(768).with_everything()?.disk(Disk::raw(&path)))?;
    Ok((guest, client, path))
}

/// Makes a volume group with a root and a home on `device`, and fills them.
fn make_volumes(client: &Client, disks: &Disks, device: &str) -> Result<()> {
    let system = System {
        name: "On volumes",
        fstab: "/dev/mapper/my--vg-root / ext4\n/dev/my-vg/home /home ext4 nofail\n",
        uuid: OTHER,
        board: Board::PcX86_64,
    };
    let script = format!(
        "set -e; lvm pvcreate -q {device}; lvm vgcreate -q my-vg {device}; lvm lvcreate -q -y -L 64M -n root my-vg; \
         lvm lvcreate -q -y -L 16M -n home my-vg; mkfs.ext4 -q /dev/mapper/my--vg-root; mkfs.ext4 -q /dev/mapper/my--vg-home; \
         mkdir -p /tmp/t; mount /dev/mapper/my--vg-home /tmp/t; touch /tmp/t/somebody; umount /tmp/t; \
         mount /dev/mapper/my--vg-root /tmp/t; tar -x -C /tmp/t; umount /tmp/t; lvm vgchange -q -an my-vg; sync"
    );
    client.run_with(&[&script], &system.tarball(disks)?)?.success()?;
    Ok(())
}

fn active_volumes(client: &Client) -> Result<String> {
    Ok(client.run(&["ls /dev/mapper | grep my--vg"])?.text())
}

#[test]
fn a_system_on_logical_volumes_is_woken_mounted_and_put_to_sleep_again() -> Result<()> {
    let disks = Disks::new("lvm")?;
    let (guest, client, path) = with_blank("LVM", &disks, 128)?;
    make_volumes(&client, &disks, "/dev/vda")?;
    let before = sha256(&path)?;
    let listed = json(&client, &["rescue", "mount", "--list", "--json"])?;
    ensure!(each(&listed, "systems", "name") == ["On volumes"], "{listed:#}");
    ensure!(
        active_volumes(&client)?.is_empty(),
        "looking left volumes active: {}",
        active_volumes(&client)?
    );
    client.run(&["sync"])?.success()?;
    ensure!(sha256(&path)? == before, "looking has written to the disk");
    let said = json(&client, &["rescue", "mount", "--json"])?;
    ensure!(
        each(&said, "mounts", "target") == ["/mnt", "/mnt/home"],
        "{said:#}"
    );
    let home = client
        .run(&["rescue chroot -- ls /home; echo written >/mnt/root/file"])?
        .success()?
        .text();
    ensure!(home.contains("somebody"), "{home}");
    client.run(&["rescue", "umount"])?.success()?;
    ensure!(
        active_volumes(&client)?.is_empty(),
        "left active: {}",
        active_volumes(&client)?
    );
    // A group that was active before stays so.
    client
        .run(&["lvm", "vgchange", "-q", "-ay", "my-vg"])?
        .success()?;
    let kept = client
        .run(&["rescue", "chroot", "--", "cat", "/root/file"])?
        .success()?
        .text();
    ensure!(kept == "written\n", "{kept}");
    ensure!(
        active_volumes(&client)?.lines().count() == 2,
        "{}",
        active_volumes(&client)?
    );
    active_volumes_stay_writable(&client)?;
    guest.passed()
}

/// Looking wakes the volume that sleeps, and leaves the one that is active, be it mounted or not, as it is.
fn active_volumes_stay_writable(client: &Client) -> Result<()> {
    let root = "/dev/my-vg/root";
    let look = |of: &str| -> Result<()> {
        let listed = json(client, &["rescue", "mount", "--list", "--json"])?;
        ensure!(each(&listed, "systems", "name") == ["On volumes"], "{listed:#}");
        let read_only = client.run(&["blockdev", "--getro", root])?.success()?.text();
        ensure!(
            read_only.trim() == "0",
            "{of}: {root} refuses writes after a look"
        );
        Ok(())
    };
    look("both active")?;
    client
        .run(&["lvm", "lvchange", "-q", "-an", "my-vg/home"])?
        .success()?;
    look("one asleep")?;
    ensure!(
        active_volumes(client)?.lines().count() == 1,
        "{}",
        active_volumes(client)?
    );
    client.run(&["rescue", "fsck", "--repair", root])?.success()?;
    client
        .run(&["mkdir -p /tmp/t && mount /dev/my-vg/root /tmp/t"])?
        .success()?;
    look("mounted")?;
    client
        .run(&["echo more >>/tmp/t/root/file && sync && umount /tmp/t"])?
        .success()?;
    // What a look wakes by itself refuses writes: the other half.
    let config = "activation { read_only_volume_list = [ \"my-vg/home\" ] }";
    let wake =
        format!("lvm lvchange -q -ay --config '{config}' my-vg/home && blockdev --getro /dev/my-vg/home");
    let woken = client.run(&[&wake])?.success()?.text();
    ensure!(
        woken.trim() == "1",
        "this test cannot see a volume that refuses writes: {woken}"
    );
    Ok(())
}

#[test]
#[ignore = "make test-all"]
fn a_system_on_volumes_inside_luks_is_unlocked_first() -> Result<()> {
    let disks = Disks::new("lvm-luks")?;
    let (guest, client, _) = with_blank("LVM on LUKS", &disks, 160)?;
    let format = "cryptsetup luksFormat --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --batch-mode --key-file - /dev/vda";
    client.run_with(&[format], PASSPHRASE.as_bytes())?.success()?;
    client
        .run_with(
            &["cryptsetup open --key-file - /dev/vda fill"],
            PASSPHRASE.as_bytes(),
        )?
        .success()?;
    make_volumes(&client, &disks, "/dev/mapper/fill")?;
    client.run(&["cryptsetup", "close", "fill"])?.success()?;
    let listed = json(&client, &["rescue", "mount", "--list", "--json"])?;
    ensure!(
        listed["locked"][0] == "/dev/vda" && each(&listed, "systems", "name").is_empty(),
        "{listed:#}"
    );
    // Named, it takes the passphrase from standard input as 'rescue unlock' does.
    let said = client
        .run_with(&["rescue", "mount", "/dev/vda"], PASSPHRASE.as_bytes())?
        .success()?
        .text();
    ensure!(said.contains("/mnt/home"), "{said}");
    let undone = client.run(&["rescue", "umount"])?.success()?.text();
    ensure!(undone.contains("stays unlocked"), "{undone}");
    ensure!(
        active_volumes(&client)?.is_empty(),
        "left active: {}",
        active_volumes(&client)?
    );
    client.run(&["rescue", "umount", "--close"])?.success()?;
    ensure!(
        client.run(&["ls /dev/mapper | grep luks"])?.status != Some(0),
        "it is still unlocked"
    );
    guest.passed()
}

#[test]
fn a_system_in_a_subvolume_is_mounted_with_the_subvolumes_its_fstab_names() -> Result<()> {
    let disks = Disks::new("btrfs")?;
    let (guest, client, path) = with_blank("btrfs", &disks, 256)?;
    let system = System {
        name: "In subvolumes",
        fstab: "LABEL=pool / btrfs subvol=@,noatime\nLABEL=pool /home btrfs subvol=/@home\n",
        uuid: OTHER,
        board: Board::PcX86_64,
    };
    let script = "set -e; mkfs.btrfs -q -L pool /dev/vda; mkdir -p /tmp/t; mount -t btrfs /dev/vda /tmp/t; cd /tmp/t; \
                  btrfs -q subvolume create @; btrfs -q subvolume create @home; touch @home/somebody; tar -x -C @; \
                  btrfs -q subvolume snapshot @ @before; cd /; umount /tmp/t; sync";
    client.run_with(&[script], &system.tarball(&disks)?)?.success()?;
    let before = sha256(&path)?;
    let listed = json(&client, &["rescue", "mount", "--list", "--json"])?;
    ensure!(
        each(&listed, "systems", "subvolume") == ["@", "@before"],
        "{listed:#}"
    );
    client.run(&["sync"])?.success()?;
    ensure!(sha256(&path)? == before, "looking has written to the disk");
    ensure!(
        client.run(&["rescue", "mount"])?.status == Some(2),
        "two systems, and none was named"
    );
    client.run(&["rescue", "mount", "--subvolume", "@"])?.success()?;
    ensure!(
        mounted(&client, "/mnt")? == ["/mnt", "/mnt/home"],
        "{:?}",
        mounted(&client, "/mnt")?
    );
    let there = client
        .run(&["rescue", "chroot", "--", "ls", "/home"])?
        .success()?
        .text();
    ensure!(there.contains("somebody"), "{there}");
    client.run(&["rescue", "umount"])?.success()?;
    guest.passed()
}

#[test]
#[ignore = "make test-all"]
fn a_system_on_half_a_mirror_is_found_without_a_write_and_mounted() -> Result<()> {
    let disks = Disks::new("mirror")?;
    let halves = [disks.blank("half0.img", 64)?, disks.blank("half1.img", 64)?];
    let system = System {
        name: "On a mirror",
        fstab: "",
        uuid: OTHER,
        board: Board::PcX86_64,
    };
    let both = pc("RAID").memory_mb(768).with_everything()?;
    let (guest, client) = logged_in(both.disk(Disk::raw(&halves[0])).disk(Disk::raw(&halves[1])))?;
    let script = "set -e; mdadm --create /dev/md0 --quiet --run --level 1 --raid-devices 2 --metadata 1.2 /dev/vda /dev/vdb; \
                  mkfs.ext4 -q /dev/md0; mkdir -p /tmp/t; mount /dev/md0 /tmp/t; tar -x -C /tmp/t; umount /tmp/t; \
                  mdadm --wait /dev/md0 || true; mdadm --stop --quiet /dev/md0; sync";
    client.run_with(&[script], &system.tarball(&disks)?)?.success()?;
    guest.passed()?;
    let before = sha256(&halves[1])?;
    let one = pc("half a RAID").memory_mb(768).with_everything()?;
    let (guest, client) = logged_in(one.disk(Disk::raw(&halves[1])))?;
    let listed = json(&client, &["rescue", "mount", "--list", "--json"])?;
    ensure!(each(&listed, "systems", "name") == ["On a mirror"], "{listed:#}");
    client.run(&["sync"])?.success()?;
    ensure!(sha256(&halves[1])? == before, "looking has written to the disk");
    client
        .run(&["rescue mount && touch /mnt/root/written && rescue umount"])?
        .success()?;
    let stopped = client.run(&["ls -d /sys/block/md*"])?;
    ensure!(stopped.status != Some(0), "left running: {}", stopped.text());
    ensure!(sha256(&halves[1])? != before, "this test cannot see a change");
    guest.passed()
}

/// The only half of a mirror that there is, with LUKS on it and a file system that is no system in that.
#[test]
#[ignore = "make test-all"]
fn luks_on_half_a_mirror_is_unlocked_as_it_was_listed_and_mounted_by_any_of_its_names() -> Result<()> {
    let disks = Disks::new("mirror-luks")?;
    let (guest, client, _) = with_blank("LUKS on half a RAID", &disks, 96)?;
    let script = "set -e; cat >/tmp/p; \
                  mdadm --create /dev/md0 --quiet --run --level 1 --raid-devices 2 --metadata 1.2 /dev/vda missing; \
                  cryptsetup luksFormat --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --batch-mode --key-file /tmp/p /dev/md0; \
                  cryptsetup open --key-file /tmp/p /dev/md0 fill; mkfs.ext4 -q /dev/mapper/fill; cryptsetup close fill; \
                  mdadm --stop --quiet /dev/md0; rm /tmp/p; sync";
    let passphrase = PASSPHRASE.as_bytes();
    client.run_with(&[script], passphrase)?.success()?;
    let listed = json(&client, &["rescue", "mount", "--list", "--json"])?;
    let device = listed["locked"][0].as_str().unwrap_or_default();
    ensure!(device.starts_with("/dev/md"), "{listed:#}");
    client
        .run_with(&["rescue", "unlock", device], passphrase)?
        .success()?;
    for name in [device, "/dev/vda"] {
        client.run(&["rescue", "mount", name])?.success()?;
        ensure!(mounted(&client, "/mnt")? == ["/mnt"], "{name} is not mounted");
        client.run(&["rescue", "umount"])?.success()?;
    }
    client.run(&["rescue", "lock", device])?.success()?;
    client.run(&["mdadm", "--stop", device])?.success()?;
    // Asleep and locked, it is woken, unlocked and mounted by the name of its half.
    client
        .run_with(&["rescue", "mount", "/dev/vda"], passphrase)?
        .success()?;
    ensure!(mounted(&client, "/mnt")? == ["/mnt"], "/dev/vda is not mounted");
    client.run(&["rescue", "umount", "--close"])?.success()?;
    let left = client
        .run(&["ls -d /sys/block/md*; ls /dev/mapper | grep luks"])?
        .text();
    ensure!(left.is_empty(), "left: {left}");
    guest.passed()
}
