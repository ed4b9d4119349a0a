//! A session that is cut in the middle of a repair, and Ctrl-C.

use super::{ends, start};
use crate::world::{BOOT, pc, worked_on};
use anyhow::{Result, ensure};
use lifeboot_tests::deadline::Deadline;
use lifeboot_tests::fixtures::disk::{Damage, Disks};
use lifeboot_tests::guest::{Client, Disk, Guest};

/// Whose presence lets the repair begin to write.
const GO: &str = "/run/go-on";

/// A guest with a damaged disk whose e2fsck waits before it writes until [`GO`] is there, as that of a large disk takes its time.
fn with_slow_repair(name: &str, disks: &Disks) -> Result<(Guest, Client)> {
    let path = disks.ext4("damaged.img", "data", Damage::Repairable)?;
    let (guest, client) = start(pc(name).disk(Disk::raw(path)))?;
    let script = format!(
        "set -e; e=$(command -v e2fsck); mv $e $e.real
         printf '#!/bin/sh\\ncase \"$*\" in *-y*) until [ -e {GO} ]; do sleep 0.1; done;; esac\\nexec %s.real \"$@\"\\n' $e >$e; chmod 755 $e"
    );
    client.run(&[&script])?.success()?;
    Ok((guest, client))
}

fn is_repaired_by(client: &Client) -> Result<Option<u64>> {
    worked_on(client, "repair")
}

#[test]
fn a_repair_goes_on_when_its_session_is_cut_and_nobody_starts_another() -> Result<()> {
    let disks = Disks::new("cut")?;
    let (guest, client) = with_slow_repair("cut session", &disks)?;
    let session = client.converse(&["rescue", "fsck", "--repair", "/dev/vda"])?;
    let id = Deadline::after(BOOT).wait_for("the repair", || is_repaired_by(&client))?;
    // The client is killed: the connection is gone without a word.
    drop(session);
    let refused = ends(&client, &["rescue", "fsck", "--repair", "/dev/vda"], 1)?.text();
    ensure!(
        refused.contains(&id.to_string()),
        "{refused} does not name process {id}"
    );
    ensure!(
        is_repaired_by(&client)? == Some(id),
        "it did not outlive its session"
    );
    // The machine does not leave for another system meanwhile, and is not restarted by somebody who does not know.
    ends(&client, &["rescue", "reboot"], 1)?;
    let status = client.run(&["rescue", "status", "--json"])?.success()?.text();
    ensure!(status.contains("rescue fsck"), "nobody holds the boot: {status}");

    client.run(&["touch", GO])?.success()?;
    Deadline::after(BOOT).wait_for("the end of the repair", || {
        Ok(is_repaired_by(&client)?.is_none().then_some(()))
    })?;
    ends(&client, &["rescue", "fsck", "/dev/vda"], 0)?;
    let log = client
        .run(&["cat /run/lifeboot/log/fsck-vda.log"])?
        .success()?
        .text();
    ensure!(log.contains("-y"), "the log has nothing of the repair: {log}");
    guest.passed()
}

#[test]
#[ignore = "make test-all"]
fn control_c_ends_a_check_at_once_and_a_repair_when_it_is_typed_twice() -> Result<()> {
    let disks = Disks::new("ctrl-c")?;
    let (guest, client) = with_slow_repair("Ctrl-C", &disks)?;
    let mut session = client.converse(&["rescue", "fsck", "--repair", "/dev/vda"])?;
    Deadline::after(BOOT).wait_for("the repair", || is_repaired_by(&client))?;
    session.send("\u{3}")?;
    session.expect("Ctrl-C", BOOT)?;
    ensure!(is_repaired_by(&client)?.is_some(), "one Ctrl-C has ended it");
    session.send("\u{3}")?;
    ensure!(session.end(BOOT)? == 1, "{}", session.heard());
    ensure!(is_repaired_by(&client)?.is_none(), "two have not");
    ends(&client, &["rescue", "fsck", "/dev/vda"], 1)?;
    client.run(&["touch", GO])?.success()?;
    ends(&client, &["rescue", "fsck", "--repair", "/dev/vda"], 0)?;
    guest.passed()
}
