//! What proves itself is started, what does not is not.

use crate::world::{
    BOOT, OS, SIGNATURE, pc_booting_from, sha256, tiny_server, wait_for_failure, wait_for_tiny,
};
use anyhow::{Result, ensure};
use lifeboot_tests::artefacts;
use lifeboot_tests::fault_server::Fault;
use lifeboot_tests::fixtures::keys;
use lifeboot_tests::guest::Peer;

#[test]
fn an_image_with_a_good_signature_boots() -> Result<()> {
    let (server, _) = tiny_server()?;
    let mut guest = pc_booting_from(&server, "good signature").boot()?;
    let verified = guest.wait_event("verify.done", crate::world::FULL_BOOT)?;
    ensure!(
        verified.str("how") == "minisign",
        "verified by {}",
        verified.str("how")
    );
    wait_for_tiny(&mut guest)?;
    guest.passed()
}

#[test]
fn an_image_with_one_flipped_byte_goes_to_rescue() -> Result<()> {
    let (server, os) = tiny_server()?;
    let middle = std::fs::metadata(&os.squashfs)?.len() / 2;
    server.fault(OS, Fault::FlipByte(middle));
    let mut guest = pc_booting_from(&server, "one flipped byte").boot()?;
    wait_for_failure(&mut guest, "verify")?;
    let client = guest.wait_ssh(Peer::Rescue, BOOT)?;
    client.run(&["rescue", "status"])?.success()?;
    ensure!(!guest.has_event("mount.done")?, "a damaged image was mounted");
    guest.passed()
}

#[test]
fn a_signature_by_an_unknown_key_goes_to_rescue() -> Result<()> {
    let (server, os) = tiny_server()?;
    let signature = artefacts::sign(&os.squashfs, keys::UNTRUSTED)?;
    server.serve_file(SIGNATURE, &signature)?;
    let mut guest = pc_booting_from(&server, "unknown key").boot()?;
    wait_for_failure(&mut guest, "verify")?;
    guest.passed()
}

#[test]
#[ignore = "make test-all"]
fn an_image_without_a_signature_goes_to_rescue() -> Result<()> {
    let (server, _) = tiny_server()?;
    server.fault(
        SIGNATURE,
        Fault::Status {
            code: 404,
            times: None,
        },
    );
    let mut guest = pc_booting_from(&server, "no signature").boot()?;
    wait_for_failure(&mut guest, "verify")?;
    guest.passed()
}

#[test]
#[ignore = "make test-all"]
fn an_image_without_a_signature_boots_when_its_digest_is_pinned() -> Result<()> {
    let (server, os) = tiny_server()?;
    server.fault(
        SIGNATURE,
        Fault::Status {
            code: 404,
            times: None,
        },
    );
    let pin = format!("lifeboot.verify=sha256:{}", sha256(&os.squashfs)?);
    let mut guest = pc_booting_from(&server, "pinned digest").word(pin).boot()?;
    wait_for_tiny(&mut guest)?;
    guest.passed()
}

#[test]
#[ignore = "make test-all"]
fn an_image_with_another_digest_than_pinned_goes_to_rescue() -> Result<()> {
    let (server, _) = tiny_server()?;
    let pin = format!("lifeboot.verify=sha256:{}", "0".repeat(64));
    let mut guest = pc_booting_from(&server, "wrong digest").word(pin).boot()?;
    wait_for_failure(&mut guest, "verify")?;
    guest.passed()
}

#[test]
#[ignore = "make test-all"]
fn an_unverified_image_boots_only_where_the_plan_says_so() -> Result<()> {
    let (server, _) = tiny_server()?;
    server.fault(
        SIGNATURE,
        Fault::Status {
            code: 404,
            times: None,
        },
    );
    let mut guest = pc_booting_from(&server, "verify off")
        .word("lifeboot.verify=off")
        .boot()?;
    wait_for_tiny(&mut guest)?;
    ensure!(guest.has_event("verify.off")?, "nobody was warned");
    guest.passed()
}
