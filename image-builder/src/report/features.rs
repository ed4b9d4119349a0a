//! What each feature costs: the bytes that are in an image only because of it.
//!
//! An entry is there because something wants it: a feature names it, or a program links it, or a module depends on it. What
//! nobody but one feature wants, directly or through others, is that feature's cost; what two want is nobody's alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use crate::archive::{Archive, Part};
use crate::board::{Arch, alternatives};
use crate::elf::{self, under_usr};
use crate::feature::{Feature, Features};

/// A line for each feature.
pub fn table(archive: &Archive, features: &Features, arch: Arch) -> String {
    let mut text = format!(
        "{:<20} {:>12} {:>12}\n",
        "only because of", "unpacked", "about packed"
    );
    for (name, unpacked, packed) in costs(archive, features, arch) {
        // Writing to a string cannot fail.
        if writeln!(text, "{name:<20} {unpacked:>12} {packed:>12}").is_err() {
            break;
        }
    }
    text
}

/// Each feature with its bytes, and about what they are compressed.
pub fn costs(archive: &Archive, features: &Features, arch: Arch) -> Vec<(String, usize, usize)> {
    let graph = Graph::of(archive, arch);
    let roots: BTreeMap<&str, BTreeSet<usize>> = features
        .iter()
        .map(|(name, feature)| (name.as_str(), graph.roots(feature)))
        .collect();
    // Modules are the board's too: those that no feature leads to stay whatever is left out.
    let led: BTreeSet<usize> = graph.reached(roots.values().flatten().copied());
    let boards: Vec<usize> = graph.modules().filter(|module| !led.contains(module)).collect();
    let cost = |name: &String| {
        let others = roots
            .iter()
            .filter(|(other, _)| *other != name)
            .flat_map(|(_, roots)| roots.iter().copied());
        let kept = graph.reached(others.chain(boards.iter().copied()));
        let own: Vec<u8> = graph
            .reached(roots.get(name.as_str()).into_iter().flatten().copied())
            .difference(&kept)
            .filter_map(|index| archive.items().get(*index))
            .flat_map(|item| item.data.iter().copied())
            .collect();
        let packed = zstd::bulk::compress(&own, 6).map_or(own.len(), |packed| packed.len());
        (name.clone(), own.len(), packed)
    };
    features.keys().map(cost).collect()
}

/// Which entry wants which.
struct Graph<'a> {
    archive: &'a Archive,
    by_path: BTreeMap<&'a str, usize>,
    /// Libraries and modules by their file's name.
    by_name: BTreeMap<String, usize>,
    wants: Vec<Vec<usize>>,
}

impl<'a> Graph<'a> {
    fn of(archive: &'a Archive, arch: Arch) -> Self {
        let items = || archive.items().iter().enumerate();
        let by_path = items().map(|(index, item)| (item.path.as_str(), index)).collect();
        let by_name = items()
            .filter(|(_, item)| matches!(item.part, Part::Libraries | Part::Modules))
            .map(|(index, item)| (name_of(&item.path), index))
            .collect();
        let mut graph = Self {
            archive,
            by_path,
            by_name,
            wants: vec![Vec::new(); archive.items().len()],
        };
        for (index, item) in items() {
            let found: Vec<usize> = match item.part {
                Part::Programs | Part::Libraries => {
                    let needed = elf::wants(&item.data, arch).ok().flatten();
                    let names = needed.into_iter().flat_map(|wants| {
                        let interpreter = wants.interpreter.as_deref().map(name_of);
                        wants.needed.into_iter().chain(interpreter)
                    });
                    names
                        .filter_map(|name| graph.by_name.get(&name).copied())
                        .collect()
                }
                _ => Vec::new(),
            };
            if let Some(wants) = graph.wants.get_mut(index) {
                *wants = found;
            }
        }
        graph.add_module_dependencies();
        graph
    }

