//! Certificate authorities a person gives: PEM files whose certificates join the image's bundle.
//!
//! Only the certificates are taken over; whatever else stands around them in the file is left out. They are looked at as far as a
//! torn or mixed-up file shows: whether an authority is one, the device finds out.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use ct_codecs::{Base64, Decoder};

use crate::public;

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// The certificates of a PEM file, one after the other.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    certificates(&public::lossy(path)?).with_context(|| path.display().to_string())
}

fn certificates(text: &str) -> Result<Vec<u8>> {
    let mut bundle = Vec::new();
    // Where the certificate begins that has not ended, and its lines so far.
    let mut open: Option<(usize, Vec<&str>)> = None;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        open = match open {
            Some((begun, lines)) if line == END => {
                check(&lines.concat()).with_context(|| format!("line {begun}"))?;
                for line in [BEGIN].into_iter().chain(lines).chain([END]) {
                    bundle.extend_from_slice(line.as_bytes());
                    bundle.push(b'\n');
                }
                None
            }
            Some((begun, mut lines)) => {
                lines.push(line);
                Some((begun, lines))
            }
            None => (line == BEGIN).then(|| (index + 1, Vec::new())),
        };
    }
    if let Some((begun, _)) = open {
        bail!("line {begun}: a certificate without an end");
    }
    ensure!(!bundle.is_empty(), "no PEM certificate in it");
    Ok(bundle)
}

/// X.690, 8.1: one SEQUENCE that is as long as it says.
fn check(base64: &str) -> Result<()> {
    let der = Base64::decode_to_vec(base64, None)
        .ok()
        .context("a certificate that is not base64")?;
    let whole = match *der.as_slice() {
        [0x30, short @ ..=0x7f, ref rest @ ..] => rest.len() == usize::from(short),
        [0x30, 0x81, length, ref rest @ ..] => rest.len() == usize::from(length),
        [0x30, 0x82, high, low, ref rest @ ..] => rest.len() == usize::from(u16::from_be_bytes([high, low])),
        _ => false,
    };
    ensure!(whole, "a certificate that is damaged");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A SEQUENCE of one INTEGER.
    const SMALL: &str = "MAMCAQE=";

    fn pem(body: &str) -> String {
        format!("{BEGIN}\n{body}\n{END}\n")
    }

    fn error(text: &str) -> String {
        format!("{:#}", certificates(text).unwrap_err())
    }

    #[test]
    fn only_the_certificates_are_taken_whatever_the_line_ends() {
        let text = format!(
            "subject=me\r\n{}\n{}",
            pem(SMALL).replace('\n', "\r\n"),
            pem(SMALL)
        );
        assert_eq!(
            certificates(&text).unwrap(),
            [pem(SMALL), pem(SMALL)].concat().into_bytes()
        );
    }

    #[test]
    fn a_file_without_a_certificate_is_refused() {
        for text in ["", "0\u{82}binary", "-----BEGIN CERTIFICATE REQUEST-----\n"] {
            assert_eq!(error(text), "no PEM certificate in it");
        }
    }

    #[test]
    fn a_damaged_certificate_is_named_with_its_line() {
        let first = pem(SMALL);
        assert_eq!(
            error(&format!("{first}{BEGIN}\n{SMALL}\n")),
            "line 4: a certificate without an end"
        );
        assert_eq!(error(&pem("MAMC?")), "line 1: a certificate that is not base64");
        for body in ["MAMCAQ==", "AgEB", ""] {
            assert_eq!(error(&pem(body)), "line 1: a certificate that is damaged");
        }
    }
}
