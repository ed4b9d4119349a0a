//! What is sent to the server with PUT or POST: kept at its path, unless something goes wrong.

use super::connection::{Request, reason};
use super::{Content, Fault, Shared};
use std::io::{BufRead, Error, ErrorKind, Result, Write};
use std::sync::Arc;

/// How an upload ended.
pub(super) enum Uploaded {
    /// The connection may go on.
    Said,
    /// It was cut, or is of no more use.
    Ended,
}

/// What an entry has decided about an upload.
#[derive(Default)]
struct Verdict {
    refused: Option<u16>,
    cut: Option<u64>,
    early: Option<(u64, u16)>,
    at_end: Option<u16>,
    keeps: Option<u64>,
}

fn verdict(shared: &Shared, request: &Request) -> Verdict {
    let mut entries = shared.entries();
    let entry = entries.entry(request.path.clone()).or_default();
    entry.stats.requests += 1;
    let mut verdict = Verdict::default();
    for fault in &mut entry.faults {
        match fault {
            Fault::Status { code, times: None } => verdict.refused = Some(*code),
            Fault::Status {
                code,
                times: Some(times @ 1..),
            } => {
                *times -= 1;
                verdict.refused = Some(*code);
            }
            Fault::CutAfter {
                bytes,
                times: times @ 1..,
            } => {
                *times -= 1;
                verdict.cut = Some(*bytes);
            }
            Fault::AnswerAfter { bytes, code } => verdict.early = Some((*bytes, *code)),
            Fault::AnswerAtEnd(code) => verdict.at_end = Some(*code),
            Fault::KeepOnly(bytes) => verdict.keeps = Some(*bytes),
            _ => {}
        }
    }
    verdict
}

/// Takes the body of `request`, which comes next on `wire`.
pub(super) fn take(
    wire: &mut (impl BufRead + Speaks),
    shared: &Shared,
    request: &Request,
) -> Result<Uploaded> {
    let verdict = verdict(shared, request);
    if let Some(code) = verdict.refused {
        wire.say(code)?;
        return Ok(Uploaded::Ended);
    }
    if request.expects {
        wire.out().write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    let mut bytes = Vec::new();
    let mut said = false;
    while let Some(piece) = next(wire, request, bytes.len() as u64)? {
        bytes.extend(piece);
        let so_far = bytes.len() as u64;
        if verdict.cut.is_some_and(|cut| so_far >= cut) {
            return Ok(Uploaded::Ended);
        }
        if let Some((_, code)) = verdict.early.filter(|(early, _)| so_far >= *early && !said) {
            said = true;
            wire.say(code)?;
        }
    }
    if said {
        return Ok(Uploaded::Ended);
    }
    let code = verdict.at_end.unwrap_or(201);
    if code < 300 {
        let keeps = verdict.keeps.and_then(|keeps| usize::try_from(keeps).ok());
        bytes.truncate(keeps.unwrap_or(usize::MAX));
        let mut entries = shared.entries();
        let entry = entries.entry(request.path.clone()).or_default();
        entry.stats.uploads += 1;
        entry.content = Some(Content::Memory(Arc::from(bytes)));
        entry.version += 1;
    }
    wire.say(code)?;
    Ok(Uploaded::Said)
}

/// The next bytes of a body, chunked or of known length.
fn next(wire: &mut impl BufRead, request: &Request, had: u64) -> Result<Option<Vec<u8>>> {
    const PIECE: u64 = 64 * 1024;
    let length = match request.length {
        Some(length) => (length - had).min(PIECE),
        None if !request.chunked => 0,
        None => {
            let mut line = String::new();
            wire.read_line(&mut line)?;
            u64::from_str_radix(line.trim(), 16).map_err(|_| Error::from(ErrorKind::InvalidData))?
        }
    };
    let ending: u64 = if request.length.is_none() && request.chunked {
        2
    } else {
        0
    };
    let mut bytes = vec![0; usize::try_from(length + ending).map_err(Error::other)?];
    wire.read_exact(&mut bytes)?;
    bytes.truncate(usize::try_from(length).map_err(Error::other)?);
    Ok((length > 0).then_some(bytes))
}

/// What can be answered on.
pub(super) trait Speaks {
    /// The way out.
    fn out(&mut self) -> &mut dyn Write;

    /// An answer without a body.
    fn say(&mut self, code: u16) -> Result<()> {
        let head = format!("HTTP/1.1 {code} {}\r\nContent-Length: 0\r\n\r\n", reason(code));
        self.out().write_all(head.as_bytes())
    }
}
