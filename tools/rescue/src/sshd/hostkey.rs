//! The server's own key: that of a key partition, or one made of the board's own secret, or one made at boot; kept in memory, so that
//! a restarted sshd is still the same server.
//!
//! It is never in the image: a boot image is public over HTTP, and whoever has the key can pose as the device.

mod derived;

use anyhow::{Context as _, bail};
use derived::Secret;
use lifeboot_contract::key_partition::{COPY, HOST_KEY};
use russh::keys::ssh_key::private::{Ed25519Keypair, KeypairData};
use russh::keys::ssh_key::{HashAlg, LineEnding};
use russh::keys::{Algorithm, PrivateKey};
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Name of the file in the state directory.
const FILE: &str = "ssh_host_ed25519_key";

/// The key, and how the server came by it.
pub struct HostKey {
    /// Proves that the server is who it says.
    pub key: PrivateKey,
    /// `key-partition`, `derived` or `generated`.
    pub origin: &'static str,
    /// Why a key that takes precedence is not used.
    pub refused: Option<String>,
}

/// Keys that are there already, and where they came from.
struct Known {
    key: PrivateKey,
    origin: &'static str,
}

/// The key in `dir`; if there is none yet, that of a key partition, one derived from the board's own secret, or one made now.
///
/// # Errors
/// A key that is there and cannot be read is not replaced: clients would see another server.
pub fn load_or_make(dir: &Path) -> anyhow::Result<HostKey> {
    load_or(dir, derived::seed)
}

fn load_or(dir: &Path, seed: impl FnOnce() -> anyhow::Result<Option<Secret>>) -> anyhow::Result<HostKey> {
    let path = dir.join(FILE);
    let mut refused = Vec::new();
    let known = known(dir, seed, &mut refused);
    let key = match fs::read(&path) {
        Ok(bytes) => PrivateKey::from_openssh(&bytes).with_context(|| format!("{}", path.display()))?,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let key = known.as_ref().map_or_else(make, |known| Ok(known.key.clone()))?;
            keep(dir, &path, &key)?;
            key
        }
        Err(error) => return Err(error).with_context(|| format!("{}", path.display())),
    };
    let is = |known: &Known| known.key.public_key().key_data() == key.public_key().key_data();
    let origin = known.filter(is).map_or("generated", |known| known.origin);
    Ok(HostKey {
        key,
        origin,
        refused: (!refused.is_empty()).then(|| refused.join("; ")),
    })
}

/// The key that is not made by chance, if there is one; whatever was not taken is named.
fn known(
    dir: &Path,
    seed: impl FnOnce() -> anyhow::Result<Option<Secret>>,
    refused: &mut Vec<String>,
) -> Option<Known> {
    match given(dir) {
        Ok(Some(key)) => {
            return Some(Known {
                key,
                origin: "key-partition",
            });
        }
        Ok(None) => {}
        Err(error) => refused.push(format!("{HOST_KEY} of the key partition: {error:#}")),
    }
    let derived = seed().and_then(|seed| seed.map(|seed| of_seed(&seed)).transpose());
    match derived {
        Ok(key) => key.map(|key| Known {
            key,
            origin: "derived",
        }),
        Err(error) => {
            refused.push(format!("host key of the board's own secret: {error:#}"));
            None
        }
    }
}

/// What was read from a key partition, if it is a key that can be used without a passphrase.
fn given(dir: &Path) -> anyhow::Result<Option<PrivateKey>> {
    let path = dir
        .join(Path::new(COPY).file_name().unwrap_or_default())
        .join(HOST_KEY);
    let text = match fs::read_to_string(&path) {
        // Editors of other systems end lines in their own way.
        Ok(text) => text.replace("\r\n", "\n"),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let key = PrivateKey::from_openssh(text.as_bytes()).context("not a private key in OpenSSH's format")?;
    if key.is_encrypted() {
        bail!("is encrypted with a passphrase");
    }
    if key.algorithm() != Algorithm::Ed25519 {
        bail!("is a key of type {}, not ssh-ed25519", key.algorithm());
    }
    Ok(Some(key))
}

/// `SHA256:…` as `ssh-keygen -l` prints it.
pub fn fingerprint(key: &PrivateKey) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}

fn make() -> anyhow::Result<PrivateKey> {
    let mut seed = Secret::blank();
    // Waits until the kernel's pool is ready, which /dev/urandom does not.
    fs::File::open("/dev/random")
        .and_then(|mut random| random.read_exact(seed.bytes_mut()))
        .context("/dev/random")?;
    of_seed(&seed)
}

fn of_seed(seed: &Secret) -> anyhow::Result<PrivateKey> {
    let pair = Ed25519Keypair::from_seed(seed.bytes());
    PrivateKey::new(KeypairData::Ed25519(pair), "lifeboot").context("host key")
}

