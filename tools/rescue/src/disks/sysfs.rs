//! What the kernel's drivers tell of a device without anybody touching the device.

use lifeboot_init::block::names;
use rustix::fs::{FileType, major, minor, stat};
use std::fs;
use std::path::{Path, PathBuf};

/// Where drivers put the name of the maker: NVMe and SCSI, MMC.
pub const MODEL: [&str; 2] = ["device/model", "device/name"];
/// Where they put the serial number: virtio and NVMe, MMC, SCSI.
pub const SERIAL: [&str; 3] = ["serial", "device/serial", "device/vpd_pg80"];

/// The kernel's directory of a device.
pub fn dir(device: &str) -> PathBuf {
    Path::new("/sys/class/block").join(name(device))
}

/// By which the kernel knows a device: `dm-0` what people know as `/dev/mapper/root`, be that a link or a node of its own.
pub fn name(device: &str) -> String {
    let number = stat(device)
        .ok()
        .filter(|found| FileType::from_raw_mode(found.st_mode) == FileType::BlockDevice)
        .map(|found| format!("/sys/dev/block/{}:{}", major(found.st_rdev), minor(found.st_rdev)));
    let real = number.and_then(|link| fs::canonicalize(link).ok());
    let real = real.or_else(|| fs::canonicalize(device).ok());
    let path = real.as_deref().unwrap_or(Path::new(device));
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
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
    names(dir).iter().map(|name| format!("/dev/{name}")).collect()
}
