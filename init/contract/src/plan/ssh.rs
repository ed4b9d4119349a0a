//! Who may log in over ssh, and as whom.
//!
//! Three users: `root` has a shell, `unlock` the passphrase prompt alone, `status` the report alone. The one thing a reader would get wrong:
//! an image that locks `lifeboot.ssh-key` locks the other words about keys with it (see [`crate::config::Config::locks`]), because each of
//! them lets somebody in.

use super::values::{key_lines, number, public_key};
use serde::{Deserialize, Serialize};

/// The ssh server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ssh {
    /// TCP port.
    pub port: u16,
    /// Lines of an authorized_keys file, without blank ones and comments: they may log in as root, and as everybody else.
    pub authorized_keys: Vec<String>,
    /// The same for the user `unlock` alone.
    #[serde(default)]
    pub unlock_keys: Vec<String>,
    /// The same for the user `status` alone.
    #[serde(default)]
    pub status_keys: Vec<String>,
    /// Public keys of authorities; a certificate by one of them lets in those it names as principals.
    #[serde(default)]
    pub user_authorities: Vec<String>,
}

impl Ssh {
    /// Whether anybody can log in, as whoever.
    pub fn lets_somebody_in(&self) -> bool {
        let lists = [
            &self.authorized_keys,
            &self.unlock_keys,
            &self.status_keys,
            &self.user_authorities,
        ];
        lists.iter().any(|list| !list.is_empty())
    }
}

/// The texts of the key files in the image, each as in `~/.ssh/authorized_keys`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BakedKeys {
    /// [`crate::image::AUTHORIZED_KEYS`]
    pub root: String,
    /// [`crate::image::UNLOCK_KEYS`]
    pub unlock: String,
    /// [`crate::image::STATUS_KEYS`]
    pub status: String,
    /// [`crate::image::USER_AUTHORITIES`]
    pub user_authorities: String,
}

impl From<&str> for BakedKeys {
    fn from(root: &str) -> BakedKeys {
        BakedKeys {
            root: root.to_owned(),
            ..BakedKeys::default()
        }
    }
}

impl Default for Ssh {
    fn default() -> Self {
        Ssh {
            port: 22,
            authorized_keys: Vec::new(),
            unlock_keys: Vec::new(),
            status_keys: Vec::new(),
            user_authorities: Vec::new(),
        }
    }
}

impl Ssh {
    /// What the image alone says.
    pub fn baked(keys: &BakedKeys) -> Ssh {
        Ssh {
            authorized_keys: key_lines(&keys.root),
            unlock_keys: key_lines(&keys.unlock),
            status_keys: key_lines(&keys.status),
            user_authorities: key_lines(&keys.user_authorities),
            ..Ssh::default()
        }
    }

    /// Takes a boot parameter; `None` when it is not about the ssh server.
    pub(super) fn take(&mut self, key: &str, value: &str) -> Option<Result<(), String>> {
        let keys = match key {
            "lifeboot.ssh-port" => {
                return Some(number(value, 1, u64::from(u16::MAX)).map(|port| self.port = port as u16));
            }
            "lifeboot.ssh-key" => &mut self.authorized_keys,
            "lifeboot.ssh-unlock-key" => &mut self.unlock_keys,
            "lifeboot.ssh-status-key" => &mut self.status_keys,
            "lifeboot.ssh-user-ca" => &mut self.user_authorities,
            _ => return None,
        };
        Some(public_key(value).map(|line| keys.push(line)))
    }
}