fn keep(dir: &Path, path: &Path, key: &PrivateKey) -> anyhow::Result<()> {
    // Written beside and renamed: a half-written key would never be replaced.
    let partial = dir.join("ssh_host_ed25519_key.new");
    let text = key.to_openssh(LineEnding::LF).context("host key")?;
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&partial)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .and_then(|()| fs::rename(&partial, path))
        .with_context(|| format!("{}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::PathBuf;

    fn directory(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("lifeboot-hostkey-{name}-{}", std::process::id()));
        fs::create_dir_all(dir.join("keys")).unwrap();
        dir
    }

    fn ssh_keygen(dir: &Path, words: &[&str]) -> String {
        let path = dir.join("keys").join(HOST_KEY);
        let made = std::process::Command::new("ssh-keygen")
            .args(["-q", "-f"])
            .arg(&path)
            .args(words)
            .status();
        assert!(made.unwrap().success());
        fs::read_to_string(path).unwrap()
    }

    #[test]
    fn the_second_start_has_the_same_key_and_nobody_else_may_read_it() {
        let dir = directory("made");
        let first = load_or_make(&dir).unwrap();
        let second = load_or_make(&dir).unwrap();
        assert_eq!(fingerprint(&first.key), fingerprint(&second.key));
        assert_eq!((first.origin, first.refused), ("generated", None));
        assert_eq!(
            fs::metadata(dir.join(FILE)).unwrap().permissions().mode() & 0o777,
            0o600
        );
        fs::write(dir.join(FILE), "not a key").unwrap();
        assert!(load_or_make(&dir).is_err());
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn the_key_of_a_key_partition_is_used_and_one_that_comes_later_is_not() {
        let dir = directory("given");
        let text = ssh_keygen(&dir, &["-t", "ed25519", "-N", ""]);
        fs::write(dir.join("keys").join(HOST_KEY), text.replace('\n', "\r\n")).unwrap();
        let first = load_or_make(&dir).unwrap();
        assert_eq!(
            first.key.public_key(),
            PrivateKey::from_openssh(&text).unwrap().public_key()
        );
        assert_eq!((first.origin, first.refused), ("key-partition", None));
        assert_eq!(load_or_make(&dir).unwrap().origin, "key-partition");
        fs::remove_dir_all(&dir).unwrap();

        let dir = directory("late");
        let first = load_or_make(&dir).unwrap();
        ssh_keygen(&dir, &["-t", "ed25519", "-N", ""]);
        let second = load_or_make(&dir).unwrap();
        assert_eq!(
            (fingerprint(&first.key), second.origin),
            (fingerprint(&second.key), "generated")
        );
        fs::remove_dir_all(dir).unwrap();
    }

    /// A start on the board of [`derived::tests::board`].
    fn on_a_board(dir: &Path) -> HostKey {
        load_or(dir, || derived::seed_from(&mut derived::tests::board())).unwrap()
    }

    #[test]
    fn a_board_with_a_secret_is_the_same_server_after_every_start() {
        let dirs = ["derived-1", "derived-2"].map(directory);
        let keys = [&dirs[0], &dirs[1], &dirs[0]].map(|dir| on_a_board(dir));
        for key in &keys {
            assert_eq!(
                key.key.public_key().to_openssh().unwrap(),
                "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIH45sAUqyxHrR9C4rPf2YUIApz7n7Z5rSPvfsMqiFH7G lifeboot"
            );
            assert_eq!((key.origin, key.refused.as_ref()), ("derived", None));
        }
        dirs.iter().for_each(|dir| fs::remove_dir_all(dir).unwrap());
    }

    #[test]
    fn the_key_of_a_key_partition_goes_before_a_derived_one() {
        let dir = directory("given-and-derived");
        ssh_keygen(&dir, &["-t", "ed25519", "-N", ""]);
        assert_eq!(on_a_board(&dir).origin, "key-partition");
        fs::remove_dir_all(&dir).unwrap();
        let dir = directory("bad-and-derived");
        fs::write(dir.join("keys").join(HOST_KEY), "not a key").unwrap();
        let key = on_a_board(&dir);
        assert_eq!(key.origin, "derived");
        assert!(key.refused.unwrap().contains("of the key partition"));
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_secret_that_cannot_be_used_is_named_and_a_key_is_made() {
        let dir = directory("weak");
        let key = load_or(&dir, || anyhow::bail!("the same word 8 times")).unwrap();
        assert_eq!(key.origin, "generated");
        assert!(key.refused.unwrap().contains("the same word"));
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_key_of_a_key_partition_that_cannot_be_used_is_named_and_another_is_made() {
        let dir = directory("refused");
        ssh_keygen(&dir, &["-t", "ed25519", "-N", "secret"]);
        let refused = |dir: &Path| {
            let key = load_or_make(dir).unwrap();
            fs::remove_file(dir.join(FILE)).unwrap();
            assert_eq!(key.origin, "generated");
            key.refused.unwrap()
        };
        assert!(refused(&dir).ends_with("is encrypted with a passphrase"));
        fs::remove_file(dir.join("keys").join(HOST_KEY)).unwrap();
        ssh_keygen(&dir, &["-t", "rsa", "-N", ""]);
        assert!(refused(&dir).contains("not ssh-ed25519"));
        for bad in ["", "not a key", "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n"] {
            fs::write(dir.join("keys").join(HOST_KEY), bad).unwrap();
            assert!(refused(&dir).contains("not a private key"), "{bad}");
        }
        fs::remove_dir_all(dir).unwrap();
    }
}
