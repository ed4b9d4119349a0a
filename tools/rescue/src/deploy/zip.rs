//! The one image in a zip archive, as its bytes come.
//!
//! The one thing a reader would get wrong: a zip is meant to be read from its end, where its directory is, and this reads it from
//! the beginning. What the local headers say is believed only until the directory has come and says the same; an archive without a
//! directory was cut. Source: PKWARE's APPNOTE.TXT, sections 4.3 to 4.5.

use super::format::{Format, LOOKED_AT};
use counted::Counted;
pub use entry::number;
use entry::{Entry, Method};
use flate2::{Crc, Decompress, FlushDecompress, Status};
use std::io::{self, BufRead as _, ErrorKind, Read};

mod counted;
mod entry;

/// A file that is not called `.img` and is no larger is held back until it is known whether it is the only one: a README is not
/// to be written to a disk.
const LITTLE: usize = 1 << 20;

/// Entries looked at; an archive with more is no disk image.
const MOST: usize = 1000;

/// Reads the image.
pub struct Zip<R> {
    source: Counted<R>,
    at: At,
    seen: Vec<Entry>,
    /// What was read ahead, and how much of it has been given on.
    held: Vec<u8>,
    given: usize,
}

/// Where in the archive it is.
enum At {
    Begin,
    Image(Box<Content>),
    /// All of the image was read into `held`; the archive has come to its end.
    Held,
    End,
}

/// What a first local header tells before anything is written.
///
/// # Errors
/// Why that archive is not taken.
pub fn look(first: &[u8]) -> io::Result<Option<u64>> {
    let mut source = Counted::new(first);
    match source.signature()? {
        entry::LOCAL => {}
        _ => return Err(refused("has no file in it")),
    }
    // What is longer than what was looked at is judged later.
    let entry = match Entry::local(&mut source) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
        entry => entry?,
    };
    entry.takable()?;
    Ok(entry.unpacked.filter(|_| entry.is_image()))
}

impl<R: Read> Zip<R> {
    /// Nothing is read yet.
    pub fn new(source: R) -> Zip<R> {
        Zip {
            source: Counted::new(source),
            at: At::Begin,
            seen: Vec::new(),
            held: Vec::new(),
            given: 0,
        }
    }

    /// Reads on to the image; leaves its first bytes in `held`.
    fn find(&mut self) -> io::Result<()> {
        let mut little: Option<(String, Vec<u8>)> = None;
        loop {
            if self.source.signature()? != entry::LOCAL {
                let (name, bytes) = little.take().ok_or_else(|| refused("has no file in it"))?;
                self.directory()?;
                inner(&name, &bytes)?;
                (self.held, self.at) = (bytes, At::Held);
                return Ok(());
            }
            let mut content = self.enter()?;
            let name = content.entry.name.clone();
            let is_file = content.entry.is_file();
            let most = match (is_file, content.entry.is_image()) {
                (true, true) => LOOKED_AT,
                (true, false) => LITTLE + 1,
                (false, _) => 0,
            };
            let mut first = Vec::new();
            let taken = (&mut From(&mut content, &mut self.source))
                .take(most as u64)
                .read_to_end(&mut first)?;
            if most == LOOKED_AT || taken > LITTLE {
                inner(&name, &first)?;
                (self.held, self.at) = (first, At::Image(Box::new(content)));
                return Ok(());
            }
            if is_file {
                little = Some((name, first));
            }
            self.leave(content)?;
        }
    }

    /// The next local header, behind its signature.
    fn enter(&mut self) -> io::Result<Content> {
        if self.seen.len() >= MOST {
            return Err(refused(&format!("has more than {MOST} files in it")));
        }
        let start = self.source.count - 4;
        let mut entry = Entry::local(&mut self.source)?;
        entry.start = start;
        entry.takable()?;
        Ok(Content::new(entry))
    }

    /// What is left of an entry must fit what was said of it.
    fn leave(&mut self, mut content: Content) -> io::Result<()> {
        io::copy(&mut From(&mut content, &mut self.source), &mut io::sink())?;
        self.seen.push(content.close(&mut self.source)?);
        Ok(())
    }

    /// The image has been read: nothing that could be meant instead may follow, and the directory must know what was read.
    fn rest(&mut self, content: Content) -> io::Result<()> {
        let (name, certain) = (content.entry.name.clone(), content.entry.is_image());
        self.leave(content)?;
        while self.source.signature()? == entry::LOCAL {
            let content = self.enter()?;
            if content.entry.is_file() && (content.entry.is_image() || !certain) {
                return Err(refused(&format!(
                    "has several files in it that may be meant: {name}, {}",
                    content.entry.name
                )));
            }
            self.leave(content)?;
        }
        self.directory()
    }

    /// The central directory, the first signature of which was read, to the very end.
    fn directory(&mut self) -> io::Result<()> {
        let mut known = 0;
        loop {
            match self.source.last {
                entry::CENTRAL => {
                    let entry = Entry::central(&mut self.source)?;
                    if !self.seen.iter().any(|seen| seen.is_same(&entry)) {
                        let what = format!("its directory does not fit what is in it: {}", entry.name);
                        return Err(broken(&what));
                    }
                    known += 1;
                }
                entry::END_64 => {
                    let length = number(&self.source.take_bytes(8)?);
                    self.source.skip(length)?;
                }
                entry::LOCATOR_64 => self.source.skip(16)?,
                entry::END => break,
                other => return Err(broken(&format!("there is no directory but {other:#010x}"))),
            }
            self.source.signature()?;
        }
        let end = self.source.take_bytes(18)?;
        let (told, comment) = (number(&end[6..8]), number(&end[16..18]));
        if known != self.seen.len() || (told != 0xFFFF && told != known as u64) {
            let what = format!(
                "{} files, {known} in its directory, {told} announced",
                self.seen.len()
            );
            return Err(broken(&what));
        }
        self.source.skip(comment)?;
        match self.source.inner.fill_buf()?.is_empty() {
            true => Ok(()),
            false => Err(broken("something follows its end")),
        }
    }
}

