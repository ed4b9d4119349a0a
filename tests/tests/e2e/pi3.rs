//! A Raspberry Pi 3 as QEMU models it: Debian's kernel and device tree, unchanged.

use crate::world::reached_pi;
use anyhow::{Result, ensure};
use lifeboot_tests::fixtures::disk::{Damage, Disks};
use lifeboot_tests::guest::{Board, Disk, Guest};

#[test]
fn a_pi_3_is_reached_by_ssh_over_usb_net() -> Result<()> {
    let disks = Disks::new("pi3")?;
    let path = disks.ext4("card.img", "card", Damage::None)?;
    // QEMU wants the size of a card to be a power of two.
    std::fs::OpenOptions::new()
        .write(true)
        .open(&path)?
        .set_len(64 << 20)?;
    // QEMU resets this board the moment its watchdog is started (hw/misc/bcm2835_powermgt.c); the watchdog is tested on the pc.
    let mut guest = Guest::on(Board::Pi3, "Pi 3")
        .disk(Disk::raw(path))
        .word("lifeboot.watchdog=off")
        .boot()?;
    let (client, _) = reached_pi(&mut guest, "Raspberry Pi 3")?;
    let disks = client.run(&["rescue", "disks"])?.success()?.text();
    ensure!(disks.contains("mmcblk0") && disks.contains("card"), "{disks}");
    // What of the firmware this kernel and this model show; what they do not is said, and costs nothing else.
    let report = client.run(&["rescue", "report", "--json"])?.success()?.text();
    let report: serde_json::Value = serde_json::from_str(&report)?;
    let model = report.to_string().contains("Raspberry Pi 3");
    ensure!(model, "no model in {report}");
    let to_nvme = client.run(&["rescue", "reboot", "--to", "nvme", "--dry-run"])?;
    ensure!(to_nvme.status == Some(1), "{to_nvme:?}");
    let shown = client.run(&["rescue", "eeprom", "show"])?.success()?.text();
    ensure!(
        shown.contains("Raspberry Pi 3") && shown.contains("not known"),
        "{shown}"
    );
    guest.passed()
}
