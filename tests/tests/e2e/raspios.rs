//! A system that was made for a card, as it comes in a disk image, run from RAM.

use crate::full_os::wait_for_multi_user;
use crate::world::{FULL_BOOT, OS, SIGNATURE};
use anyhow::{Context, Result, ensure};
use lifeboot_tests::artefacts::{image_builder, image_dir, keys_dir, raspios, target_dir};
use lifeboot_tests::fault_server::FaultServer;
use lifeboot_tests::fixtures::keys;
use lifeboot_tests::guest::{Board, Client, Guest};
use lifeboot_tests::process;
use std::ffi::OsString;
use std::path::PathBuf;

/// Makes an OS image of the disk image in one step: adapted, checked against the rescue image, signed.
fn squashfs(name: &str, more: &[&str]) -> Result<PathBuf> {
    let dir = target_dir().join("lifeboot").join("raspios");
    std::fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
    let out = dir.join(name);
    let (image, built_for) = (raspios::image_xz()?, image_dir(Board::VirtArm64));
    let key = keys_dir().join(keys::TRUSTED).with_extension("key");
    let mut words: Vec<OsString> = vec!["squashfs".into(), "--from-image".into(), image.into()];
    words.extend([
        "--for-image".into(),
        built_for.into(),
        "--sign".into(),
        key.into(),
    ]);
    words.extend(["--level".into(), "6".into()]);
    words.extend(more.iter().map(OsString::from));
    words.push(out.clone().into());
    process::run(&image_builder().to_string_lossy(), words)?;
    Ok(out)
}

fn served(squashfs: &std::path::Path) -> Result<FaultServer> {
    let server = FaultServer::start()?;
    server.serve_file(OS, squashfs)?;
    let mut signature = squashfs.as_os_str().to_owned();
    signature.push(".minisig");
    server.serve_file(SIGNATURE, std::path::Path::new(&signature))?;
    Ok(server)
}

fn said(client: &Client, words: &str) -> Result<String> {
    Ok(client
        .run(&[words])?
        .success()
        .with_context(|| words.to_owned())?
        .text()
        .trim()
        .to_owned())
}

/// Nothing of the card is waited for: the other of this pair, which is one option away, stops in emergency mode.
#[test]
#[ignore = "make test-all"]
fn a_cards_system_boots_from_ram_to_multi_user() -> Result<()> {
    let server = served(&squashfs("ram.squashfs", &[])?)?;
    let mut guest = Guest::on(Board::VirtArm64, "a card's system from RAM")
        .memory_mb(1024)
        .word(format!("root={}", server.url(OS)))
        .boot()?;
    guest.wait_event("verify.done", 2 * FULL_BOOT)?;
    guest.wait_event("handover.start", FULL_BOOT)?;
    let client = wait_for_multi_user(&mut guest, "overlay")?;
    // The identity is this boot's, not the card's.
    let id = said(&client, "cat /etc/machine-id")?;
    ensure!(
        id.len() == 32 && !id.starts_with("8c7f5de1e7a3"),
        "machine-id {id}"
    );
    let keys = said(&client, "ls /etc/ssh")?;
    let secret = keys.lines().filter(|name| name.ends_with("_key"));
    let secret: Vec<&str> = secret.collect();
    ensure!(secret == ["ssh_host_ed25519_key"], "host keys {secret:?}");
    // What a file system has besides bytes.
    let facts = said(
        &client,
        "stat -c '%U %a' /home/pi; stat -c %h /usr/bin/perl; getcap /usr/bin/ping; command -v busybox",
    )?;
    ensure!(
        facts == "pi 755\n2\n/usr/bin/ping cap_net_raw=ep\n/usr/bin/busybox",
        "{facts}"
    );
    let swap = said(&client, "wc -l < /proc/swaps")?;
    ensure!(swap == "1", "swap in RAM: {swap}");
    guest.passed()
}

/// The pair of the test above.
#[test]
#[ignore = "make test-all"]
fn a_card_in_fstab_is_waited_for_in_vain() -> Result<()> {
    let server = served(&squashfs("kept.squashfs", &["--fstab", "keep"])?)?;
    let mut guest = Guest::on(Board::VirtArm64, "a card's system with its fstab")
        .memory_mb(1024)
        .word(format!("root={}", server.url(OS)))
        .word("systemd.default_device_timeout_sec=20")
        .boot()?;
    guest.wait_event("handover.start", 2 * FULL_BOOT)?;
    // systemd's own words; there is no event and no ssh in this state, which is the point.
    guest.wait_console("emergency mode", 2 * FULL_BOOT)?;
    guest.passed()
}
