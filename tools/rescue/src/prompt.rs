//! Asking for a passphrase: nothing is echoed, the terminal is left as it was, the bytes are wiped.

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::termios::{
    InputModes, LocalModes, OptionalActions, QueueSelector, SpecialCodeIndex, Termios, tcflush, tcgetattr,
    tcsetattr,
};
use rustix::time::Timespec;
use std::io::{self, Write};
use std::os::fd::BorrowedFd;
use std::time::Duration;

/// Longest passphrase taken; the buffer is made once, so that no copy stays behind when it would have to grow.
const LONGEST: usize = 1024;

/// Bytes that are wiped when they are no longer needed.
pub struct Secret {
    bytes: Vec<u8>,
}

impl Secret {
    /// None yet.
    pub fn new() -> Secret {
        Secret {
            bytes: Vec::with_capacity(LONGEST),
        }
    }

    /// Reads all of `source`, without the line end that `echo` and editors put there.
    ///
    /// # Errors
    /// As the kernel says, and when there is more than can be a passphrase.
    pub fn read_from(mut source: impl io::Read) -> io::Result<Secret> {
        let mut secret = Secret {
            bytes: vec![0; LONGEST + 1],
        };
        let mut length = 0;
        loop {
            match source.read(secret.bytes.get_mut(length..).unwrap_or_default()) {
                Ok(0) => break,
                Ok(count) => length += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if length > LONGEST {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("more than {LONGEST} bytes"),
            ));
        }
        secret.bytes.truncate(length);
        if secret.bytes.last() == Some(&b'\n') {
            secret.bytes.pop();
        }
        Ok(secret)
    }

    /// The bytes themselves.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn push(&mut self, byte: u8) {
        if self.bytes.len() < LONGEST {
            self.bytes.push(byte);
        }
    }

    /// Takes back the last character, which may be several bytes.
    fn pop(&mut self) {
        while let Some(byte) = self.bytes.pop() {
            if byte & 0xC0 != 0x80 {
                break;
            }
        }
    }

    fn wipe(&mut self) {
        self.bytes.fill(0);
        // Keeps the optimizer from taking the line above for useless.
        std::hint::black_box(&self.bytes);
        self.bytes.clear();
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.wipe();
    }
}

/// What came of asking.
pub enum Answer {
    /// A line, maybe empty.
    Line(Secret),
    /// Ctrl-C, or the end of input.
    GivenUp,
    /// The question has become pointless meanwhile.
    Withdrawn,
}

/// A terminal that does not echo and gives every key at once, until this is dropped.
pub struct Quiet<'a> {
    terminal: BorrowedFd<'a>,
    before: Termios,
}

impl<'a> Quiet<'a> {
    /// Takes over `terminal`; what was typed before is thrown away, it was not meant as an answer.
    ///
    /// # Errors
    /// When it is none.
    pub fn new(terminal: BorrowedFd<'a>) -> io::Result<Quiet<'a>> {
        let before = tcgetattr(terminal)?;
        let mut quiet = before.clone();
        quiet.local_modes &= !(LocalModes::ECHO
            | LocalModes::ECHONL
            | LocalModes::ICANON
            | LocalModes::ISIG
            | LocalModes::IEXTEN);
        quiet.input_modes |= InputModes::ICRNL;
        quiet.special_codes[SpecialCodeIndex::VMIN] = 1;
        quiet.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(terminal, OptionalActions::Flush, &quiet)?;
        Ok(Quiet { terminal, before })
    }

    /// The next byte; `None` when none came within `patience`.
    ///
    /// # Errors
    /// As the kernel says; the end of input is one too.
    pub fn key(&self, patience: Option<Duration>) -> io::Result<Option<u8>> {
        let timeout = patience.map(|patience| Timespec {
            tv_sec: i64::try_from(patience.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: patience.subsec_nanos().into(),
        });
        let mut polled = [PollFd::new(&self.terminal, PollFlags::IN)];
        match poll(&mut polled, timeout.as_ref()) {
            Ok(0) => return Ok(None),
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        let mut byte = [0];
        match rustix::io::read(self.terminal, &mut byte) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => Ok(Some(byte[0])),
            Err(Errno::INTR | Errno::AGAIN) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads a line. `pointless` is asked about once a second whether there is still a reason to.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn line(&self, mut pointless: impl FnMut() -> bool) -> io::Result<Answer> {
        const SECOND: Duration = Duration::from_secs(1);
        let mut secret = Secret::new();
        loop {
            match self.key(Some(SECOND))? {
                None if pointless() => return Ok(Answer::Withdrawn),
                None => {}
                Some(b'\n' | b'\r') => return Ok(Answer::Line(secret)),
                Some(3) => return Ok(Answer::GivenUp),
                Some(4) if secret.bytes().is_empty() => return Ok(Answer::GivenUp),
                Some(8 | 0x7F) => secret.pop(),
                Some(0x15) => secret.wipe(),
                Some(byte) => secret.push(byte),
            }
        }
    }
}

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        crate::output::ignore(tcflush(self.terminal, QueueSelector::IFlush).map_err(io::Error::from));
        crate::output::ignore(
            tcsetattr(self.terminal, OptionalActions::Now, &self.before).map_err(io::Error::from),
        );
    }
}

/// Asks on `terminal`; the question goes where `out` goes.
///
/// # Errors
/// As the kernel says.
pub fn ask(
    terminal: BorrowedFd<'_>,
    out: &mut impl Write,
    question: &str,
    pointless: impl FnMut() -> bool,
) -> io::Result<Answer> {
    let quiet = Quiet::new(terminal)?;
    write!(out, "{question}")?;
    out.flush()?;
    let answer = quiet.line(pointless);
    // The Enter was not echoed either.
    writeln!(out)?;
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_is_taken_back_whole() {
        let mut secret = Secret::new();
        "aé€".bytes().for_each(|byte| secret.push(byte));
        secret.pop();
        assert_eq!(secret.bytes(), "aé".as_bytes());
        secret.pop();
        secret.pop();
        secret.pop();
        assert_eq!(secret.bytes(), b"");
    }

    #[test]
    fn one_line_end_is_not_part_of_a_passphrase_and_blanks_are() {
        let read = |text: &str| Secret::read_from(text.as_bytes()).unwrap().bytes().to_vec();
        assert_eq!(read(" a b \n"), b" a b ");
        assert_eq!(read("a\n\n"), b"a\n");
        assert_eq!(read(""), b"");
        assert!(Secret::read_from(vec![b'x'; LONGEST + 1].as_slice()).is_err());
        assert_eq!(
            Secret::read_from(vec![b'x'; LONGEST].as_slice())
                .unwrap()
                .bytes()
                .len(),
            LONGEST
        );
    }
}
