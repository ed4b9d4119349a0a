//! Scanners, and what an auditor sees of the server.

use crate::server::Server;
use crate::stand_in::{output, until};
use lifeboot_tests::scanner;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

/// Connections of the scanner.
const SCAN: usize = 1000;

/// In milliseconds.
const MINUTE: u64 = 60_000;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Resident memory of the server in kB, now and at its most.
fn memory(server: &Server) -> (u64, u64) {
    let status = fs::read_to_string(format!("/proc/{}/status", server.process.id())).unwrap();
    let of = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    (of("VmRSS"), of("VmHWM"))
}

/// A connection from one of the addresses that loopback has.
fn connect_from(from: [u8; 4], port: u16) -> TcpStream {
    scanner::connect_from(from.into(), SocketAddr::from((Ipv4Addr::LOCALHOST, port))).unwrap()
}

#[test]
fn a_thousand_connections_of_a_scanner_leave_it_serving_and_small() {
    let server = Server::start();
    // A few addresses, as scanners have; the operator's is another.
    let addresses = [0, 1, 2, 3, 4].map(|last| Ipv4Addr::new(127, 0, 1, last));
    let show_key = |number: usize| {
        let bind = format!("BindAddress=127.0.2.{}", number + 1);
        server.ssh_as("unknown", &["-o", &bind], &["true"])
    };
    let between = |number: usize| {
        if number % 250 == 100 {
            let ended = output(server.ssh(&["-o", "BindAddress=127.0.0.2"], &["echo in"]));
            assert_eq!(text(&ended.stdout), "in\n", "{number}: {}", text(&ended.stderr));
        }
        Ok(())
    };
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, server.port));
    let scanned = scanner::scan(address, &addresses, SCAN, show_key, between).unwrap();
    assert_eq!((scanned.keys, scanned.silent()), (SCAN / 20, SCAN / 5));
    let ended = output(server.ssh(&[], &["echo in"]));
    assert_eq!(text(&ended.stdout), "in\n", "{}", text(&ended.stderr));
    let (now, most) = memory(&server);
    assert!(most < 30 << 10, "{now} kB, at most {most} kB");
    // Of fifty, within the first minute; a machine with much to do takes longer for all of them.
    let refusals = server.init.events("ssh.refused");
    let first = refusals.iter().map(|event| event.ms).min().unwrap();
    let told = refusals.iter().filter(|event| event.ms < first + MINUTE);
    assert!(told.count() <= 10 && refusals.len() >= 10, "{refusals:?}");
    drop(scanned);
}

#[test]
fn a_scanner_is_closed_out_unheard_and_its_neighbour_is_not() {
    let server = Server::start();
    // Whether it was greeted. Read to the end: what a client leaves unread the kernel answers with a reset, and the garbage goes unseen.
    let garbage = |from| {
        let mut stream = connect_from(from, server.port);
        drop(stream.write_all(b"garbage\r\n"));
        let mut answer = Vec::new();
        drop(stream.read_to_end(&mut answer));
        answer.starts_with(b"SSH-")
    };
    let scanner = [127, 0, 1, 1];
    // One is borne, and whether the server has counted it by now makes no difference to the second.
    assert!(garbage(scanner));
    assert!(garbage(scanner));
    let mut more = 0;
    until("the penalty", || {
        more += 1;
        !garbage(scanner)
    });
    // A client that only went away without a key would have been heard sixteen times.
    assert!(more < 12, "heard {more} times more");
    assert!(garbage([127, 0, 0, 2]));
    let ended = output(server.ssh(&["-o", "BindAddress=127.0.0.2"], &["echo in"]));
    assert_eq!(text(&ended.stdout), "in\n");
}

#[test]
fn where_somebody_has_logged_in_a_series_of_mistakes_does_no_harm() {
    let server = Server::start();
    assert!(output(server.ssh(&[], &["true"])).status.success());
    for _ in 0..6 {
        assert_eq!(
            output(server.ssh_as("unknown", &[], &["true"])).status.code(),
            Some(255)
        );
    }
    let ended = output(server.ssh(&[], &["echo in"]));
    assert_eq!(text(&ended.stdout), "in\n", "{}", text(&ended.stderr));
    // Each is told by a connection of its own.
    for name in ["ssh.login", "ssh.logout"] {
        until(name, || server.init.events(name).len() == 2);
    }
    assert_eq!(server.init.events("ssh.logout")[0].str("user"), "root");
}

/// The name lists of the server's KEXINIT (RFC 4253 section 7.1).
fn offers(server: &Server) -> Vec<Vec<String>> {
    let mut stream = connect_from([127, 0, 0, 1], server.port);
    stream.write_all(b"SSH-2.0-audit\r\n").unwrap();
    let mut greeting = Vec::new();
    while !greeting.ends_with(b"\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        greeting.push(byte[0]);
    }
    let mut head = [0; 5];
    stream.read_exact(&mut head).unwrap();
    let length = u32::from_be_bytes(head[..4].try_into().unwrap()) as usize;
    let mut packet = vec![0; length - 1];
    stream.read_exact(&mut packet).unwrap();
    assert_eq!(packet[0], 20, "not a KEXINIT");
    let mut rest = &packet[17..];
    let mut lists = Vec::new();
    for _ in 0..8 {
        let (length, after) = rest.split_at(4);
        let length = u32::from_be_bytes(length.try_into().unwrap()) as usize;
        let names = text(&after[..length]);
        lists.push(names.split(',').map(str::to_owned).collect());
        rest = &after[length..];
    }
    lists
}

#[test]
fn nothing_obsolete_is_offered() {
    let lists = offers(&Server::start());
    let [
        exchange,
        host_key,
        ciphers_in,
        ciphers_out,
        macs_in,
        macs_out,
        compression,
        _,
    ] = &lists[..]
    else {
        panic!("{lists:?}")
    };
    let curves = [
        "mlkem768x25519-sha256",
        "curve25519-sha256",
        "curve25519-sha256@libssh.org",
    ];
    assert!(exchange[..3] == curves, "{exchange:?}");
    assert!(exchange.contains(&"kex-strict-s-v00@openssh.com".to_owned()));
    assert_eq!(host_key, &["ssh-ed25519"]);
    assert_eq!((ciphers_in, macs_in), (ciphers_out, macs_out));
    assert!(macs_in[0].ends_with("-etm@openssh.com"), "{macs_in:?}");
    let bad = [
        "sha1",
        "md5",
        "cbc",
        "3des",
        "arcfour",
        "dss",
        "ssh-rsa",
        "group1",
        "group-exchange",
        "ripemd",
        "umac-64",
        "none",
    ];
    for name in [exchange, host_key, ciphers_in, macs_in].into_iter().flatten() {
        assert!(!bad.iter().any(|bad| name.contains(bad)), "{name}");
    }
    assert_eq!(compression, &["none"]);
}
