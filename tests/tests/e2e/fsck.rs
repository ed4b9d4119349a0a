//! `rescue fsck` and `rescue disks` with real damage of every kind there is a checker for: each damaged disk beside one that differs
//! from it by the damage alone.

use crate::world::{BOOT, pc};
use anyhow::{Context, Result, ensure};
use lifeboot_tests::fixtures::disk::{Damage, Disks, LETTER, LETTER_TEXT};
use lifeboot_tests::fixtures::file_systems::{BadCopy, Copy};
use lifeboot_tests::guest::{Client, Disk, Guest, GuestBuilder, Peer};
use lifeboot_tests::process::{self, Outcome};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::time::SystemTime;

mod lacking;
mod members;
mod refusing;
mod ruins;
mod session;
mod stopped;

/// A guest that has every checker, and those disks as vda, vdb, …
fn guest(name: &str, disks: &[PathBuf]) -> Result<GuestBuilder> {
    let guest = pc(name).with_everything()?;
    Ok(disks
        .iter()
        .fold(guest, |guest, disk| guest.disk(Disk::raw(disk))))
}

fn start(builder: GuestBuilder) -> Result<(Guest, Client)> {
    let mut guest = builder.boot()?;
    guest.wait_event("ssh.listening", BOOT)?;
    let client = guest.wait_ssh(Peer::Rescue, BOOT)?;
    Ok((guest, client))
}

/// Runs it there and wants that status.
fn ends(client: &Client, words: &[&str], status: i32) -> Result<Outcome> {
    let outcome = client.run(words)?;
    ensure!(
        outcome.status == Some(status),
        "{words:?}: status {:?} and not {status}: {}{}",
        outcome.status,
        outcome.text(),
        outcome.errors()
    );
    Ok(outcome)
}

/// What `rescue … --json` says, an entry for each device.
fn json(client: &Client, words: &[&str]) -> Result<Vec<Value>> {
    let outcome = client.run(words)?;
    serde_json::from_slice(&outcome.stdout)
        .with_context(|| format!("{words:?}: {}{}", outcome.text(), outcome.errors()))
}

/// The entry of one device.
fn of<'a>(entries: &'a [Value], device: &str) -> Result<&'a Value> {
    let found = entries.iter().find(|entry| entry["device"] == device);
    found.with_context(|| format!("{device} is not in {entries:#?}"))
}

/// When each disk was last written to, as the host sees it: QEMU passes on every write, and nothing else touches the files.
fn last_writes(client: &Client, paths: &[PathBuf]) -> Result<Vec<SystemTime>> {
    client.run(&["sync"])?.success()?;
    let times = paths
        .iter()
        .map(|path| fs::metadata(path).and_then(|meta| meta.modified()));
    times.collect::<std::io::Result<_>>().context("disks")
}

