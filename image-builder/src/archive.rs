//! The image's archive in the making: entries in the order they will be unpacked, the listing and the sentinel.
//!
//! Order is meaning here: the kernel goes on silently when memory runs out while it unpacks, so what is needed to start
//! and to say so comes first, and the sentinel proves the rest.

use std::collections::BTreeMap;
use std::io;

use anyhow::{Result, bail};
use lifeboot_contract::image::{self, ListingEntry, write_listing};
use sha2::{Digest, Sha256};

use crate::cpio::{Node, Writer};
use crate::packages::hex;

/// What an entry is there for; the table of sizes has a line for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    Executable,
    Settings,
    Modules,
    Programs,
    Libraries,
    Certificates,
}

impl Part {
    /// All of them, in the order of the table.
    pub const ALL: [Self; 6] = [
        Self::Executable,
        Self::Modules,
        Self::Programs,
        Self::Libraries,
        Self::Certificates,
        Self::Settings,
    ];

    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Executable => "executable",
            Self::Settings => "settings and links",
            Self::Modules => "kernel modules",
            Self::Programs => "programs",
            Self::Libraries => "libraries",
            Self::Certificates => "certificates",
        }
    }
}

/// One entry to be written.
#[derive(Debug)]
pub struct Item {
    pub path: String,
    pub node: Node,
    pub data: Vec<u8>,
    pub part: Part,
}

/// Entries in order; a path appears once, its directories before it.
///
/// Written as several archives one after the other, which the kernel takes for one: what comes from packages stays the
/// same from build to build, so it is an archive of its own and is compressed hard, once.
#[derive(Debug, Default)]
pub struct Archive {
    items: Vec<Item>,
    index: BTreeMap<String, usize>,
    /// Where a new archive begins, besides at the start.
    cuts: Vec<usize>,
}

impl Archive {
    /// A regular file.
    pub fn file(&mut self, path: &str, mode: u32, data: Vec<u8>, part: Part) -> Result<()> {
        self.add(
            path,
            Node {
                kind: 'f',
                mode,
                device: (0, 0),
            },
            data,
            part,
        )
    }

    /// A symbolic link.
    pub fn link(&mut self, path: &str, target: &str) -> Result<()> {
        let node = Node {
            kind: 'l',
            mode: 0o777,
            device: (0, 0),
        };
        self.add(path, node, target.as_bytes().to_vec(), Part::Settings)
    }

    /// A directory; one that was made on the way to a file is given the mode.
    pub fn directory(&mut self, path: &str, mode: u32) -> Result<()> {
        let node = Node {
            kind: 'd',
            mode,
            device: (0, 0),
        };
        match self.index.get(path).and_then(|at| self.items.get_mut(*at)) {
            Some(item) if item.node.kind == 'd' => {
                item.node = node;
                Ok(())
            }
            _ => self.add(path, node, Vec::new(), Part::Settings),
        }
    }

    /// A character device.
    pub fn device(&mut self, path: &str, mode: u32, device: (u32, u32)) -> Result<()> {
        self.add(
            path,
            Node {
                kind: 'c',
                mode,
                device,
            },
            Vec::new(),
            Part::Settings,
        )
    }

    /// Whether something stands under this path.
    pub fn has(&self, path: &str) -> bool {
        self.index.contains_key(path)
    }

    /// What follows goes into an archive of its own.
    pub fn cut(&mut self) {
        self.cuts.push(self.items.len());
    }

    /// What was entered so far.
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    fn add(&mut self, path: &str, node: Node, data: Vec<u8>, part: Part) -> Result<()> {
        if self.has(path) {
            bail!("/{path}: written twice");
        }
        if let Some((parent, _)) = path.rsplit_once('/') {
            match self.index.get(parent).and_then(|at| self.items.get(*at)) {
                None => self.add(
                    parent,
                    Node {
                        kind: 'd',
                        mode: 0o755,
                        device: (0, 0),
                    },
                    Vec::new(),
                    Part::Settings,
                )?,
                Some(item) if item.node.kind == 'd' => {}
                Some(_) => bail!("/{path}: /{parent} is not a directory"),
            }
        }
        self.index.insert(path.to_owned(), self.items.len());
        self.items.push(Item {
            path: path.to_owned(),
            node,
            data,
            part,
        });
        Ok(())
    }

