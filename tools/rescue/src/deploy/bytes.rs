//! A number of bytes as people type it.

/// `314572800`, `300M`: K, M, G and T are powers of 1024, as for dd and truncate.
///
/// # Errors
/// It is no number, or more than 64 bits hold.
pub fn parse(text: &str) -> Result<u64, String> {
    let (digits, factor) = match text.char_indices().next_back() {
        Some((at, 'K' | 'k')) => (&text[..at], 1 << 10),
        Some((at, 'M')) => (&text[..at], 1 << 20),
        Some((at, 'G')) => (&text[..at], 1 << 30),
        Some((at, 'T')) => (&text[..at], 1 << 40),
        _ => (text, 1),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("a number of bytes is wanted, or one with K, M, G or T behind it".to_owned());
    }
    let number: Option<u64> = digits.parse().ok();
    number
        .and_then(|number| number.checked_mul(factor))
        .ok_or_else(|| "so many bytes are on no disk".to_owned())
}

#[cfg(test)]
mod tests {
    use super::parse;
    use crate::deploy::Deploy;
    use argh::FromArgs as _;

    #[test]
    fn a_letter_behind_the_number_is_a_power_of_1024() {
        for (text, bytes) in [
            ("0", 0),
            ("314572800", 314_572_800),
            ("4k", 4096),
            ("300K", 300 << 10),
            ("300M", 300 << 20),
            ("8G", 8 << 30),
            ("2T", 2 << 40),
            ("18446744073709551615", u64::MAX),
            ("16777215T", 16_777_215 << 40),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
        for text in [
            "",
            "M",
            "-1",
            "+1",
            "1.5G",
            "300 M",
            "300MB",
            "300m",
            "1Gi",
            "0x10",
            "3é",
            "16777216T",
            "18446744073709551616",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused_by_the_name_of_the_option_and_by_the_value() {
        let typed = |size| Deploy::from_args(&["deploy"], &["--size", size, "a.img", "/dev/vda"]);
        assert_eq!(typed("300M").unwrap().size, Some(300 << 20));
        let said = typed("300MB").unwrap_err().output;
        assert!(said.contains("--size") && said.contains("300MB"), "{said}");
    }
}
