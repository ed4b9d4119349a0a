//! The shell people find themselves in: it says where they are, completes what they type, and remembers it.

use crate::world::{BOOT, pc};
use anyhow::{Result, ensure};
use lifeboot_tests::deadline::Deadline;
use lifeboot_tests::fixtures::disk::{Damage, Disks};
use lifeboot_tests::guest::{Conversation, Disk, Guest, Peer};

/// A shell on a terminal of a guest with one disk.
fn shell(name: &str, disks: &Disks) -> Result<(Guest, Conversation)> {
    let disk = disks.ext4("data.img", "data", Damage::None)?;
    let mut guest = pc(name).disk(Disk::raw(disk)).boot()?;
    guest.wait_event("ssh.listening", BOOT)?;
    guest.wait_event("boot.idle", BOOT)?;
    let client = guest.wait_ssh(Peer::Rescue, BOOT)?;
    let session = client.converse(&[])?;
    Ok((guest, session))
}

#[test]
fn tab_completes_commands_options_and_devices() -> Result<()> {
    let disks = Disks::new("tab")?;
    let (guest, mut session) = shell("tab", &disks)?;
    session.expect(":~#", BOOT)?;
    for (typed, becomes) in [
        ("rescue dis\t", "rescue disks "),
        ("rescue fsck --rep\t", "rescue fsck --repair "),
        ("rescue fsck /dev/v\t", "rescue fsck /dev/vda "),
        ("rescue fsck vd\t", "rescue fsck vda "),
        ("rescue help unl\t", "rescue help unlock "),
    ] {
        session.send(typed)?;
        session.expect(becomes, BOOT)?;
        // Ctrl-C: a new line.
        session.send("\u{3}")?;
        session.expect(":~#", BOOT)?;
    }
    guest.passed()
}

#[test]
fn the_prompt_says_how_the_boot_stands_and_the_arrow_brings_back_what_was_typed() -> Result<()> {
    let disks = Disks::new("prompt")?;
    let (mut guest, mut session) = shell("prompt", &disks)?;
    // The locale is there, all of it: otherwise every shell complains.
    let quiet = guest.wait_ssh(Peer::Rescue, BOOT)?.run(&["bash -c true"])?;
    ensure!(quiet.errors().is_empty(), "{}", quiet.errors());
    // A PID 1 that does not answer at once is a question mark there: the next prompt asks again.
    Deadline::after(BOOT).wait_for("(rescue)", || {
        let seen = session.expect("(rescue)", 10);
        if seen.is_err() {
            session.send("\n")?;
        }
        Ok(seen.ok())
    })?;
    session.expect(":~#", BOOT)?;
    session.send("echo one''two\n")?;
    session.expect("onetwo", BOOT)?;
    session.send("\u{1b}[A\n")?;
    session.expect("onetwo", BOOT)?;
    // Backspace takes a letter, not a byte; before the prompt the kernel would take it, which knows only what the client's terminal says.
    session.expect(":~#", BOOT)?;
    session.send("echo on''eäö\u{7f}'|'\n")?;
    session.expect("oneä|", BOOT)?;
    session.send("false\n")?;
    session.send("echo status''-$?\n")?;
    session.expect("status-1", BOOT)?;
    session.send("exit 0\n")?;
    ensure!(session.end(BOOT)? == 0, "{}", session.heard());
    guest.passed()
}
