//! The memory that checking a passphrase takes. LUKS2 asks for up to a gibibyte on purpose, and a small board has not
//! got it: the numbers are the whole answer then.

use super::Metadata;
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
    /// What checking a key against these slots takes, or against one of them, and what there is. LUKS1 takes none.
    pub fn for_keys(metadata: Option<&Metadata>, slot: Option<u32>) -> Memory {
        let slots = metadata
            .map(|metadata| metadata.slots.as_slice())
            .unwrap_or_default();
        let needs = || {
            let meant = slots
                .iter()
                .filter(|known| slot.is_none_or(|slot| known.id == slot));
            meant.map(|slot| slot.memory_kib)
        };
        Memory {
            least: needs().min().unwrap_or(0),
            most: needs().max().unwrap_or(0),
            free: available_kib().unwrap_or(u64::MAX),
        }
    }

    /// The sentence that says it is not enough, and what to do. What is on the disk cannot be changed by this machine.
    pub fn too_little(self) -> String {
        let needed = if self.least > self.free {
            self.least
        } else {
            self.most
        };
        format!(
            "not enough memory to check the passphrase: its key slot takes {} MiB, {} MiB are free; on a machine with enough, \
             'cryptsetup luksConvertKey --pbkdf-memory KIB DEVICE' makes it take less and '--pbkdf pbkdf2' none",
            needed / 1024,
            self.free / 1024
        )
    }
}

/// Memory in KiB that can be had without taking it from anybody, swap included.
pub fn available_kib() -> Option<u64> {
    available_of(&fs::read_to_string("/proc/meminfo").ok()?)
}

fn available_of(meminfo: &str) -> Option<u64> {
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
    fn what_is_missing_is_said_and_how_to_need_less() {
        let memory = |least| Memory {
            least,
            most: 1 << 20,
            free: 118_784,
        };
        for (least, needed) in [(524_288, "512"), (65_536, "1024")] {
            let said = memory(least).too_little();
            let begins = format!("its key slot takes {needed} MiB, 116 MiB are free; ");
            assert!(
                said.contains(&begins) && said.contains("--pbkdf pbkdf2"),
                "{said}"
            );
        }
    }

    #[test]
    fn the_memory_of_the_cheapest_and_the_dearest_slot_is_known() {
        let least_and_most = |json: &[u8], slot| {
            let metadata = Metadata::read(json).unwrap();
            let memory = Memory::for_keys(Some(&metadata), slot);
            (memory.least, memory.most)
        };
        let json = br#"{"keyslots":{"0":{"kdf":{"type":"argon2id","memory":65536}},"1":{"kdf":{"memory":1048576}}}}"#;
        assert_eq!(least_and_most(json, None), (65_536, 1_048_576));
        let with_recovery = br#"{"keyslots":{"0":{"kdf":{"memory":65536}},"2":{"kdf":{"type":"pbkdf2"}}}}"#;
        assert_eq!(least_and_most(with_recovery, None), (0, 65_536));
        assert_eq!(least_and_most(with_recovery, Some(0)), (65_536, 65_536));
        assert_eq!(least_and_most(with_recovery, Some(2)), (0, 0));
        assert_eq!(least_and_most(b"{}", None), (0, 0));
        assert_eq!(Memory::for_keys(None, None).most, 0);
        assert_eq!(
            available_of("MemTotal: 5 kB\nMemAvailable:     1234 kB\nSwapFree: 6 kB\n"),
            Some(1240)
        );
    }
}
