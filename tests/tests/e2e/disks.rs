//! `rescue disks` and `rescue fsck`: what is there, what is wrong with it, and that nothing is touched unasked.

use crate::world::{BOOT, pc, sha256};
use anyhow::{Result, ensure};
use lifeboot_tests::fixtures::disk::{Damage, Disks, LETTER, LETTER_TEXT};
use lifeboot_tests::guest::{Client, Disk, Guest, Peer};
use std::path::Path;

fn with_disk(name: &str, path: &Path) -> Result<(Guest, Client)> {
    let mut guest = pc(name).disk(Disk::raw(path)).boot()?;
    guest.wait_event("ssh.listening", BOOT)?;
    let client = guest.wait_ssh(Peer::Rescue, BOOT)?;
    Ok((guest, client))
}

fn letter(client: &Client, device: &str) -> Result<()> {
    let read = format!("mkdir -p /mnt && mount -o ro {device} /mnt && cat /mnt/{LETTER}; umount /mnt");
    let text = client.run(&[&read])?.success()?.text();
    ensure!(text == LETTER_TEXT, "the letter reads {text:?}");
    Ok(())
}

#[test]
fn a_clean_file_system_is_reported_clean_and_not_written_to() -> Result<()> {
    let disks = Disks::new("clean")?;
    let path = disks.ext4("clean.img", "data", Damage::None)?;
    let before = sha256(&path)?;
    let (guest, client) = with_disk("clean disk", &path)?;
    let outcome = client.run(&["rescue", "fsck", "/dev/vda"])?;
    ensure!(
        outcome.status == Some(0),
        "status {:?}: {}{}",
        outcome.status,
        outcome.text(),
        outcome.errors()
    );
    guest.passed()?;
    ensure!(sha256(&path)? == before, "the disk was written to");
    Ok(())
}

#[test]
fn a_damaged_file_system_is_reported_and_not_written_to_until_told() -> Result<()> {
    let disks = Disks::new("damaged")?;
    let path = disks.ext4("damaged.img", "data", Damage::Repairable)?;
    let before = sha256(&path)?;
    let (guest, client) = with_disk("damaged disk", &path)?;
    let outcome = client.run(&["rescue", "fsck", "/dev/vda"])?;
    ensure!(
        outcome.status == Some(1),
        "status {:?}: {}{}",
        outcome.status,
        outcome.text(),
        outcome.errors()
    );
    guest.passed()?;
    ensure!(sha256(&path)? == before, "the disk was written to");

    let (guest, client) = with_disk("disk to repair", &path)?;
    let outcome = client.run(&["rescue", "fsck", "--repair", "/dev/vda"])?;
    ensure!(
        outcome.status == Some(0),
        "status {:?}: {}{}",
        outcome.status,
        outcome.text(),
        outcome.errors()
    );
    let again = client.run(&["rescue", "fsck", "/dev/vda"])?;
    ensure!(
        again.status == Some(0),
        "still damaged: {}{}",
        again.text(),
        again.errors()
    );
    letter(&client, "/dev/vda")?;
    guest.passed()
}

#[test]
fn a_mounted_file_system_is_refused() -> Result<()> {
    let disks = Disks::new("mounted")?;
    let path = disks.ext4("mounted.img", "data", Damage::None)?;
    let (guest, client) = with_disk("mounted disk", &path)?;
    client.run(&["mkdir -p /mnt && mount /dev/vda /mnt"])?.success()?;
    for words in [
        &["rescue", "fsck", "/dev/vda"][..],
        &["rescue", "fsck", "--repair", "/dev/vda"],
    ] {
        let outcome = client.run(words)?;
        ensure!(
            outcome.status == Some(1),
            "{words:?}: status {:?}",
            outcome.status
        );
        let said = outcome.text() + &outcome.errors();
        ensure!(
            said.contains("/dev/vda") && said.contains("/mnt"),
            "it says: {said}"
        );
    }
    guest.passed()
}

