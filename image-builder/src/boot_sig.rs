//! `boot.sig`: what the bootloader checks `boot.img` by, line for line as rpi-eeprom's rpi-eeprom-digest writes it.
//!
//! The digest alone guards against damage; HTTP boot and secure boot want the signature too. It is RSA-2048, PKCS#1 v1.5, over the
//! SHA-256 of the image, made here from a key file or by a program that can reach the key.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail, ensure};
use ct_codecs::{Base64, Decoder};
use ring::rand::SystemRandom;
use ring::rsa::KeyPair;
use ring::signature::RSA_PKCS1_SHA256;
use sha2::{Digest, Sha256};

use crate::packages::hex;

/// The only size the bootloaders know.
const BITS: usize = 2048;

/// Who signs.
#[derive(Debug)]
pub enum Signer {
    /// The key, read and found good.
    Key(Box<KeyPair>),
    /// A program called as rpi-eeprom-digest calls its HSM wrapper.
    Program(PathBuf),
}

impl Signer {
    /// Reads a private key, PEM, PKCS#1 or PKCS#8.
    pub fn key(path: &Path) -> Result<Self> {
        let text = std::fs::read(path).with_context(|| path.display().to_string())?;
        let key = private_key(&String::from_utf8_lossy(&text)).with_context(|| path.display().to_string())?;
        Ok(Self::Key(Box::new(key)))
    }

    /// The signature of an image that also lies in a file.
    fn sign(&self, image: &[u8], file: &Path) -> Result<Vec<u8>> {
        match self {
            Self::Key(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                let signed = key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), image, &mut signature);
                signed.map_err(|_| anyhow!("boot.img: the key could not sign it"))?;
                Ok(signature)
            }
            Self::Program(program) => ask(program, file).with_context(|| program.display().to_string()),
        }
    }

    /// Whether the image must lie in a file to be signed.
    pub fn wants_file(&self) -> bool {
        matches!(self, Self::Program(_))
    }
}

/// The text of `boot.sig`.
pub fn text(
    image: &[u8],
    file: &Path,
    time: u64,
    target_soc: Option<&str>,
    signer: &Signer,
) -> Result<String> {
    let mut text = format!("{}\nts: {time}\n", hex(&Sha256::digest(image)));
    if let Some(soc) = target_soc {
        writeln!(text, "target-soc: {soc}")?;
    }
    writeln!(text, "rsa2048: {}", hex(&signer.sign(image, file)?))?;
    Ok(text)
}

/// Runs `PROGRAM -a rsa2048-sha256 FILE`, which prints the signature in hexadecimal.
fn ask(program: &Path, file: &Path) -> Result<Vec<u8>> {
    let output = Command::new(program)
        .args(["-a", "rsa2048-sha256"])
        .arg(file)
        .output()?;
    ensure!(
        output.status.success(),
        "{}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    let digits: String = String::from_utf8_lossy(&output.stdout)
        .split_whitespace()
        .collect();
    ensure!(
        digits.len() == BITS / 4 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()),
        "printed {} characters, not a signature of {} hexadecimal digits",
        digits.len(),
        BITS / 4
    );
    let bytes = digits
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(&String::from_utf8_lossy(pair), 16));
    Ok(bytes.collect::<Result<_, _>>()?)
}

fn private_key(text: &str) -> Result<KeyPair> {
    let (label, der) = pem(text)?;
    let (bits, made) = match label.as_str() {
        "RSA PRIVATE KEY" => (modulus_bits(&der), KeyPair::from_der(&der)),
        "PRIVATE KEY" => (pkcs8_key(&der).and_then(modulus_bits), KeyPair::from_pkcs8(&der)),
        "ENCRYPTED PRIVATE KEY" => {
            bail!("is encrypted: sign with a program that may open it (--boot-signer)")
        }
        "PUBLIC KEY" | "RSA PUBLIC KEY" => {
            bail!("is a public key, which belongs into the EEPROM; the private one signs")
        }
        other => bail!("is a PEM file with a {other}, not an RSA private key"),
    };
    match bits {
        None => bail!("not an RSA private key"),
        Some(BITS) => made.map_err(|error| anyhow!("not a good RSA private key: {error}")),
        Some(bits) => bail!("an RSA key of {bits} bits; the bootloader takes {BITS} alone"),
    }
}

