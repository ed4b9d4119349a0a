//! `rescue unlock --show`: which ways into a device there are, and what each takes.

use crate::output;
use anyhow::Context as _;
use lifeboot_init::luks::{Memory, Metadata, Slot, Token, Volume};
use lifeboot_init::tang;
use serde::Serialize;
use std::process::ExitCode;

#[derive(Debug, Serialize)]
struct Ways {
    device: String,
    uuid: String,
    /// 1 or 2.
    luks: u32,
    slots: Vec<SlotReport>,
    tokens: Vec<TokenReport>,
    free_kib: u64,
}

#[derive(Debug, Serialize)]
struct SlotReport {
    slot: u32,
    hash: String,
    memory_kib: u64,
    enough_memory: bool,
}

#[derive(Debug, Serialize)]
struct TokenReport {
    token: u32,
    slots: Vec<u32>,
    kind: String,
    about: String,
}

/// Prints them.
pub(super) fn run(volumes: &[Volume], json: bool) -> anyhow::Result<ExitCode> {
    let mut all = Vec::new();
    for volume in volumes {
        let metadata = volume.metadata()?;
        all.push(Ways {
            device: volume.device.clone(),
            uuid: volume.uuid()?,
            ..ways(metadata)
        });
    }
    if json {
        let text = match all.as_slice() {
            [one] => serde_json::to_string_pretty(one),
            all => serde_json::to_string_pretty(all),
        };
        output::line(&text.context("report")?)?;
    } else {
        let lines: Vec<String> = all.iter().flat_map(Ways::lines).collect();
        output::lines(lines.iter().map(String::as_str))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn ways(metadata: Option<Metadata>) -> Ways {
    let free_kib = Memory::for_keys(None, None).free;
    let luks = if metadata.is_some() { 2 } else { 1 };
    let metadata = metadata.unwrap_or_default();
    let slot = |slot: &Slot| SlotReport {
        slot: slot.id,
        hash: slot.kdf.clone(),
        memory_kib: slot.memory_kib,
        enough_memory: slot.memory_kib <= free_kib,
    };
    let token = |token: &Token| TokenReport {
        token: token.id,
        slots: token.slots.clone(),
        kind: token.kind.clone(),
        about: about(token),
    };
    Ways {
        device: String::new(),
        uuid: String::new(),
        luks,
        slots: metadata.slots.iter().map(slot).collect(),
        tokens: metadata.tokens.iter().map(token).collect(),
        free_kib,
    }
}

/// What can be done with a token here.
fn about(token: &Token) -> String {
    match (token.kind.as_str(), token.json.get("jwe")) {
        ("clevis", Some(jwe)) => tang::describe(jwe),
        ("systemd-recovery", _) => "type the recovery key as the passphrase".to_owned(),
        _ => "not supported here".to_owned(),
    }
}

impl Ways {
    fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!("{}: LUKS{}, UUID {}", self.device, self.luks, self.uuid)];
        if self.luks == 1 {
            lines.push("  passphrases and key files; checking one takes no memory to speak of".to_owned());
        }
        for slot in &self.slots {
            let memory = match (slot.memory_kib, slot.enough_memory) {
                (0, _) => String::new(),
                (kib, true) => format!(", takes {} MiB of memory", kib / 1024),
                (kib, false) => format!(
                    ", takes {} MiB of memory, only {} are free",
                    kib / 1024,
                    self.free_kib / 1024
                ),
            };
            lines.push(format!("  key slot {}: {}{memory}", slot.slot, slot.hash));
        }
        for token in &self.tokens {
            let slots: Vec<String> = token.slots.iter().map(u32::to_string).collect();
            let slots = slots.join(", ");
            lines.push(format!(
                "  token {} for key slot {slots}: {}: {}",
                token.token, token.kind, token.about
            ));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_in_is_a_line_and_what_is_not_done_here_is_said() {
        let json = br#"{"keyslots":{"0":{"kdf":{"type":"argon2id","memory":65536}},"1":{"kdf":{"type":"pbkdf2"}}},
            "tokens":{"0":{"type":"systemd-tpm2","keyslots":["1"]},"1":{"type":"systemd-recovery","keyslots":["0"]}}}"#;
        let mut ways = ways(Some(Metadata::read(json).unwrap()));
        ways.free_kib = 1024;
        ways.slots[0].enough_memory = false;
        let text = ways.lines().join("\n");
        assert!(
            text.contains("key slot 0: argon2id, takes 64 MiB of memory, only 1 are free"),
            "{text}"
        );
        assert!(
            text.contains("token 0 for key slot 1: systemd-tpm2: not supported here"),
            "{text}"
        );
        assert!(text.contains("type the recovery key"), "{text}");
    }
}
