//! The records of a FAT directory, long names put together.

/// A file or a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub name: String,
    pub directory: bool,
    /// Its first cluster.
    pub first: u32,
    pub size: u32,
    /// Seconds since 1970, of a clock that FAT takes for the local one.
    pub modified: i64,
}

const RECORD: usize = 32;
const LABEL: u8 = 0x08;
const DIRECTORY: u8 = 0x10;
const LONG: u8 = 0x0f;
const LAST_LONG: u8 = 0x40;
/// Where the thirteen letters of a long name's record are.
const LETTERS: [usize; 13] = [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30];

/// All of them but `.`, `..` and the label.
pub fn records(bytes: &[u8]) -> Vec<Record> {
    let mut found = Vec::new();
    let mut long = LongName::default();
    for record in bytes.chunks_exact(RECORD) {
        let byte = |at: usize| record.get(at).copied().unwrap_or(0);
        let half = |at| u16::from_le_bytes([byte(at), byte(at + 1)]);
        match (byte(0), byte(11)) {
            (0, _) => break,
            (0xe5, _) => long = LongName::default(),
            (_, attributes) if attributes & 0x3f == LONG => long.add(record),
            (_, attributes) if attributes & LABEL != 0 => long = LongName::default(),
            (_, attributes) => {
                let short = record.get(..11).unwrap_or_default();
                let name = std::mem::take(&mut long).finish(checksum(short));
                let name = name.unwrap_or_else(|| short_name(short, byte(12)));
                // A name with a slash is damage, or a trap.
                if name != "." && name != ".." && !name.contains(['/', '\0']) && !name.is_empty() {
                    found.push(Record {
                        name,
                        directory: attributes & DIRECTORY != 0,
                        first: u32::from(half(20)) << 16 | u32::from(half(26)),
                        size: u32::from_le_bytes([byte(28), byte(29), byte(30), byte(31)]),
                        modified: seconds(half(24), half(22)),
                    });
                }
            }
        }
    }
    found
}

/// A long name comes in pieces, the last first, before the record with the short one.
#[derive(Debug, Default)]
struct LongName {
    /// Pieces, in the order they come.
    pieces: Vec<Vec<u16>>,
    next: u8,
    checksum: u8,
}

impl LongName {
    fn add(&mut self, record: &[u8]) {
        let byte = |at: usize| record.get(at).copied().unwrap_or(0);
        let number = byte(0) & 0x1f;
        if byte(0) & LAST_LONG != 0 {
            *self = Self {
                pieces: Vec::new(),
                next: number,
                checksum: byte(13),
            };
        }
        if number == 0 || number != self.next || byte(13) != self.checksum {
            *self = Self::default();
            return;
        }
        self.next -= 1;
        let letters = LETTERS.map(|at| u16::from_le_bytes([byte(at), byte(at + 1)]));
        self.pieces.push(letters.to_vec());
    }

    /// `None` when it is not whole, or belongs to another short name.
    fn finish(self, short: u8) -> Option<String> {
        if self.pieces.is_empty() || self.next != 0 || self.checksum != short {
            return None;
        }
        let letters: Vec<u16> = self.pieces.into_iter().rev().flatten().collect();
        let length = letters
            .iter()
            .position(|letter| *letter == 0)
            .unwrap_or(letters.len());
        Some(String::from_utf16_lossy(
            letters.get(..length).unwrap_or_default(),
        ))
    }
}

fn checksum(short: &[u8]) -> u8 {
    short
        .iter()
        .fold(0_u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte))
}

/// Bits 3 and 4 of `case` say that the name and the extension are meant in lower case.
fn short_name(short: &[u8], case: u8) -> String {
    let part = |bytes: &[u8], lower: bool| {
        let text: String = bytes
            .iter()
            .map(|byte| if byte.is_ascii() { char::from(*byte) } else { '_' })
            .collect();
        let text = text.trim_end();
        if lower {
            text.to_ascii_lowercase()
        } else {
            text.to_owned()
        }
    };
    let (name, extension) = short.split_at(short.len().min(8));
    let name = part(name, case & 0x08 != 0);
    match part(extension, case & 0x10 != 0) {
        extension if extension.is_empty() => name,
        extension => format!("{name}.{extension}"),
    }
}

/// A date since 1980 and a time in steps of two seconds.
fn seconds(date: u16, time: u16) -> i64 {
    let (year, month, day) = (
        1980 + i64::from(date >> 9),
        i64::from(date >> 5 & 15),
        i64::from(date & 31),
    );
    // Years that begin in March have the leap day at their end.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1 - 719_468;
    let (hours, minutes, steps) = (
        i64::from(time >> 11),
        i64::from(time >> 5 & 63),
        i64::from(time & 31),
    );
    days * 86_400 + hours * 3600 + minutes * 60 + steps * 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_counted_from_1970() {
        assert_eq!(seconds(0x21, 0), 315_532_800);
        // 29 February 2024, 23:59:58.
        assert_eq!(
            seconds(44 << 9 | 2 << 5 | 29, 23 << 11 | 59 << 5 | 29),
            1_709_251_198
        );
    }

    #[test]
    fn a_short_name_has_its_case_and_a_torn_long_name_does_not_count() {
        assert_eq!(short_name(b"KERNEL8 IMG", 0x18), "kernel8.img");
        assert_eq!(short_name(b"CONFIG  TXT", 0), "CONFIG.TXT");
        let mut bytes = vec![0; 96];
        bytes[0] = 0x42;
        bytes[11] = LONG;
        bytes[32..43].copy_from_slice(b"A       TXT");
        let found = records(&bytes);
        assert_eq!((found.len(), found[0].name.as_str()), (1, "A.TXT"));
    }
}