impl<R: Read> Read for Zip<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if matches!(self.at, At::Begin) {
                self.find()?;
            }
            if self.given < self.held.len() {
                let count = self.held.get(self.given..).unwrap_or_default().read(buffer)?;
                self.given += count;
                return Ok(count);
            }
            match &mut self.at {
                At::Image(content) => {
                    let count = From(content, &mut self.source).read(buffer)?;
                    if count > 0 || buffer.is_empty() {
                        return Ok(count);
                    }
                    if let At::Image(content) = std::mem::replace(&mut self.at, At::End) {
                        self.rest(*content)?;
                    }
                }
                _ => return Ok(0),
            }
        }
    }
}

/// An entry that is being read.
struct Content {
    entry: Entry,
    inflate: Option<Decompress>,
    crc: Crc,
    came: u64,
    went: u64,
    ended: bool,
}

impl Content {
    fn new(entry: Entry) -> Content {
        Content {
            inflate: (entry.method == Method::Deflate).then(|| Decompress::new(false)),
            entry,
            crc: Crc::new(),
            came: 0,
            went: 0,
            ended: false,
        }
    }

    fn read<R: Read>(&mut self, source: &mut Counted<R>, buffer: &mut [u8]) -> io::Result<usize> {
        while !self.ended && !buffer.is_empty() {
            let left = self.entry.packed.map(|packed| packed.saturating_sub(self.came));
            let input = source.inner.fill_buf()?;
            let most = left.map_or(input.len(), |left| {
                usize::try_from(left).unwrap_or(usize::MAX).min(input.len())
            });
            let input = input.get(..most).unwrap_or_default();
            let (used, made) = match &mut self.inflate {
                None => {
                    let count = input.len().min(buffer.len());
                    buffer[..count].copy_from_slice(&input[..count]);
                    self.ended = left == Some(0);
                    (count, count)
                }
                Some(inflate) => {
                    let (before_in, before_out) = (inflate.total_in(), inflate.total_out());
                    let status = inflate
                        .decompress(input, buffer, FlushDecompress::None)
                        .map_err(|error| broken(&format!("{}: {error}", self.entry.name)))?;
                    self.ended = status == Status::StreamEnd;
                    let grown = |now: u64, before: u64| usize::try_from(now - before).unwrap_or(0);
                    (
                        grown(inflate.total_in(), before_in),
                        grown(inflate.total_out(), before_out),
                    )
                }
            };
            if used == 0 && made == 0 && !self.ended {
                return Err(match left {
                    Some(0) => broken(&format!("{}: does not end where it should", self.entry.name)),
                    _ => ErrorKind::UnexpectedEof.into(),
                });
            }
            source.consume(used);
            (self.came, self.went) = (self.came + used as u64, self.went + made as u64);
            self.crc.update(buffer.get(..made).unwrap_or_default());
            if self.entry.unpacked.is_some_and(|told| self.went > told) {
                return Err(broken(&format!("{}: longer than announced", self.entry.name)));
            }
            if made > 0 {
                return Ok(made);
            }
        }
        Ok(0)
    }

    /// What was read of it, when that is what was announced.
    fn close<R: Read>(self, source: &mut Counted<R>) -> io::Result<Entry> {
        let found = Entry {
            crc: Some(self.crc.sum()),
            packed: Some(self.came),
            unpacked: Some(self.went),
            ..self.entry
        };
        let differs = |told: Option<u64>, found: u64| told.is_some_and(|told| told != found);
        if self.entry.descriptor {
            source.descriptor(&found)?;
        } else if self.entry.crc.is_some_and(|crc| crc != self.crc.sum()) {
            return Err(broken(&format!("{}: its checksum is wrong", found.name)));
        }
        if differs(self.entry.packed, self.came) || differs(self.entry.unpacked, self.went) {
            return Err(broken(&format!("{}: not as long as announced", found.name)));
        }
        Ok(found)
    }
}

/// An entry with the source it is read from.
struct From<'z, R>(&'z mut Content, &'z mut Counted<R>);

impl<R: Read> Read for From<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(self.1, buffer)
    }
}

/// What is in the archive must be an image itself: no guess is made twice.
fn inner(name: &str, first: &[u8]) -> io::Result<()> {
    match Format::of(first) {
        Ok(Format::Raw) if first.is_empty() => Err(refused(&format!("has an empty file in it: {name}"))),
        Ok(Format::Raw) => Ok(()),
        Ok(other) => Err(refused(&format!(
            "has {name} in it, which is packed once more ({}); unpack the zip first",
            other.word()
        ))),
        Err(what) => Err(refused(&format!("has {name} in it, which is {what}"))),
    }
}

fn refused(what: &str) -> io::Error {
    io::Error::other(format!("the zip archive {what}"))
}

fn broken(what: &str) -> io::Error {
    io::Error::new(
        ErrorKind::InvalidData,
        format!("the zip archive is damaged: {what}"),
    )
}

#[cfg(test)]
mod tests;
