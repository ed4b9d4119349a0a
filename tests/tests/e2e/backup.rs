//! `rescue backup`: what comes back by `rescue deploy` is what was there.

use crate::world::{BOOT, pc};
use anyhow::{Context, Result, ensure};
use lifeboot_tests::fault_server::FaultServer;
use lifeboot_tests::fixtures::disk::{Damage, Disks, LETTER, LETTER_TEXT};
use lifeboot_tests::guest::{Client, Disk, Guest, Peer};
use lifeboot_tests::process::{self, Outcome};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

mod copy_on_write;
mod dying;
mod refusals;
mod servers;
mod session;
mod torn;

const MIB: usize = 1024 * 1024;
/// Where it is sent.
const PATH: &str = "/cards/pi.img.zst";
/// What lies between the partitions.
const JUNK: u8 = 0xA5;
/// Where the partitions begin, and how long they are: a FAT, an ext4.
const PARTS: [(usize, usize); 2] = [(MIB, 34 * MIB), (36 * MIB, 48 * MIB)];

/// A card as a Pi has one, with junk between its partitions, an empty disk that is larger, and a server that takes uploads.
struct World {
    disks: Disks,
    server: FaultServer,
    card: PathBuf,
    other: PathBuf,
}

impl World {
    fn new(name: &str) -> Result<World> {
        let disks = Disks::new(&format!("backup-{name}"))?;
        let card = disks.dir().join("card.img");
        fs::write(&card, card_with_two_file_systems(&disks)?).context("card.img")?;
        let other = disks.blank("other.img", 100)?;
        Ok(World {
            server: FaultServer::start()?,
            disks,
            card,
            other,
        })
    }

    fn boot(&self, name: &str) -> Result<(Guest, Client)> {
        let builder = pc(name).disk(Disk::raw(&self.card)).disk(Disk::raw(&self.other));
        let mut guest = builder.boot()?;
        guest.wait_event("ssh.listening", BOOT)?;
        let client = guest.wait_ssh(Peer::Rescue, BOOT)?;
        Ok((guest, client))
    }

    /// Backs the card up to the server.
    fn send(&self, client: &Client, words: &[&str]) -> Result<Outcome> {
        let url = self.server.url(PATH);
        client.run(&[&["rescue", "backup"], words, &["/dev/vda", &url]].concat())
    }
}

/// One partition table, two file systems, 90 MiB.
fn card_with_two_file_systems(disks: &Disks) -> Result<Vec<u8>> {
    let fat = disks.vfat("boot.img", "BOOT", Damage::None)?;
    let ext4 = disks.ext4("root.img", "root", Damage::None)?;
    let mut card = vec![JUNK; 90 * MIB];
    card[..MIB].fill(0);
    // Behind the last partition something that does not get shorter when it is packed, so that there is something to cut.
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    for eight in card[84 * MIB..].chunks_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        eight.copy_from_slice(&state.to_le_bytes());
    }
    for ((start, length), path) in PARTS.iter().zip([fat, ext4]) {
        let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
        ensure!(
            bytes.len() == *length,
            "{}: {} bytes",
            path.display(),
            bytes.len()
        );
        card[*start..start + length].copy_from_slice(&bytes);
    }
    for (entry, ((start, length), kind)) in PARTS.iter().zip([0x0C, 0x83]).enumerate() {
        let at = 446 + entry * 16;
        let sectors = |bytes: usize| u32::try_from(bytes / 512).unwrap_or(0).to_le_bytes();
        card[at + 4] = kind;
        card[at + 8..at + 12].copy_from_slice(&sectors(*start));
        card[at + 12..at + 16].copy_from_slice(&sectors(*length));
    }
    card[510..512].copy_from_slice(&[0x55, 0xAA]);
    Ok(card)
}

