//! `rescue reboot --to`: UEFI firmware is told where to start from, and other machines say that they cannot be.

use super::in_rescue;
use crate::serving::document;
use crate::serving::firmware::{client, reached};
use crate::world::{BOOT, pc};
use anyhow::{Context, Result, ensure};
use lifeboot_tests::artefacts::uki;
use lifeboot_tests::guest::{Board, Firmware, Peer};
use lifeboot_tests::lan::Lan;
use std::fs;

#[test]
fn a_machine_whose_firmware_cannot_be_told_is_not_restarted() -> Result<()> {
    let (mut guest, client) = in_rescue(pc("reboot --to, BIOS"))?;
    let refused = client.run(&["rescue", "reboot", "--to", "network"])?;
    ensure!(refused.status == Some(1), "{refused:?}");
    ensure!(refused.errors().contains("neither UEFI"), "{}", refused.errors());
    ensure!(
        client.run(&["rescue", "reboot", "--to", "moon"])?.status == Some(2),
        "no such target"
    );
    // Longer than PID 1 would take to restart.
    client.run(&["sleep", "2"])?.success()?;
    // What is not asked for by name is done: with a word for the firmware, which here nobody reads.
    // The restart may be quicker than the last word of this session.
    drop(client.run(&["rescue", "reboot", "--argument", "'0 tryboot'"])?);
    guest.wait_exit(BOOT)?;
    guest.passed()
}

/// Whether the variables that the firmware keeps have one of this name; its names are UTF-16.
fn has_variable(store: &[u8], name: &str) -> bool {
    let name: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
    store.windows(name.len()).any(|window| window == name)
}

#[test]
#[ignore = "make test-all"]
fn uefi_firmware_is_told_to_start_from_the_network_once_more() -> Result<()> {
    let network = Lan::new()?;
    network.put_file("tftp/lifeboot-x86_64.efi", &uki(Board::PcX86_64)?)?;
    network.dnsmasq(&document::block("conf", "lifeboot-lan.conf")?)?;
    let mut guest = client(Board::PcX86_64, &network, Firmware::Uefi)?.boot()?;
    reached(&mut guest, &network)?;
    let up = guest.wait_event("network.lease", BOOT)?;
    let address = up.str("address").split('/').next().unwrap_or_default().to_owned();
    let ssh = guest.client(Peer::Rescue).from(network.server(), &address);
    let would = ssh
        .run(&["rescue", "reboot", "--to", "network", "--dry-run"])?
        .success()?
        .text();
    ensure!(
        would.contains("Boot00") && would.contains("Nothing was changed"),
        "{would}"
    );
    let again = ssh
        .run(&["rescue", "reboot", "--to", "rescue", "--dry-run"])?
        .success()?
        .text();
    ensure!(again.lines().next() == would.lines().next(), "{again}{would}");
    let nowhere = ssh.run(&["rescue", "reboot", "--to", "nvme"])?;
    ensure!(
        nowhere.status == Some(1) && nowhere.errors().contains("no boot entry"),
        "{nowhere:?}"
    );
    let store = guest.dir().join("variables.fd");
    let before = fs::read(&store).context("variables.fd")?;
    ensure!(!has_variable(&before, "BootNext"), "it was set before");
    drop(ssh.run(&["rescue", "reboot", "--to", "network"])?);
    guest.wait_exit(BOOT)?;
    let after = fs::read(&store).context("variables.fd")?;
    ensure!(
        has_variable(&after, "BootNext"),
        "BootNext is not among the firmware's variables"
    );
    network.passed();
    guest.passed()
}
