//! The hash of a password, as a PHC string: `$argon2id$v=19$m=32768,t=3,p=1$SALT$HASH`.
//!
//! The host makes it and the device checks it, both here. Bounds are checked when it is read, because a device that cannot pay the
//! price would ask for a password that nobody can give.

use crate::base64;
use argon2::{Algorithm, Argon2, Block, Params, Version};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The most memory a hash may ask for, in KiB.
const MOST_KIB: u32 = 1 << 20;
/// The most passes over that memory.
const MOST_PASSES: u32 = 64;
/// The most lanes.
const MOST_LANES: u32 = 16;
/// Length in bytes of a hash made here.
const LENGTH: usize = 32;
/// Lengths of salt and hash in bytes; argon2 takes no salt below eight.
const SALT_LENGTHS: std::ops::RangeInclusive<usize> = 8..=64;
const HASH_LENGTHS: std::ops::RangeInclusive<usize> = 16..=64;

/// What argon2id (RFC 9106, version 0x13) made of a password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PasswordHash {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
    /// Lanes in it.
    pub lanes: u32,
    /// What is hashed with the password.
    pub salt: Vec<u8>,
    /// The result.
    pub hash: Vec<u8>,
}

impl PasswordHash {
    /// Reads a PHC string.
    ///
    /// # Errors
    /// What is wrong. It never repeats the text, which may be a password typed in the wrong place.
    pub fn parse(text: &str) -> Result<PasswordHash, String> {
        let shape = || {
            "is not $argon2id$v=19$m=…,t=…,p=…$SALT$HASH, which image-builder hash-password makes".to_owned()
        };
        let parts: Vec<&str> = text.split('$').collect();
        let ["", "argon2id", "v=19", costs, salt, hash] = parts.as_slice() else {
            return Err(shape());
        };
        let costs: Vec<&str> = costs.split(',').collect();
        let [memory, passes, lanes] = costs.as_slice() else {
            return Err(shape());
        };
        let lanes = cost(lanes, "p=", 1, MOST_LANES)?;
        Ok(PasswordHash {
            memory_kib: cost(memory, "m=", 8 * lanes, MOST_KIB)?,
            passes: cost(passes, "t=", 1, MOST_PASSES)?,
            lanes,
            salt: bytes(salt, "salt", SALT_LENGTHS)?,
            hash: bytes(hash, "hash", HASH_LENGTHS)?,
        })
    }

    /// Hashes `password` at the price of the other fields; `None` when the memory is not to be had, or a field is out of bounds.
    pub fn made_of(
        password: &[u8],
        memory_kib: u32,
        passes: u32,
        lanes: u32,
        salt: &[u8],
    ) -> Option<PasswordHash> {
        let mut made = PasswordHash {
            memory_kib,
            passes,
            lanes,
            salt: salt.to_vec(),
            hash: vec![0; LENGTH],
        };
        made.hash = made.compute(password)?;
        PasswordHash::parse(&made.to_string()).ok()
    }

    /// Whether it is the hash of `password`; `None` when the memory to find out is not to be had.
    pub fn is_of(&self, password: &[u8]) -> Option<bool> {
        let bytes = self.compute(password)?;
        // All of it is compared, so that the time does not tell where the first difference is.
        let differ = |all, (a, b): (&u8, &u8)| all | (a ^ b);
        let difference = self.hash.iter().zip(&bytes).fold(0, differ);
        Some(self.hash.len() == bytes.len() && std::hint::black_box(difference) == 0)
    }

    fn compute(&self, password: &[u8]) -> Option<Vec<u8>> {
        let mut bytes = vec![0; self.hash.len()];
        let params = Params::new(self.memory_kib, self.passes, self.lanes, Some(bytes.len())).ok()?;
        let count = params.block_count();
        // Asked for in a way that can be refused.
        let mut blocks = Vec::new();
        blocks.try_reserve_exact(count).ok()?;
        blocks.resize(count, Block::new());
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let hashed = argon2.hash_password_into_with_memory(password, &self.salt, &mut bytes, &mut blocks);
        blocks.fill(Block::new());
        // Keeps the optimizer from taking the line above for useless.
        std::hint::black_box(&blocks);
        hashed.ok().map(|()| bytes)
    }
}

fn cost(text: &str, name: &str, least: u32, most: u32) -> Result<u32, String> {
    let number = text
        .strip_prefix(name)
        .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|digits| digits.parse().ok())
        .filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| format!("its {name} is not a number from {least} to {most}"))
}

