//! The way to servers on loopback, good ones and others.

use super::*;
use crate::net::links::Interface;
use lifeboot_contract::plan::Plan;
use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket};
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener};

fn walked(text: &str) -> Walked {
    walked_in(&Network::default(), text)
}

fn walked_in(network: &Network, text: &str) -> Walked {
    walk(network, &Target::typed(text, &Plan::default()).unwrap())
}

/// Answers one request with these words; returns the port.
fn server(answer: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        // The first connection only shows that there is somebody.
        for stream in listener.incoming().take(2) {
            let mut stream = stream.unwrap();
            let mut buffer = [0; 4096];
            drop(stream.read(&mut buffer));
            drop(stream.write_all(answer.as_bytes()));
        }
    });
    port
}

fn failing(walked: &Walked) -> &Step {
    assert!(!walked.reached && walked.hint.is_some(), "{walked:?}");
    walked.steps.last().unwrap()
}

#[test]
fn a_server_with_the_file_is_reached() {
    let answer =
        "HTTP/1.1 206 Partial Content\r\ncontent-range: bytes 0-99/100\r\ncontent-length: 100\r\n\r\n";
    let walked = walked(&format!("http://127.0.0.1:{}/os", server(answer)));
    assert!(walked.reached, "{walked:?}");
    let steps: Vec<&str> = walked.steps.iter().map(|step| step.step).collect();
    assert_eq!(steps, ["route", "tcp", "http"]);
    let last = &walked.steps[2].what;
    assert_eq!(last, "206 Partial Content, 100 bytes, a cut download can go on");
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
    let walked = self::walked(&format!("http://127.0.0.1:{}/os", server(answer)));
    assert!(walked.steps[2].what.ends_with("does not do ranges"), "{walked:?}");
}

#[test]
fn a_file_that_is_not_there_fails_at_http() {
    let walked = walked(&format!(
        "http://127.0.0.1:{}/os",
        server("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
    ));
    let step = failing(&walked);
    assert_eq!((step.step, step.what.as_str()), ("http", "404 Not Found"));
    assert!(
        walked.sentence().contains("http fails: 404"),
        "{}",
        walked.sentence()
    );
}

#[test]
fn a_port_where_nobody_listens_fails_at_tcp() {
    // Nobody else is given the port of a socket that is bound, and this one does not listen.
    let kept = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&kept, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
    let address = SocketAddr::try_from(getsockname(&kept).unwrap()).unwrap();
    let walked = walked(&format!("http://{address}/os"));
    let step = failing(&walked);
    assert_eq!(step.step, "tcp");
    assert!(step.what.ends_with("refused"), "{}", step.what);
}

#[test]
fn something_that_is_no_tls_server_fails_at_tls_and_the_clock_is_told() {
    let walked = walked(&format!("https://127.0.0.1:{}/os", server("nonsense\r\n\r\n")));
    let step = failing(&walked);
    // A host without certificate authorities cannot even begin.
    assert_eq!(step.step, "tls", "{step:?}");
    assert!(step.what.contains("clock says 20"), "{}", step.what);
}

#[test]
fn without_a_cable_nothing_else_is_tried_and_without_an_interface_no_cable_is_asked_for() {
    let interface = Interface {
        name: "eth0".to_owned(),
        carrier: Some(false),
        ..Interface::default()
    };
    let unplugged = Network {
        interfaces: vec![interface],
        ..Network::default()
    };
    for (network, what, cable) in [
        (unplugged, "no interface carries", true),
        (Network::default(), "there is no network interface", false),
    ] {
        let walked = walked_in(&network, "http://192.0.2.1/os");
        let step = failing(&walked);
        assert_eq!(
            (step.step, step.what.as_str(), walked.steps.len()),
            ("link", what, 1)
        );
        assert_eq!(walked.hint.unwrap().contains("cable"), cable);
    }
}

#[test]
fn what_logs_in_is_not_shown() {
    let walked = walked("http://me:geheim@192.0.2.1/os?token=t");
    let text = serde_json::to_string(&walked).unwrap();
    assert!(!text.contains("geheim") && !text.contains("token"), "{text}");
}
