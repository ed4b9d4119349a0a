//! Bad links and bad servers.

use crate::world::{
    BOOT, FULL_BOOT, OS, SIGNATURE, pc_booting_from, tiny_server, wait_for_failure, wait_for_tiny,
};
use anyhow::{Context, Result, ensure};
use lifeboot_contract::event::Stage;
use lifeboot_contract::status::Phase;
use lifeboot_tests::artefacts::tiny_os;
use lifeboot_tests::fault_server::{Fault, FaultServer};
use lifeboot_tests::fixtures::keys;
use lifeboot_tests::guest::{Board, Peer};
use std::time::Duration;

const MIB: u64 = 1024 * 1024;

/// What the server sent until the tiny OS was up, whole.
struct Sent {
    bytes: u64,
    /// The image's length.
    length: u64,
    ranges: usize,
    started_over: bool,
}

/// Boots from a server with these faults to the end.
fn boots_despite(name: &str, faults: Vec<Fault>) -> Result<Sent> {
    let (server, os) = tiny_server()?;
    for fault in faults {
        server.fault(OS, fault);
    }
    let mut guest = pc_booting_from(&server, name).boot()?;
    wait_for_tiny(&mut guest)?;
    let started_over = guest.has_event("fetch.restart")?;
    guest.passed()?;
    let stats = server.stats(OS);
    Ok(Sent {
        bytes: stats.body_bytes,
        length: std::fs::metadata(&os.squashfs)?.len(),
        ranges: stats.ranges.len(),
        started_over,
    })
}

fn cut(times: u32) -> Fault {
    Fault::CutAfter {
        bytes: 5 * MIB,
        times,
    }
}

#[test]
fn a_whole_file_is_fetched_once_and_boots() -> Result<()> {
    let Sent { bytes, length, .. } = boots_despite("whole file", vec![])?;
    ensure!(bytes == length, "{bytes} of {length} bytes sent");
    Ok(())
}

#[test]
fn a_connection_cut_three_times_is_resumed_and_boots() -> Result<()> {
    let sent = boots_despite("cut three times", vec![cut(3)])?;
    ensure!(
        sent.bytes * 10 < sent.length * 11,
        "{} bytes sent for {}",
        sent.bytes,
        sent.length
    );
    ensure!(sent.ranges >= 3, "asked for {} ranges", sent.ranges);
    Ok(())
}

#[test]
fn a_cut_connection_to_a_server_without_ranges_starts_over_and_boots() -> Result<()> {
    let sent = boots_despite("no ranges", vec![Fault::NoRange, cut(1)])?;
    ensure!(
        sent.bytes >= sent.length + 5 * MIB,
        "only {} bytes sent",
        sent.bytes
    );
    Ok(())
}

#[test]
fn a_cut_connection_to_a_server_with_ranges_goes_on_and_boots() -> Result<()> {
    let sent = boots_despite("ranges", vec![cut(1)])?;
    ensure!(sent.bytes < sent.length + MIB, "{} bytes sent", sent.bytes);
    Ok(())
}

#[test]
#[ignore = "make test-all"]
fn a_file_that_changes_on_the_server_is_not_pieced_together() -> Result<()> {
    let sent = boots_despite("changing etag", vec![Fault::ChangingEtag, cut(1)])?;
    ensure!(sent.started_over, "no fetch.restart");
    Ok(())
}

#[test]
fn a_server_that_is_away_leaves_a_rescue_by_ssh_and_is_used_when_it_appears() -> Result<()> {
    let mut server = FaultServer::away()?;
    crate::world::serve(&server, &tiny_os(Board::PcX86_64)?)?;
    let mut guest = pc_booting_from(&server, "server away").boot()?;
    let failed = wait_for_failure(&mut guest, "fetch")?;
    ensure!(failed.u64("next_try_ms").is_some(), "no further try is planned");
    guest.wait_ssh(Peer::Rescue, BOOT)?;
    match guest.status()?.phase {
        Phase::Failed { failure, .. } => ensure!(failure.stage == Stage::Fetch, "{failure}"),
        Phase::Booting { .. } => {}
        other => anyhow::bail!("it is {other:?}"),
    }
    server.appear()?;
    wait_for_tiny(&mut guest)?;
    guest.passed()
}

