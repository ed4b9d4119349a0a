//! A host key made from the secret in a Raspberry Pi's one-time memory, so that the same board is the same server on every start.
//!
//! The secret is what `rpi-otp-private-key` writes: 256 bits, all zero on a board where nobody has. HKDF-SHA256 (RFC 5869) makes the seed of
//! an ed25519 key of it, with the board's serial number as salt and [`INFO`] as the purpose: what others derive of the same secret - a
//! disk's key, say - has nothing to do with it, and neither can be computed from the other. Why that is safe and where it ends is
//! in docs/machine.md. **The way to the firmware was never run on hardware.**

use anyhow::{Context as _, bail};
use lifeboot_contract::firmware::mailbox::{BOARD_SERIAL, MailboxError, PRIVATE_KEY};
use lifeboot_init::firmware::{FirmwareError, Mailbox, Vcio, ask};
use ring::hkdf::{HKDF_SHA256, Salt};
use std::io;

/// What the key is for. Another text would be another key, and clients would see another server.
const INFO: &[u8] = b"lifeboot ssh host key, ed25519, version 1";
/// Rows of one-time memory that make the secret. A Pi 5 has sixteen, of which the first eight are what every board has.
const ROWS: usize = 8;

/// Bytes that are wiped when they go.
pub struct Secret([u8; 32]);

impl Secret {
    /// All zero, to be filled.
    pub fn blank() -> Secret {
        Secret([0; 32])
    }

    /// The bytes, to be filled.
    pub fn bytes_mut(&mut self) -> &mut [u8; 32] {
        &mut self.0
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.fill(0);
        // Without somebody who looks the compiler would leave the zeros out.
        std::hint::black_box(&self.0);
    }
}

/// The seed of this board's own key; `None` on a board without a secret, or without a firmware that tells it.
///
/// # Errors
/// A secret that is none, or an answer that makes no sense.
pub fn seed() -> anyhow::Result<Option<Secret>> {
    match Vcio::open() {
        Ok(mut firmware) => seed_from(&mut firmware),
        // Not a Pi, or a kernel without the driver.
        Err(_) => Ok(None),
    }
}

/// The same, from whatever answers.
///
/// # Errors
/// As [`seed`].
pub fn seed_from(firmware: &mut dyn Mailbox) -> anyhow::Result<Option<Secret>> {
    let Some(secret) = secret(firmware)? else {
        return Ok(None);
    };
    let serial = ask(firmware, BOARD_SERIAL, &[0, 0], 2).context("the board's serial number")?;
    let serial = u64::from(serial[1]) << 32 | u64::from(serial[0]);
    let mut seed = Secret::blank();
    Salt::new(HKDF_SHA256, &serial.to_be_bytes())
        .extract(secret.bytes())
        .expand(&[INFO], HKDF_SHA256)
        .and_then(|key| key.fill(&mut seed.0))
        .map_err(|_| anyhow::anyhow!("HKDF"))?;
    Ok(Some(seed))
}

/// What is in one-time memory, if anybody has put something there.
fn secret(firmware: &mut dyn Mailbox) -> anyhow::Result<Option<Secret>> {
    let mut rows = [0; 2 + ROWS];
    rows[1] = ROWS as u32;
    let mut answer = match ask(firmware, PRIVATE_KEY, &rows, rows.len()) {
        Ok(answer) => answer,
        Err(error) if is_no(&error) => return Ok(None),
        Err(error) => return Err(error).context("the secret in one-time memory"),
    };
    let (told, words) = answer.split_at_mut(2);
    let mut secret = Secret::blank();
    for (to, word) in secret.0.chunks_exact_mut(4).zip(words.iter()) {
        to.copy_from_slice(&word.to_be_bytes());
    }
    let is = |value: u32| words.iter().all(|word| *word == value);
    let (empty, same) = (is(0), words.first().is_some_and(|first| is(*first)));
    words.fill(0);
    std::hint::black_box(&words);
    match *told {
        [0, rows] if rows as usize == ROWS => {}
        _ => bail!("the secret in one-time memory: other rows were told than asked for"),
    }
    match (empty, same) {
        (true, _) => Ok(None),
        (false, true) => bail!("the secret in one-time memory is the same word {ROWS} times"),
        (false, false) => Ok(Some(secret)),
    }
}

/// Whether the firmware does not have it, or its owner has shut it off (`lock_device_private_key=1`).
fn is_no(error: &FirmwareError) -> bool {
    match error {
        FirmwareError::Answer(MailboxError::Unknown(_) | MailboxError::Refused(_)) => true,
        FirmwareError::Io(error) => error.kind() == io::ErrorKind::InvalidInput,
        FirmwareError::Answer(_) => false,
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use lifeboot_init::firmware::Scripted;

    /// The secret of the example in Raspberry Pi's documentation, and a serial number.
    pub fn board() -> Scripted {
        let secret = [
            0,
            8,
            0xf8db_c7b0,
            0xa4fc_fb1d,
            0x706e_298a,
            0xc9d0_485c,
            0x2226_ce8d,
            0xf7f7_596a,
            0xc773_37bd,
            0x09fb_e160,
        ];
        Scripted {
            answers: vec![
                (PRIVATE_KEY, secret.to_vec()),
                (BOARD_SERIAL, vec![0x9ffe_fdef, 0x1000_0000]),
            ],
            ..Scripted::default()
        }
    }

    fn hex(secret: &Secret) -> String {
        secret.bytes().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn the_seed_is_what_rfc_5869_makes_of_the_secret() {
        // Computed by another implementation (Python's hmac) from the same numbers.
        let seed = seed_from(&mut board()).unwrap().unwrap();
        assert_eq!(
            hex(&seed),
            "f83fbf265e41a693b42d7cd3d9d7dddaac049facd6a2008630d03d7103be2ab7"
        );
    }

    #[test]
    fn another_board_with_the_same_secret_is_another_server() {
        let mut other = board();
        other.answers[1].1[0] ^= 1;
        let seeds = [board(), other].map(|mut board| hex(&seed_from(&mut board).unwrap().unwrap()));
        assert_ne!(seeds[0], seeds[1]);
    }

    #[test]
    fn a_board_without_a_secret_has_no_key() {
        let mut empty = board();
        empty.answers[0].1[2..].fill(0);
        assert!(seed_from(&mut empty).unwrap().is_none());
        assert!(
            seed_from(&mut Scripted::default()).unwrap().is_none(),
            "an old firmware"
        );
    }

    #[test]
    fn what_is_no_secret_is_refused_by_name() {
        let mut burnt = board();
        burnt.answers[0].1[2..].fill(u32::MAX);
        let mut others = board();
        others.answers[0].1[1] = 4;
        let mut short = board();
        short.answers[0].1.truncate(6);
        let mut nameless = board();
        nameless.answers.truncate(1);
        for (mut board, why) in [
            (burnt, "the same word 8 times"),
            (others, "other rows were told"),
            (short, "too short"),
            (nameless, "serial number"),
        ] {
            let error = format!("{:#}", seed_from(&mut board).err().unwrap());
            assert!(error.contains(why), "{error}");
        }
    }
}
