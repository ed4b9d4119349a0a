//! What is written and read, against dhcproto's opinion of it and against hostile hands.

use super::dhcp::Random;
use super::frame;
use super::lease::{Lease, Route4, search_list};
use super::message::{Answer, Kind, Outgoing, Reply};
use dhcproto::v4::{self, DhcpOption, OptionCode};
use dhcproto::{Decodable, Decoder, Encodable};
use lifeboot_contract::plan::is_hostname;
use std::net::Ipv4Addr;

const MAC: [u8; 6] = [0xdc, 0xa6, 0x32, 1, 2, 3];

fn offer(options: &[DhcpOption]) -> Vec<u8> {
    let zero = Ipv4Addr::UNSPECIFIED;
    let mut message = v4::Message::new_with_id(7, zero, Ipv4Addr::new(192, 168, 7, 20), zero, zero, &MAC);
    message.set_opcode(v4::Opcode::BootReply);
    message
        .opts_mut()
        .insert(DhcpOption::MessageType(v4::MessageType::Offer));
    message
        .opts_mut()
        .insert(DhcpOption::ServerIdentifier(Ipv4Addr::new(192, 168, 7, 1)));
    for option in options {
        message.opts_mut().insert(option.clone());
    }
    message.to_vec().unwrap()
}

fn lease(options: &[DhcpOption]) -> Lease {
    Lease::from_reply(&Reply::decode(&offer(options)).unwrap()).unwrap()
}

/// An option of any code, raw.
fn raw(code: u8, value: &[u8]) -> DhcpOption {
    DhcpOption::Unknown(v4::UnknownOption::new(OptionCode::Unknown(code), value.to_vec()))
}

#[test]
fn another_implementation_reads_what_is_sent() {
    let message = Outgoing {
        kind: Kind::Request,
        xid: 0x0102_0304,
        secs: 9,
        mac: MAC,
        answer: Answer::Broadcast,
        ciaddr: Ipv4Addr::new(10, 0, 0, 5),
        requested: Some(Ipv4Addr::new(10, 0, 0, 6)),
        server: Some(Ipv4Addr::new(10, 0, 0, 1)),
        hostname: Some("kitchen".into()),
    };
    let bytes = message.encode();
    assert!(bytes.len() >= 300);
    let read = v4::Message::decode(&mut Decoder::new(&bytes)).unwrap();
    assert_eq!(
        (read.xid(), read.secs(), read.flags().broadcast()),
        (0x0102_0304, 9, true)
    );
    assert_eq!(
        (read.opcode(), read.chaddr(), read.ciaddr()),
        (v4::Opcode::BootRequest, &MAC[..], message.ciaddr)
    );
    let option = |code| read.opts().get(code).cloned();
    assert_eq!(read.opts().msg_type(), Some(v4::MessageType::Request));
    assert_eq!(
        option(OptionCode::RequestedIpAddress),
        message.requested.map(DhcpOption::RequestedIpAddress)
    );
    assert_eq!(
        option(OptionCode::ServerIdentifier),
        message.server.map(DhcpOption::ServerIdentifier)
    );
    assert_eq!(
        option(OptionCode::Hostname),
        Some(DhcpOption::Hostname("kitchen".into()))
    );
    let id = [&[1][..], &MAC].concat();
    assert_eq!(
        option(OptionCode::ClientIdentifier),
        Some(DhcpOption::ClientIdentifier(id))
    );
    let Some(DhcpOption::ParameterRequestList(wanted)) = option(OptionCode::ParameterRequestList) else {
        panic!("no list of wanted options");
    };
    assert!(wanted.contains(&OptionCode::ClasslessStaticRoute) && wanted.contains(&OptionCode::NtpServers));
}

