//! The strings of the ssh protocol (RFC 4251, section 5): four bytes of length, then so many bytes.

/// What has not been read yet.
pub(crate) struct Wire<'a>(pub(crate) &'a [u8]);

impl<'a> Wire<'a> {
    /// The next string.
    pub(crate) fn string(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        let (string, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(string)
    }

    /// The next number of 32 bits.
    pub(crate) fn number(&mut self) -> Option<u32> {
        let (number, rest) = self.0.split_first_chunk::<4>()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_as_long_as_they_say_or_none() {
        let mut wire = Wire(b"\0\0\0\x02ab\0\0\0\0\0\0\0\x03ab");
        assert_eq!(wire.string(), Some(&b"ab"[..]));
        assert_eq!(wire.string(), Some(&b""[..]));
        assert_eq!(wire.string(), None);
        assert_eq!(Wire(b"\xff\xff\xff\xff").string(), None);
        assert_eq!(Wire(b"\0\0\0").number(), None);
    }
}
