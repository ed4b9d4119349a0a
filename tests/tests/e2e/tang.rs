//! Volumes bound to Tang servers with the stock `clevis luks bind`: unlocked by nobody when the server is there, by a person when it is not.

use crate::world::{BOOT, FULL_BOOT, pc};
use anyhow::{Result, ensure};
use lifeboot_contract::status::Phase;
use lifeboot_tests::artefacts::tiny_os;
use lifeboot_tests::fixtures::disk::{self, Damage, Disks, PASSPHRASE};
use lifeboot_tests::fixtures::luks;
use lifeboot_tests::fixtures::tang::{self, Manner, TangServer};
use lifeboot_tests::guest::{Board, Disk, Guest, GuestBuilder, Peer};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The tiny OS in a volume that is bound to a server.
fn bound(name: &str) -> Result<(Disks, PathBuf, TangServer)> {
    let disks = Disks::new(name)?;
    let volume = luks::tiny_root(&disks, "root.img", &tiny_os(Board::PcX86_64)?)?;
    let server = TangServer::start(&disks)?;
    server.bind(&volume)?;
    Ok((disks, volume, server))
}

/// A guest whose root is the tiny OS in that volume.
fn booting(name: &str, volume: &Path) -> Result<GuestBuilder> {
    let uuid = disk::luks_uuid(volume)?;
    let guest = pc(name).memory_mb(448).disk(Disk::raw(volume));
    Ok(guest
        .word(format!("root=LABEL={}", luks::LABEL))
        .word(format!("rd.luks.uuid={uuid}"))
        .word("rw"))
}

fn wait_for_tiny(guest: &mut Guest) -> Result<()> {
    let up = guest.wait_event("tiny.up", FULL_BOOT)?;
    ensure!(up.str("root").contains("ext4"), "root is {}", up.str("root"));
    Ok(())
}

#[test]
fn a_root_bound_to_a_tang_server_boots_without_anybody() -> Result<()> {
    let (_disks, volume, server) = bound("tang")?;
    let mut guest = booting("Tang server there", &volume)?.boot()?;
    let opened = guest.wait_event("unlock.tang", FULL_BOOT)?;
    ensure!(
        opened.str("result") == "opened",
        "{}: {}",
        opened.str("result"),
        opened.str("what")
    );
    ensure!(
        opened.str("url").contains(&server.url()),
        "by {}",
        opened.str("url")
    );
    wait_for_tiny(&mut guest)?;
    ensure!(
        server.asked() == 1,
        "the server was asked {} times",
        server.asked()
    );
    guest.passed()
}

#[test]
fn with_its_tang_server_away_the_passphrase_is_asked_for_at_once_until_the_server_is_back() -> Result<()> {
    let (_disks, volume, server) = bound("tang-away")?;
    server.now(Manner::IsAway)?;
    let mut guest = booting("Tang server away", &volume)?.boot()?;
    let waiting = guest.wait_event("mount.waiting", BOOT)?;
    guest.wait_console("Passphrase for /dev/vda", BOOT)?;
    let failed = guest.wait_event("unlock.tang", BOOT)?;
    ensure!(failed.str("result") == "failed", "{}", failed.str("result"));
    ensure!(failed.u64("next_try_ms").is_some(), "no further try");
    ensure!(
        waiting.ms <= failed.ms,
        "asked for only after the server had been tried"
    );
    server.now(Manner::Answers)?;
    wait_for_tiny(&mut guest)?;
    guest.passed()
}

#[test]
#[ignore = "make test-all"]
fn a_tang_server_that_hangs_keeps_nobody_from_unlocking() -> Result<()> {
    let (_disks, volume, server) = bound("tang-hangs")?;
    server.now(Manner::Hangs)?;
    let mut guest = booting("Tang server hangs", &volume)?.boot()?;
    guest.wait_event("mount.waiting", BOOT)?;
    let client = guest.wait_ssh(Peer::Rescue, BOOT)?;
    ensure!(
        matches!(guest.status()?.phase, Phase::WaitingForPassphrase { .. }),
        "{:?}",
        guest.status()?.phase
    );
    let started = Instant::now();
    // The boot may go on, and end this session, before its last word is read.
    drop(client.run_with(&["rescue", "unlock"], PASSPHRASE.as_bytes())?);
    guest.wait_event("mount.unlocked", 60)?;
    ensure!(
        started.elapsed().as_secs() < 30,
        "it took {} s",
        started.elapsed().as_secs()
    );
    wait_for_tiny(&mut guest)?;
    guest.passed()
}

