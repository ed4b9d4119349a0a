//! What the owner decides about failures and about where the writable layer lives.

use crate::world::{
    BOOT, FULL_BOOT, OS, field_is_true, pc, pc_booting_from, tiny_server, wait_for_failure, wait_for_tiny,
};
use anyhow::{Result, bail, ensure};
use lifeboot_contract::event::Stage;
use lifeboot_contract::status::Phase;
use lifeboot_tests::fault_server::Fault;
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
    guest.wait_exit(BOOT)?;
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
    let mut guest = hopeless("deadline, session", 90, "reboot").boot()?;
    let client = guest.wait_ssh(Peer::Rescue, BOOT)?;
    // Past the deadline by the guest's own clock.
    let wait = "while [ $(cut -d. -f1 /proc/uptime) -lt 100 ]; do sleep 1; done";
    client.run(&[wait])?.success()?;
    guest.wait_event("boot.deadline", BOOT)?;
    guest.wait_exit(BOOT)?;
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
    guest.wait_exit(BOOT)?;
    guest.passed()
}

#[test]
fn roots_in_a_row_that_fail_are_told_each_with_its_reason_and_so_is_a_word_given_twice() -> Result<()> {
    let (server, os) = tiny_server()?;
    server.serve_file("/unsigned", &os.squashfs)?;
    // Without one nothing is fetched at all.
    server.serve_file("/missing.minisig", &os.signature)?;
    server.serve_file("/forbidden.minisig", &os.signature)?;
    let status = |code| Fault::Status { code, times: None };
    server.fault("/forbidden", status(403));
    let [missing, unsigned, forbidden] = ["/missing", "/unsigned", "/forbidden"].map(|path| server.url(path));
    let mut guest = pc("roots in a row")
        .word(format!("root={missing}"))
        .word(format!("root={unsigned}"))
        .word(format!("root={forbidden}"))
        .word(format!("root={missing}"))
        .word("lifeboot.retry=0")
        .word("lifeboot.ssh-port=2222 lifeboot.ssh-port=22")
        .word("lifeboot.hostname=same lifeboot.hostname=same")
        .boot()?;
    wait_for_failure(&mut guest, "fetch")?;
    for (event, root) in [
        ("fetch.failed", &missing),
        ("verify.failed", &unsigned),
        ("fetch.failed", &forbidden),
    ] {
        guest.wait_event_where(event, BOOT, |event| event.str("root") == root)?;
    }
    let client = guest.wait_ssh(Peer::Rescue, BOOT)?;
    let status = guest.status()?;
    let Phase::Failed { failure, .. } = &status.phase else {
        bail!("it is {:?}", status.phase);
    };
    let last = failure.to_string();
    ensure!(
        failure.stage == Stage::Fetch && last.contains(&missing) && last.contains("404"),
        "{last}"
    );
    let [first, second, third] = status.failures.as_slice() else {
        bail!("failed before: {:?}", status.failures);
    };
    for (failed, stage, root, code) in [
        (first, "fetch: ", &missing, "404"),
        (second, "verify: ", &unsigned, "404"),
        (third, "fetch: ", &forbidden, "403"),
    ] {
        ensure!(
            failed.starts_with(stage) && failed.contains(root) && failed.contains(code),
            "{failed}"
        );
    }
    // The one that is given twice and differs, not the one that is the same both times.
    let [warning] = status.warnings.as_slice() else {
        bail!("warnings: {:?}", status.warnings);
    };
    ensure!(
        ["lifeboot.ssh-port", "'2222'", "'22'"]
            .iter()
            .all(|part| warning.contains(part)),
        "{warning}"
    );
    let said = client.run(&["rescue", "status"])?.success()?.text();
    let told: Vec<_> = status.failures.iter().map(|what| said.find(what)).collect();
    ensure!(told.iter().all(Option::is_some) && told.is_sorted(), "{said}");
    ensure!(said.matches(&last).count() == 2, "{said}");
    ensure!(said.contains(warning), "{said}");
    let log = client.run(&["rescue", "log"])?.success()?.text();
    ensure!(log.contains(warning), "{log}");
    guest.passed()
}

#[test]
#[ignore = "make test-all"]
fn two_different_inits_are_refused_and_no_root_is_tried() -> Result<()> {
    let (server, _os) = tiny_server()?;
    let mut guest = pc_booting_from(&server, "two inits")
        .word("init=/sbin/init init=/bin/sh")
        .boot()?;
    wait_for_failure(&mut guest, "plan")?;
    ensure!(server.stats(OS).requests == 0, "the root was asked for");
    guest.wait_ssh(Peer::Rescue, BOOT)?;
    let status = guest.status()?;
    let Phase::Failed { failure, refused, .. } = &status.phase else {
        bail!("it is {:?}", status.phase);
    };
    let what = failure.to_string();
    ensure!(
        *refused && what.contains("init") && what.contains("'/bin/sh'"),
        "{what}"
    );
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