/// A server of the tiny OS over https, its certificate signed by `authority`.
fn https_server(authority: &str) -> Result<FaultServer> {
    let server = FaultServer::start_https(&keys::tls(authority)?)?;
    crate::world::serve(&server, &tiny_os(Board::PcX86_64)?)?;
    Ok(server)
}

#[test]
fn an_image_over_https_boots_when_its_authority_is_in_the_image() -> Result<()> {
    let server = https_server(keys::KNOWN_AUTHORITY)?;
    let mut guest = pc_booting_from(&server, "https").boot()?;
    wait_for_tiny(&mut guest)?;
    let length = std::fs::metadata(tiny_os(Board::PcX86_64)?.squashfs)?.len();
    ensure!(
        server.stats(OS).body_bytes == length,
        "{} of {length} bytes sent",
        server.stats(OS).body_bytes
    );
    guest.passed()
}

#[test]
#[ignore = "make test-all"]
fn an_https_server_of_an_unknown_authority_is_refused() -> Result<()> {
    let server = https_server(keys::UNKNOWN_AUTHORITY)?;
    let mut guest = pc_booting_from(&server, "https of an unknown authority").boot()?;
    wait_for_failure(&mut guest, "fetch")?;
    // It was there and answered, or there would have been retries; and it was not told what is wanted.
    ensure!(!guest.has_event("fetch.retry")?, "it was asked again");
    for path in [OS, SIGNATURE] {
        ensure!(server.stats(path).requests == 0, "{path} was asked for");
    }
    guest.wait_ssh(Peer::Rescue, BOOT)?;
    match guest.status()?.phase {
        Phase::Failed { failure, .. } => ensure!(failure.stage == Stage::Fetch, "{failure}"),
        // The pause is over and it tries once more.
        Phase::Booting { .. } => {}
        other => anyhow::bail!("it is {other:?}"),
    }
    guest.passed()
}

#[test]
fn a_file_that_is_not_there_is_named_and_tried_again() -> Result<()> {
    let (server, _) = tiny_server()?;
    server.fault(
        OS,
        Fault::Status {
            code: 404,
            times: None,
        },
    );
    let mut guest = pc_booting_from(&server, "not found").boot()?;
    let failed = wait_for_failure(&mut guest, "fetch")?;
    let told = format!("{} {}", failed.str("what"), failed.str("cause"));
    ensure!(told.contains("404"), "it says: {told}");
    server.heal(OS);
    wait_for_tiny(&mut guest)?;
    guest.passed()
}

#[test]
#[ignore = "make test-all"]
fn a_busy_server_is_asked_again() -> Result<()> {
    let busy = Fault::Status {
        code: 503,
        times: Some(2),
    };
    boots_despite("busy server", vec![busy]).map(drop)
}

#[test]
#[ignore = "make test-all"]
fn a_redirect_is_followed() -> Result<()> {
    let (server, os) = tiny_server()?;
    server.fault("/elsewhere", Fault::Redirect(OS.to_owned()));
    server.serve_file("/elsewhere.minisig", &os.signature)?;
    let root = format!("root={}", server.url("/elsewhere"));
    let mut guest = crate::world::pc("redirect").word(root).boot()?;
    wait_for_tiny(&mut guest)?;
    guest.passed()
}

#[test]
#[ignore = "make test-all"]
fn a_redirect_to_itself_ends_in_rescue() -> Result<()> {
    let (server, _) = tiny_server()?;
    server.fault(OS, Fault::Redirect(OS.to_owned()));
    let mut guest = pc_booting_from(&server, "redirect loop").boot()?;
    wait_for_failure(&mut guest, "fetch")?;
    ensure!(
        server.stats(OS).requests < 100,
        "asked {} times",
        server.stats(OS).requests
    );
    guest.passed()
}

#[test]
#[ignore = "make test-all"]
fn a_server_that_falls_silent_is_left_and_the_rest_is_fetched() -> Result<()> {
    let silent = Fault::StallAfter {
        bytes: 5 * MIB,
        times: 1,
    };
    let sent = boots_despite("silence", vec![silent])?;
    ensure!(sent.bytes * 10 < sent.length * 11, "{} bytes sent", sent.bytes);
    Ok(())
}

