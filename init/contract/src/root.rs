//! `root=` and what belongs to it: where a root lies, how it proves itself, where its writable layer goes.

use crate::template::Template;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Where a root comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// A squashfs at an URL, fetched into memory.
    Http(Template),
    /// A file system on this machine.
    Local(BlockId),
}

/// How a block device is named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BlockId {
    /// File system UUID.
    Uuid(String),
    /// File system label.
    Label(String),
    /// Partition UUID.
    PartUuid(String),
    /// GPT partition name.
    PartLabel(String),
    /// `/dev/…`
    Path(String),
}

/// How an OS image proves itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verify {
    /// By a minisign signature of a key in the image.
    #[default]
    Required,
    /// By this SHA-256.
    Sha256(#[serde(with = "hex32")] [u8; 32]),
    /// Not at all.
    Off,
}

/// Where the writable layer of an OS image lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Overlay {
    /// In memory; the text is tmpfs's `size=`.
    Tmpfs(String),
    /// On a block device.
    Device(BlockId),
    /// Nowhere: the root is read-only.
    None,
}

impl Default for Overlay {
    fn default() -> Self {
        Overlay::Tmpfs("50%".to_owned())
    }
}

impl Source {
    /// Reads the value of one `root=`.
    ///
    /// # Errors
    /// What was expected, naming the value.
    pub fn parse(value: &str) -> Result<Source, String> {
        let url = value.strip_prefix("live:").unwrap_or(value);
        if url.starts_with("http://") || url.starts_with("https://") || url.starts_with("{boot-url}") {
            return Template::parse(url)
                .map(Source::Http)
                .map_err(|error| error.to_string());
        }
        match BlockId::parse(value) {
            Some(id) => Ok(Source::Local(id)),
            None => Err(format!(
                "'{value}' is none of http://, https://, live:URL, UUID=, LABEL=, PARTUUID=, PARTLABEL= and /dev/"
            )),
        }
    }
}

impl BlockId {
    /// Reads `UUID=…`, `LABEL=…`, `PARTUUID=…`, `PARTLABEL=…` or `/dev/…`.
    pub fn parse(value: &str) -> Option<BlockId> {
        if value
            .strip_prefix("/dev/")
            .is_some_and(|rest| !rest.is_empty() && !rest.contains(".."))
        {
            return Some(BlockId::Path(value.to_owned()));
        }
        let (tag, name) = value.split_once('=').filter(|(_, name)| !name.is_empty())?;
        let name = name.to_owned();
        match tag {
            "UUID" => Some(BlockId::Uuid(name)),
            "LABEL" => Some(BlockId::Label(name)),
            "PARTUUID" => Some(BlockId::PartUuid(name)),
            "PARTLABEL" => Some(BlockId::PartLabel(name)),
            _ => None,
        }
    }
}

impl Verify {
    /// Reads the value of `lifeboot.verify=`.
    ///
    /// # Errors
    /// What was expected, naming the value.
    pub fn parse(value: &str) -> Result<Verify, String> {
        match value {
            "required" => Ok(Verify::Required),
            "off" => Ok(Verify::Off),
            other => match other.strip_prefix("sha256:") {
                Some(hex) => hex32::parse(hex).map(Verify::Sha256).ok_or_else(|| {
                    format!(
                        "'{hex}' is not a SHA-256: {} characters, expected 64 hexadecimal digits",
                        hex.len()
                    )
                }),
                None => Err(format!("'{other}' is none of required, sha256:HEX and off")),
            },
        }
    }
}

impl Overlay {
    /// Reads the value of `lifeboot.overlay=`.
    ///
    /// # Errors
    /// What was expected, naming the value.
    pub fn parse(value: &str) -> Result<Overlay, String> {
        match value {
            "none" => Ok(Overlay::None),
            "tmpfs" => Ok(Overlay::default()),
            other => match other.strip_prefix("tmpfs:") {
                Some(size) if is_size(size) => Ok(Overlay::Tmpfs(size.to_owned())),
                Some(size) => Err(format!("'{size}' is not a tmpfs size such as 512M or 50%")),
                None => BlockId::parse(other)
                    .map(Overlay::Device)
                    .ok_or_else(|| format!("'{other}' is none of tmpfs[:SIZE], a device and none")),
            },
        }
    }
}

