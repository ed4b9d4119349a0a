//! The client under a clock of the test's own, and a server that is as good or bad as the test wants.

use super::dhcp::{Action, Client, Random};
use super::message::{Answer, Kind, Outgoing, Reply};
use std::net::Ipv4Addr;
use std::time::Duration;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];
const SERVER: [u8; 4] = [10, 0, 0, 1];
const ADDRESS: [u8; 4] = [10, 0, 0, 50];
const LEASE: u32 = 3600;

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn client() -> Client {
    Client::new(MAC, None, 42)
}

/// An answer to `xid`.
fn answer(kind: u8, xid: u32, address: [u8; 4], server: [u8; 4]) -> Reply {
    let mut bytes = vec![0; 240];
    bytes[..3].copy_from_slice(&[2, 1, 6]);
    bytes[4..8].copy_from_slice(&xid.to_be_bytes());
    bytes[16..20].copy_from_slice(&address);
    bytes[28..34].copy_from_slice(&MAC);
    bytes[236..].copy_from_slice(&[99, 130, 83, 99]);
    bytes.extend([53, 1, kind, 54, 4]);
    bytes.extend(server);
    bytes.extend([1, 4, 255, 255, 255, 0, 51, 4]);
    bytes.extend(LEASE.to_be_bytes());
    bytes.push(255);
    Reply::decode(&bytes).unwrap()
}

fn offer(xid: u32) -> Reply {
    answer(2, xid, ADDRESS, SERVER)
}

fn ack(xid: u32) -> Reply {
    answer(5, xid, ADDRESS, SERVER)
}

fn nak(xid: u32) -> Reply {
    answer(6, xid, [0; 4], SERVER)
}

/// The one message among `actions`.
fn sent(actions: &[Action]) -> &Outgoing {
    match actions {
        [Action::Broadcast { message, .. } | Action::Unicast { message, .. }] => message,
        other => panic!("not one message: {other:?}"),
    }
}

/// A client that got its lease at second 100.
fn bound() -> Client {
    let mut client = client();
    let xid = sent(&client.carrier(secs(100), true)).xid;
    client.message(secs(100), &offer(xid));
    let actions = client.message(secs(100), &ack(xid));
    assert!(matches!(actions[..], [Action::Bound(_)]), "{actions:?}");
    client
}

#[test]
fn nothing_is_sent_without_a_cable() {
    let mut client = client();
    assert_eq!(client.deadline(), None);
    assert!(client.timeout(secs(1000)).is_empty());
    assert!(client.carrier(secs(1000), false).is_empty());
    assert_eq!(sent(&client.carrier(secs(1000), true)).kind, Kind::Discover);
}

#[test]
fn discover_offer_request_ack() {
    let mut client = client();
    let discover = sent(&client.carrier(secs(1), true)).clone();
    assert_eq!(
        (discover.kind, discover.requested, discover.server),
        (Kind::Discover, None, None)
    );
    let request = sent(&client.message(secs(2), &offer(discover.xid))).clone();
    assert_eq!((request.kind, request.xid), (Kind::Request, discover.xid));
    assert_eq!(
        (request.requested, request.server),
        (Some(ADDRESS.into()), Some(SERVER.into()))
    );
    assert_eq!(request.ciaddr, Ipv4Addr::UNSPECIFIED);
    let actions = client.message(secs(3), &ack(discover.xid));
    assert!(matches!(&actions[..], [Action::Bound(lease)] if lease.address == Ipv4Addr::from(ADDRESS)));
    assert_eq!(
        client.deadline(),
        Some(secs(2 + u64::from(LEASE) / 2)),
        "T1 counts from the request"
    );
}

#[test]
fn pauses_grow_with_jitter_up_to_a_limit_and_the_broadcast_flag_is_tried() {
    let mut client = client();
    let mut now = secs(0);
    let mut flags = vec![sent(&client.carrier(now, true)).answer];
    for base in [1000, 2000, 4000, 8000, 16000, 32000, 32000] {
        let deadline = client.deadline().unwrap();
        let pause = (deadline - now).as_millis();
        assert!(
            (base * 3 / 4..base * 5 / 4).contains(&pause),
            "{pause} for {base}"
        );
        assert!(client.timeout(deadline - Duration::from_millis(1)).is_empty());
        now = deadline;
        flags.push(sent(&client.timeout(now)).answer);
    }
    assert_eq!(flags[..2], [Answer::Unicast, Answer::Unicast]);
    assert!(flags[2..].contains(&Answer::Broadcast) && flags[2..].contains(&Answer::Unicast));
    assert_eq!(client.discovers(), 8);
}

