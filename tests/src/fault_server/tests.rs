use super::*;
use crate::fixtures::keys;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use std::io::{Read, Write};

const PATH: &str = "/file";

fn body() -> Vec<u8> {
    (0..200_000u32).map(|n| (n % 251) as u8).collect()
}

fn server(faults: &[Fault]) -> FaultServer {
    let server = FaultServer::start().unwrap();
    server.serve_bytes(PATH, body());
    for fault in faults {
        server.fault(PATH, fault.clone());
    }
    server
}

/// Sends `request` and reads until the server ends the connection.
fn ask(server: &FaultServer, request: &str) -> (String, Vec<u8>) {
    let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, server.port())).unwrap();
    connection.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    (
        String::from_utf8(answer[..end].to_vec()).unwrap(),
        answer[end + 4..].to_vec(),
    )
}

fn get(server: &FaultServer, headers: &str) -> (String, Vec<u8>) {
    ask(
        server,
        &format!("GET {PATH} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n"),
    )
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

#[test]
fn a_file_comes_whole_and_is_counted() {
    let server = server(&[]);
    let (head, got) = get(&server, "");
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert_eq!(got, body());
    let stats = server.stats(PATH);
    assert_eq!((stats.requests, stats.body_bytes), (1, 200_000));
}

#[test]
fn head_has_the_length_and_no_body() {
    let server = server(&[]);
    let (head, got) = ask(
        &server,
        &format!("HEAD {PATH} HTTP/1.1\r\nConnection: close\r\n\r\n"),
    );
    assert_eq!(header(&head, "Content-Length"), Some("200000"));
    assert!(got.is_empty());
    assert_eq!(server.stats(PATH).body_bytes, 0);
}

#[test]
fn a_range_with_the_right_etag_is_partial_and_with_another_is_whole() {
    let server = server(&[]);
    let (head, _) = get(&server, "");
    let etag = header(&head, "ETag").unwrap();
    let (head, got) = get(&server, &format!("Range: bytes=199990-\r\nIf-Range: {etag}\r\n"));
    assert!(head.starts_with("HTTP/1.1 206 "), "{head}");
    assert_eq!(header(&head, "Content-Range"), Some("bytes 199990-199999/200000"));
    assert_eq!(got, body()[199_990..]);
    let (head, got) = get(&server, "Range: bytes=199990-\r\nIf-Range: \"other\"\r\n");
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert_eq!(got.len(), 200_000);
    assert_eq!(server.stats(PATH).ranges, [199_990, 199_990]);
}

#[test]
fn a_range_behind_the_end_is_refused() {
    let server = server(&[]);
    let (head, got) = get(&server, "Range: bytes=200000-\r\n");
    assert!(head.starts_with("HTTP/1.1 416 ") && got.is_empty(), "{head}");
}

#[test]
fn a_cut_comes_at_its_byte_and_as_often_as_told() {
    let server = server(&[Fault::CutAfter {
        bytes: 70_000,
        times: 2,
    }]);
    for expected in [70_000, 70_000, 200_000] {
        let (head, got) = get(&server, "");
        assert_eq!(header(&head, "Content-Length"), Some("200000"));
        assert_eq!(got.len(), expected);
    }
    assert_eq!(server.stats(PATH).body_bytes, 340_000);
}

#[test]
fn without_ranges_the_whole_file_comes_and_none_are_offered() {
    let server = server(&[Fault::NoRange]);
    let (head, got) = get(&server, "Range: bytes=5-\r\n");
    assert!(
        head.starts_with("HTTP/1.1 200 ") && header(&head, "Accept-Ranges").is_none(),
        "{head}"
    );
    assert_eq!(got.len(), 200_000);
}

#[test]
fn a_changing_etag_never_matches() {
    let server = server(&[Fault::ChangingEtag]);
    let (first, _) = get(&server, "");
    let etag = header(&first, "ETag").unwrap();
    let (second, _) = get(&server, &format!("Range: bytes=5-\r\nIf-Range: {etag}\r\n"));
    assert!(second.starts_with("HTTP/1.1 200 "), "{second}");
}

#[test]
fn statuses_come_as_often_as_told_and_redirects_always() {
    let server = server(&[Fault::Status {
        code: 503,
        times: Some(1),
    }]);
    assert!(get(&server, "").0.starts_with("HTTP/1.1 503 "));
    assert!(get(&server, "").0.starts_with("HTTP/1.1 200 "));
    server.fault(PATH, Fault::Redirect("/elsewhere".to_owned()));
    let (head, _) = get(&server, "");
    assert_eq!(header(&head, "Location"), Some("/elsewhere"));
    server.heal(PATH);
    assert!(get(&server, "").0.starts_with("HTTP/1.1 200 "));
}

#[test]
fn exactly_one_byte_is_flipped_wherever_the_range_begins() {
    let server = server(&[Fault::FlipByte(150_000)]);
    let (_, whole) = get(&server, "");
    let different = whole.iter().zip(body()).filter(|(a, b)| *a != b).count();
    assert_eq!(different, 1);
    let (_, part) = get(&server, "Range: bytes=149999-150001\r\n");
    assert_eq!(part, [body()[149_999], body()[150_000] ^ 1, body()[150_001]]);
}

#[test]
fn a_wrong_or_missing_length_is_as_told() {
    let wrong = server(&[Fault::WrongLength(300_000)]);
    let (head, got) = get(&wrong, "");
    assert_eq!(
        (header(&head, "Content-Length"), got.len()),
        (Some("300000"), 200_000)
    );
    let missing = server(&[Fault::NoLength]);
    let (head, got) = get(&missing, "");
    assert_eq!((header(&head, "Content-Length"), got.len()), (None, 200_000));
}

#[test]
fn a_stalled_answer_keeps_its_connection_until_the_server_goes() {
    let mut server = server(&[Fault::StallAfter {
        bytes: 1000,
        times: 1,
    }]);
    let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, server.port())).unwrap();
    connection
        .write_all(format!("GET {PATH} HTTP/1.1\r\n\r\n").as_bytes())
        .unwrap();
    let mut got = Vec::new();
    while !got.ends_with(&body()[..1000]) {
        let mut byte = [0];
        connection.read_exact(&mut byte).unwrap();
        got.extend(byte);
    }
    connection
        .set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    let error = connection.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    assert_eq!(server.stats(PATH).body_bytes, 1000);
    server.disappear();
    connection.set_read_timeout(None).unwrap();
    assert_eq!(connection.read(&mut [0]).unwrap(), 0);
}

