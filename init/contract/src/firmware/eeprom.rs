//! The bootloader's configuration, as text: `KEY=VALUE` lines in sections such as `[all]` and `[gpio8=0]`.
//!
//! Source: Raspberry Pi's documentation of the bootloader configuration. Which conditional section applies only the bootloader knows, so
//! a value from one is told as what it is.

/// The last value of a key in a section that always applies.
pub fn value<'t>(config: &'t str, key: &str) -> Option<&'t str> {
    lines(config)
        .filter(|(section, name, _)| section.is_none() && *name == key)
        .map(|(_, _, value)| value)
        .filter(|value| !value.is_empty())
        .last()
}

/// Conditional sections that have a value for the key, with that value.
pub fn conditional<'t>(config: &'t str, key: &str) -> Vec<(&'t str, &'t str)> {
    lines(config)
        .filter(|(_, name, _)| *name == key)
        .filter_map(|(section, _, value)| Some((section?, value)))
        .collect()
}

/// Each assignment with the condition it stands under.
fn lines(config: &str) -> impl Iterator<Item = (Option<&str>, &str, &str)> {
    let mut section = None;
    config.lines().filter_map(move |line| {
        let line = line.trim().trim_matches('\0');
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = Some(name).filter(|name| !name.eq_ignore_ascii_case("all"));
            return None;
        }
        let (key, value) = line.split_once('=').filter(|_| !line.starts_with('#'))?;
        Some((section, key.trim(), value.trim()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "[all]\nBOOT_UART=1\nBOOT_ORDER=0xf41\n#BOOT_ORDER=0x1\n\n[gpio8=0]\nBOOT_ORDER=0xf7\n[ALL]\n TFTP_IP = 10.0.0.1\nBOOT_ORDER=0xf461\n\0\0";

    #[test]
    fn the_last_value_that_always_applies_counts() {
        assert_eq!(value(CONFIG, "BOOT_ORDER"), Some("0xf461"));
        assert_eq!(value(CONFIG, "TFTP_IP"), Some("10.0.0.1"));
        assert_eq!(value(CONFIG, "HTTP_HOST"), None);
        assert_eq!(conditional(CONFIG, "BOOT_ORDER"), [("gpio8=0", "0xf7")]);
    }

    #[test]
    fn odd_text_is_no_trouble() {
        for text in ["", "=", "[", "[]", "]\n[all", "\0\0\0", "a\nb=\n=c", "é=ü"] {
            assert_eq!(value(text, "BOOT_ORDER"), None, "{text:?}");
        }
    }
}
