//! A person at a serial line, whose terminal says what it is or says nothing.

use crate::world::{BOOT, pc};
use anyhow::{Result, bail, ensure};
use lifeboot_contract::password::PasswordHash;
use lifeboot_tests::deadline::Deadline;
use lifeboot_tests::guest::{Guest, GuestBuilder, Peer};

/// The last of the questions a terminal is asked.
const WHAT_ARE_YOU: &str = "\x1b[c";

/// What a real VT220 would say, one with a large screen.
const ANSWERS: &str = "\x1b[33;101R\x1b[?62;1;2;6;7;8;9c";

/// What a console says that waits for somebody.
const INVITATION: &str = "Please press Enter for a shell.";

/// How often a shell is begun anew because what its terminal was to say in less than a second took longer.
const TRIES: usize = 10;

/// Starts it and waits until its console invites people. What is typed before that is thrown away, and the end of the boot brings a new
/// invitation.
fn at_rest(guest: GuestBuilder) -> Result<Guest> {
    let mut guest = guest.boot()?;
    guest.wait_event("boot.idle", BOOT)?;
    // Its line would come between what is typed.
    guest.wait_event("network.lease", BOOT)?;
    let from = heard(&guest, 0, "lifeboot: in rescue")?;
    heard(&guest, from, INVITATION)?;
    Ok(guest)
}

/// Waits for `text` behind byte `from` of the console; where it ends.
fn heard(guest: &Guest, from: usize, text: &str) -> Result<usize> {
    heard_within(guest, from, text, BOOT)
}

fn heard_within(guest: &Guest, from: usize, text: &str, seconds: u64) -> Result<usize> {
    guest.wait_console_after(from, text, seconds)?;
    let console = guest.console()?;
    let place = console.get(from..).and_then(|tail| tail.find(text));
    place.map_or_else(
        || bail!("'{text}' has gone"),
        |place| Ok(from + place + text.len()),
    )
}

/// Waits until the shell has the line, then types.
fn type_at_prompt(guest: &Guest, from: usize, line: &str) -> Result<()> {
    heard(guest, from, ":~# ")?;
    guest.type_on_console(line)
}

/// Presses a key that stops or ends what runs until `text` is heard: the first may come before that runs.
fn press_until(guest: &Guest, key: &str, from: usize, text: &str) -> Result<usize> {
    Deadline::after(BOOT).wait_for(text, || {
        guest.type_on_console(key)?;
        Ok(heard_within(guest, from, text, 10).ok())
    })
}

/// Presses Enter for a shell. `meanwhile` is sent as soon as the terminal has been asked, and `line` at the prompt; one of them makes the shell
/// say `size-` and the rest of the line that is `wanted`. A busy machine may send too late what is listened for so briefly: then the
/// shell is left, and all of it begins anew.
fn enter(guest: &Guest, meanwhile: &str, line: &str, wanted: &str) -> Result<usize> {
    let mut all = Vec::new();
    for _ in 0..TRIES {
        let from = guest.console_length()?;
        guest.type_on_console("\r")?;
        let from = heard(guest, from, WHAT_ARE_YOU)?;
        guest.type_on_console(meanwhile)?;
        type_at_prompt(guest, from, line)?;
        if let Ok(from) = heard_within(guest, from, "size-", 20) {
            let end = heard(guest, from, "\n")?;
            let said = guest
                .console()?
                .get(from..end)
                .unwrap_or_default()
                .trim()
                .to_owned();
            if said == wanted {
                return Ok(end);
            }
            all.push(said);
        }
        let from = press_until(guest, "\x03", guest.console_length()?, ":~# ")?;
        guest.type_on_console("exit\r")?;
        heard(guest, from, INVITATION)?;
    }
    bail!("never {wanted}, but {all:?}")
}

#[test]
fn a_serial_line_has_line_editing_job_control_and_the_size_its_terminal_says() -> Result<()> {
    let guest = at_rest(pc("serial line"))?;
    let line = "echo si''ze-$(stty size | tr ' ' x)-$TERM\r";
    let from = enter(&guest, ANSWERS, line, "33x101-vt220")?;
    // Nine times left, backspace: what is run is not what was typed first.
    let left = "\x1b[D".repeat(9);
    type_at_prompt(&guest, from, &format!("echo edX$((41+1)){left}\x7f\r"))?;
    let from = heard(&guest, from, "ed42")?;
    // Up: the same once more.
    type_at_prompt(&guest, from, "\x1b[A\r")?;
    let from = heard(&guest, from, "ed42")?;
    type_at_prompt(&guest, from, "echo sleep''ing; sleep 1000\r")?;
    let from = heard(&guest, from, "sleeping")?;
    let from = press_until(&guest, "\x1a", from, "Stopped")?;
    type_at_prompt(&guest, from, "echo back''again; fg\r")?;
    let from = heard(&guest, from, "backagain")?;
    // It says what it goes on with.
    let from = heard(&guest, from, "sleep 1000")?;
    press_until(&guest, "\x03", from, ":~# ")?;
    guest.type_on_console("echo status-$((1000+$?))\r")?;
    heard(&guest, from, "status-1130")?;
    guest.passed()
}

#[test]
fn a_terminal_that_answers_too_late_has_the_usual_size_and_loses_no_key() -> Result<()> {
    let guest = at_rest(pc("silent terminal"))?;
    // Typed while an answer is waited for, an arrow key among it.
    let typed = "echo si''ze-$(stty size | tr ' ' x)-$TERX\x1b[D\x1b[C\x7fM\r";
    let from = enter(&guest, typed, "", "24x80-vt220")?;
    // It answers when nobody waits any more.
    type_at_prompt(&guest, from, &format!("{ANSWERS}echo la''te-$?\r"))?;
    heard(&guest, from, "late-0")?;
    guest.passed()
}

/// A guest whose console wants the password `sesame` at this price.
fn guarded(name: &str, memory_kib: u32) -> Result<Guest> {
    let made = PasswordHash::made_of(b"sesame", 1024, 1, 1, b"somesaltsomesalt");
    let mut hash = made.ok_or_else(|| anyhow::anyhow!("no memory for a hash"))?;
    hash.memory_kib = memory_kib;
    let word = format!("lifeboot.console-password={hash}");
    at_rest(pc(name).memory_mb(256).word(word))
}

/// Types a line, whose end asks for the password, and then that one.
fn answer(guest: &Guest, line: &str, password: &str) -> Result<usize> {
    let from = guest.console_length()?;
    guest.type_on_console(&format!("{line}\r"))?;
    let from = heard(guest, from, "Password: ")?;
    guest.type_on_console(&format!("{password}\r"))?;
    Ok(from)
}

#[test]
fn a_console_with_a_password_gives_a_shell_for_it_and_for_nothing_else() -> Result<()> {
    let mut guest = guarded("console password", 1024)?;
    let from = answer(&guest, "", "sesamE")?;
    let refused = guest.wait_event("console.refused", BOOT)?;
    ensure!(refused.u64("tries") == Some(1), "{refused:?}");
    heard(&guest, from, INVITATION)?;
    let from = answer(&guest, "echo sh''ell-$((40+2))", "sesame")?;
    guest.wait_event("console.login", BOOT)?;
    guest.type_on_console("echo sh''ell-$((50+2))\r")?;
    heard(&guest, from, "shell-52")?;
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
    let from = heard(&guest, from, "Not enough memory")?;
    heard(&guest, from, INVITATION)?;
    ensure!(!guest.has_event("init.respawn")?, "a process died");
    guest.wait_ssh(Peer::Rescue, BOOT)?;
    guest.passed()
}
