//! What is refused, and what is left behind when it ends early.

use super::{World, ended, has_the_card};
use anyhow::{Result, ensure};

#[test]
#[ignore = "make test-all"]
fn a_disk_that_is_mounted_for_writing_is_refused_and_for_reading_is_not() -> Result<()> {
    let world = World::new("mounted")?;
    let (guest, client) = world.boot("backup of a mounted disk")?;
    client
        .run(&["mkdir -p /mnt && mount /dev/vda2 /mnt"])?
        .success()?;
    let outcome = world.send(&client, &[])?;
    ended(&outcome, 1)?;
    ensure!(outcome.errors().contains("/mnt"), "{}", outcome.errors());
    ensure!(
        world.server.uploaded(super::PATH).is_none(),
        "it was sent all the same"
    );
    client.run(&["mount -o remount,ro /mnt"])?.success()?;
    ended(&world.send(&client, &["--verify"])?, 0)?;
    guest.passed()
}

#[test]
#[ignore = "make test-all"]
fn a_file_is_whole_or_not_there() -> Result<()> {
    let world = World::new("file")?;
    let (guest, client) = world.boot("backup to a file")?;
    let backup = |words: &[&str]| client.run(&[&["rescue", "backup"], words].concat());
    let there = |dir: &str| client.run(&["ls", dir]).map(|outcome| outcome.text());
    client
        .run(&["mke2fs -q -m 0 /dev/vdb 8M && mkdir -p /mnt && mount /dev/vdb /mnt"])?
        .success()?;
    // What is not packed does not fit, what is packed just does.
    let outcome = backup(&["--raw", "--all-blocks", "/dev/vda", "/mnt/card.img"])?;
    ended(&outcome, 1)?;
    ensure!(outcome.errors().contains("/mnt/card.img"), "{}", outcome.errors());
    ensure!(
        there("/mnt")?.trim() == "lost+found",
        "left behind: {}",
        there("/mnt")?
    );
    // Ended in the middle.
    let words = "rescue backup --raw --all-blocks /dev/vda /mnt/card.img";
    let script =
        format!("{words} & p=$!; until [ -e /mnt/card.img.partial ]; do :; done; kill -TERM $p; wait $p");
    let outcome = client.run(&[&script])?;
    ended(&outcome, 1)?;
    ensure!(
        outcome.errors().contains("no backup was made"),
        "{}",
        outcome.errors()
    );
    ensure!(
        there("/mnt")?.trim() == "lost+found",
        "left behind: {}",
        there("/mnt")?
    );
    ended(&backup(&["--verify", "/dev/vda", "/mnt/card.img.zst"])?, 0)?;
    ended(&backup(&["/dev/vda", "/mnt/card.img.zst"])?, 1)?;
    client
        .run(&["cd /mnt && sha256sum -c card.img.zst.sha256"])?
        .success()?;
    for (words, status) in [
        (&["/dev/vdz", "/mnt/x"][..], 1),
        (&["/dev/vda", "/mnt"], 1),
        (&["/dev/vda", "/dev/vdb"], 1),
        (&["--verify", "/dev/vda", "-"], 2),
        (&["--post", "/dev/vda", "/mnt/x"], 2),
        (&["--all-blocks", "/dev/vda", "/tmp/a", "/tmp/b"], 2),
    ] {
        ended(&backup(words)?, status)?;
    }
    // And back, from the file, onto the disk it came from.
    client
        .run(&["cp /mnt/card.img.zst /tmp/ && umount /mnt && cat /tmp/card.img.zst | rescue deploy --yes --no-verify - /dev/vdb"])?
        .success()?;
    guest.passed()?;
    has_the_card(&world, &world.other)
}