/// A kind of file system, a sound disk with it, and the same with damage.
type Pair = (&'static str, PathBuf, PathBuf);

fn pairs(disks: &Disks) -> Result<Vec<Pair>> {
    let (sound, damaged) = (Damage::None, Damage::Repairable);
    Ok(vec![
        (
            "ext4",
            disks.ext4("e0", "e", sound)?,
            disks.ext4_without_superblock("e1", "e")?,
        ),
        (
            "vfat",
            disks.vfat("v0", "V", sound)?,
            disks.vfat("v1", "V", damaged)?,
        ),
        (
            "exfat",
            disks.exfat("x0", "X", sound)?,
            disks.exfat("x1", "X", damaged)?,
        ),
        (
            "f2fs",
            disks.f2fs("f0", "f", sound)?,
            disks.f2fs("f1", "f", damaged)?,
        ),
        (
            "xfs",
            disks.xfs("y0", "x", sound)?,
            disks.xfs("y1", "x", damaged)?,
        ),
        (
            "btrfs",
            disks.btrfs("b0", "b", BadCopy::None)?,
            disks.btrfs("b1", "b", BadCopy::Metadata)?,
        ),
        (
            "gpt",
            disks.gpt("g0", "g", None)?,
            disks.gpt("g1", "g", Some(Copy::Primary))?,
        ),
        (
            "ntfs",
            disks.ntfs("n0", "N", sound)?,
            disks.ntfs("n1", "N", damaged)?,
        ),
    ])
}

/// What a check finds on the disks of [`pairs`], in their order.
fn all_is_named(client: &Client, pairs: &[Pair], names: &[String]) -> Result<()> {
    ends(client, &["rescue", "fsck"], 1)?;
    let found = json(client, &["rescue", "fsck", "--json"])?;
    for ((kind, ..), disks) in pairs.iter().zip(names.chunks(2)) {
        ensure!(
            of(&found, &disks[1])?["outcome"] == "errors",
            "{kind}: {found:#?}"
        );
        // Of a sound partition table the partition is spoken of.
        let sound = if *kind == "gpt" {
            format!("{}1", disks[0])
        } else {
            disks[0].clone()
        };
        ensure!(of(&found, &sound)?["outcome"] == "clean", "{kind}: {found:#?}");
    }
    let listed = json(client, &["rescue", "disks", "--json"])?;
    for (device, state) in [("/dev/vdm", "whole"), ("/dev/vdn", "primary-damaged")] {
        ensure!(of(&listed, device)?["gpt"] == state, "{listed:#?}");
    }
    Ok(())
}

fn reads(client: &Client, device: &str, file: &str) -> Result<()> {
    let script = format!("mkdir -p /mnt && mount -o ro {device} /mnt && cat /mnt/{file}; umount /mnt");
    let text = client.run(&[&script])?.success()?.text();
    ensure!(text == LETTER_TEXT, "{device}: the letter reads {text:?}");
    Ok(())
}

#[test]
fn every_kind_of_damage_is_named_and_repaired_and_the_sound_twin_is_not_written_to() -> Result<()> {
    let disks = Disks::new("kinds")?;
    let pairs = pairs(&disks)?;
    let paths: Vec<PathBuf> = pairs
        .iter()
        .flat_map(|(_, sound, damaged)| [sound.clone(), damaged.clone()])
        .collect();
    let (guest, client) = start(guest("kinds of damage", &paths)?)?;
    let names: Vec<String> = ('a'..='p').map(|letter| format!("/dev/vd{letter}")).collect();
    let damaged = || names.iter().skip(1).step_by(2);
    let before = last_writes(&client, &paths)?;
    all_is_named(&client, &pairs, &names)?;
    for device in damaged() {
        ends(&client, &["rescue", "fsck", "--repair", "--dry-run", device], 0)?;
    }
    ensure!(
        last_writes(&client, &paths)? == before,
        "a check or a dry run has written"
    );
    for device in damaged() {
        let repaired = json(&client, &["rescue", "fsck", "--repair", "--json", device])?;
        ensure!(of(&repaired, device)?["outcome"] == "repaired", "{repaired:#?}");
    }
    // Everything is well now, the partition that was not to be seen before too, and a repair of everything has nothing to do.
    let after = last_writes(&client, &paths)?;
    ends(&client, &["rescue", "fsck", "--repair", "all"], 0)?;
    ensure!(
        last_writes(&client, &paths)? == after,
        "something sound was written to"
    );
    ensure!(
        (0..16).step_by(2).all(|index| before[index] == after[index]),
        "a sound twin was written to"
    );
    for (device, file) in [
        ("/dev/vdb", LETTER),
        ("/dev/vdl", "letter.txt"),
        ("/dev/vdn1", LETTER),
    ] {
        reads(&client, device, file)?;
    }
    client.run(&["sync"])?.success()?;
    guest.passed()?;
    let said = process::run("sgdisk", ["-v".as_ref(), pairs[6].2.as_os_str()])?;
    ensure!(said.contains("No problems found"), "{said}");
    Ok(())
}

#[test]
#[ignore = "make test-all"]
fn a_bad_copy_of_data_is_found_when_asked_for_and_mended_from_the_good_one() -> Result<()> {
    let disks = Disks::new("bad-copy")?;
    let paths = [
        disks.btrfs("b0", "b", BadCopy::None)?,
        disks.btrfs("b1", "b", BadCopy::Data)?,
    ];
    let (guest, client) = start(guest("bad copy", &paths)?)?;
    // Its structure is sound, and that is all that was asked.
    ends(&client, &["rescue", "fsck", "/dev/vdb"], 0)?;
    ends(&client, &["rescue", "fsck", "--data", "/dev/vda"], 0)?;
    ends(&client, &["rescue", "fsck", "--data", "/dev/vdb"], 1)?;
    ends(&client, &["rescue", "fsck", "--data", "--repair", "all"], 1)?;
    ends(&client, &["rescue", "fsck", "--data", "--repair", "/dev/vdb"], 0)?;
    ends(&client, &["rescue", "fsck", "--data", "/dev/vdb"], 0)?;
    guest.passed()
}

#[test]
fn a_log_that_waits_is_replayed_by_repair_and_thrown_away_only_when_that_is_typed() -> Result<()> {
    let disks = Disks::new("waiting-log")?;
    let paths = [
        disks.xfs("live", "live", Damage::None)?,
        disks.blank("copy", 320)?,
        disks.blank("spoilt", 320)?,
    ];
    let (guest, client) = start(guest("waiting log", &paths)?)?;
    // What is on the disk while it is in use is what is left of it when the power fails. The third cannot be mounted any more.
    let script = "set -e; mkdir -p /mnt; mount -t xfs /dev/vda /mnt; for n in $(seq 200); do echo $n >/mnt/f$n; done; sync
                  dd if=/dev/vda of=/dev/vdb bs=1M 2>/dev/null; umount /mnt; dd if=/dev/vdb of=/dev/vdc bs=1M 2>/dev/null; sync
                  m=$(command -v mount); rm $m; chmod 755 /bin/busybox
                  printf '#!/bin/sh\\ncase \"$*\" in *vdc*) echo structure needs cleaning; exit 255;; esac\\nexec busybox mount \"$@\"\\n' >$m
                  chmod 755 $m";
    client.run(&[script])?.success()?;
    ends(&client, &["rescue", "fsck", "/dev/vda"], 0)?;
    let looked = json(&client, &["rescue", "fsck", "--json", "/dev/vdb"])?;
    let text = of(&looked, "/dev/vdb")?["text"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    ensure!(text.contains("log"), "{text}");
    ends(&client, &["rescue", "fsck", "--repair", "/dev/vdb"], 0)?;
    let count = "mount -t xfs /dev/vdb /mnt && ls /mnt | wc -l; umount /mnt";
    ensure!(
        client.run(&[count])?.success()?.text().trim() == "200",
        "what was synced is lost"
    );

    let third = &paths[2..];
    let before = last_writes(&client, third)?;
    let refused = ends(&client, &["rescue", "fsck", "--repair", "/dev/vdc"], 1)?.text();
    ensure!(refused.contains("--zero-log"), "{refused}");
    ensure!(
        last_writes(&client, third)? == before,
        "a log that cannot be replayed was written to"
    );
    ends(&client, &["rescue", "fsck", "--zero-log", "/dev/vdc"], 2)?;
    ends(
        &client,
        &["rescue", "fsck", "--repair", "--zero-log", "/dev/vdc"],
        0,
    )?;
    ends(&client, &["rescue", "fsck", "/dev/vdc"], 0)?;
    guest.passed()
}
