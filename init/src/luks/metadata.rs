//! What a LUKS2 header says about the ways into the volume: `cryptsetup luksDump --dump-json-metadata`.

use serde_json::Value;

/// The ways in.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metadata {
    /// Key slots by number.
    pub slots: Vec<Slot>,
    /// Tokens by number.
    pub tokens: Vec<Token>,
}

/// A key slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// Its number.
    pub id: u32,
    /// `argon2id`, `pbkdf2`
    pub kdf: String,
    /// Memory its hash takes, in KiB.
    pub memory_kib: u64,
}

/// A token: how else than by a typed passphrase a slot can be opened.
#[derive(Debug, Clone, PartialEq)]
pub struct Token {
    /// Its number.
    pub id: u32,
    /// `clevis`, `systemd-tpm2`
    pub kind: String,
    /// The slots it opens.
    pub slots: Vec<u32>,
    /// All of it.
    pub json: Value,
}

impl Metadata {
    /// Reads the dump. What is not as it should be is left out: the header is cryptsetup's to judge.
    ///
    /// # Errors
    /// It is not JSON.
    pub fn read(json: &[u8]) -> Result<Metadata, String> {
        let root: Value =
            serde_json::from_slice(json).map_err(|error| format!("metadata of the LUKS header: {error}"))?;
        let numbered = |name: &str| {
            let map = root.get(name).and_then(Value::as_object);
            let mut found: Vec<(u32, Value)> = map
                .into_iter()
                .flatten()
                .filter_map(|(id, value)| Some((id.parse().ok()?, value.clone())))
                .collect();
            found.sort_by_key(|(id, _)| *id);
            found
        };
        let slot = |(id, json): (u32, Value)| Slot {
            id,
            kdf: text(&json, "/kdf/type"),
            memory_kib: json.pointer("/kdf/memory").and_then(Value::as_u64).unwrap_or(0),
        };
        let token = |(id, json): (u32, Value)| Token {
            id,
            kind: text(&json, "/type"),
            slots: slots_of(&json),
            json,
        };
        Ok(Metadata {
            slots: numbered("keyslots").into_iter().map(slot).collect(),
            tokens: numbered("tokens").into_iter().map(token).collect(),
        })
    }

    /// The tokens that clevis made, each with its JWE.
    pub fn clevis(&self) -> impl Iterator<Item = (&Token, &Value)> {
        let made = self.tokens.iter().filter(|token| token.kind == "clevis");
        made.filter_map(|token| Some((token, token.json.get("jwe")?)))
    }
}

fn text(json: &Value, pointer: &str) -> String {
    let value = json.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    value.chars().filter(|c| !c.is_control()).take(64).collect()
}

fn slots_of(token: &Value) -> Vec<u32> {
    let list = token.get("keyslots").and_then(Value::as_array);
    list.into_iter()
        .flatten()
        .filter_map(|slot| slot.as_str()?.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_and_tokens_are_read_by_number() {
        let json = br#"{"keyslots":{"10":{"kdf":{"type":"pbkdf2"}},"2":{"kdf":{"type":"argon2id","memory":32768}}},
            "tokens":{"1":{"type":"systemd-tpm2","keyslots":["10"]},"0":{"type":"clevis","keyslots":["2"],"jwe":{"iv":"x"}}}}"#;
        let metadata = Metadata::read(json).unwrap();
        let slots: Vec<u32> = metadata.slots.iter().map(|slot| slot.id).collect();
        assert_eq!(slots, [2, 10]);
        let (token, jwe) = metadata.clevis().next().unwrap();
        assert_eq!((token.id, token.slots.as_slice()), (0, [2].as_slice()));
        assert_eq!(jwe["iv"], "x");
        assert_eq!(metadata.tokens[1].kind, "systemd-tpm2");
    }

    #[test]
    fn nonsense_is_left_out_or_an_error() {
        for json in ["", "[", "\u{0}"] {
            assert!(Metadata::read(json.as_bytes()).is_err(), "{json:?}");
        }
        for json in [
            "[]",
            "null",
            r#"{"keyslots":[],"tokens":3}"#,
            r#"{"keyslots":{"x":{}},"tokens":{"-1":{}}}"#,
        ] {
            assert_eq!(
                Metadata::read(json.as_bytes()).unwrap(),
                Metadata::default(),
                "{json}"
            );
        }
        let odd =
            Metadata::read(br#"{"keyslots":{"0":3},"tokens":{"0":{"type":["a"],"keyslots":[1,null,"x"]}}}"#)
                .unwrap();
        assert_eq!((odd.slots[0].memory_kib, odd.tokens[0].slots.len()), (0, 0));
    }
}
