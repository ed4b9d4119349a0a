//! Whether a file is a host key that the ssh server takes: OpenSSH's own format (its PROTOCOL.key), Ed25519, no passphrase.
//!
//! The server reads the key by itself; this is for whoever puts one on a key partition, and keeps nothing of what it reads.

use crate::base64;
use crate::wire::Wire;

const BEGIN: &str = "-----BEGIN OPENSSH PRIVATE KEY-----";
const END: &str = "-----END OPENSSH PRIVATE KEY-----";
const MAGIC: &[u8] = b"openssh-key-v1\0";
const KIND: &[u8] = b"ssh-ed25519";

/// Checks the text of [`super::HOST_KEY`].
///
/// # Errors
/// What is wrong with it; nothing of it is repeated but the name of its type.
pub fn check_host_key(text: &str) -> Result<(), String> {
    let no_key = || "is not a private key in OpenSSH's format".to_owned();
    let mut lines: Vec<&str> = text.trim_end().lines().collect();
    if lines.first() != Some(&BEGIN) || lines.pop() != Some(END) {
        return Err(no_key());
    }
    let lines = lines.get(1..).unwrap_or_default();
    let [all @ .., _] = lines else {
        return Err(no_key());
    };
    let damaged = || "is damaged: its base64 is not whole".to_owned();
    if all.windows(2).any(|two| two[0].len() != two[1].len()) {
        return Err(damaged());
    }
    let bytes = base64::decode_padded(&lines.concat()).ok_or_else(damaged)?;
    let mut outer = Wire(bytes.strip_prefix(MAGIC).ok_or_else(no_key)?);
    let cut = || "is damaged or cut off".to_owned();
    let cipher = outer.string().ok_or_else(cut)?;
    let kdf = outer.string().ok_or_else(cut)?;
    outer.string().ok_or_else(cut)?;
    if outer.number() != Some(1) {
        return Err(cut());
    }
    let public = outer.string().ok_or_else(cut)?;
    let kind = Wire(public).string().ok_or_else(cut)?;
    if kind != KIND {
        let kind = String::from_utf8_lossy(kind);
        return Err(format!("is a key of type {kind}, not ssh-ed25519"));
    }
    if cipher != b"none" || kdf != b"none" {
        return Err("is encrypted with a passphrase, which nobody gives a server".to_owned());
    }
    let private = outer.string().ok_or_else(cut)?;
    if !outer.0.is_empty() || !is_whole(private, public) {
        return Err(cut());
    }
    Ok(())
}

/// Both halves of the same key, a comment, and padding that counts from 1.
fn is_whole(private: &[u8], public: &[u8]) -> bool {
    let mut inner = Wire(private);
    let mut read = || -> Option<bool> {
        let checked = inner.number()? == inner.number()?;
        let kind = inner.string()?;
        let own = inner.string()?;
        let pair = inner.string()?;
        str::from_utf8(inner.string()?).ok()?;
        let mut shown = Wire(public);
        let same = shown.string()? == kind && shown.string()? == own && shown.0.is_empty();
        Some(checked && same && own.len() == 32 && pair.len() == 64 && pair.ends_with(own))
    };
    let padded = |rest: &[u8]| rest.len() < 8 && rest.iter().zip(1u8..).all(|(byte, number)| *byte == number);
    read() == Some(true) && padded(inner.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn string(bytes: &[u8]) -> Vec<u8> {
        let mut made = (bytes.len() as u32).to_be_bytes().to_vec();
        made.extend(bytes);
        made
    }

    /// A key file of these parts: cipher, type, the public half, the other one's end, padding.
    fn key(cipher: &[u8], kind: &[u8], own: &[u8], end: &[u8], padding: &[u8]) -> String {
        let public = [string(kind), string(own)].concat();
        let pair = [&[9; 32], end].concat();
        let private = [
            vec![1, 2, 3, 4, 1, 2, 3, 4],
            public.clone(),
            string(&pair),
            string(b"me"),
            padding.to_vec(),
        ];
        let all = [
            MAGIC.to_vec(),
            string(cipher),
            string(cipher),
            string(b""),
            vec![0, 0, 0, 1],
            string(&public),
            string(&private.concat()),
        ];
        let mut text = base64::encode(&all.concat());
        text.extend(std::iter::repeat_n('=', (4 - text.len() % 4) % 4));
        let lines: Vec<&str> = text
            .as_bytes()
            .chunks(70)
            .map(|line| str::from_utf8(line).unwrap())
            .collect();
        format!("{BEGIN}\n{}\n{END}\n", lines.join("\n"))
    }

    #[test]
    fn a_whole_key_is_taken_whatever_its_line_ends() {
        let good = key(b"none", KIND, &[7; 32], &[7; 32], &[1, 2, 3]);
        assert_eq!(check_host_key(&good), Ok(()));
        assert_eq!(check_host_key(&good.replace('\n', "\r\n")), Ok(()));
    }

    #[test]
    fn what_the_server_would_not_take_is_refused_with_the_reason() {
        let good = key(b"none", KIND, &[7; 32], &[7; 32], &[]);
        let torn: Vec<&str> = good
            .lines()
            .enumerate()
            .filter(|(at, _)| *at != 2)
            .map(|(_, line)| line)
            .collect();
        for (text, why) in [
            (String::new(), "not a private key"),
            (format!("{BEGIN}\n{END}\n"), "not a private key"),
            (format!("{BEGIN}\nnonsense\n{END}\n"), "not a private key"),
            (format!("{BEGIN}\nnonsens\n{END}\n"), "its base64"),
            (good.replace(END, ""), "not a private key"),
            (torn.join("\n"), "damaged"),
            (
                key(b"aes256-ctr", KIND, &[7; 32], &[7; 32], &[]),
                "encrypted with a passphrase",
            ),
            (
                key(b"none", b"ssh-rsa", &[7; 32], &[7; 32], &[]),
                "of type ssh-rsa, not",
            ),
            (key(b"none", KIND, &[7; 31], &[7; 32], &[]), "damaged or cut off"),
            (key(b"none", KIND, &[7; 32], &[8; 32], &[]), "damaged or cut off"),
            (key(b"none", KIND, &[7; 32], &[7; 32], &[2]), "damaged or cut off"),
        ] {
            let error = check_host_key(&text).unwrap_err();
            assert!(error.contains(why), "{why}: {error}");
        }
    }
}
