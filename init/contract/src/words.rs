//! The kernel command line as words.
//!
//! Splitting follows `next_arg` of the kernel's `lib/cmdline.c`: blanks separate, double quotes keep blanks together, and
//! the quotes themselves are not part of the value. A bare ` -- ` ends what is meant for the kernel and for us; what
//! follows is the init's.

/// One `key` or `key=value` of a command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// What stands before the first `=`.
    pub key: String,
    /// What stands behind it; `None` for a bare word such as `quiet`.
    pub value: Option<String>,
}

impl Word {
    /// A word from its two halves.
    pub fn new(key: impl Into<String>, value: impl Into<String>) -> Self {
        Word {
            key: key.into(),
            value: Some(value.into()),
        }
    }

    /// The value, empty for a bare word.
    pub fn text(&self) -> &str {
        self.value.as_deref().unwrap_or_default()
    }
}

/// Splits a command line into the words before ` -- ` and the arguments behind it.
pub fn split(line: &str) -> (Vec<Word>, Vec<String>) {
    let mut raw = tokens(line).into_iter();
    let words = raw
        .by_ref()
        .take_while(|token| token != "--")
        .map(|token| word(&token))
        .collect();
    (words, raw.collect())
}

fn tokens(line: &str) -> Vec<String> {
    let mut out = Vec::new();
    let mut current = String::new();
    let mut quoted = false;
    let mut started = false;
    for c in line.chars() {
        match c {
            '"' => {
                quoted = !quoted;
                started = true;
            }
            c if c.is_ascii_whitespace() && !quoted => {
                if started {
                    out.push(std::mem::take(&mut current));
                    started = false;
                }
            }
            '\0' => {}
            c => {
                current.push(c);
                started = true;
            }
        }
    }
    if started {
        out.push(current);
    }
    out
}

fn word(token: &str) -> Word {
    match token.split_once('=') {
        Some((key, value)) => Word {
            key: key.to_owned(),
            value: Some(value.to_owned()),
        },
        None => Word {
            key: token.to_owned(),
            value: None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_keep_blanks_and_vanish() {
        let (words, _) = split("quiet lifeboot.ssh-key=\"ssh-ed25519 AAAA me@there\" root=UUID=1-2\n");
        assert_eq!(
            words[0],
            Word {
                key: "quiet".into(),
                value: None
            }
        );
        assert_eq!(words[1].text(), "ssh-ed25519 AAAA me@there");
        assert_eq!(words[2], Word::new("root", "UUID=1-2"));
    }

    #[test]
    fn what_follows_two_dashes_belongs_to_init() {
        let (words, args) = split("ro -- single \"two words\"");
        assert_eq!(words.len(), 1);
        assert_eq!(args, ["single", "two words"]);
    }

    #[test]
    fn odd_lines_do_not_panic() {
        for line in ["", "\"", "=", "a=\"", "\u{0}x", "  --  ", "é=ü \" \" "] {
            split(line);
        }
    }
}
