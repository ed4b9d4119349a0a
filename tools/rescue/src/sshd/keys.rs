//! Which public keys may log in.
//!
//! A line whose options this server does not carry out is refused rather than honoured half: `command="…"` or
//! `from="…"` taken as an unrestricted key would give more than its owner meant.

use russh::keys::PublicKey;
use russh::keys::ssh_key::{Algorithm, public::KeyData};

/// Options that only forbid what this server never offers, or allow what it refuses anyway.
const HARMLESS: [&str; 10] = [
    "agent-forwarding",
    "no-agent-forwarding",
    "no-port-forwarding",
    "no-user-rc",
    "no-x11-forwarding",
    "port-forwarding",
    "pty",
    "user-rc",
    "x11-forwarding",
    "no-touch-required",
];

/// RSA keys shorter than this are not proof of anything any more; OpenSSH's `RequiredRSASize` is the same.
const LEAST_RSA_BITS: u32 = 2048;

/// The keys that may log in as root.
#[derive(Debug, Default)]
pub struct Authorized {
    keys: Vec<PublicKey>,
}

/// A line that is not taken.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused {
    /// Number of the line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub what: String,
}

impl Authorized {
    /// Reads lines of an `authorized_keys` file; those that cannot be taken are told apart.
    pub fn parse<'a>(lines: impl IntoIterator<Item = &'a str>) -> (Authorized, Vec<Refused>) {
        let mut keys: Vec<PublicKey> = Vec::new();
        let mut refused = Vec::new();
        for (index, line) in lines.into_iter().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match key_of(line) {
                Ok(key) if keys.iter().any(|known| known.key_data() == key.key_data()) => {}
                Ok(key) => keys.push(key),
                Err(what) => refused.push(Refused {
                    line: index + 1,
                    what,
                }),
            }
        }
        (Authorized { keys }, refused)
    }

    /// How many different keys there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether `key`, used with the signature algorithm `algorithm`, may log in.
    pub fn allows(&self, key: &PublicKey, algorithm: &Algorithm) -> bool {
        // SHA-1 signatures: russh verifies them when asked to, OpenSSH has not offered them since 8.8.
        let sha1 = matches!(algorithm, Algorithm::Rsa { hash: None } | Algorithm::Dsa);
        !sha1 && self.keys.iter().any(|known| known.key_data() == key.key_data())
    }
}

fn key_of(line: &str) -> Result<PublicKey, String> {
    let (options, rest) = split_options(line);
    for option in options {
        let name = option.split('=').next().unwrap_or_default().to_ascii_lowercase();
        if !HARMLESS.contains(&name.as_str()) {
            return Err(format!(
                "option {name} is not supported here, so the key is not taken"
            ));
        }
    }
    let key = PublicKey::from_openssh(rest).map_err(|error| error.to_string())?;
    match key.key_data() {
        KeyData::Rsa(rsa) if rsa.key_size() < LEAST_RSA_BITS => Err(format!(
            "RSA key of {} bits: at least {LEAST_RSA_BITS} are needed",
            rsa.key_size()
        )),
        KeyData::Ed25519(_)
        | KeyData::Ecdsa(_)
        | KeyData::Rsa(_)
        | KeyData::SkEd25519(_)
        | KeyData::SkEcdsaSha2NistP256(_) => Ok(key),
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
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";

    #[test]
    fn a_key_with_a_comment_blank_lines_and_the_same_key_twice_count_once() {
        let with_comment = format!("{KEY} somebody@somewhere");
        let (authorized, refused) = Authorized::parse(["# comment", "", KEY, &with_comment]);
        assert_eq!((authorized.len(), refused), (1, vec![]));
    }

    #[test]
    fn options_that_forbid_what_is_not_offered_are_taken() {
        let line = format!("no-port-forwarding,no-X11-forwarding {KEY}");
        assert_eq!(Authorized::parse([line.as_str()]).0.len(), 1);
    }

    #[test]
    fn options_that_would_restrict_refuse_the_key() {
        for options in [
            "command=\"echo a, b\"",
            "from=\"10.0.0.0/8\",no-pty",
            "restrict",
            "no-pty",
            "cert-authority",
        ] {
            let line = format!("{options} {KEY}");
            let (authorized, refused) = Authorized::parse([line.as_str()]);
            assert_eq!((authorized.len(), refused.len()), (0, 1), "{options}");
        }
    }

    #[test]
    fn lines_that_are_not_keys_are_named_by_number() {
        let (authorized, refused) = Authorized::parse([KEY, "ssh-ed25519 AAAA", "nonsense", "ssh-ed25519"]);
        assert_eq!(authorized.len(), 1);
        assert_eq!(refused.iter().map(|r| r.line).collect::<Vec<_>>(), [2, 3, 4]);
    }

    #[test]
    fn a_sha1_signature_is_refused_whatever_the_key() {
        let (authorized, _) = Authorized::parse([KEY]);
        let key = PublicKey::from_openssh(KEY).unwrap();
        assert!(authorized.allows(&key, &Algorithm::Ed25519));
        assert!(!authorized.allows(&key, &Algorithm::Rsa { hash: None }));
    }
}
