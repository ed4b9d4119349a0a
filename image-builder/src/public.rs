//! Files whose text goes into an image, which is public: read by the device's own parsers before anything is written.
//!
//! What is refused is told by file and line. The one thing a reader would get wrong: parsing alone is not enough, because comments pass
//! every parser; so each text is searched for secrets as well.

mod config;

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use lifeboot_contract::authorized::{self, List};
use lifeboot_contract::plan::Plan;
use lifeboot_contract::secret;
use minisign::PublicKey;

pub use config::Parameters;

/// A text without secrets.
pub fn text(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
    let text = utf8(bytes).with_context(|| path.display().to_string())?;
    without_secret(&text).with_context(|| path.display().to_string())?;
    Ok(text)
}

/// A file of which only what is recognized is taken over, whatever else it holds.
pub fn lossy(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    without_secret(&text).with_context(|| path.display().to_string())?;
    Ok(text)
}

/// Refuses words with a secret in them.
pub fn without_secret(text: &str) -> Result<()> {
    match secret::find(text) {
        Some((line, what)) => {
            bail!("line {line}: holds a private key, {what}, which never goes into an image")
        }
        None => Ok(()),
    }
}

/// Lines of `authorized_keys`, each of which the ssh server takes, and at least one.
pub fn login_keys(path: &Path, list: List) -> Result<String> {
    let (text, keys) = key_lines(path, list)?;
    ensure!(
        keys > 0,
        "{}: no key in it; an image without is built when the option is left out",
        path.display()
    );
    Ok(text)
}

/// Lines of `authorized_keys`, each of which the ssh server takes, and how many they are.
pub fn key_lines(path: &Path, list: List) -> Result<(String, usize)> {
    let text = text(path)?;
    let about = || path.display().to_string();
    let (taken, refused) = authorized::read(&text, list);
    if let [first, more @ ..] = refused.as_slice() {
        let more = match more.len() {
            0 => String::new(),
            count => format!("; and {count} more lines"),
        };
        bail!("{}: line {}: {}{more}", about(), first.line, first.what);
    }
    Ok((text, taken.len()))
}

/// A minisign public key: its comment, and one line.
pub fn trusted_key(path: &Path) -> Result<String> {
    let text = text(path)?;
    check_trusted_key(&text).with_context(|| path.display().to_string())?;
    Ok(text)
}

fn check_trusted_key(text: &str) -> Result<()> {
    let filled = |(_, line): &(usize, &str)| !line.trim().is_empty();
    let mut lines: Vec<_> = text.lines().enumerate().filter(filled).collect();
    let Some((index, key)) = lines.pop() else {
        bail!("empty, not a minisign public key");
    };
    if PublicKey::from_base64(key.trim()).is_err() {
        let hint = match key.split_whitespace().find(|word| word.starts_with("ssh-")) {
            Some(_) => "; ssh keys are for --authorized-keys",
            None => "",
        };
        bail!("line {}: not a minisign public key{hint}", index + 1);
    }
    let comment = |line: &str| line.starts_with("untrusted comment:");
    match lines.as_slice() {
        [] => Ok(()),
        [(_, line)] if comment(line) => Ok(()),
        [(first, line), rest @ ..] => {
            let odd = rest
                .first()
                .filter(|_| comment(line))
                .map_or(*first, |(odd, _)| *odd);
            bail!("line {}: neither a minisign public key nor its comment", odd + 1)
        }
    }
}

/// Boot parameters that the device takes, every one.
pub fn config(path: &Path) -> Result<String> {
    let parameters = Parameters::read(path)?;
    let plan = Plan::make("", &parameters.config, Default::default(), "");
    if let Some(note) = plan.notes.first() {
        parameters.refuse(path, note)?;
    }
    if let Some(refusal) = plan.refusal {
        bail!("{}: {refusal}", path.display());
    }
    Ok(parameters.text)
}

fn utf8(bytes: Vec<u8>) -> Result<String> {
    ensure!(
        !(bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff])),
        "is UTF-16; save it as UTF-8"
    );
    ensure!(
        !bytes.starts_with(b"\xef\xbb\xbf"),
        "begins with a byte order mark; save it without one"
    );
    let line = |at: usize| {
        let before = bytes.iter().take(at);
        1 + before.filter(|byte| **byte == b'\n').count()
    };
    if let Some(at) = bytes.iter().position(|byte| *byte == 0) {
        bail!(
            "line {}: a NUL byte, as UTF-16 has them; save it as UTF-8",
            line(at)
        );
    }
    match str::from_utf8(&bytes) {
        Err(error) => bail!("line {}: not UTF-8", line(error.valid_up_to())),
        Ok(text) => Ok(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINISIGN: &str = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";

    #[test]
    fn a_text_is_utf8_and_where_it_is_not_is_named() {
        assert!(utf8("a\né\n".into()).is_ok());
        for (bytes, why) in [
            (&b"\xff\xfes\0"[..], "is UTF-16"),
            (b"\xfe\xff\0s", "is UTF-16"),
            (b"s\0s\0h\0", "line 1: a NUL byte"),
            (b"\xef\xbb\xbfssh-", "byte order mark"),
            (b"a\nb\n\xfc\n", "line 3: not UTF-8"),
        ] {
            let error = utf8(bytes.to_vec()).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn a_minisign_public_key_stands_alone_or_under_its_comment() {
        for text in [
            format!("untrusted comment: ours\n{MINISIGN}\n"),
            format!("{MINISIGN}\r\n\r\n"),
        ] {
            check_trusted_key(&text).unwrap();
        }
        for (text, why) in [
            (String::new(), "empty"),
            (
                "ssh-ed25519 AAAA me\n".to_owned(),
                "line 1: not a minisign public key; ssh keys",
            ),
            (
                format!("untrusted comment: a\n{}\n", &MINISIGN[..55]),
                "line 2: not a minisign",
            ),
            (format!("something\n{MINISIGN}"), "line 1: neither"),
            (
                format!("untrusted comment: a\n\nsomething\n{MINISIGN}"),
                "line 3: neither",
            ),
            (format!("{MINISIGN}\n{MINISIGN}"), "line 1: neither"),
        ] {
            let error = check_trusted_key(&text).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