#[test]
#[ignore = "make test-all"]
fn a_repair_that_must_decide_keeps_the_letter() -> Result<()> {
    let disks = Disks::new("decisions")?;
    let path = disks.ext4("decisions.img", "data", Damage::NeedsDecisions)?;
    let (guest, client) = with_disk("lost directory", &path)?;
    let outcome = client.run(&["rescue", "fsck", "--repair", "/dev/vda"])?;
    ensure!(
        outcome.status == Some(0),
        "status {:?}: {}{}",
        outcome.status,
        outcome.text(),
        outcome.errors()
    );
    let found = client
        .run(&["mkdir -p /mnt; mount -o ro /dev/vda /mnt; cat /mnt/lost+found/*"])?
        .success()?
        .text();
    ensure!(found.contains(LETTER_TEXT), "lost+found has {found:?}");
    guest.passed()
}

#[test]
fn a_damaged_fat_is_reported_and_repaired_when_told() -> Result<()> {
    let disks = Disks::new("fat")?;
    let path = disks.vfat("fat.img", "BOOT", Damage::Repairable)?;
    let (guest, client) = with_disk("damaged FAT", &path)?;
    let outcome = client.run(&["rescue", "fsck", "/dev/vda"])?;
    ensure!(
        outcome.status == Some(1),
        "status {:?}: {}{}",
        outcome.status,
        outcome.text(),
        outcome.errors()
    );
    let outcome = client.run(&["rescue", "fsck", "--repair", "/dev/vda"])?;
    ensure!(
        outcome.status == Some(0),
        "status {:?}: {}{}",
        outcome.status,
        outcome.text(),
        outcome.errors()
    );
    let again = client.run(&["rescue", "fsck", "/dev/vda"])?;
    ensure!(
        again.status == Some(0),
        "still damaged: {}{}",
        again.text(),
        again.errors()
    );
    guest.passed()
}

#[test]
fn disks_are_listed_with_size_file_system_label_and_uuid() -> Result<()> {
    let disks = Disks::new("listed")?;
    let plain = disks.ext4("plain.img", "plain", Damage::None)?;
    let fat = disks.vfat("fat.img", "FIRMWARE", Damage::None)?;
    let locked = disks.luks("locked.img", "hidden", Damage::None)?;
    let uuids = [
        lifeboot_tests::fixtures::disk::uuid(&plain)?,
        lifeboot_tests::fixtures::disk::uuid(&fat)?,
        lifeboot_tests::fixtures::disk::luks_uuid(&locked)?,
    ];
    let mut guest = pc("disks")
        .disk(Disk::raw(plain))
        .disk(Disk::raw(fat))
        .disk(Disk::raw(locked))
        .boot()?;
    guest.wait_event("ssh.listening", BOOT)?;
    let client = guest.wait_ssh(Peer::Rescue, BOOT)?;
    let text = client.run(&["rescue", "disks"])?.success()?.text();
    let json = client.run(&["rescue", "disks", "--json"])?.success()?.text();
    let parsed: serde_json::Value = serde_json::from_str(&json)?;
    ensure!(!parsed.is_null(), "no JSON: {json}");
    for fact in ["vda", "vdb", "vdc", "ext4", "vfat", "plain", "FIRMWARE"] {
        ensure!(
            text.contains(fact) && json.contains(fact),
            "{fact} is missing in:\n{text}{json}"
        );
    }
    for uuid in uuids {
        ensure!(json.contains(&uuid), "{uuid} is missing in:\n{json}");
    }
    ensure!(
        text.to_lowercase().contains("luks"),
        "nothing of LUKS in:\n{text}"
    );
    guest.passed()
}

#[test]
fn a_device_that_is_not_there_and_a_wrong_word_are_told_apart_by_exit_codes() -> Result<()> {
    let mut guest = pc("exit codes").boot()?;
    guest.wait_event("ssh.listening", BOOT)?;
    let client = guest.wait_ssh(Peer::Rescue, BOOT)?;
    for (words, status) in [
        (&["rescue", "fsck", "/dev/vdz"][..], 1),
        (&["rescue", "unlock", "/dev/vdz"], 1),
        (&["rescue", "fsck", "--no-such-word"], 2),
        (&["rescue", "no-such-command"], 2),
        (&["rescue", "status"], 0),
        (&["rescue", "disks"], 0),
    ] {
        let outcome = client.run(words)?;
        ensure!(
            outcome.status == Some(status),
            "{words:?}: status {:?}: {}",
            outcome.status,
            outcome.errors()
        );
    }
    guest.passed()
}
