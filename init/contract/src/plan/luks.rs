//! The words about encrypted volumes, as dracut.cmdline(7) and systemd-cryptsetup-generator(8) have them.

use super::values::absolute;
use super::{Note, Plan};
use crate::root::BlockId;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A LUKS volume to unlock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LuksVolume {
    /// UUID of the LUKS header.
    pub uuid: String,
    /// Name under /dev/mapper; `luks-UUID` by default.
    pub name: String,
    /// Key file, tried before anybody is asked.
    pub key: Option<FilePlace>,
    /// Where the header is, when it is not on the volume itself.
    #[serde(default)]
    pub header: Option<Header>,
    /// The volume itself, which cannot be found by the UUID when the header is elsewhere.
    #[serde(default)]
    pub data: Option<BlockId>,
    /// Options of this volume alone, in place of [`Plan::luks_options`].
    #[serde(default)]
    pub options: Option<LuksOptions>,
}

/// A file in the image, or on another device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilePlace {
    /// Path from the root of the image, or of the device's file system.
    pub path: String,
    /// The device; `None`: the image.
    pub device: Option<BlockId>,
}

/// A detached LUKS header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Header {
    /// All of a block device.
    Device(BlockId),
    /// A file.
    File(FilePlace),
}

/// `rd.luks.options=`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LuksOptions {
    /// Pass discards through.
    pub discard: bool,
    /// Open read-only.
    pub read_only: bool,
}

impl LuksVolume {
    /// How the volume's own device is found.
    pub fn device(&self) -> BlockId {
        self.data
            .clone()
            .unwrap_or_else(|| BlockId::Uuid(self.uuid.clone()))
    }
}

impl FilePlace {
    /// Reads `/PATH` or `/PATH:DEVICE`.
    ///
    /// # Errors
    /// What was expected, naming the value.
    pub fn parse(value: &str) -> Result<FilePlace, String> {
        let (path, device) = match value.split_once(':') {
            Some((path, device)) if !device.is_empty() => (path, Some(device)),
            Some((path, _)) => (path, None),
            None => (value, None),
        };
        let device = match device {
            None => None,
            Some(name) => Some(BlockId::parse(name).ok_or_else(|| {
                format!("'{name}' is none of UUID=, LABEL=, PARTUUID=, PARTLABEL= and /dev/")
            })?),
        };
        let path = absolute(path)?;
        Ok(FilePlace { path, device })
    }
}

impl Header {
    /// Reads `/dev/…`, `UUID=…` and the like for a device, `/PATH[:DEVICE]` for a file.
    ///
    /// # Errors
    /// What was expected, naming the value.
    pub fn parse(value: &str) -> Result<Header, String> {
        match BlockId::parse(value) {
            Some(id) => Ok(Header::Device(id)),
            None => FilePlace::parse(value).map(Header::File),
        }
    }
}

impl fmt::Display for FilePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.device {
            Some(device) => write!(f, "{} on {device}", self.path),
            None => f.write_str(&self.path),
        }
    }
}

impl fmt::Display for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Header::Device(id) => id.fmt(f),
            Header::File(place) => place.fmt(f),
        }
    }
}

impl Plan {
    /// The options that a volume is opened with.
    pub fn luks_options_of<'a>(&'a self, volume: &'a LuksVolume) -> &'a LuksOptions {
        volume.options.as_ref().unwrap_or(&self.luks_options)
    }

    pub(super) fn luks_volume(&mut self, uuid: &str) -> Result<&mut LuksVolume, String> {
        let uuid = uuid.trim_start_matches("luks-").to_lowercase();
        if !is_uuid(&uuid) {
            return Err(format!("'{uuid}' is not a UUID"));
        }
        let index = match self.luks.iter().position(|volume| volume.uuid == uuid) {
            Some(index) => index,
            None => {
                self.luks.push(LuksVolume {
                    name: format!("luks-{uuid}"),
                    uuid,
                    key: None,
                    header: None,
                    data: None,
                    options: None,
                });
                self.luks.len() - 1
            }
        };
        self.luks.get_mut(index).ok_or_else(|| "no volume".to_owned())
    }

