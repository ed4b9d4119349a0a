//! Which host keys a bastion may show.

use lifeboot_contract::tunnel::{Bastion, Pin, PinnedKey};
use russh::Preferred;
use russh::keys::ssh_key::HashAlg;
use russh::keys::{Algorithm, PublicKey};
use std::borrow::Cow;

/// The pins of one bastion, at least one.
#[derive(Debug, Clone)]
pub struct Pins {
    keys: Vec<PublicKey>,
    fingerprints: Vec<String>,
}

impl Pins {
    /// Those of `pins` that are meant for it.
    ///
    /// # Errors
    /// None is, or one is no key.
    pub fn for_bastion(bastion: &Bastion, pins: &[Pin]) -> Result<Pins, String> {
        let mut found = Pins {
            keys: Vec::new(),
            fingerprints: Vec::new(),
        };
        for pin in pins.iter().filter(|pin| pin.is_for(bastion)) {
            match &pin.key {
                PinnedKey::Fingerprint(text) => found.fingerprints.push(text.clone()),
                PinnedKey::Whole(text) => found.keys.push(
                    PublicKey::from_openssh(text)
                        .map_err(|error| format!("lifeboot.tunnel-hostkey: '{text}': {error}"))?,
                ),
            }
        }
        if found.keys.is_empty() && found.fingerprints.is_empty() {
            return Err("no lifeboot.tunnel-hostkey= says which host key it must show".to_owned());
        }
        Ok(found)
    }

    /// Whether `key` is one of them.
    pub fn allow(&self, key: &PublicKey) -> bool {
        let fingerprint = key.fingerprint(HashAlg::Sha256).to_string();
        self.keys.iter().any(|pinned| pinned.key_data() == key.key_data())
            || self.fingerprints.contains(&fingerprint)
    }

    /// The algorithms to ask for: those of the pinned keys, since a server has a key of each kind and shows the first one asked for. A
    /// fingerprint does not tell its kind. SHA-1 is not among them.
    pub fn preferred(&self) -> Preferred {
        let mut algorithms: Vec<Algorithm> = Preferred::DEFAULT.key.to_vec();
        algorithms.retain(|algorithm| {
            let wanted = self.keys.iter().any(|key| match key.algorithm() {
                Algorithm::Rsa { .. } => matches!(algorithm, Algorithm::Rsa { .. }),
                other => other == *algorithm,
            });
            *algorithm != Algorithm::Rsa { hash: None } && (wanted || !self.fingerprints.is_empty())
        });
        Preferred {
            key: Cow::Owned(algorithms),
            ..Preferred::DEFAULT
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
    const OTHER: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

    fn bastion() -> Bastion {
        Bastion {
            user: "ops".to_owned(),
            host: "b".to_owned(),
            port: 22,
            listen: 0,
        }
    }

    fn pin(host: Option<&str>, key: PinnedKey) -> Pin {
        Pin {
            host: host.map(str::to_owned),
            key,
        }
    }

    #[test]
    fn a_pinned_key_or_its_fingerprint_is_allowed_and_another_is_not() {
        let (key, other) = (
            PublicKey::from_openssh(KEY).unwrap(),
            PublicKey::from_openssh(OTHER).unwrap(),
        );
        let fingerprint = key.fingerprint(HashAlg::Sha256).to_string();
        for pinned in [
            PinnedKey::Whole(KEY.to_owned()),
            PinnedKey::Fingerprint(fingerprint),
        ] {
            let pins = Pins::for_bastion(&bastion(), &[pin(None, pinned)]).unwrap();
            assert!(pins.allow(&key) && !pins.allow(&other));
        }
    }

    #[test]
    fn a_bastion_without_a_pin_of_its_own_is_refused() {
        let elsewhere = pin(Some("c"), PinnedKey::Whole(KEY.to_owned()));
        assert!(Pins::for_bastion(&bastion(), std::slice::from_ref(&elsewhere)).is_err());
        let broken = pin(None, PinnedKey::Whole("ssh-ed25519 AAAA".to_owned()));
        assert!(Pins::for_bastion(&bastion(), &[broken]).is_err());
    }

    #[test]
    fn only_the_kind_of_the_pinned_key_is_asked_for() {
        let whole = pin(None, PinnedKey::Whole(KEY.to_owned()));
        let pins = Pins::for_bastion(&bastion(), &[whole]).unwrap();
        assert_eq!(pins.preferred().key.to_vec(), [Algorithm::Ed25519]);
        let any = pin(None, PinnedKey::Fingerprint("SHA256:x".to_owned()));
        let asked = Pins::for_bastion(&bastion(), &[any]).unwrap().preferred().key;
        assert!(asked.len() > 3 && !asked.contains(&Algorithm::Rsa { hash: None }));
    }
}
