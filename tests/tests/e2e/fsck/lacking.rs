//! Checkers that the image has not, sectors that cannot be read, and disks that are asked how they feel.

use super::{ends, guest, json, last_writes, of, start};
use crate::world::pc;
use anyhow::{Context, Result, ensure};
use lifeboot_tests::fixtures::disk::{Damage, Disks};
use lifeboot_tests::fixtures::file_systems::BadCopy;
use lifeboot_tests::guest::{Client, Disk};
use serde_json::Value;
use std::path::PathBuf;

#[test]
#[ignore = "make test-all"]
fn a_checker_that_the_image_lacks_is_named_with_its_feature_and_the_others_are_checked() -> Result<()> {
    let disks = Disks::new("lacking")?;
    let kinds = [
        ("ext4", disks.ext4("e", "e", Damage::None)?),
        ("xfs", disks.xfs("x", "x", Damage::None)?),
        ("btrfs", disks.btrfs("b", "b", BadCopy::None)?),
        ("ntfs", disks.ntfs("n", "N", Damage::Repairable)?),
        ("exfat", disks.exfat("f", "F", Damage::None)?),
        ("vfat", disks.vfat("v", "V", Damage::None)?),
    ];
    let paths: Vec<PathBuf> = kinds.iter().map(|(_, path)| path.clone()).collect();
    let plain = paths.iter().fold(pc("an image without features"), |guest, disk| {
        guest.disk(Disk::raw(disk))
    });
    let (plain, client) = start(plain)?;
    let before = last_writes(&client, &paths)?;
    let said = ends(&client, &["rescue", "fsck"], 1)?.text();
    let found = json(&client, &["rescue", "fsck", "--json"])?;
    for ((kind, _), letter) in kinds.iter().zip('a'..) {
        let entry = of(&found, &format!("/dev/vd{letter}"))?;
        let lacks = !matches!(*kind, "ext4" | "vfat");
        let outcome = if lacks { "missing" } else { "clean" };
        ensure!(entry["outcome"] == outcome && entry["fs"] == *kind, "{entry:#?}");
        let named = said.contains(&format!("is not in this image: build it with feature {kind}"));
        ensure!(named == lacks, "{kind}: {said}");
    }
    // Nor is it repaired by something else.
    ends(&client, &["rescue", "fsck", "--repair", "/dev/vdd"], 1)?;
    ensure!(
        last_writes(&client, &paths)? == before,
        "something was written to"
    );
    plain.passed()?;

    let (full, client) = start(guest("an image with features", &paths)?)?;
    let found = json(&client, &["rescue", "fsck", "--json"])?;
    for (letter, outcome) in ('a'..='f').zip(["clean", "clean", "clean", "errors", "clean", "clean"]) {
        let entry = of(&found, &format!("/dev/vd{letter}"))?;
        ensure!(entry["outcome"] == outcome, "{entry:#?}");
    }
    full.passed()
}

/// Two disks on one damaged ext4: of the first a piece in the middle of its table of inodes cannot be read.
const BREAK: &str = r"set -e
size=$(dumpe2fs -h /dev/vda 2>/dev/null | sed -n 's/^Block size: *//p')
table=$(dumpe2fs /dev/vda 2>/dev/null | sed -n 's/^ *Inode table at \([0-9]*\).*/\1/p' | head -n 1)
from=$(((table + 2) * size / 512)); end=$((from + 8)); all=$(blockdev --getsz /dev/vda)
dmsetup create dying <<E
0 $from linear /dev/vda 0
$from 8 error
$end $((all - end)) linear /dev/vda $end
E
dmsetup create well --table '0 98304 linear /dev/vdb 0'
dmsetup mknodes";

