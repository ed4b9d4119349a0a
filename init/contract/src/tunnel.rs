//! A way out from behind NAT: bastions to which this machine keeps a reverse ssh tunnel, and the host keys they must show.
//!
//! Whether a pin is a key that exists is found out where it is used; here is its shape. There is no trust on first use: a tunnel
//! to a bastion without a pin is not kept.

use crate::base64;
use crate::template::{Facts, Template};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Tunnels kept at most; each is a connection that is kept alive.
pub const MOST: usize = 8;

/// `lifeboot.tunnel=USER@HOST[:PORT][,listen=PORT]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tunnel {
    /// Who this machine is on the bastion.
    pub user: Template,
    /// Where the bastion is.
    pub host: Template,
    /// Its ssh server's port.
    pub port: u16,
    /// The port of the bastion's loopback that leads here; 0: the bastion chooses.
    pub listen: u16,
}

/// A bastion, with every template filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bastion {
    /// Who this machine is there.
    pub user: String,
    /// A name or an address, IPv6 without brackets.
    pub host: String,
    /// Its ssh server's port.
    pub port: u16,
    /// The port of its loopback that leads here; 0: it chooses.
    pub listen: u16,
}

impl Tunnel {
    /// Reads the value of `lifeboot.tunnel=`.
    pub(crate) fn parse(value: &str) -> Result<Tunnel, String> {
        let shape = || format!("'{value}' is not USER@HOST[:PORT][,listen=PORT]");
        let mut parts = value.split(',');
        let (user, at) = parts
            .next()
            .and_then(|target| target.rsplit_once('@'))
            .ok_or_else(shape)?;
        let (host, port_text) = split_port(at)
            .ok_or_else(|| format!("'{at}' is not HOST[:PORT]; an IPv6 address stands in brackets"))?;
        if user.is_empty() || host.is_empty() {
            return Err(shape());
        }
        let mut listen = 0;
        for option in parts {
            let given = option.strip_prefix("listen=").ok_or_else(shape)?;
            listen = port(given, 0)?;
        }
        Ok(Tunnel {
            user: Template::parse(user).map_err(|error| error.to_string())?,
            host: Template::parse(host).map_err(|error| error.to_string())?,
            port: port_text.map_or(Ok(22), |text| port(text, 1))?,
            listen,
        })
    }

    /// Fills in what this machine is.
    ///
    /// # Errors
    /// A fact this machine does not have, or one that is no part of a user's or a host's name.
    pub fn expand(&self, facts: &Facts) -> Result<Bastion, String> {
        let fill = |template: &Template| {
            let text = template.expand(facts).map_err(|error| error.to_string())?;
            let plain = |byte: u8| byte.is_ascii_graphic();
            if !text.is_empty() && !text.starts_with('-') && text.bytes().all(plain) {
                Ok(text)
            } else {
                Err(format!("{template} becomes '{text}', which is no name"))
            }
        };
        Ok(Bastion {
            user: fill(&self.user)?,
            host: fill(&self.host)?,
            port: self.port,
            listen: self.listen,
        })
    }
}

fn port(text: &str, least: u16) -> Result<u16, String> {
    let number = text.parse().ok().filter(|number| *number >= least);
    number.ok_or_else(|| format!("'{text}' is not a port from {least} to 65535"))
}

/// The host without brackets, and what stands behind its colon.
fn split_port(text: &str) -> Option<(&str, Option<&str>)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, tail) = rest.split_once(']')?;
        return match tail {
            "" => Some((host, None)),
            tail => Some((host, Some(tail.strip_prefix(':')?))),
        };
    }
    match text.split_once(':') {
        None => Some((text, None)),
        Some((_, port)) if port.contains(':') => None,
        Some((host, port)) => Some((host, Some(port))),
    }
}

impl fmt::Display for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_target(f, self.user.as_str(), self.host.as_str(), self.port)
    }
}

impl fmt::Display for Bastion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_target(f, &self.user, &self.host, self.port)
    }
}

fn write_target(f: &mut fmt::Formatter<'_>, user: &str, host: &str, port: u16) -> fmt::Result {
    match host.contains(':') {
        true => write!(f, "{user}@[{host}]:{port}"),
        false => write!(f, "{user}@{host}:{port}"),
    }
}

/// `lifeboot.tunnel-hostkey=`: what a bastion must show.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// For which bastion, as in known_hosts: HOST, or [HOST]:PORT; `None`: for all.
    pub host: Option<String>,
    /// The key.
    pub key: PinnedKey,
}

/// A host key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PinnedKey {
    /// `TYPE BASE64`
    Whole(String),
    /// `SHA256:…`
    Fingerprint(String),
}

impl Pin {
    /// Reads the value of `lifeboot.tunnel-hostkey=`: `[HOST] TYPE BASE64 [COMMENT]` or `[HOST] SHA256:…`.
    pub(crate) fn parse(value: &str) -> Result<Pin, String> {
        let shape = || {
            format!(
                "'{value}' is neither TYPE BASE64 nor SHA256:…, a host before it or not; put the whole value in double quotes"
            )
        };
        let words: Vec<&str> = value.split_whitespace().collect();
        let (host, key) = match words.as_slice() {
            [first, ..] if is_type(first) || first.starts_with("SHA256:") => (None, words.as_slice()),
            [host, key @ ..] if !host.starts_with('|') => (Some((*host).to_owned()), key),
            _ => return Err(shape()),
        };
        let key = match key {
            [fingerprint] if fingerprint.starts_with("SHA256:") && sshfp(fingerprint).is_some() => {
                PinnedKey::Fingerprint((*fingerprint).to_owned())
            }
            [kind, key, ..] if is_type(kind) && names_its_type(kind, key) => {
                PinnedKey::Whole(format!("{kind} {key}"))
            }
            _ => return Err(shape()),
        };
        Ok(Pin { host, key })
    }

