//! Who may log in, as whom, and to do what.
//!
//! Lines of `authorized_keys` files, a list for each user, and authorities whose certificates are taken. A line whose options this server does
//! not carry out is refused rather than honoured half: it would give more than its owner meant.

mod certificate;

use super::grant::User;
use lifeboot_contract::authorized::{Grant, LEAST_RSA_BITS, Line, List, Options};
use lifeboot_contract::plan::Ssh;
use russh::keys::ssh_key::{Algorithm, public::KeyData};
use russh::keys::{Certificate, HashAlg, PublicKey};
use std::net::IpAddr;

/// Everybody who may log in.
#[derive(Debug, Default)]
pub struct Authorized {
    entries: Vec<Entry>,
}

/// A line.
#[derive(Debug)]
struct Entry {
    key: PublicKey,
    options: Options,
    /// The one user it is for; `None`: all.
    only: Option<User>,
}

/// A line that is not taken.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused {
    /// Which: the list it is in and its number there, from 1.
    pub line: String,
    /// What is wrong with it.
    pub what: String,
}

/// Where and when somebody wants in.
#[derive(Debug, Clone, Copy)]
pub struct Attempt {
    /// As whom.
    pub user: User,
    /// From where.
    pub client: IpAddr,
    /// Seconds since 1970.
    pub now: u64,
}

impl Authorized {
    /// Reads the lines of the plan; those that cannot be taken are told apart.
    pub fn of(ssh: &Ssh) -> (Authorized, Vec<Refused>) {
        let mut authorized = Authorized::default();
        let mut refused = Vec::new();
        let lists = [
            ("authorized key", &ssh.authorized_keys, None, List::Root),
            ("unlock key", &ssh.unlock_keys, Some(User::Unlock), List::Role),
            ("status key", &ssh.status_keys, Some(User::Status), List::Role),
            ("user authority", &ssh.user_authorities, None, List::Authorities),
        ];
        for (name, lines, only, list) in lists {
            for (index, line) in lines.iter().enumerate() {
                let line = line.trim();
                if line.is_empty() || line.starts_with('#') {
                    continue;
                }
                match entry_of(line, only, list) {
                    Ok(entry) => authorized.entries.push(entry),
                    Err(what) => refused.push(Refused {
                        line: format!("{name} {}", index + 1),
                        what,
                    }),
                }
            }
        }
        (authorized, refused)
    }

    /// How many different keys there are, those of authorities too.
    pub fn len(&self) -> usize {
        let keys = self.entries.iter().map(|entry| entry.key.key_data());
        let first = |(index, key): &(usize, &KeyData)| {
            let before = self.entries.iter().take(*index);
            !before
                .map(|entry| entry.key.key_data())
                .any(|other| other == *key)
        };
        keys.enumerate().filter(first).count()
    }

    /// Whether it is worth asking for a proof that somebody has `key`. What is offered may be the key of a certificate that is shown only
    /// with the proof, so that where there are authorities every key is.
    pub fn may_fit(&self, key: &PublicKey, algorithm: &Algorithm, attempt: Attempt) -> Result<(), String> {
        if is_sha1(algorithm) {
            return Err("SHA-1 signatures are not taken".to_owned());
        }
        let certifies = |entry: &Entry| entry.options.authority && entry.is_for(attempt.user);
        if self.entries.iter().any(certifies) {
            return Ok(());
        }
        self.granted(key, algorithm, attempt).map(drop)
    }

    /// What the owner of `key` may do, who has proved it with the signature algorithm `algorithm`.
    ///
    /// # Errors
    /// Why nothing.
    pub fn granted(&self, key: &PublicKey, algorithm: &Algorithm, attempt: Attempt) -> Result<Grant, String> {
        // SHA-1 signatures: russh verifies them when asked to, OpenSSH has not offered them since 8.8.
        if is_sha1(algorithm) {
            return Err("SHA-1 signatures are not taken".to_owned());
        }
        let lines = self.entries.iter().filter(|entry| !entry.options.authority);
        first_grant(
            lines.filter(|entry| entry.key.key_data() == key.key_data()),
            attempt,
            |entry| entry.options.granted(attempt.client, attempt.now),
        )
        .map_err(|why| format!("key {}: {why}", key.fingerprint(HashAlg::Sha256)))
    }

    /// What the owner of `certificate` may do.
    ///
    /// # Errors
    /// Why nothing.
    pub fn certified(&self, certificate: &Certificate, attempt: Attempt) -> Result<Grant, String> {
        let lines = self.entries.iter().filter(|entry| entry.options.authority);
        let names = [attempt.user.name(), User::Root.name()];
        first_grant(
            lines.filter(|entry| entry.key.key_data() == certificate.signature_key()),
            attempt,
            |entry| {
                // Who may be root may be anybody; a line for one user alone is for that user's name alone.
                let names = if entry.only.is_some() {
                    &names[..1]
                } else {
                    &names[..]
                };
                certificate::granted(certificate, &entry.options, names, attempt.client, attempt.now)
            },
        )
        .map_err(|why| {
            let (id, serial) = (certificate.key_id(), certificate.serial());
            format!("certificate '{}' serial {serial}: {why}", id.escape_default())
        })
    }
}

impl Entry {
    fn is_for(&self, user: User) -> bool {
        self.only.is_none_or(|only| only == user)
    }
}

/// What the first line that grants anything grants; else why the last did not.
fn first_grant<'a>(
    lines: impl Iterator<Item = &'a Entry>,
    attempt: Attempt,
    judge: impl Fn(&Entry) -> Result<Grant, String>,
) -> Result<Grant, String> {
    let mut why = "it is not authorized".to_owned();
    for entry in lines {
        let granted = if entry.is_for(attempt.user) {
            judge(entry).and_then(|grant| attempt.user.part_of(grant))
        } else {
            Err(format!("it is not for user {}", attempt.user.name()))
        };
        match granted {
            Ok(grant) => return Ok(grant),
            Err(because) => why = because,
        }
    }
    Err(why)
}

fn is_sha1(algorithm: &Algorithm) -> bool {
    matches!(algorithm, Algorithm::Rsa { hash: None } | Algorithm::Dsa)
}

fn entry_of(line: &str, only: Option<User>, list: List) -> Result<Entry, String> {
    let Line { options, key } = Line::parse(line, list)?;
    let key = PublicKey::from_bytes(&key).map_err(|error| error.to_string())?;
    strong(key.key_data())?;
    Ok(Entry { key, options, only })
}

/// Whether a key proves anything.
fn strong(key: &KeyData) -> Result<(), String> {
    match key {
        KeyData::Rsa(rsa) if (rsa.key_size() as usize) < LEAST_RSA_BITS => Err(format!(
            "RSA key of {} bits: at least {LEAST_RSA_BITS} are needed",
            rsa.key_size()
        )),
        KeyData::Ed25519(_)
        | KeyData::Ecdsa(_)
        | KeyData::Rsa(_)
        | KeyData::SkEd25519(_)
        | KeyData::SkEcdsaSha2NistP256(_) => Ok(()),
        _ => Err(format!("key type {} is not supported", key.algorithm())),
    }
}

#[cfg(test)]
#[path = "keys/tests.rs"]
mod tests;
