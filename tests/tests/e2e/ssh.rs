//! What today's OpenSSH clients expect of a server.

use crate::world::{BOOT, pc};
use anyhow::{Context, Result, ensure};
use lifeboot_tests::artefacts::keys_dir;
use lifeboot_tests::fixtures::disk::Disks;
use lifeboot_tests::fixtures::keys;
use lifeboot_tests::guest::{Client, Guest, Peer};
use std::path::Path;

fn rescue(name: &str) -> Result<(Guest, Client)> {
    let mut guest = pc(name).boot()?;
    guest.wait_event("ssh.listening", BOOT)?;
    let client = guest.wait_ssh(Peer::Rescue, BOOT)?;
    Ok((guest, client))
}

#[test]
fn no_root_stays_in_rescue_and_says_so() -> Result<()> {
    let (mut guest, client) = rescue("no root")?;
    guest.wait_event("boot.idle", BOOT)?;
    let status = guest.status()?;
    ensure!(
        status.phase == lifeboot_contract::status::Phase::Rescue,
        "it is {:?}",
        status.phase
    );
    let said = client.run(&["rescue", "status"])?.success()?.text();
    ensure!(said.contains("in rescue"), "it says: {said}");
    guest.passed()
}

#[test]
fn exit_status_and_both_outputs_arrive_apart() -> Result<()> {
    let (guest, client) = rescue("exec")?;
    let outcome = client.run_with(&["cat; echo wrong >&2; exit 7"], b"right\n")?;
    ensure!(outcome.status == Some(7), "status {:?}", outcome.status);
    ensure!(outcome.text() == "right\n", "stdout {:?}", outcome.text());
    ensure!(outcome.errors() == "wrong\n", "stderr {:?}", outcome.errors());
    let killed = client.run(&["kill -9 $$"])?;
    ensure!(killed.status != Some(0), "a killed command ended well");
    guest.passed()
}

#[test]
fn authorized_keys_of_each_kind_log_in_and_a_stranger_does_not() -> Result<()> {
    let (mut guest, client) = rescue("keys")?;
    for name in keys::AUTHORIZED {
        let outcome = client.clone().identity(keys_dir().join(name)).run(&["true"])?;
        ensure!(outcome.status == Some(0), "{name}: {}", outcome.errors());
    }
    let outcome = client
        .clone()
        .identity(keys_dir().join(keys::STRANGER))
        .run(&["true"])?;
    ensure!(outcome.status == Some(255), "a stranger got in");
    guest.wait_event("ssh.refused", BOOT)?;
    let mut command = client.command(
        &[
            "-o",
            "PreferredAuthentications=password",
            "-o",
            "PubkeyAuthentication=no",
        ],
        &["true"],
    );
    let outcome = lifeboot_tests::process::run_with(&mut command, b"")?;
    ensure!(outcome.status == Some(255), "somebody got in without a key");
    guest.passed()
}

#[test]
fn scp_of_yesterday_moves_a_file_in_both_directions() -> Result<()> {
    let (guest, client) = rescue("scp -O")?;
    let disks = Disks::new("scp -O")?;
    let there = disks.dir().join("there");
    let back = disks.dir().join("back");
    std::fs::write(&there, noise(1024 * 1024)).context("noise")?;
    client.scp(&["-O"], &there.to_string_lossy(), "guest:/tmp/noise")?;
    client.scp(&["-O"], "guest:/tmp/noise", &back.to_string_lossy())?;
    same(&there, &back)?;
    guest.passed()
}

#[test]
fn fifty_megabytes_arrive_unchanged_by_scp_in_both_directions() -> Result<()> {
    let (guest, client) = rescue("scp")?;
    let disks = Disks::new("scp")?;
    let there = disks.dir().join("there");
    let back = disks.dir().join("back");
    std::fs::write(&there, noise(50 * 1024 * 1024)).context("noise")?;
    client.scp(&[], &there.to_string_lossy(), "guest:/tmp/noise")?;
    client.scp(&[], "guest:/tmp/noise", &back.to_string_lossy())?;
    same(&there, &back)?;
    guest.passed()
}

