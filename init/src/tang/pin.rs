//! What the header of a clevis JWE asks for: one server, several of which some suffice, or something that is not done here.

use super::curve::Jwk;
use super::jwe::Jwe;
use super::shares::Shares;
use super::{Step, Trouble, printable};
use data_encoding::BASE64URL_NOPAD;
use ring::digest::{self, SHA1_FOR_LEGACY_USE_ONLY, SHA256};
use serde_json::Value;
use std::fmt;

/// Longest address of a server.
const LONGEST_URL: usize = 1024;

/// A way to a passphrase.
pub(super) enum Pin {
    Tang(Box<Tang>),
    Shares(Shares),
    /// tpm2 and others, by name.
    Other(String),
}

/// One server.
pub(super) struct Tang {
    /// As it was given to clevis: `http://tang.example`.
    pub(super) url: String,
    /// Thumbprint of the server's key, which is how the server is told which of its keys is meant.
    kid: String,
    /// The key that was made when the volume was bound, its public half.
    pub(super) client: Jwk,
    /// The server's.
    pub(super) server: Jwk,
}

impl Pin {
    pub(super) fn of(jwe: &Jwe) -> Result<Pin, Trouble> {
        let clevis = jwe.header.get("clevis").ok_or_else(|| missing("clevis"))?;
        let name = clevis
            .get("pin")
            .and_then(Value::as_str)
            .ok_or_else(|| missing("pin"))?;
        let node = clevis.get(name).unwrap_or(&Value::Null);
        match name {
            "tang" => {
                jwe.must_be("ECDH-ES")?;
                Tang::of(jwe, node).map(Box::new).map(Pin::Tang)
            }
            "sss" => {
                jwe.must_be("dir")?;
                Shares::of(node).map(Pin::Shares)
            }
            other => Ok(Pin::Other(printable(other))),
        }
    }
}

impl Tang {
    fn of(jwe: &Jwe, node: &Value) -> Result<Tang, Trouble> {
        if ["apu", "apv"].iter().any(|name| jwe.header.get(name).is_some()) {
            return Err(Trouble::new(
                Step::Unsupported,
                "the token's JWE names parties, which clevis never does",
            ));
        }
        let url = node
            .get("url")
            .and_then(Value::as_str)
            .ok_or_else(|| missing("url"))?;
        let scheme = url.starts_with("http://") || url.starts_with("https://");
        if !scheme || url.len() > LONGEST_URL || url.chars().any(|c| c.is_control() || c == ' ') {
            let shown: String = url.chars().take(80).collect();
            return Err(Trouble::new(
                Step::Token,
                format!("{shown:?} is not the address of a Tang server"),
            ));
        }
        let kid = jwe.text("kid")?;
        let keys = node
            .pointer("/adv/keys")
            .and_then(Value::as_array)
            .ok_or_else(|| missing("adv"))?;
        let server = keys
            .iter()
            .find(|key| thumbprints(key).is_some_and(|prints| prints.contains(&kid.to_owned())));
        let server = server.ok_or_else(|| {
            Trouble::new(
                Step::Token,
                "none of the token's server keys has the thumbprint it names",
            )
        })?;
        Ok(Tang {
            url: url.trim_end_matches('/').to_owned(),
            kid: kid.to_owned(),
            client: Jwk::from_json(jwe.header.get("epk").ok_or_else(|| missing("epk"))?, Step::Token)?,
            server: Jwk::from_json(server, Step::Token)?,
        })
    }

    /// Where the server does its part. The thumbprint is base64url, so it needs no quoting: it was compared with one made here.
    pub(super) fn recovery(&self) -> String {
        format!("{}/rec/{}", self.url, self.kid)
    }
}

/// The thumbprints of an elliptic curve key (RFC 7638): by SHA-256, and by SHA-1 as clevis made them before 2021.
fn thumbprints(key: &Value) -> Option<[String; 2]> {
    let member = |name: &str| {
        let text = key.get(name).and_then(Value::as_str)?;
        // What needs escaping in JSON is in no JWK of an elliptic curve.
        (text.len() < 256
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_".contains(c)))
        .then_some(text)
    };
    let (crv, kty, x, y) = (member("crv")?, member("kty")?, member("x")?, member("y")?);
    let text = format!(r#"{{"crv":"{crv}","kty":"{kty}","x":"{x}","y":"{y}"}}"#);
    let by = |hash| BASE64URL_NOPAD.encode(digest::digest(hash, text.as_bytes()).as_ref());
    Some([by(&SHA256), by(&SHA1_FOR_LEGACY_USE_ONLY)])
}

fn missing(name: &str) -> Trouble {
    Trouble::new(Step::Token, format!("the token's JWE has no '{name}'"))
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pin::Tang(tang) => write!(f, "tang {}", tang.url),
            Pin::Shares(shares) => {
                let parts = shares.children.iter().map(|child| {
                    let pin = Jwe::from_compact(child).and_then(|jwe| Pin::of(&jwe));
                    match pin {
                        // One level is enough to read.
                        Ok(Pin::Shares(_)) => "sss".to_owned(),
                        Ok(pin) => pin.to_string(),
                        Err(trouble) => trouble.what,
                    }
                });
                let parts: Vec<String> = parts.collect();
                write!(
                    f,
                    "{} of {} ({})",
                    shares.threshold,
                    parts.len(),
                    parts.join(", ")
                )
            }
            Pin::Other(name) => write!(f, "{name}, not supported here"),
        }
    }
}