#[test]
#[ignore = "make test-all"]
fn while_a_fetch_stalls_the_status_names_the_server_and_how_long_it_has_been_silent() -> Result<()> {
    let (server, _) = tiny_server()?;
    // What follows the first silence is a longer one.
    for (bytes, times) in [(5 * MIB, 1), (0, u32::MAX)] {
        server.fault(OS, Fault::StallAfter { bytes, times });
    }
    let mut guest = pc_booting_from(&server, "stalling").boot()?;
    let retry = guest.wait_event("fetch.retry", FULL_BOOT)?;
    let client = guest.client(Peer::Rescue);
    client.run(&["sleep", "5"])?.success()?;
    let status = guest.status()?;
    let fetching = Phase::Booting { stage: Stage::Fetch };
    ensure!(status.phase == fetching, "it is {:?}", status.phase);
    let doing = status.doing.context("nothing is being done")?;
    let url = server.url(OS);
    ensure!(
        doing.stage == Stage::Fetch && doing.what.contains(&url) && doing.what.contains("no byte for"),
        "{doing:?}"
    );
    ensure!(doing.since_ms == retry.ms, "{doing:?}, but {retry:?}");
    let said = client.run(&["rescue", "status"])?.success()?.text();
    ensure!(
        ["no byte for", " s ago). ", url.as_str()]
            .iter()
            .all(|part| said.contains(part)),
        "{said}"
    );
    server.heal(OS);
    wait_for_tiny(&mut guest)?;
    guest.passed()
}

#[test]
#[ignore = "make test-all"]
fn a_link_that_goes_down_for_a_while_only_delays_the_boot() -> Result<()> {
    let (server, _) = tiny_server()?;
    server.fault(
        OS,
        Fault::Drip {
            bytes: 64 * 1024,
            pause: Duration::from_millis(20),
        },
    );
    let mut guest = pc_booting_from(&server, "link down").boot()?;
    guest.wait_event("fetch.start", FULL_BOOT)?;
    guest.set_link(false)?;
    guest.wait_event("fetch.retry", FULL_BOOT)?;
    server.heal(OS);
    guest.set_link(true)?;
    wait_for_tiny(&mut guest)?;
    guest.passed()
}

#[test]
fn an_image_that_does_not_fit_is_refused_with_three_numbers_before_it_is_fetched() -> Result<()> {
    let (server, os) = tiny_server()?;
    let disks = lifeboot_tests::fixtures::disk::Disks::new("too-large")?;
    // Only its length counts.
    let large = disks.blank("large.squashfs", 400)?;
    server.serve_file(OS, &large)?;
    server.serve_file(SIGNATURE, &os.signature)?;
    server.fault(
        OS,
        Fault::Drip {
            bytes: 4096,
            pause: Duration::from_millis(100),
        },
    );
    // The signature of another file would be refused for its length alone.
    let mut guest = pc_booting_from(&server, "too little memory")
        .word("lifeboot.verify=off")
        .boot()?;
    let failed = wait_for_failure(&mut guest, "fetch")?;
    let numbers = failed
        .str("what")
        .split(|c: char| !c.is_ascii_digit())
        .filter(|part| part.len() > 1)
        .count();
    ensure!(numbers >= 3, "it says: {}", failed.str("what"));
    ensure!(
        server.stats(OS).body_bytes < MIB,
        "{} bytes were fetched",
        server.stats(OS).body_bytes
    );
    guest.passed()
}

#[test]
fn an_image_of_a_few_bytes_is_not_a_file_system_and_goes_to_rescue() -> Result<()> {
    let (server, _) = tiny_server()?;
    server.serve_bytes(OS, b"<html>log in to our wireless network</html>".to_vec());
    let mut guest = pc_booting_from(&server, "captive portal").boot()?;
    guest.wait_event("boot.failed", FULL_BOOT)?;
    ensure!(!guest.has_event("handover.start")?, "it was started");
    guest.wait_ssh(Peer::Rescue, BOOT)?;
    guest.passed()
}
