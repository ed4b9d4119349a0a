//! The three lines that greet whoever logs in: what the boot is doing, why, and what can be typed next; and one for each disk that is
//! being worked on.

use crate::control;
use crate::{output, work};

/// Prints them on standard output. Whoever logs in must get a shell even when PID 1 is in trouble, so nothing fails.
pub fn print() {
    let lines = lines();
    output::ignore(output::lines(lines.iter().map(String::as_str)));
}

/// The lines, or why there are none.
pub fn lines() -> Vec<String> {
    let mut lines = match control::status() {
        Ok(status) => status.lines(),
        Err(error) => vec![format!("The state of the boot is not known: {error:#}.")],
    };
    lines.extend(work::lines());
    lines
}
