//! What is at the other end of a serial line: how large it is and of which kind, asked for as resize(1) does.
//!
//! The cursor is sent to a far corner, asked where it is, and sent back; then the terminal is asked what it is (ECMA-48's CPR and DA). Answers
//! come in order, so the second one ends the waiting. What a person types meanwhile is put back. A terminal that does not answer is
//! taken for a VT220 of 24 lines, which is what serial lines have been for fifty years.

use crate::output;
use crate::prompt::{Quiet, TypedAhead};
use anyhow::{Context as _, bail};
use argh::FromArgs;
use rustix::termios::{Winsize, isatty, tcsetwinsize};
use std::io::{self, Write};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// The questions: cursor kept, to the far corner, where is it, back, what are you.
const QUESTIONS: &str = "\x1b7\x1b[999;999H\x1b[6n\x1b8\x1b[c";
/// How long a terminal may be silent. A slow line with a terminal server behind it takes a third of that.
const SILENCE: Duration = Duration::from_millis(600);
/// How long it may take altogether, whatever it says.
const PATIENCE: Duration = Duration::from_secs(2);
/// An answer longer than this is none.
const LONGEST: usize = 64;
/// Lines and columns a terminal can have.
const POSSIBLE: std::ops::RangeInclusive<u16> = 2..=998;
/// The size of one that does not answer.
const USUAL: Size = Size {
    rows: 24,
    columns: 80,
};

/// tell programs how large the terminal is, after it has changed on a serial line
#[derive(Debug, FromArgs)]
#[cfg_attr(test, derive(argh::ArgsInfo))]
#[argh(
    subcommand,
    name = "resize",
    example = "After the window was made larger:\n$ {command_name}",
    note = "A serial line does not tell when the window at its end changes; the console asks once, when the shell begins. Over ssh this is \
            never needed."
)]
pub struct Resize {}

/// A terminal's size in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Size {
    rows: u16,
    columns: u16,
}

/// What is known of a terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// For `TERM`.
    pub term: &'static str,
}

impl Found {
    /// A screen of the kernel's own.
    pub fn screen() -> Found {
        Found { term: "linux" }
    }
}

/// Asks the terminal and tells the kernel its size; questions go where `out` goes.
///
/// # Errors
/// As the kernel says. A terminal that does not answer is none.
pub fn adopt(terminal: BorrowedFd<'_>, out: &mut impl Write) -> io::Result<Found> {
    let answers = ask(terminal, out)?;
    set_size(terminal, answers.size.unwrap_or(USUAL))?;
    Ok(Found {
        term: answers.term(|name| has_terminfo(Path::new("/"), name)),
    })
}

/// `rescue resize`
///
/// # Errors
/// Standard input is no terminal, or one that does not answer.
pub fn resize(_: &Resize) -> anyhow::Result<ExitCode> {
    let stdin = io::stdin();
    if !isatty(&stdin) {
        bail!("standard input is not a terminal");
    }
    let answers = ask(stdin.as_fd(), &mut io::stdout()).context("terminal")?;
    let size = answers
        .size
        .context("the terminal does not say how large it is")?;
    set_size(stdin.as_fd(), size).context("terminal")?;
    output::line(&format!("{} lines, {} columns", size.rows, size.columns))?;
    Ok(ExitCode::SUCCESS)
}

