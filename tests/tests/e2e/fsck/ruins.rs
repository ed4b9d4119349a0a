//! Superblocks that were overwritten, and a btrfs that only a last resort repairs: what is said, and that nothing is written unasked.

use super::{ends, guest, json, last_writes, of, reads, start};
use anyhow::{Result, ensure};
use lifeboot_tests::fixtures::disk::{Damage, Disks, LETTER_TEXT};
use lifeboot_tests::fixtures::file_systems::BadCopy;
use lifeboot_tests::guest::Client;
use serde_json::Value;
use std::path::PathBuf;

fn text(entries: &[Value], device: &str) -> Result<String> {
    let entry = of(entries, device)?;
    Ok(format!(
        "{} {}",
        entry["outcome"].as_str().unwrap_or_default(),
        entry["text"].as_str().unwrap_or_default()
    ))
}

fn look(client: &Client, device: &str) -> Result<String> {
    text(&json(client, &["rescue", "fsck", "--json", device])?, device)
}

#[test]
fn an_overwritten_superblock_is_named_and_brought_back_only_by_name_and_never_under_another_file_system()
-> Result<()> {
    let disks = Disks::new("ruins")?;
    let covered = disks.btrfs_without_superblock("covered", "c")?;
    // An ext4 that is shorter: the second superblock of the btrfs is still behind it.
    let other = std::fs::read(disks.ext4("other", "other", Damage::None)?)?;
    let mut bytes = std::fs::read(&covered)?;
    bytes[..other.len()].copy_from_slice(&other);
    std::fs::write(&covered, bytes)?;
    let paths = [
        disks.xfs("sound-xfs", "x", Damage::None)?,
        disks.xfs_without_superblock("xfs", "x", 4096)?,
        disks.btrfs("sound-btrfs", "b", BadCopy::None)?,
        disks.btrfs_without_superblock("btrfs", "b")?,
        covered,
        disks.two_ruins("both")?,
        disks.xfs_without_superblock("rootless", "r", 1 << 20)?,
    ];
    let (guest, client) = start(guest("ruins", &paths)?)?;
    let before = last_writes(&client, &paths)?;
    ends(&client, &["rescue", "fsck"], 1)?;
    for (device, says) in [
        ("/dev/vda", "clean "),
        (
            "/dev/vdb",
            "errors /dev/vdb (320 MiB): an XFS whose superblock was overwritten",
        ),
        ("/dev/vdc", "clean "),
        (
            "/dev/vdd",
            "errors /dev/vdd (256 MiB): a btrfs whose superblock was overwritten",
        ),
        ("/dev/vde", "clean /dev/vde (ext4"),
        (
            "/dev/vdf",
            "unsupported /dev/vdf (320 MiB): no file system was recognized on it, and it has remains of several, XFS and btrfs",
        ),
        (
            "/dev/vdg",
            "errors /dev/vdg (320 MiB): an XFS whose superblock was overwritten and its root directory with it",
        ),
    ] {
        let told = look(&client, device)?;
        ensure!(told.starts_with(says), "{device}: {told}");
    }
    // Everything does not mean these; nor does the name mean one that something else lies on, or that nobody knows.
    ends(&client, &["rescue", "fsck", "--repair", "all"], 1)?;
    ends(&client, &["rescue", "fsck", "--repair", "/dev/vde"], 0)?;
    ends(&client, &["rescue", "fsck", "--repair", "/dev/vdf"], 1)?;
    ends(&client, &["rescue", "fsck", "--repair", "/dev/vdg"], 1)?;
    for device in ["/dev/vdb", "/dev/vdd"] {
        ends(&client, &["rescue", "fsck", "--repair", "--dry-run", device], 0)?;
    }
    ensure!(
        last_writes(&client, &paths)? == before,
        "something was written to"
    );
    for (device, step) in [
        ("/dev/vdb", "xfs_repair /dev/vdb"),
        ("/dev/vdd", "btrfs rescue super-recover -y /dev/vdd"),
    ] {
        let repaired = json(&client, &["rescue", "fsck", "--repair", "--json", device])?;
        let entry = of(&repaired, device)?;
        ensure!(
            entry["outcome"] == "repaired" && entry["steps"] == serde_json::json!([step]),
            "{repaired:#?}"
        );
        ends(&client, &["rescue", "fsck", device], 0)?;
    }
    reads(&client, "/dev/vdd", "letter.txt")?;
    client
        .run(&["mount -t xfs -o ro /dev/vdb /mnt && umount /mnt"])?
        .success()?;
    guest.passed()
}

#[test]
#[ignore = "make test-all"]
fn the_trees_of_a_btrfs_are_rewritten_only_when_that_was_typed_and_not_without_a_warning() -> Result<()> {
    let disks = Disks::new("rewrite")?;
    let paths: [PathBuf; 2] = [
        disks.btrfs("sound", "s", BadCopy::None)?,
        disks.btrfs_with_wrong_trees("wrong", "w")?,
    ];
    let (guest, client) = start(guest("wrong trees", &paths)?)?;
    let digest = || -> Result<String> {
        let said = client.run(&["sync; echo 3 >/proc/sys/vm/drop_caches; sha256sum /dev/vda /dev/vdb"])?;
        Ok(said.success()?.text())
    };
    let (before, written) = (digest()?, last_writes(&client, &paths)?);
    for (words, device, status) in [
        (&["--repair"][..], "/dev/vda", 0),
        (&["--repair", "--rewrite-btrfs"], "/dev/vda", 0),
        (&[], "/dev/vdb", 1),
        (&["--repair"], "/dev/vdb", 1),
        (&["--repair", "--dry-run", "--rewrite-btrfs"], "/dev/vdb", 0),
        (&["--rewrite-btrfs"], "/dev/vdb", 2),
        (&["--repair", "--rewrite-btrfs"], "all", 2),
    ] {
        let words = [&["rescue", "fsck"], words, &[device]].concat();
        let outcome = ends(&client, &words, status)?;
        ensure!(!outcome.errors().contains("can make things worse"), "{words:?}");
    }
    let offered = look(&client, "/dev/vdb")?;
    ensure!(offered.contains("--rewrite-btrfs"), "{offered}");
    ensure!(
        digest()? == before && last_writes(&client, &paths)? == written,
        "something was written to"
    );
    let outcome = ends(
        &client,
        &["rescue", "fsck", "--repair", "--rewrite-btrfs", "/dev/vdb"],
        0,
    )?;
    ensure!(
        outcome
            .errors()
            .contains("btrfs check --repair /dev/vdb: its own manual says that it can make things worse"),
        "{}",
        outcome.errors()
    );
    ensure!(digest()? != before, "nothing was written");
    ends(&client, &["rescue", "fsck", "--data", "/dev/vdb"], 0)?;
    let read = "mkdir -p /mnt; mount -o ro /dev/vdb /mnt && cat /mnt/letter.txt; umount /mnt";
    ensure!(
        client.run(&[read])?.success()?.text() == LETTER_TEXT,
        "the letter is lost"
    );
    guest.passed()
}
