//! Bad links and odd servers.

use super::server::{Reply, Request, Server, good, refusing};
use super::{World, bare, content, image, off, pinned};
use lifeboot_contract::event::{Level, Stage};
use lifeboot_init::stage::fetch::ByteLen;
use std::time::Duration;

pub const LEN: usize = 3 << 20;
pub const TAG: &str = "\"one\"";

/// A server that answers like a good one but for what `spoil` does to it.
pub fn spoiled(spoil: impl Fn(&Request, Reply) -> Reply + Send + Sync + 'static) -> Server {
    let file = image(LEN);
    Server::start(move |request| spoil(request, good(request, &file, TAG)))
}

#[test]
fn a_whole_file_comes_in_one_request() {
    let server = spoiled(|_, reply| reply.header("Date", "Tue, 01 Jan 2030 00:00:00 GMT"));
    let world = World::new();
    let verified = world
        .boot(&pinned(&image(LEN)), &server.url("/os.squashfs"))
        .unwrap();
    assert_eq!(content(&verified), image(LEN));
    assert_eq!(verified.len(), LEN as u64);
    assert_eq!(server.requests().len(), 1);
    assert_eq!(server.sent(), LEN as u64);
    let done = &world.events("fetch.done")[0];
    assert_eq!(
        (done.u64("bytes"), done.u64("requests")),
        (Some(LEN as u64), Some(1))
    );
    assert_eq!(world.events("fetch.start")[0].u64("bytes"), Some(LEN as u64));
    assert_eq!(world.events("verify.done")[0].str("how"), "sha256");
    assert_eq!(
        *world.clock.dates.lock().unwrap(),
        ["Tue, 01 Jan 2030 00:00:00 GMT"]
    );
    let lines = world
        .memory
        .events()
        .iter()
        .filter(|event| event.level <= Level::Info)
        .count();
    assert!(lines <= 3, "{lines} lines on the console");
}

#[test]
fn three_cuts_cost_less_than_a_tenth_more() {
    let server = spoiled(|request, reply| {
        if request.nth < 3 {
            reply.cut(LEN / 4 - 1000)
        } else {
            reply
        }
    });
    let world = World::new();
    let verified = world.boot(&pinned(&image(LEN)), &server.url("/os")).unwrap();
    assert_eq!(content(&verified), image(LEN));
    assert!(
        server.sent() < LEN as u64 * 11 / 10,
        "{} bytes sent",
        server.sent()
    );
    assert_eq!(world.events("fetch.retry").len(), 3);
    assert_eq!(world.events("fetch.resume").len(), 3);
    assert_eq!(world.events("fetch.done")[0].u64("requests"), Some(4));
    assert!(
        server.requests()[1..]
            .iter()
            .all(|request| request.if_range.as_deref() == Some(TAG))
    );
}

#[test]
fn a_server_without_ranges_starts_over_and_the_file_is_whole() {
    let file = image(LEN);
    let server = Server::start(move |request| {
        let reply = Reply::new("200 OK").header("ETag", TAG).body(&file);
        if request.nth == 0 {
            reply.cut(LEN / 2)
        } else {
            reply
        }
    });
    let world = World::new();
    let verified = world.boot(&pinned(&image(LEN)), &server.url("/os")).unwrap();
    assert_eq!(content(&verified), image(LEN));
    // The rest, the whole with the patience that such a server needs; after that an answer that starts over is used.
    assert_eq!(server.requests().len(), 3);
    assert_eq!(world.events("fetch.restart")[0].u64("held"), Some(LEN as u64 / 2));
}

#[test]
fn a_server_without_ranges_that_always_cuts_is_given_up() {
    let file = image(LEN);
    let server = Server::start(move |_| Reply::new("200 OK").header("ETag", TAG).body(&file).cut(LEN / 2));
    let failure = World::new()
        .fetch(&off(), &server.url("/os.squashfs"))
        .err()
        .unwrap();
    let half = LEN / 2;
    assert_eq!(
        bare(&failure),
        format!("os.squashfs: got {half} of {LEN} bytes, nothing new in 4 tries")
    );
    assert!(failure.cause.unwrap().starts_with("cut at 1.6 MB"));
    // One more: the first answer that started over was not used.
    assert_eq!(server.requests().len(), 5);
}

#[test]
fn a_file_that_changes_midway_is_fetched_anew_and_never_joined() {
    let (old, new) = (image(LEN), image(LEN + 1)[1..].to_vec());
    let wanted = new.clone();
    let server = Server::start(move |request| match request.nth {
        0 => good(request, &old, TAG).cut(LEN / 2),
        _ => good(request, &new, "\"two\""),
    });
    let world = World::new();
    let verified = world.boot(&pinned(&wanted), &server.url("/os")).unwrap();
    assert_eq!(content(&verified), wanted);
    assert_eq!(
        world.events("fetch.restart")[0].str("what"),
        "the file changed on the server"
    );
}

