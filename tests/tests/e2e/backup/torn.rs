//! What is done to a disk while it is read: refused where it is asked for here, found out where it is not.

use super::{World, ended};
use crate::world::{BOOT, pc};
use anyhow::{Context, Result, ensure};
use lifeboot_tests::guest::{Client, Disk, Peer};
use lifeboot_tests::process::Outcome;
use std::fs;

/// Until this much has been read, in sectors: then it is known what was written to the disk before, and most of it is still to come.
const SOME: u32 = 16384;

/// Begins a backup of a disk and halts it in the middle.
fn halted(disk: &str, url: &str) -> String {
    format!(
        "read -r _ _ before _ </sys/block/{disk}/stat; \
         rescue backup --raw --all-blocks /dev/{disk} {url} >/tmp/said 2>&1 & job=$!; \
         until p=$(cut -d' ' -f1 /run/lifeboot/work/{disk}.lock 2>/dev/null) && grep -q worker /proc/$p/cmdline 2>/dev/null && \
         read -r _ _ now _ </sys/block/{disk}/stat && [ $((now - before)) -gt {SOME} ]; do kill -0 $job || exit 3; done; \
         kill -STOP $p"
    )
}

/// What comes of a backup in the middle of which `meanwhile` was run, and what that said; `$p` is the process that backs up.
fn during(client: &Client, url: &str, meanwhile: &str) -> Result<(Outcome, String)> {
    let begin = halted("vda", url);
    let script = format!(
        "{begin}; {{ {meanwhile}; }} >/tmp/meanwhile 2>&1; kill -CONT $p; wait $job; status=$?; \
         cat /tmp/said >&2; sed \"s/process $p/process of the backup/\" /tmp/meanwhile; exit $status"
    );
    let outcome = client.run(&[&script])?;
    let said = outcome.text();
    Ok((outcome, said))
}

#[test]
#[ignore = "make test-all"]
fn a_disk_is_mounted_by_nobody_while_it_is_read_and_what_was_written_all_the_same_is_found_out_before_all_is_sent()
-> Result<()> {
    let world = World::new("torn")?;
    let (guest, client) = world.boot("backup of a disk that changes")?;
    let card = fs::read(&world.card).context("card.img")?;
    // Nothing of it is mounted: the kernel keeps it for the backup. With a part of it mounted for reading, it does not.
    for (path, first, refused) in [
        ("/alone.img", "true", &["fsck /dev/vda2", "mount /dev/vda2"][..]),
        (
            "/mounted.img",
            "mkdir -p /tmp/fat && mount -o ro /dev/vda1 /tmp/fat",
            &[
                "fsck --repair /dev/vda2",
                "mount /dev/vda2",
                "chroot /dev/vda2 true",
            ],
        ),
    ] {
        client.run(&[first])?.success()?;
        let commands: Vec<String> = refused
            .iter()
            .map(|words| format!("rescue {words}; echo status=$?"))
            .collect();
        let (outcome, said) = during(&client, &world.server.url(path), &commands.join("; "))?;
        ended(&outcome, 0)?;
        let told = "/dev/vda: it is being read by process of the backup";
        let told = said.matches(told).count() + said.matches(&told.replace(": it", "")).count();
        ensure!(
            told == refused.len() && said.matches("status=1").count() == refused.len(),
            "{path}: {said}"
        );
        ensure!(
            world.server.uploaded(path).as_ref() == Some(&card),
            "{path} is not the card"
        );
    }
    // What is asked of the kernel and not of us.
    let write = "mkdir -p /tmp/ext4 && mount /dev/vda2 /tmp/ext4 && echo new >/tmp/ext4/new && umount /tmp/ext4 && echo written";
    let (outcome, said) = during(&client, &world.server.url("/torn.img"), write)?;
    ensure!(said.ends_with("written\n"), "{said}");
    ended(&outcome, 1)?;
    ensure!(
        outcome.errors().contains("sectors of /dev/vda2 were written"),
        "{}",
        outcome.errors()
    );
    for path in ["/torn.img", "/torn.img.sha256"] {
        ensure!(world.server.uploaded(path).is_none(), "{path} is whole");
    }
    guest.passed()
}

#[test]
#[ignore = "make test-all"]
fn a_disk_that_is_unplugged_while_it_is_read_is_said_to_be_gone() -> Result<()> {
    let world = World::new("unplugged")?;
    let mut guest = pc("backup of a disk that is unplugged")
        .argument("-device")
        .argument("pcie-root-port,id=late0,chassis=9")
        .argument("-drive")
        .argument(format!(
            "if=none,id=stick,format=raw,file={}",
            world.card.display()
        ))
        .disk(Disk::raw(&world.other))
        .boot()?;
    guest.wait_event("ssh.listening", BOOT)?;
    let client = guest.wait_ssh(Peer::Rescue, BOOT)?;
    guest.plug("stick", "late0")?;
    client
        .run(&["until [ -e /sys/block/vdb/stat ]; do sleep 0.2; done"])?
        .success()?;
    let path = "/gone.img";
    let begin = halted("vdb", &world.server.url(path));
    let process = client.run(&[&format!("{begin}; echo $p")])?.success()?.text();
    guest.unplug()?;
    let go_on = format!(
        "until [ ! -e /sys/block/vdb ]; do sleep 0.2; done; kill -CONT {}",
        process.trim()
    );
    client.run(&[&go_on])?.success()?;
    let what = guest.wait_event("backup.failed", 60)?.str("what").to_owned();
    ensure!(
        what.contains("/dev/vdb: it is gone") && !what.contains("ddrescue"),
        "{what}"
    );
    ensure!(world.server.uploaded(path).is_none(), "{path} is whole");
    guest.passed()
}
