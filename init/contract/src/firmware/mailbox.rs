//! The mailbox property interface: what the firmware is asked and what it answers, as 32-bit words.
//!
//! A buffer is its own length in bytes, a code, tags, and a zero. A tag is its number, the room for its value in bytes, a length, and
//! the value; the answer overwrites the request and sets bit 31 of the length, which may then be longer than the room. A tag
//! that the firmware does not know is left as it was: that, and nothing else, says "not supported".
//!
//! Sources: raspberrypi/firmware wiki "Mailbox property interface"; the numbers are those of include/soc/bcm2835/raspberrypi-firmware.h and
//! drivers/char/broadcom/vcio.c in raspberrypi/linux, that of the private key the one of tools/rpi-otp-private-key in raspberrypi/usbboot.
//! The firmware wants the buffer at a multiple of 16 bytes; the kernel's driver copies it to such a place. **Never run on hardware.**

use thiserror::Error;

/// Seconds since 1970 when the firmware was built.
pub const FIRMWARE_REVISION: u32 = 0x0000_0001;
/// The board's revision code, see [`super::revision`].
pub const BOARD_REVISION: u32 = 0x0001_0002;
/// The serial number, the low word first.
pub const BOARD_SERIAL: u32 = 0x0001_0004;
/// Asked with sensor 0; answers sensor and thousandths of a degree Celsius.
pub const TEMPERATURE: u32 = 0x0003_0006;
/// The same for the temperature that is not to be passed.
pub const MAX_TEMPERATURE: u32 = 0x0003_000a;
/// Eight rows of one-time memory that are the owner's: asked with first row and number, answers both and the rows.
pub const CUSTOMER_OTP: u32 = 0x0003_0021;
/// Bits of [`super::throttled`].
pub const THROTTLED: u32 = 0x0003_0046;
/// Rows of the device's private key in one-time memory, asked as [`CUSTOMER_OTP`] is; all zero where none was written.
pub const PRIVATE_KEY: u32 = 0x0003_0081;
/// The boot order of the next start alone; 0 where none is set.
pub const GET_REBOOT_ORDER: u32 = 0x0003_008b;
/// Sets it.
pub const SET_REBOOT_ORDER: u32 = 0x0003_808b;

/// `0x80000000`: the whole buffer was understood.
const SUCCESS: u32 = 0x8000_0000;
const ANSWERED: u32 = 0x8000_0000;
const HEADER: usize = 2;
const TAG_HEADER: usize = 3;

/// An answer that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MailboxError {
    /// The firmware has left the tag as it was.
    #[error("the firmware does not know tag {0:#010x}")]
    Unknown(u32),
    /// A code that is not success.
    #[error("the firmware answered with code {0:#010x}")]
    Refused(u32),
    /// Another tag, or lengths that cannot be.
    #[error("the firmware's answer to tag {tag:#010x} is malformed: {what}")]
    Malformed {
        /// What was asked.
        tag: u32,
        /// What is wrong.
        what: &'static str,
    },
}

/// A buffer that asks for one tag, with room for an answer as long as `value`.
pub fn request(tag: u32, value: &[u32]) -> Vec<u32> {
    let bytes = |words: usize| (words * 4) as u32;
    let mut buffer = vec![0, 0, tag, bytes(value.len()), 0];
    buffer.extend(value);
    buffer.push(0);
    if let Some(length) = buffer.first_mut() {
        *length = bytes(HEADER + TAG_HEADER + value.len() + 1);
    }
    buffer
}

