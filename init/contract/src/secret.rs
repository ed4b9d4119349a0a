//! Secrets in texts that are meant to be public: an image is served to everybody.
//!
//! A net under what parses the texts: it finds the secrets that people mix up with their public halves, wherever in a text they stand,
//! comments included. The one thing a reader would get wrong: what it does not find may still be a secret.

use crate::base64;

/// The first secret in a text: the number of its line, from 1, and what kind it is.
pub fn find(text: &str) -> Option<(usize, &'static str)> {
    text.lines()
        .enumerate()
        .find_map(|(index, line)| Some((index + 1, in_line(line)?)))
}

/// What kind of private key a line has in it, as in "holds a private key, one of minisign".
pub fn in_line(line: &str) -> Option<&'static str> {
    if line.contains("PRIVATE KEY") {
        return Some("one in PEM");
    }
    if line.contains("PuTTY-User-Key-File") || line.starts_with("Private-Lines:") {
        return Some("one of PuTTY");
    }
    if line.contains("comment:") && line.contains("secret key") {
        return Some("one of minisign");
    }
    line.split(|letter: char| !(letter.is_ascii_alphanumeric() || "+/=".contains(letter)))
        .find_map(in_base64)
}

fn in_base64(word: &str) -> Option<&'static str> {
    // Such a key is broken into lines; the first begins with the name of the format.
    if word.starts_with("b3BlbnNzaC1rZXktdjE") {
        return Some("one of OpenSSH");
    }
    // Two letters that name the algorithm; a public key has 42 bytes.
    let is_minisign = word.len() == 212
        && base64::decode_padded(word).is_some_and(|bytes| bytes.len() == 158 && bytes.starts_with(b"Ed"));
    is_minisign.then_some("one of minisign")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_found_wherever_they_stand() {
        let mut minisign = b"Ed\0\0B2".to_vec();
        minisign.resize(158, 7);
        let minisign = base64::encode(&minisign) + "=";
        for (text, found) in [
            ("-----BEGIN OPENSSH PRIVATE KEY-----".to_owned(), "one in PEM"),
            ("a = \"-----BEGIN RSA PRIVATE KEY-----".to_owned(), "one in PEM"),
            ("PuTTY-User-Key-File-3: ssh-ed25519".to_owned(), "one of PuTTY"),
            (
                "untrusted comment: minisign encrypted secret key".to_owned(),
                "one of minisign",
            ),
            (minisign.clone(), "one of minisign"),
            (format!("# key=\"{minisign}\""), "one of minisign"),
            (
                "key = 'b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQ'".to_owned(),
                "one of OpenSSH",
            ),
        ] {
            assert_eq!(
                find(&format!("one\ntwo\r\n{text}\r\n")),
                Some((3, found)),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_public_is_no_secret() {
        for text in [
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ my secret key",
            "untrusted comment: minisign public key 1\nRWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3",
            &"A".repeat(212),
            "",
        ] {
            assert_eq!(find(text), None, "{text}");
        }
    }
}
