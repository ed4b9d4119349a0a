//! Tang: a volume's passphrase that only comes about with the help of a server (`clevis luks bind -d DEVICE tang …`).
//!
//! The passphrase is in the volume's header, encrypted as a JWE for a key that neither this machine nor the server has alone
//! (McCallum-Relyea exchange). The server learns nothing of the key: it multiplies a point that was blinded for it. The one thing a
//! reader would get wrong: the address that is asked stands in the header of a disk. Nobody is asked on behalf of a disk that
//! neither the plan nor a person has named.
//!
//! Files in reading order: `jwe` the envelope, `pin` what its header asks for, `curve` the exchange, `shares` several servers of which
//! some suffice.

use crate::secret::Secret;
use crate::stage::fetch;
use serde_json::Value;
use std::fmt;

mod curve;
mod jwe;
mod pin;
mod shares;

use jwe::Jwe;
use pin::Pin;

/// Shares within shares within shares: nobody does that but to make us busy.
const DEEPEST: u32 = 3;

/// Longest answer of a server that is read; a JWK has a few hundred bytes.
const LONGEST_ANSWER: u64 = 8 * 1024;

/// Where the servers are asked; tests answer themselves.
pub trait Servers {
    /// Posts `body`, a JWK, to `url`.
    ///
    /// # Errors
    /// Why there is no answer, without the URL.
    fn ask(&self, url: &str, body: Vec<u8>) -> Result<Vec<u8>, String>;
}

/// Which step failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// What the token asks for is not done here.
    Unsupported,
    /// The token in the volume's header is not what clevis writes.
    Token,
    /// The server gives no answer.
    Request,
    /// Its answer is not one.
    Answer,
    /// What came out does not decrypt the passphrase: the server has other keys than when the volume was bound.
    Decrypt,
    /// The passphrase is had, but does not open the volume.
    Open,
}

/// Why there is no passphrase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// Where it failed.
    pub step: Step,
    /// What happened, the server named where it is one's fault.
    pub what: String,
}

impl Trouble {
    fn new(step: Step, what: impl Into<String>) -> Trouble {
        Trouble {
            step,
            what: what.into(),
        }
    }

    /// The passphrase opens no slot.
    pub fn stale() -> Trouble {
        Trouble::new(
            Step::Open,
            "its passphrase opens no key slot any more: bind the volume anew",
        )
    }

    /// The volume cannot be opened by any key now.
    pub fn opening(what: String) -> Trouble {
        Trouble::new(Step::Open, what)
    }

    /// Whether asking again cannot change it.
    pub fn is_final(&self) -> bool {
        matches!(self.step, Step::Unsupported | Step::Token)
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Trouble {}

/// The passphrase in a token's JWE, in JSON serialization.
///
/// # Errors
/// Which step failed, and why.
pub fn passphrase(jwe: &Value, servers: &dyn Servers) -> Result<Secret, Trouble> {
    unseal(&Jwe::from_json(jwe)?, servers, 0)
}

/// The servers a token names, `pin` and what else is in it: for people.
pub fn describe(jwe: &Value) -> String {
    match Jwe::from_json(jwe).and_then(|jwe| Pin::of(&jwe)) {
        Ok(pin) => pin.to_string(),
        Err(trouble) => trouble.what,
    }
}

/// The servers themselves.
pub struct Online<'c> {
    /// By which certificates are judged.
    pub clock: &'c dyn fetch::Clock,
}

impl Servers for Online<'_> {
    fn ask(&self, url: &str, body: Vec<u8>) -> Result<Vec<u8>, String> {
        let question = fetch::Question {
            url,
            kind: "application/jwk+json",
            body,
            longest: LONGEST_ANSWER,
        };
        fetch::post(question, self.clock)
    }
}

fn unseal(jwe: &Jwe, servers: &dyn Servers, depth: u32) -> Result<Secret, Trouble> {
    match Pin::of(jwe)? {
        Pin::Tang(tang) => {
            let at = |trouble: Trouble| Trouble {
                what: format!("{}: {}", tang.url, trouble.what),
                ..trouble
            };
            let exchange = curve::begin(&tang.client, &tang.server).map_err(at)?;
            let answer = servers
                .ask(&tang.recovery(), exchange.question().to_json())
                .map_err(|what| at(Trouble::new(Step::Request, what)))?;
            let shared = curve::Jwk::of_answer(&answer)
                .and_then(|answer| exchange.finish(&answer))
                .map_err(at)?;
            jwe.open(&jwe::derived_key(&shared)).map_err(at)
        }
        Pin::Shares(shares) if depth < DEEPEST => {
            let mut points = Vec::new();
            let mut troubles = Vec::new();
            for child in &shares.children {
                if points.len() >= shares.threshold {
                    break;
                }
                match Jwe::from_compact(child).and_then(|child| unseal(&child, servers, depth + 1)) {
                    Ok(point) => points.push(point),
                    Err(trouble) => troubles.push(trouble),
                }
            }
            if points.len() < shares.threshold {
                return Err(shares.too_few(points.len(), &troubles));
            }
            jwe.open(&shares.key(&points)?)
        }
        Pin::Shares(_) => Err(Trouble::new(
            Step::Token,
            format!("shares are nested more than {DEEPEST} deep"),
        )),
        Pin::Other(name) => Err(Trouble::new(
            Step::Unsupported,
            format!("clevis pin '{name}' is not supported here, only tang and sss"),
        )),
    }
}

/// What a stranger wrote, as it may be shown on a terminal.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(40).collect()
}

#[cfg(test)]
mod tests;
