//! How an installed system calls itself: os-release(5).
//!
//! The file comes from a disk that may be damaged or somebody else's, and its text goes to a terminal: what could steer one is taken out.

/// Longest name shown.
const LONGEST: usize = 100;

/// What is taken from it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OsRelease {
    /// `Debian GNU/Linux 13 (trixie)`
    pub name: Option<String>,
    /// `debian`
    pub id: Option<String>,
    /// `13`
    pub version: Option<String>,
}

/// Reads it; what is not understood is left out.
pub fn parse(text: &[u8]) -> OsRelease {
    let text = String::from_utf8_lossy(text);
    let mut found = OsRelease::default();
    let mut short = None;
    for line in text.lines() {
        let Some((key, value)) = line.trim().split_once('=') else {
            continue;
        };
        let value = Some(tame(&unquote(value))).filter(|value| !value.is_empty());
        match key {
            "PRETTY_NAME" => found.name = value,
            "NAME" => short = value,
            "ID" => found.id = value,
            "VERSION_ID" => found.version = value,
            _ => {}
        }
    }
    if found.name.is_none() {
        let words = [short, found.version.clone()];
        let words: Vec<String> = words.into_iter().flatten().collect();
        found.name = Some(words.join(" ")).filter(|name| !name.is_empty());
    }
    found
}

/// A value as the shell would take it.
fn unquote(value: &str) -> String {
    let value = value.trim();
    let quoted = |quote: char| {
        let inner = value.strip_prefix(quote)?;
        Some(inner.strip_suffix(quote).unwrap_or(inner))
    };
    if let Some(inner) = quoted('\'') {
        return inner.to_owned();
    }
    let inner = quoted('"').unwrap_or(value);
    let mut text = String::with_capacity(inner.len());
    let mut characters = inner.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => text.extend(characters.next()),
            other => text.push(other),
        }
    }
    text
}

/// Text of a stranger, fit for a terminal: nothing that steers it, no longer than [`LONGEST`] characters.
pub fn tame(text: &str) -> String {
    let fit = |character: char| match character {
        // Marks that change the direction of what follows deceive as well as control characters do.
        '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' => '?',
        character if character.is_control() => '?',
        character => character,
    };
    text.chars().take(LONGEST).map(fit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_with_and_without_quotes() {
        let debian = parse(
            b"PRETTY_NAME=\"Debian GNU/Linux 13 (trixie)\"\nNAME=\"Debian GNU/Linux\"\nVERSION_ID=\"13\"\n# x\nID=debian\n",
        );
        assert_eq!(debian.name.as_deref(), Some("Debian GNU/Linux 13 (trixie)"));
        assert_eq!(debian.id.as_deref(), Some("debian"));
        assert_eq!(debian.version.as_deref(), Some("13"));
        assert_eq!(parse(b"PRETTY_NAME='A \"B\"'").name.as_deref(), Some("A \"B\""));
        assert_eq!(
            parse(b"PRETTY_NAME=\"a \\\"b\\\" \\$c\"").name.as_deref(),
            Some("a \"b\" $c")
        );
    }

    #[test]
    fn without_a_pretty_name_name_and_version_do() {
        assert_eq!(parse(b"NAME=Void\n").name.as_deref(), Some("Void"));
        assert_eq!(
            parse(b"NAME=Alpine\nVERSION_ID=3.22\n").name.as_deref(),
            Some("Alpine 3.22")
        );
        assert_eq!(parse(b"").name, None);
    }

    #[test]
    fn hostile_text_neither_steers_a_terminal_nor_fills_it() {
        let evil = parse(b"PRETTY_NAME=\"\x1b]0;x\x07\x1b[2J\\\x1b[31mred\"\nID=\"\n");
        assert!(!evil.name.unwrap().contains(char::is_control));
        assert_eq!(evil.id, None);
        let long = [b"NAME=".as_slice(), &[b'a'; 100_000]].concat();
        assert_eq!(parse(&long).name.unwrap().len(), LONGEST);
        assert_eq!(tame("a\u{202e}b"), "a?b");
        for text in [
            &b"="[..],
            b"=\"",
            b"PRETTY_NAME",
            b"PRETTY_NAME=\\",
            b"\xff\xff=\xff",
            b"ID='",
        ] {
            assert!(parse(text).name.is_none(), "{text:?}");
        }
    }
}
