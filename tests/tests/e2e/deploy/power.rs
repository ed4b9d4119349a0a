//! The power fails in the middle.

use super::{MIB, URL, World, landed};
use crate::world::BOOT;
use anyhow::{Context, Result, ensure};
use lifeboot_tests::deadline::Deadline;
use lifeboot_tests::fault_server::Fault;
use lifeboot_tests::process::may_fail;
use std::fs;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::process::Stdio;
use std::time::{Duration, Instant};

/// What is found on the disk afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Old,
    Unusable,
    Whole,
}

fn look(world: &World, old: &[u8]) -> Result<Found> {
    let bytes = fs::read(&world.disk).context("disk")?;
    if bytes == old {
        return Ok(Found::Old);
    }
    // The first block has the partition table and is written last of all.
    if bytes[..4096].iter().all(|byte| *byte == 0) {
        return Ok(Found::Unusable);
    }
    landed(&world.disk, &world.image).context("it looks whole")?;
    Ok(Found::Whole)
}

/// How much of the time the bytes take that come from the server; the rest is what follows when all have come.
const FETCHING: f64 = 0.8;

/// Deploys and cuts the power after `share` of it, by what the server has sent: this machine may be slower than it was when `whole` was
/// measured.
fn cut(world: &World, old: &[u8], whole: Duration, share: f64) -> Result<Found> {
    fs::write(&world.disk, old).context("disk")?;
    let (mut guest, client) = world.boot("power cut")?;
    let url = world.server.url(URL);
    let mut command = client.command(&[], &["rescue", "deploy", "--yes", &url, "/dev/vda"]);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let before = world.server.stats(URL).body_bytes;
    let length = fs::metadata(&world.packed).context("image")?.len();
    let most = (length as f64 * (share / FETCHING).min(1.0)) as u64;
    let mut running = command.spawn().context("could not run: ssh")?;
    Deadline::after(BOOT).wait_for("bytes before the cut", || {
        Ok((world.server.stats(URL).body_bytes - before >= most).then_some(()))
    })?;
    std::thread::sleep(whole.mul_f64((share - FETCHING).max(0.0)));
    guest.cut_power()?;
    // It has lost its peer and would notice only after a while.
    may_fail("ending ssh", running.kill());
    may_fail("ending ssh", running.wait());
    let found = look(world, old).with_context(|| format!("cut after {share:.2} of {whole:?}"))?;
    guest.passed()?;
    Ok(found)
}

#[test]
#[ignore = "make test-all"]
fn the_power_fails_at_ten_random_moments_and_no_disk_looks_whole_that_is_not() -> Result<()> {
    const CUTS: u32 = 10;
    let world = World::new("power")?;
    let old = fs::read(&world.disk).context("disk")?;
    let drip = Fault::Drip {
        bytes: MIB as u64 / 4,
        pause: Duration::from_millis(30),
    };
    world.server.fault(URL, drip);
    let (guest, client) = world.boot("no power cut")?;
    let started = Instant::now();
    world.deploy(&client, &[])?.success()?;
    let whole = started.elapsed();
    guest.passed()?;
    ensure!(look(&world, &old)? == Found::Whole, "not even without a cut");
    let mut found = Vec::new();
    for number in 0..CUTS {
        // One in each tenth of the time, somewhere in it.
        let chance = (RandomState::new().build_hasher().finish() % 1000) as f64 / 1000.0;
        found.push(cut(
            &world,
            &old,
            whole,
            (f64::from(number) + chance) / f64::from(CUTS),
        )?);
    }
    let middle = found.iter().filter(|found| **found == Found::Unusable).count();
    ensure!(middle >= 5, "most cuts missed the middle: {found:?}");
    Ok(())
}
