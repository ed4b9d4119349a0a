//! What only the rescue system may know: taken out of /run before the real init begins, put back when it could not begin, so that the
//! rescue system is still the same ssh server to its clients.

use lifeboot_contract::key_partition;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Private keys that are not on disk at the moment.
pub(super) struct Secrets(Vec<(PathBuf, Vec<u8>)>);

/// Takes the host keys out of `run` (`/run/lifeboot`).
///
/// # Errors
/// The first file that could not be taken; those before it are gone.
pub(super) fn take(run: &Path) -> (Secrets, io::Result<()>) {
    let mut secrets = Secrets(Vec::new());
    let taken = take_into(&mut secrets, run);
    (secrets, taken)
}

fn take_into(secrets: &mut Secrets, run: &Path) -> io::Result<()> {
    let copies = run.join(Path::new(key_partition::COPY).file_name().unwrap_or_default());
    for dir in [run, copies.as_path()] {
        if dir != run && !dir.exists() {
            continue;
        }
        for entry in fs::read_dir(dir)?.flatten() {
            if entry.file_name().to_string_lossy().starts_with("ssh_host_") {
                let bytes = fs::read(entry.path())?;
                fs::remove_file(entry.path())?;
                secrets.0.push((entry.path(), bytes));
            }
        }
    }
    Ok(())
}

impl Secrets {
    /// Puts them back.
    ///
    /// # Errors
    /// The first file that could not be written.
    pub(super) fn put_back(self) -> io::Result<()> {
        for (path, bytes) in self.0 {
            OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(path)?
                .write_all(&bytes)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn host_keys_are_taken_and_come_back_as_they_were() {
        let run = std::env::temp_dir().join(format!("lifeboot-secrets-{}", std::process::id()));
        fs::create_dir_all(run.join("keys")).unwrap();
        for path in [
            "ssh_host_ed25519_key",
            "keys/ssh_host_ed25519_key",
            "keys/authorized_keys",
        ] {
            fs::write(run.join(path), path).unwrap();
        }
        let (secrets, taken) = take(&run);
        taken.unwrap();
        assert!(!run.join("ssh_host_ed25519_key").exists());
        assert!(!run.join("keys/ssh_host_ed25519_key").exists());
        assert!(run.join("keys/authorized_keys").exists());
        secrets.put_back().unwrap();
        let back = run.join("keys/ssh_host_ed25519_key");
        assert_eq!(fs::read_to_string(&back).unwrap(), "keys/ssh_host_ed25519_key");
        assert_eq!(fs::metadata(&back).unwrap().permissions().mode() & 0o777, 0o600);
        fs::remove_dir_all(&run).unwrap();
        assert!(
            take(&run).1.is_err(),
            "a run directory that is not there is an error"
        );
    }
}
