//! The memory that checking a passphrase takes. LUKS2 asks for up to a gibibyte on purpose, and a small board has not
//! got it: the numbers are the whole answer then.

use crate::tool;
use std::fs;

/// Memory in KiB: what the cheapest and the dearest key slot's hash takes, and what is free.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    /// The cheapest slot.
    pub least: u64,
    /// The dearest slot.
    pub most: u64,
    /// What there is.
    pub free: u64,
}

impl Memory {
    /// What checking a passphrase of `device` takes, and what there is.
    pub fn for_passphrases_of(device: &str) -> Memory {
        let dump = tool::run(tool::command(
            "cryptsetup",
            ["luksDump", "--dump-json-metadata", "--", device],
        ));
        let (least, most) = dump.map(|ended| argon_kib(&ended.stdout)).unwrap_or_default();
        let free = fs::read_to_string("/proc/meminfo")
            .ok()
            .and_then(|text| available_kib(&text));
        Memory {
            least,
            most,
            free: free.unwrap_or(u64::MAX),
        }
    }

    /// The sentence that says it is not enough.
    pub fn too_little(self) -> String {
        let needed = if self.least > self.free {
            self.least
        } else {
            self.most
        };
        format!(
            "not enough memory to check the passphrase: its key slot takes {} MiB, {} MiB are free",
            needed / 1024,
            self.free / 1024
        )
    }
}

/// The least and the most memory in KiB that a key slot's hash takes, from `luksDump --dump-json-metadata`; LUKS1 has no
/// such dump and takes none.
fn argon_kib(json: &[u8]) -> (u64, u64) {
    let value: serde_json::Value = serde_json::from_slice(json).unwrap_or_default();
    let slots = value.get("keyslots").and_then(serde_json::Value::as_object);
    let of = |slot: &serde_json::Value| {
        slot.pointer("/kdf/memory")
            .and_then(serde_json::Value::as_u64)
            .unwrap_or(0)
    };
    let needs = || slots.into_iter().flat_map(|slots| slots.values()).map(of);
    (needs().min().unwrap_or(0), needs().max().unwrap_or(0))
}

/// What can be had without taking it from anybody, swap included.
fn available_kib(meminfo: &str) -> Option<u64> {
    let kib = |name: &str| {
        let line = meminfo.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    };
    Some(kib("MemAvailable:")? + kib("SwapFree:").unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_of_the_cheapest_and_the_dearest_slot_is_known() {
        let json = br#"{"keyslots":{"0":{"kdf":{"type":"argon2id","memory":65536}},"1":{"kdf":{"memory":1048576}}}}"#;
        assert_eq!(argon_kib(json), (65_536, 1_048_576));
        let with_recovery = br#"{"keyslots":{"0":{"kdf":{"memory":65536}},"2":{"kdf":{"type":"pbkdf2"}}}}"#;
        assert_eq!(argon_kib(with_recovery), (0, 65_536));
        assert_eq!(argon_kib(b"{}"), (0, 0));
        assert_eq!(argon_kib(b""), (0, 0));
        assert_eq!(
            available_kib("MemTotal: 5 kB\nMemAvailable:     1234 kB\nSwapFree: 6 kB\n"),
            Some(1240)
        );
    }
}
