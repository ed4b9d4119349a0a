//! Kernel modules: the chosen ones, closed over what they need, and the index files the device finds them by.
//!
//! What a module needs stands in its own `.modinfo` section, so nothing has to be run over the whole tree first: the
//! kernel's build wrote `depends=` there from the symbols themselves, which is all `depmod` would find out.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use anyhow::{Context, Result, bail};
use object::{Object, ObjectSection};

use crate::board::alternatives;
use crate::tree::{Mounts, Tree};

/// A module taken into the image.
#[derive(Debug)]
pub struct Module {
    /// As the kernel writes it, with underscores.
    pub name: String,
    /// Below the modules directory, `kernel/fs/ext4/ext4.ko`.
    pub path: String,
    /// Decompressed.
    pub bytes: Vec<u8>,
    facts: Facts,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Facts {
    depends: Vec<String>,
    /// `pre: a b post: c`, one for each softdep line.
    softdeps: Vec<String>,
    aliases: Vec<String>,
}

/// All modules of a kernel, by name; nothing of them is read before it is asked for.
#[derive(Debug)]
pub struct Available<'a> {
    tree: &'a Tree,
    base: String,
    /// Name to path below the base, as packaged (`.ko`, `.ko.xz`, `.ko.zst`, `.ko.gz`).
    paths: BTreeMap<String, String>,
    builtin: BTreeSet<String>,
}

/// Modules in the order they are to be written, and what was found built in.
#[derive(Debug, Default)]
pub struct Chosen {
    modules: BTreeMap<String, Module>,
    order: Vec<String>,
}

/// Whether a module may be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    Required,
    Optional,
}

impl<'a> Available<'a> {
    /// The modules below a modules directory of the tree.
    pub fn read(tree: &'a Tree, base: &str) -> Result<Self> {
        let mut paths = BTreeMap::new();
        let mut walk = tree.walk(format!("{base}/kernel"), Mounts::Entered)?;
        // The walk gives real names, and the directory may have been reached by a link (/lib).
        let top = walk.next().transpose()?.map(|top| top.path).unwrap_or_default();
        let directory = top.parent().unwrap_or(&top);
        for entry in walk {
            let entry = entry?;
            let file = entry.path.file_name().and_then(|name| name.to_str());
            if let Some(name) = file.and_then(module_name) {
                let below = entry.path.strip_prefix(directory)?.to_string_lossy().into_owned();
                paths.insert(name, below);
            }
        }
        let builtin = match tree.read(format!("{base}/modules.builtin")) {
            Ok(text) => String::from_utf8_lossy(&text)
                .lines()
                .filter_map(|line| module_name(line.rsplit('/').next()?))
                .collect(),
            Err(_) => BTreeSet::new(),
        };
        Ok(Self {
            tree,
            base: base.to_owned(),
            paths,
            builtin,
        })
    }

    /// Takes a module and everything it needs, what it needs first. `a | b` is the first of them that the kernel has.
    pub fn choose(&self, name: &str, need: Need, chosen: &mut Chosen) -> Result<()> {
        let known = |name: &String| self.builtin.contains(name) || self.paths.contains_key(name);
        let name = alternatives(name)
            .map(normal)
            .find(known)
            .unwrap_or_else(|| normal(name));
        if chosen.modules.contains_key(&name) || self.builtin.contains(&name) {
            return Ok(());
        }
        let Some(path) = self.paths.get(&name) else {
            if need == Need::Optional {
                return Ok(());
            }
            bail!(
                "kernel {} has no module {name}",
                self.base.rsplit('/').next().unwrap_or_default()
            );
        };
        let packed = self.tree.read(format!("{}/{path}", self.base))?;
        let bytes = unpack(path, packed).with_context(|| path.clone())?;
        let facts = Facts::read(&bytes).with_context(|| path.clone())?;
        let plain = path.split_once(".ko").map_or(path.as_str(), |(stem, _)| stem);
        let module = Module {
            name: name.clone(),
            path: format!("{plain}.ko"),
            bytes,
            facts,
        };
        let (depends, soft) = (module.facts.depends.clone(), module.facts.soft_names());
        // Entered before what it needs, so that softdeps in a circle end; its place in the order comes after them.
        chosen.modules.insert(name.clone(), module);
        for dependency in depends {
            self.choose(&dependency, Need::Required, chosen)
                .with_context(|| format!("module {name}"))?;
        }
        for dependency in soft {
            self.choose(&dependency, Need::Optional, chosen)
                .with_context(|| format!("module {name}"))?;
        }
        chosen.order.push(name);
        Ok(())
    }

    /// The kernel's own list of what is built in, whole: the device asks it before it says that something is missing.
    pub fn builtin_list(&self) -> Vec<u8> {
        self.tree
            .read(format!("{}/modules.builtin", self.base))
            .unwrap_or_default()
    }
}

impl Chosen {
    /// The modules in the order they were chosen, each after what it needs.
    pub fn iter(&self) -> impl Iterator<Item = &Module> {
        self.order.iter().filter_map(|name| self.modules.get(name))
    }

    /// The modules themselves, in that order.
    pub fn into_modules(mut self) -> Vec<Module> {
        self.order
            .iter()
            .filter_map(|name| self.modules.remove(name))
            .collect()
    }