fn is_size(text: &str) -> bool {
    let digits = text.trim_end_matches(['k', 'K', 'm', 'M', 'g', 'G', '%']);
    text.len() - digits.len() <= 1 && digits.parse::<u64>().is_ok_and(|n| n > 0)
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Http(url) => write!(f, "{url}"),
            Source::Local(id) => write!(f, "{id}"),
        }
    }
}

impl fmt::Display for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BlockId::Uuid(name) => write!(f, "UUID={name}"),
            BlockId::Label(name) => write!(f, "LABEL={name}"),
            BlockId::PartUuid(name) => write!(f, "PARTUUID={name}"),
            BlockId::PartLabel(name) => write!(f, "PARTLABEL={name}"),
            BlockId::Path(path) => f.write_str(path),
        }
    }
}

mod hex32 {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn parse(hex: &str) -> Option<[u8; 32]> {
        let mut out = [0; 32];
        if hex.len() != 64 || !hex.is_ascii() {
            return None;
        }
        for (index, byte) in out.iter_mut().enumerate() {
            let pair = hex
                .get(2 * index..2 * index + 2)
                .filter(|pair| pair.bytes().all(|b| b.is_ascii_hexdigit()))?;
            *byte = u8::from_str_radix(pair, 16).ok()?;
        }
        Some(out)
    }

    pub fn serialize<S: Serializer>(digest: &[u8; 32], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(
            &digest
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect::<String>(),
        )
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<[u8; 32], D::Error> {
        let text = String::deserialize(from)?;
        parse(&text).ok_or_else(|| D::Error::custom("expected 64 hexadecimal digits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_read_back_as_they_print() {
        for value in [
            "http://h/a.squashfs",
            "https://h/{serial}",
            "UUID=1-2",
            "LABEL=root fs",
            "PARTUUID=a",
            "PARTLABEL=b",
            "/dev/vda1",
        ] {
            assert_eq!(Source::parse(value).unwrap().to_string(), value);
        }
        assert_eq!(
            Source::parse("live:http://h/a").unwrap(),
            Source::parse("http://h/a").unwrap()
        );
        for bad in [
            "",
            "nfs",
            "UUID=",
            "/dev/",
            "/dev/../etc/passwd",
            "ftp://x",
            "http://h/{nmae}",
        ] {
            assert!(Source::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_digest_one_digit_short_is_refused_with_the_number() {
        let good = "ab".repeat(32);
        let verify = Verify::parse(&format!("sha256:{good}")).unwrap();
        assert_eq!(
            serde_json::from_str::<Verify>(&serde_json::to_string(&verify).unwrap()).unwrap(),
            verify
        );
        assert!(
            Verify::parse(&format!("sha256:{}", &good[1..]))
                .unwrap_err()
                .contains("63 characters")
        );
        assert!(Verify::parse(&format!("sha256:+{}", &good[1..])).is_err());
        assert!(Verify::parse("Off").is_err());
    }

    #[test]
    fn overlays() {
        assert_eq!(Overlay::parse("tmpfs").unwrap(), Overlay::Tmpfs("50%".into()));
        assert_eq!(
            Overlay::parse("tmpfs:512M").unwrap(),
            Overlay::Tmpfs("512M".into())
        );
        assert!(matches!(Overlay::parse("LABEL=rw").unwrap(), Overlay::Device(_)));
        for bad in ["tmpfs:", "tmpfs:0", "tmpfs:1MM", "tmpfs:1M,mode=0", "ram"] {
            assert!(Overlay::parse(bad).is_err(), "{bad}");
        }
    }
}
