//! A person at a serial line, whose terminal says what it is or says nothing.

use crate::world::{BOOT, pc};
use anyhow::{Result, bail, ensure};
use lifeboot_contract::password::PasswordHash;
use lifeboot_tests::deadline::Deadline;
use lifeboot_tests::guest::{Guest, Peer};

/// The last of the questions a terminal is asked.
const WHAT_ARE_YOU: &str = "\x1b[c";

/// What a real VT220 would say, one with a large screen.
const ANSWERS: &str = "\x1b[33;101R\x1b[?62;1;2;6;7;8;9c";

/// Presses Enter for a shell; `meanwhile` is sent as soon as the terminal has been asked.
fn enter(guest: &Guest, meanwhile: &str) -> Result<usize> {
    let from = guest.console_length()?;
    guest.type_on_console("\r")?;
    guest.wait_console_after(from, WHAT_ARE_YOU, 30)?;
    guest.type_on_console(meanwhile)?;
    Ok(from)
}

/// Waits for `text` behind byte `from` of the console; where it ends.
fn heard(guest: &Guest, from: usize, text: &str) -> Result<usize> {
    guest.wait_console_after(from, text, 60)?;
    let console = guest.console()?;
    let place = console.get(from..).and_then(|tail| tail.find(text));
    place.map_or_else(
        || bail!("'{text}' has gone"),
        |place| Ok(from + place + text.len()),
    )
}

/// Waits until the shell has the line, then types, piece by piece: a busy machine takes long input slowly.
fn type_at_prompt(guest: &Guest, from: usize, pieces: &[&str]) -> Result<()> {
    heard(guest, from, ":~# ")?;
    pieces.iter().try_for_each(|piece| guest.type_on_console(piece))
}

#[test]
fn a_serial_line_has_line_editing_job_control_and_the_size_its_terminal_says() -> Result<()> {
    let mut guest = pc("serial line").boot()?;
    guest.wait_event("boot.idle", BOOT)?;
    let from = enter(&guest, ANSWERS)?;
    type_at_prompt(&guest, from, &["echo size-$(stty size | tr ' ' x)-$TERM\r"])?;
    let from = heard(&guest, from, "size-33x101-vt220")?;
    // Nine times left, backspace: what is run is not what was typed first.
    let left = "\x1b[D".repeat(9);
    type_at_prompt(&guest, from, &["echo edX$((41+1))", &left, "\x7f\r"])?;
    let from = heard(&guest, from, "ed42")?;
    // Up: the same once more.
    type_at_prompt(&guest, from, &["\x1b[A\r"])?;
    let from = heard(&guest, from, "ed42")?;
    type_at_prompt(&guest, from, &["echo sleep''ing; sleep 1000\r"])?;
    let from = heard(&guest, from, "sleeping")?;
    guest.type_on_console("\x1a")?;
    let from = heard(&guest, from, "Stopped")?;
    type_at_prompt(&guest, from, &["echo back''again; fg\r"])?;
    let from = heard(&guest, from, "backagain")?;
    std::thread::sleep(std::time::Duration::from_secs(1));
    guest.type_on_console("\x03")?;
    type_at_prompt(&guest, from, &["echo status-$((1000+$?))\r"])?;
    heard(&guest, from, "status-1130")?;
    guest.passed()
}

#[test]
fn a_terminal_that_answers_too_late_has_the_usual_size_and_loses_no_key() -> Result<()> {
    let mut guest = pc("silent terminal").boot()?;
    guest.wait_event("boot.idle", BOOT)?;
    // Typed while an answer is waited for, an arrow key among it.
    let from = enter(
        &guest,
        "echo size-$(stty size | tr ' ' x)-$TERX\x1b[D\x1b[C\x7fM\r",
    )?;
    let from = heard(&guest, from, "size-24x80-vt220")?;
    // It answers when nobody waits any more.
    type_at_prompt(&guest, from, &[ANSWERS, "echo la''te-$?\r"])?;
    heard(&guest, from, "late-0")?;
    guest.passed()
}

/// A guest whose console wants the password `sesame` at this price.
fn guarded(name: &str, memory_kib: u32) -> Result<Guest> {
    let made = PasswordHash::made_of(b"sesame", 1024, 1, 1, b"somesaltsomesalt");
    let mut hash = made.ok_or_else(|| anyhow::anyhow!("no memory for a hash"))?;
    hash.memory_kib = memory_kib;
    let mut guest = pc(name)
        .memory_mb(256)
        .word(format!("lifeboot.console-password={hash}"))
        .boot()?;
    guest.wait_event("boot.idle", BOOT)?;
    Ok(guest)
}

fn answer(guest: &Guest, password: &str) -> Result<usize> {
    let from = guest.console_length()?;
    guest.type_on_console("\r")?;
    guest.wait_console_after(from, "Password: ", 30)?;
    guest.type_on_console(&format!("{password}\r"))?;
    Ok(from)
}

#[test]
fn a_console_with_a_password_gives_a_shell_for_it_and_for_nothing_else() -> Result<()> {
    let mut guest = guarded("console password", 1024)?;
    let from = answer(&guest, "sesamE")?;
    let refused = guest.wait_event("console.refused", 30)?;
    ensure!(refused.u64("tries") == Some(1), "{refused:?}");
    guest.type_on_console("echo sh''ell-$((40+2))\r")?;
    guest.wait_console_after(from, "Please press Enter", 30)?;
    let from = answer(&guest, "sesame")?;
    guest.wait_event("console.login", 30)?;
    guest.type_on_console("echo sh''ell-$((50+2))\r")?;
    guest.wait_console_after(from, "shell-52", 30)?;
    let console = guest.console()?;
    ensure!(!console.contains("shell-42"), "a wrong password gave a shell");
    ensure!(!console.contains("sesam"), "the password was echoed");
    guest.wait_ssh(Peer::Rescue, BOOT)?;
    guest.passed()
}

#[test]
fn a_password_that_takes_more_memory_than_there_is_kills_nothing() -> Result<()> {
    let mut guest = guarded("dear password", 1 << 20)?;
    let from = guest.console_length()?;
    guest.type_on_console("\r")?;
    guest.wait_console_after(from, "Not enough memory", 30)?;
    Deadline::after(30).wait_for("the next prompt", || {
        let tail = guest.console()?.split_off(from);
        Ok(tail.contains("Please press Enter").then_some(()))
    })?;
    ensure!(!guest.has_event("init.respawn")?, "a process died");
    guest.wait_ssh(Peer::Rescue, BOOT)?;
    guest.passed()
}