#[test]
fn errors_of_the_disk_itself_end_in_a_hint_to_copy_it_and_not_in_a_repair() -> Result<()> {
    let disks = Disks::new("fsck-dying")?;
    let paths = [
        disks.ext4("dying", "d", Damage::Repairable)?,
        disks.ext4("well", "w", Damage::Repairable)?,
    ];
    let (guest, client) = start(guest("fsck of a dying disk", &paths)?)?;
    client.run(&[BREAK])?.success()?;
    let before = last_writes(&client, &paths)?;
    let look = |words: &[&str], name: &str| -> Result<Value> {
        let device = format!("/dev/mapper/{name}");
        let words = [&["rescue", "fsck", "--json"], words, &[device.as_str()]].concat();
        Ok(of(&json(&client, &words)?, &device)?.clone())
    };
    for words in [&[][..], &["--repair"]] {
        let dying = look(words, "dying")?;
        let text = dying["text"].as_str().context("no text")?;
        ensure!(
            dying["disk_errors"].as_u64() > Some(0)
                && text.contains("ddrescue")
                && text.contains("docs/rescue-a-dying-disk.md")
                && matches!(
                    dying["outcome"].as_str(),
                    Some("errors" | "unrepaired" | "failed")
                ),
            "{dying:#?}"
        );
    }
    ends(&client, &["rescue", "fsck", "--repair", "/dev/mapper/dying"], 1)?;
    ensure!(
        last_writes(&client, &paths)? == before,
        "a dying disk was written to"
    );
    let well = look(&["--repair"], "well")?;
    ensure!(
        well["outcome"] == "repaired"
            && well["disk_errors"] == 0
            && !well["text"].as_str().unwrap_or_default().contains("ddrescue"),
        "{well:#?}"
    );
    client
        .run(&["dmsetup remove dying; dmsetup remove well"])?
        .success()?;
    guest.passed()
}

/// What a disk with that serial number says of itself: verdict, and who was asked.
fn health(client: &Client, words: &[&str], serial: &str) -> Result<Option<(String, String)>> {
    let listed = json(client, &[&["rescue", "disks", "--json"], words].concat())?;
    let entry = listed.iter().find(|entry| entry["serial"] == serial);
    let health = &entry.with_context(|| format!("no {serial}: {listed:#?}"))?["health"];
    let word = |key: &str| health[key].as_str().unwrap_or_default().to_owned();
    println!("{serial}: {health}");
    Ok((!health.is_null()).then(|| (word("verdict"), word("by"))))
}

#[test]
#[ignore = "make test-all"]
fn sata_and_nvme_disks_tell_how_they_feel_when_they_are_asked_and_not_before() -> Result<()> {
    let disks = Disks::new("health")?;
    let mut builder = guest("health", &[])?.argument("-device").argument("ahci,id=sata");
    for (id, device) in [("S1", "ide-hd,bus=sata.0"), ("N1", "nvme")] {
        let path = disks.blank(id, 16)?;
        builder = builder
            .argument("-drive")
            .argument(format!("file={},format=raw,if=none,id={id}", path.display()))
            .argument("-device")
            .argument(format!("{device},serial={id},drive={id}"));
    }
    let (guest, client) = start(builder)?;
    let good = |by: &str| Some(("good".to_owned(), by.to_owned()));
    for serial in ["S1", "N1"] {
        ensure!(health(&client, &[], serial)?.is_none(), "{serial} was asked");
        let told = health(&client, &["--health"], serial)?;
        ensure!(told == good("smartctl"), "{serial}: {told:?}");
    }
    // In an image with the other program alone NVMe disks are asked by that, and others by nobody.
    client.run(&["rm $(command -v smartctl)"])?.success()?;
    ensure!(health(&client, &["--health"], "N1")? == good("nvme"), "N1");
    ensure!(health(&client, &["--health"], "S1")?.is_none(), "S1");
    client.run(&["rm $(command -v nvme)"])?.success()?;
    let outcome = client.run(&["rescue", "disks", "--health"])?;
    let said = outcome.text() + &outcome.errors();
    ensure!(said.contains("build it with feature smart"), "{said}");
    guest.passed()
}
