use super::*;
use lifeboot_tests::fault_server::{Fault, FaultServer};
use lifeboot_tests::fixtures::keys;
use std::io::{BufRead as _, Read as _};
use std::net::{TcpListener, TcpStream};
use std::thread::JoinHandle;

/// A server for one connection; returns the head of the request and what came of its body.
fn server(
    talk: impl FnOnce(TcpStream, &mut dyn FnMut() -> String) + Send + 'static,
) -> (Url, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let thread = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut reader = io::BufReader::new(stream.try_clone().unwrap());
        let mut head = || {
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                assert!(reader.read_line(&mut head).unwrap() > 0);
            }
            head
        };
        talk(stream, &mut head);
    });
    (
        Url::parse(&format!("http://me:a%3Ab@127.0.0.1:{port}/dir/a.img?x=1")).unwrap(),
        thread,
    )
}

fn begin(url: &Url, length: Option<u64>) -> Result<Upload, Trouble> {
    Upload::begin(url, Method::Put, length, &Limits::default())
}

fn send(url: &Url, length: Option<u64>, bytes: &[u8]) -> Result<u16, Trouble> {
    let mut upload = begin(url, length)?;
    if let Err(error) = upload.write_all(bytes) {
        return Err(upload.trouble.take().unwrap_or(Trouble::Cut(error.into())));
    }
    upload.finish()
}

/// Whether another try may do, and the words.
fn trouble<T>(outcome: Result<T, Trouble>) -> (bool, String) {
    match outcome {
        Ok(_) => panic!("it was believed"),
        Err(Trouble::Cut(error)) => (true, format!("{error:#}")),
        Err(Trouble::Final(error)) => (false, format!("{error:#}")),
    }
}

fn body() -> Vec<u8> {
    (0..200_000_u32).map(|at| (at * 7 / 5) as u8).collect()
}

/// Takes chunks until the last.
fn chunks(stream: TcpStream) -> Vec<u8> {
    let mut reader = io::BufReader::new(stream);
    let mut bytes = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let length = usize::from_str_radix(line.trim(), 16).unwrap();
        let mut chunk = vec![0; length + 2];
        reader.read_exact(&mut chunk).unwrap();
        assert!(chunk.ends_with(b"\r\n"));
        if length == 0 {
            return bytes;
        }
        bytes.extend(&chunk[..length]);
    }
}

#[test]
fn what_is_sent_arrives_in_chunks_or_with_its_length_and_with_the_password() {
    for length in [None, Some(200_000)] {
        let (url, server) = server(move |mut stream, head| {
            let head = head();
            assert!(head.starts_with("PUT /dir/a.img?x=1 HTTP/1.1\r\n"), "{head}");
            assert!(
                head.contains("Authorization: Basic bWU6YTpi\r\n") && head.contains("Expect: 100-continue")
            );
            assert_eq!(head.contains("Content-Length: 200000"), length.is_some());
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap();
            let got = match length {
                None => chunks(stream.try_clone().unwrap()),
                Some(_) => {
                    let mut got = vec![0; 200_000];
                    stream.read_exact(&mut got).unwrap();
                    got
                }
            };
            assert!(got == body());
            stream.write_all(b"HTTP/1.1 201 Created\r\n\r\n").unwrap();
        });
        assert_eq!(send(&url, length, &body()).unwrap(), 201);
        server.join().unwrap();
    }
}

#[test]
fn a_server_that_says_nothing_to_the_question_gets_it_all_the_same() {
    let (url, server) = server(|mut stream, head| {
        head();
        assert!(chunks(stream.try_clone().unwrap()) == body());
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
    });
    assert_eq!(send(&url, None, &body()).unwrap(), 204);
    server.join().unwrap();
}

#[test]
fn a_no_before_the_first_byte_is_a_no_and_a_yes_then_is_not_believed() {
    for (answer, says) in [
        (
            "413 Content Too Large\r\n",
            "413 Content Too Large, after 0 bytes",
        ),
        (
            "308 Permanent Redirect\r\nLocation: http://other/\r\n",
            "give http://other/ instead",
        ),
        ("201 Created\r\n", "not believed"),
    ] {
        let (url, server) = server(move |mut stream, head| {
            head();
            write!(stream, "HTTP/1.1 {answer}\r\n").unwrap();
        });
        let (again, said) = trouble(begin(&url, None));
        assert!(!again && said.contains(says), "{said}");
        assert!(!said.contains("a%3Ab"), "the password is told: {said}");
        server.join().unwrap();
    }
}

#[test]
fn what_is_said_in_the_middle_ends_it_whatever_it_is() {
    for (answer, says) in [("500 Oops", "500 Oops, after"), ("200 OK", "not believed")] {
        let (url, server) = server(move |mut stream, head| {
            head();
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap();
            stream.read_exact(&mut [0; 70_000]).unwrap();
            write!(stream, "HTTP/1.1 {answer}\r\n\r\n").unwrap();
            // It goes on taking, as some do.
            io::copy(&mut stream, &mut io::sink()).unwrap();
        });
        let mut upload = begin(&url, None).unwrap();
        let ended = (0..2000).try_for_each(|_| {
            std::thread::sleep(Duration::from_millis(1));
            upload.write_all(&[1; 10_000])
        });
        assert!(ended.is_err(), "it was not noticed");
        let (again, said) = trouble::<()>(Err(upload.trouble.take().unwrap()));
        assert!(!again && said.contains(says), "{said}");
        drop(upload);
        server.join().unwrap();
    }
}

/// More than any socket holds, so that it is still being sent when something is said.
const LARGE: usize = 20 << 20;

