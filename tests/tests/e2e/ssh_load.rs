//! Much at a time against the ssh server of a guest: a scanner, many sessions, many files.

use crate::world::{BOOT, pc};
use anyhow::{Context, Result, ensure};
use lifeboot_tests::artefacts::keys_dir;
use lifeboot_tests::fixtures::disk::Disks;
use lifeboot_tests::fixtures::keys;
use lifeboot_tests::guest::{Client, Guest, Peer};
use lifeboot_tests::lan::{self, Lan};
use lifeboot_tests::load;
use lifeboot_tests::process::{self, Outcome};
use lifeboot_tests::scanner;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

/// Connections of the scan.
const SCAN: usize = 1000;
/// Memory that the server and what it has started may have in RAM, together, in kB.
const MOST_MEMORY: u64 = 30 << 10;
/// Where the scanned guest is.
const GUEST: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 50);
/// A network behind the test network's server, which has every address of it.
const BEHIND: &str = "10.99.0.0/16";
/// How soon a login has to work afterwards, in an emulator, beside what four take without a scan on the same machine.
const AT_ONCE: Duration = Duration::from_secs(8);

/// Of the process that PID 1 calls `rescue sshd` and its children: how many there are, their resident memory together, and the most that
/// the server itself ever had.
const MEMORY: &str = r#"
for dir in /proc/[0-9]*; do
    words=$(tr '\0' ' ' <$dir/cmdline 2>/dev/null)
    [ "$words" = "rescue sshd " ] && sshd=${dir#/proc/}
done
awk -v sshd="$sshd" '
    /^Pid:/ { id = $2 } /^PPid:/ { parent = $2 } /^VmHWM:/ && id == sshd { most = $2 }
    /^VmRSS:/ && (id == sshd || parent == sshd) { count++; sum += $2 }
    END { print count + 0, sum + 0, most + 0 }' /proc/[0-9]*/status 2>/dev/null
"#;

fn from(client: &Client, address: &str, words: &[&str]) -> Result<Outcome> {
    let bind = format!("BindAddress={address}");
    process::run_with(&mut client.command(&["-o", &bind], words), b"")
}

#[test]
fn a_thousand_connections_of_a_scanner_leave_a_small_guest_serving() -> Result<()> {
    let network = Lan::new()?;
    network
        .server()
        .ip(&["route", "add", "local", BEHIND, "dev", "lo"])?;
    let mut guest = pc("scanned")
        .memory_mb(256)
        .word(format!("ip={GUEST}::{}:255.255.255.0", lan::SERVER))
        .cabled_to(&network)?
        .boot()?;
    guest.wait_event("ssh.listening", BOOT)?;
    let client = guest
        .client(Peer::Rescue)
        .from(network.server(), &GUEST.to_string());
    let started = Instant::now();
    client.run(&["true"])?.success()?;
    let at_once = AT_ONCE + 4 * started.elapsed();
    let mut session = client.converse(&[])?;
    session.expect("~#", BOOT)?;
    let stranger = client.clone().identity(keys_dir().join(keys::STRANGER));
    let show_key = |number: usize| {
        let bind = format!("BindAddress=10.99.2.{number}");
        stranger.command(&["-o", &bind], &["true"])
    };
    let started = Instant::now();
    let scanned = network.server().inside(|| {
        let addresses = [1, 2, 3, 4, 5].map(|last| Ipv4Addr::new(10, 99, 1, last));
        let to = SocketAddr::from((GUEST, 22));
        scanner::scan(to, &addresses, SCAN, show_key, |_| Ok(()))
    })?;
    let scan = started.elapsed();
    let started = Instant::now();
    let login = from(&client, "10.99.3.1", &["echo in"])?.success()?;
    ensure!(login.text() == "in\n", "it says {}", login.text());
    let login = started.elapsed();
    ensure!(login < at_once, "a login took {login:?}");
    session.send("echo still''here\n")?;
    session.expect("stillhere", BOOT)?;
    let told = client.run_with(&["sh"], MEMORY.as_bytes())?.success()?.text();
    let numbers: Vec<u64> = told
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    let [processes, now, most] = numbers[..] else {
        anyhow::bail!("it says {told}")
    };
    println!(
        "{SCAN} connections in {scan:.1?}, {} of them wrong keys; a login {login:.1?} later; {processes} processes with {now} kB, sshd at most {most} kB",
        scanned.keys
    );
    // The server, the session, and the shell that counts.
    ensure!(processes == 3, "{processes} processes");
    ensure!(
        now < MOST_MEMORY && most < MOST_MEMORY,
        "{now} kB, at most {most} kB"
    );
    let refusals = guest
        .events()?
        .iter()
        .filter(|event| event.name == "ssh.refused" && event.str("peer").starts_with("10.99.2."))
        .count();
    ensure!(refusals >= 10, "{refusals} refused keys were told");
    drop(scanned);
    network.passed();
    guest.passed()
}

fn rescue(name: &str) -> Result<(Guest, Client, Disks)> {
    let mut guest = pc(name).boot()?;
    guest.wait_event("ssh.listening", BOOT)?;
    let client = guest.wait_ssh(Peer::Rescue, BOOT)?;
    Ok((guest, client, Disks::new(name)?))
}

#[test]
fn twenty_sessions_at_once_have_each_their_own_output_and_status() -> Result<()> {
    let (guest, client, dir) = rescue("twenty sessions")?;
    load::sessions_at_once(20, dir.dir(), BOOT, |line| client.command(&[], &[line]))?;
    guest.passed()
}

#[test]
#[ignore = "make test-all"]
fn ten_thousand_small_files_go_there_and_back_by_rsync() -> Result<()> {
    let (guest, client, dir) = rescue("rsync")?;
    let started = Instant::now();
    load::small_files_there_and_back(
        10_000,
        dir.dir(),
        &client.rsync_shell(),
        "root@127.0.0.1:/tmp/many",
    )?;
    println!("10,000 files there and back in {:.1?}", started.elapsed());
    let there = client.run(&["find /tmp/many -type f | wc -l"])?.success()?.text();
    let there: usize = there.trim().parse().context("find")?;
    ensure!(there == 10_000, "{there} files are there");
    guest.passed()
}
