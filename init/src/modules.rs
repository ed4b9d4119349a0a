//! Kernel modules: `modules.dep`, `modules.alias`, `modules.softdep` and finit_module(2).
//!
//! The same code serves the pipeline, which loads what the hardware's modaliases name, and the kernel, which runs
//! `/sbin/modprobe -q -- NAME` whenever it misses a file system, a cipher or a device-mapper target. Formats: depmod(8), modules.dep(5).

use crate::report::unheeded;
use rustix::io::Errno;
use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

mod modprobe;
mod pattern;

pub use modprobe::modprobe;
use pattern::matches;

/// The flag by which the kernel decompresses a module itself (MODULE_INIT_COMPRESSED_FILE, include/uapi/linux/module.h).
const COMPRESSED_FILE: i32 = 4;

/// The module index of one kernel.
#[derive(Debug, Default)]
pub struct Modules {
    dir: PathBuf,
    files: HashMap<String, (String, Vec<String>)>,
    aliases: Vec<(String, String)>,
    soft: HashMap<String, Soft>,
    builtin: HashSet<String>,
}

#[derive(Debug, Default, Clone)]
struct Soft {
    pre: Vec<String>,
    post: Vec<String>,
}

/// Why a module was not loaded.
#[derive(Debug, thiserror::Error)]
pub enum ModuleError {
    /// Neither a module, nor an alias, nor built in.
    #[error("module {0} is not in this image")]
    Unknown(String),
    /// Could not read or decompress it.
    #[error("module {name}")]
    Read {
        /// The module.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// The kernel refused it.
    #[error("module {name}")]
    Insert {
        /// The module.
        name: String,
        /// Why.
        source: Errno,
    },
}

impl Modules {
    /// Reads the index of the running kernel.
    pub fn of_running_kernel() -> Modules {
        let release = rustix::system::uname().release().to_string_lossy().into_owned();
        Modules::load(&Path::new("/usr/lib/modules").join(release))
    }

    /// Reads the index below `dir`; a file that is not there counts as empty.
    pub fn load(dir: &Path) -> Modules {
        let read = |name: &str| fs::read_to_string(dir.join(name)).unwrap_or_default();
        let mut modules = Modules {
            dir: dir.to_owned(),
            ..Modules::default()
        };
        modules.read_dep(&read("modules.dep"));
        modules.read_alias(&read("modules.alias"));
        modules.read_softdep(&read("modules.softdep"));
        modules.builtin = read("modules.builtin").lines().map(name_of).collect();
        modules
    }

    /// Whether the image carries any module.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// The modules that a name or a modalias stands for; empty where none or where it is built in.
    pub fn resolve(&self, name: &str) -> Vec<String> {
        let plain = normal(name);
        if self.files.contains_key(&plain) {
            return vec![plain];
        }
        let mut found: Vec<String> = Vec::new();
        for (_, module) in self
            .aliases
            .iter()
            .filter(|(pattern, _)| matches(pattern, name) || *pattern == plain)
        {
            if !found.contains(module) {
                found.push(module.clone());
            }
        }
        found
    }

    /// Whether a module of that name is part of the kernel itself.
    pub fn is_builtin(&self, name: &str) -> bool {
        self.builtin.contains(&normal(name))
    }

    /// Loads a module, its dependencies and its soft dependencies; returns what was newly loaded.
    ///
    /// # Errors
    /// An unknown name, a file that cannot be read, or the kernel's refusal.
    pub fn insert(&self, name: &str) -> Result<Vec<String>, ModuleError> {
        let found = self.resolve(name);
        if found.is_empty() && !self.is_builtin(name) {
            return Err(ModuleError::Unknown(name.to_owned()));
        }
        let mut loaded = Vec::new();
        let mut seen = HashSet::new();
        for module in found {
            self.insert_one(&module, "", &mut seen, &mut loaded)?;
        }
        Ok(loaded)
    }

    fn insert_one(
        &self,
        module: &str,
        options: &str,
        seen: &mut HashSet<String>,
        loaded: &mut Vec<String>,
    ) -> Result<(), ModuleError> {
        if !seen.insert(module.to_owned()) || is_live(module) {
            return Ok(());
        }
        let Some((path, needs)) = self.files.get(module) else {
            return Ok(());
        };
        let soft = self.soft.get(module).cloned().unwrap_or_default();
        self.insert_soft(&soft.pre, seen, loaded);
        // modules.dep lists the direct needs first; the last one needs nothing.
        for need in needs.iter().rev() {
            self.insert_one(need, "", seen, loaded)?;
        }
        if self.insert_file(module, path, options)? {
            loaded.push(module.to_owned());
        }
        self.insert_soft(&soft.post, seen, loaded);
        Ok(())
    }

    /// Soft dependencies are wishes: one that is missing or refused is not an error.
    fn insert_soft(&self, names: &[String], seen: &mut HashSet<String>, loaded: &mut Vec<String>) {
        for name in names {
            for module in self.resolve(name) {
                unheeded(name, self.insert_one(&module, "", seen, loaded));
            }
        }
    }

