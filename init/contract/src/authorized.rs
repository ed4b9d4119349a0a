//! Lines of `authorized_keys` files, as the ssh server takes them and as the image builder checks them.
//!
//! The one thing a reader would get wrong: a line whose options are not carried out here is refused rather than honoured half, because
//! it would give more than its owner meant. No error repeats more of a line than the name of an option: somebody may have put a secret there.

mod address;
mod grant;
mod options;
mod public_key;

pub use address::Addresses;
pub use grant::{Grant, Place};
pub use options::Options;
pub use public_key::LEAST_RSA_BITS;

use crate::secret;
use public_key::PublicKey;

/// Whom the lines of a list let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum List {
    /// Everybody there is.
    Root,
    /// A user with one program, and nobody else.
    Role,
    /// Those whom the key certifies.
    Authorities,
}

/// A line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// What stands before the key; in a list of authorities every key is one.
    pub options: Options,
    /// The key as it is sent over the wire (RFC 4253, section 6.6), its own type in front.
    pub key: Vec<u8>,
}

/// A line that is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Its number in the text, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub what: String,
}

impl Line {
    /// Reads `[OPTIONS] TYPE BASE64 [COMMENT]`.
    ///
    /// # Errors
    /// What is wrong.
    pub fn parse(line: &str, list: List) -> Result<Line, String> {
        if let Some(secret) = secret::in_line(line) {
            return Err(format!("holds a private key, {secret}"));
        }
        if line.contains(|c: char| c.is_control() && c != '\t') {
            return Err("has control characters in it".to_owned());
        }
        let (words, rest) = split_options(line);
        if rest.is_empty() {
            return Err("is not TYPE BASE64, with or without options before it".to_owned());
        }
        let mut options = Options::parse(&words)?;
        options.authority |= list == List::Authorities;
        if options.principals.is_some() && !options.authority {
            return Err("option principals is for authorities".to_owned());
        }
        if list == List::Role && options.grant.command.is_some() {
            return Err("option command is for keys of root: this user has its one program".to_owned());
        }
        let mut words = rest.split_whitespace();
        let kind = words.next().unwrap_or_default();
        let key = words.next().ok_or("has no key behind its type")?;
        let key = PublicKey::parse(kind, key)?.bytes;
        Ok(Line { options, key })
    }
}

/// The lines of a file that are neither blank nor comments, and those of them that are not taken.
pub fn read(text: &str, list: List) -> (Vec<String>, Vec<Refused>) {
    let (mut taken, mut refused) = (Vec::new(), Vec::new());
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match Line::parse(line, list) {
            Ok(_) => taken.push(line.to_owned()),
            Err(what) => refused.push(Refused {
                line: index + 1,
                what,
            }),
        }
    }
    (taken, refused)
}

/// The options before the key type, if any, and the rest. Commas and blanks inside double quotes belong to a value.
fn split_options(line: &str) -> (Vec<&str>, &str) {
    let first = line.split_whitespace().next().unwrap_or_default();
    if first.starts_with("ssh-") || first.starts_with("ecdsa-") || first.starts_with("sk-") {
        return (Vec::new(), line);
    }
    let mut options = Vec::new();
    let mut quoted = false;
    let mut escaped = false;
    let mut start = 0;
    for (at, letter) in line.char_indices() {
        match letter {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ',' if !quoted => {
                options.push(&line[start..at]);
                start = at + 1;
            }
            ' ' | '\t' if !quoted => {
                options.push(&line[start..at]);
                return (options, line[at..].trim_start());
            }
            _ => {}
        }
    }
    (vec![line], "")
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";

    #[test]
    fn a_line_has_a_key_and_options_or_none() {
        let plain = Line::parse(KEY, List::Root).unwrap();
        assert_eq!((plain.key.len(), &plain.options), (51, &Options::default()));
        let line = format!("command=\"echo a, b\",no-pty {KEY} me@there, é");
        let line = Line::parse(&line, List::Root).unwrap();
        assert_eq!(line.key, plain.key);
        let grant = line.options.grant;
        assert_eq!(
            (grant.command.as_deref(), grant.terminal),
            (Some("echo a, b"), false)
        );
    }

    #[test]
    fn what_an_option_may_do_depends_on_the_list() {
        for (options, [root, role, authorities]) in [
            ("no-pty", [true, true, true]),
            ("command=\"a\"", [true, false, true]),
            ("principals=\"a\"", [false, false, true]),
            ("cert-authority,principals=\"a\"", [true, true, true]),
            ("environment=\"a=b\"", [false, false, false]),
        ] {
            let line = format!("{options} {KEY}");
            let taken = |list| Line::parse(&line, list).is_ok();
            assert_eq!(
                [List::Root, List::Role, List::Authorities].map(taken),
                [root, role, authorities],
                "{options}"
            );
        }
        let authority = |list| Line::parse(KEY, list).unwrap().options.authority;
        assert!(authority(List::Authorities) && !authority(List::Root));
    }

    #[test]
    fn what_is_no_line_is_named_by_its_number_and_never_repeated() {
        let secret = "b3BlbnNzaC1rZXktdjEAAAAABG5vbmU";
        let text = format!(
            "# mine\n\n{KEY} me\r\nssh-ed25519 AAAA\nnonsense\nssh-ed25519\ncommand=\"a\n{secret}\n{secret} b\n\u{feff}{KEY}\na\u{0}b c d\n"
        );
        let (taken, refused) = read(&text, List::Root);
        assert_eq!(taken, [format!("{KEY} me")]);
        let lines: Vec<usize> = refused.iter().map(|refused| refused.line).collect();
        assert_eq!(lines, [4, 5, 6, 7, 8, 9, 10, 11]);
        assert!(refused.iter().all(|refused| !refused.what.contains(secret)));
        assert_eq!(refused[4].what, "holds a private key, one of OpenSSH");
    }
}
