//! `rescue unlock --tang`: the way by servers, one step after the other, each named when it fails.

use super::Report;
use super::by_hand::{Aim, failed};
use crate::output;
use lifeboot_init::luks::{Key, Metadata, Outcome, Token, Volume};
use lifeboot_init::stage::fetch::SetAlready;
use lifeboot_init::tang::{self, Online, Step};
use serde_json::Value;

/// Opens by the first token whose servers help.
pub(super) fn open(volume: &Volume, aim: Aim) -> Report {
    match with_tokens(volume, aim) {
        Ok(report) => report,
        Err(what) => failed(volume, format!("{}: {what}", volume.device)),
    }
}

fn with_tokens(volume: &Volume, aim: Aim) -> Result<Report, String> {
    let device = volume.device.as_str();
    let metadata = match volume.metadata() {
        Ok(Some(metadata)) => metadata,
        Ok(None) => return Err("its header is LUKS1, which is not bound to Tang servers here".to_owned()),
        Err(trouble) => return Err(without_device(device, trouble.to_string())),
    };
    let mut last = bound_to_none(&metadata);
    for (token, jwe) in metadata.clevis() {
        output::complain(&format!("{device}: token {}: {}", token.id, tang::describe(jwe)));
        match by_token(volume, aim, token, jwe) {
            Ok(()) => return Ok(aim.done(volume)),
            Err(what) => last = format!("token {}: {what}", token.id),
        }
    }
    Err(last)
}

fn by_token(volume: &Volume, aim: Aim, token: &Token, jwe: &Value) -> Result<(), String> {
    let secret = tang::passphrase(jwe, &Online { clock: &SetAlready })
        .map_err(|trouble| format!("{}: {trouble}", step(trouble.step)))?;
    let key = match token.slots.as_slice() {
        [slot] => Key::ForSlot(&secret, *slot),
        _ => Key::Passphrase(&secret),
    };
    match aim.attempt(volume, key) {
        Ok(Outcome::Open) => Ok(()),
        Ok(Outcome::WrongKey) => {
            Err("opening: the passphrase opens no key slot any more: bind the volume anew".to_owned())
        }
        Err(error) => Err(format!(
            "opening: {}",
            without_device(&volume.device, format!("{error:#}"))
        )),
    }
}

fn step(step: Step) -> &'static str {
    match step {
        Step::Unsupported | Step::Token => "reading the token",
        Step::Request => "asking the server",
        Step::Answer => "understanding the server",
        Step::Decrypt => "decrypting",
        Step::Open => "opening",
    }
}

fn bound_to_none(metadata: &Metadata) -> String {
    let kinds: Vec<&str> = metadata.tokens.iter().map(|token| token.kind.as_str()).collect();
    match kinds.is_empty() {
        true => "it is bound to no Tang server, it has no token".to_owned(),
        false => format!(
            "it is bound to no Tang server, its tokens are: {}",
            kinds.join(", ")
        ),
    }
}

fn without_device(device: &str, what: String) -> String {
    match what.strip_prefix(device).and_then(|rest| rest.strip_prefix(": ")) {
        Some(rest) => rest.to_owned(),
        None => what,
    }
}