#[test]
fn a_part_that_starts_elsewhere_is_not_joined() {
    let file = image(LEN);
    let server = Server::start(move |request| match request.from {
        None if request.nth == 0 => good(request, &file, TAG).cut(LEN / 2),
        None => good(request, &file, TAG),
        Some(from) => good(
            &Request {
                from: Some(from - 1),
                ..request.clone()
            },
            &file,
            TAG,
        ),
    });
    let world = World::new();
    let verified = world.boot(&pinned(&image(LEN)), &server.url("/os")).unwrap();
    assert_eq!(content(&verified), image(LEN));
    let ranges: Vec<bool> = server
        .requests()
        .iter()
        .map(|request| request.from.is_some())
        .collect();
    assert_eq!(
        ranges,
        [false, true, false],
        "such a server is not asked for a part again"
    );
}

#[test]
fn a_content_length_too_long_is_a_short_download() {
    let file = image(LEN);
    let server = Server::start(move |_| Reply::new("200 OK").header("Content-Length", LEN + 1).raw(&file));
    let failure = World::new().fetch(&off(), &server.url("/os")).err().unwrap();
    assert!(
        bare(&failure).starts_with(&format!("os: got {LEN} of {} bytes", LEN + 1)),
        "{failure}"
    );
}

#[test]
fn a_content_length_too_short_is_a_file_that_does_not_verify() {
    let file = image(LEN);
    let server = Server::start(move |_| Reply::new("200 OK").header("Content-Length", LEN - 1).raw(&file));
    let failure = World::new()
        .boot(&pinned(&image(LEN)), &server.url("/os"))
        .unwrap_err();
    assert_eq!(failure.stage, Stage::Verify);
}

#[test]
fn a_body_without_length_is_taken_to_its_end_and_resumed_when_cut() {
    let chunked = |file: &[u8]| {
        let mut body = Vec::new();
        for chunk in file.chunks(100_000) {
            body.extend(
                format!("{:x}\r\n", chunk.len())
                    .bytes()
                    .chain(chunk.iter().copied())
                    .chain(*b"\r\n"),
            );
        }
        [&body[..], b"0\r\n\r\n"].concat()
    };
    let file = image(LEN);
    let server = Server::start(move |request| match (request.path.as_str(), request.nth) {
        ("/cut", 1..) => good(request, &file, TAG),
        ("/cut", _) => {
            let reply = Reply::new("200 OK")
                .header("ETag", TAG)
                .header("Transfer-Encoding", "chunked");
            reply.raw(&chunked(&file)).cut(LEN / 2)
        }
        _ => Reply::new("200 OK")
            .header("Transfer-Encoding", "chunked")
            .raw(&chunked(&file)),
    });
    for path in ["/whole", "/cut"] {
        let verified = World::new()
            .boot(&pinned(&image(LEN)), &server.url(path))
            .unwrap();
        assert_eq!(content(&verified), image(LEN), "{path}");
    }
}

#[test]
fn a_missing_file_fails_at_once_and_a_busy_server_is_asked_again() {
    let server = spoiled(|request, reply| match (request.path.as_str(), request.nth) {
        ("/missing", _) => Reply::new("404 Not Found").body(b"no"),
        (_, 0..2) => Reply::new("503 Service Unavailable")
            .header("Retry-After", "0")
            .body(b"later"),
        _ => reply,
    });
    let failure = World::new().fetch(&off(), &server.url("/missing")).err().unwrap();
    assert_eq!(
        (failure.stage, bare(&failure).as_str()),
        (Stage::Fetch, "missing: 404 Not Found")
    );
    assert_eq!(server.requests().len(), 1);
    let world = World::new();
    assert!(world.boot(&pinned(&image(LEN)), &server.url("/busy")).is_ok());
    assert_eq!(
        world.events("fetch.retry")[1].str("what"),
        "503 Service Unavailable"
    );
}

#[test]
fn the_pause_before_a_busy_server_answers_is_not_counted_as_transfer() {
    let times = |busy| {
        let server = spoiled(move |request, reply| match request.nth {
            nth if nth < busy => Reply::new("503 Service Unavailable").body(b"later"),
            _ => reply,
        });
        let mut world = World::new();
        world.limits.first_pause = Duration::from_millis(400);
        world.limits.longest_pause = Duration::from_millis(400);
        assert!(world.boot(&pinned(&image(LEN)), &server.url("/os")).is_ok());
        let done = &world.events("fetch.done")[0];
        (done.u64("ms").unwrap(), done.u64("coming_ms").unwrap())
    };
    let (busy, coming) = times(1);
    assert!(busy >= coming + 299, "{coming} of {busy} ms");
    let (took, coming) = times(0);
    assert!(took >= coming, "{coming} of {took} ms");
}

