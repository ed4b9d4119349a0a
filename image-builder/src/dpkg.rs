//! Which Debian package a file of a system is from: dpkg's own database, of an image or a root as it stands there, and of
//! fetched packages as the fetch writes it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::elf::under_usr;
use crate::packages::Package;
use crate::tree::{Mounts, Tree};

const STATUS: &str = "var/lib/dpkg/status";
const INFO: &str = "var/lib/dpkg/info";

/// A package as the database has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    pub name: String,
    pub version: String,
    pub arch: String,
    /// The source package, where it is called otherwise, with its version where that differs.
    pub source: Option<String>,
}

/// Every package and its files.
#[derive(Debug, Default)]
pub struct Database {
    owners: Vec<Owner>,
    by_path: BTreeMap<String, usize>,
}

impl Database {
    /// Of a tree; empty where dpkg was never used.
    pub fn read(tree: &Tree) -> Result<Self> {
        let mut database = Self::default();
        if !tree.is_file(STATUS)? {
            return Ok(database);
        }
        let status = tree.read(STATUS)?;
        let status = String::from_utf8_lossy(&status).into_owned();
        let lists: BTreeMap<String, String> = tree
            .names(INFO)
            .into_iter()
            .filter_map(|file| Some((file.strip_suffix(".list")?.to_owned(), file)))
            .collect();
        for owner in owners(&status) {
            let names = [owner.name.clone(), format!("{}:{}", owner.name, owner.arch)];
            let Some(file) = names.iter().find_map(|name| lists.get(name)) else {
                continue;
            };
            let list = tree.read(format!("{INFO}/{file}"))?;
            let index = database.owners.len();
            for path in String::from_utf8_lossy(&list).lines() {
                database.by_path.insert(under_usr(path), index);
            }
            database.owners.push(owner);
        }
        Ok(database)
    }

    /// The package of a file that was asked for by this path; links to it are followed.
    pub fn owner(&self, tree: &Tree, path: &str) -> Option<&Owner> {
        let real = tree.walk(path, Mounts::Entered).ok()?.next()?.ok()?.path;
        let owned = |path: &str| self.by_path.get(&under_usr(path));
        let index = owned(&real.to_string_lossy()).or_else(|| owned(path))?;
        self.owners.get(*index)
    }
}

/// The stanzas of a status file, or of anything like it.
fn owners(text: &str) -> Vec<Owner> {
    text.split("\n\n")
        .filter_map(|stanza| {
            let field = |name: &str| {
                let mut lines = stanza.lines();
                let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
                value.map(|value| value.trim().to_owned())
            };
            Some(Owner {
                name: field("Package")?,
                version: field("Version")?,
                arch: field("Architecture")?,
                source: field("Source"),
            })
        })
        .collect()
}

/// Turns what the extraction says of the packages into a database below a root, and returns the packages.
pub fn write_database(described: &str, root: &Path) -> Result<Vec<Package>> {
    let info = root.join(INFO);
    fs::create_dir_all(&info).with_context(|| info.display().to_string())?;
    let mut packages = Vec::new();
    let mut status = String::new();
    for stanza in described.split("Package: ").filter(|stanza| !stanza.is_empty()) {
        let stanza = format!("Package: {stanza}");
        let (files, fields): (Vec<&str>, Vec<&str>) = stanza.lines().partition(|line| line.starts_with(' '));
        let fields = fields.join("\n");
        let Some(owner) = owners(&fields).pop() else {
            bail!("a package without name, version or architecture: {fields}");
        };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
        if owner.name.starts_with('.') || !owner.name.bytes().all(plain) {
            bail!("a package is called '{}'", owner.name);
        }
        let list: String = files
            .iter()
            .map(|file| format!("/{}\n", file.trim_start()))
            .collect();
        let path = info.join(format!("{}.list", owner.name));
        fs::write(&path, list).with_context(|| path.display().to_string())?;
        // Writing to a string cannot fail.
        if write!(status, "{fields}\n\n").is_err() {
            break;
        }
        packages.push(Package {
            name: owner.name,
            version: owner.version,
        });
    }
    let path = root.join(STATUS);
    fs::write(&path, status).with_context(|| path.display().to_string())?;
    Ok(packages)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const DESCRIBED: &str = "Package: libc6\nVersion: 2.41-12\nSource: glibc\nArchitecture: arm64\n usr/lib/libc.so.6\n\
                             Package: tool\nVersion: 1\nArchitecture: arm64\n bin/tool\n etc/tool.conf\n";

    #[test]
    fn files_are_owned_by_the_package_that_lists_them() {
        let directory = tempfile::tempdir().unwrap();
        let packages = write_database(DESCRIBED, directory.path()).unwrap();
        assert_eq!(packages.len(), 2);
        fs::create_dir_all(directory.path().join("usr/bin")).unwrap();
        fs::create_dir_all(directory.path().join("usr/lib")).unwrap();
        fs::write(directory.path().join("usr/bin/tool"), "x").unwrap();
        symlink("tool", directory.path().join("usr/bin/alias")).unwrap();
        fs::write(directory.path().join("usr/lib/libc.so.6"), "x").unwrap();
        fs::write(directory.path().join("usr/bin/other"), "x").unwrap();
        let tree = Tree::open(directory.path()).unwrap();
        let database = Database::read(&tree).unwrap();
        let name = |path: &str| database.owner(&tree, path).map(|owner| owner.name.clone());
        assert_eq!(name("/usr/bin/tool").as_deref(), Some("tool"));
        assert_eq!(name("/usr/bin/alias").as_deref(), Some("tool"));
        assert_eq!(name("/usr/bin/other"), None);
        let libc = database.owner(&tree, "/usr/lib/libc.so.6").unwrap();
        assert_eq!(libc.source.as_deref(), Some("glibc"));
    }

    #[test]
    fn a_package_whose_name_is_a_path_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let evil = "Package: ../../x\nVersion: 1\nArchitecture: all\n";
        assert!(write_database(evil, directory.path()).is_err());
        assert!(write_database("Package: x\nVersion: 1\n", directory.path()).is_err());
    }

    #[test]
    fn a_system_without_dpkg_has_no_owners() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("x"), "x").unwrap();
        let tree = Tree::open(directory.path()).unwrap();
        assert_eq!(Database::read(&tree).unwrap().owner(&tree, "/x"), None);
    }
}