    /// Enters the listing of everything so far, and the sentinel behind it.
    pub fn seal(&mut self) -> Result<()> {
        let listing = image::LISTING.trim_start_matches('/');
        if let Some((parent, _)) = listing.rsplit_once('/')
            && !self.has(parent)
        {
            // Before the listing is made, so that the directory stands in it.
            self.directory(parent, 0o755)?;
        }
        let entries: Vec<ListingEntry> = self.items.iter().map(Item::listing_entry).collect();
        let text = write_listing(&entries);
        let digest = hex(&Sha256::digest(&text));
        self.file(listing, 0o644, text.into_bytes(), Part::Settings)?;
        let sentinel = image::SENTINEL.trim_start_matches('/');
        self.file(
            sentinel,
            0o444,
            format!("{digest}\n").into_bytes(),
            Part::Settings,
        )
    }

    /// The archives' bytes, not compressed. Each is complete and depends on its own entries alone.
    pub fn segments(&self, time: u64) -> io::Result<Vec<Vec<u8>>> {
        let mut rest = self.items.as_slice();
        let mut parts = Vec::new();
        for cut in self.cuts.iter().rev() {
            let (before, after) = rest.split_at(*cut);
            parts.push(after);
            rest = before;
        }
        parts.push(rest);
        parts
            .into_iter()
            .rev()
            .filter(|part| !part.is_empty())
            .map(|part| write(part, time))
            .collect()
    }
}

fn write(items: &[Item], time: u64) -> io::Result<Vec<u8>> {
    let size: usize = items.iter().map(|item| item.data.len() + 256).sum();
    let mut writer = Writer::new(Vec::with_capacity(size), time);
    for item in items {
        writer.entry(&item.path, item.node, &item.data)?;
    }
    writer.finish()
}

impl Item {
    fn listing_entry(&self) -> ListingEntry {
        let size = if self.node.kind == 'f' {
            self.data.len() as u64
        } else {
            0
        };
        ListingEntry {
            kind: self.node.kind,
            mode: self.node.mode,
            size,
            path: self.path.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_come_before_what_is_in_them_and_the_sentinel_last() {
        let mut archive = Archive::default();
        archive
            .file("init", 0o755, b"x".to_vec(), Part::Executable)
            .unwrap();
        archive
            .file("a/b/c", 0o644, b"yy".to_vec(), Part::Programs)
            .unwrap();
        archive.directory("a", 0o700).unwrap();
        archive.seal().unwrap();
        let paths: Vec<&str> = archive.items().iter().map(|item| item.path.as_str()).collect();
        let expected = [
            "init",
            "a",
            "a/b",
            "a/b/c",
            "etc",
            "etc/lifeboot",
            "etc/lifeboot/listing",
            "lifeboot.sentinel",
        ];
        assert_eq!(paths, expected);
        let listing = &archive.items()[6].data;
        assert_eq!(
            String::from_utf8_lossy(listing),
            "f 755 1 init\nd 700 0 a\nd 755 0 a/b\nf 644 2 a/b/c\nd 755 0 etc\nd 755 0 etc/lifeboot\n"
        );
        assert_eq!(
            archive.items()[7].data,
            format!("{}\n", hex(&Sha256::digest(listing))).into_bytes()
        );
    }

    #[test]
    fn a_segment_depends_on_its_own_entries_alone() {
        let segments = |first: &[u8]| {
            let mut archive = Archive::default();
            archive
                .file("init", 0o755, first.to_vec(), Part::Executable)
                .unwrap();
            archive.cut();
            archive.file("a", 0o644, b"yy".to_vec(), Part::Programs).unwrap();
            archive.cut();
            archive.seal().unwrap();
            archive.segments(7).unwrap()
        };
        let (one, other) = (segments(b"1"), segments(b"22"));
        assert_eq!(one.len(), 3);
        assert_ne!(one[0], other[0]);
        assert_eq!(one[1], other[1]);
        assert_eq!(crate::cpio::read(&one.concat()).unwrap().len(), 6);
    }

    #[test]
    fn a_path_is_written_once_and_never_through_a_link() {
        let mut archive = Archive::default();
        archive.link("bin", "usr/bin").unwrap();
        assert_eq!(
            archive.link("bin", "x").unwrap_err().to_string(),
            "/bin: written twice"
        );
        let error = archive
            .file("bin/sh", 0o755, Vec::new(), Part::Programs)
            .unwrap_err();
        assert_eq!(error.to_string(), "/bin/sh: /bin is not a directory");
    }
}
