//! What is refused, and that nothing was written then.

use super::{MIB, URL, World, ended, sign, unusable, used};
use crate::world::{BOOT, pc, sha256};
use anyhow::{Result, ensure};
use lifeboot_tests::fault_server::Fault;
use lifeboot_tests::fixtures::disk::Damage;
use lifeboot_tests::fixtures::keys;
use lifeboot_tests::guest::{Disk, Peer};

#[test]
#[ignore = "make test-all"]
fn a_disk_that_is_mounted_or_too_small_and_a_question_that_nobody_hears_are_refused() -> Result<()> {
    let world = World::new("refused")?;
    let small = used(&world.disks, "small.img", 20)?;
    let mounted = world.disks.ext4("mounted.img", "data", Damage::None)?;
    let all = [&world.disk, &small, &mounted];
    let before: Vec<String> = all.iter().map(|path| sha256(path)).collect::<Result<_>>()?;
    let mut builder = pc("deploy refused");
    for path in all {
        builder = builder.disk(Disk::raw(path));
    }
    let mut guest = builder.boot()?;
    guest.wait_event("ssh.listening", BOOT)?;
    let client = guest.wait_ssh(Peer::Rescue, BOOT)?;
    client
        .run(&["mkdir -p /mnt && mount -o ro /dev/vdc /mnt"])?
        .success()?;
    let url = world.server.url(URL);
    let huge = (40 * MIB + 1).to_string();
    for (words, status, says) in [
        (&["/dev/vda"][..], 2, "--yes"),
        (&["--yes", "/dev/vdb"], 1, "20971520"),
        (&["--yes", "--size", &huge, "/dev/vda"], 1, "41943041"),
        (&["--yes", "--size", "41M", "/dev/vda"], 1, "42991616"),
        (
            &["--yes", "--size", "41MB", "/dev/vda"],
            2,
            "'--size' with value '41MB'",
        ),
        (&["--yes", "/dev/vdc"], 1, "/mnt"),
        (&["--yes", "/dev/vdz"], 1, "no such block device"),
        (&["--yes", "/etc/passwd"], 1, "not a block device"),
        (&["--yes", "/dev/null"], 1, "not a block device"),
        (&["--yes", "LABEL=data"], 1, "/dev/vdc is mounted on /mnt"),
        (&["--yes", "--sha256", "abc", "/dev/vda"], 2, "SHA-256"),
        (&["--dry-run", "/dev/vda"], 0, ""),
        (&["--dry-run", "/dev/vdb"], 1, "20971520"),
    ] {
        let (device, options) = words
            .split_last()
            .map_or(("", words), |(last, rest)| (*last, rest));
        let outcome = client.run(&[&["rescue", "deploy"], options, &[&url, device]].concat())?;
        ended(&outcome, status)?;
        ensure!(
            outcome.errors().contains(says),
            "{words:?}: it says {}",
            outcome.errors()
        );
    }
    // What is read would be overwritten; a source on another disk is none of that.
    for (source, device, status, says) in [
        ("/dev/vdb", "/dev/vdb", 1, "it is the source too"),
        ("- </dev/vdb", "/dev/vdb", 1, "it is the source too"),
        ("/dev/vdb", "/dev/vda", 0, "Would"),
    ] {
        let line = format!("rescue deploy --dry-run --no-verify {source} {device}");
        let outcome = client.run(&[&line])?;
        ended(&outcome, status)?;
        let said = format!("{}{}", outcome.text(), outcome.errors());
        ensure!(said.contains(says), "{line}: it says {said}");
    }
    guest.passed()?;
    for (path, before) in all.iter().zip(before) {
        ensure!(sha256(path)? == before, "{} was written to", path.display());
    }
    Ok(())
}

#[test]
#[ignore = "make test-all"]
fn a_stranger_s_signature_and_none_at_all_are_refused_before_the_first_write() -> Result<()> {
    let world = World::new("unsigned")?;
    let before = sha256(&world.disk)?;
    let (guest, client) = world.boot("deploy without a proof")?;
    let signature = format!("{URL}.minisig");
    world
        .server
        .serve_file(&signature, &sign(&world.packed, keys::UNTRUSTED)?)?;
    ended(&world.deploy(&client, &[])?, 1)?;
    world.server.fault(
        &signature,
        Fault::Status {
            code: 404,
            times: None,
        },
    );
    let outcome = world.deploy(&client, &[])?;
    ended(&outcome, 1)?;
    ensure!(
        outcome.errors().contains("not touched"),
        "it says {}",
        outcome.errors()
    );
    ensure!(world.server.stats(URL).body_bytes == 0, "the image was fetched");
    ensure!(sha256(&world.disk)? == before, "the disk was written to");
    // The same with the one word more.
    ended(&world.deploy(&client, &["--no-verify"])?, 0)?;
    guest.passed()?;
    world.landed()
}

#[test]
#[ignore = "make test-all"]
fn a_wrong_digest_leaves_a_disk_without_partition_table_and_the_right_one_a_whole_one() -> Result<()> {
    let world = World::new("digest")?;
    let (guest, client) = world.boot("deploy with a digest")?;
    let right = sha256(&world.packed)?;
    let wrong = format!("{}{}", &right[1..], &right[..1]);
    ended(&world.deploy(&client, &["--sha256", &wrong])?, 1)?;
    unusable(&world.disk)?;
    ended(&world.deploy(&client, &["--sha256", &right])?, 0)?;
    guest.passed()?;
    world.landed()
}

#[test]
#[ignore = "make test-all"]
fn a_server_that_lies_about_the_length_makes_no_whole_disk() -> Result<()> {
    let world = World::new("lie")?;
    let raw = "/card.img";
    world
        .server
        .serve_file(raw, &world.disks.dir().join("card.img"))?;
    let (guest, client) = world.boot("deploy of a short file")?;
    let url = world.server.url(raw);
    let words = ["rescue", "deploy", "--yes", "--no-verify", &url, "/dev/vda"];
    world.server.fault(raw, Fault::WrongLength((25 * MIB) as u64));
    ended(&client.run(&words)?, 1)?;
    unusable(&world.disk)?;
    world.server.heal(raw);
    ended(&client.run(&words)?, 0)?;
    guest.passed()?;
    world.landed()
}