/// The value that came back in a buffer made by [`request`]: at least `least` words.
///
/// # Errors
/// The firmware does not know the tag, could not do it, or answered nonsense.
pub fn answer(buffer: &[u32], tag: u32, least: usize) -> Result<&[u32], MailboxError> {
    let malformed = |what| MailboxError::Malformed { tag, what };
    let [length, code, got, room, told, rest @ ..] = buffer else {
        return Err(malformed("shorter than its header"));
    };
    if *code != SUCCESS {
        return Err(MailboxError::Refused(*code));
    }
    if *got != tag {
        return Err(malformed("it is about another tag"));
    }
    if *length as usize != buffer.len() * 4 || room % 4 != 0 {
        return Err(malformed("its length has changed"));
    }
    let value = rest
        .get(..*room as usize / 4)
        .filter(|value| value.len() < rest.len())
        .ok_or_else(|| malformed("the value does not fit"))?;
    if told & ANSWERED == 0 {
        return Err(MailboxError::Unknown(tag));
    }
    // What the firmware would have liked to say may be longer than what it had room for.
    let words = (told & !ANSWERED) as usize / 4;
    let value = value.get(..words.min(value.len())).unwrap_or_default();
    if value.len() < least {
        return Err(malformed("the value is too short"));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The buffer as it stands in the documentation of the private key, with the key of that example.
    const DOCUMENTED: [u32; 16] = [
        0x0000_0040,
        0x8000_0000,
        0x0003_0081,
        0x0000_0028,
        0x8000_0028,
        0x0000_0000,
        0x0000_0008,
        0xf8db_c7b0,
        0xa4fc_fb1d,
        0x706e_298a,
        0xc9d0_485c,
        0x2226_ce8d,
        0xf7f7_596a,
        0xc773_37bd,
        0x09fb_e160,
        0x0000_0000,
    ];

    #[test]
    fn a_request_is_what_vcmailbox_sends() {
        let mut rows = vec![0, 8];
        rows.resize(10, 0);
        let sent = request(PRIVATE_KEY, &rows);
        assert_eq!(sent.len(), DOCUMENTED.len());
        assert_eq!(sent[..7], [64, 0, PRIVATE_KEY, 40, 0, 0, 8]);
        assert_eq!(
            request(BOARD_SERIAL, &[0, 0]),
            [32, 0, BOARD_SERIAL, 8, 0, 0, 0, 0]
        );
    }

    #[test]
    fn the_documented_answer_is_understood() {
        let value = answer(&DOCUMENTED, PRIVATE_KEY, 10).unwrap();
        assert_eq!(
            (value[0], value[1], value[2], value[9]),
            (0, 8, 0xf8db_c7b0, 0x09fb_e160)
        );
    }

    #[test]
    fn a_tag_left_as_it_was_is_not_supported() {
        let mut buffer = request(SET_REBOOT_ORDER, &[0xf2]);
        buffer[1] = SUCCESS;
        assert_eq!(
            answer(&buffer, SET_REBOOT_ORDER, 1),
            Err(MailboxError::Unknown(SET_REBOOT_ORDER))
        );
        buffer[4] = ANSWERED | 4;
        assert_eq!(answer(&buffer, SET_REBOOT_ORDER, 1), Ok(&[0xf2][..]));
    }

    #[test]
    fn an_error_code_is_no_answer() {
        for code in [0, 0x8000_0001, 7] {
            let mut buffer = DOCUMENTED;
            buffer[1] = code;
            assert_eq!(answer(&buffer, PRIVATE_KEY, 10), Err(MailboxError::Refused(code)));
        }
    }

    #[test]
    fn a_longer_answer_than_there_is_room_is_cut_and_a_shorter_one_is_not_enough() {
        let mut buffer = DOCUMENTED;
        buffer[4] = 0x8000_0040;
        assert_eq!(answer(&buffer, PRIVATE_KEY, 10).unwrap().len(), 10);
        buffer[4] = 0x8000_0008;
        assert_eq!(answer(&buffer, PRIVATE_KEY, 2).unwrap(), [0, 8]);
        assert!(matches!(
            answer(&buffer, PRIVATE_KEY, 10),
            Err(MailboxError::Malformed { .. })
        ));
    }

    #[test]
    fn answers_that_lie_are_refused() {
        let lies: [(usize, u32); 6] = [(0, 0), (0, 68), (2, 0), (3, 41), (3, 44), (3, u32::MAX)];
        for (word, value) in lies {
            let mut buffer = DOCUMENTED;
            buffer[word] = value;
            assert!(
                matches!(
                    answer(&buffer, PRIVATE_KEY, 1),
                    Err(MailboxError::Malformed { .. })
                ),
                "word {word} = {value}"
            );
        }
        for length in 0..5 {
            assert!(answer(&DOCUMENTED[..length], PRIVATE_KEY, 0).is_err(), "{length}");
        }
    }
}
