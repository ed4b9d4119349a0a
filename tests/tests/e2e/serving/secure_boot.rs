//! A machine with Secure Boot on: what the builder signed is started, the same image without a signature is not.

use super::document;
use super::firmware::{client, reached};
use anyhow::{Context, Result, ensure};
use lifeboot_tests::artefacts::{build, uki};
use lifeboot_tests::guest::{Board, Firmware};
use lifeboot_tests::lan::Lan;
use lifeboot_tests::process;
use std::path::Path;

/// The key Debian's ovmf package ships for such tests, and what it is locked with.
const KEY: &str = "/usr/share/ovmf/PkKek-1-snakeoil.key";
const CERTIFICATE: &str = "/usr/share/ovmf/PkKek-1-snakeoil.pem";
const PASSPHRASE: &str = "pass:snakeoil";
/// Seconds the firmware may take to say no.
const REFUSAL: u64 = 120;

fn network() -> Result<Lan> {
    ensure!(
        Path::new(KEY).exists(),
        "could not run: {KEY}: not there, it is in the Debian package ovmf"
    );
    let network = Lan::new()?;
    network.dnsmasq(&document::block("conf", "lifeboot-lan.conf")?)?;
    Ok(network)
}

#[test]
#[ignore = "make test-all"]
fn a_signed_image_is_started_with_secure_boot_on() -> Result<()> {
    let network = network()?;
    let work = network.files().join("work");
    std::fs::create_dir_all(&work).context("work")?;
    let key = work.join("key.pem");
    let mut command = std::process::Command::new("openssl");
    command
        .args(["rsa", "-in", KEY, "-passin", PASSPHRASE, "-out"])
        .arg(&key);
    process::run_with(&mut command, b"")?.success()?;
    let signing = [
        "--secureboot-key".as_ref(),
        key.as_os_str(),
        "--secureboot-cert".as_ref(),
        CERTIFICATE.as_ref(),
    ];
    build(Board::PcX86_64, &work, &signing)?;
    network.put_file("tftp/lifeboot-x86_64.efi", &work.join("lifeboot.efi"))?;
    let mut guest = client(Board::PcX86_64, &network, Firmware::SecureUefi)?.boot()?;
    reached(&mut guest, &network)?;
    network.passed();
    guest.passed()
}

#[test]
#[ignore = "make test-all"]
fn an_image_without_a_signature_is_not() -> Result<()> {
    let network = network()?;
    network.put_file("tftp/lifeboot-x86_64.efi", &uki(Board::PcX86_64)?)?;
    let mut guest = client(Board::PcX86_64, &network, Firmware::SecureUefi)?.boot()?;
    network.wait_log("tftp/lifeboot-x86_64.efi to 192.168.1.", REFUSAL)?;
    // The firmware's own words, since nothing of ours runs that could send an event.
    guest.wait_console("Access Denied", REFUSAL)?;
    ensure!(!guest.has_event("init.start")?, "it was started");
    network.passed();
    guest.passed()
}