    /// Whether it is meant for this bastion.
    pub fn is_for(&self, bastion: &Bastion) -> bool {
        self.host.as_ref().is_none_or(|host| {
            *host == bastion.host || *host == format!("[{}]:{}", bastion.host, bastion.port)
        })
    }
}

fn is_type(word: &str) -> bool {
    word.starts_with("ssh-") || word.starts_with("ecdsa-sha2-")
}

/// The blob begins with its own type, its length before it (RFC 4253 section 6.6).
fn names_its_type(kind: &str, text: &str) -> bool {
    let Some(blob) = base64::decode(text.trim_end_matches('=')) else {
        return false;
    };
    let Some((length, rest)) = blob.split_first_chunk::<4>() else {
        return false;
    };
    let length = u32::from_be_bytes(*length) as usize;
    rest.get(..length) == Some(kind.as_bytes())
}

/// What a DNS record of type SSHFP says of an Ed25519 key with this `SHA256:…` fingerprint: algorithm 4 (RFC 7479), digest
/// type 2 (RFC 6594), the digest in hex. `None` when it is no such fingerprint.
pub fn sshfp(fingerprint: &str) -> Option<String> {
    let digest = base64::decode(fingerprint.strip_prefix("SHA256:")?).filter(|digest| digest.len() == 32)?;
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    Some(format!("4 2 {hex}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
    const FINGERPRINT: &str = "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU";

    fn bastion(value: &str, facts: &Facts) -> Bastion {
        Tunnel::parse(value).unwrap().expand(facts).unwrap()
    }

    #[test]
    fn user_host_and_both_ports_are_told_apart() {
        let none = Facts::default();
        let plain = bastion("ops@bastion.example.net", &none);
        assert_eq!(plain.to_string(), "ops@bastion.example.net:22");
        assert_eq!(plain.listen, 0);
        let all = bastion("ops@[2001:db8::1]:2222,listen=2201", &none);
        assert_eq!(all.to_string(), "ops@[2001:db8::1]:2222");
        assert_eq!((all.host.as_str(), all.listen), ("2001:db8::1", 2201));
        let facts = Facts {
            serial: Some("9ffefdef".into()),
            ..Facts::default()
        };
        assert_eq!(
            bastion("pi-{serial}@b:443", &facts).to_string(),
            "pi-9ffefdef@b:443"
        );
        assert!(Tunnel::parse("{serial}@b").unwrap().expand(&none).is_err());
        let odd = Facts {
            serial: Some("not a name".into()),
            ..Facts::default()
        };
        assert!(Tunnel::parse("{serial}@b").unwrap().expand(&odd).is_err());
    }

    #[test]
    fn what_is_no_target_is_refused() {
        for bad in [
            "",
            "bastion",
            "@bastion",
            "ops@",
            "ops@b:0",
            "ops@b:70000",
            "ops@b:",
            "ops@2001:db8::1",
            "ops@[2001:db8::1",
            "ops@[::1]22",
            "ops@b,listen=x",
            "ops@b,listen",
            "ops@b,remote=1",
            "{nmae}@b",
            "{serial@b",
        ] {
            assert!(Tunnel::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_pin_is_a_key_or_a_fingerprint_with_a_host_or_without() {
        let whole = PinnedKey::Whole(KEY.to_owned());
        let none = Facts::default();
        let all = Pin::parse(&format!("{KEY} root@bastion")).unwrap();
        assert_eq!((all.host.clone(), all.key.clone()), (None, whole.clone()));
        let one = Pin::parse(&format!("bastion {KEY}")).unwrap();
        assert_eq!((one.host.as_deref(), one.key.clone()), (Some("bastion"), whole));
        let other_port = Pin::parse(&format!("[bastion]:2222 {FINGERPRINT}")).unwrap();
        assert_eq!(other_port.key, PinnedKey::Fingerprint(FINGERPRINT.to_owned()));
        let (here, there) = (bastion("a@bastion:2222", &none), bastion("a@other:2222", &none));
        assert!(all.is_for(&here) && all.is_for(&there));
        assert!(one.is_for(&here) && !one.is_for(&there));
        assert!(other_port.is_for(&here) && !other_port.is_for(&there));
        assert!(!other_port.is_for(&bastion("a@bastion", &none)));
    }

    #[test]
    fn what_is_no_pin_is_refused() {
        for bad in [
            "",
            "bastion",
            "SHA256:",
            "SHA256:abc",
            "MD5:aa:bb",
            "ssh-ed25519",
            "ssh-ed25519 !!!!",
            "ssh-ed25519 AAAA",
            "ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ",
            "|1|a|b ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ",
        ] {
            assert!(Pin::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_fingerprint_says_what_the_dns_record_says() {
        // The SHA-256 of nothing.
        assert_eq!(
            sshfp(FINGERPRINT).unwrap(),
            "4 2 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        assert_eq!(sshfp("SHA256:abc"), None);
        assert_eq!(sshfp("MD5:00"), None);
    }
}
