//! What the kernel's drivers tell of a device without anybody touching the device.

use std::fs;
use std::path::{Path, PathBuf};

/// Where drivers put the name of the maker: NVMe and SCSI, MMC.
pub const MODEL: [&str; 2] = ["device/model", "device/name"];
/// Where they put the serial number: virtio and NVMe, MMC, SCSI.
pub const SERIAL: [&str; 3] = ["serial", "device/serial", "device/vpd_pg80"];

/// The kernel's directory of a device.
pub fn dir(device: &str) -> PathBuf {
    let real = fs::canonicalize(device).unwrap_or_else(|_| PathBuf::from(device));
    Path::new("/sys/class/block").join(real.file_name().unwrap_or_default())
}

/// The first of `places` below `dir` that says something.
pub fn told(dir: &Path, places: &[&str]) -> Option<String> {
    places.iter().find_map(|place| word(&dir.join(place)))
}

/// A text of sysfs, without the header that SCSI's pages have.
pub fn word(path: &Path) -> Option<String> {
    let bytes = fs::read(path).ok()?;
    let bytes = match path.ends_with("vpd_pg80") {
        true => bytes.get(4..)?,
        false => &bytes,
    };
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim_matches(|c: char| c.is_whitespace() || c.is_control());
    (!text.is_empty()).then(|| text.to_owned())
}

/// A number of sysfs, decimal or with `0x`.
pub fn number(path: &Path) -> Option<u64> {
    let text = word(path)?;
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

/// The devices whose names are in a directory, as paths, in order.
pub fn devices(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .map(|entry| format!("/dev/{}", entry.file_name().to_string_lossy()))
        .collect();
    names.sort();
    names
}
