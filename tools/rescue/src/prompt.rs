//! Asking for a passphrase: nothing is echoed, the terminal is left as it was, the bytes are wiped.

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Signal, kill_current_process_group};
use rustix::termios::{
    InputModes, LocalModes, OptionalActions, QueueSelector, SpecialCodeIndex, Termios, tcflush, tcgetattr,
    tcsetattr,
};
use rustix::time::Timespec;
use std::io::{self, Write};
use std::os::fd::BorrowedFd;
use std::time::Duration;

pub use lifeboot_init::secret::Secret;

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
    typed_ahead: TypedAhead,
}

/// What becomes of keys that nobody asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TypedAhead {
    /// They are not meant as an answer, nor for whoever reads next.
    ThrownAway,
    /// They wait for whoever reads next.
    Kept,
}

impl<'a> Quiet<'a> {
    /// Takes over `terminal`.
    ///
    /// # Errors
    /// When it is none.
    pub fn new(terminal: BorrowedFd<'a>, typed_ahead: TypedAhead) -> io::Result<Quiet<'a>> {
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
        let when = match typed_ahead {
            TypedAhead::ThrownAway => OptionalActions::Flush,
            TypedAhead::Kept => OptionalActions::Now,
        };
        tcsetattr(terminal, when, &quiet)?;
        Ok(Quiet {
            terminal,
            before,
            typed_ahead,
        })
    }

    /// Ends it, and leaves what was typed meanwhile for whoever reads next.
    pub fn keep_typed(mut self) {
        self.typed_ahead = TypedAhead::Kept;
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
        if self.typed_ahead == TypedAhead::ThrownAway {
            crate::output::ignore(tcflush(self.terminal, QueueSelector::IFlush).map_err(io::Error::from));
        }
        crate::output::ignore(
            tcsetattr(self.terminal, OptionalActions::Now, &self.before).map_err(io::Error::from),
        );
    }
}

/// Does `work`, which takes a while, and shows nothing of what is typed meanwhile: it may be the next passphrase. Ctrl-C ends this
/// program and its children, as it would have.
///
/// # Errors
/// `terminal` is none.
pub fn unseen<T: Send>(terminal: BorrowedFd<'_>, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    const LOOK: Duration = Duration::from_millis(50);
    const CTRL_C: u8 = 3;
    let mut quiet = Some(Quiet::new(terminal, TypedAhead::ThrownAway)?);
    std::thread::scope(|scope| {
        let worker = scope.spawn(work);
        while !worker.is_finished() {
            match quiet.as_ref().map(|quiet| quiet.key(Some(LOOK))) {
                Some(Ok(Some(CTRL_C))) => {
                    // The terminal first: nothing else gives it back.
                    drop(quiet.take());
                    kill_current_process_group(Signal::INT)?;
                }
                Some(Ok(_)) => {}
                // Nobody types any more.
                Some(Err(_)) | None => break,
            }
        }
        worker.join().map_err(|_| io::Error::other("it panicked"))
    })
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
    let quiet = Quiet::new(terminal, TypedAhead::ThrownAway)?;
    write!(out, "{question}")?;
    out.flush()?;
    let answer = quiet.line(pointless);
    // The Enter was not echoed either.
    writeln!(out)?;
    answer
}
