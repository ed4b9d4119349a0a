//! The commands on the other architecture: most tests run on the one that is emulated faster.

use crate::mount::{json, logged_in, mounted};
use crate::world::sha256;
use anyhow::{Context, Result, ensure};
use lifeboot_tests::fault_server::FaultServer;
use lifeboot_tests::fixtures::disk::{Damage, Disks, LETTER, LETTER_TEXT, PASSPHRASE};
use lifeboot_tests::fixtures::system::System;
use lifeboot_tests::guest::{Board, Disk, Guest};
use std::fs;

const UUID: &str = "33333333-3333-4333-8333-333333333333";
/// Where the backup goes.
const PATH: &str = "/card.img.zst";

#[test]
#[ignore = "make test-all"]
fn a_disk_is_unlocked_repaired_entered_saved_and_written_anew() -> Result<()> {
    let disks = Disks::new("arm64")?;
    let system = System {
        name: "Test arm64",
        fstab: &format!("UUID={UUID} / ext4 defaults 0 1\n"),
        uuid: UUID,
        board: Board::VirtArm64,
    };
    let root = system.ext4(&disks, "root.img")?;
    let locked = disks.luks("locked.img", "data", Damage::Repairable)?;
    let other = disks.blank("other.img", 48)?;
    let server = FaultServer::start()?;
    let guest = Guest::on(Board::VirtArm64, "commands").memory_mb(512);
    let guest = guest
        .disk(Disk::raw(&root))
        .disk(Disk::raw(&locked))
        .disk(Disk::raw(&other));
    let (guest, client) = logged_in(guest)?;

    let listed = json(&client, &["rescue", "disks", "--json"])?.to_string();
    ensure!(
        listed.contains(UUID) && listed.contains("crypto_LUKS"),
        "{listed}"
    );

    client
        .run_with(&["rescue", "unlock", "/dev/vdb"], PASSPHRASE.as_bytes())?
        .success()?;
    let mapper = client.run(&["ls /dev/mapper/luks-*"])?.success()?.text();
    let mapper = mapper.trim();
    let fsck = |words: &[&str]| client.run(&[&["rescue", "fsck"], words, &[mapper]].concat());
    ensure!(fsck(&[])?.status == Some(1), "the damage was not found");
    fsck(&["--repair"])?.success()?;
    fsck(&[])?.success()?;
    client
        .run(&["mkdir -p /tmp/data && mount", mapper, "/tmp/data"])?
        .success()?;
    let letter = client.run(&["cat", &format!("/tmp/data/{LETTER}")])?.success()?;
    ensure!(letter.text() == LETTER_TEXT, "{}", letter.text());
    client
        .run(&["umount /tmp/data && rescue lock /dev/vdb"])?
        .success()?;

    let inside = client
        .run(&["rescue chroot /dev/vda cat /etc/os-release"])?
        .success()?;
    ensure!(inside.text().contains("Test arm64"), "{}", inside.text());
    ensure!(mounted(&client, "/mnt")?.is_empty(), "something is mounted still");

    let url = server.url(PATH);
    let saved = json(
        &client,
        &["rescue", "backup", "--json", "--verify", "/dev/vda", &url],
    )?;
    ensure!(saved["outcome"] == "done" && saved["verified"] == true, "{saved}");
    let (read, size) = (saved["read_bytes"].as_u64(), saved["size"].as_u64());
    ensure!(read < size, "unused blocks were read: {saved}");
    let digest = saved["sha256"].as_str().context("no digest")?;
    client
        .run(&["rescue deploy --yes --sha256", digest, &url, "/dev/vdc"])?
        .success()?;
    client.run(&["rescue", "fsck", "/dev/vdc"])?.success()?;

    let report = json(&client, &["rescue", "report", "--json"])?;
    ensure!(report.to_string().contains("aarch64"), "{report}");
    client.run(&["rescue", "net", &url])?.success()?;
    guest.passed()?;
    let original = fs::metadata(&root).context("root.img")?.len();
    ensure!(fs::metadata(&other).context("other.img")?.len() == original);
    ensure!(
        sha256(&other)? == sha256(&disks.dir().join("root.img"))?,
        "the copy differs"
    );
    Ok(())
}
