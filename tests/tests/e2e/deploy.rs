//! `rescue deploy`: an image lands whole, or the disk is one that nothing takes for whole.

use crate::world::{BOOT, pc};
use anyhow::{Context, Result, ensure};
use lifeboot_tests::artefacts::{image_builder, keys_dir};
use lifeboot_tests::fault_server::{Fault, FaultServer};
use lifeboot_tests::fixtures::disk::Disks;
use lifeboot_tests::fixtures::keys;
use lifeboot_tests::guest::{Client, Disk, Guest, Peer};
use lifeboot_tests::process::{self, Outcome};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

mod bmap;
mod power;
mod refusals;
mod session;
mod sources;

const MIB: usize = 1024 * 1024;
/// Where the image is served.
const URL: &str = "/card.img.zst";
/// What was on the disk before.
const OLD: u8 = 0xA5;

/// An image, packed and signed, and a used disk that is larger.
struct World {
    disks: Disks,
    server: FaultServer,
    image: Vec<u8>,
    packed: PathBuf,
    disk: PathBuf,
}

impl World {
    fn new(name: &str) -> Result<World> {
        let disks = Disks::new(&format!("deploy-{name}"))?;
        let image = card(24);
        let raw = disks.dir().join("card.img");
        fs::write(&raw, &image).context("card.img")?;
        process::run("zstd", ["-q", "-3", &raw.to_string_lossy()])?;
        let packed = disks.dir().join("card.img.zst");
        let server = FaultServer::start()?;
        server.serve_file(URL, &packed)?;
        server.serve_file(&format!("{URL}.minisig"), &sign(&packed, keys::TRUSTED)?)?;
        let disk = used(&disks, "disk.img", 40)?;
        Ok(World {
            disks,
            server,
            image,
            packed,
            disk,
        })
    }

    fn boot(&self, name: &str) -> Result<(Guest, Client)> {
        let mut guest = pc(name).disk(Disk::raw(&self.disk)).boot()?;
        guest.wait_event("ssh.listening", BOOT)?;
        let client = guest.wait_ssh(Peer::Rescue, BOOT)?;
        Ok((guest, client))
    }

    fn deploy(&self, client: &Client, words: &[&str]) -> Result<Outcome> {
        let url = self.server.url(URL);
        let words = [&["rescue", "deploy", "--yes"], words, &[&url, "/dev/vda"]].concat();
        client.run(&words)
    }

    /// That the disk is the image, and what the image does not reach has no second partition table.
    fn landed(&self) -> Result<()> {
        landed(&self.disk, &self.image)
    }
}

/// Signs `file` beside itself. A name for each key, so that a test may have several.
fn sign(file: &Path, key: &str) -> Result<PathBuf> {
    let name = file.to_string_lossy();
    let secret = keys_dir().join(key).with_extension("key");
    let words = ["sign", "--key", &secret.to_string_lossy(), &name];
    process::run(&image_builder().to_string_lossy(), words)?;
    let signature = PathBuf::from(format!("{name}.{key}.minisig"));
    fs::rename(format!("{name}.minisig"), &signature).context("signature")?;
    Ok(signature)
}

/// A disk image: a partition table with one partition, and bytes that differ everywhere but for holes of zeros.
fn card(megabytes: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut bytes: Vec<u8> = (0..megabytes * MIB / 8).flat_map(|_| next()).collect();
    for hole in bytes.chunks_mut(3 * MIB).skip(1) {
        hole.iter_mut().take(MIB + 4096).for_each(|byte| *byte = 0);
    }
    let sectors = u32::try_from((megabytes - 1) * MIB / 512).unwrap_or(0);
    partition_table(&mut bytes, sectors);
    bytes
}

/// One partition behind the first megabyte; the layout is that of every PC's master boot record.
fn partition_table(bytes: &mut [u8], sectors: u32) {
    bytes[440..510].fill(0);
    bytes[446 + 4] = 0x83;
    bytes[446 + 8..446 + 12].copy_from_slice(&2048_u32.to_le_bytes());
    bytes[446 + 12..446 + 16].copy_from_slice(&sectors.to_le_bytes());
    bytes[510..512].copy_from_slice(&[0x55, 0xAA]);
}

/// A disk with something on it.
fn used(disks: &Disks, name: &str, megabytes: usize) -> Result<PathBuf> {
    let path = disks.dir().join(name);
    let mut bytes = vec![OLD; megabytes * MIB];
    partition_table(&mut bytes, 2048);
    fs::write(&path, bytes).with_context(|| path.display().to_string())?;
    Ok(path)
}

fn landed(disk: &Path, image: &[u8]) -> Result<()> {
    let bytes = fs::read(disk).with_context(|| disk.display().to_string())?;
    let differs = bytes.iter().zip(image).position(|(one, other)| one != other);
    ensure!(
        differs.is_none(),
        "the disk differs from the image at byte {differs:?}"
    );
    ensure!(
        bytes[bytes.len() - MIB + 4096..].iter().all(|byte| *byte == 0),
        "the end of the disk was not cleared"
    );
    Ok(())
}

/// That nothing takes the disk for whole.
fn unusable(disk: &Path) -> Result<()> {
    let bytes = fs::read(disk).with_context(|| disk.display().to_string())?;
    let written = bytes[..MIB].iter().position(|byte| *byte != 0);
    ensure!(
        written.is_none(),
        "the first megabyte has something at byte {written:?}"
    );
    Ok(())
}

fn ended(outcome: &Outcome, status: i32) -> Result<()> {
    ensure!(
        outcome.status == Some(status),
        "status {:?}: {}{}",
        outcome.status,
        outcome.text(),
        outcome.errors()
    );
    Ok(())
}

#[test]
fn an_image_lands_byte_for_byte_although_the_link_is_cut_three_times() -> Result<()> {
    let world = World::new("cut")?;
    let cut = Fault::CutAfter {
        bytes: 3 * MIB as u64,
        times: 3,
    };
    world.server.fault(URL, cut);
    let (guest, client) = world.boot("deploy over a bad link")?;
    let outcome = world.deploy(&client, &["--json"])?;
    ended(&outcome, 0)?;
    let report: Value = serde_json::from_str(&outcome.text())?;
    ensure!(
        report["outcome"] == "done" && report["proof"] == "minisign",
        "{report}"
    );
    ensure!(report["image_bytes"] == world.image.len(), "{report}");
    ensure!(report["contents"][1]["device"] == "/dev/vda1", "{report}");
    guest.passed()?;
    world.landed()?;
    let stats = world.server.stats(URL);
    ensure!(stats.ranges.len() >= 3, "asked for ranges {:?}", stats.ranges);
    let length = fs::metadata(&world.packed)?.len();
    ensure!(
        stats.body_bytes * 10 < length * 11,
        "{} bytes sent for {length}",
        stats.body_bytes
    );
    Ok(())
}

#[test]
fn an_image_with_one_flipped_byte_leaves_a_disk_without_partition_table() -> Result<()> {
    let world = World::new("flipped")?;
    let length = fs::metadata(&world.packed)?.len();
    world.server.fault(URL, Fault::FlipByte(length / 2));
    let (guest, client) = world.boot("deploy of a damaged image")?;
    let outcome = world.deploy(&client, &[])?;
    ended(&outcome, 1)?;
    ensure!(
        outcome.errors().contains("unusable"),
        "it says: {}",
        outcome.errors()
    );
    let partitions = client.run(&["cat", "/proc/partitions"])?.success()?.text();
    ensure!(
        !partitions.contains("vda1"),
        "the old partition is still there:\n{partitions}"
    );
    guest.passed()?;
    unusable(&world.disk)
}