fn bytes(text: &str, what: &str, lengths: std::ops::RangeInclusive<usize>) -> Result<Vec<u8>, String> {
    let decoded = base64::decode(text).filter(|bytes| lengths.contains(&bytes.len()));
    decoded.ok_or_else(|| {
        format!(
            "its {what} is not base64 of {} to {} bytes",
            lengths.start(),
            lengths.end()
        )
    })
}

impl fmt::Display for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "$argon2id$v=19$m={},t={},p={}${}${}",
            self.memory_kib,
            self.passes,
            self.lanes,
            base64::encode(&self.salt),
            base64::encode(&self.hash)
        )
    }
}

impl TryFrom<String> for PasswordHash {
    type Error = String;

    fn try_from(text: String) -> Result<PasswordHash, String> {
        PasswordHash::parse(&text)
    }
}

impl From<PasswordHash> for String {
    fn from(hash: PasswordHash) -> String {
        hash.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str =
        "$argon2id$v=19$m=32768,t=3,p=1$c29tZXNhbHRzb21lc2FsdA$MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI";

    #[test]
    fn a_hash_reads_back() {
        let hash = PasswordHash::parse(GOOD).unwrap();
        assert_eq!((hash.memory_kib, hash.passes, hash.lanes), (32_768, 3, 1));
        assert_eq!(hash.salt, b"somesaltsomesalt");
        assert_eq!(hash.to_string(), GOOD);
        let json = serde_json::to_string(&hash).unwrap();
        assert_eq!(serde_json::from_str::<PasswordHash>(&json).unwrap(), hash);
    }

    #[test]
    fn only_the_same_password_makes_the_same_hash() {
        let made = PasswordHash::made_of(b"open sesame", 64, 2, 1, b"somesaltsomesalt").unwrap();
        assert_eq!(made.is_of(b"open sesame"), Some(true));
        for wrong in [&b"open sesamf"[..], b"open sesame\n", b""] {
            assert_eq!(made.is_of(wrong), Some(false));
        }
        assert_eq!(PasswordHash::made_of(b"x", 64, 2, 1, b"short"), None);
    }

    #[test]
    fn a_hash_of_the_stock_tool_is_understood() {
        // echo -n password | argon2 somesalt -id -t 2 -k 256 -p 1 -e, of argon2's own test vectors.
        let stock = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";
        let hash = PasswordHash::parse(stock).unwrap();
        assert_eq!(hash.is_of(b"password"), Some(true));
        assert_eq!(hash.is_of(b"Password"), Some(false));
    }

    #[test]
    fn what_is_no_hash_is_refused_and_not_repeated() {
        let long = format!("$argon2id$v=19$m=8,t=1,p=1${}$AAAA", "A".repeat(10_000));
        for bad in [
            "",
            "secret",
            "$argon2i$v=19$m=32768,t=3,p=1$c29tZXNhbHRzb21lc2FsdA$MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI",
            "$argon2id$v=16$m=32768,t=3,p=1$c29tZXNhbHRzb21lc2FsdA$MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI",
            "$argon2id$v=19$m=32768,t=3$c29tZXNhbHRzb21lc2FsdA$MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI",
            "$argon2id$v=19$m=4294967295,t=3,p=1$c29tZXNhbHRzb21lc2FsdA$MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI",
            "$argon2id$v=19$m=32768,t=0,p=1$c29tZXNhbHRzb21lc2FsdA$MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI",
            "$argon2id$v=19$m=+32768,t=3,p=1$c29tZXNhbHRzb21lc2FsdA$MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI",
            "$argon2id$v=19$m=7,t=3,p=1$c29tZXNhbHRzb21lc2FsdA$MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI",
            "$argon2id$v=19$m=32768,t=3,p=1$c29t$MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI",
            "$argon2id$v=19$m=32768,t=3,p=1$c29tZXNhbHRzb21lc2FsdA$MTIz",
            "$argon2id$v=19$m=32768,t=3,p=1$c29tZXNhbHRzb21lc2FsdA",
            "$argon2id$v=19$m=32768,t=3,p=1$c29tZXNhbHRzb21lc2FsdA$MTIz$x",
            long.as_str(),
        ] {
            let what = PasswordHash::parse(bad).unwrap_err();
            assert!(bad.is_empty() || !what.contains(bad), "{what}");
        }
    }
}
