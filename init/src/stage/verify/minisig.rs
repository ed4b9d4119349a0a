//! minisign files: the trusted keys of the image and the signature beside the OS image.
//!
//! minisign-verify does the cryptography. It keeps key ids to itself, and the message "signed by X, trusted are Y and Z" needs
//! them, so the ids are read here; they are names, and no decision but the choice of the key rests on them.

use crate::report::{FailureExt, chain, failure};
use lifeboot_contract::event::{Failure, Stage};
use minisign_verify::{Error, PublicKey, Signature, StreamVerifier};
use std::fmt;
use std::path::Path;

/// The minisign public keys that may sign an OS image.
#[derive(Debug, Default)]
pub struct TrustedKeys {
    keys: Vec<(KeyId, PublicKey)>,
}

impl TrustedKeys {
    /// Reads every `*.pub` in `dir`, with a note for each that cannot be used; a missing directory holds no keys.
    pub fn load(dir: &Path) -> (TrustedKeys, Vec<String>) {
        let mut notes = Vec::new();
        let mut keys = TrustedKeys::default();
        let entries = match std::fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return (keys, notes),
            Err(error) => return (keys, vec![format!("{}: {error}", dir.display())]),
        };
        let mut paths: Vec<_> = entries
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "pub"));
        paths.sort();
        for path in paths {
            let read = std::fs::read_to_string(&path).map_err(|error| error.to_string());
            if let Err(what) = read.and_then(|text| keys.add(&text)) {
                notes.push(format!("{}: {what}", path.display()));
            }
        }
        (keys, notes)
    }

    /// Adds a key from the text of a minisign `.pub` file.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn add(&mut self, text: &str) -> Result<(), String> {
        let line = text.lines().map(str::trim).rfind(|line| !line.is_empty());
        let line = line.ok_or("is empty")?;
        let key = PublicKey::from_base64(line).map_err(|_| "is not a minisign public key")?;
        let id = KeyId::of_line(line).ok_or("is not a minisign public key")?;
        if !self.keys.iter().any(|(_, known)| *known == key) {
            self.keys.push((id, key));
        }
        Ok(())
    }

    /// Whether nothing can be verified.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The ids, as `minisign` prints them.
    pub fn ids(&self) -> Vec<String> {
        self.keys.iter().map(|(id, _)| id.to_string()).collect()
    }
}

/// The eight bytes by which minisign names a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KeyId(u64);

impl KeyId {
    /// From the base64 line of a key or a signature: two bytes of algorithm, then the id.
    fn of_line(line: &str) -> Option<KeyId> {
        let bytes = base64(line)?;
        let id = bytes.get(2..10)?.try_into().ok()?;
        Some(KeyId(u64::from_le_bytes(id)))
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016X}", self.0)
    }
}

/// What `image-builder sign` writes into the trusted comment: `name=… version=… length=…`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Comment {
    pub(super) text: String,
    pub(super) name: Option<String>,
    pub(super) version: Option<String>,
    pub(super) length: Option<u64>,
}

impl Comment {
    pub(super) fn read(text: &str) -> Comment {
        let mut comment = Comment {
            text: text.to_owned(),
            ..Comment::default()
        };
        for (key, value) in text.split_whitespace().filter_map(|word| word.split_once('=')) {
            match key {
                "name" => comment.name = Some(value.to_owned()),
                "version" => comment.version = Some(value.to_owned()),
                "length" => comment.length = value.parse().ok(),
                _ => {}
            }
        }
        comment
    }
}

/// A signature file together with the trusted key it names.
pub(super) struct Signed {
    id: KeyId,
    key: PublicKey,
    signature: Signature,
    comment: Comment,
}

