//! Interfaces that the boot parameters ask for and that are not there, or not yet.

use crate::world::{BOOT, pc};
use anyhow::{Result, ensure};
use lifeboot_tests::guest::{Guest, Peer};

/// A guest whose only card is eth0, told to give this address to `interface`.
fn with_static_address_on(interface: &str) -> Result<Guest> {
    pc(&format!("static address on {interface}"))
        .word(format!(
            "ip=10.0.2.15::10.0.2.2:255.255.255.0:box:{interface}:none"
        ))
        .boot()
}

#[test]
fn a_name_that_is_not_there_does_not_cost_the_machine() -> Result<()> {
    let mut guest = with_static_address_on("eht0")?;
    let lease = guest.wait_event("network.lease", BOOT)?;
    ensure!(lease.str("interface") == "eth0", "{lease:?}");
    guest.wait_ssh(Peer::Rescue, BOOT)?;
    let warnings = guest.status()?.warnings;
    ensure!(
        warnings
            .iter()
            .any(|line| line.contains("eht0") && line.contains("eth0 (52:54:00:12:34:56)")),
        "{warnings:?}"
    );
    guest.passed()
}

#[test]
fn a_name_that_is_there_is_used_at_once() -> Result<()> {
    let mut guest = with_static_address_on("eth0")?;
    guest.wait_event("network.static", BOOT)?;
    guest.wait_ssh(Peer::Rescue, BOOT)?;
    ensure!(
        !guest.has_event("network.discover")? && !guest.has_event("network.absent")?,
        "it was not taken for meant"
    );
    let warnings = guest.status()?.warnings;
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
    let set = guest.wait_event("network.static", BOOT)?;
    ensure!(
        set.str("interface") == "eth1" && set.str("address") == "10.0.9.15",
        "{set:?}"
    );
    let shown = client.run(&["ip -4 addr"])?.success()?.text();
    ensure!(
        shown.contains("inet 10.0.9.15/24") && shown.contains("inet 10.0.2.15/24"),
        "{shown}"
    );
    guest.passed()
}
