//! A session that is cut in the middle of a backup.

use super::{MIB, PATH, World, sha256};
use crate::world::{BOOT, worked_on};
use anyhow::{Context, Result, ensure};
use lifeboot_tests::deadline::Deadline;
use lifeboot_tests::guest::Client;

fn backed_up_by(client: &Client) -> Result<Option<u64>> {
    worked_on(client, "backup")
}

/// Halts the process that backs up as soon as there is one: otherwise it might be done before anybody looks.
const HALT: &str = "until p=$(cut -d' ' -f1 /run/lifeboot/work/vda.lock 2>/dev/null) && grep -q worker /proc/$p/cmdline 2>/dev/null; do :; done; kill -STOP $p; echo halted";

#[test]
#[ignore = "make test-all"]
fn a_backup_goes_on_when_its_session_is_cut_and_nothing_else_touches_the_disk() -> Result<()> {
    let world = World::new("cut-session")?;
    let (mut guest, client) = world.boot("backup, cut session")?;
    let url = world.server.url(PATH);
    let mut halting = client.converse(&[HALT])?;
    let words = ["rescue", "backup", "--all-blocks", "--verify", "/dev/vda", &url];
    let session = client.converse(&words)?;
    halting.expect("halted", BOOT)?;
    let id = Deadline::after(BOOT).wait_for("the backup", || backed_up_by(&client))?;
    drop(session);
    for words in [
        &["rescue", "deploy", "--yes", "--no-verify", &url, "/dev/vda"][..],
        &["rescue", "reboot"],
    ] {
        let refused = client.run(words)?;
        ensure!(
            refused.status == Some(1) && refused.errors().contains(&id.to_string()),
            "{words:?}: {refused:?}"
        );
    }
    client.run(&["kill", "-CONT", &id.to_string()])?.success()?;
    guest.wait_event("backup.done", 2 * BOOT)?;
    // Its last words come before its end.
    Deadline::after(BOOT).wait_for("end of the backup", || {
        Ok(backed_up_by(&client)?.is_none().then_some(()))
    })?;
    let sent = world.server.uploaded(PATH).context("nothing was uploaded")?;
    let digest = world
        .server
        .uploaded(&format!("{PATH}.sha256"))
        .context("no digest file")?;
    ensure!(
        digest.starts_with(sha256(&sent).as_bytes()),
        "what was sent is not what was meant: {}",
        String::from_utf8_lossy(&digest)
    );
    ensure!(sent.len() < 90 * MIB, "it was not packed");
    guest.passed()
}