#[test]
fn an_interim_answer_ends_nothing_whenever_it_comes_and_a_final_one_does() {
    for (before, late, said) in [
        ("103 Early Hints\r\nLink: </a>\r\n", false, "102 Processing"),
        (
            "102 Processing\r\n\r\nHTTP/1.1 100 Continue\r\n",
            false,
            "100 Continue",
        ),
        ("", true, "100 Continue"),
        ("", true, "403 Forbidden"),
    ] {
        let (url, server) = server(move |mut stream, head| {
            head();
            if late {
                std::thread::sleep(ASKED + Duration::from_millis(500));
            } else {
                write!(stream, "HTTP/1.1 {before}\r\n").unwrap();
                stream.read_exact(&mut [0; 70_000]).unwrap();
            }
            write!(stream, "HTTP/1.1 {said}\r\n\r\n").unwrap();
            // It goes on taking, as some do.
            let left = LARGE - if late { 0 } else { 70_000 };
            let taken = io::copy(
                &mut stream.try_clone().unwrap().take(left as u64),
                &mut io::sink(),
            );
            if taken.is_ok_and(|taken| taken == left as u64) {
                stream.write_all(b"HTTP/1.1 201 Created\r\n\r\n").unwrap();
            }
        });
        let sent = send(&url, Some(LARGE as u64), &vec![1; LARGE]);
        if said.starts_with('1') {
            assert_eq!(sent.map_err(Trouble::into_error).unwrap(), 201, "{before} {said}");
        } else {
            let (again, words) = trouble(sent);
            assert!(!again && words.contains("403 Forbidden, after"), "{words}");
        }
        server.join().unwrap();
    }
}

#[test]
fn a_no_at_the_end_is_a_no_and_a_cut_is_worth_another_try() {
    let (url, saying) = server(|mut stream, head| {
        head();
        chunks(stream.try_clone().unwrap());
        stream
            .write_all(b"HTTP/1.1 507 Insufficient Storage\r\n\r\n")
            .unwrap();
    });
    let (again, said) = trouble(send(&url, None, &body()));
    assert!(
        !again && said.contains("507 Insufficient Storage, after 200000 bytes"),
        "{said}"
    );
    saying.join().unwrap();
    // Everything was taken, and nothing said: nobody knows what became of it.
    let (url, silent) = server(|stream, head| {
        head();
        chunks(stream);
    });
    assert!(trouble(send(&url, None, &body())).0);
    silent.join().unwrap();
    let (url, cutting) = server(|mut stream, head| {
        head();
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap();
        stream.read_exact(&mut [0; 70_000]).unwrap();
    });
    let (again, said) = trouble(send(&url, None, &vec![1; 20 << 20]));
    assert!(again && said.contains("cut after"), "{said}");
    cutting.join().unwrap();
}

#[test]
fn fewer_bytes_than_announced_are_no_upload() {
    let (url, server) = server(|mut stream, head| {
        head();
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap();
        io::copy(&mut stream, &mut io::sink()).unwrap();
    });
    let (again, said) = trouble(send(&url, Some(200_001), &body()));
    assert!(!again && said.contains("200000 of 200001"), "{said}");
    server.join().unwrap();
}

/// An https server whose certificate is of the authority that is trusted, and how it is sent to.
fn secure() -> (FaultServer, Url, Limits) {
    let files = keys::tls(keys::KNOWN_AUTHORITY).unwrap();
    let server = FaultServer::start_https(&files).unwrap();
    let url = Url::parse(&server.local_url("/a.img")).unwrap();
    let limits = Limits {
        authorities: files.authority,
        ..Limits::default()
    };
    (server, url, limits)
}

#[test]
fn what_is_sent_over_tls_arrives_in_chunks_or_with_its_length() {
    for length in [None, Some(200_000)] {
        let (server, url, limits) = secure();
        let mut upload = Upload::begin(&url, Method::Put, length, &limits).unwrap();
        upload.write_all(&body()).unwrap();
        assert_eq!(upload.finish().map_err(Trouble::into_error).unwrap(), 201);
        assert_eq!(server.uploaded("/a.img"), Some(body()));
    }
}

#[test]
fn a_no_over_tls_in_the_middle_ends_it() {
    let (server, url, limits) = secure();
    let early = Fault::AnswerAfter {
        bytes: 100_000,
        code: 507,
    };
    server.fault("/a.img", early);
    let mut upload = Upload::begin(&url, Method::Put, None, &limits).unwrap();
    let ended = (0..2000).try_for_each(|_| {
        std::thread::sleep(Duration::from_millis(1));
        upload.write_all(&[1; 10_000])
    });
    assert!(ended.is_err(), "it was not noticed");
    let (again, said) = trouble::<()>(Err(upload.trouble.take().unwrap()));
    assert!(!again && said.contains("507"), "{said}");
    assert_eq!(server.stats("/a.img").uploads, 0);
}

#[test]
fn a_server_of_another_authority_is_sent_nothing_and_not_tried_again() {
    let (server, url, limits) = secure();
    let limits = Limits {
        authorities: keys::tls(keys::UNKNOWN_AUTHORITY).unwrap().authority,
        ..limits
    };
    let (again, said) = trouble(Upload::begin(&url, Method::Put, None, &limits));
    assert!(!again && said.contains("certificate"), "{said}");
    assert_eq!(server.stats("/a.img").requests, 0);
}

#[test]
fn base64_is_that_of_the_rfc() {
    let texts = ["", "f", "fo", "foo", "foob"].map(|text| base64(text.as_bytes()));
    assert_eq!(texts, ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg=="]);
    assert_eq!(percent_decoded("a%3Ab%zz%4"), b"a:b%zz%4");
}
