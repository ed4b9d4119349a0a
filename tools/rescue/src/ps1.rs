//! What stands before the prompt of the shell: this machine's name and how the boot stands.
//!
//! The shell asks for it before every line (see the feature `bash`), so it must cost nothing and never wait: a PID 1 that does not
//! answer at once is shown as a question mark.

use crate::{control, output};
use lifeboot_contract::status::{Phase, Status};
use std::process::ExitCode;
use std::time::Duration;

/// The word after `rescue`; for the shell, not for people.
pub const WORD: &str = "shell-prompt";

/// How long the prompt may wait for PID 1.
const PATIENCE: Duration = Duration::from_millis(300);

/// Whether the terminal shows colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    Plain,
    /// Sequences of ECMA-48, between the bytes by which readline knows that they take no room.
    Coloured,
}

/// Prints it, without a line end. `words` are what stood behind [`WORD`].
///
/// # Errors
/// As the kernel says.
pub fn run(words: &[std::ffi::OsString]) -> anyhow::Result<ExitCode> {
    let look = match words.first() {
        Some(word) if word == "colour" => Look::Coloured,
        _ => Look::Plain,
    };
    let status = control::status_within(PATIENCE).ok();
    output::text(&prompt(status.as_ref(), look))?;
    Ok(ExitCode::SUCCESS)
}

/// `pi-attic (boot failed)`
fn prompt(status: Option<&Status>, look: Look) -> String {
    let name = status.map(|status| status.hostname.clone()).unwrap_or_default();
    let name = match name.as_str() {
        "" => rustix::system::uname().nodename().to_string_lossy().into_owned(),
        _ => name,
    };
    let (state, colour) = state(status.map(|status| &status.phase));
    match look {
        Look::Plain => format!("{name} ({state})"),
        Look::Coloured => format!("\x01\x1b[1m\x02{name}\x01\x1b[0;{colour}m\x02 ({state})\x01\x1b[0m\x02"),
    }
}

/// A word or two, and the colour of ECMA-48 that it is shown in.
fn state(phase: Option<&Phase>) -> (&'static str, u8) {
    const RED: u8 = 31;
    const GREEN: u8 = 32;
    const YELLOW: u8 = 33;
    match phase {
        None => ("boot ?", RED),
        Some(Phase::Starting | Phase::Booting { .. }) => ("booting", YELLOW),
        Some(Phase::WaitingForPassphrase { .. }) => ("locked", YELLOW),
        Some(Phase::Rescue) => ("rescue", GREEN),
        Some(Phase::Break { .. }) => ("boot stopped", YELLOW),
        Some(Phase::Failed { .. }) => ("boot failed", RED),
        Some(Phase::Held { .. }) => ("ready to boot", GREEN),
        Some(Phase::HandingOver) => ("leaving", YELLOW),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_and_the_state_are_there_and_colours_take_no_room() {
        let status = Status {
            phase: Phase::Rescue,
            hostname: "pi-attic".into(),
            ..Status::default()
        };
        assert_eq!(prompt(Some(&status), Look::Plain), "pi-attic (rescue)");
        let coloured = prompt(Some(&status), Look::Coloured);
        let mut hidden = false;
        let seen: String = coloured
            .chars()
            .filter(|letter| {
                hidden = match letter {
                    '\u{1}' => true,
                    '\u{2}' => false,
                    _ => return !hidden,
                };
                false
            })
            .collect();
        assert_eq!(seen, "pi-attic (rescue)");
    }

    #[test]
    fn a_pid_1_that_does_not_answer_is_seen() {
        assert!(prompt(None, Look::Plain).ends_with(" (boot ?)"));
    }
}
