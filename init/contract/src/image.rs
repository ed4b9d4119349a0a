//! What an image says about itself, and where its parts lie.

use serde::{Deserialize, Serialize};

/// Path of [`ImageInfo`] in the image, as JSON.
pub const IMAGE_INFO: &str = "/etc/lifeboot/image.json";
/// Path of the baked boot parameters, see [`crate::config`].
pub const CONFIG: &str = "/etc/lifeboot/config.toml";
/// Path of the authorized keys, OpenSSH format.
pub const AUTHORIZED_KEYS: &str = "/etc/lifeboot/authorized_keys";
/// Path of the keys that may log in as `unlock` alone.
pub const UNLOCK_KEYS: &str = "/etc/lifeboot/authorized_keys.unlock";
/// Path of the keys that may log in as `status` alone.
pub const STATUS_KEYS: &str = "/etc/lifeboot/authorized_keys.status";
/// Path of the public keys of the authorities whose ssh certificates let people in.
pub const USER_AUTHORITIES: &str = "/etc/lifeboot/user_ca";
/// Directory of the minisign public keys (`*.pub`) that may sign an OS image.
pub const TRUSTED_KEYS: &str = "/etc/lifeboot/trusted";
/// Path of the listing: a line `TYPE MODE SIZE PATH` for each entry of the archive, in archive order.
pub const LISTING: &str = "/etc/lifeboot/listing";
/// Path of the sentinel, the last entry of the archive: SHA-256 of the listing in lower-case hex and a newline.
pub const SENTINEL: &str = "/lifeboot.sentinel";
/// Directory of what the running system keeps about itself.
pub const RUN: &str = "/run/lifeboot";
/// The plan, as JSON, written once by PID 1.
pub const PLAN: &str = "/run/lifeboot/plan.json";
/// The control socket of PID 1, see [`crate::control`].
pub const CONTROL: &str = "/run/lifeboot/control";

/// What an image says about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageInfo {
    /// Name given by the recipe, `lifeboot` by default.
    pub name: String,
    /// Version of lifeboot that built it.
    pub version: String,
    /// Board file it was built for.
    pub board: String,
    /// `aarch64` or `x86_64`.
    pub arch: String,
    /// Release of the kernel the modules belong to, as `uname -r` prints it.
    pub kernel: String,
    /// Seconds since 1970 (UTC): the clock is never set earlier than this.
    pub build_time: u64,
    /// Feature sets chosen.
    pub features: Vec<String>,
}

/// One line of the listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListingEntry {
    /// `f`, `d`, `l`, `c`, `b` or `p`.
    pub kind: char,
    /// Permission bits.
    pub mode: u32,
    /// Length in bytes of a regular file, else 0.
    pub size: u64,
    /// Path without a leading slash.
    pub path: String,
}

/// A listing line that is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("listing line {line}: expected TYPE MODE SIZE PATH, got '{text}'")]
pub struct BadListing {
    line: usize,
    text: String,
}

/// Reads a listing.
///
/// # Errors
/// The first line that is not `TYPE MODE SIZE PATH`, by number.
pub fn parse_listing(text: &str) -> Result<Vec<ListingEntry>, BadListing> {
    text.lines()
        .enumerate()
        .map(|(index, line)| {
            entry(line).ok_or_else(|| BadListing {
                line: index + 1,
                text: line.to_owned(),
            })
        })
        .collect()
}

/// Writes a listing, the form [`parse_listing`] reads.
pub fn write_listing(entries: &[ListingEntry]) -> String {
    entries
        .iter()
        .map(|e| format!("{} {:o} {} {}\n", e.kind, e.mode, e.size, e.path))
        .collect()
}

fn entry(line: &str) -> Option<ListingEntry> {
    let mut parts = line.splitn(4, ' ');
    let kind = parts.next()?;
    let mode = u32::from_str_radix(parts.next()?, 8).ok()?;
    let size = parts.next()?.parse().ok()?;
    let path = parts.next().filter(|path| !path.is_empty())?.to_owned();
    let mut letters = kind.chars();
    let kind = letters.next().filter(|k| "fdlcbp".contains(*k))?;
    letters.next().is_none().then_some(ListingEntry {
        kind,
        mode,
        size,
        path,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_reads_back() {
        let entries = vec![
            ListingEntry {
                kind: 'f',
                mode: 0o755,
                size: 123,
                path: "init".into(),
            },
            ListingEntry {
                kind: 'd',
                mode: 0o755,
                size: 0,
                path: "a b/c".into(),
            },
        ];
        assert_eq!(parse_listing(&write_listing(&entries)).unwrap(), entries);
    }

    #[test]
    fn a_bad_line_is_named_by_number() {
        let error = parse_listing("f 755 1 init\nx 755 1 y\n").unwrap_err();
        assert_eq!(
            error.to_string(),
            "listing line 2: expected TYPE MODE SIZE PATH, got 'x 755 1 y'"
        );
        for line in ["f 9 1 a", "f 755 -1 a", "f 755 1", "f 755 1 ", "ff 755 1 a"] {
            assert!(parse_listing(line).is_err(), "{line}");
        }
    }
}
