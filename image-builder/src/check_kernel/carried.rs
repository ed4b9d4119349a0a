//! The modules that an image carries.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::archive::Archive;
use crate::compress::Compression;
use crate::cpio;
use crate::modules::Chosen;

/// Names and aliases of modules.
#[derive(Debug, Default)]
pub struct Carried {
    /// With underscores.
    pub names: BTreeSet<String>,
    /// The lines of `modules.alias`.
    pub aliases: String,
    /// `modules.builtin.modinfo`, where it is there.
    pub built_in: Vec<u8>,
}

impl Carried {
    /// Of modules that are about to be packed.
    pub fn chosen(chosen: &Chosen) -> Self {
        Self {
            names: chosen.iter().map(|module| module.name.clone()).collect(),
            aliases: chosen.alias(),
            built_in: Vec::new(),
        }
    }

    /// Of an archive that is composed.
    pub fn archive(archive: &Archive) -> Self {
        let mut carried = Self::default();
        for item in archive.items() {
            carried.take(&item.path, &item.data);
        }
        carried
    }

    /// Of an initramfs, or of a directory of modules.
    pub fn open(path: &Path) -> Result<Self> {
        let mut carried = Self::default();
        if path.is_dir() {
            carried.walk(path)?;
        } else {
            let bytes = fs::read(path).with_context(|| path.display().to_string())?;
            let unpacked = match Compression::of(&bytes) {
                Some(compression) => compression.unpack(&bytes),
                None => Ok(bytes),
            };
            let unpacked = unpacked.with_context(|| path.display().to_string())?;
            let entries = cpio::read(&unpacked).with_context(|| path.display().to_string())?;
            for entry in entries {
                carried.take(&entry.path, entry.data);
            }
        }
        if carried.names.is_empty() {
            bail!("{}: no modules in it", path.display());
        }
        Ok(carried)
    }

    fn walk(&mut self, directory: &Path) -> Result<()> {
        for entry in fs::read_dir(directory).with_context(|| directory.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() && !path.is_symlink() {
                self.walk(&path)?;
                continue;
            }
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            let index = ["modules.alias", "modules.builtin.modinfo"].contains(&name.as_str());
            let bytes = if index {
                fs::read(&path).with_context(|| path.display().to_string())?
            } else {
                Vec::new()
            };
            self.take(&name, &bytes);
        }
        Ok(())
    }

    fn take(&mut self, path: &str, bytes: &[u8]) {
        let name = path.rsplit('/').next().unwrap_or_default();
        match name.split_once(".ko") {
            Some((name, "" | ".xz" | ".zst" | ".gz")) => {
                self.names.insert(name.replace('-', "_"));
            }
            _ if name == "modules.alias" => self.aliases = String::from_utf8_lossy(bytes).into_owned(),
            _ if name == "modules.builtin.modinfo" => self.built_in = bytes.to_vec(),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_of_modules_is_read() {
        let directory = tempfile::tempdir().unwrap();
        assert!(Carried::open(directory.path()).is_err());
        let fs_directory = directory.path().join("kernel/fs");
        fs::create_dir_all(&fs_directory).unwrap();
        fs::write(fs_directory.join("a-b.ko.xz"), "").unwrap();
        fs::write(directory.path().join("modules.alias"), "alias x a_b\n").unwrap();
        let carried = Carried::open(directory.path()).unwrap();
        assert!(carried.names.contains("a_b"));
        assert_eq!(carried.aliases, "alias x a_b\n");
    }

    #[test]
    fn a_file_that_is_no_archive_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "not an archive").unwrap();
        assert!(Carried::open(file.path()).is_err());
    }
}
