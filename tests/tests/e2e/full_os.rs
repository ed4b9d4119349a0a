//! The real thing: a Debian under systemd, from RAM.

use crate::world::{BOOT, FULL_BOOT, OS, serve};
use anyhow::{Result, ensure};
use lifeboot_tests::artefacts::debian_os;
use lifeboot_tests::deadline::Deadline;
use lifeboot_tests::fault_server::FaultServer;
use lifeboot_tests::guest::{Board, Client, Guest, Peer};

/// Waits for systemd's multi-user target and checks what a person would look at first.
pub fn wait_for_multi_user(guest: &mut Guest, file_system: &str) -> Result<Client> {
    let client = guest.wait_ssh(Peer::FullOs, 2 * FULL_BOOT)?;
    Deadline::after(FULL_BOOT).wait_for("multi-user.target", || {
        let state = client
            .run(&["systemctl", "is-active", "multi-user.target"])?
            .text();
        Ok((state.trim() == "active").then_some(()))
    })?;
    let root = client
        .run(&["findmnt", "-n", "-o", "FSTYPE", "/"])?
        .success()?
        .text();
    ensure!(root.trim() == file_system, "root is {root}");
    client
        .run(&["test -e /lib/modules/$(uname -r)/modules.dep"])?
        .success()?;
    client.run(&["touch /root/written"])?.success()?;
    let failed = client
        .run(&["systemctl", "--failed", "--plain", "--no-legend"])?
        .text();
    ensure!(failed.trim().is_empty(), "failed units: {failed}");
    Ok(client)
}

fn boots_to_multi_user(board: Board) -> Result<()> {
    let server = FaultServer::start()?;
    serve(&server, &debian_os(board)?)?;
    let mut guest = Guest::on(board, "Debian from RAM")
        .memory_mb(1024)
        .word(format!("root={}", server.url(OS)))
        .boot()?;
    guest.wait_event("verify.done", FULL_BOOT)?;
    guest.wait_event("handover.start", FULL_BOOT)?;
    let client = wait_for_multi_user(&mut guest, "overlay")?;
    if board == Board::PcX86_64 {
        has_the_watchdog(&client)?;
    }
    let mounts = client.run(&["cat", "/proc/mounts"])?.success()?.text();
    ensure!(mounts.contains("squashfs"), "no squashfs in {mounts}");
    // What held the rescue system must have been freed: its programs are in no process any more.
    let left = client
        .run(&["ls -l /proc/[0-9]*/exe 2>/dev/null | grep -c -E 'rescue|/init$' || true"])?
        .text();
    ensure!(
        left.trim() == "0",
        "{} processes of the rescue system are left",
        left.trim()
    );
    guest.passed()
}

#[test]
fn an_arm_guest_boots_a_debian_to_multi_user() -> Result<()> {
    boots_to_multi_user(Board::VirtArm64)
}

#[test]
fn a_pc_boots_a_debian_to_multi_user() -> Result<()> {
    boots_to_multi_user(Board::PcX86_64)
}

/// The hardware's timer keeps running through the handover, and systemd takes it over.
fn has_the_watchdog(client: &Client) -> Result<()> {
    let words = ["systemctl", "show", "--value", "-p", "RuntimeWatchdogUSec"];
    let timeout = client.run(&words)?.success()?.text();
    ensure!(timeout.trim() == "15s", "systemd's watchdog is set to {timeout}");
    let state = client
        .run(&["cat", "/sys/class/watchdog/watchdog0/state"])?
        .success()?
        .text();
    ensure!(state.trim() == "active", "the watchdog is {state}");
    Ok(())
}

#[test]
fn a_session_holds_the_handover_until_it_ends() -> Result<()> {
    let (server, _) = crate::world::tiny_server()?;
    server.fault(
        OS,
        lifeboot_tests::fault_server::Fault::Status {
            code: 503,
            times: None,
        },
    );
    let mut guest = crate::world::pc_booting_from(&server, "held").boot()?;
    guest.wait_event("ssh.listening", BOOT)?;
    let client = guest.wait_ssh(Peer::Rescue, BOOT)?;
    let mut session = client.converse(&[])?;
    session.send("echo here''-$?\n")?;
    session.expect("here-0", 30)?;
    server.heal(OS);
    guest.wait_event("boot.held", FULL_BOOT)?;
    ensure!(!guest.has_event("handover.start")?, "the session was cut off");
    session.send("exit\n")?;
    crate::world::wait_for_tiny(&mut guest)?;
    guest.passed()
}

#[test]
#[ignore = "make test-all"]
fn rescue_boot_ends_a_hold() -> Result<()> {
    let (server, _) = crate::world::tiny_server()?;
    let mut guest = crate::world::pc_booting_from(&server, "held always")
        .word("lifeboot.hold=always")
        .boot()?;
    guest.wait_event("boot.held", FULL_BOOT)?;
    let client = guest.wait_ssh(Peer::Rescue, BOOT)?;
    let status = client.run(&["rescue", "status"])?.success()?.text();
    let waits = "not started before 'rescue boot' is typed";
    ensure!(status.contains(waits), "{status}");
    client.run(&["rescue", "boot"])?;
    crate::world::wait_for_tiny(&mut guest)?;
    guest.passed()
}
