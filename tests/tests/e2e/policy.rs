//! What the owner decides about failures and about where the writable layer lives.

use crate::world::{BOOT, FULL_BOOT, field_is_true, pc, pc_booting_from, tiny_server, wait_for_tiny};
use anyhow::{Result, ensure};
use lifeboot_tests::fixtures::disk::{Damage, Disks};
use lifeboot_tests::guest::{Disk, GuestBuilder, Peer};

/// A guest that has something to boot and never gets it.
fn hopeless(name: &str, seconds: u32, on_failure: &str) -> GuestBuilder {
    pc(name)
        // Nobody listens on this port of the host.
        .word("root=http://10.0.2.2:9/os.squashfs")
        .word(format!("lifeboot.deadline={seconds}"))
        .word(format!("lifeboot.on-failure={on_failure}"))
}

#[test]
#[ignore = "make test-all"]
fn a_deadline_that_passes_restarts_a_machine_that_is_told_to() -> Result<()> {
    let mut guest = hopeless("deadline, reboot", 12, "reboot").boot()?;
    let passed = guest.wait_event("boot.deadline", BOOT)?;
    ensure!(
        passed.u64("seconds") == Some(12) && passed.ms >= 12_000,
        "{passed:?}"
    );
    // QEMU ends where a machine would start over.
    guest.wait_exit(60)?;
    guest.passed()
}

#[test]
#[ignore = "make test-all"]
fn a_deadline_that_passes_leaves_a_machine_in_rescue_by_default() -> Result<()> {
    let mut guest = hopeless("deadline, rescue", 12, "rescue").boot()?;
    guest.wait_event("boot.deadline", BOOT)?;
    let client = guest.wait_ssh(Peer::Rescue, BOOT)?;
    client.run(&["sleep", "5"])?.success()?;
    guest.passed()
}

#[test]
#[ignore = "make test-all"]
fn a_session_holds_the_deadline_off_until_it_ends() -> Result<()> {
    let mut guest = hopeless("deadline, session", 25, "reboot").boot()?;
    let client = guest.wait_ssh(Peer::Rescue, BOOT)?;
    // Past the deadline by the guest's own clock.
    let wait = "while [ $(cut -d. -f1 /proc/uptime) -lt 35 ]; do sleep 1; done";
    client.run(&[wait])?.success()?;
    guest.wait_event("boot.deadline", 60)?;
    guest.wait_exit(60)?;
    guest.passed()
}

#[test]
#[ignore = "make test-all"]
fn a_machine_whose_tries_are_used_up_restarts_when_told_to() -> Result<()> {
    let mut guest = pc("no more tries")
        .word("root=LABEL=nowhere")
        .word("lifeboot.retry=0")
        .word("lifeboot.on-failure=reboot")
        .boot()?;
    let failed = guest.wait_event("boot.failed", FULL_BOOT)?;
    ensure!(failed.u64("next_try_ms").is_none(), "{failed:?}");
    guest.wait_exit(60)?;
    guest.passed()
}

/// Boots the tiny OS with that disk; what is on it afterwards.
fn left_behind(name: &str, disks: &Disks, word: Option<&str>) -> Result<String> {
    let (server, _os) = tiny_server()?;
    let path = disks.ext4(&format!("{name}.img"), "writable", Damage::None)?;
    let guest = pc_booting_from(&server, name).disk(Disk::raw(&path));
    let mut guest = match word {
        Some(word) => guest.word(word),
        None => guest,
    }
    .boot()?;
    let up = wait_for_tiny(&mut guest)?;
    ensure!(field_is_true(&up, "writable"), "{up:?}");
    // ext4 writes its journal every five seconds; the power is cut well after that.
    std::thread::sleep(std::time::Duration::from_secs(20));
    guest.cut_power()?;
    guest.passed()?;
    let mut guest = pc(&format!("{name}, afterwards")).disk(Disk::raw(&path)).boot()?;
    guest.wait_event("ssh.listening", BOOT)?;
    let client = guest.wait_ssh(Peer::Rescue, BOOT)?;
    let list = "mkdir -p /mnt && mount /dev/vda /mnt && cd /mnt && ls -d * */*; cd /; umount /mnt";
    let text = client.run(&[list])?.success()?.text();
    guest.passed()?;
    Ok(text)
}

#[test]
#[ignore = "make test-all"]
fn what_an_os_writes_outlives_it_on_an_overlay_device_and_only_there() -> Result<()> {
    let disks = Disks::new("overlay-device")?;
    let kept = left_behind(
        "overlay on a disk",
        &disks,
        Some("lifeboot.overlay=LABEL=writable"),
    )?;
    ensure!(kept.lines().any(|line| line == "upper/written"), "{kept}");
    ensure!(kept.contains("letters"), "what was there has gone: {kept}");
    let nothing = left_behind("overlay in memory", &disks, None)?;
    ensure!(!nothing.contains("upper"), "{nothing}");
    ensure!(nothing.contains("letters"), "{nothing}");
    Ok(())
}
