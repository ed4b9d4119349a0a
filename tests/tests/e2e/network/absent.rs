//! Interfaces that the boot parameters ask for and that are not there, not yet, or without a carrier.

use crate::world::{BOOT, pc};
use anyhow::{Result, ensure};
use lifeboot_contract::status::Status;
use lifeboot_tests::deadline::Deadline;
use lifeboot_tests::guest::{Guest, Peer};

/// Not the one that QEMU's DHCP server gives.
const ADDRESS: &str = "10.0.2.77";

/// A guest whose only card is eth0, told to give an address to `interface`.
fn with_static_address_on(interface: &str) -> Result<Guest> {
    pc(&format!("static address on {interface}"))
        .word(format!(
            "ip={ADDRESS}::10.0.2.2:255.255.255.0:box:{interface}:none"
        ))
        .boot()
}

/// Logs in at the address that was given, and asks for the warnings.
fn warnings_at_the_address(guest: &Guest) -> Result<Vec<String>> {
    let client = guest.client_at(ADDRESS, 22, Peer::Rescue)?;
    Deadline::after(BOOT).wait_for(&format!("login to box at {ADDRESS}"), || {
        let outcome = client.run(&["cat /proc/sys/kernel/hostname"])?;
        Ok((outcome.status == Some(0) && outcome.text() == "box\n").then_some(()))
    })?;
    let told = client.run(&["rescue", "status", "--json"])?.success()?;
    let status: Status = serde_json::from_slice(&told.stdout)?;
    Ok(status.warnings)
}

#[test]
fn the_only_card_gets_the_address_of_a_name_that_is_not_there() -> Result<()> {
    let mut guest = with_static_address_on("end0")?;
    let set = guest.wait_event("network.static", BOOT)?;
    ensure!(set.str("interface") == "eth0", "{set:?}");
    let warnings = warnings_at_the_address(&guest)?;
    ensure!(
        warnings
            .iter()
            .any(|line| line.contains("ip= of end0 is applied to eth0 (52:54:00:12:34:56)")),
        "{warnings:?}"
    );
    guest.passed()
}

#[test]
fn a_name_that_is_there_is_used_at_once() -> Result<()> {
    let mut guest = with_static_address_on("eth0")?;
    guest.wait_event("network.static", BOOT)?;
    let warnings = warnings_at_the_address(&guest)?;
    ensure!(
        !guest.has_event("network.discover")? && !guest.has_event("network.absent")?,
        "it was not taken for meant"
    );
    ensure!(warnings.is_empty(), "{warnings:?}");
    guest.passed()
}

#[test]
#[ignore = "make test-all"]
fn a_card_that_is_plugged_in_late_is_configured_as_asked() -> Result<()> {
    let mut guest = pc("late card")
        .word("ip=10.0.9.15::10.0.9.2:255.255.255.0:late:eth1:none")
        .argument("-device")
        .argument("pcie-root-port,id=late0,chassis=1")
        .argument("-netdev")
        .argument("user,id=n1,net=10.0.9.0/24")
        .boot()?;
    guest.wait_event("network.absent", BOOT)?;
    let client = guest.wait_ssh(Peer::Rescue, BOOT)?;
    guest.plug_card("n1", "late0")?;
    // Until then eth0 has it, beside the lease that ssh comes by.
    let moved = guest.wait_event("network.moved", BOOT)?;
    ensure!(
        moved.str("interface") == "eth0" && moved.str("to") == "eth1",
        "{moved:?}"
    );
    let shown = client.run(&["ip -4 -o addr"])?.success()?.text();
    let has = |interface: &str, address: &str| {
        shown
            .lines()
            .any(|line| line.contains(interface) && line.contains(address))
    };
    ensure!(
        has("eth1", "10.0.9.15/24") && has("eth0", "10.0.2.15/24") && !has("eth0", "10.0.9.15"),
        "{shown}"
    );
    guest.passed()
}

#[test]
#[ignore = "make test-all"]
fn a_cable_in_the_other_port_is_asked_and_the_named_one_when_its_cable_comes() -> Result<()> {
    let mut guest = pc("cable in the other port")
        .word("ip=eth0:dhcp")
        .argument("-netdev")
        .argument("user,id=n1,net=10.0.9.0/24")
        .argument("-device")
        .argument("virtio-net-pci,netdev=n1,romfile=")
        .boot()?;
    guest.set_link(false)?;
    let lease = guest.wait_event("network.lease", BOOT)?;
    ensure!(
        lease.str("interface") == "eth1" && lease.str("address") == "10.0.9.15",
        "{lease:?}"
    );
    guest.set_link(true)?;
    guest.wait_ssh(Peer::Rescue, BOOT)?;
    let warnings = guest.status()?.warnings;
    ensure!(
        warnings
            .iter()
            .any(|line| line.contains("eth0 (52:54:00:12:34:56) has no carrier; DHCP is used on eth1")),
        "{warnings:?}"
    );
    guest.passed()
}
