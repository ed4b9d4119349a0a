//! Asking a Raspberry Pi's firmware: encoded and decoded by `contract::firmware::mailbox`, carried by [`Mailbox`].

use crate::sys::mailbox::exchange;
use lifeboot_contract::firmware::mailbox::{self, MailboxError};
use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

/// Where Raspberry Pi's kernels have it.
pub const DEVICE: &str = "/dev/vcio";

/// Whatever answers mailbox requests; tests put a stand-in here.
pub trait Mailbox {
    /// Has `buffer` answered in its place.
    ///
    /// # Errors
    /// The kernel's.
    fn exchange(&mut self, buffer: &mut [u32]) -> io::Result<()>;
}

/// The firmware of this machine.
#[derive(Debug)]
pub struct Vcio(File);

impl Vcio {
    /// Opens it.
    ///
    /// # Errors
    /// NotFound on every machine but a Pi with one of Raspberry Pi's own kernels.
    pub fn open() -> io::Result<Vcio> {
        Vcio::at(Path::new(DEVICE))
    }

    /// Opens it elsewhere.
    ///
    /// # Errors
    /// As [`Vcio::open`].
    pub fn at(path: &Path) -> io::Result<Vcio> {
        OpenOptions::new().read(true).write(true).open(path).map(Vcio)
    }
}

impl Mailbox for Vcio {
    fn exchange(&mut self, buffer: &mut [u32]) -> io::Result<()> {
        exchange(&self.0, buffer)
    }
}

/// Why the firmware did not tell.
#[derive(Debug, thiserror::Error)]
pub enum FirmwareError {
    /// The way to it.
    #[error("firmware mailbox")]
    Io(#[from] io::Error),
    /// Its answer.
    #[error(transparent)]
    Answer(#[from] MailboxError),
}

/// Asks for `tag` with `value`, which has room for the answer; at least `least` words come back.
///
/// # Errors
/// The kernel's, or that the firmware does not know the tag or answers nonsense.
pub fn ask(
    firmware: &mut dyn Mailbox,
    tag: u32,
    value: &[u32],
    least: usize,
) -> Result<Vec<u32>, FirmwareError> {
    let mut buffer = mailbox::request(tag, value);
    firmware.exchange(&mut buffer)?;
    let answer = mailbox::answer(&buffer, tag, least).map(<[u32]>::to_vec);
    // What one-time memory holds may be a secret.
    buffer.fill(0);
    std::hint::black_box(&buffer);
    Ok(answer?)
}

/// A stand-in that answers from a table, for tests.
#[derive(Debug, Default, Clone)]
pub struct Scripted {
    /// What each tag answers.
    pub answers: Vec<(u32, Vec<u32>)>,
    /// What was asked: tag and value.
    pub asked: Vec<(u32, Vec<u32>)>,
}

impl Mailbox for Scripted {
    fn exchange(&mut self, buffer: &mut [u32]) -> io::Result<()> {
        let [_, code, tag, room, told, value @ .., _] = buffer else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        self.asked.push((*tag, value.to_vec()));
        *code = 0x8000_0000;
        if let Some((_, answer)) = self.answers.iter().find(|(known, _)| known == tag) {
            *told = 0x8000_0000 | (*room).min(answer.len() as u32 * 4);
            value.iter_mut().zip(answer).for_each(|(to, from)| *to = *from);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifeboot_contract::firmware::mailbox::{BOARD_REVISION, THROTTLED};

    #[test]
    fn what_the_firmware_knows_is_told_and_the_rest_is_named() {
        let mut firmware = Scripted {
            answers: vec![(BOARD_REVISION, vec![0xc0_3114])],
            ..Scripted::default()
        };
        assert_eq!(ask(&mut firmware, BOARD_REVISION, &[0], 1).unwrap(), [0xc0_3114]);
        let error = ask(&mut firmware, THROTTLED, &[0], 1).unwrap_err();
        assert_eq!(error.to_string(), "the firmware does not know tag 0x00030046");
        assert_eq!(firmware.asked, [(BOARD_REVISION, vec![0]), (THROTTLED, vec![0])]);
    }

    #[test]
    fn a_machine_without_the_device_says_so() {
        let error = Vcio::at(Path::new("/nowhere/vcio")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        // Anything else that is there does not know the order.
        let mut null = Vcio::at(Path::new("/dev/null")).unwrap();
        assert!(matches!(
            ask(&mut null, BOARD_REVISION, &[0], 1),
            Err(FirmwareError::Io(_))
        ));
    }
}
