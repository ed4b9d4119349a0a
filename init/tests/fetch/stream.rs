//! What goes on at once, without a file to look at again.

use super::server::{Reply, Server, good};
use super::{World, image, off, pinned};
use lifeboot_contract::event::Failure;
use lifeboot_contract::plan::Plan;
use lifeboot_init::report::Reporter;
use lifeboot_init::stage::fetch::{self, Saved, Sink};
use lifeboot_init::stage::verify::How;
use std::io;

const LEN: usize = 3 << 20;

/// Keeps what it gets, as far as there is room.
#[derive(Default)]
struct Kept {
    bytes: Vec<u8>,
    begun: Vec<Option<u64>>,
    room: Option<usize>,
}

impl Sink for Kept {
    fn begin(&mut self, total: Option<u64>) -> io::Result<()> {
        self.begun.push(total);
        self.bytes.clear();
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.bytes.extend_from_slice(bytes);
        match self.room.is_some_and(|room| self.bytes.len() > room) {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => Ok(()),
        }
    }
}

fn fetch(plan: &Plan, server: &Server, kept: &mut Kept) -> Result<Saved, Failure> {
    let world = World::new();
    let reporter = Reporter::new(world.memory.clone());
    fetch::to_sink(
        plan,
        &server.url("/a.img"),
        kept,
        &world.keys,
        &reporter,
        &world.limits,
    )
}

/// Serves `file`, the first three answers cut after a megabyte.
fn cutting(file: &[u8], ranges: bool) -> Server {
    let file = file.to_vec();
    Server::start(move |request| {
        let mut request = request.clone();
        request.from = request.from.filter(|_| ranges);
        let whole = good(&request, &file, "\"one\"");
        if request.nth < 3 {
            whole.cut(1 << 20)
        } else {
            whole
        }
    })
}

#[test]
fn a_cut_stream_is_resumed_and_given_once() {
    let file = image(LEN + 5);
    let server = cutting(&file, true);
    let mut kept = Kept::default();
    let saved = fetch(&pinned(&file), &server, &mut kept).unwrap();
    assert_eq!(saved.len, file.len() as u64);
    assert!(matches!(saved.how, How::Sha256(_)));
    assert!(kept.bytes == file);
    assert_eq!(kept.begun, [Some(file.len() as u64)]);
}

#[test]
fn a_cut_stream_without_ranges_begins_again_and_says_so() {
    let file = image(LEN);
    let server = cutting(&file, false);
    let mut kept = Kept::default();
    fetch(&pinned(&file), &server, &mut kept).unwrap();
    assert!(kept.bytes == file);
    assert_eq!(kept.begun.len(), 3);
}

#[test]
fn a_file_that_never_comes_whole_is_not_begun_for_ever() {
    let file = image(LEN);
    // Each answer is of another file, and each is cut.
    let server = Server::start(move |request| {
        good(request, &file, &format!("\"{}\"", request.nth)).cut((1 << 20) + request.nth)
    });
    let mut kept = Kept::default();
    let failure = fetch(&off(), &server, &mut kept).unwrap_err();
    assert!(kept.begun.len() <= 6, "{}", kept.begun.len());
    assert!(failure.what.contains("a.img"), "{failure}");
}

#[test]
fn what_was_given_and_is_not_what_was_wanted_is_a_failure() {
    let file = image(LEN);
    let server = cutting(&file, true);
    let mut kept = Kept::default();
    let failure = fetch(&pinned(b"another"), &server, &mut kept).unwrap_err();
    assert!(kept.bytes == file, "it is only known at the end");
    assert!(failure.what.contains("SHA-256"), "{failure}");
}

#[test]
fn a_sink_that_is_full_ends_the_fetch() {
    let file = image(LEN);
    let served = file.clone();
    let server = Server::start(move |request| good(request, &served, "\"one\""));
    let full = |room| Kept {
        room: Some(room),
        ..Kept::default()
    };
    assert!(fetch(&off(), &server, &mut full(file.len())).is_ok());
    let failure = fetch(&off(), &server, &mut full(file.len() - 1)).unwrap_err();
    assert!(failure.what.contains("writing"), "{failure}");
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn a_missing_signature_is_noticed_before_anything_is_given() {
    let file = image(100);
    let mut world = World::new();
    let key = minisign::KeyPair::generate_unencrypted_keypair().unwrap();
    world.keys.add(&key.pk.to_box().unwrap().into_string()).unwrap();
    let server = Server::start(move |request| match request.path.ends_with(".minisig") {
        true => Reply::new("404 Not Found").body(b""),
        false => good(request, &file, "\"one\""),
    });
    let reporter = Reporter::new(world.memory.clone());
    let mut kept = Kept::default();
    let url = server.url("/a.img");
    let fetched = fetch::to_sink(
        &Plan::default(),
        &url,
        &mut kept,
        &world.keys,
        &reporter,
        &world.limits,
    );
    assert!(fetched.is_err());
    assert!(kept.begun.is_empty());
}

#[test]
fn a_reader_is_checked_like_a_server() {
    let file = image(LEN);
    let keys = World::new().keys;
    let give = |plan: &Plan, total: Option<u64>, kept: &mut Kept| {
        fetch::from_reader(plan, ("a.img", total), &mut &file[..], None, &keys, kept)
    };
    let len = file.len() as u64;
    let mut kept = Kept::default();
    assert_eq!(give(&pinned(&file), Some(len), &mut kept).unwrap().len, len);
    assert!(kept.bytes == file);
    assert!(give(&pinned(b"another"), Some(len), &mut kept).is_err());
    assert_eq!(give(&off(), None, &mut kept).unwrap().how, How::Off);
    let short = give(&off(), Some(len + 1), &mut kept).unwrap_err();
    assert_eq!(short.what, "a.img: got 3145728 of 3145729 bytes");
    let unsigned = give(&Plan::default(), Some(len), &mut Kept::default()).unwrap_err();
    assert!(unsigned.what.contains("trusts no key"), "{unsigned}");
}
