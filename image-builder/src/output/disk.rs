//! `--disk`: an image for an SD card or a USB disk, so that a Pi can be tried without a server. A master boot record, a FAT partition
//! the boot loader starts from, and a small one with what this machine does not share with others.

mod keys;

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use lifeboot_contract::config::Config;
use lifeboot_contract::{image, key_partition};
use sha2::{Digest, Sha256};

use super::Built;
use super::boot_files::{CMDLINE, Files, Options};
use crate::fat::{Kind, SECTOR, Size, Volume};

/// Sectors in a MiB.
const MIB: u32 = 2048;
/// Where the boot partition begins: 4 MiB, as on Raspberry Pi OS cards, a multiple of every card's own blocks.
const START: u32 = 4 * MIB;
/// The boot partition at least: room for a second kernel, and enough clusters for FAT32, which every boot ROM reads.
const BOOT: u32 = 128 * MIB;
/// The key partition: the smallest that FAT16 has a sound number of clusters in, and then some.
const KEYS: u32 = 16 * MIB;
/// Partition types: FAT32 and FAT16, both by block address.
const FAT32: u8 = 0x0c;
const FAT16: u8 = 0x0e;

/// What the two partitions hold.
#[derive(Debug)]
pub struct Disk {
    boot: Files,
    keys: Files,
    time: u64,
}

impl Disk {
    /// Collects it; a file of the key partition that the device would not read is refused.
    pub fn new(built: &Built, files: &Files, options: &Options) -> Result<Self> {
        if let Some(path) = options
            .disk
            .as_deref()
            .filter(|path| path.exists() && !path.is_file())
        {
            bail!(
                "--disk {}: not a regular file; write the image first, then copy it",
                path.display()
            );
        }
        let keys = match &options.key_partition {
            Some(directory) => keys::read(directory, &baked(built)?)?,
            None => Vec::new(),
        };
        let mut boot = files.clone();
        let own = options.words.as_deref().unwrap_or_default();
        if !own.contains("lifeboot.key-partition=")
            && let Some((_, line)) = boot.iter_mut().find(|(name, _)| name == CMDLINE)
        {
            // Only this medium's own command line says it: whoever holds the card holds the machine.
            let word = format!(" lifeboot.key-partition=LABEL={}\n", key_partition::LABEL);
            line.truncate(line.trim_ascii_end().len());
            line.extend(
                word.trim_start_matches(if line.is_empty() { " " } else { "" })
                    .as_bytes(),
            );
        }
        Ok(Self {
            boot,
            keys,
            time: built.info.build_time,
        })
    }

    /// Writes the image beside its place and moves it there; it stays sparse.
    pub fn write(&self, path: &Path) -> Result<()> {
        let about = || path.display().to_string();
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        fs::create_dir_all(directory).with_context(about)?;
        let fresh = tempfile::NamedTempFile::new_in(directory).with_context(about)?;
        self.fill(fresh.as_file()).with_context(about)?;
        // With a private key on it, it is nobody else's to read.
        let mode = if self.keys.is_empty() { 0o644 } else { 0o600 };
        fs::set_permissions(fresh.path(), fs::Permissions::from_mode(mode)).with_context(about)?;
        fresh.persist(path).with_context(about)?;
        println!(
            "{}: {} bytes, for a card or a USB disk",
            path.display(),
            self.sectors() as usize * SECTOR
        );
        Ok(())
    }

    /// Sectors of the boot partition: what it needs with as much left free.
    fn boot_sectors(&self) -> u32 {
        let used: usize = self
            .boot
            .iter()
            .map(|(_, data)| data.len().next_multiple_of(4096))
            .sum();
        let wanted = u32::try_from(used * 2 / SECTOR).unwrap_or(u32::MAX / 4);
        wanted.next_multiple_of(4 * MIB).max(BOOT)
    }

    fn sectors(&self) -> u32 {
        START + self.boot_sectors() + KEYS
    }

    fn fill(&self, file: &File) -> Result<()> {
        file.set_len(u64::from(self.sectors()) * SECTOR as u64)?;
        let boot = Size::Partition {
            kind: Kind::Fat32,
            start: START,
            sectors: self.boot_sectors(),
        };
        let keys = Size::Partition {
            kind: Kind::Fat16,
            start: START + self.boot_sectors(),
            sectors: KEYS,
        };
        for (label, files, size) in [
            ("BOOT", &self.boot, boot),
            (key_partition::LABEL, &self.keys, keys),
        ] {
            let Size::Partition { start, .. } = size else {
                continue;
            };
            let volume = Volume {
                label,
                time: self.time,
                files,
                size,
            };
            volume.write()?.write_to(file, u64::from(start) * SECTOR as u64)?;
        }
        std::os::unix::fs::FileExt::write_all_at(file, &self.boot_record(), 0)?;
        Ok(())
    }

    /// The master boot record: no program, a number by which the kernel names the partitions, two entries.
    fn boot_record(&self) -> Vec<u8> {
        let mut hash = Sha256::new();
        for (path, data) in self.boot.iter().chain(&self.keys) {
            hash.update(path);
            hash.update(data);
        }
        let number: Vec<u8> = hash.finalize().iter().copied().take(4).collect();
        let mut record = vec![0; 440];
        record.extend(number);
        record.extend([0, 0]);
        for (kind, start, sectors) in [
            (FAT32, START, self.boot_sectors()),
            (FAT16, START + self.boot_sectors(), KEYS),
        ] {
            // Addresses by cylinder are the largest there are: nothing reads them.
            record.extend([0, 0xfe, 0xff, 0xff, kind, 0xfe, 0xff, 0xff]);
            record.extend(start.to_le_bytes());
            record.extend(sectors.to_le_bytes());
        }
        record.resize(SECTOR - 2, 0);
        record.extend([0x55, 0xaa]);
        record
    }
}

/// The boot parameters in the image, which decide what a key partition may say.
fn baked(built: &Built) -> Result<Config> {
    let path = image::CONFIG.trim_start_matches('/');
    let item = built.archive.items().iter().find(|item| item.path == path);
    let text = item.map_or(Default::default(), |item| String::from_utf8_lossy(&item.data));
    Config::parse(&text).with_context(|| image::CONFIG.to_owned())
}
