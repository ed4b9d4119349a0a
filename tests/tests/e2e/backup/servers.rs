//! Servers that cut, refuse and lie.

use super::{MIB, PATH, World, ended, report};
use anyhow::{Context, Result, ensure};
use lifeboot_tests::fault_server::{Fault, FaultServer};
use lifeboot_tests::fixtures::keys;

fn cuts(times: u32) -> Fault {
    Fault::CutAfter {
        bytes: MIB as u64 / 2,
        times,
    }
}

#[test]
fn an_upload_that_is_cut_is_begun_again_and_a_post_is_not() -> Result<()> {
    let world = World::new("cut")?;
    let (guest, client) = world.boot("backup over a bad link")?;
    for (words, times, status) in [
        (&["--verify", "--json"][..], 2, 0),
        (&["--post"], 1, 1),
        (&[], 3, 1),
    ] {
        world.server.serve_bytes(PATH, b"old".to_vec());
        world.server.heal(PATH);
        world.server.fault(PATH, cuts(times));
        let before = world.server.stats(PATH);
        let outcome = world.send(&client, words)?;
        ended(&outcome, status)?;
        let after = world.server.stats(PATH);
        let kept = after.uploads - before.uploads;
        ensure!(
            kept == u64::from(status == 0),
            "{words:?}: {kept} uploads were kept"
        );
        if status == 0 {
            ensure!(report(&outcome)?["verified"] == true, "{}", outcome.text());
            ensure!(after.requests - before.requests >= 3, "{after:?}");
        } else {
            ensure!(outcome.errors().contains("cut after"), "{}", outcome.errors());
            ensure!(
                world.server.uploaded(PATH).as_deref() == Some(b"old"),
                "what was there is gone"
            );
        }
    }
    guest.passed()
}

#[test]
#[ignore = "make test-all"]
fn a_server_that_refuses_is_named_with_its_status_and_one_that_lies_is_found_out() -> Result<()> {
    let world = World::new("lies")?;
    let (guest, client) = world.boot("backup to lying servers")?;
    for (fault, words, says) in [
        (
            Fault::Status {
                code: 413,
                times: None,
            },
            &[][..],
            "413 Content Too Large, after 0 bytes",
        ),
        (Fault::AnswerAtEnd(500), &[], "500 Internal Server Error"),
        (
            Fault::AnswerAfter {
                bytes: 300_000,
                code: 200,
            },
            &[],
            "not believed",
        ),
        (
            Fault::AnswerAfter {
                bytes: 300_000,
                code: 413,
            },
            &[],
            "413 Content Too Large",
        ),
        (Fault::KeepOnly(400_000), &["--verify"], "does not read back"),
    ] {
        world.server.heal(PATH);
        world.server.fault(PATH, fault.clone());
        let outcome = world.send(&client, words)?;
        ended(&outcome, 1)?;
        ensure!(
            outcome.errors().contains(says),
            "{fault:?}: it says {}",
            outcome.errors()
        );
    }
    // Over TLS all is the same, and what is said too early is noticed there too.
    let https = FaultServer::start_https(&keys::tls(keys::KNOWN_AUTHORITY)?)?;
    let send = |words: &[&str]| {
        client.run(&[&["rescue", "backup"], words, &["/dev/vda", &https.url(PATH)]].concat())
    };
    ended(&send(&["--verify"])?, 0)?;
    ended(&send(&["--verify", "--raw"])?, 0)?;
    let raw = https.uploaded(PATH).context("nothing was uploaded")?;
    ensure!(raw.len() == 90 * MIB, "{} bytes", raw.len());
    https.fault(
        PATH,
        Fault::AnswerAfter {
            bytes: 300_000,
            code: 200,
        },
    );
    let outcome = send(&["--raw"])?;
    ended(&outcome, 1)?;
    ensure!(outcome.errors().contains("not believed"), "{}", outcome.errors());
    // The digest is refused though the image was taken.
    world.server.heal(PATH);
    let digest = format!("{PATH}.sha256");
    world.server.fault(
        &digest,
        Fault::Status {
            code: 403,
            times: None,
        },
    );
    let outcome = world.send(&client, &[])?;
    ended(&outcome, 1)?;
    ensure!(
        outcome.errors().contains("digest file is not"),
        "{}",
        outcome.errors()
    );
    guest.passed()
}
