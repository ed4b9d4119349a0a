//! Every way an image can come.

use super::{OLD, World, ended, sign, unusable};
use crate::world::sha256;
use anyhow::{Context, Result, ensure};
use lifeboot_tests::fixtures::keys;
use lifeboot_tests::process;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;

#[test]
#[ignore = "make test-all"]
fn each_packing_lands_the_same_image_from_a_server_and_through_ssh() -> Result<()> {
    let world = World::new("packings")?;
    let raw = world.disks.dir().join("card.img");
    let name = raw.to_string_lossy().into_owned();
    for program in ["gzip", "xz", "bzip2"] {
        process::run(program, ["-k", "-1", &name])?;
    }
    process::run("zip", ["-q", "-1", "-j", &format!("{name}.zip"), &name])?;
    let (guest, client) = world.boot("deploy of every packing")?;
    for suffix in ["", ".gz", ".xz", ".bz2", ".zst", ".zip"] {
        let path = format!("/card.img{suffix}");
        let file = world.disks.dir().join(&path[1..]);
        world.server.serve_file(&path, &file)?;
        let digest = sha256(&file)?;
        let words = ["rescue", "deploy", "--yes", "--sha256", &digest];
        let url = world.server.url(&path);
        ended(&client.run(&[&words[..], &[&url, "/dev/vda"]].concat())?, 0).context(path.clone())?;
        world.landed().context(path.clone())?;
        dirty(&world)?;
        let bytes = fs::read(&file).context(path.clone())?;
        let outcome = client.run_with(&[&words[..], &["-", "/dev/vda"]].concat(), &bytes)?;
        ended(&outcome, 0).with_context(|| format!("{path} through ssh"))?;
        world.landed().with_context(|| format!("{path} through ssh"))?;
        dirty(&world)?;
        // And cut, without a proof that would tell.
        let cut = &bytes[..bytes.len() / 2];
        let outcome = client.run_with(
            &["rescue", "deploy", "--yes", "--no-verify", "-", "/dev/vda"],
            cut,
        )?;
        ended(&outcome, 1).with_context(|| format!("{path} cut"))?;
        match suffix {
            // Nobody can tell that it was cut, so it was not begun.
            "" => ensure!(outcome.errors().contains("not touched"), "{}", outcome.errors()),
            _ => unusable(&world.disk)?,
        }
    }
    guest.passed()
}

/// Spoils what the last image left, where the guest does not see it.
fn dirty(world: &World) -> Result<()> {
    let disk = File::options().write(true).open(&world.disk).context("disk")?;
    disk.write_all_at(&vec![OLD; world.image.len()], 0)
        .context("disk")
}

#[test]
#[ignore = "make test-all"]
fn a_file_is_checked_before_the_first_write() -> Result<()> {
    let world = World::new("file")?;
    let (guest, client) = world.boot("deploy of a file")?;
    let (packed, signature) = (
        world.packed.to_string_lossy(),
        sign(&world.packed, keys::TRUSTED)?,
    );
    client.scp(&[], &packed, "guest:/tmp/card.zst")?;
    client.scp(&[], &signature.to_string_lossy(), "guest:/tmp/card.zst.minisig")?;
    let before = sha256(&world.disk)?;
    let spoil = "cp /tmp/card.zst /tmp/bad.zst && cp /tmp/card.zst.minisig /tmp/bad.zst.minisig && printf x >>/tmp/bad.zst";
    client.run(&[spoil])?.success()?;
    let deploy = |file| client.run(&["rescue", "deploy", "--yes", file, "/dev/vda"]);
    let outcome = deploy("/tmp/bad.zst")?;
    ended(&outcome, 1)?;
    ensure!(
        outcome.errors().contains("not touched"),
        "it says {}",
        outcome.errors()
    );
    ensure!(sha256(&world.disk)? == before, "the disk was written to");
    ended(&deploy("/tmp/card.zst")?, 0)?;
    guest.passed()?;
    world.landed()
}

#[test]
#[ignore = "make test-all"]
fn at_a_terminal_the_disk_is_shown_and_only_a_yes_overwrites_it() -> Result<()> {
    let world = World::new("asked")?;
    let before = sha256(&world.disk)?;
    let (guest, client) = world.boot("deploy that asks")?;
    let url = world.server.url(super::URL);
    let words = ["rescue", "deploy", &url, "/dev/vda"];
    let mut conversation = client.converse(&words)?;
    conversation.expect("/dev/vda", 60)?;
    conversation.expect("40 MiB", 10)?;
    conversation.expect("Type 'yes'", 10)?;
    conversation.send("y\n")?;
    ensure!(conversation.end(60)? == 1, "{}", conversation.heard());
    ensure!(sha256(&world.disk)? == before, "the disk was written to");
    let mut conversation = client.converse(&words)?;
    conversation.expect("Type 'yes'", 60)?;
    conversation.send("yes\n")?;
    ensure!(conversation.end(120)? == 0, "{}", conversation.heard());
    guest.passed()?;
    world.landed()
}
