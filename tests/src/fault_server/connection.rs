//! One connection of the server: requests in, answers with their faults out.

use super::tls::Wire;
use super::upload::{self, Speaks, Uploaded};
use super::{Content, Entry, Fault, Shared};
use crate::process::may_fail;
use std::io::{BufRead, BufReader, Error, ErrorKind, Result, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Bytes written at once; small enough that a cut is where it was asked for.
const PIECE: u64 = 64 * 1024;
/// How often a stalled connection looks whether the server has ended.
const LOOK: Duration = Duration::from_millis(50);

#[derive(Debug, Default)]
pub(super) struct Request {
    method: String,
    pub(super) path: String,
    /// Of the body that follows.
    pub(super) length: Option<u64>,
    pub(super) chunked: bool,
    /// Whether it waits for a word before it sends the body.
    pub(super) expects: bool,
    range: Option<(u64, Option<u64>)>,
    if_range: Option<String>,
    close: bool,
}

/// What an entry decided about one request.
#[derive(Debug)]
struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Option<Body>,
}

#[derive(Debug)]
struct Body {
    content: Content,
    start: u64,
    end: u64,
    cut: Option<u64>,
    stall: Option<u64>,
    flips: Vec<u64>,
    ends_connection: bool,
}

/// Serves a connection until it ends.
pub(super) fn serve(connection: &TcpStream, shared: &Shared) {
    // Whatever ends a connection ends it for the client too; there is nobody here to tell.
    may_fail("a connection", converse(connection, shared));
    may_fail("closing a connection", connection.shutdown(Shutdown::Both));
}

fn converse(connection: &TcpStream, shared: &Shared) -> Result<()> {
    let mut wire = BufReader::new(Wire::over(connection, shared.tls.as_ref())?);
    while let Some(request) = read_request(&mut wire)? {
        if matches!(request.method.as_str(), "PUT" | "POST") {
            match upload::take(&mut wire, shared, &request)? {
                Uploaded::Said if !request.close => continue,
                Uploaded::Said => return wire.get_mut().end(),
                Uploaded::Ended => break,
            }
        }
        match answer(wire.get_mut(), connection, shared, &request)? {
            KeepAlive::Yes => {}
            KeepAlive::No => return wire.get_mut().end(),
            KeepAlive::Cut => break,
        }
    }
    Ok(())
}

impl Speaks for BufReader<Wire<'_>> {
    fn out(&mut self) -> &mut dyn Write {
        self.get_mut()
    }
}

enum KeepAlive {
    Yes,
    No,
    Cut,
}

fn read_request(reader: &mut impl BufRead) -> Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_ascii_whitespace();
    let mut request = Request {
        method: words.next().unwrap_or_default().to_owned(),
        path: words.next().unwrap_or_default().to_owned(),
        close: words.next() == Some("HTTP/1.0"),
        ..Request::default()
    };
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Err(Error::from(ErrorKind::UnexpectedEof));
        }
        let header = line.trim_end();
        if header.is_empty() {
            return Ok(Some(request));
        }
        let (name, value) = header.split_once(':').unwrap_or((header, ""));
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "range" => request.range = parse_range(value),
            "if-range" => request.if_range = Some(value.to_owned()),
            "content-length" => request.length = value.parse().ok(),
            "transfer-encoding" => request.chunked = value.eq_ignore_ascii_case("chunked"),
            "expect" => request.expects = value.eq_ignore_ascii_case("100-continue"),
            "connection" => request.close |= value.eq_ignore_ascii_case("close"),
            _ => {}
        }
    }
}

/// `bytes=FIRST-[LAST]`; other forms are ignored, as RFC 9110 allows.
fn parse_range(value: &str) -> Option<(u64, Option<u64>)> {
    let (first, last) = value.strip_prefix("bytes=")?.split_once('-')?;
    let last = if last.is_empty() {
        None
    } else {
        Some(last.parse().ok()?)
    };
    Some((first.parse().ok()?, last))
}

fn answer(
    wire: &mut Wire<'_>,
    connection: &TcpStream,
    shared: &Shared,
    request: &Request,
) -> Result<KeepAlive> {
    let answer = {
        let mut entries = shared.entries();
        let missing = !entries.contains_key(&request.path);
        // A path that nobody serves is counted too: a test may want to know that it was asked for.
        let entry = entries.entry(request.path.clone()).or_default();
        entry.stats.requests += 1;
        entry.stats.ranges.extend(request.range.map(|(first, _)| first));
        if missing {
            status(404)
        } else {
            decide(entry, request)
        }
    };
    let head_only = request.method == "HEAD";
    let mut head = format!("HTTP/1.1 {} {}\r\n", answer.status, reason(answer.status));
    for (name, value) in &answer.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let ends = request.close || answer.body.as_ref().is_some_and(|body| body.ends_connection);
    if ends {
        head.push_str("Connection: close\r\n");
    }
    head.push_str("\r\n");
    wire.write_all(head.as_bytes())?;
    if let Some(body) = answer.body.filter(|_| !head_only) {
        send(wire, shared, request, &body)?;
        if body.stall.is_some() {
            while !shared.closed.load(Ordering::SeqCst) && still_there(connection) {
                std::thread::sleep(LOOK);
            }
            return Ok(KeepAlive::Cut);
        }
        if body.cut.is_some() {
            return Ok(KeepAlive::Cut);
        }
    }
    Ok(if ends { KeepAlive::No } else { KeepAlive::Yes })
}

