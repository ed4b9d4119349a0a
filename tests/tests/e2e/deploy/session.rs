//! A session that is cut in the middle of a deploy, and one that is ended on purpose.

use super::{MIB, URL, World, ended, unusable};
use crate::world::{sha256, worked_on};
use anyhow::{Result, ensure};
use lifeboot_tests::deadline::Deadline;
use lifeboot_tests::fault_server::Fault;
use lifeboot_tests::guest::Client;
use std::time::Duration;

fn deployed_by(client: &Client) -> Result<Option<u64>> {
    worked_on(client, "deploy")
}

#[test]
fn a_deploy_goes_on_when_its_session_is_cut_and_nobody_starts_another() -> Result<()> {
    let world = World::new("cut-session")?;
    let drops = Fault::Drip {
        bytes: 64 << 10,
        pause: Duration::from_millis(50),
    };
    world.server.fault(URL, drops);
    let (mut guest, client) = world.boot("deploy, cut session")?;
    let url = world.server.url(URL);
    let session = client.converse(&["rescue", "deploy", "--yes", &url, "/dev/vda"])?;
    let id = Deadline::after(60).wait_for("the deploy", || deployed_by(&client))?;
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
    let done = guest.wait_event("deploy.done", 120)?;
    ensure!(done.str("device") == "/dev/vda", "{done:?}");
    ensure!(deployed_by(&client)?.is_none(), "it runs still");
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
    let mut session = client.converse(&["rescue", "deploy", "--yes", &url, "/dev/vda"])?;
    Deadline::after(60).wait_for("the deploy", || deployed_by(client))?;
    std::thread::sleep(Duration::from_secs(4));
    session.send("\u{3}")?;
    ensure!(session.end(30)? == 1, "{}", session.heard());
    ensure!(deployed_by(client)?.is_none(), "it runs still");
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
