//! Connections on which nothing comes, or little.

use super::link::{LEN, TAG, spoiled};
use super::server::{Reply, Server};
use super::{World, bare, content, image, pinned};
use lifeboot_contract::event::{Event, Failure};
use std::time::Duration;

#[test]
fn a_silent_connection_is_left_and_resumed() {
    let server = spoiled(|request, reply| {
        if request.nth == 0 {
            reply.stall(LEN / 2)
        } else {
            reply
        }
    });
    let mut world = World::new();
    world.limits.stall = Duration::from_secs(1);
    let verified = world.boot(&pinned(&image(LEN)), &server.url("/os")).unwrap();
    assert_eq!(content(&verified), image(LEN));
    assert!(
        world.events("fetch.retry")[0]
            .str("what")
            .ends_with("no byte for 1 s")
    );
    // However often a server with much to do is taken for another silent one: what came is not asked for again.
    let rest = &server.requests()[1..];
    assert!(!rest.is_empty());
    assert!(
        rest.iter().all(|request| request.from >= Some(LEN / 2)),
        "{rest:?}"
    );
}

#[test]
fn a_slow_connection_that_is_never_silent_is_left_alone() {
    let server = spoiled(|_, reply| reply.slowly(LEN / 10, Duration::from_millis(300)));
    let mut world = World::new();
    world.limits.stall = Duration::from_secs(2);
    assert!(world.fetch(&pinned(&image(LEN)), &server.url("/os")).is_ok());
    let done = &world.events("fetch.done")[0];
    assert!(done.u64("ms") > Some(2500), "{done:?}");
    assert_eq!(done.u64("requests"), Some(1));
}

/// What comes of a server that falls silent for two seconds in the middle of each answer, where half a second counts as dead.
fn after_silences(without_resuming: Duration) -> Result<Vec<Event>, Failure> {
    let file = image(LEN);
    let server = Server::start(move |_| {
        let reply = Reply::new("200 OK").header("ETag", TAG).body(&file);
        reply.slowly(LEN / 2, Duration::from_secs(2))
    });
    let mut world = World::new();
    world.limits.stall = Duration::from_millis(500);
    world.limits.stall_without_resuming = without_resuming;
    let fetched = world.fetch(&pinned(&image(LEN)), &server.url("/os"))?;
    assert_eq!(fetched.len(), LEN as u64);
    Ok(world.events("fetch.retry"))
}

#[test]
fn a_server_that_does_not_resume_may_fall_silent_for_longer() {
    let retries = after_silences(Duration::from_secs(60)).unwrap();
    // Before the first byte a server with much to do may be taken for a silent one.
    let left = retries
        .iter()
        .filter(|event| event.u64("at") == Some(LEN as u64 / 2));
    assert_eq!(left.count(), 1, "{retries:?}");
    let failure = after_silences(Duration::from_millis(500)).err().unwrap();
    assert!(bare(&failure).contains("nothing new in"), "{failure}");
}
