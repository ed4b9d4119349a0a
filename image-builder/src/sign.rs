//! `image-builder keygen` and `image-builder sign`: minisign keys and signatures, as the stock tool makes and checks them.
//!
//! The trusted comment carries name, version and length, which the device reads: it is signed, a file name is not.

use std::fs::{self, File, OpenOptions};
use std::io::{BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use argh::FromArgs;
use blake2::digest::consts::U32;
use blake2::{Blake2b, Digest};
use ct_codecs::Decoder;
use lifeboot_contract::version::Version;
use minisign::{KeyPair, SecretKey, SecretKeyBox};

/// make a minisign key pair: NAME.key is secret, NAME.pub goes into images
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "keygen",
    example = "image-builder keygen --out ~/keys/os",
    note = "Nothing is overwritten. Without --password-file the secret key is not encrypted, as with 'minisign -G -W'."
)]
pub struct KeygenArguments {
    /// path of the pair without its endings
    #[argh(option, arg_name = "name")]
    out: PathBuf,
    /// file whose first line is the password to encrypt the secret key with
    #[argh(option, arg_name = "file")]
    password_file: Option<PathBuf>,
}

/// sign files; FILE.minisig is written beside each
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "sign",
    example = "image-builder sign --key ~/keys/os.key --image-version 13.1 debian.squashfs",
    note = "The stock tool checks the result: minisign -V -p os.pub -m debian.squashfs"
)]
pub struct SignArguments {
    /// the secret key
    #[argh(option, arg_name = "file")]
    key: PathBuf,
    /// file whose first line is the secret key's password
    #[argh(option, arg_name = "file")]
    password_file: Option<PathBuf>,
    /// name to sign, the file's own by default
    #[argh(option, arg_name = "name")]
    name: Option<String>,
    /// version to sign, numbers with dots between them, 0 by default; a device may refuse an older one than it knows
    #[argh(option, arg_name = "version")]
    image_version: Option<ImageVersion>,
    /// what to sign
    #[argh(positional, arg_name = "file")]
    files: Vec<PathBuf>,
}

/// A version that a device can compare with the least one it takes, as it was written.
#[derive(Debug, Clone)]
pub struct ImageVersion(String);

impl Default for ImageVersion {
    fn default() -> Self {
        Self("0".to_owned())
    }
}

impl FromStr for ImageVersion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match Version::parse(text) {
            Some(_) => Ok(Self(text.to_owned())),
            None => Err(format!(
                "'{text}' is not a version of numbers with dots between them, which is all that a device can compare"
            )),
        }
    }
}

/// Makes a key pair.
pub fn keygen(arguments: &KeygenArguments) -> Result<()> {
    let (secret, public) = (ending(&arguments.out, "key"), ending(&arguments.out, "pub"));
    if let Some(there) = [&secret, &public].into_iter().find(|path| path.exists()) {
        bail!(
            "{}: exists already, and keys are not overwritten",
            there.display()
        );
    }
    let pair = match password(arguments.password_file.as_deref())? {
        Some(password) => KeyPair::generate_encrypted_keypair(Some(password)),
        None => KeyPair::generate_unencrypted_keypair(),
    }
    .context("key pair")?;
    if let Some(parent) = secret.parent() {
        fs::create_dir_all(parent).with_context(|| parent.display().to_string())?;
    }
    write_new(
        &secret,
        0o600,
        &pair.sk.to_box(None).context("secret key")?.into_string(),
    )?;
    write_new(
        &public,
        0o644,
        &pair.pk.to_box().context("public key")?.into_string(),
    )?;
    println!("{}", public.display());
    Ok(())
}

/// Signs.
pub fn sign(arguments: &SignArguments) -> Result<()> {
    if arguments.files.is_empty() {
        bail!("no file to sign");
    }
    let key = secret_key(&arguments.key, arguments.password_file.as_deref())?;
    let version = arguments.image_version.clone().unwrap_or_default();
    for file in &arguments.files {
        let name = match &arguments.name {
            Some(name) => name.clone(),
            None => file
                .file_name()
                .context("no file name")?
                .to_string_lossy()
                .into_owned(),
        };
        let signature = sign_one(&key, file, word(&name)?, &version)?;
        let path = signature_path(file);
        fs::write(&path, signature).with_context(|| path.display().to_string())?;
        println!("{}", path.display());
    }
    Ok(())
}

