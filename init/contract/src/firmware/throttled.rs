//! The bits that say whether the board got enough power and stayed cool enough.
//!
//! Source: Raspberry Pi's documentation of `vcgencmd get_throttled`. Bits 0 to 3 are about this moment, bits 16 to 19 say that it has
//! happened since the start.

/// Bit, and what it says about this moment.
const BITS: [(u32, &str); 4] = [
    (0, "under-voltage"),
    (1, "processor frequency capped"),
    (2, "throttled"),
    (3, "soft temperature limit"),
];

/// What the bits say, one sentence each; empty when all is well.
pub fn words(bits: u32) -> Vec<String> {
    let now = |(bit, what): &(u32, &str)| {
        let is = bits >> bit & 1 == 1;
        let was = bits >> (bit + 16) & 1 == 1;
        match (is, was) {
            (true, _) => Some(format!("{what} now")),
            (false, true) => Some(format!("{what} has happened since the start")),
            (false, false) => None,
        }
    };
    BITS.iter().filter_map(now).collect()
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn now_and_since_the_start_are_told_apart() {
        assert!(words(0).is_empty());
        assert_eq!(words(0x1_0001), ["under-voltage now"]);
        assert_eq!(
            words(0xa_0002),
            [
                "processor frequency capped now",
                "soft temperature limit has happened since the start"
            ]
        );
        assert!(
            words(0xfff0_fff0).is_empty(),
            "bits without a meaning say nothing"
        );
    }
}