#[test]
fn fifty_megabytes_through_exec_arrive_unchanged() -> Result<()> {
    let (guest, client) = rescue("pipe")?;
    let bytes = noise(50 * 1024 * 1024);
    let outcome = client.run_with(&["cat"], &bytes)?;
    ensure!(outcome.status == Some(0), "{}", outcome.errors());
    ensure!(
        outcome.stdout == bytes,
        "{} of {} bytes came back, or others",
        outcome.stdout.len(),
        bytes.len()
    );
    guest.passed()
}

#[test]
fn sftp_lists_puts_and_gets() -> Result<()> {
    let (guest, client) = rescue("sftp")?;
    let disks = Disks::new("sftp")?;
    let there = disks.dir().join("there");
    let back = disks.dir().join("back");
    std::fs::write(&there, noise(300_000)).context("noise")?;
    let batch = format!(
        "mkdir /tmp/d\nput {} /tmp/d/file\nls -l /tmp/d\nget /tmp/d/file {}\n",
        there.display(),
        back.display()
    );
    let said = client.sftp(&batch)?;
    ensure!(said.contains("file"), "it says: {said}");
    same(&there, &back)?;
    guest.passed()
}

#[test]
fn a_terminal_has_job_control_a_size_and_signals() -> Result<()> {
    let (guest, client) = rescue("pty")?;
    let mut session = client.converse(&[])?;
    session.expect("~#", BOOT)?;
    session.send("tty; stty size\n")?;
    session.expect("/dev/pts/", BOOT)?;
    session.expect("43 132", BOOT)?;
    // The line is echoed too; only the shell makes one word of it.
    session.send("echo sleep''ing; sleep 1000\n")?;
    session.expect("sleeping", BOOT)?;
    session.send("\u{3}")?;
    session.send("echo in''terrupted $?\n")?;
    session.expect("interrupted 130", BOOT)?;
    session.send("sleep 1000 &\njobs; kill %1; echo jobs''-$?\n")?;
    session.expect("jobs-0", BOOT)?;
    session.send("exit 5\n")?;
    ensure!(
        session.end(BOOT)? == 5,
        "the shell's exit status was lost: {}",
        session.heard()
    );
    guest.passed()
}

#[test]
fn a_guest_with_256_megabytes_reaches_ssh_and_its_processes_take_less_than_20() -> Result<()> {
    let mut guest = pc("256 MB").memory_mb(256).boot()?;
    guest.wait_event("ssh.listening", BOOT)?;
    let client = guest.wait_ssh(Peer::Rescue, BOOT)?;
    let free = client
        .run(&["awk '/^MemAvailable/ { print $2 }' /proc/meminfo"])?
        .success()?
        .text();
    // What is not the executable itself, which lies in memory once, as a file. This session's shell does not count.
    let own = client
        .run(&["awk '/^Name:/ { own = $2 == \"init\" } /^RssAnon:/ && own { sum += $2 } END { print sum }' /proc/[0-9]*/status"])?
        .success()?
        .text();
    let own: u32 = own.trim().parse().with_context(|| own.clone())?;
    println!(
        "256 MB guest: {} kB available in rescue, {own} kB in its processes",
        free.trim()
    );
    ensure!(own > 0 && own < 20 << 10, "its processes take {own} kB");
    guest.passed()
}

#[test]
fn the_fingerprint_on_the_console_is_the_one_the_client_sees() -> Result<()> {
    let (mut guest, _) = rescue("fingerprint")?;
    let told = guest
        .wait_event("ssh.listening", BOOT)?
        .str("fingerprint")
        .to_owned();
    let known = guest.dir().join("known_hosts.rescue");
    let seen = lifeboot_tests::process::run("ssh-keygen", ["-l", "-f", &known.to_string_lossy()])?;
    ensure!(
        !told.is_empty() && seen.contains(&told),
        "told {told}, seen {seen}"
    );
    guest.wait_console(&told, BOOT)?;
    guest.passed()
}

/// That two files are the same.
pub fn same(a: &Path, b: &Path) -> Result<()> {
    let (a_bytes, b_bytes) = (
        std::fs::read(a).context("there")?,
        std::fs::read(b).context("back")?,
    );
    ensure!(
        a_bytes == b_bytes,
        "{} and {} differ ({} and {} bytes)",
        a.display(),
        b.display(),
        a_bytes.len(),
        b_bytes.len()
    );
    Ok(())
}

/// Bytes that show when some are lost, doubled or swapped.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