    fn insert_file(&self, module: &str, path: &str, options: &str) -> Result<bool, ModuleError> {
        let read = |source| ModuleError::Read {
            name: module.to_owned(),
            source,
        };
        let file = File::open(self.dir.join(path)).map_err(read)?;
        let flags = if path.ends_with(".ko") { 0 } else { COMPRESSED_FILE };
        let options = std::ffi::CString::new(options).unwrap_or_default();
        let outcome = match rustix::system::finit_module(&file, &options, flags) {
            // A kernel that cannot decompress this says one of these; then it is done here.
            Err(Errno::OPNOTSUPP | Errno::INVAL | Errno::NOEXEC | Errno::NOSYS) if flags != 0 => {
                let image = decompress(path, file).map_err(read)?;
                rustix::system::init_module(&image, &options)
            }
            outcome => outcome,
        };
        match outcome {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(source) => Err(ModuleError::Insert {
                name: module.to_owned(),
                source,
            }),
        }
    }

    fn read_dep(&mut self, text: &str) {
        for line in text.lines() {
            let Some((path, needs)) = line.split_once(':') else {
                continue;
            };
            let needs = needs.split_whitespace().map(name_of).collect();
            self.files.insert(name_of(path), (path.to_owned(), needs));
        }
    }

    fn read_alias(&mut self, text: &str) {
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let mut words = line.split_whitespace();
            if let (Some("alias"), Some(pattern), Some(module)) = (words.next(), words.next(), words.next()) {
                self.aliases.push((pattern.to_owned(), normal(module)));
            }
        }
    }

    fn read_softdep(&mut self, text: &str) {
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let mut words = line.split_whitespace();
            let (Some("softdep"), Some(module)) = (words.next(), words.next()) else {
                continue;
            };
            let soft = self.soft.entry(normal(module)).or_default();
            let mut pre = true;
            for word in words {
                match word {
                    "pre:" => pre = true,
                    "post:" => pre = false,
                    name if pre => soft.pre.push(name.to_owned()),
                    name => soft.post.push(name.to_owned()),
                }
            }
        }
    }
}

fn is_live(module: &str) -> bool {
    fs::read_to_string(format!("/sys/module/{module}/initstate")).is_ok_and(|state| state.trim() == "live")
}

fn name_of(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    normal(file.split_once(".ko").map_or(file, |(name, _)| name))
}

fn normal(name: &str) -> String {
    name.replace('-', "_")
}

fn decompress(path: &str, file: File) -> io::Result<Vec<u8>> {
    let mut image = Vec::new();
    match path.rsplit('.').next() {
        Some("xz") => lzma_rust2::XzReader::new(file, true).read_to_end(&mut image)?,
        Some("zst") => {
            let mut reader = zstd::stream::read::Decoder::new(file)?;
            reader.read_to_end(&mut image)?
        }
        _ => {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                format!("{path}: only .ko, .ko.xz and .ko.zst are understood"),
            ));
        }
    };
    Ok(image)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index() -> Modules {
        let mut modules = Modules::default();
        modules.read_dep("kernel/fs/ext4/ext4.ko.xz: kernel/fs/jbd2/jbd2.ko.xz kernel/fs/mbcache.ko.xz\nkernel/fs/jbd2/jbd2.ko.xz:\n");
        modules.read_alias("# x\nalias fs-ext4 ext4\nalias pci:v00001AF4d*sv*sd*bc*sc*i* virtio_pci\nalias crypto-crc32c crc32c-generic\n");
        modules.read_softdep("softdep ext4 pre: crc32c post: nothing\n");
        modules
    }

    #[test]
    fn names_aliases_and_modaliases_resolve() {
        let modules = index();
        assert_eq!(modules.resolve("ext4"), ["ext4"]);
        assert_eq!(modules.resolve("fs-ext4"), ["ext4"]);
        assert_eq!(
            modules.resolve("pci:v00001AF4d00001000sv00001AF4sd00000001bc02sc00i00"),
            ["virtio_pci"]
        );
        assert_eq!(modules.resolve("crypto-crc32c"), ["crc32c_generic"]);
        assert!(modules.resolve("pci:v00001AF5d0sv0sd0bc0sc0i0").is_empty());
        assert_eq!(modules.files["ext4"].1, ["jbd2", "mbcache"]);
        assert_eq!(
            (
                modules.soft["ext4"].pre.as_slice(),
                modules.soft["ext4"].post.len()
            ),
            (&["crc32c".to_owned()][..], 1)
        );
    }

    #[test]
    fn an_unknown_module_is_an_error_and_a_built_in_one_is_not() {
        let mut modules = index();
        assert!(matches!(modules.insert("nonsense"), Err(ModuleError::Unknown(_))));
        modules.builtin.insert("loop".to_owned());
        assert!(modules.insert("loop").unwrap().is_empty());
    }

    #[test]
    fn a_compressed_module_is_read_the_same() {
        let dir = std::env::temp_dir().join(format!("lifeboot-modules-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let plain = b"not a module, but long enough to be squeezed squeezed squeezed".repeat(20);
        fs::write(dir.join("m.ko"), &plain).unwrap();
        for (tool, ending) in [("xz", "xz"), ("zstd", "zst")] {
            let to = File::create(dir.join(format!("m.ko.{ending}"))).unwrap();
            let mut squeeze = std::process::Command::new(tool);
            assert!(
                squeeze
                    .args(["-c", "-q"])
                    .arg(dir.join("m.ko"))
                    .stdout(to)
                    .status()
                    .unwrap()
                    .success()
            );
            let name = format!("m.ko.{ending}");
            assert_eq!(
                decompress(&name, File::open(dir.join(&name)).unwrap()).unwrap(),
                plain
            );
        }
        assert!(decompress("m.ko.gz", File::open(dir.join("m.ko")).unwrap()).is_err());
        fs::remove_dir_all(&dir).unwrap();
    }
}
