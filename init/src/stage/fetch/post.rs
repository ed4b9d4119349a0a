//! One small request with one small answer: what a Tang server is asked.

use super::http::{Http, certificate_refused, innermost, no_answer};
use super::{Clock, Limits};
use reqwest::Url;
use reqwest::header::CONTENT_TYPE;
use std::io::Read;
use std::time::{Duration, Instant};

/// A server is asked for something it computes in a millisecond.
const CONNECT: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(10);

/// What is posted, and how much may come back.
pub struct Question<'q> {
    /// Where to.
    pub url: &'q str,
    /// Its content type.
    pub kind: &'static str,
    /// The bytes.
    pub body: Vec<u8>,
    /// Most bytes of an answer.
    pub longest: u64,
}

/// Posts it and returns what is answered with 200, after 15 seconds at most and a last read of 10. Redirects are not followed: who is
/// asked was settled when the volume was bound.
///
/// # Errors
/// Why there is no answer, without the URL.
pub fn post(question: Question, clock: &dyn Clock) -> Result<Vec<u8>, String> {
    let limits = Limits {
        connect: CONNECT,
        stall: ANSWER,
        ..Limits::default()
    };
    ask(question, clock, &limits)
}

fn ask(question: Question, clock: &dyn Clock, limits: &Limits) -> Result<Vec<u8>, String> {
    let url = Url::parse(question.url).map_err(|error| error.to_string())?;
    let http = Http::new(limits);
    let client = http.client(&url, clock).map_err(|failure| failure.what)?;
    let started = Instant::now();
    let request = client.post(url.clone()).header(CONTENT_TYPE, question.kind);
    let answer = request.body(question.body).send().map_err(|error| {
        certificate_refused(&error).unwrap_or_else(|| {
            let host = format!("{}: ", url.host_str().unwrap_or_default());
            let why = no_answer(error, &url, limits);
            why.strip_prefix(&host).unwrap_or(&why).to_owned()
        })
    })?;
    if answer.status() != 200 {
        return Err(format!("answered {}", answer.status()));
    }
    let mut bytes = Vec::new();
    let mut part = answer.take(question.longest + 1);
    let mut buffer = [0; 1024];
    loop {
        // A byte now and then keeps a connection alive for as long as somebody likes.
        let patience = limits.stall + limits.connect;
        if started.elapsed() > patience {
            return Err(format!("no whole answer within {} s", patience.as_secs()));
        }
        match part.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => bytes.extend(buffer.get(..count).unwrap_or_default()),
            Err(error) => return Err(innermost(&error)),
        }
    }
    match bytes.len() as u64 > question.longest {
        true => Err(format!("an answer of more than {} bytes", question.longest)),
        false => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::super::SetAlready;
    use super::*;
    use std::io::Write;
    use std::net::TcpListener;

    /// What comes of asking a server that answers once with these pieces and pauses between them.
    fn asked(pieces: &'static [&'static str], pause: Duration, limits: &Limits) -> Result<Vec<u8>, String> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/rec/x", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            // To its end: what is left unread is answered with a reset, and what was said is lost.
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n{}") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                asked.push(byte[0]);
            }
            for piece in pieces {
                if stream.write_all(piece.as_bytes()).is_err() {
                    return;
                }
                std::thread::sleep(pause);
            }
        });
        let question = Question {
            url: &url,
            kind: "application/jwk+json",
            body: b"{}".to_vec(),
            longest: 16,
        };
        ask(question, &SetAlready, limits)
    }

    #[test]
    fn only_a_whole_short_answer_with_200_is_one() {
        let asked = |pieces| asked(pieces, Duration::from_millis(10), &Limits::default());
        assert_eq!(
            asked(&["HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", "{}"]),
            Ok(b"{}".to_vec())
        );
        let refused = |pieces: &'static [&'static str]| asked(pieces).unwrap_err();
        assert!(refused(&["HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"]).contains("404"));
        const MOVED: &[&str] = &[
            "HTTP/1.1 307 Temporary Redirect\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
        ];
        assert!(refused(MOVED).contains("307"));
        assert!(refused(&["HTTP/1.1 200 OK\r\n\r\n", "12345678901234567890"]).contains("more than 16"));
        asked(&["HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", "{}"]).unwrap_err();
        asked(&["no HTTP at all\r\n\r\n"]).unwrap_err();
    }

    #[test]
    fn a_server_that_drips_is_given_up() {
        // Each comes in time, and all of them in twice as much as the whole may take.
        const DRIPS: &[&str] = &[
            "HTTP/1.1 200 OK\r\n\r\n",
            "1",
            "2",
            "3",
            "4",
            "5",
            "6",
            "7",
            "8",
            "9",
            "a",
            "b",
            "c",
            "d",
            "e",
            "f",
            "g",
        ];
        let limits = Limits {
            connect: Duration::from_secs(1),
            stall: Duration::from_secs(2),
            ..Limits::default()
        };
        let why = asked(DRIPS, Duration::from_millis(400), &limits).unwrap_err();
        assert!(why.contains("no whole answer"), "{why}");
    }
}