/// That a disk has the card's partition table and both of its file systems, whole and with the letter in them.
fn has_the_card(world: &World, disk: &Path) -> Result<()> {
    let bytes = fs::read(disk).with_context(|| disk.display().to_string())?;
    let card = fs::read(&world.card).context("card.img")?;
    ensure!(bytes[..MIB] == card[..MIB], "the first megabyte differs");
    let parts = PARTS.map(|(start, length)| &bytes[start..start + length]);
    let names = ["fat.out", "ext4.out"].map(|name| world.disks.dir().join(name));
    for (part, name) in parts.iter().zip(&names) {
        fs::write(name, part).with_context(|| name.display().to_string())?;
    }
    let names = names.each_ref().map(|name| name.to_string_lossy());
    process::run("fsck.vfat", ["-n", &names[0]])?;
    process::run("e2fsck", ["-f", "-n", &names[1]])?;
    let mut letters = [Command::new("mtype"), Command::new("debugfs")];
    letters[0].args(["-i", &names[0], "::letter.txt"]);
    letters[1].args(["-R", &format!("cat {LETTER}"), &names[1]]);
    for command in &mut letters {
        let text = process::run_with(command, b"")?.success()?.text();
        ensure!(text.replace('\r', "") == LETTER_TEXT, "{command:?}: {text}");
    }
    Ok(())
}

fn report(outcome: &Outcome) -> Result<Value> {
    serde_json::from_str(&outcome.text()).with_context(|| format!("{}{}", outcome.text(), outcome.errors()))
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn ended(outcome: &Outcome, status: i32) -> Result<()> {
    ensure!(
        outcome.status == Some(status),
        "status {:?}: {}{}",
        outcome.status,
        String::from_utf8_lossy(&outcome.stdout[..outcome.stdout.len().min(2000)]),
        outcome.errors()
    );
    Ok(())
}

#[test]
fn a_card_comes_back_from_a_server_although_what_nobody_uses_was_not_read() -> Result<()> {
    let world = World::new("server")?;
    let (guest, client) = world.boot("backup to a server")?;
    let outcome = world.send(&client, &["--json", "--verify"])?;
    ended(&outcome, 0)?;
    let report = report(&outcome)?;
    let size = 90 * MIB as u64;
    ensure!(
        report["outcome"] == "done" && report["verified"] == true && report["size"] == size,
        "{report}"
    );
    for area in report["areas"].as_array().context("no areas")? {
        ensure!(area["whole"].is_null(), "{area}");
        ensure!(area["wanted"].as_u64() < Some(16 << 20), "{area}");
    }
    let sent = world.server.uploaded(PATH).context("nothing was uploaded")?;
    let digest = sha256(&sent);
    ensure!(report["sha256"] == digest.as_str(), "{report}");
    let beside = world
        .server
        .uploaded(&format!("{PATH}.sha256"))
        .context("no digest file")?;
    ensure!(
        String::from_utf8_lossy(&beside) == format!("{digest}  pi.img.zst\n"),
        "{}",
        String::from_utf8_lossy(&beside)
    );
    let url = world.server.url(PATH);
    let words = [
        "rescue", "deploy", "--yes", "--json", "--sha256", &digest, &url, "/dev/vdb",
    ];
    let outcome = client.run(&words)?;
    ended(&outcome, 0)?;
    ensure!(
        outcome.text().contains(&format!("\"image_bytes\": {size}")),
        "{}",
        outcome.text()
    );
    guest.passed()?;
    has_the_card(&world, &world.other)
}

#[test]
fn all_blocks_through_ssh_are_the_disk_byte_for_byte_and_nothing_else_is_on_standard_output() -> Result<()> {
    let world = World::new("ssh")?;
    let (guest, client) = world.boot("backup through ssh")?;
    let image = world.disks.dir().join("all.img.zst");
    let outcome = client.run(&["rescue", "backup", "--all-blocks", "/dev/vda", "-"])?;
    ended(&outcome, 0)?;
    guest.passed()?;
    ensure!(
        outcome.errors().contains(&sha256(&outcome.stdout)),
        "{}",
        outcome.errors()
    );
    fs::write(&image, &outcome.stdout).context("all.img.zst")?;
    let mut unpack = Command::new("zstd");
    let unpacked = process::run_with(unpack.args(["-d", "-c"]).arg(&image), b"")?.success()?;
    ensure!(
        unpacked.stdout == fs::read(&world.card).context("card.img")?,
        "it differs from the card"
    );
    Ok(())
}