#[test]
fn an_offer_whose_server_falls_silent_is_dropped_and_the_search_starts_over() {
    let mut client = client();
    let xid = sent(&client.carrier(secs(0), true)).xid;
    client.message(secs(0), &offer(xid));
    let mut kinds = Vec::new();
    for _ in 0..4 {
        let deadline = client.deadline().unwrap();
        let actions = client.timeout(deadline);
        kinds.push((sent(&actions).kind, sent(&actions).xid == xid));
    }
    assert_eq!(kinds[..3], [(Kind::Request, true); 3]);
    assert_eq!(kinds[3], (Kind::Discover, false));
}

#[test]
fn answers_to_others_from_others_or_out_of_turn_are_nothing() {
    let mut client = client();
    let xid = sent(&client.carrier(secs(0), true)).xid;
    let mut foreign = offer(xid);
    foreign.mac = [9; 6];
    for reply in [
        offer(xid ^ 1),
        foreign,
        ack(xid),
        nak(xid),
        answer(2, xid, [0; 4], SERVER),
    ] {
        assert!(client.message(secs(0), &reply).is_empty(), "{reply:?}");
    }
    assert_eq!(sent(&client.message(secs(0), &offer(xid))).kind, Kind::Request);
    for reply in [
        offer(xid),
        answer(5, xid, ADDRESS, [10, 0, 0, 66]),
        answer(6, xid, [0; 4], [10, 0, 0, 66]),
    ] {
        assert!(client.message(secs(0), &reply).is_empty(), "{reply:?}");
    }
    assert!(matches!(
        client.message(secs(0), &ack(xid))[..],
        [Action::Bound(_)]
    ));
}

#[test]
fn a_refused_request_starts_over_but_not_in_a_tight_circle() {
    let mut client = client();
    let mut now = secs(0);
    let mut xid = sent(&client.carrier(now, true)).xid;
    for _ in 0..5 {
        assert_eq!(sent(&client.message(now, &offer(xid))).kind, Kind::Request);
        assert!(client.message(now, &nak(xid)).is_empty());
        let deadline = client.deadline().unwrap();
        assert!(deadline - now >= secs(1));
        now = deadline;
        let actions = client.timeout(now);
        assert_eq!(sent(&actions).kind, Kind::Discover);
        xid = sent(&actions).xid;
    }
}

#[test]
fn a_lease_is_renewed_by_its_server_at_t1() {
    let mut client = bound();
    let t1 = client.deadline().unwrap();
    assert_eq!(t1, secs(100 + 1800));
    let actions = client.timeout(t1);
    assert!(matches!(actions[..], [Action::Unicast { to, .. }] if to == Ipv4Addr::from(SERVER)));
    let request = sent(&actions).clone();
    assert_eq!(
        (request.ciaddr, request.requested, request.server),
        (ADDRESS.into(), None, None)
    );
    assert!(matches!(
        client.message(t1, &ack(request.xid))[..],
        [Action::Renewed(_)]
    ));
    assert_eq!(
        client.deadline(),
        Some(t1 + secs(1800)),
        "the next one counts from this one"
    );
}

#[test]
fn without_renewal_it_is_rebound_by_anybody_and_ends_when_nobody_answers() {
    let mut client = bound();
    let (t2, end) = (secs(100 + 3150), secs(100 + 3600));
    let mut log = Vec::new();
    while let Some(deadline) = client.deadline() {
        let actions = client.timeout(deadline);
        log.extend(actions.into_iter().map(|action| (deadline, action)));
        assert!(log.len() < 100);
    }
    let (last, before) = log.split_last().unwrap();
    assert!(
        matches!(last, (at, Action::Lost { .. }) if *at == end),
        "{last:?}"
    );
    for (at, action) in before {
        let unicast = matches!(action, Action::Unicast { .. });
        assert_eq!(unicast, *at < t2, "at {at:?}: {action:?}");
    }
    for pair in before.windows(2) {
        assert!(pair[1].0 - pair[0].0 >= secs(60) || pair[1].0 >= t2);
    }
    assert!(client.timeout(end + secs(1000)).is_empty() && client.carrier(end, true).is_empty());
}

