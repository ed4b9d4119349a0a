//! A session that is cut in the middle of a deploy, and one that is ended on purpose.

use super::{MIB, URL, World, ended, unusable};
use crate::world::{BOOT, sha256, worked_on};
use anyhow::{Result, ensure};
use lifeboot_tests::deadline::Deadline;
use lifeboot_tests::fault_server::Fault;
use lifeboot_tests::guest::Client;
use std::time::Duration;

fn deployed_by(client: &Client) -> Result<Option<u64>> {
    worked_on(client, "deploy")
}

/// Waits for the end of the process that deploys: its last words come before it.
fn is_over(client: &Client) -> Result<()> {
    Deadline::after(BOOT).wait_for("end of the deploy", || {
        Ok(deployed_by(client)?.is_none().then_some(()))
    })
}

#[test]
fn a_deploy_goes_on_when_its_session_is_cut_and_nobody_starts_another() -> Result<()> {
    let world = World::new("cut-session")?;
    // It would take a quarter of an hour: what is asked of a slow machine meanwhile is done before that.
    let drops = Fault::Drip {
        bytes: 4 << 10,
        pause: Duration::from_millis(200),
    };
    world.server.fault(URL, drops);
    let (mut guest, client) = world.boot("deploy, cut session")?;
    let url = world.server.url(URL);
    let session = client.converse(&["rescue", "deploy", "--yes", &url, "/dev/vda"])?;
    let id = Deadline::after(BOOT).wait_for("the deploy", || deployed_by(&client))?;
    // The client is killed: the connection is gone without a word.
    drop(session);
    let refused = world.deploy(&client, &[])?;
    ended(&refused, 1)?;
    ensure!(
        refused.errors().contains(&id.to_string()),
        "it does not name process {id}: {}",
        refused.errors()
    );
    // Whoever logs in again is told.
    let greeting = client.run(&["rescue", "status"])?.success()?.text();
    ensure!(
        greeting.contains(&format!("vda is being written by process {id}")),
        "{greeting}"
    );
    // Nor is the machine restarted by somebody who does not know.
    ended(&client.run(&["rescue", "reboot"])?, 1)?;
    world.server.heal(URL);
    let done = guest.wait_event("deploy.done", BOOT)?;
    ensure!(done.str("device") == "/dev/vda", "{done:?}");
    is_over(&client)?;
    let log = client.run(&["cat /run/lifeboot/log/deploy-vda.log"])?.success()?;
    ensure!(log.text().contains("read back"), "{}", log.text());
    guest.passed()?;
    world.landed()
}

/// Ends a deploy that waits for the server, and returns what it says.
fn interrupted(world: &World, client: &Client, stalled_at: u64) -> Result<String> {
    let stall = Fault::StallAfter {
        bytes: stalled_at,
        times: 1,
    };
    world.server.fault(URL, stall);
    let url = world.server.url(URL);
    let (requests, before) = (world.server.stats(URL).requests, sha256(&world.disk)?);
    let mut session = client.converse(&["rescue", "deploy", "--yes", &url, "/dev/vda"])?;
    Deadline::after(BOOT).wait_for("the deploy", || deployed_by(client))?;
    Deadline::after(BOOT).wait_for("what comes before the silence", || {
        let asked = world.server.stats(URL).requests > requests;
        let written = stalled_at == 0 || sha256(&world.disk)? != before;
        Ok((asked && written).then_some(()))
    })?;
    session.send("\u{3}")?;
    ensure!(session.end(BOOT)? == 1, "{}", session.heard());
    is_over(client)?;
    Ok(session.heard())
}

#[test]
#[ignore = "make test-all"]
fn whoever_types_control_c_learns_whether_the_disk_was_touched() -> Result<()> {
    let world = World::new("interrupted")?;
    let before = sha256(&world.disk)?;
    let (guest, client) = world.boot("deploy, Ctrl-C")?;
    let said = interrupted(&world, &client, 0)?;
    ensure!(said.contains("/dev/vda was not touched"), "{said}");
    ensure!(sha256(&world.disk)? == before, "the disk was written to");
    let said = interrupted(&world, &client, 4 * MIB as u64)?;
    ensure!(said.contains("/dev/vda is unusable now"), "{said}");
    unusable(&world.disk)?;
    ended(&world.deploy(&client, &[])?, 0)?;
    guest.passed()?;
    world.landed()
}