/// The address of the server stands in the disk: a stranger's disk must not send this machine anywhere.
#[test]
fn a_server_is_asked_for_a_disk_that_a_person_names_and_for_no_other() -> Result<()> {
    let disks = Disks::new("tang-stranger")?;
    let volume = disks.luks("stranger.img", "data", Damage::None)?;
    let server = TangServer::start(&disks)?;
    server.bind(&volume)?;
    let mut guest = pc("a stranger's disk")
        .memory_mb(448)
        .disk(Disk::raw(&volume))
        .boot()?;
    guest.wait_event("boot.idle", BOOT)?;
    let client = guest.wait_ssh(Peer::Rescue, BOOT)?;
    let shown = client
        .run(&["rescue", "unlock", "--show", "--json", "/dev/vda"])?
        .success()?
        .text();
    ensure!(shown.contains(&server.url()), "{shown}");
    ensure!(
        server.asked() == 0,
        "the server was asked {} times",
        server.asked()
    );
    client
        .run(&["rescue", "unlock", "--tang", "--test", "/dev/vda"])?
        .success()?;
    let mapped = client.run(&["ls /dev/mapper | grep -c luks-"])?.text();
    ensure!(mapped.trim() == "0", "--test opened it");
    server.now(Manner::IsAway)?;
    let away = client.run(&["rescue", "unlock", "--tang", "/dev/vda"])?;
    ensure!(
        away.status == Some(1),
        "status {:?}: {}",
        away.status,
        away.errors()
    );
    server.now(Manner::Answers)?;
    client
        .run(&["rescue", "unlock", "--tang", "/dev/vda"])?
        .success()?;
    client.run(&["test -b /dev/mapper/luks-*"])?.success()?;
    ensure!(
        server.asked() == 2,
        "the server was asked {} times",
        server.asked()
    );
    guest.passed()
}

#[test]
#[ignore = "make test-all"]
fn one_of_two_servers_suffices_where_that_was_agreed() -> Result<()> {
    let disks = Disks::new("tang-sss")?;
    let volume = luks::tiny_root(&disks, "root.img", &tiny_os(Board::PcX86_64)?)?;
    let (first, second) = (TangServer::start(&disks)?, TangServer::start(&disks)?);
    tang::bind_to_some(&volume, 1, &[&first, &second])?;
    first.now(Manner::IsAway)?;
    let mut guest = booting("one of two Tang servers", &volume)?.boot()?;
    let opened = guest.wait_event("unlock.tang", FULL_BOOT)?;
    ensure!(
        opened.str("result") == "opened",
        "{}: {}",
        opened.str("result"),
        opened.str("what")
    );
    wait_for_tiny(&mut guest)?;
    ensure!(
        second.asked() == 1,
        "the second was asked {} times",
        second.asked()
    );
    guest.passed()
}

#[test]
#[ignore = "make test-all"]
fn switched_off_no_server_is_asked() -> Result<()> {
    let (_disks, volume, server) = bound("tang-off")?;
    let mut guest = booting("Tang off", &volume)?.word("lifeboot.tang=off").boot()?;
    guest.wait_event("mount.waiting", BOOT)?;
    guest.wait_event("network.done", BOOT)?;
    let client = guest.wait_ssh(Peer::Rescue, BOOT)?;
    // With it on, the server is asked within a second of the network.
    client.run(&["sleep", "5"])?.success()?;
    ensure!(
        server.asked() == 0,
        "the server was asked {} times",
        server.asked()
    );
    guest.passed()
}
