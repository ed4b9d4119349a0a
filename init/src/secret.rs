//! Bytes that open something: kept in one place, wiped when they are no longer needed.

use std::io;

/// Longest passphrase taken; the buffer is made once, so that no copy stays behind when it would have to grow.
pub const LONGEST: usize = 1024;
/// Longest key file taken, which is cryptsetup's own limit (cryptsetup --help, "maximum keyfile size").
pub const LONGEST_KEY: usize = 8 << 20;

/// Bytes that are wiped when they are no longer needed.
pub struct Secret {
    bytes: Vec<u8>,
}

impl Secret {
    /// None yet.
    pub fn new() -> Secret {
        Secret {
            bytes: Vec::with_capacity(LONGEST),
        }
    }

    /// Takes bytes that are a secret already.
    pub fn of(bytes: Vec<u8>) -> Secret {
        Secret { bytes }
    }

    /// Reads all of `source`, without the line end that `echo` and editors put there.
    ///
    /// # Errors
    /// As the kernel says, and when there is more than can be a passphrase.
    pub fn read_from(source: impl io::Read) -> io::Result<Secret> {
        let mut secret = Secret::read_at_most(LONGEST, source)?;
        if secret.bytes.last() == Some(&b'\n') {
            secret.bytes.pop();
        }
        Ok(secret)
    }

    /// Reads all of `source` as it is.
    ///
    /// # Errors
    /// As the kernel says, and when there are more than `most` bytes.
    pub fn read_at_most(most: usize, mut source: impl io::Read) -> io::Result<Secret> {
        let mut secret = Secret {
            bytes: vec![0; most + 1],
        };
        let mut length = 0;
        loop {
            match source.read(secret.bytes.get_mut(length..).unwrap_or_default()) {
                Ok(0) => break,
                Ok(count) => length += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if length > most {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("more than {most} bytes"),
            ));
        }
        secret.bytes.truncate(length);
        Ok(secret)
    }

    /// The bytes themselves.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Puts a byte behind the others, as long as there is room.
    pub fn push(&mut self, byte: u8) {
        if self.bytes.len() < LONGEST {
            self.bytes.push(byte);
        }
    }

    /// Takes back the last character, which may be several bytes.
    pub fn pop(&mut self) {
        while let Some(byte) = self.bytes.pop() {
            if byte & 0xC0 != 0x80 {
                break;
            }
        }
    }

    /// Back to none.
    pub fn wipe(&mut self) {
        wipe(&mut self.bytes);
        self.bytes.clear();
    }
}

impl Default for Secret {
    fn default() -> Secret {
        Secret::new()
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.wipe();
    }
}

/// Overwrites with zeros.
pub fn wipe(bytes: &mut [u8]) {
    bytes.fill(0);
    // Keeps the optimizer from taking the line above for useless.
    std::hint::black_box(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_is_taken_back_whole() {
        let mut secret = Secret::new();
        "aé€".bytes().for_each(|byte| secret.push(byte));
        secret.pop();
        assert_eq!(secret.bytes(), "aé".as_bytes());
        secret.pop();
        secret.pop();
        secret.pop();
        assert_eq!(secret.bytes(), b"");
    }

    #[test]
    fn one_line_end_is_not_part_of_a_passphrase_and_blanks_are() {
        let read = |text: &str| Secret::read_from(text.as_bytes()).unwrap().bytes().to_vec();
        assert_eq!(read(" a b \n"), b" a b ");
        assert_eq!(read("a\n\n"), b"a\n");
        assert_eq!(read(""), b"");
        assert!(Secret::read_from(vec![b'x'; LONGEST + 1].as_slice()).is_err());
        let longest = Secret::read_from(vec![b'x'; LONGEST].as_slice()).unwrap();
        assert_eq!(longest.bytes().len(), LONGEST);
    }

    #[test]
    fn a_key_file_is_taken_with_its_line_end() {
        let key = Secret::read_at_most(8, b"key\n".as_slice()).unwrap();
        assert_eq!(key.bytes(), b"key\n");
        assert!(Secret::read_at_most(3, b"key\n".as_slice()).is_err());
    }
}
