//! One small request with one small answer: what a Tang server is asked.

use super::http::{Http, certificate_refused, no_answer};
use super::{Clock, Limits};
use reqwest::Url;
use reqwest::header::CONTENT_TYPE;
use std::io::Read;
use std::time::{Duration, Instant};

/// A server is asked for something it computes in a millisecond.
const CONNECT: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(10);

/// Posts `body` to `url` and returns what is answered with 200. Redirects are not followed: who is asked was settled when the volume
/// was bound.
///
/// # Errors
/// Why there is no answer, without the URL.
pub fn post(
    url: &str,
    kind: &'static str,
    body: Vec<u8>,
    longest: u64,
    clock: &dyn Clock,
) -> Result<Vec<u8>, String> {
    let limits = Limits {
        connect: CONNECT,
        stall: ANSWER,
        ..Limits::default()
    };
    let url = Url::parse(url).map_err(|error| error.to_string())?;
    let http = Http::new(&limits);
    let client = http.client(&url, clock).map_err(|failure| failure.what)?;
    let started = Instant::now();
    let answer = client
        .post(url.clone())
        .header(CONTENT_TYPE, kind)
        .body(body)
        .send();
    let answer = answer
        .map_err(|error| certificate_refused(&error).unwrap_or_else(|| no_answer(error, &url, &limits)))?;
    let status = answer.status().as_u16();
    if status != 200 {
        return Err(format!("answered {}", answer.status()));
    }
    let mut bytes = Vec::new();
    let mut part = answer.take(longest + 1);
    let mut buffer = [0; 1024];
    loop {
        // A byte now and then keeps a connection alive for as long as somebody likes.
        if started.elapsed() > ANSWER + CONNECT {
            return Err(format!(
                "no whole answer within {} s",
                (ANSWER + CONNECT).as_secs()
            ));
        }
        match part.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => bytes.extend(buffer.get(..count).unwrap_or_default()),
            Err(error) => return Err(super::http::innermost(&error)),
        }
    }
    if bytes.len() as u64 > longest {
        return Err(format!("an answer of more than {longest} bytes"));
    }
    Ok(bytes)
}