    /// `modules.dep`: a line for each module with all it needs, the nearest first, so that loading from the end works.
    pub fn dep(&self) -> String {
        let lines = self.iter().map(|module| {
            let mut needs = Vec::new();
            self.needs(module, &mut needs);
            needs.reverse();
            let paths: String = needs.iter().map(|need| format!(" {}", need.path)).collect();
            format!("{}:{paths}\n", module.path)
        });
        sorted(lines)
    }

    /// `modules.alias`.
    pub fn alias(&self) -> String {
        sorted(self.iter().flat_map(|module| {
            module
                .facts
                .aliases
                .iter()
                .map(|alias| format!("alias {alias} {}\n", module.name))
        }))
    }

    /// `modules.softdep`.
    pub fn softdep(&self) -> String {
        sorted(self.iter().flat_map(|module| {
            module
                .facts
                .softdeps
                .iter()
                .map(|softdep| format!("softdep {} {softdep}\n", module.name))
        }))
    }

    /// What must be loaded before a module, deepest first.
    fn needs<'s>(&'s self, module: &'s Module, found: &mut Vec<&'s Module>) {
        for dependency in module
            .facts
            .depends
            .iter()
            .filter_map(|name| self.modules.get(name))
        {
            if !found.iter().any(|known| known.name == dependency.name) {
                self.needs(dependency, found);
                found.push(dependency);
            }
        }
    }
}

impl Facts {
    fn read(bytes: &[u8]) -> Result<Self> {
        let file = object::File::parse(bytes)?;
        let section = file.section_by_name(".modinfo").context("no .modinfo section")?;
        let mut facts = Self::default();
        for entry in section.data()?.split(|byte| *byte == 0) {
            match String::from_utf8_lossy(entry).split_once('=') {
                Some(("depends", names)) => {
                    facts
                        .depends
                        .extend(names.split(',').filter(|name| !name.is_empty()).map(normal));
                }
                Some(("softdep", rule)) => facts.softdeps.push(rule.to_owned()),
                // Packages and the kernel spell names in aliases either way; index files use underscores.
                Some(("alias", alias)) => facts.aliases.push(alias.to_owned()),
                _ => {}
            }
        }
        Ok(facts)
    }

    fn soft_names(&self) -> Vec<String> {
        let words = self.softdeps.iter().flat_map(|rule| rule.split_whitespace());
        words
            .filter(|word| !matches!(*word, "pre:" | "post:" | "platform:"))
            .map(normal)
            .collect()
    }
}

fn sorted(lines: impl Iterator<Item = String>) -> String {
    let lines: BTreeSet<String> = lines.collect();
    lines.into_iter().collect()
}

/// The kernel takes `-` and `_` in module names for the same.
fn normal(name: &str) -> String {
    name.replace('-', "_")
}

fn module_name(file: &str) -> Option<String> {
    let (stem, rest) = file.split_once(".ko")?;
    matches!(rest, "" | ".xz" | ".zst" | ".gz").then(|| normal(stem))
}

fn unpack(path: &str, packed: Vec<u8>) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    match path.rsplit('.').next() {
        Some("xz") => {
            liblzma::read::XzDecoder::new(packed.as_slice()).read_to_end(&mut bytes)?;
        }
        Some("zst") => bytes = zstd::decode_all(packed.as_slice())?,
        Some("gz") => {
            flate2::read::GzDecoder::new(packed.as_slice()).read_to_end(&mut bytes)?;
        }
        _ => bytes = packed,
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(name: &str, depends: &[&str]) -> Module {
        let depends = depends.iter().map(|name| (*name).to_owned()).collect();
        let facts = Facts {
            depends,
            softdeps: vec!["pre: x-y post: z".into()],
            aliases: vec![format!("fs-{name}")],
        };
        Module {
            name: name.into(),
            path: format!("kernel/{name}.ko"),
            bytes: Vec::new(),
            facts,
        }
    }

    fn chosen(modules: Vec<Module>) -> Chosen {
        let order = modules.iter().map(|module| module.name.clone()).collect();
        Chosen {
            modules: modules
                .into_iter()
                .map(|module| (module.name.clone(), module))
                .collect(),
            order,
        }
    }

    #[test]
    fn dependencies_are_listed_nearest_first() {
        let chosen = chosen(vec![
            module("a", &["b", "c"]),
            module("b", &["d"]),
            module("c", &["d"]),
            module("d", &["not_carried"]),
        ]);
        assert_eq!(
            chosen.dep(),
            "kernel/a.ko: kernel/c.ko kernel/b.ko kernel/d.ko\nkernel/b.ko: kernel/d.ko\nkernel/c.ko: kernel/d.ko\nkernel/d.ko:\n"
        );
        assert!(chosen.alias().contains("alias fs-a a\n"));
        assert!(chosen.softdep().contains("softdep b pre: x-y post: z\n"));
        assert_eq!(module("a", &[]).facts.soft_names(), ["x_y", "z"]);
    }

    #[test]
    fn a_module_is_known_by_its_file_name() {
        assert_eq!(module_name("dm-crypt.ko.xz").as_deref(), Some("dm_crypt"));
        assert_eq!(module_name("ext4.ko").as_deref(), Some("ext4"));
        assert_eq!(module_name("ext4.ko.sig"), None);
        assert_eq!(module_name("modules.order"), None);
    }

    #[test]
    fn a_file_that_is_no_module_is_refused() {
        assert!(Facts::read(b"not an object").is_err());
        assert!(unpack("x.ko.xz", b"not xz".to_vec()).is_err());
    }
}