impl Signed {
    pub(super) fn read(text: &str, name: &str, keys: &TrustedKeys) -> Result<Signed, Failure> {
        let refused = |what: String| failure(Stage::Verify, format!("{name}.minisig: {what}"));
        let signature = Signature::decode(text).map_err(|error| match error {
            Error::UnsupportedAlgorithm => refused("an unknown signature algorithm".to_owned()),
            _ => refused("not a minisign signature".to_owned()),
        })?;
        let id = text
            .lines()
            .nth(1)
            .and_then(KeyId::of_line)
            .ok_or_else(|| refused("not a minisign signature".to_owned()))?;
        let Some((_, key)) = keys.keys.iter().find(|(known, _)| *known == id) else {
            let what = format!("signed by key {id}, the image trusts {}", keys.ids().join(", "));
            return Err(failure(Stage::Verify, format!("{name}: {what}")));
        };
        let comment = Comment::read(signature.trusted_comment());
        let signed = Signed {
            id,
            key: key.clone(),
            signature,
            comment,
        };
        signed.verifier().map_err(|failure| Failure {
            what: format!("{name}.minisig: {}", failure.what),
            ..failure
        })?;
        Ok(signed)
    }

    pub(super) fn key_id(&self) -> KeyId {
        self.id
    }

    pub(super) fn comment(&self) -> &Comment {
        &self.comment
    }

    /// # Errors
    /// A legacy signature: it signs the whole file instead of its hash and cannot be checked while fetching.
    pub(super) fn verifier(&self) -> Result<StreamVerifier<'_>, Failure> {
        self.key
            .verify_stream(&self.signature)
            .map_err(|error| match error {
                Error::UnsupportedLegacyMode => failure(Stage::Verify, "a legacy minisign signature (Ed)")
                    .hint("sign the image again with `image-builder sign`, or with `minisign -S -H`"),
                error => failure(Stage::Verify, chain(&error)),
            })
    }
}

/// Plain base64; `None` for anything else.
fn base64(text: &str) -> Option<Vec<u8>> {
    let text = text.trim_end();
    let digits = text.trim_end_matches('=');
    if !text.len().is_multiple_of(4) || text.len() - digits.len() > 2 {
        return None;
    }
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut held) = (0u32, 0);
    for byte in digits.bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held & 0xff) as u8);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    // The key pair of minisign's own documentation.
    const KEY: &str = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";

    #[test]
    fn a_key_id_is_printed_as_minisign_prints_it() {
        assert_eq!(KeyId::of_line(KEY).unwrap().to_string(), "E7620F1842B4E81F");
        for bad in [
            "",
            "RWQf",
            "RWQf6LRCGA9i5!mlYecO",
            "=====",
            "RWQf6LRCGA9i53mlYec=O4IzT",
        ] {
            assert_eq!(KeyId::of_line(bad), None, "{bad}");
        }
    }

    #[test]
    fn base64_decodes_every_tail() {
        for (text, bytes) in [
            ("", ""),
            ("Zg==", "f"),
            ("Zm8=", "fo"),
            ("Zm9v", "foo"),
            ("Zm9vYg==", "foob"),
        ] {
            assert_eq!(base64(text).unwrap(), bytes.as_bytes());
        }
    }

    #[test]
    fn an_unusable_key_is_noted_and_the_others_are_used() {
        let dir = std::env::temp_dir().join(format!("lifeboot-trusted-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("a.pub"), format!("untrusted comment: a\n{KEY}\n")).unwrap();
        std::fs::write(dir.join("b.pub"), "untrusted comment: b\nRWQf6LRC\n").unwrap();
        std::fs::write(dir.join("same.pub"), KEY).unwrap();
        std::fs::write(dir.join("README"), "not a key").unwrap();
        let (keys, notes) = TrustedKeys::load(&dir);
        std::fs::remove_dir_all(&dir).unwrap();
        assert_eq!(keys.ids(), ["E7620F1842B4E81F"]);
        assert_eq!(notes.len(), 1);
        assert!(
            notes[0].ends_with("b.pub: is not a minisign public key"),
            "{notes:?}"
        );
        let (none, notes) = TrustedKeys::load(&dir);
        assert!(none.is_empty() && notes.is_empty());
    }

    #[test]
    fn a_comment_is_read_word_by_word() {
        let comment = Comment::read("name=debian version=13.1 length=118030336 timestamp:1");
        assert_eq!(comment.name.as_deref(), Some("debian"));
        assert_eq!(comment.version.as_deref(), Some("13.1"));
        assert_eq!(comment.length, Some(118_030_336));
        let stock = Comment::read("timestamp:1555779966\tfile:test\thashed");
        assert_eq!((stock.name, stock.length), (None, None));
    }
}
