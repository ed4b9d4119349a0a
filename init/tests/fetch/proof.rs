//! What becomes `Verified` and what does not.

use super::server::{Reply, Server, good};
use super::{World, bare, content, image, off, pinned};
use lifeboot_contract::event::{Failure, Level, Stage};
use lifeboot_contract::plan::Plan;
use lifeboot_init::report::Reporter;
use lifeboot_init::stage::fetch::{self, ByteLen};
use lifeboot_init::stage::verify::{self, How};
use minisign::KeyPair;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

const LEN: usize = 1 << 20;

fn key() -> KeyPair {
    KeyPair::generate_unencrypted_keypair().unwrap()
}

fn id(key: &KeyPair) -> String {
    format!("{:016X}", u64::from_le_bytes(key.pk.keynum().try_into().unwrap()))
}

fn sign(key: &KeyPair, file: &[u8], comment: &str) -> String {
    minisign::sign(None, &key.sk, file, Some(comment), None)
        .unwrap()
        .into_string()
}

fn trusting(keys: &[&KeyPair]) -> World {
    let mut world = World::new();
    for key in keys {
        world.keys.add(&key.pk.to_box().unwrap().into_string()).unwrap();
    }
    world
}

/// Serves `file` with the text of its signature beside it.
fn serve(file: Vec<u8>, signature: Option<String>) -> Server {
    Server::start(
        move |request| match (request.path.ends_with(".minisig"), &signature) {
            (true, Some(signature)) => Reply::new("200 OK").body(signature.as_bytes()),
            (true, None) => Reply::new("404 Not Found").body(b""),
            (false, _) => good(request, &file, "\"one\""),
        },
    )
}

/// The failure, and whether the image was asked for at all.
fn refused(world: &World, server: &Server) -> (Failure, bool) {
    let failure = world
        .boot(&Plan::default(), &server.url("/os.squashfs"))
        .unwrap_err();
    let asked = server
        .requests()
        .iter()
        .any(|request| request.path == "/os.squashfs");
    (failure, asked)
}

#[test]
fn a_good_signature_is_verified_with_its_comment_and_the_memory_is_sealed() {
    let (key, other) = (key(), key());
    let comment = format!("name=debian version=13.1 length={LEN}");
    let server = serve(image(LEN), Some(sign(&key, &image(LEN), &comment)));
    let world = trusting(&[&other, &key]);
    let verified = world.boot(&Plan::default(), &server.url("/os.squashfs")).unwrap();
    assert_eq!(content(&verified), image(LEN));
    assert_eq!(
        *verified.how(),
        How::Minisign {
            key: id(&key),
            comment: comment.clone()
        }
    );
    assert_eq!(verified.comment(), Some(comment.as_str()));
    assert_eq!(
        verified.name_and_version(),
        (Some("debian".into()), Some("13.1".into()))
    );
    let done = &world.events("verify.done")[0];
    assert_eq!(
        (done.str("how"), done.str("key"), done.str("comment")),
        ("minisign", &*id(&key), &*comment)
    );
    assert!(
        server.requests()[0].path.ends_with(".minisig"),
        "the signature comes first"
    );

    let file = File::from(verified.image().as_fd().try_clone_to_owned().unwrap());
    assert!(file.write_at(b"x", 0).is_err());
    assert!(file.set_len(0).is_err());
    assert!(file.set_len(LEN as u64 + 1).is_err());
    assert!(rustix::fs::fcntl_add_seals(&file, rustix::fs::SealFlags::FUTURE_WRITE).is_err());
}

#[test]
fn one_flipped_bit_is_refused_wherever_it_is() {
    let key = key();
    let signature = sign(&key, &image(LEN), "name=os");
    for at in [0, LEN / 2, LEN - 1] {
        let mut file = image(LEN);
        file[at] ^= 1;
        let (failure, _) = refused(&trusting(&[&key]), &serve(file, Some(signature.clone())));
        assert_eq!(failure.stage, Stage::Verify);
        assert!(
            bare(&failure).contains("does not match the 1048576 bytes fetched"),
            "{failure}"
        );
    }
}

#[test]
fn a_signature_by_another_key_is_refused_before_the_image_is_asked_for() {
    let (ours, also, theirs) = (key(), key(), key());
    let server = serve(image(LEN), Some(sign(&theirs, &image(LEN), "name=os")));
    let (failure, asked) = refused(&trusting(&[&ours, &also]), &server);
    let (theirs, ours, also) = (id(&theirs), id(&ours), id(&also));
    assert_eq!(
        bare(&failure),
        format!("os.squashfs: signed by key {theirs}, the image trusts {ours}, {also}")
    );
    assert!(!asked);
}