#[test]
fn a_dead_server_is_given_up_after_the_tries_with_its_reason() {
    let (refused, _kept) = refusing();
    let world = World::new();
    let failure = world
        .fetch(&off(), &format!("http://{refused}/os"))
        .err()
        .unwrap();
    assert_eq!(
        failure.what,
        format!("http://{refused}/os: got 0 bytes, nothing new in 4 tries")
    );
    let cause = failure.cause.unwrap();
    assert!(
        cause.starts_with(&format!("{refused}: ")) && cause.contains("refused"),
        "{cause}"
    );
    assert_eq!(world.events("fetch.retry").len(), 3);
}

#[test]
fn redirects_are_followed_five_times_and_the_last_address_is_resumed() {
    let file = image(LEN);
    let server = Server::start(move |request| match request.path.as_str() {
        "/5" => match request.nth {
            0 => good(request, &file, TAG).cut(LEN / 2),
            _ => good(request, &file, TAG),
        },
        path => {
            let next = path[1..].parse::<u32>().unwrap() + 1;
            Reply::new("302 Found")
                .header("Location", format!("/{next}"))
                .body(b"")
        }
    });
    let verified = World::new()
        .boot(&pinned(&image(LEN)), &server.url("/0"))
        .unwrap();
    assert_eq!(content(&verified), image(LEN));
    assert_eq!(server.requests().len(), 7, "five redirects, the file, its rest");
    let mut world = World::new();
    world.limits.redirects = 4;
    let failure = world.fetch(&off(), &server.url("/0")).err().unwrap();
    assert!(
        bare(&failure).starts_with("0: more than 4 redirects: http://"),
        "{failure}"
    );
}

#[test]
fn a_redirect_loop_is_named() {
    let server = Server::start(|request| {
        let next = if request.path == "/a" { "/b" } else { "/a" };
        Reply::new("301 Moved Permanently")
            .header("Location", next)
            .body(b"")
    });
    let failure = World::new().fetch(&off(), &server.url("/a")).err().unwrap();
    let (a, b) = (server.url("/a"), server.url("/b"));
    assert_eq!(
        bare(&failure),
        format!("a: redirects in a loop: {a} -> {b} -> {a}")
    );
}

#[test]
fn an_expired_redirect_is_asked_for_again_at_its_origin() {
    let file = image(LEN);
    let server = Server::start(move |request| match (request.path.as_str(), request.nth) {
        ("/os", nth) => Reply::new("302 Found")
            .header("Location", format!("/signed-{nth}"))
            .body(b""),
        ("/signed-0", 0) => good(request, &file, TAG).cut(LEN / 2),
        ("/signed-0", _) => Reply::new("403 Forbidden").body(b""),
        _ => good(request, &file, TAG),
    });
    let verified = World::new()
        .boot(&pinned(&image(LEN)), &server.url("/os"))
        .unwrap();
    assert_eq!(content(&verified), image(LEN));
    assert!(server.sent() < LEN as u64 * 11 / 10);
}

#[test]
fn what_does_not_fit_into_memory_is_refused_with_three_numbers_before_the_body() {
    let server = spoiled(|_, reply| reply);
    let mut world = World::new();
    world.limits.reserve = ByteLen(1000);
    world.limits.available = ByteLen(LEN as u64 + 1000);
    assert!(world.fetch(&off(), &server.url("/os")).is_ok());
    world.limits.available = ByteLen(LEN as u64 + 999);
    let failure = world.fetch(&off(), &server.url("/os")).err().unwrap();
    let available = LEN + 999;
    let what = format!("os needs {LEN} bytes, 1000 are kept for what runs, {available} are available");
    assert_eq!(bare(&failure), what);
    assert!(failure.hint.is_some());
}

#[test]
fn the_memory_limit_holds_without_a_content_length() {
    let file = image(LEN);
    let server = Server::start(move |_| Reply::new("200 OK").raw(&file));
    let mut world = World::new();
    world.limits.available = ByteLen(LEN as u64);
    assert!(world.fetch(&off(), &server.url("/os")).is_ok());
    world.limits.available = ByteLen(LEN as u64 - 1);
    let failure = world.fetch(&off(), &server.url("/os")).err().unwrap();
    assert!(
        bare(&failure).ends_with(&format!("{} are available", LEN - 1)),
        "{failure}"
    );
}
