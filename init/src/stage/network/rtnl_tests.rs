//! Messages as the kernel forms them, put together by hand; and damaged ones.

use super::dhcp::Random;
use super::rtnl::*;
use std::net::IpAddr;

/// The body of a link message: type, flags, attributes.
fn link_body(kind: u16, flags: u32, attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut body = ifinfomsg(4, flags, 0);
    body[2..4].copy_from_slice(&kind.to_ne_bytes());
    body.extend(
        attributes
            .iter()
            .flat_map(|(kind, value)| attribute(*kind, value)),
    );
    body
}

/// The body of an address message.
fn address_body(family: u8, flags: u8, attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut body = vec![family, 24, flags, 0];
    body.extend(4u32.to_ne_bytes());
    body.extend(
        attributes
            .iter()
            .flat_map(|(kind, value)| attribute(*kind, value)),
    );
    body
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn requests_read_back_with_their_number_and_padding() {
    let bytes = Request::new(NEWADDR, 5, &[2, 24, 0, 0, 4, 0, 0, 0])
        .with(2, &[10, 0, 0, 5])
        .with(3, b"abc\0x")
        .finish(77);
    assert_eq!(bytes.len() % 4, 0);
    assert_eq!(
        u32::from_ne_bytes(bytes[..4].try_into().unwrap()) as usize,
        bytes.len()
    );
    let two = [bytes.clone(), bytes].concat();
    assert_eq!(messages(&two).len(), 2);
    assert!(matches!(messages(&two)[1], Message::Data { kind: NEWADDR, body } if body.len() == 8 + 8 + 12));
}

#[test]
fn answers_carry_their_errno() {
    let mut error = Request::new(2, 0, &(-17i32).to_ne_bytes()).finish(9);
    error.extend(Request::new(3, 0, &[0; 4]).finish(9));
    let [Message::Ack { seq: 9, errno: 17 }, Message::Done] = messages(&error)[..] else {
        panic!("not an error and the end");
    };
}

#[test]
fn a_link_has_a_name_a_kind_an_address_and_a_carrier() {
    let info = attribute(1, b"veth\0");
    let body = link_body(
        1,
        0x1_0041,
        &[
            (3, b"eth0\0"),
            (1, &[2, 0, 0, 0, 0, 1]),
            (18, &info),
            (35, &7u32.to_ne_bytes()),
        ],
    );
    let Some(News::Link(link)) = news(NEWLINK, &body) else {
        panic!("no link");
    };
    assert_eq!(
        (link.index, link.name.as_str(), link.kind.as_deref()),
        (4, "eth0", Some("veth"))
    );
    assert_eq!(
        (link.mac, link.medium, link.up, link.carrier),
        (Some([2, 0, 0, 0, 0, 1]), Medium::Ethernet, true, true)
    );
    assert_eq!(link.changes, 7);
    // Up, and the driver has a carrier, but the kernel does not send yet (IFF_RUNNING is missing).
    let early = link_body(1, 0x1_0001, &[(3, b"eth0\0")]);
    assert!(
        matches!(news(NEWLINK, &early), Some(News::Link(link)) if link.up && !link.carrier && link.mac.is_none())
    );
    assert_eq!(news(DELLINK, &body), Some(News::LinkGone(4)));
    let mut bridge_port = body;
    bridge_port[0] = 7;
    assert_eq!(news(NEWLINK, &bridge_port), None);
}

#[test]
fn an_address_counts_when_nobody_else_has_it() {
    let local = [10, 0, 0, 5];
    let far = [10, 0, 0, 6];
    let body = address_body(2, 0, &[(1, &far), (2, &local)]);
    assert_eq!(
        news(NEWADDR, &body),
        Some(News::Address {
            index: 4,
            address: ip("10.0.0.5"),
            usable: true
        })
    );
    assert_eq!(
        news(DELADDR, &body),
        Some(News::AddressGone {
            index: 4,
            address: ip("10.0.0.5")
        })
    );
    let v6 = u128::from("2001:db8::5".parse::<std::net::Ipv6Addr>().unwrap()).to_be_bytes();
    for (flags, usable) in [(0u32, true), (0x40, false), (0x08, false), (0x80, true)] {
        let body = address_body(10, 0, &[(1, &v6), (8, &flags.to_ne_bytes())]);
        assert_eq!(
            news(NEWADDR, &body),
            Some(News::Address {
                index: 4,
                address: ip("2001:db8::5"),
                usable
            })
        );
    }
}

#[test]
fn only_an_ipv6_default_route_is_a_router() {
    let route = |family, length, table, kind| {
        let mut body = vec![family, length, 0, 0, table, 9, 0, kind, 0, 0, 0, 0];
        body.extend(attribute(4, &4u32.to_ne_bytes()));
        body
    };
    assert_eq!(
        news(NEWROUTE, &route(10, 0, 254, 1)),
        Some(News::Router6 { index: 4 })
    );
    for other in [
        route(2, 0, 254, 1),
        route(10, 64, 254, 1),
        route(10, 0, 255, 1),
        route(10, 0, 254, 7),
    ] {
        assert_eq!(news(NEWROUTE, &other), None);
    }
}

#[test]
fn name_servers_of_a_router_advertisement() {
    let server = u128::from("2001:db8::53".parse::<std::net::Ipv6Addr>().unwrap()).to_be_bytes();
    let option = |lifetime: u32| [&[25, 3, 0, 0][..], &lifetime.to_be_bytes(), &server].concat();
    let body = |options: &[u8]| {
        let mut body = vec![10, 0];
        body.extend((options.len() as u16).to_ne_bytes());
        body.extend(4u32.to_ne_bytes());
        body.extend([134, 0, 0, 0, 0, 0, 0, 0]);
        body.extend(options);
        body
    };
    let expected = News::NameServers {
        index: 4,
        servers: vec![ip("2001:db8::53")],
    };
    assert_eq!(news(68, &body(&option(600))), Some(expected));
    assert_eq!(
        news(68, &body(&option(0))),
        None,
        "a lifetime of zero takes it back"
    );
    assert_eq!(
        news(68, &body(&[25, 0, 0, 0, 0, 0, 0, 0])),
        None,
        "an option without length ends"
    );
}

#[test]
fn damaged_messages_end_without_a_panic() {
    let info = attribute(1, b"veth\0");
    let whole = link_body(
        1,
        0x1_0041,
        &[(3, b"eth0\0"), (1, &[2, 0, 0, 0, 0, 1]), (18, &info)],
    );
    let mut random = Random(11);
    for _ in 0..20_000 {
        let kind = [NEWLINK, DELLINK, NEWADDR, DELADDR, NEWROUTE, 68][random.next() as usize % 6];
        let mut bytes = Request::new(kind, 0, &whole).finish(1);
        for _ in 0..random.next() % 6 {
            let at = random.next() as usize % bytes.len();
            bytes[at] = random.next() as u8;
        }
        bytes.truncate(random.next() as usize % (bytes.len() + 1));
        for message in messages(&bytes) {
            if let Message::Data { kind, body } = message {
                drop(news(kind, body));
            }
        }
    }
}