    /// From `modules.dep`, whose paths are below its own directory.
    fn add_module_dependencies(&mut self) {
        let listing = self
            .archive
            .items()
            .iter()
            .find(|item| item.path.ends_with("/modules.dep"));
        let text = listing
            .map(|item| String::from_utf8_lossy(&item.data).into_owned())
            .unwrap_or_default();
        for line in text.lines() {
            let Some((module, needs)) = line.split_once(':') else {
                continue;
            };
            let at = |path: &str| self.by_name.get(&name_of(path)).copied();
            let needs: Vec<usize> = needs.split_whitespace().filter_map(at).collect();
            if let Some(wants) = at(module).and_then(|index| self.wants.get_mut(index)) {
                wants.extend(needs);
            }
        }
    }

    fn modules(&self) -> impl Iterator<Item = usize> {
        let items = self.archive.items().iter().enumerate();
        items
            .filter(|(_, item)| item.part == Part::Modules)
            .map(|(index, _)| index)
    }

    /// What a feature names itself.
    fn roots(&self, feature: &Feature) -> BTreeSet<usize> {
        let files = feature
            .files
            .iter()
            .map(|path| self.by_path.get(under_usr(path).as_str()).copied());
        let libraries = feature
            .libraries
            .iter()
            .map(|name| self.by_name.get(name).copied());
        let modules = feature.modules.keys().chain(feature.optional.keys());
        let modules = modules
            .flat_map(|names| alternatives(names).map(|name| self.by_name.get(&module_key(name)).copied()));
        let certificates = feature.certificates.iter().map(|_| {
            let mut items = self.archive.items().iter();
            items.position(|item| item.part == Part::Certificates)
        });
        files
            .chain(libraries)
            .chain(modules)
            .chain(certificates)
            .flatten()
            .collect()
    }

    fn reached(&self, from: impl Iterator<Item = usize>) -> BTreeSet<usize> {
        let mut waiting: Vec<usize> = from.collect();
        let mut reached = BTreeSet::new();
        while let Some(index) = waiting.pop() {
            if reached.insert(index) {
                waiting.extend(self.wants.get(index).into_iter().flatten());
            }
        }
        reached
    }
}

/// A file's name; a module's with underscores and `.ko`.
fn name_of(path: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or_default();
    match name.strip_suffix(".ko") {
        Some(module) => module_key(module),
        None => name.to_owned(),
    }
}

fn module_key(name: &str) -> String {
    format!("{}.ko", name.replace('-', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feature(modules: &[&str]) -> Feature {
        let lines: String = modules.iter().map(|name| format!("{name} = \"why\"\n")).collect();
        toml::from_str(&format!("about = \"x\"\n[modules]\n{lines}")).unwrap()
    }

    #[test]
    fn what_two_features_share_is_nobodys_alone() {
        let mut archive = Archive::default();
        let mut put =
            |path: &str, data: &[u8]| archive.file(path, 0o644, data.to_vec(), Part::Modules).unwrap();
        put(
            "usr/lib/modules/1/modules.dep",
            b"kernel/a.ko: kernel/shared.ko\nkernel/b.ko: kernel/shared.ko\n",
        );
        put("usr/lib/modules/1/kernel/a.ko", &[1; 100]);
        put("usr/lib/modules/1/kernel/b.ko", &[2; 20]);
        put("usr/lib/modules/1/kernel/shared.ko", &[3; 3000]);
        let cost = |features: &[(&str, &[&str])]| -> Vec<String> {
            let features: Features = features
                .iter()
                .map(|(name, modules)| ((*name).to_owned(), feature(modules)))
                .collect();
            let text = table(&archive, &features, Arch::Aarch64);
            let bytes = |line: &str| line.split_whitespace().nth(1).unwrap().to_owned();
            text.lines().skip(1).map(bytes).collect()
        };
        assert_eq!(cost(&[("one", &["a"]), ("two", &["b"])]), ["100", "20"]);
        // Without a feature that names it, b is the board's, and the board shares as well.
        assert_eq!(cost(&[("one", &["a"]), ("two", &[])]), ["100", "0"]);
        assert_eq!(cost(&[("one", &["a", "b"]), ("two", &[])]), ["3120", "0"]);
    }
}
