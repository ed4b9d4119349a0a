//! `--disk`: an image for an SD card or a USB disk, so that a Pi can be tried without a server. A master boot record, a FAT partition
//! the boot loader starts from, and a small one with what this machine does not share with others.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use lifeboot_contract::authorized::List;
use lifeboot_contract::config::Config;
use lifeboot_contract::key_partition;
use lifeboot_contract::plan::Plan;
use sha2::{Digest, Sha256};

use super::Built;
use super::boot_files::{CMDLINE, Files, Options};
use crate::fat::{Kind, SECTOR, Size, Volume};
use crate::public;

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
            Some(directory) => read_keys(directory)?,
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

/// The files a device reads, by the names it knows, each looked at as far as a mix-up shows.
fn read_keys(directory: &Path) -> Result<Files> {
    let about = || directory.display().to_string();
    let mut files = Vec::new();
    let mut names: Vec<String> = Vec::new();
    for entry in fs::read_dir(directory).with_context(about)? {
        names.push(
            entry
                .with_context(about)?
                .file_name()
                .to_string_lossy()
                .into_owned(),
        );
    }
    names.sort();
    for name in names {
        let path = directory.join(&name);
        if !key_partition::FILES.contains(&name.as_str()) {
            bail!(
                "{}: a device reads {} and nothing else",
                path.display(),
                key_partition::FILES.join(" ")
            );
        }
        let bytes = if name == key_partition::AUTHORIZED_KEYS {
            public::key_lines(&path, List::Root)?.0.into_bytes()
        } else {
            fs::read(&path).with_context(|| path.display().to_string())?
        };
        ensure!(
            bytes.len() as u64 <= key_partition::LONGEST,
            "{}: {} bytes, a device reads {}",
            path.display(),
            bytes.len(),
            key_partition::LONGEST
        );
        check_key_file(&name, &bytes).with_context(|| path.display().to_string())?;
        files.push((name, bytes));
    }
    Ok(files)
}

fn check_key_file(name: &str, bytes: &[u8]) -> Result<()> {
    let text = std::str::from_utf8(bytes).context("not UTF-8")?;
    if name == key_partition::HOST_KEY {
        ensure!(
            text.starts_with("-----BEGIN OPENSSH PRIVATE KEY-----"),
            "not an OpenSSH private key"
        );
    }
    if name == key_partition::CONFIG {
        let plan = Plan::make("", &Config::parse(text)?, Default::default(), "");
        if let Some(refusal) = plan.refusal {
            bail!("{refusal}");
        }
        if let Some(note) = plan.notes.first() {
            bail!("{}: {}", note.key, note.what);
        }
    }
    Ok(())
}
