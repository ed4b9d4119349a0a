//! Addresses.

use crate::world::{BOOT, pc};
use anyhow::{Result, ensure};
use lifeboot_tests::guest::Peer;

#[test]
#[ignore = "make test-all"]
fn a_static_address_needs_no_server() -> Result<()> {
    let mut guest = pc("static address")
        .word("ip=10.0.2.15::10.0.2.2:255.255.255.0:static:eth0:none:10.0.2.3")
        .boot()?;
    guest.wait_event("network.static", BOOT)?;
    let client = guest.wait_ssh(Peer::Rescue, BOOT)?;
    ensure!(!guest.has_event("network.discover")?, "it asked for a lease");
    let name = client
        .run(&["cat /proc/sys/kernel/hostname /etc/resolv.conf"])?
        .success()?
        .text();
    ensure!(
        name.starts_with("static\n") && name.contains("10.0.2.3"),
        "{name}"
    );
    guest.passed()
}

#[test]
#[ignore = "make test-all"]
fn the_first_of_two_interfaces_with_a_lease_wins() -> Result<()> {
    let mut guest = pc("two interfaces")
        .argument("-netdev")
        .argument("socket,id=dead,listen=127.0.0.1:0")
        .argument("-device")
        .argument("virtio-net-pci,netdev=dead,romfile=")
        .boot()?;
    let lease = guest.wait_event("network.lease", BOOT)?;
    ensure!(lease.str("address").starts_with("10.0.2.15"), "{lease:?}");
    guest.wait_ssh(Peer::Rescue, BOOT)?;
    guest.passed()
}

#[test]
#[ignore = "make test-all"]
fn a_cable_that_comes_late_gets_a_lease() -> Result<()> {
    let mut guest = pc("late cable").boot()?;
    guest.set_link(false)?;
    guest.wait_event("init.start", BOOT)?;
    guest.set_link(true)?;
    guest.wait_event("network.lease", BOOT)?;
    guest.wait_ssh(Peer::Rescue, BOOT)?;
    guest.passed()
}