fn status(code: u16) -> Answer {
    Answer {
        status: code,
        headers: vec![("Content-Length", "0".to_owned())],
        body: None,
    }
}

pub(super) fn reason(code: u16) -> &'static str {
    match code {
        200 => "OK",
        201 => "Created",
        206 => "Partial Content",
        302 => "Found",
        404 => "Not Found",
        413 => "Content Too Large",
        416 => "Range Not Satisfiable",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Status",
    }
}

/// Takes one of `times` and returns `what`, if any are left.
fn take<T>(times: &mut u32, what: T) -> Option<T> {
    let left = times.checked_sub(1)?;
    *times = left;
    Some(what)
}

fn decide(entry: &mut Entry, request: &Request) -> Answer {
    let head_only = request.method == "HEAD";
    let mut refused = None;
    for fault in &mut entry.faults {
        match fault {
            Fault::Redirect(to) => {
                let mut answer = status(302);
                answer.headers.push(("Location", to.clone()));
                return answer;
            }
            Fault::Status { code, times: None } => return status(*code),
            Fault::Status {
                code,
                times: Some(times),
            } => refused = refused.or_else(|| take(times, *code)),
            _ => {}
        }
    }
    if let Some(code) = refused {
        return status(code);
    }
    let Some(content) = entry.content.clone() else {
        return status(404);
    };
    let length = content.len();
    let changing = entry.faults.contains(&Fault::ChangingEtag);
    let ranges = !entry.faults.contains(&Fault::NoRange);
    let etag = match changing {
        true => format!("\"{}-{}\"", entry.version, entry.stats.requests),
        false => format!("\"{}-{length}\"", entry.version),
    };
    let wanted = request
        .range
        .filter(|_| ranges && request.if_range.as_ref().is_none_or(|known| *known == etag));
    let (start, end) = match wanted {
        Some((first, last)) => (
            first,
            last.map_or(length, |last| length.min(last.saturating_add(1))),
        ),
        None => (0, length),
    };
    let mut headers = vec![("ETag", etag)];
    if ranges {
        headers.push(("Accept-Ranges", "bytes".to_owned()));
    }
    if start >= end && wanted.is_some() {
        headers.push(("Content-Range", format!("bytes */{length}")));
        headers.push(("Content-Length", "0".to_owned()));
        return Answer {
            status: 416,
            headers,
            body: None,
        };
    }
    if wanted.is_some() {
        headers.push(("Content-Range", format!("bytes {start}-{}/{length}", end - 1)));
    }
    let mut body = Body {
        content,
        start,
        end,
        cut: None,
        stall: None,
        flips: Vec::new(),
        ends_connection: false,
    };
    let mut announced = end - start;
    for fault in &mut entry.faults {
        match fault {
            // A HEAD has no body that could be cut.
            Fault::CutAfter { .. } | Fault::StallAfter { .. } if head_only => {}
            Fault::CutAfter { bytes, times } => body.cut = body.cut.or_else(|| take(times, *bytes)),
            Fault::StallAfter { bytes, times } => body.stall = body.stall.or_else(|| take(times, *bytes)),
            Fault::WrongLength(length) => {
                announced = *length;
                body.ends_connection = true;
            }
            Fault::NoLength => body.ends_connection = true,
            Fault::FlipByte(at) => body.flips.push(*at),
            _ => {}
        }
    }
    if !entry.faults.contains(&Fault::NoLength) {
        headers.push(("Content-Length", announced.to_string()));
    }
    Answer {
        status: if wanted.is_some() { 206 } else { 200 },
        headers,
        body: Some(body),
    }
}

fn send(wire: &mut Wire<'_>, shared: &Shared, request: &Request, body: &Body) -> Result<()> {
    let mut sent = 0;
    let limit = body.cut.into_iter().chain(body.stall).min();
    let length = (body.end - body.start).min(limit.unwrap_or(u64::MAX));
    let mut buffer = Vec::new();
    while sent < length {
        let drip = shared.entries().get(&request.path).and_then(Entry::drip);
        let most = drip.map_or(PIECE, |(bytes, _)| bytes.clamp(1, PIECE));
        let count = most.min(length - sent);
        let offset = body.start + sent;
        buffer.resize(usize::try_from(count).map_err(Error::other)?, 0);
        body.content.read_at(&mut buffer, offset)?;
        for flip in &body.flips {
            let place = flip
                .checked_sub(offset)
                .and_then(|place| usize::try_from(place).ok());
            if let Some(byte) = place.and_then(|place| buffer.get_mut(place)) {
                *byte ^= 0x01;
            }
        }
        wire.write_all(&buffer)?;
        sent += count;
        if let Some(entry) = shared.entries().get_mut(&request.path) {
            entry.stats.body_bytes += count;
        }
        if let Some((_, pause)) = drip {
            std::thread::sleep(pause);
        }
    }
    Ok(())
}

/// Whether the client has not hung up.
fn still_there(connection: &TcpStream) -> bool {
    let waiting = connection
        .set_nonblocking(true)
        .and_then(|()| connection.peek(&mut [0]));
    let restored = connection.set_nonblocking(false);
    restored.is_ok()
        && match waiting {
            Ok(count) => count > 0,
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        }
}