fn set_size(terminal: BorrowedFd<'_>, size: Size) -> io::Result<()> {
    let size = Winsize {
        ws_row: size.rows,
        ws_col: size.columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    Ok(tcsetwinsize(terminal, size)?)
}

fn ask(terminal: BorrowedFd<'_>, out: &mut impl Write) -> io::Result<Answers> {
    let quiet = Quiet::new(terminal, TypedAhead::Kept)?;
    let mut answers = Answers::default();
    // Typed before the question: no answer is among it.
    while let Some(key) = quiet.key(Some(Duration::ZERO))? {
        answers.typed.push(key);
    }
    write!(out, "{QUESTIONS}")?;
    out.flush()?;
    let end = Instant::now() + PATIENCE;
    while answers.attributes.is_none() && Instant::now() < end {
        match quiet.key(Some(SILENCE))? {
            Some(key) => answers.take(key),
            None => break,
        }
    }
    answers.give_up();
    // Some programs send a line feed behind the Enter that brought us here.
    let typed = answers.typed.strip_prefix(b"\n").unwrap_or(&answers.typed);
    // While the terminal is quiet: otherwise it would edit the line by itself, and nothing would be left for the shell to edit.
    if let Err(error) = lifeboot_init::type_in(terminal, typed) {
        output::complain(&format!("what was typed meanwhile is lost: {error}"));
    }
    quiet.keep_typed();
    Ok(answers)
}

/// What a terminal has said, taken from among what a person types.
#[derive(Debug, Default)]
struct Answers {
    size: Option<Size>,
    /// Numbers of the primary device attributes.
    attributes: Option<Vec<u16>>,
    typed: Vec<u8>,
    /// A control sequence that has not ended.
    partial: Vec<u8>,
}

impl Answers {
    fn take(&mut self, byte: u8) {
        match (self.partial.as_slice(), byte) {
            ([], 0x1B) => self.partial.push(byte),
            ([], _) => self.typed.push(byte),
            ([_], b'[') => self.partial.push(byte),
            ([_, _, ..], 0x20..=0x3F) if self.partial.len() < LONGEST => self.partial.push(byte),
            ([_, _, parameters @ ..], b'R' | b'c') => {
                let parameters = String::from_utf8_lossy(parameters).into_owned();
                self.partial.push(byte);
                if self.understand(&parameters, byte) {
                    self.partial.clear();
                } else {
                    self.give_up();
                }
            }
            // A key of its own, such as an arrow.
            _ => {
                self.partial.push(byte);
                self.give_up();
            }
        }
    }

    fn understand(&mut self, parameters: &str, end: u8) -> bool {
        let numbers = |text: &str| -> Option<Vec<u16>> { text.split(';').map(|n| n.parse().ok()).collect() };
        match end {
            b'c' => {
                let attributes = parameters.strip_prefix('?').and_then(numbers);
                let understood = attributes.is_some();
                self.attributes = attributes.or(self.attributes.take());
                understood
            }
            _ => match numbers(parameters).as_deref() {
                Some([rows, columns]) => {
                    let size = Size {
                        rows: *rows,
                        columns: *columns,
                    };
                    if POSSIBLE.contains(rows) && POSSIBLE.contains(columns) {
                        self.size = Some(size);
                    }
                    true
                }
                _ => false,
            },
        }
    }

    /// What has begun like an answer was typed.
    fn give_up(&mut self) {
        self.typed.append(&mut self.partial);
    }

    /// The best description the image has: colours only for a terminal that says it has them (attribute 22), since a VT220's sequences are
    /// understood by all that came after it.
    fn term(&self, there: impl Fn(&str) -> bool) -> &'static str {
        let colours = match self.attributes.as_deref() {
            Some([level, attributes @ ..]) => *level >= 62 && attributes.contains(&22),
            _ => false,
        };
        let known = ["xterm-256color", "xterm"].into_iter().find(|name| there(name));
        known.filter(|_| colours).unwrap_or("vt220")
    }
}

/// Whether the image describes that terminal.
fn has_terminfo(root: &Path, name: &str) -> bool {
    let initial = name.get(..1).unwrap_or_default();
    ["etc/terminfo", "lib/terminfo", "usr/share/terminfo"]
        .iter()
        .any(|dir| root.join(dir).join(initial).join(name).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(text: &str) -> Answers {
        let mut answers = Answers::default();
        text.bytes().for_each(|byte| answers.take(byte));
        answers.give_up();
        answers
    }

    #[test]
    fn size_and_kind_are_taken_from_among_what_is_typed() {
        let answers = heard("ls\x1b[43;132R -l\x1b[?64;1;2;6;22c\r");
        assert_eq!(
            answers.size,
            Some(Size {
                rows: 43,
                columns: 132
            })
        );
        assert_eq!(answers.attributes.as_deref(), Some(&[64, 1, 2, 6, 22][..]));
        assert_eq!(answers.typed, b"ls -l\r");
    }

    #[test]
    fn keys_that_look_like_answers_are_kept() {
        for keys in [
            "\x1b[A",
            "\x1bOP",
            "\x1b",
            "\x1b[",
            "\x1b[12",
            "\x1b[3~",
            "\x1bx",
            "\x1b[1;2;3R",
            "\x1b[Rc",
        ] {
            let answers = heard(keys);
            assert_eq!(answers.typed, keys.as_bytes(), "{keys:?}");
            assert_eq!((answers.size, answers.attributes), (None, None), "{keys:?}");
        }
    }

    #[test]
    fn nonsense_is_no_size_and_does_not_grow_without_end() {
        for text in ["\x1b[0;0R", "\x1b[999;999R", "\x1b[1;1R", "\x1b[65536;1R"] {
            assert_eq!(heard(text).size, None, "{text:?}");
        }
        let endless = format!("\x1b[{}", "1".repeat(100_000));
        assert_eq!(heard(&endless).typed, endless.as_bytes());
    }

    #[test]
    fn colours_need_a_terminal_that_says_so_and_an_image_that_describes_it() {
        let xterm = heard("\x1b[?64;1;2;6;9;15;16;17;18;21;22;28c");
        assert_eq!(xterm.term(|_| true), "xterm-256color");
        assert_eq!(xterm.term(|name| name == "xterm"), "xterm");
        assert_eq!(xterm.term(|_| false), "vt220");
        for plain in ["\x1b[?62;1;2;6;7;8;9c", "\x1b[?1;2c", "\x1b[?6c", ""] {
            assert_eq!(heard(plain).term(|_| true), "vt220", "{plain:?}");
        }
    }
}
