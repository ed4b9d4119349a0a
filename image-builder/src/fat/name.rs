//! Names in a FAT directory: the short one of eight and three capitals every reader knows, and the long one beside it.

use anyhow::{Result, bail};

/// UTF-16 units in one entry of a long name.
const UNITS: usize = 13;

/// A short name as it stands in a directory: eight and three characters, filled up with blanks.
pub type Short = [u8; 11];

/// Refuses what no reader would find.
pub fn check(name: &str) -> Result<()> {
    let forbidden = |letter: char| letter.is_control() || "\"*/:<>?\\|".contains(letter);
    if name.is_empty() || name.encode_utf16().count() > 255 {
        bail!("'{name}': a FAT name has 1 to 255 characters");
    }
    if name.chars().any(forbidden) || name.ends_with(['.', ' ']) || name.starts_with(' ') {
        bail!("'{name}': not a name that FAT can hold");
    }
    Ok(())
}

/// The short name: the name itself in capitals where that is possible, else a piece of it and a number.
pub fn short(name: &str, taken: impl Fn(&Short) -> bool) -> Short {
    let (base, extension) = match name.trim_start_matches('.').rsplit_once('.') {
        Some((base, extension)) => (base, extension),
        None => (name.trim_start_matches('.'), ""),
    };
    let (base_letters, base_whole) = letters(base, 8);
    let (extension, extension_whole) = letters(extension, 3);
    if base_whole && extension_whole && !name.starts_with('.') {
        let plain = filled(&base_letters, &extension);
        if !taken(&plain) {
            return plain;
        }
    }
    let numbered = (1_u32..).map(|number| {
        let tail = format!("~{number}");
        let kept = base_letters
            .get(..8_usize.saturating_sub(tail.len()).min(base_letters.len()))
            .unwrap_or_default();
        filled(&[kept, tail.as_bytes()].concat(), &extension)
    });
    // A directory of FAT has no room for as many names as there are numbers.
    numbered
        .into_iter()
        .find(|short| !taken(short))
        .unwrap_or([b'_'; 11])
}

/// The first letters of a part as a short name may have them, and whether nothing but their case was changed.
fn letters(part: &str, room: usize) -> (Vec<u8>, bool) {
    let mut whole = part.len() <= room;
    let mut letters = Vec::new();
    for letter in part.chars() {
        match letter {
            '.' | ' ' => whole = false,
            _ if letter.is_ascii_alphanumeric() || "!#$%&'()-@^_`{}~".contains(letter) => {
                letters.push(letter.to_ascii_uppercase() as u8);
            }
            _ => {
                whole = false;
                letters.push(b'_');
            }
        }
    }
    letters.truncate(room);
    (letters, whole)
}

fn filled(base: &[u8], extension: &[u8]) -> Short {
    let mut short = [b' '; 11];
    for (place, letter) in short.iter_mut().zip(base.iter().take(8)) {
        *place = *letter;
    }
    for (place, letter) in short.iter_mut().skip(8).zip(extension) {
        *place = *letter;
    }
    short
}

/// The entries of the long name, in the order they stand in the directory; none where the short name says it all.
pub fn long(name: &str, short: &Short) -> Vec<[u8; 32]> {
    if plain(short) == name {
        return Vec::new();
    }
    let mut units: Vec<u16> = name.encode_utf16().collect();
    if !units.len().is_multiple_of(UNITS) {
        units.push(0);
        units.resize(units.len().next_multiple_of(UNITS), 0xffff);
    }
    let checksum = checksum(short);
    let count = units.len() / UNITS;
    let entries = units.chunks(UNITS).enumerate().map(|(index, units)| {
        let last = if index + 1 == count { 0x40 } else { 0 };
        entry(u8::try_from(index + 1).unwrap_or(u8::MAX) | last, units, checksum)
    });
    let mut entries: Vec<[u8; 32]> = entries.collect();
    entries.reverse();
    entries
}

/// How many directory entries a name takes, its own included.
pub fn entries(name: &str, short: &Short) -> usize {
    long(name, short).len() + 1
}

fn entry(number: u8, units: &[u16], checksum: u8) -> [u8; 32] {
    let mut entry = [0; 32];
    // Between the letters: the mark of a long name, a zero, the checksum, and a cluster number that is always 0.
    let places = (1..11)
        .step_by(2)
        .chain((14..26).step_by(2))
        .chain((28..32).step_by(2));
    for (at, unit) in places.zip(units) {
        let bytes = unit.to_le_bytes();
        for (place, byte) in entry.iter_mut().skip(at).zip(bytes) {
            *place = byte;
        }
    }
    for (at, byte) in [(0, number), (11, 0x0f), (13, checksum)] {
        if let Some(place) = entry.get_mut(at) {
            *place = byte;
        }
    }
    entry
}

/// Ties a long name to the short one behind it.
fn checksum(short: &Short) -> u8 {
    short
        .iter()
        .fold(0_u8, |sum, letter| sum.rotate_right(1).wrapping_add(*letter))
}

/// `NAME.EXT`
fn plain(short: &Short) -> String {
    let part = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    let (base, extension) = short.split_at(8);
    match part(extension) {
        none if none.is_empty() => part(base),
        extension => format!("{}.{extension}", part(base)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(name: &str, taken: &[&str]) -> String {
        plain(&short(name, |short| taken.contains(&plain(short).as_str())))
    }

    #[test]
    fn a_name_that_fits_is_kept_in_capitals() {
        assert_eq!(shown("config.txt", &[]), "CONFIG.TXT");
        assert_eq!(shown("start4.elf", &[]), "START4.ELF");
        assert_eq!(shown("README", &[]), "README");
    }

    #[test]
    fn a_name_that_does_not_fit_gets_a_number_of_its_own() {
        assert_eq!(shown("bcm2712-rpi-5-b.dtb", &[]), "BCM271~1.DTB");
        assert_eq!(shown("bcm2712-d-rpi-5-b.dtb", &["BCM271~1.DTB"]), "BCM271~2.DTB");
        assert_eq!(shown("initramfs.cpio.zst", &[]), "INITRA~1.ZST");
        assert_eq!(shown("a+b.c", &[]), "A_B~1.C");
        assert_eq!(shown(".hidden", &[]), "HIDDEN~1");
        assert_eq!(shown("x.dtbo", &[]), "X~1.DTB");
        let many: Vec<String> = (1..10).map(|number| format!("LONGNA~{number}.TXT")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(shown("longname-11.txt", &many), "LONGN~10.TXT");
    }

    #[test]
    fn only_capitals_do_without_a_long_name() {
        let one = short("README", |_| false);
        assert_eq!(entries("README", &one), 1);
        let lower = short("readme", |_| false);
        assert_eq!((one, entries("readme", &lower)), (lower, 2));
        // Thirteen letters fill one entry, fourteen need another.
        for (name, wanted) in [("bcm2711-rpi-4", 2), ("bcm2711-rpi-40", 3)] {
            assert_eq!(entries(name, &short(name, |_| false)), wanted, "{name}");
        }
    }

    #[test]
    fn the_checksum_is_the_one_of_the_specification() {
        // The example of Microsoft's long file name specification.
        assert_eq!(checksum(b"THEQUI~1FOX"), 0x07);
    }

    #[test]
    fn names_no_reader_would_find_are_refused() {
        for name in ["", "a/b", "a:b", "ends.", "ends ", "new\nline", &"x".repeat(256)] {
            assert!(check(name).is_err(), "{name}");
        }
        check("bcm2712-rpi-5-b.dtb").unwrap();
    }
}