#[test]
fn no_signature_no_key_and_no_minisign_file_are_told_apart() {
    let key = key();
    let (failure, asked) = refused(&trusting(&[&key]), &serve(image(LEN), None));
    assert_eq!(bare(&failure), "os.squashfs.minisig: 404 Not Found");
    assert!(failure.hint.is_some() && !asked);
    let server = serve(image(LEN), Some(sign(&key, &image(LEN), "")));
    let (failure, asked) = refused(&World::new(), &server);
    assert_eq!(bare(&failure), "os.squashfs: this image trusts no key");
    assert!(failure.hint.is_some() && !asked && server.requests().is_empty());
    for nonsense in [
        "<html>not found</html>".to_owned(),
        "x".repeat(9000),
        String::new(),
    ] {
        let (failure, asked) = refused(&trusting(&[&key]), &serve(image(LEN), Some(nonsense)));
        assert!(
            bare(&failure).starts_with("os.squashfs.minisig: ") && !asked,
            "{failure}"
        );
    }
}

#[test]
fn a_legacy_signature_is_refused_by_name() {
    let key = key();
    let signature = sign(&key, &image(LEN), "name=os");
    // "ED", prehashed, and "Ed", legacy, differ in the second character of the base64.
    let legacy = signature.replacen("\nRU", "\nRW", 1);
    assert_ne!(legacy, signature);
    let (failure, asked) = refused(&trusting(&[&key]), &serve(image(LEN), Some(legacy)));
    assert_eq!(
        bare(&failure),
        "os.squashfs.minisig: a legacy minisign signature (Ed)"
    );
    assert!(!asked);
}

#[test]
fn a_forged_comment_is_refused() {
    let key = key();
    let signature = sign(&key, &image(LEN), "name=os version=1");
    let forged = signature.replace("version=1", "version=2");
    let (failure, _) = refused(&trusting(&[&key]), &serve(image(LEN), Some(forged)));
    assert!(
        bare(&failure).contains("the signature does not match"),
        "{failure}"
    );
}

#[test]
fn another_length_than_signed_is_refused_before_the_body_or_after_it() {
    let key = key();
    let signature = sign(&key, &image(LEN), &format!("name=os length={}", LEN - 1));
    let (failure, _) = refused(&trusting(&[&key]), &serve(image(LEN), Some(signature.clone())));
    let (sent, signed) = (LEN, LEN - 1);
    assert_eq!(
        bare(&failure),
        format!("os.squashfs: the server has {sent} bytes, {signed} were signed")
    );
    // Without Content-Length it shows on the way.
    let file = image(LEN);
    let server = Server::start(move |request| match request.path.ends_with(".minisig") {
        true => Reply::new("200 OK").body(signature.as_bytes()),
        false => Reply::new("200 OK").raw(&file),
    });
    let (failure, _) = refused(&trusting(&[&key]), &server);
    assert_eq!(
        bare(&failure),
        format!("os.squashfs: more than the {signed} bytes announced")
    );
}

#[test]
fn the_signed_length_decides_about_memory_before_the_image_is_asked_for() {
    let key = key();
    let server = serve(
        image(LEN),
        Some(sign(&key, &image(LEN), &format!("length={LEN}"))),
    );
    let mut world = trusting(&[&key]);
    world.limits.available = ByteLen(LEN as u64 - 1);
    let (failure, asked) = refused(&world, &server);
    assert!(
        bare(&failure).starts_with("os.squashfs needs 1048576 bytes") && !asked,
        "{failure}"
    );
}

#[test]
fn a_truncated_download_is_never_verified() {
    let key = key();
    for comment in ["name=os".to_owned(), format!("length={LEN}")] {
        let signature = sign(&key, &image(LEN), &comment);
        // No length, and the end of the connection as the end of the file: nothing but the proof can tell.
        let server = Server::start(move |request| match request.path.ends_with(".minisig") {
            true => Reply::new("200 OK").body(signature.as_bytes()),
            false => Reply::new("200 OK").raw(&image(LEN)).cut(LEN - 1),
        });
        let (failure, _) = refused(&trusting(&[&key]), &server);
        assert!(bare(&failure).contains("1048575"), "{failure}");
    }
}

#[test]
fn a_new_file_with_a_new_signature_midway_is_verified() {
    let key = key();
    let (old, new) = (image(LEN), image(LEN + 7)[7..].to_vec());
    let signatures = [&old, &new].map(|file| sign(&key, file, &format!("length={LEN}")));
    let wanted = new.clone();
    let server = Server::start(
        move |request| match (request.path.ends_with(".minisig"), request.nth) {
            (true, nth) => Reply::new("200 OK").body(signatures[nth.min(1)].as_bytes()),
            (false, 0) => good(request, &old, "\"one\"").cut(LEN / 2),
            (false, _) => good(request, &new, "\"two\""),
        },
    );
    let verified = trusting(&[&key])
        .boot(&Plan::default(), &server.url("/os"))
        .unwrap();
    assert_eq!(content(&verified), wanted);
}

