//! Reaching the machine other than by its own address: tunnels it keeps itself, and who may use its consoles.

use super::{Note, Plan};
use crate::password::PasswordHash;
use crate::tunnel::{self, Pin, Tunnel};
use crate::words::Word;
use serde::{Deserialize, Serialize};

/// The word that decides about consoles.
const CONSOLE: &str = "lifeboot.console-password";

/// What a console asks for before it gives a shell.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Console {
    /// Nothing: whoever can press Enter may have one.
    #[default]
    Open,
    /// The password of this hash.
    Password(PasswordHash),
    /// What cannot be given: a password was meant, and which is not known.
    Shut,
}

impl Plan {
    /// Takes a word about tunnels or consoles.
    pub(super) fn take_reach(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            "lifeboot.tunnel" if self.tunnels.len() >= tunnel::MOST => {
                return Err(format!("more than {} are given", tunnel::MOST));
            }
            "lifeboot.tunnel" => self.tunnels.push(Tunnel::parse(value)?),
            "lifeboot.tunnel-hostkey" => self.tunnel_pins.push(Pin::parse(value)?),
            _ => return self.take_console(value),
        }
        Ok(())
    }

    /// Whatever is wrong here shuts the consoles: somebody wanted them guarded.
    fn take_console(&mut self, value: &str) -> Result<(), String> {
        let wanted = match value {
            "off" => Ok(Console::Open),
            text => PasswordHash::parse(text).map(Console::Password),
        };
        match (wanted, &self.console) {
            (Err(what), _) => {
                self.console = Console::Shut;
                Err(format!("{what}; consoles give no shell"))
            }
            (Ok(_), Console::Shut) => Ok(()),
            (Ok(wanted), Console::Password(_)) if wanted != self.console => {
                self.console = Console::Shut;
                Err("is given twice and differs; consoles give no shell".to_owned())
            }
            (Ok(wanted), _) => {
                self.console = wanted;
                Ok(())
            }
        }
    }

    /// A bastion that nothing proves is not trusted on first use.
    pub(super) fn settle_reach(&mut self) {
        if self.tunnel_pins.is_empty() {
            for tunnel in std::mem::take(&mut self.tunnels) {
                let what = format!(
                    "the tunnel to {tunnel} is not kept: no lifeboot.tunnel-hostkey= says which host key it must show"
                );
                self.notes.push(Note {
                    key: "lifeboot.tunnel".to_owned(),
                    what,
                });
            }
        }
    }

    /// Shuts the consoles when one of `texts`, which could not be understood, seems to want a password there.
    pub fn guard_consoles(&mut self, texts: &[&str]) {
        if self.console == Console::Open && texts.iter().any(|text| text.contains("console-password")) {
            self.console = Console::Shut;
        }
    }
}

/// A word's value as notes may repeat it: what stands for a password is not printed on consoles.
pub(crate) fn shown(word: &Word) -> &str {
    if word.key == CONSOLE { "…" } else { word.text() }
}
