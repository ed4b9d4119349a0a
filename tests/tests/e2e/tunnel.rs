//! A machine that nobody can dial, reached through a stock OpenSSH server that it dials itself.

use crate::world::{BOOT, pc};
use anyhow::{Context, Result, ensure};
use lifeboot_contract::event::Event;
use lifeboot_contract::status::TunnelState;
use lifeboot_tests::artefacts::keys_dir;
use lifeboot_tests::bastion::Bastion;
use lifeboot_tests::deadline::Deadline;
use lifeboot_tests::guest::{Guest, Peer};
use lifeboot_tests::loopback::Port;

/// A guest that keeps a tunnel to the bastion and expects it to show `pin`.
fn guest(name: &str, bastion: &Bastion, more: &str, pin: &str) -> Result<Guest> {
    pc(name)
        .word(format!("lifeboot.tunnel={}{more}", bastion.for_guests()))
        .word(format!("lifeboot.tunnel-hostkey=\"{pin}\""))
        .boot()
}

/// The line for the bastion's authorized_keys that the guest asks for.
fn line_of(guest: &mut Guest) -> Result<String> {
    let told = guest.wait_event("tunnel.key", BOOT)?;
    let lines = told.fields.get("authorized_keys").and_then(|lines| lines.get(0));
    let line = lines
        .and_then(|line| line.as_str())
        .context("no line for authorized_keys")?;
    Ok(line.to_owned())
}

fn port_of(up: &Event) -> Result<u16> {
    Ok(up.u64("port").context("no port")?.try_into()?)
}

fn tunnels_up(guest: &mut Guest) -> Result<usize> {
    Ok(guest
        .events()?
        .iter()
        .filter(|event| event.name == "tunnel.up")
        .count())
}

/// Logs in through the bastion; the tunnel may have been told of before the bastion has its port.
fn reaches(bastion: &Bastion, port: u16) -> Result<()> {
    let outcome = bastion.reach(port, &keys_dir().join("ed25519"), &["echo", "in"], b"")?;
    ensure!(outcome.text() == "in\n", "{}", outcome.errors());
    Ok(())
}

#[test]
fn a_bastion_that_lets_the_machine_in_leads_to_it_and_one_that_does_not_is_tried_again() -> Result<()> {
    let bastion = Bastion::start()?;
    let mut guest = guest("tunnel", &bastion, "", &bastion.host_key()?)?;
    let line = line_of(&mut guest)?;
    guest.wait_event("tunnel.down", BOOT)?;
    ensure!(tunnels_up(&mut guest)? == 0, "a bastion let in an unknown key");
    bastion.authorize(&[&line])?;
    let up = guest.wait_event("tunnel.up", BOOT)?;
    let port = port_of(&up)?;
    let identity = keys_dir().join("ed25519");
    // Both ways at once, more than every window on the way.
    let bytes: Vec<u8> = (0..6_000_000u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let echoed = bastion.reach(port, &identity, &["cat; echo end >&2; exit 7"], &bytes)?;
    ensure!(
        echoed.status == Some(7) && echoed.errors() == "end\n",
        "{}",
        echoed.errors()
    );
    ensure!(
        echoed.stdout == bytes,
        "{} bytes came back, or others",
        echoed.stdout.len()
    );
    let login = guest.wait_event("ssh.login", BOOT)?;
    ensure!(login.str("through") == bastion.for_guests(), "{login:?}");
    let status = guest.status()?;
    let tunnel = status.tunnels.first().context("no tunnel in the status")?;
    ensure!(
        (tunnel.state, tunnel.port) == (TunnelState::Up, Some(port)),
        "{tunnel:?}"
    );
    let client = guest.client(Peer::Rescue);
    for words in [&["rescue", "tunnel"][..], &["rescue", "tunnel", "--check"]] {
        let said = client.run(words)?.success()?.text();
        ensure!(said.contains(&bastion.for_guests()), "{words:?} says: {said}");
    }
    guest.passed()
}

#[test]
fn a_bastion_whose_host_key_is_not_the_pinned_one_learns_nothing() -> Result<()> {
    let bastion = Bastion::start()?;
    let mut guest = guest("wrong pin", &bastion, "", &bastion.other_key()?)?;
    bastion.authorize(&[&line_of(&mut guest)?])?;
    guest.wait_event_where("tunnel.down", BOOT, |down| down.u64("tries") >= Some(4))?;
    ensure!(tunnels_up(&mut guest)? == 0, "it was trusted");
    let log = bastion.log();
    ensure!(!log.contains("publickey"), "it was shown a key:\n{log}");
    let client = guest.client(Peer::Rescue);
    let checked = client.run(&["rescue", "tunnel", "--check"])?;
    ensure!(
        checked.status == Some(1),
        "--check ended with {:?}",
        checked.status
    );
    guest.passed()
}

#[test]
fn a_bastion_that_nothing_pins_is_not_dialled() -> Result<()> {
    let bastion = Bastion::start()?;
    let mut guest = pc("no pin")
        .word(format!("lifeboot.tunnel={}", bastion.for_guests()))
        .boot()?;
    let note = guest.wait_event("plan.note", BOOT)?;
    ensure!(note.str("key") == "lifeboot.tunnel", "{note:?}");
    guest.wait_ssh(Peer::Rescue, BOOT)?;
    ensure!(!guest.has_event("tunnel.key")?, "the tunnel runs");
    guest.passed()
}

#[test]
fn a_bastion_that_was_killed_leads_to_the_machine_again_by_the_same_port() -> Result<()> {
    let mut bastion = Bastion::start()?;
    let reserved = Port::reserve()?;
    let port = reserved.number();
    let more = format!(",listen={port}");
    let mut guest = guest("bastion killed", &bastion, &more, &bastion.fingerprint()?)?;
    bastion.authorize(&[&line_of(&mut guest)?])?;
    guest.wait_event("tunnel.up", BOOT)?;
    reaches(&bastion, port)?;
    bastion.kill()?;
    guest.wait_event_where("tunnel.down", BOOT, |down| down.u64("tries") >= Some(2))?;
    bastion.open()?;
    Deadline::after(BOOT).wait_for(
        "tunnel again",
        || Ok((tunnels_up(&mut guest)? >= 2).then_some(())),
    )?;
    reaches(&bastion, port)?;
    guest.passed()
}

#[test]
#[ignore = "make test-all"]
fn a_cable_that_is_pulled_for_longer_than_the_bastion_waits_brings_a_new_tunnel() -> Result<()> {
    let bastion = Bastion::start_impatient()?;
    let mut guest = guest("cable", &bastion, "", &bastion.host_key()?)?;
    bastion.authorize(&[&line_of(&mut guest)?])?;
    let first = port_of(&guest.wait_event("tunnel.up", BOOT)?)?;
    reaches(&bastion, first)?;
    guest.set_link(false)?;
    bastion.wait_until_lonely(BOOT)?;
    guest.set_link(true)?;
    Deadline::after(BOOT).wait_for(
        "tunnel again",
        || Ok((tunnels_up(&mut guest)? >= 2).then_some(())),
    )?;
    let all: Vec<Event> = guest.events()?.to_vec();
    let last = all
        .iter()
        .rfind(|event| event.name == "tunnel.up")
        .context("no tunnel")?;
    reaches(&bastion, port_of(last)?)?;
    guest.passed()
}
