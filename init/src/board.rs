//! What the board tells about itself without being asked through the mailbox: the device tree the firmware left, and nvmem.
//!
//! Every path is below a root, `/` on the device; tests put a tree of files there. Sources: Raspberry Pi's documentation of the properties in
//! `/chosen/bootloader`, and of the bootloader's configuration in nvmem (alias `blconfig`). **Never seen on hardware.**

use lifeboot_contract::firmware::boot_order::{Mode, of_digit};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const TREE: &str = "proc/device-tree";
/// The bootloader's configuration is far below this; whatever else has the name is not read to its end.
const MOST_CONFIG: usize = 64 * 1024;

/// A machine's own account of itself.
#[derive(Debug, Clone)]
pub struct Board {
    root: PathBuf,
}

impl Board {
    /// The board below `root`.
    pub fn below(root: &Path) -> Board {
        Board {
            root: root.to_owned(),
        }
    }

    /// A file of the machine: `proc/…`, `sys/…`.
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// The text of a file, trimmed; `None` where there is none or nothing in it.
    pub fn file(&self, path: &str) -> Option<String> {
        let bytes = fs::read(self.path(path)).ok()?;
        let text = String::from_utf8_lossy(&bytes).trim().to_owned();
        (!text.is_empty()).then_some(text)
    }

    /// The bytes of a property of the device tree.
    pub fn property(&self, path: &str) -> Option<Vec<u8>> {
        fs::read(self.path(TREE).join(path)).ok()
    }

    /// A property that is text; several strings are joined by blanks.
    pub fn text(&self, path: &str) -> Option<String> {
        let bytes = self.property(path)?;
        let text = String::from_utf8_lossy(&bytes);
        let text = text.trim_end_matches('\0').replace('\0', " ").trim().to_owned();
        (!text.is_empty()).then_some(text)
    }

    /// A property that is one 32-bit number.
    pub fn number(&self, path: &str) -> Option<u32> {
        self.property(path)?.try_into().ok().map(u32::from_be_bytes)
    }

    /// Whether the firmware is a Raspberry Pi's.
    pub fn is_raspberry_pi(&self) -> bool {
        self.text("compatible")
            .is_some_and(|text| text.split(' ').any(|name| name.starts_with("raspberrypi,")))
    }

    /// Whether its chip is that of a Raspberry Pi 5.
    pub fn is_bcm2712(&self) -> bool {
        self.text("compatible")
            .is_some_and(|text| text.split(' ').any(|name| name == "brcm,bcm2712"))
    }

    /// How the bootloader came by what runs now.
    pub fn boot_mode(&self) -> Option<Mode> {
        let digit = self.number("chosen/bootloader/boot-mode")?;
        u8::try_from(digit)
            .ok()
            .filter(|digit| *digit <= 0xf)
            .map(of_digit)
    }

    /// The bootloader's configuration.
    ///
    /// # Errors
    /// NotFound where the device tree names none, or the kernel has no driver (`nvmem-rmem`) for it.
    pub fn bootloader_config(&self) -> io::Result<String> {
        self.nvmem("blconfig")
            .map(|bytes| String::from_utf8_lossy(&bytes).trim_end_matches('\0').to_owned())
    }

    /// The public key that images from HTTP and, with secure boot, all images must be signed by; empty where there is none.
    ///
    /// # Errors
    /// As [`Board::bootloader_config`].
    pub fn bootloader_key(&self) -> io::Result<Vec<u8>> {
        let bytes = self.nvmem("blpubkey")?;
        Ok(if bytes.iter().all(|byte| *byte == 0) {
            Vec::new()
        } else {
            bytes
        })
    }

    fn nvmem(&self, alias: &str) -> io::Result<Vec<u8>> {
        let absent = |what: &str| io::Error::new(io::ErrorKind::NotFound, what.to_owned());
        let node = self
            .text(&format!("aliases/{alias}"))
            .ok_or_else(|| absent(&format!("the device tree has no alias {alias}")))?;
        let name = node.rsplit('/').next().unwrap_or_default();
        let name = name.split('@').next().unwrap_or_default();
        let devices = fs::read_dir(self.path("sys/bus/nvmem/devices"))
            .map_err(|error| io::Error::new(error.kind(), format!("/sys/bus/nvmem/devices: {error}")))?;
        let device = devices.flatten().find(|entry| self.is_device(entry, &node, name));
        let device = device.ok_or_else(|| {
            absent(&format!(
                "no nvmem device for {node}: is the module nvmem-rmem loaded?"
            ))
        })?;
        let mut bytes = fs::read(device.path().join("nvmem"))?;
        bytes.truncate(MOST_CONFIG);
        Ok(bytes)
    }

    /// By the device tree's node where sysfs tells it, else by the name, which the kernel makes of the node's.
    fn is_device(&self, entry: &fs::DirEntry, node: &str, name: &str) -> bool {
        match fs::canonicalize(entry.path().join("of_node")) {
            Ok(path) => path.ends_with(node.trim_start_matches('/')),
            Err(_) => !name.is_empty() && entry.file_name().to_string_lossy().starts_with(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, bytes) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        dir
    }

    #[test]
    fn the_bootloaders_configuration_is_found_by_its_alias() {
        let dir = tree(&[
            (
                "proc/device-tree/aliases/blconfig",
                b"/reserved-memory/nvram@3ef65a00\0",
            ),
            (
                "proc/device-tree/aliases/blpubkey",
                b"/reserved-memory/pubkey@1\0",
            ),
            (
                "proc/device-tree/compatible",
                b"raspberrypi,4-model-b\0brcm,bcm2711\0",
            ),
            ("proc/device-tree/chosen/bootloader/boot-mode", &[0, 0, 0, 7]),
            ("sys/bus/nvmem/devices/other0/nvmem", b"no"),
            (
                "sys/bus/nvmem/devices/nvram0/nvmem",
                b"[all]\nBOOT_ORDER=0xf41\n\0\0",
            ),
            ("sys/bus/nvmem/devices/pubkey0/nvmem", &[0; 264]),
        ]);
        let board = Board::below(dir.path());
        assert_eq!(board.bootloader_config().unwrap(), "[all]\nBOOT_ORDER=0xf41\n");
        assert_eq!(board.bootloader_key().unwrap(), b"");
        assert!(board.is_raspberry_pi() && !board.is_bcm2712());
        assert_eq!(board.boot_mode().unwrap().name, "http");
    }

    #[test]
    fn another_machine_has_none_of_it_and_says_why() {
        let dir = tree(&[("proc/device-tree/chosen/bootloader/boot-mode", &[0, 0, 0])]);
        let board = Board::below(dir.path());
        let error = board.bootloader_config().unwrap_err();
        assert_eq!(error.to_string(), "the device tree has no alias blconfig");
        assert!(!board.is_raspberry_pi() && board.boot_mode().is_none());
        let dir = tree(&[("proc/device-tree/aliases/blconfig", b"/nvram@1\0")]);
        assert!(Board::below(dir.path()).bootloader_config().is_err());
    }
}
