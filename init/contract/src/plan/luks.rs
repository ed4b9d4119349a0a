//! The words about encrypted volumes, as dracut.cmdline(7) has them.

use super::values::absolute;
use super::{Note, Plan};
use serde::{Deserialize, Serialize};

/// A LUKS volume to unlock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LuksVolume {
    /// UUID of the LUKS header.
    pub uuid: String,
    /// Name under /dev/mapper; `luks-UUID` by default.
    pub name: String,
    /// Key file in the image, tried first.
    pub key_file: Option<String>,
}

/// `rd.luks.options=`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LuksOptions {
    /// Pass discards through.
    pub discard: bool,
    /// Open read-only.
    pub read_only: bool,
}

impl Plan {
    pub(super) fn luks_volume(&mut self, uuid: &str) -> Result<&mut LuksVolume, String> {
        let uuid = uuid.trim_start_matches("luks-").to_lowercase();
        if uuid.is_empty() || !uuid.chars().all(|c| c.is_ascii_hexdigit() || c == '-') {
            return Err(format!("'{uuid}' is not a UUID"));
        }
        let index = match self.luks.iter().position(|volume| volume.uuid == uuid) {
            Some(index) => index,
            None => {
                self.luks.push(LuksVolume {
                    name: format!("luks-{uuid}"),
                    uuid,
                    key_file: None,
                });
                self.luks.len() - 1
            }
        };
        self.luks.get_mut(index).ok_or_else(|| "no volume".to_owned())
    }

    pub(super) fn luks_key(&mut self, value: &str) -> Result<(), String> {
        let mut parts = value.splitn(3, ':');
        let path = absolute(parts.next().unwrap_or_default())?;
        if let Some(device) = parts.next().filter(|device| !device.is_empty()) {
            return Err(format!("a key on another device ({device}) is not supported"));
        }
        match parts.next() {
            Some(volume) => self.luks_volume(volume.trim_start_matches("UUID="))?.key_file = Some(path),
            None if self.luks.is_empty() => {
                return Err(format!("{path}: rd.luks.uuid= must stand before it"));
            }
            None => self
                .luks
                .iter_mut()
                .for_each(|volume| volume.key_file = Some(path.clone())),
        }
        Ok(())
    }

    pub(super) fn take_luks_options(&mut self, value: &str) -> Result<(), String> {
        for option in value.split(',') {
            match option {
                "discard" | "allow-discards" => self.luks_options.discard = true,
                "read-only" | "readonly" => self.luks_options.read_only = true,
                other => self.notes.push(Note {
                    key: "rd.luks.options".into(),
                    what: format!("'{other}' is not used"),
                }),
            }
        }
        Ok(())
    }
}