/// A secret key that was read, for who makes a file and signs it in one step.
pub struct Key(SecretKey);

impl Key {
    /// Reads it, with its password where it has one.
    pub fn read(path: &Path, password_file: Option<&Path>) -> Result<Self> {
        Ok(Self(secret_key(path, password_file)?))
    }

    /// The signature's text for a file that will be called `name`.
    pub fn sign(&self, file: &Path, name: &str, version: &ImageVersion) -> Result<String> {
        sign_one(&self.0, file, word(name)?, version)
    }
}

fn sign_one(key: &SecretKey, file: &Path, name: &str, version: &ImageVersion) -> Result<String> {
    let about = || file.display().to_string();
    let open = File::open(file).with_context(about)?;
    let length = open.metadata().with_context(about)?.len();
    let comment = format!("name={name} version={} length={length}", version.0);
    let signature =
        minisign::sign(None, key, BufReader::new(open), Some(&comment), None).with_context(about)?;
    Ok(signature.into_string())
}

/// `FILE.minisig`
pub fn signature_path(file: &Path) -> PathBuf {
    ending(file, "minisig")
}

/// The device takes the comment apart at blanks.
fn word(name: &str) -> Result<&str> {
    if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c.is_control()) {
        bail!("name '{name}': must be one word");
    }
    Ok(name)
}

fn secret_key(path: &Path, password_file: Option<&Path>) -> Result<SecretKey> {
    let about = || path.display().to_string();
    let text = fs::read_to_string(path).with_context(about)?;
    let bytes = key_bytes(&text).with_context(|| format!("{}: not a minisign secret key", path.display()))?;
    if bytes.get(KDF).is_some_and(|kdf| kdf == [0, 0]) {
        return SecretKey::from_bytes(&with_checksum(bytes)).with_context(about);
    }
    match password(password_file)? {
        Some(password) => SecretKeyBox::from_string(&text)
            .and_then(|boxed| boxed.into_secret_key(Some(password)))
            .with_context(about),
        None => bail!("{}: an encrypted key wants --password-file", path.display()),
    }
}

/// Where things lie in a secret key; minisign's own documentation of its formats.
const KDF: std::ops::Range<usize> = 2..4;
const NUMBER_AND_KEY: std::ops::Range<usize> = 54..126;
const CHECKSUM: std::ops::Range<usize> = 126..158;

fn key_bytes(text: &str) -> Option<Vec<u8>> {
    let line = text.lines().nth(1)?.trim();
    let bytes = ct_codecs::Base64::decode_to_vec(line, None).ok()?;
    (bytes.len() == CHECKSUM.end && bytes.starts_with(b"Ed")).then_some(bytes)
}

/// The stock tool leaves the checksum of a key without a password empty; the library wants to see one.
fn with_checksum(mut bytes: Vec<u8>) -> Vec<u8> {
    let mut state = Blake2b::<U32>::new();
    for part in [bytes.get(..2), bytes.get(NUMBER_AND_KEY)].into_iter().flatten() {
        state.update(part);
    }
    if let Some(checksum) = bytes.get_mut(CHECKSUM)
        && checksum.iter().all(|byte| *byte == 0)
    {
        checksum.copy_from_slice(&state.finalize());
    }
    bytes
}

fn password(file: Option<&Path>) -> Result<Option<String>> {
    let Some(file) = file else { return Ok(None) };
    let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    match text.lines().next().filter(|line| !line.is_empty()) {
        Some(line) => Ok(Some(line.to_owned())),
        None => bail!("{}: its first line is empty", file.display()),
    }
}

fn ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    name.into()
}

fn write_new(path: &Path, mode: u32, text: &str) -> Result<()> {
    let about = || path.display().to_string();
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .with_context(about)?;
    file.write_all(text.as_bytes()).with_context(about)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_signed_must_be_one_word() {
        assert!(word("debian.squashfs").is_ok());
        for bad in ["", "a b", "a\nversion=9"] {
            assert!(
                word(bad).unwrap_err().to_string().ends_with("must be one word"),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn a_key_is_never_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let out = directory.path().join("os");
        keygen(&KeygenArguments {
            out: out.clone(),
            password_file: None,
        })
        .unwrap();
        let error = keygen(&KeygenArguments {
            out,
            password_file: None,
        })
        .unwrap_err()
        .to_string();
        assert!(error.contains("exists already"), "{error}");
    }
}
