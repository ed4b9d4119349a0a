//! A line that tells how far something is: one that changes on a terminal, else one now and then; on standard error.

use crate::output;
use std::io::{IsTerminal as _, Write as _, stderr};
use std::time::{Duration, Instant};

/// Between two looks of a person at a terminal.
const ON_TERMINAL: Duration = Duration::from_millis(500);
/// Between two lines of a log.
const IN_LOG: Duration = Duration::from_secs(10);

/// The line and when it is due.
#[derive(Debug)]
pub struct Ticker {
    terminal: bool,
    shown: Instant,
    drawn: bool,
    /// When something was last said where it is kept.
    kept: Instant,
}

impl Ticker {
    /// Nothing is shown yet.
    pub fn new() -> Ticker {
        Ticker {
            terminal: stderr().is_terminal(),
            shown: Instant::now(),
            drawn: false,
            kept: Instant::now(),
        }
    }

    /// Counts the time to the next line anew.
    pub fn begin(&mut self) {
        self.shown = Instant::now();
    }

    /// Whether it is time for a line. If so, the time to the next one begins.
    pub fn due(&mut self) -> bool {
        let pause = if self.terminal { ON_TERMINAL } else { IN_LOG };
        let due = self.shown.elapsed() >= pause;
        if due {
            self.shown = Instant::now();
        }
        due
    }

    /// Shows it.
    pub fn show(&mut self, text: &str) {
        if self.terminal {
            self.drawn = true;
            let mut out = stderr().lock();
            output::ignore(write!(out, "\r\x1b[K{text}").and_then(|()| out.flush()));
            if self.kept.elapsed() >= IN_LOG {
                self.kept = Instant::now();
                output::note(text);
            }
        } else {
            output::complain(text);
        }
    }

    /// Takes it away from the terminal.
    pub fn clear(&mut self) {
        if std::mem::take(&mut self.drawn) {
            let mut out = stderr().lock();
            output::ignore(write!(out, "\r\x1b[K").and_then(|()| out.flush()));
        }
    }
}

/// `9 s`, `2 min 05 s`, `1 h 07 min`
pub fn clock(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_as_people_say_them() {
        assert_eq!(
            [59, 60, 3599, 4020].map(clock),
            ["59 s", "1 min 00 s", "59 min 59 s", "1 h 07 min"]
        );
    }
}
