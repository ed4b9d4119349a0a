//! Every feature in one image: each program starts, and what features promise of file systems and disks is so.

use crate::world::{BOOT, pc};
use anyhow::{Context, Result, ensure};
use lifeboot_tests::artefacts::image_builder;
use lifeboot_tests::guest::{Client, Guest, Peer};
use lifeboot_tests::process;
use std::process::Command;

/// What the builder says of its features: all names, or one feature in full.
fn features(name: Option<&str>) -> Result<String> {
    let mut command = Command::new(image_builder());
    command.arg("features").args(name);
    Ok(process::run_with(&mut command, b"")?.success()?.text())
}

fn names() -> Result<Vec<String>> {
    let said = features(None)?;
    let names = said
        .lines()
        .filter_map(|line| line.trim_start_matches(['*', ' ']).split(' ').next());
    Ok(names.map(str::to_owned).collect())
}

/// A guest that has every feature there is.
fn with_everything(name: &str) -> Result<(Guest, Client)> {
    let mut guest = pc(name).with_everything()?.memory_mb(2048).boot()?;
    guest.wait_event("ssh.listening", BOOT)?;
    let client = guest.wait_ssh(Peer::Rescue, BOOT)?;
    Ok((guest, client))
}

#[test]
#[ignore = "make test-all"]
fn every_feature_does_what_it_is_for() -> Result<()> {
    let (guest, client) = with_everything("features")?;
    every_program_starts(&client)?;
    // Its device nodes come with it, and nothing has asked for it yet.
    client.run(&["modprobe", "loop"])?.success()?;
    for (file_system, make, check) in [
        ("ext4", "mke2fs -q -t ext4", "e2fsck -f -n"),
        ("vfat", "mkfs.vfat", "fsck.vfat -n"),
        ("xfs", "mkfs.xfs -q", "xfs_repair -n"),
        ("btrfs", "mkfs.btrfs -q", "btrfs check"),
        ("f2fs", "mkfs.f2fs -q", "fsck.f2fs --dry-run"),
        ("exfat", "mkfs.exfat -q", "fsck.exfat -n"),
        ("ntfs", "mkntfs -q -f -F", "ntfsfix -n"),
    ] {
        let script = format!(
            "set -e; truncate -s 400M /tmp/fs; {make} /tmp/fs >/tmp/said 2>&1 || {{ cat /tmp/said; exit 8; }}
             d=$(losetup -f); losetup $d /tmp/fs
             mkdir -p /mnt/x; mount -t {file_system} $d /mnt/x; echo kept > /mnt/x/file; umount /mnt/x
             {check} $d >/tmp/said 2>&1 || {{ cat /tmp/said; exit 9; }}
             mount $d /mnt/x; cat /mnt/x/file; umount /mnt/x; losetup -d $d; rm /tmp/fs"
        );
        says(&client, &script, "kept").context(file_system)?;
    }
    let loops = "set -e; for n in 1 2; do truncate -s 100M /tmp/d$n; losetup /dev/loop$n /tmp/d$n; done;";
    let lvm = "vgcreate -q v /dev/loop1 /dev/loop2 && lvcreate -q -m1 -L 40M -n l v && lvs --noheadings -o segtype v/l; \
               vgremove -q -y v >/dev/null";
    says(&client, &format!("{loops} {lvm}"), "raid1").context("lvm")?;
    let raid = "mdadm --create /dev/md0 --run --metadata=1.2 --level=1 --raid-devices=2 /dev/loop1 /dev/loop2 \
                && cat /proc/mdstat && mdadm --stop /dev/md0";
    says(&client, raid, "active raid1").context("raid")?;
    // It wants a locale with UTF-8, and its terminal's description.
    let tmux = "tmux new-session -d 'sleep 60' && tmux list-sessions && tmux kill-server";
    says(&client, tmux, "1 windows").context("comfort")?;
    says(
        &client,
        "i2cdetect -l && smartctl --scan && lspci -mm",
        "Host bridge",
    )
    .context("hw-debug")?;
    guest.passed()
}

/// No program says that it lacks a library, none is without its interpreter.
fn every_program_starts(client: &Client) -> Result<()> {
    let mut programs = Vec::new();
    for name in names()? {
        let said = features(Some(&name))?;
        let files = said
            .lines()
            .map(str::trim)
            .filter(|line| line.contains("/bin/") || line.contains("/sbin/"));
        programs.extend(files.map(str::to_owned));
    }
    ensure!(programs.len() > 100, "only {} programs", programs.len());
    let list = programs.join(" ");
    let script = format!(
        "for p in {list}; do timeout 20 $p --version </dev/null >/tmp/said 2>&1; r=$?
         if [ $r = 126 ] || [ $r = 127 -a $p != /usr/bin/busybox ] || [ $r -ge 128 -a $r -lt 160 ] || grep -q 'shared librar' /tmp/said
         then echo \"$p: $r: $(head -c 200 /tmp/said)\"; fi; done"
    );
    let said = client.run(&[&script])?.success()?.text();
    ensure!(said.is_empty(), "{said}");
    Ok(())
}

fn says(client: &Client, script: &str, what: &str) -> Result<()> {
    let outcome = client.run(&[script])?;
    ensure!(
        outcome.status == Some(0) && outcome.text().contains(what),
        "status {:?}: {}{}",
        outcome.status,
        outcome.text(),
        outcome.errors()
    );
    Ok(())
}