#[test]
fn an_answer_that_drips_comes_to_its_end_at_once_when_it_is_healed() {
    // Minutes of it.
    let server = server(&[Fault::Drip {
        bytes: 500,
        pause: Duration::from_secs(1),
    }]);
    let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, server.port())).unwrap();
    connection
        .write_all(format!("GET {PATH} HTTP/1.1\r\nConnection: close\r\n\r\n").as_bytes())
        .unwrap();
    connection.read_exact(&mut [0; 10]).unwrap();
    server.heal(PATH);
    let mut rest = Vec::new();
    connection.read_to_end(&mut rest).unwrap();
    assert!(rest.ends_with(&body()));
}

#[test]
fn a_server_that_is_away_refuses_and_answers_once_it_appears() {
    let mut server = FaultServer::away().unwrap();
    server.serve_bytes(PATH, body());
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, server.port())).is_err());
    server.appear().unwrap();
    assert_eq!(get(&server, "").1.len(), 200_000);
    server.disappear();
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, server.port())).is_err());
}

#[test]
fn a_connection_serves_several_requests() {
    let server = server(&[]);
    server.serve_bytes("/small", b"abc".to_vec());
    let request = "GET /small HTTP/1.1\r\n\r\nGET /none HTTP/1.1\r\nConnection: close\r\n\r\n";
    let (_, rest) = ask(&server, request);
    assert!(rest.starts_with(b"abcHTTP/1.1 404 "));
    assert_eq!(server.stats("/none").requests, 1);
}

#[test]
fn what_is_put_is_kept_unless_something_goes_wrong() {
    let put = |server: &FaultServer, body: &str| {
        ask(
            server,
            &format!("PUT /new HTTP/1.1\r\nConnection: close\r\n{body}"),
        )
        .0
    };
    let chunked = "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    let plain = server(&[]);
    assert!(put(&plain, chunked).starts_with("HTTP/1.1 201 "));
    assert_eq!(plain.uploaded("/new").unwrap(), b"abcde");
    assert!(put(&plain, "Content-Length: 2\r\n\r\nxy").starts_with("HTTP/1.1 201 "));
    assert_eq!(
        (plain.uploaded("/new").unwrap(), plain.stats("/new").uploads),
        (b"xy".to_vec(), 2)
    );
    for (fault, status, kept) in [
        (
            Fault::Status {
                code: 413,
                times: None,
            },
            "413",
            None,
        ),
        (Fault::AnswerAtEnd(500), "500", None),
        (Fault::AnswerAfter { bytes: 3, code: 200 }, "200", None),
        (Fault::KeepOnly(4), "201", Some(b"abcd".to_vec())),
    ] {
        let server = server(&[]);
        server.fault("/new", fault);
        let said = put(&server, chunked);
        assert!(said.starts_with(&format!("HTTP/1.1 {status} ")), "{said}");
        assert_eq!(server.uploaded("/new"), kept);
    }
}

/// Asks over TLS, trusting `authority`; reads until the server ends the session in order.
fn ask_over_tls(server: &FaultServer, authority: &TlsFiles, request: &str) -> std::io::Result<Vec<u8>> {
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(&authority.authority).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::from(std::net::IpAddr::V4(HOST_SEEN_BY_GUEST));
    let session = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let connection = TcpStream::connect((Ipv4Addr::LOCALHOST, server.port())).unwrap();
    let mut stream = rustls::StreamOwned::new(session, connection);
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}

#[test]
fn over_tls_all_is_the_same_for_who_knows_the_authority_and_a_cut_is_not_an_end() {
    let known = keys::tls(keys::KNOWN_AUTHORITY).unwrap();
    let unknown = keys::tls(keys::UNKNOWN_AUTHORITY).unwrap();
    let server = FaultServer::start_https(&known).unwrap();
    assert!(server.url(PATH).starts_with("https://10.0.2.2:"));
    server.serve_bytes(PATH, body());
    let request = format!("GET {PATH} HTTP/1.1\r\nConnection: close\r\n\r\n");
    let answer = ask_over_tls(&server, &known, &request).unwrap();
    assert!(answer.ends_with(&body()));
    let refused = ask_over_tls(&server, &unknown, &request).unwrap_err();
    assert!(refused.to_string().contains("UnknownIssuer"), "{refused}");
    assert_eq!(server.stats(PATH).requests, 1);
    server.fault(
        PATH,
        Fault::CutAfter {
            bytes: 70_000,
            times: 1,
        },
    );
    let cut = ask_over_tls(&server, &known, &request).unwrap_err();
    assert_eq!(cut.kind(), std::io::ErrorKind::UnexpectedEof);
    assert_eq!(server.stats(PATH).body_bytes, 270_000);
}
