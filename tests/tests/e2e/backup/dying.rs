//! A disk that cannot be read in places, made by the device mapper: what a backup does, and what ddrescue gets.

use super::{JUNK, MIB, ended, report};
use crate::world::{BOOT, pc};
use anyhow::{Result, ensure};
use lifeboot_tests::fixtures::disk::Disks;
use lifeboot_tests::guest::{Disk, Peer};
use std::fs;

/// 16 sectors at sector 20000 and 8 at sector 50000 cannot be read; the rest is /dev/vda.
const BREAK: &str = "set -e; dmsetup create dying <<E
0 20000 linear /dev/vda 0
20000 16 error
20016 29984 linear /dev/vda 20016
50000 8 error
50008 15528 linear /dev/vda 50008
E
dmsetup mknodes";
const HEAL: &str =
    "echo 0 65536 linear /dev/vda 0 | dmsetup load dying && dmsetup suspend dying && dmsetup resume dying";

#[test]
#[ignore = "make test-all"]
fn a_backup_of_a_dying_disk_fails_or_says_what_is_missing_and_ddrescue_goes_on_where_it_was() -> Result<()> {
    let disks = Disks::new("dying")?;
    let disk = disks.dir().join("disk.img");
    let bytes: Vec<u8> = (0..32 * MIB).map(|at| (at / 512) as u8 | 1).collect();
    fs::write(&disk, &bytes)?;
    let other = disks.blank("other.img", 64)?;
    let mut guest = pc("a dying disk")
        .with_everything()?
        .disk(Disk::raw(&disk))
        .disk(Disk::raw(&other))
        .boot()?;
    guest.wait_event("ssh.listening", BOOT)?;
    let client = guest.wait_ssh(Peer::Rescue, BOOT)?;
    client.run(&[BREAK])?.success()?;
    let backup = |words: &[&str]| client.run(&[&["rescue", "backup", "--raw"], words].concat());
    let outcome = backup(&["/dev/mapper/dying", "/tmp/a.img"])?;
    ended(&outcome, 1)?;
    let (first, second) = (20000 * 512, 50000 * 512);
    ensure!(
        outcome.errors().contains(&format!("byte {first}")),
        "{}",
        outcome.errors()
    );
    ensure!(outcome.errors().contains("ddrescue"), "{}", outcome.errors());
    client
        .run(&["ls /tmp/a.img*"])?
        .status
        .filter(|status| *status != 0)
        .map_or_else(|| Err(anyhow::anyhow!("something was left behind")), |_| Ok(()))?;
    let outcome = backup(&["--json", "--skip-errors", "/dev/mapper/dying", "/tmp/a.img"])?;
    ended(&outcome, 1)?;
    let report = report(&outcome)?;
    ensure!(report["outcome"] == "damaged", "{report}");
    let gaps = report["unread"].as_array().map_or(0, Vec::len);
    ensure!(
        gaps == 2 && report["unread"][0]["from"] == first && report["unread"][0]["size"] == 8192,
        "{report}"
    );
    ensure!(
        report["unread"][1]["from"] == second && report["unread"][1]["size"] == 4096,
        "{report}"
    );
    let same = "cmp -n 10240000 /tmp/a.img /dev/vda && dd if=/tmp/a.img bs=512 skip=20000 count=16 | cmp -n 8192 - /dev/zero";
    client.run(&[same])?.success()?;
    // Cut after a while, gone on with, and again when the disk has a better day.
    let rescue = "ddrescue -f -n /dev/mapper/dying /dev/vdb /tmp/map";
    client
        .run(&[&format!(
            "{rescue} -s 12M >/dev/null && {rescue} >/dev/null && ddrescuelog -t /tmp/map"
        )])?
        .success()?;
    let map = client.run(&["cat /tmp/map"])?.text();
    ensure!(
        map.lines()
            .any(|line| line.ends_with('-') || line.ends_with('*') || line.ends_with('/')),
        "nothing is missing:\n{map}"
    );
    client.run(&[HEAL])?.success()?;
    client
        .run(&["ddrescue -f -r 3 /dev/mapper/dying /dev/vdb /tmp/map >/dev/null && ddrescuelog -D /tmp/map"])?
        .success()?;
    client.run(&["sync; dmsetup remove dying"])?.success()?;
    guest.passed()?;
    let got = fs::read(&other)?;
    ensure!(got[..bytes.len()] == bytes, "what ddrescue got differs");
    ensure!(
        got[bytes.len()..].iter().all(|byte| *byte != JUNK),
        "it wrote behind the end"
    );
    Ok(())
}