/// The first key of a PEM file, and what it calls itself.
fn pem(text: &str) -> Result<(String, Vec<u8>)> {
    ensure!(
        !text.contains("Proc-Type: 4,ENCRYPTED"),
        "is encrypted: sign with a program that may open it (--boot-signer)"
    );
    let mut label = None;
    let mut body = String::new();
    for line in text.lines().map(str::trim) {
        match (
            &label,
            line.strip_prefix("-----BEGIN "),
            line.strip_prefix("-----END "),
        ) {
            // OpenSSL may put the curve's or the file's properties before the key itself.
            (None, Some(begun), _) => label = begun.strip_suffix("-----").map(str::to_owned),
            (Some(label), _, Some(_)) => {
                let der = Base64::decode_to_vec(&body, None).map_err(|_| anyhow!("{label}: not base64"))?;
                return Ok((label.clone(), der));
            }
            (Some(_), _, _) => body.push_str(line),
            _ => {}
        }
    }
    bail!("no PEM key in it")
}

/// The key inside of PKCS#8: SEQUENCE { version, algorithm, OCTET STRING { key } }, RFC 5208.
fn pkcs8_key(der: &[u8]) -> Option<&[u8]> {
    let (inside, _) = element(der, 0x30)?;
    let (_version, rest) = element(inside, 0x02)?;
    let (_algorithm, rest) = element(rest, 0x30)?;
    Some(element(rest, 0x04)?.0)
}

/// Of a PKCS#1 key: SEQUENCE { version, modulus, … }, RFC 8017.
fn modulus_bits(der: &[u8]) -> Option<usize> {
    let (inside, _) = element(der, 0x30)?;
    let (_version, rest) = element(inside, 0x02)?;
    let (modulus, _) = element(rest, 0x02)?;
    let start = modulus.iter().position(|byte| *byte != 0)?;
    let first = modulus.get(start)?;
    Some((modulus.len() - start) * 8 - first.leading_zeros() as usize)
}

