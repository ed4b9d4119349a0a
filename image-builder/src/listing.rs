//! The listing of an image: every file in it with its package, version, licence and digest, as text and as SPDX 2.3.
//!
//! A file's licence is its package's: what Debian's copyright file says of the whole source. Which of a source's licences
//! holds for one file that was built from it is written down nowhere.

mod licence;
mod spdx;

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::Result;
use lifeboot_contract::image::ImageInfo;
use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::archive::{Archive, Part};
use crate::dpkg::{Database, Owner};
use crate::feature::Features;
use crate::kernel::Kernel;
use crate::packages::hex;
use crate::tree::Tree;

use licence::Licence;

/// A package that files of the image are from.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Origin {
    name: String,
    version: String,
    /// The source package, where it is called otherwise.
    source: Option<String>,
    licence: Licence,
}

/// A file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Listed {
    /// `kernel`, or `initramfs/usr/bin/x`.
    name: String,
    sha1: String,
    sha256: String,
    /// The place of its package in the listing.
    origin: Option<usize>,
}

/// Every file of an image, in the order of their names.
#[derive(Debug)]
pub struct Listing {
    /// What the image calls itself, and when it says it was built.
    name: String,
    created: u64,
    origins: Vec<Origin>,
    files: Vec<Listed>,
}

/// Where the files of an image came from.
pub struct Provenance<'a> {
    pub tree: &'a Tree,
    pub kernel: &'a Kernel,
    pub features: &'a Features,
}

impl Listing {
    /// Of an archive, and of files beside it that the tree has under a path.
    pub fn of(
        archive: &Archive,
        beside: &[(&str, &str, &[u8])],
        from: &Provenance,
        info: &ImageInfo,
    ) -> Result<Self> {
        let mut finder = Finder {
            from,
            database: Database::read(from.tree)?,
            origins: Vec::new(),
            by_name: BTreeMap::new(),
        };
        let mut files = Vec::new();
        for (name, path, bytes) in beside {
            let origin = finder.of_path(path);
            files.push(listed((*name).to_owned(), bytes, origin));
        }
        for item in archive.items().iter().filter(|item| item.node.kind == 'f') {
            let origin = finder.of_item(&item.path, item.part);
            files.push(listed(format!("initramfs/{}", item.path), &item.data, origin));
        }
        files.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(Self {
            name: info.name.clone(),
            created: info.build_time,
            origins: finder.origins,
            files,
        })
    }

    /// A line a file: digest, package, version, name, and the licence, which may have blanks in it, last.
    pub fn text(&self) -> String {
        let mut text = "# SHA-256  package  version  file  licence\n".to_owned();
        for file in &self.files {
            let origin = file.origin.and_then(|index| self.origins.get(index));
            let (package, version, licence) = match origin {
                Some(origin) => (
                    origin.name.as_str(),
                    origin.version.as_str(),
                    origin.licence.expression(),
                ),
                None => ("-", "-", "-".to_owned()),
            };
            // Writing to a string cannot fail.
            if writeln!(
                text,
                "{}  {package}  {version}  {}  {licence}",
                file.sha256, file.name
            )
            .is_err()
            {
                break;
            }
        }
        text
    }

    /// SPDX 2.3 as JSON.
    pub fn spdx(&self) -> Result<Vec<u8>> {
        spdx::document(self)
    }
}

fn listed(name: String, bytes: &[u8], origin: Option<usize>) -> Listed {
    Listed {
        name,
        sha1: hex(&Sha1::digest(bytes)),
        sha256: hex(&Sha256::digest(bytes)),
        origin,
    }
}

/// Finds each file's package, and reads each package's licence once.
struct Finder<'a> {
    from: &'a Provenance<'a>,
    database: Database,
    origins: Vec<Origin>,
    by_name: BTreeMap<String, usize>,
}

impl Finder<'_> {
    fn of_path(&mut self, path: &str) -> Option<usize> {
        let owner = self.database.owner(self.from.tree, path)?.clone();
        if let Some(index) = self.by_name.get(&owner.name) {
            return Some(*index);
        }
        let licence = Licence::of_package(self.from.tree, &owner.name);
        Some(self.add(owner, licence))
    }

    fn of_item(&mut self, path: &str, part: Part) -> Option<usize> {
        match part {
            Part::Executable | Part::Settings => Some(self.own()),
            Part::Modules => self.of_module(path),
            Part::Programs | Part::Libraries => self.of_path(&format!("/{path}")),
            Part::Certificates => self.of_certificates(),
        }
    }

    /// What the builder itself puts in; what its owner gives, keys and settings, is not told apart from it.
    fn own(&mut self) -> usize {
        let owner = Owner {
            name: "lifeboot".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            arch: String::new(),
            source: None,
        };
        match self.by_name.get(&owner.name) {
            Some(index) => *index,
            None => self.add(owner, Licence::known("MIT OR Apache-2.0")),
        }
    }

    /// Modules are packed in their package, and lie in the image as they are; their index is the builder's.
    fn of_module(&mut self, path: &str) -> Option<usize> {
        let below = path
            .split_once("/modules/")
            .and_then(|(_, rest)| rest.split_once('/'));
        let below = below.map_or(path, |(_, below)| below);
        let base = self.from.kernel.modules.clone();
        let packed = ["", ".xz", ".zst", ".gz"].map(|packed| format!("{base}/{below}{packed}"));
        for place in packed {
            if self.from.tree.is_file(&place).unwrap_or(false) {
                return self.of_path(&place);
            }
        }
        Some(self.own())
    }

    fn of_certificates(&mut self) -> Option<usize> {
        let directories = self
            .from
            .features
            .values()
            .filter_map(|feature| feature.certificates.as_deref());
        let directory = directories.into_iter().next()?.to_owned();
        let first = self
            .from
            .tree
            .names(&directory)
            .into_iter()
            .find(|name| name.ends_with(".crt"))?;
        self.of_path(&format!("{directory}/{first}"))
    }

    fn add(&mut self, owner: Owner, licence: Licence) -> usize {
        let index = self.origins.len();
        self.by_name.insert(owner.name.clone(), index);
        self.origins.push(Origin {
            name: owner.name,
            version: owner.version,
            source: owner.source,
            licence,
        });
        index
    }
}
