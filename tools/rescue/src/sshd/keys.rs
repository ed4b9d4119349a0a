//! Who may log in, as whom, and to do what.
//!
//! Lines of `authorized_keys` files, a list for each user, and authorities whose certificates are taken. A line whose options this server does
//! not carry out is refused rather than honoured half: it would give more than its owner meant.

mod address;
mod certificate;
mod options;

use super::grant::{Grant, User};
use lifeboot_contract::plan::Ssh;
use options::Options;
use russh::keys::ssh_key::{Algorithm, public::KeyData};
use russh::keys::{Certificate, HashAlg, PublicKey};
use std::net::IpAddr;

/// RSA keys shorter than this are not proof of anything any more; OpenSSH's `RequiredRSASize` is the same.
const LEAST_RSA_BITS: u32 = 2048;

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

/// What the lines of a list are, where their options do not say otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Key,
    Authority,
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
            ("authorized key", &ssh.authorized_keys, None, Kind::Key),
            ("unlock key", &ssh.unlock_keys, Some(User::Unlock), Kind::Key),
            ("status key", &ssh.status_keys, Some(User::Status), Kind::Key),
            ("user authority", &ssh.user_authorities, None, Kind::Authority),
        ];
        for (name, lines, only, kind) in lists {
            for (index, line) in lines.iter().enumerate() {
                let line = line.trim();
                if line.is_empty() || line.starts_with('#') {
                    continue;
                }
                match entry_of(line, only, kind) {
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
            judge(entry).and_then(|grant| grant.of(attempt.user))
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

fn entry_of(line: &str, only: Option<User>, kind: Kind) -> Result<Entry, String> {
    let (words, rest) = split_options(line);
    let mut options = Options::parse(&words)?;
    options.authority |= kind == Kind::Authority;
    if options.principals.is_some() && !options.authority {
        return Err("option principals is for authorities".to_owned());
    }
    if only.is_some() && options.grant.command.is_some() {
        return Err("option command is for keys of root: this user has its one program".to_owned());
    }
    let key = PublicKey::from_openssh(rest).map_err(|error| error.to_string())?;
    strong(key.key_data())?;
    Ok(Entry { key, options, only })
}

/// Whether a key proves anything.
fn strong(key: &KeyData) -> Result<(), String> {
    match key {
        KeyData::Rsa(rsa) if rsa.key_size() < LEAST_RSA_BITS => Err(format!(
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

/// The options before the key type, if any, and the rest. Commas and blanks inside double quotes belong to a value.
fn split_options(line: &str) -> (Vec<&str>, &str) {
    let first = line.split_whitespace().next().unwrap_or_default();
    if first.starts_with("ssh-") || first.starts_with("ecdsa-") || first.starts_with("sk-") {
        return (Vec::new(), line);
    }
    let mut options = Vec::new();
    let mut quoted = false;
    let mut escaped = false;
    let mut start = 0;
    for (at, letter) in line.char_indices() {
        match letter {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ',' if !quoted => {
                options.push(&line[start..at]);
                start = at + 1;
            }
            ' ' | '\t' if !quoted => {
                options.push(&line[start..at]);
                return (options, line[at..].trim_start());
            }
            _ => {}
        }
    }
    (vec![line], "")
}

#[cfg(test)]
#[path = "keys/tests.rs"]
mod tests;