#[test]
fn a_pinned_digest_verifies_and_another_one_does_not() {
    let server = serve(image(LEN), None);
    let verified = World::new()
        .boot(&pinned(&image(LEN)), &server.url("/os"))
        .unwrap();
    assert!(matches!(verified.how(), How::Sha256(hex) if hex.len() == 64));
    let failure = World::new()
        .boot(&pinned(b"else"), &server.url("/os"))
        .unwrap_err();
    assert!(bare(&failure).starts_with("os: SHA-256 is "), "{failure}");
    assert!(
        server.requests().iter().all(|request| request.path == "/os"),
        "no signature is asked for"
    );
}

#[test]
fn off_runs_unverified_and_says_so() {
    let world = World::new();
    let server = serve(image(LEN), None);
    let verified = world.boot(&off(), &server.url("/os")).unwrap();
    assert_eq!(*verified.how(), How::Off);
    let said = &world.events("verify.off")[0];
    assert_eq!((said.level, said.str("url")), (Level::Warn, &*server.url("/os")));
    assert!(said.text.as_deref().unwrap().starts_with("NOT VERIFIED"));
}

#[test]
fn what_was_fetched_under_another_plan_is_not_verified() {
    let server = serve(image(LEN), None);
    let world = World::new();
    let reporter = Reporter::new(world.memory.clone());
    for plan in [Plan::default(), pinned(&image(LEN))] {
        let fetched = world.fetch(&off(), &server.url("/os")).unwrap();
        assert!(verify::run(&plan, fetched, &reporter).is_err());
    }
}

#[test]
fn a_file_appears_only_when_it_is_good() {
    let dir = std::env::temp_dir().join(format!("lifeboot-fetch-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join("os.squashfs");
    let server = serve(image(LEN), None);
    let world = World::new();
    let save = |plan: &Plan| {
        let reporter = Reporter::new(world.memory.clone());
        fetch::to_file(
            plan,
            &server.url("/os"),
            &path,
            &world.keys,
            &reporter,
            &world.limits,
        )
    };
    assert!(save(&pinned(b"else")).is_err());
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0);
    assert_eq!(save(&pinned(&image(LEN))).unwrap().len, LEN as u64);
    assert_eq!(std::fs::read(&path).unwrap(), image(LEN));
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 1);
    std::fs::remove_dir_all(&dir).unwrap();
}

/// A plan that takes this and nothing older.
fn at_least(pins: &str) -> Plan {
    let words: Vec<String> = pins
        .split(' ')
        .map(|pin| format!("lifeboot.min-version={pin}"))
        .collect();
    Plan::make(&words.join(" "), &Default::default(), Default::default(), "")
}

#[test]
fn an_older_version_than_the_plan_wants_is_refused_before_it_is_asked_for_and_the_same_version_is_taken() {
    let key = key();
    let server = serve(
        image(LEN),
        Some(sign(&key, &image(LEN), "name=debian version=13.1")),
    );
    let url = server.url("/os.squashfs");
    let world = trusting(&[&key]);
    for taken in ["debian:13.1", "debian:12.9", "tiny:99 debian:13"] {
        world.boot(&at_least(taken), &url).unwrap();
    }
    let before = server.requests().len();
    let failure = world.boot(&at_least("debian:13.2"), &url).unwrap_err();
    assert_eq!(failure.stage, Stage::Verify);
    assert_eq!(bare(&failure), "os.squashfs: debian 13.1 is older than 13.2");
    let after = &server.requests()[before..];
    assert!(after.iter().all(|request| request.path.ends_with(".minisig")));
}

#[test]
fn another_name_or_no_version_is_no_way_round_a_least_version() {
    let key = key();
    for (comment, wanted) in [
        ("name=other version=99", "signed as 'other'"),
        ("version=99", "signed without a name"),
        ("name=debian", "signed without a version"),
        ("name=debian version=sid", "cannot be compared"),
        ("name=debian version=99 version=1", "debian 1 is older than 13"),
    ] {
        let server = serve(image(LEN), Some(sign(&key, &image(LEN), comment)));
        let failure = trusting(&[&key])
            .boot(&at_least("debian:13"), &server.url("/os.squashfs"))
            .unwrap_err();
        assert!(bare(&failure).contains(wanted), "{comment}: {failure}");
    }
}

#[test]
fn a_comment_that_was_changed_after_signing_does_not_make_an_image_newer() {
    let key = key();
    let signature = sign(&key, &image(LEN), "name=debian version=12");
    let forged = signature.replace("version=12", "version=14");
    let server = serve(image(LEN), Some(forged));
    let failure = trusting(&[&key])
        .boot(&at_least("debian:13"), &server.url("/os.squashfs"))
        .unwrap_err();
    assert_eq!(failure.stage, Stage::Verify);
    assert!(bare(&failure).contains("does not match"), "{failure}");
}
