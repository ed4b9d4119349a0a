//! The password of consoles in public places.
//!
//! It stands before the shell alone: how the boot stands is shown to everybody, and whoever knows a disk's passphrase may unlock it. Whatever is
//! wrong shuts the console; ssh stays.

use crate::control;
use crate::output;
use crate::prompt::{self, Answer};
use lifeboot_contract::control::Request;
use lifeboot_contract::event::Level;
use lifeboot_contract::password::PasswordHash;
use lifeboot_contract::plan::{Console, Plan};
use lifeboot_init::luks::available_kib;
use lifeboot_init::stage::plan::guard_consoles;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long somebody may think; then the console shows again how the boot stands.
const PATIENCE: Duration = Duration::from_secs(60);
/// The pause after the first wrong password, doubled by each further one, up to the last.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(60);
/// Memory in KiB that checking a password leaves for everything else.
const RESERVE_KIB: u64 = 16 << 10;

/// What a console that is shut says instead of inviting people.
pub const SHUT: &str = "No shell here: lifeboot.console-password is not a hash (see 'rescue status' by ssh).";

/// Whether nobody gets a shell on the consoles.
pub fn is_shut() -> bool {
    matches!(wanted(), Console::Shut)
}

/// Stands before the shell of one console.
pub struct Guard {
    name: String,
    wrong: u32,
}

impl Guard {
    /// Of the console of that name.
    pub fn new(name: &str) -> Guard {
        Guard {
            name: name.to_owned(),
            wrong: 0,
        }
    }

    /// Whether whoever sits at `terminal` may have a shell.
    ///
    /// # Errors
    /// The terminal's.
    pub fn admits(&mut self, terminal: &mut File) -> io::Result<bool> {
        match wanted() {
            Console::Open => Ok(true),
            // That is what the console says when it shows again how the boot stands.
            Console::Shut => {
                std::thread::sleep(FIRST_PAUSE);
                Ok(false)
            }
            Console::Password(hash) => self.ask(terminal, &hash),
        }
    }

    fn ask(&mut self, terminal: &mut File, hash: &PasswordHash) -> io::Result<bool> {
        let (takes, free) = (u64::from(hash.memory_kib), available_kib().unwrap_or(0));
        if takes + RESERVE_KIB > free {
            writeln!(
                terminal,
                "Not enough memory to check the password: it takes {} MiB, {} MiB are free.",
                takes / 1024,
                free / 1024
            )?;
            std::thread::sleep(FIRST_PAUSE);
            return Ok(false);
        }
        let end = Instant::now() + PATIENCE;
        let fd = terminal.try_clone()?;
        let Answer::Line(secret) = prompt::ask(fd.as_fd(), terminal, "Password: ", || Instant::now() > end)?
        else {
            return Ok(false);
        };
        let right = hash.is_of(secret.bytes());
        drop(secret);
        match right {
            Some(true) => {
                self.wrong = 0;
                self.tell(Level::Debug, "console.login", None);
                Ok(true)
            }
            Some(false) => {
                self.wrong = self.wrong.saturating_add(1);
                writeln!(terminal, "Wrong password.")?;
                self.tell(Level::Info, "console.refused", Some(self.wrong));
                std::thread::sleep(pause(self.wrong));
                Ok(false)
            }
            None => {
                writeln!(terminal, "Not enough memory to check the password.")?;
                Ok(false)
            }
        }
    }

    fn tell(&self, level: Level, name: &str, tries: Option<u32>) {
        let mut event = control::event(level, name).with("console", self.name.clone());
        if let Some(tries) = tries {
            let text = format!("console {}: wrong password, {tries} in a row", self.name);
            event = event.with("tries", tries).text(text);
        }
        // The person decides by the password, not by PID 1's health.
        if let Err(error) = control::ask(&Request::Event(event)) {
            output::complain(&format!("{error:#}"));
        }
    }
}

/// What the plan wants; without a plan that can be read, what its sources seem to want.
fn wanted() -> Console {
    let plan = control::plan(&control::run_dir()).unwrap_or_else(|_| {
        let mut plan = Plan::default();
        guard_consoles(Path::new("/"), &mut plan);
        plan
    });
    plan.console
}

fn pause(wrong: u32) -> Duration {
    FIRST_PAUSE
        .saturating_mul(1 << wrong.saturating_sub(1).min(10))
        .min(LAST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_wrong_password_costs_more_up_to_a_minute() {
        let pauses: Vec<u64> = (1..=8).map(|wrong| pause(wrong).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(pause(u32::MAX), LAST_PAUSE);
    }
}
