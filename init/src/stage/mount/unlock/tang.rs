//! The unattended way: asks the Tang servers that a volume of the plan is bound to, again and again, until somebody has unlocked it.

use super::{LOOK, Locked, Wanted};
use crate::boot::{doubled, jittered};
use crate::luks::{Key, Outcome, Token};
use crate::report::{Reporter, chain};
use crate::stage::fetch;
use crate::tang::{self, Online, Trouble};
use crate::uplink::Uplink;
use lifeboot_contract::event::Event;
use serde_json::Value;
use std::collections::HashSet;
use std::time::Duration;

/// Pauses between tries. A server that comes back is found within about a minute.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LAST_PAUSE: Duration = Duration::from_secs(60);

/// Asks until the volume is open or no longer wanted; ends at once when it is bound to no server.
pub(super) fn keep_asking(locked: &Locked, wanted: &Wanted, uplink: &Uplink, reporter: &Reporter) {
    let metadata = match locked.volume.metadata() {
        Ok(Some(metadata)) => metadata,
        // LUKS1, which has no tokens.
        Ok(None) => return,
        Err(trouble) => return reporter.ignore("tang", Err::<(), _>(trouble)),
    };
    let mut ways: Vec<(&Token, &Value)> = metadata.clevis().collect();
    let mut said = HashSet::new();
    let mut tries = 0;
    while !ways.is_empty() && wanted.is(&locked.uuid) {
        if let Err(failed) = uplink.wait() {
            // Its own events say why.
            reporter.ignore("tang", Err::<(), _>(failed));
            continue;
        }
        tries += 1;
        let pause = jittered(doubled(FIRST_PAUSE, tries).min(LAST_PAUSE));
        let mut troubles = Vec::new();
        ways.retain(|(token, jwe)| {
            let clock = uplink.clock();
            match one(locked, token, jwe, wanted, &*clock) {
                Ok(true) => {
                    let text = format!("{} was unlocked by {}", locked.volume.device, tang::describe(jwe));
                    reporter.event(
                        event(reporter.info("unlock.tang"), locked, token, jwe)
                            .with("result", "opened")
                            .text(text),
                    );
                    true
                }
                Ok(false) => true,
                Err(trouble) => {
                    let keep = !trouble.is_final();
                    troubles.push((*token, *jwe, trouble));
                    keep
                }
            }
        });
        if !wanted.is(&locked.uuid) {
            return;
        }
        for (token, jwe, trouble) in troubles {
            let again = (!trouble.is_final()).then_some(pause);
            let what = trouble.to_string();
            // The same words once are enough on a console.
            let loud = said.insert(what);
            let base = if loud {
                reporter.warn("unlock.tang")
            } else {
                reporter.debug("unlock.tang")
            };
            reporter.event(failed(
                event(base, locked, token, jwe),
                &trouble,
                again,
                loud,
                locked,
            ));
        }
        sleep(pause, wanted, &locked.uuid);
    }
}

/// Whether this token opened it; `false` when somebody else was quicker.
fn one(
    locked: &Locked,
    token: &Token,
    jwe: &Value,
    wanted: &Wanted,
    clock: &dyn fetch::Clock,
) -> Result<bool, Trouble> {
    if !wanted.is(&locked.uuid) {
        return Ok(false);
    }
    let secret = tang::passphrase(jwe, &Online { clock })?;
    let key = match token.slots.as_slice() {
        [slot] => Key::ForSlot(&secret, *slot),
        _ => Key::Passphrase(&secret),
    };
    match locked.volume.open(key) {
        Ok(Outcome::Open) => Ok(true),
        _ if !wanted.is(&locked.uuid) => Ok(false),
        Ok(Outcome::WrongKey) => Err(Trouble::stale()),
        Err(trouble) => Err(Trouble::opening(chain(&trouble))),
    }
}

fn event(base: Event, locked: &Locked, token: &Token, jwe: &Value) -> Event {
    base.with("uuid", locked.uuid.as_str())
        .with("device", locked.volume.device.as_str())
        .with("token", token.id)
        .with("url", tang::describe(jwe))
}

fn failed(event: Event, trouble: &Trouble, again: Option<Duration>, loud: bool, locked: &Locked) -> Event {
    let device = &locked.volume.device;
    let what = trouble.to_string();
    let event = event.with("what", what.as_str());
    let (event, text) = match again {
        None => (event.with("result", "unsupported"), format!("{device}: {what}")),
        Some(pause) => {
            let seconds = pause.as_secs().max(1);
            let event = event
                .with("result", "failed")
                .with("next_try_ms", pause.as_millis() as u64);
            (
                event,
                format!("{device}: not unlocked by its Tang server, next try in {seconds} s: {what}"),
            )
        }
    };
    if loud { event.text(text) } else { event }
}

fn sleep(pause: Duration, wanted: &Wanted, uuid: &str) {
    let end = std::time::Instant::now() + pause;
    while wanted.is(uuid) && std::time::Instant::now() < end {
        std::thread::sleep(LOOK);
    }
}
