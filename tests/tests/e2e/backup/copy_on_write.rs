//! XFS and btrfs: what is spared of them nobody misses, second copies included; and of one that was not closed in order nothing is spared.

use super::{MIB, ended, report};
use crate::world::{BOOT, pc};
use anyhow::{Context, Result, ensure};
use lifeboot_tests::fault_server::FaultServer;
use lifeboot_tests::fixtures::disk::{Damage, Disks};
use lifeboot_tests::fixtures::file_systems::BadCopy;
use lifeboot_tests::guest::{Client, Disk, Guest, Peer};
use std::fs;
use std::path::PathBuf;

/// Bytes of each of the two disks, and what most that may be read of it.
const XFS: (usize, u64) = (320 * MIB, 100 * MIB as u64);
const BTRFS: (usize, u64) = (256 * MIB, 60 * MIB as u64);

/// Files of many sizes, half of which go again; then a copy of the disk as it is after something was written that must not be lost. What
/// is on it while it is in use is what is left when the power fails.
const AGE: &str = r"set -e
age() {
    mkdir -p /mnt/$1; mount -t $1 /dev/$2 /mnt/$1; cd /mnt/$1
    for n in $(seq 300); do head -c $((n * n % 90001)) /dev/urandom >f$n; done; sync
    for n in $(seq 1 2 300); do rm f$n; done; sync
    for n in $(seq 2 6 300); do head -c 5000 /dev/urandom | dd of=f$n bs=1000 seek=3 conv=notrunc,fsync 2>/dev/null; done
    sync; head -c 20000 /dev/urandom | dd of=last conv=fsync 2>/dev/null
    dd if=/dev/$2 of=/dev/$3 bs=1M 2>/dev/null
    find . -type f | sort | xargs sha256sum >/tmp/$1.sums
    cd /; umount /mnt/$1
}
age xfs vda vdc; age btrfs vdb vdd; sync";

struct World {
    _disks: Disks,
    server: FaultServer,
    paths: Vec<PathBuf>,
}

impl World {
    fn new() -> Result<World> {
        let disks = Disks::new("backup-copy-on-write")?;
        let mut paths = vec![
            disks.xfs("xfs", "x", Damage::None)?,
            disks.btrfs("btrfs", "b", BadCopy::None)?,
            disks.blank("dirty-xfs", 320)?,
            disks.blank("dirty-btrfs", 256)?,
        ];
        // Where they come back, nothing is zero.
        for (name, (size, _)) in [("xfs.back", XFS), ("btrfs.back", BTRFS)] {
            let path = disks.dir().join(name);
            fs::write(&path, vec![0xA5; size]).with_context(|| name.to_owned())?;
            paths.push(path);
        }
        Ok(World {
            _disks: disks,
            server: FaultServer::start()?,
            paths,
        })
    }

    fn boot(&self) -> Result<(Guest, Client)> {
        let builder = pc("backup of XFS and btrfs").with_everything()?;
        let builder = self
            .paths
            .iter()
            .fold(builder, |guest, path| guest.disk(Disk::raw(path)));
        let mut guest = builder.boot()?;
        guest.wait_event("ssh.listening", BOOT)?;
        let client = guest.wait_ssh(Peer::Rescue, BOOT)?;
        Ok((guest, client))
    }

    /// Backs up `from`, and writes that to `to`.
    fn there_and_back(
        &self,
        client: &Client,
        from: &str,
        to: &str,
        (size, most): (usize, u64),
    ) -> Result<()> {
        let url = self.server.url(&format!("{from}.img.zst"));
        let outcome = client.run(&["rescue", "backup", "--json", "--verify", from, &url])?;
        ended(&outcome, 0)?;
        let report = report(&outcome)?;
        ensure!(
            report["outcome"] == "done"
                && report["size"] == size as u64
                && report["areas"][0]["whole"].is_null()
                && report["read_bytes"].as_u64() < Some(most),
            "{report}"
        );
        let digest = report["sha256"].as_str().context("no digest")?;
        let words = ["rescue", "deploy", "--yes", "--sha256", digest, &url, to];
        ended(&client.run(&words)?, 0)
    }
}

#[test]
#[ignore = "make test-all"]
fn xfs_and_btrfs_come_back_whole_although_what_nobody_uses_was_not_read() -> Result<()> {
    let world = World::new()?;
    let (guest, client) = world.boot()?;
    client.run(&[AGE])?.success()?;
    world.there_and_back(&client, "/dev/vda", "/dev/vde", XFS)?;
    world.there_and_back(&client, "/dev/vdb", "/dev/vdf", BTRFS)?;
    // The stock checkers, every file, and each copy of everything.
    let check = "set -e; xfs_repair -n /dev/vde; btrfs check --readonly --check-data-csum /dev/vdf
        mount -t xfs -o ro,norecovery /dev/vde /mnt/xfs; cd /mnt/xfs; sha256sum -c /tmp/xfs.sums; cd /; umount /mnt/xfs
        mount -t btrfs -o ro /dev/vdf /mnt/btrfs; cd /mnt/btrfs; sha256sum -c /tmp/btrfs.sums
        wc -l /tmp/*.sums; btrfs scrub start -B -r /mnt/btrfs | tee /tmp/scrub; grep 'no errors found' /tmp/scrub; cd /; umount /mnt/btrfs";
    ended(&client.run(&[check])?, 0)?;
    // Beside them the same disks as they were while somebody wrote to them.
    for device in ["/dev/vdc", "/dev/vdd"] {
        let url = world.server.url("/never");
        let outcome = client.run(&["rescue", "backup", "--json", "--dry-run", device, &url])?;
        ended(&outcome, 0)?;
        let report = report(&outcome)?;
        let why = report["areas"][0]["whole"].as_str().unwrap_or_default();
        ensure!(
            why.contains("its log waits") && report["wanted_bytes"] == report["size"],
            "{report}"
        );
    }
    guest.passed()
}