/// One element of DER with that tag: what is in it, and what follows it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = der.split_first()?;
    let (&length, rest) = rest.split_first()?;
    let (length, rest) = match length {
        ..=0x7f => (usize::from(length), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
            (
                digits.iter().fold(0, |sum, digit| sum << 8 | usize::from(*digit)),
                rest,
            )
        }
        _ => return None,
    };
    (found == tag).then(|| rest.split_at_checked(length)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn openssl(words: &[&str]) -> Vec<u8> {
        let output = Command::new("openssl").args(words).output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        output.stdout
    }

    /// A key made by OpenSSL, in the form asked for.
    fn made(bits: &str, traditional: bool) -> (tempfile::TempDir, PathBuf) {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("key.pem");
        let mut words = vec!["genrsa", "-out", path.to_str().unwrap()];
        words.extend(traditional.then_some("-traditional"));
        words.push(bits);
        openssl(&words);
        (place, path)
    }

    fn error(path: &Path) -> String {
        let error = Signer::key(path).unwrap_err();
        format!("{error:#}").replace(&format!("{}: ", path.display()), "")
    }

    #[test]
    fn openssl_accepts_the_signature_of_either_form_of_key() {
        for traditional in [true, false] {
            let (place, path) = made("2048", traditional);
            let begins = if traditional {
                "-----BEGIN RSA PRIVATE KEY"
            } else {
                "-----BEGIN PRIVATE KEY"
            };
            assert!(std::fs::read_to_string(&path).unwrap().starts_with(begins));
            let at = |name: &str| place.path().join(name).display().to_string();
            std::fs::write(at("boot.img"), b"an image").unwrap();
            let text = text(
                b"an image",
                Path::new("-"),
                1_700_000_000,
                Some("2712"),
                &Signer::key(&path).unwrap(),
            );
            let text = text.unwrap();
            let lines: Vec<&str> = text.lines().collect();
            assert_eq!(lines[0], hex(&Sha256::digest(b"an image")));
            assert_eq!(lines[1..3], ["ts: 1700000000", "target-soc: 2712"]);
            let signature = lines[3].strip_prefix("rsa2048: ").unwrap();
            assert_eq!(
                (signature.len(), lines.len(), text.ends_with('\n')),
                (512, 4, true)
            );
            let signature: Vec<u8> = (0..256)
                .map(|at| u8::from_str_radix(&signature[at * 2..at * 2 + 2], 16).unwrap())
                .collect();
            std::fs::write(at("sig"), &signature).unwrap();
            openssl(&[
                "rsa",
                "-in",
                path.to_str().unwrap(),
                "-pubout",
                "-out",
                &at("pub.pem"),
            ]);
            let verify = [
                "dgst",
                "-verify",
                &at("pub.pem"),
                "-sha256",
                "-signature",
                &at("sig"),
                &at("boot.img"),
            ];
            assert_eq!(openssl(&verify), b"Verified OK\n");
            std::fs::write(at("boot.img"), b"an imagf").unwrap();
            assert!(
                !Command::new("openssl")
                    .args(verify)
                    .output()
                    .unwrap()
                    .status
                    .success()
            );
        }
    }

    #[test]
    fn keys_of_other_sizes_are_refused_by_number() {
        for bits in ["1024", "2056", "3072", "4096"] {
            for traditional in [true, false] {
                let (_keep, path) = made(bits, traditional);
                assert_eq!(
                    error(&path),
                    format!("an RSA key of {bits} bits; the bootloader takes 2048 alone")
                );
            }
        }
    }

    #[test]
    fn what_is_no_rsa_private_key_is_told_apart() {
        let (place, path) = made("2048", false);
        let key = path.to_str().unwrap();
        let other = place.path().join("other.pem");
        let other_name = other.to_str().unwrap();
        openssl(&["rsa", "-in", key, "-pubout", "-out", other_name]);
        assert!(error(&other).starts_with("is a public key"), "{}", error(&other));
        for form in ["-aes128", "-traditional"] {
            let form: &[&str] = if form == "-aes128" {
                &[form]
            } else {
                &[form, "-aes128"]
            };
            let mut words = vec!["rsa", "-in", key, "-passout", "pass:secret", "-out", other_name];
            words.extend(form);
            openssl(&words);
            assert!(error(&other).starts_with("is encrypted"), "{}", error(&other));
        }
        openssl(&["genpkey", "-algorithm", "ed25519", "-out", other_name]);
        assert_eq!(error(&other), "not an RSA private key");
        for (text, why) in [
            ("", "no PEM key in it"),
            ("-----BEGIN PRIVATE KEY-----\nMIIB", "no PEM key in it"),
            (
                "-----BEGIN PRIVATE KEY-----\n*\n-----END PRIVATE KEY-----\n",
                "PRIVATE KEY: not base64",
            ),
            (
                "-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n",
                "not an RSA private key",
            ),
        ] {
            std::fs::write(&other, text).unwrap();
            assert_eq!(error(&other), why);
        }
    }

    #[test]
    fn a_torn_key_is_refused_wherever_it_is_torn() {
        let (_keep, path) = made("2048", true);
        let (_, der) = pem(&std::fs::read_to_string(&path).unwrap()).unwrap();
        for length in 0..der.len() {
            assert!(modulus_bits(&der[..length]).is_none(), "{length}");
        }
    }
}