#[test]
fn what_another_implementation_sends_is_read() {
    let [a, b] = [Ipv4Addr::new(192, 168, 7, 1), Ipv4Addr::new(192, 168, 7, 2)];
    let lease = lease(&[
        DhcpOption::SubnetMask(Ipv4Addr::new(255, 255, 254, 0)),
        DhcpOption::Router(vec![a, b]),
        DhcpOption::DomainNameServer(vec![b, a]),
        DhcpOption::NtpServers(vec![b]),
        DhcpOption::Hostname("kitchen".into()),
        DhcpOption::DomainName("example.org".into()),
        DhcpOption::InterfaceMtu(1400),
        DhcpOption::AddressLeaseTime(3600),
        DhcpOption::Renewal(100),
        DhcpOption::Rebinding(200),
    ]);
    assert_eq!(
        (lease.address, lease.prefix),
        (Ipv4Addr::new(192, 168, 7, 20), 23)
    );
    assert_eq!(
        (lease.router(), lease.dns, lease.ntp),
        (Some(a), vec![b, a], vec![b])
    );
    assert_eq!(
        (lease.hostname.as_deref(), lease.domains),
        (Some("kitchen"), vec!["example.org".to_owned()])
    );
    assert_eq!(
        (lease.mtu, lease.seconds, lease.t1, lease.t2),
        (Some(1400), 3600, 100, 200)
    );
}

#[test]
fn wrong_options_are_as_if_absent_and_the_others_count() {
    let lease = lease(&[
        raw(1, &[255, 0, 255, 0]),
        raw(12, b"-rf /"),
        raw(15, &[0xff, 0xfe]),
        raw(26, &[5]),
        raw(58, &[1, 2, 3]),
        DhcpOption::AddressLeaseTime(0),
        DhcpOption::Rebinding(5_000_000),
        DhcpOption::NtpServers(vec![
            Ipv4Addr::BROADCAST,
            Ipv4Addr::UNSPECIFIED,
            Ipv4Addr::new(10, 0, 0, 3),
        ]),
    ]);
    assert_eq!((lease.prefix, lease.hostname, lease.mtu), (24, None, None));
    assert!(lease.domains.is_empty());
    assert_eq!(
        (lease.seconds, lease.t1, lease.t2),
        (20, 10, 17),
        "a lease of no time is not asked for in a circle"
    );
    assert_eq!(lease.ntp, [Ipv4Addr::new(10, 0, 0, 3)]);
}

#[test]
fn classless_routes_are_used_instead_of_the_router_unless_they_are_damaged() {
    let router = DhcpOption::Router(vec![Ipv4Addr::new(192, 168, 7, 1)]);
    let routes = lease(&[
        router.clone(),
        raw(
            121,
            &[
                32, 10, 0, 0, 1, 0, 0, 0, 0, 0, 10, 0, 0, 1, 12, 172, 0x1f, 10, 0, 0, 2,
            ],
        ),
    ])
    .routes;
    let route = |target: [u8; 4], prefix, via: Option<[u8; 4]>| Route4 {
        target: target.into(),
        prefix,
        via: via.map(Ipv4Addr::from),
    };
    assert_eq!(
        routes,
        [
            route([10, 0, 0, 1], 32, None),
            route([0, 0, 0, 0], 0, Some([10, 0, 0, 1])),
            route([172, 16, 0, 0], 12, Some([10, 0, 0, 2])),
        ]
    );
    for damaged in [
        &[33, 1, 1, 1, 1, 1, 10, 0, 0, 1][..],
        &[0, 10, 0, 0],
        &[24, 10],
        &[],
    ] {
        let routes = lease(&[router.clone(), raw(121, damaged)]).routes;
        assert_eq!(routes, [route([0; 4], 0, Some([192, 168, 7, 1]))], "{damaged:?}");
    }
}

#[test]
fn addresses_that_cannot_be_ours_make_no_lease() {
    for bad in [
        [0, 0, 0, 0],
        [0, 1, 2, 3],
        [127, 0, 0, 1],
        [224, 0, 0, 1],
        [255, 255, 255, 255],
        [240, 0, 0, 1],
    ] {
        let mut bytes = offer(&[]);
        bytes[16..20].copy_from_slice(&bad);
        assert_eq!(
            Lease::from_reply(&Reply::decode(&bytes).unwrap()),
            None,
            "{bad:?}"
        );
    }
}