    /// `rd.luks.name=UUID=NAME`
    pub(super) fn luks_name(&mut self, value: &str) -> Result<(), String> {
        let (uuid, name) = value
            .split_once('=')
            .ok_or_else(|| format!("'{value}' is not UUID=NAME"))?;
        if name.is_empty() || name.contains('/') {
            return Err(format!("'{name}' is not a name for /dev/mapper"));
        }
        self.luks_volume(uuid)?.name = name.to_owned();
        Ok(())
    }

    /// dracut's `PATH[:KEYDEV[:LUKSDEV]]` or systemd's `UUID=PATH[:KEYDEV]`.
    pub(super) fn luks_key(&mut self, value: &str) -> Result<(), String> {
        if let Some((uuid, place)) = of_one(value) {
            self.luks_volume(uuid)?.key = Some(FilePlace::parse(place)?);
            return Ok(());
        }
        let mut parts = value.splitn(3, ':');
        let path = parts.next().unwrap_or_default();
        let place = FilePlace::parse(&format!("{path}:{}", parts.next().unwrap_or_default()))?;
        match parts.next() {
            Some(volume) => self.luks_volume(volume.trim_start_matches("UUID="))?.key = Some(place),
            None if self.luks.is_empty() => {
                return Err(format!("{place}: rd.luks.uuid= must stand before it"));
            }
            None => self
                .luks
                .iter_mut()
                .for_each(|volume| volume.key = Some(place.clone())),
        }
        Ok(())
    }

    /// systemd's `rd.luks.data=UUID=DEVICE`.
    pub(super) fn luks_data(&mut self, value: &str) -> Result<(), String> {
        let (uuid, device) = of_one(value).ok_or_else(|| format!("'{value}' is not UUID=DEVICE"))?;
        let id = BlockId::parse(device)
            .ok_or_else(|| format!("'{device}' is none of UUID=, LABEL=, PARTUUID=, PARTLABEL= and /dev/"))?;
        self.luks_volume(uuid)?.data = Some(id);
        Ok(())
    }

    /// `OPTION,…` for all volumes, systemd's `UUID=OPTION,…` for one.
    pub(super) fn take_luks_options(&mut self, value: &str) -> Result<(), String> {
        let (uuid, list) = match of_one(value) {
            Some((uuid, list)) => (Some(uuid), list),
            None => (None, value),
        };
        let mut options = LuksOptions::default();
        for option in list.split(',') {
            match (option.split_once('='), uuid) {
                (Some(("header", place)), Some(uuid)) => {
                    self.luks_volume(uuid)?.header = Some(Header::parse(place)?);
                }
                (Some(("header", _)), None) => {
                    return Err(
                        "header= needs the volume it belongs to: rd.luks.options=UUID=header=…".to_owned(),
                    );
                }
                _ => match option {
                    "discard" | "allow-discards" => options.discard = true,
                    "read-only" | "readonly" => options.read_only = true,
                    other => self.notes.push(Note {
                        key: "rd.luks.options".into(),
                        what: format!("'{other}' is not used"),
                    }),
                },
            }
        }
        match uuid {
            Some(uuid) => self.luks_volume(uuid)?.options = Some(options),
            None => self.luks_options = options,
        }
        Ok(())
    }

    /// A header elsewhere says nothing about where the data are.
    pub(super) fn settle_luks(&mut self) {
        let lost = self
            .luks
            .iter()
            .find(|volume| volume.header.is_some() && volume.data.is_none());
        if let Some(volume) = lost {
            let what = format!(
                "{}: its header is elsewhere, so rd.luks.data={}=DEVICE must say where the volume is",
                volume.uuid, volume.uuid
            );
            self.complain("rd.luks.options", what);
        }
    }
}

/// Hexadecimal digits in groups.
fn is_uuid(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_hexdigit() || c == '-')
}

/// `UUID=REST`: words about one volume begin with its UUID, all others with something that cannot be one.
fn of_one(value: &str) -> Option<(&str, &str)> {
    let (uuid, rest) = value.split_once('=')?;
    is_uuid(uuid.trim_start_matches("luks-")).then_some((uuid, rest))
}
