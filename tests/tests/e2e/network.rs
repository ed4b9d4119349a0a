//! Addresses.

use crate::world::{BOOT, pc};
use anyhow::{Result, ensure};
use lifeboot_tests::bad_cable::BadCable;
use lifeboot_tests::fault_server::FaultServer;
use lifeboot_tests::guest::{GuestBuilder, Peer};
use std::time::Duration;

/// Seconds for what takes one where nothing is lost.
const LOSSY: u64 = 300;

mod absent;
mod vlan;

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

/// Boots and fetches a file over a cable that loses so many of a hundred frames; how many it has lost.
fn over_a_cable_that_loses(percent: u64) -> Result<u64> {
    let cable = BadCable::new(percent, Duration::from_millis(40))?;
    let server = FaultServer::start()?;
    let file: Vec<u8> = (0..700_000_u32)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    server.serve_bytes("/file", file.clone());
    let builder = pc(&format!("{percent} percent lost"));
    let mut guest = builder.cabled_by(&cable).boot()?;
    guest.wait_event("network.lease", LOSSY)?;
    let client = guest.wait_ssh(Peer::Rescue, LOSSY)?;
    let fetch = format!("rescue fetch --no-verify -o /run/file {}", server.url("/file"));
    client.run(&[&fetch])?.success()?;
    ensure!(
        client.run(&["cat /run/file"])?.success()?.stdout == file,
        "a byte is wrong"
    );
    guest.passed()?;
    Ok(cable.lost())
}

#[test]
#[ignore = "make test-all"]
fn a_link_that_loses_one_frame_in_twenty_is_a_link() -> Result<()> {
    let lost = over_a_cable_that_loses(5)?;
    ensure!(lost > 30, "only {lost} frames were lost");
    ensure!(over_a_cable_that_loses(0)? == 0);
    Ok(())
}

/// A guest whose second card has a cable with nothing but VLAN 5 on it, and that is to use nothing else.
fn on_vlan(cable: &vlan::Cable, name: &str, interface: &str) -> GuestBuilder {
    let guest = pc(name).word(format!("ip={interface}:dhcp"));
    cable.arguments().into_iter().fold(guest, GuestBuilder::argument)
}

#[test]
#[ignore = "make test-all"]
fn a_vlan_gets_its_lease() -> Result<()> {
    let cable = vlan::Cable::new()?;
    let mut guest = on_vlan(&cable, "VLAN", "eth1.5")
        .word("vlan=eth1.5:eth1")
        .boot()?;
    let lease = guest.wait_event("network.lease", BOOT)?;
    ensure!(
        lease.str("interface") == "eth1.5" && lease.str("address").starts_with(vlan::ADDRESS),
        "{lease:?}"
    );
    ensure!(cable.untagged() == 0, "it asked without a tag, too");
    guest.passed()
}

#[test]
#[ignore = "make test-all"]
fn without_the_word_nobody_answers_on_a_cable_that_carries_a_vlan() -> Result<()> {
    let cable = vlan::Cable::new()?;
    let mut guest = on_vlan(&cable, "no VLAN", "eth1").boot()?;
    guest.wait_event("network.failed", BOOT)?;
    ensure!(!guest.has_event("network.lease")?, "somebody answered");
    ensure!(cable.untagged() > 0, "nothing was asked");
    guest.passed()
}