#[test]
fn long_options_come_in_pieces_and_go_on_in_other_fields() {
    let mut bytes = offer(&[]);
    bytes.truncate(240);
    // In pieces: 53 and 54, half of a list of name servers, overload of both fields, end.
    bytes.extend([53, 1, 2, 54, 4, 192, 168, 7, 1, 6, 2, 10, 0, 52, 1, 3, 255]);
    bytes[108..113].copy_from_slice(&[6, 2, 0, 9, 255]);
    bytes[44..51].copy_from_slice(&[12, 4, b'd', b'e', b's', b'k', 255]);
    let lease = Lease::from_reply(&Reply::decode(&bytes).unwrap()).unwrap();
    assert_eq!(lease.dns, [Ipv4Addr::new(10, 0, 0, 9)]);
    assert_eq!(lease.hostname.as_deref(), Some("desk"));
}

#[test]
fn search_lists_may_point_back_but_not_in_circles() {
    let list = b"\x03eng\x05apple\x03com\0\x09marketing\xc0\x04";
    assert_eq!(search_list(list), ["eng.apple.com", "marketing.apple.com"]);
    for hostile in [
        &b"\xc0\x00"[..],
        b"\x01a\xc0\x00\x01b\xc0\x02",
        b"\x3fabc",
        b"\x80",
        b"\x01",
        b"\xc0",
    ] {
        assert!(search_list(hostile).is_empty(), "{hostile:?}");
    }
    assert!(search_list(b"\x05a b;c\0\x02ok\0").contains(&"ok".to_owned()));
}

#[test]
fn host_names_hold_nothing_that_a_file_or_a_shell_would_mind() {
    for good in ["pi", "pi-4.example.org", "a_b", "x."] {
        assert!(is_hostname(good), "{good}");
    }
    for bad in [
        "",
        ".",
        "a..b",
        "-x",
        "a b",
        "a\nnameserver 6.6.6.6",
        "é",
        &"x".repeat(65),
    ] {
        assert!(!is_hostname(bad), "{bad}");
    }
}

/// Damage of every kind: bits, bytes, cuts, and lengths that lie.
#[test]
fn whatever_arrives_is_read_without_a_panic() {
    let names = b"\x03eng\x05apple\x03com\0\x09marketing\xc0\x04";
    let whole = offer(&[
        DhcpOption::SubnetMask(Ipv4Addr::new(255, 255, 255, 0)),
        DhcpOption::DomainNameServer(vec![Ipv4Addr::new(10, 0, 0, 1); 3]),
        DhcpOption::Hostname("kitchen".into()),
        DhcpOption::OptionOverload(3),
        raw(119, names),
        raw(121, &[32, 10, 0, 0, 1, 0, 0, 0, 0, 0, 10, 0, 0, 1]),
    ]);
    let mut random = Random(0x5eed);
    for round in 0..60_000 {
        let mut bytes = whole.clone();
        for _ in 0..=random.next() % 8 {
            // The header's fields matter less than the options behind it.
            let from = if random.next().is_multiple_of(4) { 0 } else { 236 };
            let at = from + random.next() as usize % (bytes.len() - from);
            bytes[at] = random.next() as u8;
        }
        if round % 3 == 0 {
            bytes.truncate(random.next() as usize % bytes.len());
        }
        if let Some(reply) = Reply::decode(&bytes)
            && let Some(lease) = Lease::from_reply(&reply)
        {
            assert!(
                lease.prefix <= 32
                    && lease.seconds >= 20
                    && lease.t1 <= lease.t2
                    && lease.t2 <= lease.seconds
            );
            assert!(lease.domains.iter().all(|name| is_hostname(name)));
        }
        let mut packet = frame::broadcast(MAC, Ipv4Addr::new(10, 0, 0, 1), &bytes);
        packet[34..38].copy_from_slice(&[0, 67, 0, 68]);
        let at = random.next() as usize % packet.len();
        packet[at] = random.next() as u8;
        packet.truncate(random.next() as usize % (packet.len() + 1));
        if let Some(payload) = frame::payload(&packet) {
            assert!(payload.len() <= bytes.len());
        }
    }
}
