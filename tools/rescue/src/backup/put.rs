//! Sending to an HTTP server, over one connection, once.
//!
//! HTTP is spoken here and not by reqwest, because what matters is what a server says before it has all of it: `Expect: 100-continue` asks it
//! before the first byte, an answer in the middle ends the upload, and a success in the middle is believed by nobody. Whether to send
//! everything again is the caller's to decide. Source: RFC 9110 and 9112.

use super::answer::Answer;
use anyhow::anyhow;
use lifeboot_init::stage::fetch::{Limits, Url, shown};
use std::io::{self, ErrorKind, Write};
use std::time::{Duration, Instant};
use wire::Wire;

mod wire;

/// How long a server is given to say whether it wants it at all; one that does not know the question says nothing.
const ASKED: Duration = Duration::from_secs(3);
/// How long it may take no byte. Long, as an upload that is left begins with the first byte.
const STALL: Duration = Duration::from_secs(120);
/// How long it may work after the last one.
const SETTLE: Duration = Duration::from_secs(300);
/// Bytes of a chunk (RFC 9112, 7.1).
const CHUNK: usize = 64 << 10;

/// What is asked of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    Put,
    Post,
}

impl Method {
    fn word(self) -> &'static str {
        match self {
            Method::Put => "PUT",
            Method::Post => "POST",
        }
    }
}

/// Why it did not work.
#[derive(Debug)]
pub enum Trouble {
    /// The connection was cut or could not be had: another try may do.
    Cut(anyhow::Error),
    /// The server said no, or is not the one that was meant.
    Final(anyhow::Error),
}

impl Trouble {
    /// The words for it.
    pub fn into_error(self) -> anyhow::Error {
        match self {
            Trouble::Cut(error) | Trouble::Final(error) => error,
        }
    }
}

/// An upload under way.
pub struct Upload {
    wire: Wire,
    name: String,
    length: Option<u64>,
    sent: u64,
    chunk: Vec<u8>,
    /// What went wrong while it was written to, in better words than an [`io::Error`] has.
    pub trouble: Option<Trouble>,
}

impl Upload {
    /// Connects and asks; of `length` bytes, or of as many as will come.
    pub fn begin(url: &Url, method: Method, length: Option<u64>, limits: &Limits) -> Result<Upload, Trouble> {
        let name = shown(url);
        let wire = Wire::connect(url, limits)?;
        let mut upload = Upload {
            wire,
            name,
            length,
            sent: 0,
            chunk: Vec::with_capacity(CHUNK),
            trouble: None,
        };
        let head = head(url, method, length);
        let cut = |error: io::Error| {
            let again = !wire::is_distrust(&error);
            let error = anyhow!(error).context(shown(url));
            if again {
                Trouble::Cut(error)
            } else {
                Trouble::Final(error)
            }
        };
        upload.wire.write_all(head.as_bytes()).map_err(cut)?;
        upload.wire.flush().map_err(cut)?;
        let asked = Instant::now();
        // Interim answers other than the one that is waited for may come before it.
        while let Some(left) = ASKED.checked_sub(asked.elapsed()).filter(|left| !left.is_zero()) {
            upload.wire.patience(left).map_err(cut)?;
            match Answer::read(&mut upload.wire) {
                Ok(answer) if answer.status == 100 => break,
                Ok(answer) if answer.is_interim() => {}
                Ok(answer) => return Err(upload.answered(&answer)),
                Err(error) if is_silence(&error) => break,
                Err(error) => return Err(cut(error)),
            }
        }
        upload.wire.patience(STALL).map_err(cut)?;
        Ok(upload)
    }

    /// Everything was written: what the server says to that.
    pub fn finish(mut self) -> Result<u16, Trouble> {
        let done = self.flush_chunk().and_then(|()| match self.length {
            None => self.send(b"0\r\n\r\n"),
            Some(_) => Ok(()),
        });
        let done = done.and_then(|()| self.wire.flush());
        if let Err(error) = done {
            return Err(self.trouble.take().unwrap_or_else(|| self.cut(error)));
        }
        if let Some(length) = self.length.filter(|length| *length != self.sent) {
            let what = format!(
                "{}: {} of {length} bytes were there to send",
                self.name, self.sent
            );
            return Err(Trouble::Final(anyhow!(what)));
        }
        if let Err(error) = self.wire.patience(SETTLE) {
            return Err(self.cut(error));
        }
        match Answer::read_final(&mut self.wire) {
            Ok(answer) if (200..300).contains(&answer.status) => Ok(answer.status),
            Ok(answer) => Err(self.answered(&answer)),
            Err(error) if is_silence(&error) => Err(Trouble::Final(anyhow!(
                "{}: no answer for {} s after the last byte",
                self.name,
                SETTLE.as_secs()
            ))),
            Err(error) => Err(self.cut(error)),
        }
    }

