//! The server's own key: made at boot, kept in memory, so that a restarted sshd is still the same server.
//!
//! It is never in the image: a boot image is public over HTTP, and whoever has the key can pose as the device.

use anyhow::Context as _;
use russh::keys::PrivateKey;
use russh::keys::ssh_key::private::{Ed25519Keypair, KeypairData};
use russh::keys::ssh_key::{HashAlg, LineEnding};
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Name of the file in the state directory.
const FILE: &str = "ssh_host_ed25519_key";

/// The key in `dir`, made now if there is none.
///
/// # Errors
/// A key that is there and cannot be read is not replaced: clients would see another server.
pub fn load_or_make(dir: &Path) -> anyhow::Result<PrivateKey> {
    let path = dir.join(FILE);
    match fs::read(&path) {
        Ok(bytes) => PrivateKey::from_openssh(&bytes).with_context(|| format!("{}", path.display())),
        Err(error) if error.kind() == ErrorKind::NotFound => make(dir, &path),
        Err(error) => Err(error).with_context(|| format!("{}", path.display())),
    }
}

/// `SHA256:…` as `ssh-keygen -l` prints it.
pub fn fingerprint(key: &PrivateKey) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}

fn make(dir: &Path, path: &Path) -> anyhow::Result<PrivateKey> {
    let mut seed = [0u8; 32];
    // Waits until the kernel's pool is ready, which /dev/urandom does not.
    fs::File::open("/dev/random")
        .and_then(|mut random| random.read_exact(&mut seed))
        .context("/dev/random")?;
    let pair = Ed25519Keypair::from_seed(&seed);
    seed.fill(0);
    let key = PrivateKey::new(KeypairData::Ed25519(pair), "lifeboot").context("host key")?;
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
        .with_context(|| format!("{}", path.display()))?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn the_second_start_has_the_same_key_and_nobody_else_may_read_it() {
        let dir = std::env::temp_dir().join(format!("lifeboot-hostkey-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let first = load_or_make(&dir).unwrap();
        let second = load_or_make(&dir).unwrap();
        assert_eq!(fingerprint(&first), fingerprint(&second));
        assert_eq!(
            fs::metadata(dir.join(FILE)).unwrap().permissions().mode() & 0o777,
            0o600
        );
        fs::write(dir.join(FILE), "not a key").unwrap();
        assert!(load_or_make(&dir).is_err());
        fs::remove_dir_all(dir).unwrap();
    }
}