#[test]
fn rebinding_takes_another_server() {
    let mut client = bound();
    let mut actions = Vec::new();
    while !matches!(actions[..], [Action::Broadcast { .. }]) {
        let deadline = client.deadline().unwrap();
        actions = client.timeout(deadline);
    }
    let from = Ipv4Addr::from(ADDRESS);
    assert!(matches!(actions[..], [Action::Broadcast { from: sender, .. }] if sender == from));
    let other = answer(5, sent(&actions).xid, ADDRESS, [10, 0, 0, 2]);
    assert!(matches!(
        client.message(secs(3400), &other)[..],
        [Action::Renewed(_)]
    ));
}

#[test]
fn a_renewal_for_another_address_is_nothing_and_a_refusal_ends_the_lease() {
    let mut client = bound();
    let t1 = client.deadline().unwrap();
    let xid = sent(&client.timeout(t1)).xid;
    assert!(
        client
            .message(t1, &answer(5, xid, [10, 0, 0, 51], SERVER))
            .is_empty()
    );
    assert!(matches!(client.message(t1, &nak(xid))[..], [Action::Lost { .. }]));
    assert_eq!(client.deadline(), None);
}

#[test]
fn when_the_cable_was_out_the_lease_is_confirmed_before_all_else() {
    let mut client = bound();
    assert!(client.carrier(secs(200), false).is_empty());
    let actions = client.carrier(secs(300), true);
    let request = sent(&actions).clone();
    assert!(matches!(
        actions[..],
        [Action::Broadcast {
            from: Ipv4Addr::UNSPECIFIED,
            ..
        }]
    ));
    // RFC 2131, table 4: INIT-REBOOT.
    assert_eq!(
        (request.kind, request.ciaddr),
        (Kind::Request, Ipv4Addr::UNSPECIFIED)
    );
    assert_eq!((request.requested, request.server), (Some(ADDRESS.into()), None));
    let mut refused = bound();
    refused.carrier(secs(200), false);
    let xid = sent(&refused.carrier(secs(300), true)).xid;
    assert!(matches!(
        refused.message(secs(300), &nak(xid))[..],
        [Action::Lost { .. }]
    ));
    assert!(matches!(
        client.message(secs(301), &ack(request.xid))[..],
        [Action::Renewed(_)]
    ));
    assert_eq!(client.deadline(), Some(secs(300 + 1800)));
}

#[test]
fn unconfirmed_the_lease_is_used_to_its_old_times() {
    let mut client = bound();
    client.carrier(secs(200), false);
    client.carrier(secs(300), true);
    let mut requests = 0;
    loop {
        let deadline = client.deadline().unwrap();
        let actions = client.timeout(deadline);
        if actions.is_empty() {
            break;
        }
        requests += 1;
    }
    assert_eq!((requests, client.deadline()), (3, Some(secs(1900))));
}

#[test]
fn a_lease_that_runs_out_without_a_cable_is_lost() {
    let mut client = bound();
    client.carrier(secs(200), false);
    assert_eq!(client.deadline(), Some(secs(3700)));
    assert!(matches!(client.timeout(secs(3700))[..], [Action::Lost { .. }]));
}

#[test]
fn a_lease_renews_for_a_year() {
    let mut client = bound();
    let mut renewals = 0;
    let mut now = secs(100);
    while now < secs(365 * 24 * 3600) {
        now = client.deadline().unwrap();
        let actions = client.timeout(now);
        let xid = sent(&actions).xid;
        assert!(matches!(client.message(now, &ack(xid))[..], [Action::Renewed(_)]));
        renewals += 1;
    }
    assert_eq!(renewals, 365 * 24 * 2);
}

/// Any order of events: no panic, no flood, no address without an acknowledgement.
#[test]
fn whatever_happens_the_client_neither_panics_nor_floods() {
    let mut random = Random(7);
    for seed in 0..300 {
        let mut client = Client::new(MAC, None, seed);
        let (mut now, mut xid, mut messages) = (secs(0), 0, 0u32);
        for _ in 0..300 {
            let actions = match random.next() % 8 {
                0 => client.carrier(now, !random.next().is_multiple_of(3)),
                1 => client.message(now, &offer(xid)),
                2 => client.message(now, &ack(xid)),
                3 => client.message(now, &nak(xid)),
                4 => client.message(now, &answer(5, xid, [10, 0, 0, 51], [10, 0, 0, 2])),
                _ => {
                    now = client.deadline().unwrap_or(now + secs(1));
                    client.timeout(now)
                }
            };
            for action in &actions {
                if let Action::Broadcast { message, .. } | Action::Unicast { message, .. } = action {
                    xid = message.xid;
                    messages += 1;
                }
            }
            assert!(client.deadline().is_none_or(|deadline| deadline >= now));
        }
        assert!(messages <= 300);
    }
}