    /// An answer that comes too early or is a no.
    fn answered(&self, answer: &Answer) -> Trouble {
        let (name, sent) = (&self.name, self.sent);
        Trouble::Final(match (answer.status, &answer.location) {
            (200..300, _) => anyhow!(
                "{name}: it says {} after {sent} bytes, before it had all of it; that is not believed",
                answer.said
            ),
            (300..400, Some(place)) => anyhow!("{name}: it says {}; give {place} instead", answer.said),
            _ => anyhow!("{name}: it says {}, after {sent} bytes", answer.said),
        })
    }

    fn cut(&self, error: io::Error) -> Trouble {
        let what = match is_silence(&error) {
            true => format!(
                "{}: it took nothing for {} s, after {} bytes",
                self.name,
                STALL.as_secs(),
                self.sent
            ),
            false => format!(
                "{}: the connection was cut after {} bytes ({error})",
                self.name, self.sent
            ),
        };
        Trouble::Cut(anyhow!(what))
    }

    fn flush_chunk(&mut self) -> io::Result<()> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::take(&mut self.chunk);
        self.look()?;
        if self.length.is_none() {
            self.send(format!("{:x}\r\n", chunk.len()).as_bytes())?;
        }
        self.send(&chunk)?;
        self.sent += chunk.len() as u64;
        if self.length.is_none() {
            self.send(b"\r\n")?;
        }
        self.chunk = chunk;
        self.chunk.clear();
        Ok(())
    }

    /// Whether the server has given its answer already. One that comes late to the question, or says that it is at work, is none.
    fn look(&mut self) -> io::Result<()> {
        match self.wire.has_something() {
            Ok(false) => return Ok(()),
            Ok(true) => {}
            Err(error) => return self.hear(error),
        }
        self.wire.patience(ASKED)?;
        let trouble = match Answer::read(&mut self.wire) {
            Ok(answer) if answer.is_interim() => return self.wire.patience(STALL),
            Ok(answer) => self.answered(&answer),
            Err(error) if error.kind() == ErrorKind::InvalidData => self.cut(error),
            Err(_) => self.cut(ErrorKind::ConnectionReset.into()),
        };
        self.trouble = Some(trouble);
        Err(ErrorKind::ConnectionReset.into())
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self.wire.write_all(bytes) {
            Ok(()) => Ok(()),
            Err(error) => self.hear(error),
        }
    }

    /// It takes no more: perhaps it has said why.
    fn hear(&mut self, error: io::Error) -> io::Result<()> {
        let heard = self
            .wire
            .patience(ASKED)
            .and_then(|()| Answer::read_final(&mut self.wire));
        let trouble = match heard {
            Ok(answer) => self.answered(&answer),
            Err(_) => self.cut(io::Error::new(error.kind(), error.to_string())),
        };
        self.trouble = Some(trouble);
        Err(error)
    }
}

impl Write for Upload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(CHUNK - self.chunk.len());
        self.chunk
            .extend_from_slice(bytes.get(..count).unwrap_or_default());
        if self.chunk.len() == CHUNK {
            self.flush_chunk()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.flush_chunk()
    }
}

fn head(url: &Url, method: Method, length: Option<u64>) -> String {
    let host = url.host_str().unwrap_or_default();
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
    let length = match length {
        Some(length) => format!("Content-Length: {length}"),
        None => "Transfer-Encoding: chunked".to_owned(),
    };
    let mut head = format!(
        "{} {}{query} HTTP/1.1\r\nHost: {host}{port}\r\nUser-Agent: lifeboot/{}\r\n\
         Content-Type: application/octet-stream\r\n{length}\r\nExpect: 100-continue\r\nConnection: close\r\n",
        method.word(),
        url.path(),
        env!("CARGO_PKG_VERSION")
    );
    if !url.username().is_empty() || url.password().is_some() {
        let [user, password] = [url.username(), url.password().unwrap_or_default()].map(percent_decoded);
        let user = [user, b":".to_vec(), password].concat();
        head.push_str(&format!("Authorization: Basic {}\r\n", base64(&user)));
    }
    head.push_str("\r\n");
    head
}

fn percent_decoded(text: &str) -> Vec<u8> {
    let mut rest = text.as_bytes();
    let mut decoded = Vec::new();
    while let Some((byte, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        let value = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        let value = value.filter(|_| *byte == b'%');
        rest = after
            .get(if value.is_some() { 2 } else { 0 }..)
            .unwrap_or_default();
        decoded.push(value.unwrap_or(*byte));
    }
    decoded
}

/// RFC 4648, 4.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let byte = |at: usize| u32::from(three.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= three.len() {
                char::from(letter)
            } else {
                '='
            });
        }
    }
    text
}

fn is_silence(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

#[cfg(test)]
mod tests;
