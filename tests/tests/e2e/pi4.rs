//! A Raspberry Pi 4 as QEMU models it: Debian's kernel, unchanged, and its device tree without what the model lacks.
//!
//! The model has no Ethernet controller, no PCIe and no SD slot that works with this device tree; what it shows is the kernel on this
//! chip, USB, and everything from PID 1 on.

use crate::world::reached_pi;
use anyhow::{Context, Result, ensure};
use lifeboot_tests::artefacts::{BootFiles, test_image};
use lifeboot_tests::fixtures::disk::Disks;
use lifeboot_tests::guest::{Board, Guest};
use lifeboot_tests::process;
use std::path::Path;

/// Parts of the display that QEMU's model does not have: their drivers would wait for them.
const NOT_MODELLED: [&str; 14] = [
    "txp@7e004000",
    "hvs@7e400000",
    "pixelvalve@7e206000",
    "pixelvalve@7e207000",
    "pixelvalve@7e20a000",
    "pixelvalve@7e216000",
    "pixelvalve@7ec12000",
    "vec@7ec13000",
    "clock@7ef00000",
    "interrupt-controller@7ef00100",
    "hdmi@7ef00700",
    "hdmi@7ef05700",
    "i2c@7ef04500",
    "i2c@7ef09500",
];

/// The image's files, with a device tree of what there is in the model; its USB controller, the USB-C socket's, as a host.
fn files(dir: &Path) -> Result<BootFiles> {
    let files = test_image(Board::Pi4)?;
    let theirs = files.dtb.as_ref().context("no device tree")?;
    let ours = dir.join("pi4.dtb");
    std::fs::copy(theirs, &ours).with_context(|| theirs.display().to_string())?;
    let put = |node: &str, property: &str, value: &str| {
        let path = ours.to_string_lossy();
        process::run(
            "fdtput",
            ["-t", "s", &path, &format!("/soc/{node}"), property, value],
        )
    };
    put("usb@7e980000", "dr_mode", "host")?;
    for node in NOT_MODELLED {
        put(node, "status", "disabled")?;
    }
    Ok(BootFiles {
        dtb: Some(ours),
        ..files
    })
}

#[test]
fn a_pi_4_is_reached_by_ssh_over_usb_net_and_speaks_where_no_terminal_is() -> Result<()> {
    let work = Disks::new("pi4")?;
    let mut guest = Guest::on(Board::Pi4, "Pi 4")
        .files(files(work.dir())?)
        // As on the Pi 3: the model has no timer behind the watchdog, and starting it resets the machine.
        .word("lifeboot.watchdog=off")
        .boot()?;
    let (_, events) = reached_pi(&mut guest, "Raspberry Pi 4")?;
    // This serial port belongs to the Bluetooth chip: the kernel lists it as a console, but there is no terminal to be opened. What is
    // said comes out of it all the same, and nothing is started over and over.
    guest.wait_console("this machine stays in rescue", 30)?;
    ensure!(
        !events.contains("init.respawn"),
        "something did not stay up:\n{events}"
    );
    guest.passed()
}
