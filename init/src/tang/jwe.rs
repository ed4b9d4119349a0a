//! JSON Web Encryption (RFC 7516), as much of it as clevis writes: AES-256-GCM under a key that is agreed on or given.

use super::curve::Shared;
use super::{Step, Trouble, printable};
use crate::secret::{Secret, wipe};
use data_encoding::BASE64URL_NOPAD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::digest::{Context, SHA256};
use serde_json::Value;

/// Base64 characters of any part; a LUKS2 header has room for 16 KiB of JSON by default.
const LONGEST: usize = 256 * 1024;
/// `enc` of the header, and the algorithm id of the key derivation.
const ENC: &str = "A256GCM";

/// A key of AES-256, wiped when dropped.
pub(super) struct Key([u8; 32]);

impl Key {
    pub(super) fn new(bytes: [u8; 32]) -> Key {
        Key(bytes)
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

/// The envelope.
pub(super) struct Jwe {
    /// What is authenticated beside the ciphertext: the header as it was written.
    protected: String,
    pub(super) header: Value,
    nonce: [u8; NONCE_LEN],
    /// Ciphertext and tag.
    sealed: Vec<u8>,
}

impl Jwe {
    /// Reads the flattened JSON serialization, which is how clevis keeps it in a LUKS2 token.
    pub(super) fn from_json(json: &Value) -> Result<Jwe, Trouble> {
        let part = |name: &str| {
            let text = json.get(name).and_then(Value::as_str);
            text.ok_or_else(|| Trouble::new(Step::Token, format!("the token's JWE has no '{name}'")))
        };
        if json.get("aad").is_some() {
            return Err(Trouble::new(
                Step::Token,
                "the token's JWE has 'aad', which clevis never writes",
            ));
        }
        let key = json
            .get("encrypted_key")
            .and_then(Value::as_str)
            .unwrap_or_default();
        Jwe::from_parts([
            part("protected")?,
            key,
            part("iv")?,
            part("ciphertext")?,
            part("tag")?,
        ])
    }

    /// Reads the compact serialization, which is how clevis nests them.
    pub(super) fn from_compact(text: &str) -> Result<Jwe, Trouble> {
        let parts: Vec<&str> = text.trim().splitn(6, '.').collect();
        let parts = <[&str; 5]>::try_from(parts);
        Jwe::from_parts(parts.map_err(|_| Trouble::new(Step::Token, "a share's JWE is not of five parts"))?)
    }

    fn from_parts([protected, key, iv, ciphertext, tag]: [&str; 5]) -> Result<Jwe, Trouble> {
        if !key.is_empty() {
            return Err(Trouble::new(
                Step::Token,
                "the token's JWE has an encrypted key, which clevis never writes",
            ));
        }
        let header = serde_json::from_slice(&decode("protected", protected)?)
            .map_err(|error| Trouble::new(Step::Token, format!("header of the token's JWE: {error}")))?;
        let nonce = decode("iv", iv)?;
        let mut sealed = decode("ciphertext", ciphertext)?;
        let tag = decode("tag", tag)?;
        if tag.len() != AES_256_GCM.tag_len() {
            return Err(Trouble::new(
                Step::Token,
                format!("the JWE's tag has {} bytes, not 16", tag.len()),
            ));
        }
        sealed.extend(tag);
        let wrong = |nonce: Vec<u8>| {
            Trouble::new(
                Step::Token,
                format!("the JWE's iv has {} bytes, not 12", nonce.len()),
            )
        };
        Ok(Jwe {
            protected: protected.to_owned(),
            header,
            nonce: nonce.try_into().map_err(wrong)?,
            sealed,
        })
    }

    /// A text of the header.
    pub(super) fn text(&self, name: &str) -> Result<&str, Trouble> {
        let value = self.header.get(name).and_then(Value::as_str);
        value.ok_or_else(|| {
            Trouble::new(
                Step::Token,
                format!("the token's JWE has no '{name}' in its header"),
            )
        })
    }

    /// Refuses everything but that key management and AES-256-GCM.
    pub(super) fn must_be(&self, algorithm: &str) -> Result<(), Trouble> {
        let (alg, enc) = (self.text("alg")?, self.text("enc")?);
        if alg != algorithm || enc != ENC {
            let given = printable(&format!("{alg} with {enc}"));
            let what = format!("the token's JWE is {given}, only {algorithm} with {ENC} is supported here");
            return Err(Trouble::new(Step::Unsupported, what));
        }
        if self.header.get("zip").is_some() || self.header.get("crit").is_some() {
            return Err(Trouble::new(
                Step::Unsupported,
                "the token's JWE is compressed or has critical extensions",
            ));
        }
        Ok(())
    }

    /// Decrypts what is in it.
    pub(super) fn open(&self, key: &Key) -> Result<Secret, Trouble> {
        let failed = || {
            let what = "its answer does not decrypt the passphrase: it has other keys than when the volume was bound, or the token is damaged";
            Trouble::new(Step::Decrypt, what)
        };
        let unbound = UnboundKey::new(&AES_256_GCM, &key.0).map_err(|_| failed())?;
        let mut bytes = self.sealed.clone();
        let nonce = Nonce::assume_unique_for_key(self.nonce);
        let length = LessSafeKey::new(unbound)
            .open_in_place(nonce, Aad::from(self.protected.as_bytes()), &mut bytes)
            .map_err(|_| failed())?
            .len();
        bytes.truncate(length);
        Ok(Secret::of(bytes))
    }
}

/// The key that both sides agree on: Concat KDF of RFC 7518, 4.6.2, with SHA-256 and empty party infos. One round gives all of
/// the 256 bits.
pub(super) fn derived_key(shared: &Shared) -> Key {
    let mut hash = Context::new(&SHA256);
    hash.update(&1u32.to_be_bytes());
    hash.update(shared.bytes());
    hash.update(&(ENC.len() as u32).to_be_bytes());
    hash.update(ENC.as_bytes());
    // apu, apv.
    hash.update(&0u32.to_be_bytes());
    hash.update(&0u32.to_be_bytes());
    hash.update(&256u32.to_be_bytes());
    let digest = hash.finish();
    let mut key = Key([0; 32]);
    key.0.copy_from_slice(digest.as_ref());
    key
}

/// Base64url without padding, of bounded length.
pub(super) fn decode(name: &str, text: &str) -> Result<Vec<u8>, Trouble> {
    if text.len() > LONGEST {
        return Err(Trouble::new(
            Step::Token,
            format!(
                "'{name}' has {} characters, at most {LONGEST} are read",
                text.len()
            ),
        ));
    }
    BASE64URL_NOPAD
        .decode(text.as_bytes())
        .map_err(|error| Trouble::new(Step::Token, format!("'{name}' is not base64url: {error}")))
}
