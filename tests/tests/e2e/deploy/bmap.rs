//! Only what a bmap has is written, and it must be a bmap of that image.

use super::{MIB, URL, World, ended, sign, unusable};
use anyhow::{Context, Result, ensure};
use lifeboot_tests::fixtures::keys;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::fs;
use std::ops::Range;

const BLOCK: usize = 4096;

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// The blocks of an image that are not zeros, in runs.
fn mapped(image: &[u8]) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for (block, bytes) in image.chunks(BLOCK).enumerate() {
        if bytes.iter().all(|byte| *byte == 0) {
            continue;
        }
        match runs.last_mut() {
            Some(last) if last.end == block => last.end += 1,
            _ => runs.push(block..block + 1),
        }
    }
    runs
}

/// What `bmaptool create` writes of an image.
fn bmap(image: &[u8]) -> String {
    let runs = mapped(image);
    let ranges: String = runs
        .iter()
        .map(|run| {
            let digest = sha256(&image[run.start * BLOCK..(run.end * BLOCK).min(image.len())]);
            format!(
                "        <Range chksum=\"{digest}\"> {}-{} </Range>\n",
                run.start,
                run.end - 1
            )
        })
        .collect();
    let count: usize = runs.iter().map(Range::len).sum();
    let text = format!(
        "<?xml version=\"1.0\" ?>\n<bmap version=\"2.0\">\n    <ImageSize> {} </ImageSize>\n    <BlockSize> {BLOCK} </BlockSize>\n    \
         <BlocksCount> {} </BlocksCount>\n    <MappedBlocksCount> {count} </MappedBlocksCount>\n    \
         <ChecksumType> sha256 </ChecksumType>\n    <BmapFileChecksum> CHECK </BmapFileChecksum>\n    \
         <BlockMap>\n{ranges}    </BlockMap>\n</bmap>\n",
        image.len(),
        image.len().div_ceil(BLOCK)
    );
    let blank = text.replace("CHECK", &"0".repeat(64));
    text.replace("CHECK", &sha256(blank.as_bytes()))
}

/// Puts a bmap beside the image, signed.
fn serve(world: &World, text: &str) -> Result<()> {
    let path = world.disks.dir().join("card.bmap");
    fs::write(&path, text).context("card.bmap")?;
    world.server.serve_file(&format!("{URL}.bmap"), &path)?;
    let signature = sign(&path, keys::TRUSTED)?;
    world
        .server
        .serve_file(&format!("{URL}.bmap.minisig"), &signature)
}

#[test]
#[ignore = "make test-all"]
fn only_what_a_bmap_has_is_written_and_that_of_another_image_is_found_out() -> Result<()> {
    let world = World::new("bmap")?;
    let before = fs::read(&world.disk).context("disk")?;
    let (guest, client) = world.boot("deploy with a bmap")?;
    // No signature of it, and then no signature by a key of ours.
    let path = format!("{URL}.bmap");
    world.server.serve_bytes(&path, bmap(&world.image).into_bytes());
    ended(&world.deploy(&client, &["--bmap", "beside"])?, 1)?;
    ensure!(fs::read(&world.disk)? == before, "the disk was written to");
    // One that leaves out what is not zeros.
    let mut other = world.image.clone();
    other[11 * MIB..11 * MIB + BLOCK].fill(0);
    serve(&world, &bmap(&other))?;
    let outcome = world.deploy(&client, &["--bmap", "beside"])?;
    ended(&outcome, 1)?;
    ensure!(
        outcome.errors().contains("not of this image"),
        "{}",
        outcome.errors()
    );
    unusable(&world.disk)?;
    // And the right one.
    serve(&world, &bmap(&world.image))?;
    let outcome = world.deploy(&client, &["--json", "--bmap", "beside"])?;
    ended(&outcome, 0)?;
    let report: Value = serde_json::from_str(&outcome.text())?;
    let runs = mapped(&world.image);
    let meant: usize = runs.iter().map(Range::len).sum();
    let left = (world.image.len() - meant * BLOCK) as u64;
    ensure!(
        report["not_written_bytes"].as_u64() >= Some(left),
        "{left} bytes are not meant: {report}"
    );
    guest.passed()?;
    let disk = fs::read(&world.disk).context("disk")?;
    for run in runs {
        let place = run.start * BLOCK..run.end * BLOCK;
        ensure!(disk[place.clone()] == world.image[place], "blocks {run:?} differ");
    }
    Ok(())
}
