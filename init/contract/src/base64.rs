//! Base64 (RFC 4648 section 4): without padding, as fingerprints and password hashes are written, and with it, as keys are.

const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The text of `bytes`.
pub(crate) fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word =
            chunk.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..=chunk.len() {
            let index = word >> (18 - 6 * place) & 0x3F;
            text.push(char::from(LETTERS[index as usize]));
        }
    }
    text
}

/// The bytes of `text`; `None` when it is no base64, has padding, or bits left over that say something.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    for chunk in text.as_bytes().chunks(4) {
        if chunk.len() == 1 {
            return None;
        }
        let mut word = 0u32;
        for place in 0..4 {
            let value = match chunk.get(place) {
                Some(letter) => LETTERS.iter().position(|known| known == letter)?,
                None => 0,
            };
            word = word << 6 | u32::try_from(value).ok()?;
        }
        let [_, decoded @ ..] = word.to_be_bytes();
        let (whole, rest) = decoded.split_at(chunk.len() - 1);
        if rest.iter().any(|byte| *byte != 0) {
            return None;
        }
        bytes.extend_from_slice(whole);
    }
    Some(bytes)
}

/// The bytes of `text`, which is padded to whole groups of four.
pub(crate) fn decode_padded(text: &str) -> Option<Vec<u8>> {
    let bare = text.trim_end_matches('=');
    let padded = text.len().is_multiple_of(4) && text.len() - bare.len() <= 2;
    decode(bare).filter(|_| padded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_rfc_4648_read_and_write() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg"),
            ("fo", "Zm8"),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg"),
            ("fooba", "Zm9vYmE"),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(encode(bytes.as_bytes()), text);
            assert_eq!(decode(text).unwrap(), bytes.as_bytes());
        }
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(decode(&encode(&all)).unwrap(), all);
    }

    #[test]
    fn what_is_no_base64_is_none() {
        for text in ["A", "Zg==", "Zh", "Zm9v!", "Zm 9v", "é", "AAAAA"] {
            assert_eq!(decode(text), None, "{text}");
        }
    }

    #[test]
    fn padding_is_as_long_as_it_must_be() {
        assert_eq!(decode_padded("Zm9vYg==").unwrap(), b"foob");
        assert_eq!(decode_padded("Zm9v").unwrap(), b"foo");
        for text in ["Zm9vYg", "Zm9vYg=", "Zm9v====", "Zm9=v", "===="] {
            assert_eq!(decode_padded(text), None, "{text}");
        }
    }
}
