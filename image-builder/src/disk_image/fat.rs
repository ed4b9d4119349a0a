//! A FAT file system of a disk image as a tree's backing: FAT12, FAT16 and FAT32 with long names, as Microsoft's "FAT32 File
//! System Specification" has them. All its directories are read at once, with every chain of clusters counted, so that what
//! goes in a circle is refused instead of followed; the library for it, fatfs, follows it for ever.

mod directory;
mod table;

use std::ffi::OsString;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use self::directory::Record;
use self::table::{Run, Volume};
use super::medium::Slice;
use crate::tree::{Attribute, Backing, Kind, Metadata};

/// No boot partition has so many files; a damaged one may seem to.
const MOST_FILES: usize = 1 << 16;
/// The specification's limit on a directory's bytes.
const LARGEST_DIRECTORY: u64 = 2 << 20;

/// A FAT file system that nothing writes to.
#[derive(Debug)]
pub struct FileSystem {
    /// `raspios.img: partition 1`, for messages.
    name: String,
    /// Tells its files from those of other file systems of the same tree.
    id: u64,
    volume: Volume,
    /// The root first.
    nodes: Vec<Node>,
}

#[derive(Debug)]
struct Node {
    record: Record,
    children: Vec<usize>,
}

/// Whether the bytes look like one: a jump and a plausible sector size, which no other file system starts with.
pub fn is_one(part: &Slice) -> bool {
    Volume::read(part).is_ok()
}

impl FileSystem {
    /// Reads the tables and all directories.
    pub fn open(name: String, part: &Slice, id: u64) -> Result<Self> {
        let volume = Volume::read(part).with_context(|| name.clone())?;
        let root = Record {
            name: String::new(),
            directory: true,
            first: 0,
            size: 0,
            modified: 0,
        };
        let mut file_system = Self {
            name,
            id,
            volume,
            nodes: vec![Node {
                record: root,
                children: Vec::new(),
            }],
        };
        let mut next = 0;
        let mut seen = std::collections::BTreeSet::new();
        while next < file_system.nodes.len() {
            let Record { directory, first, .. } = file_system.node(next)?.record;
            if directory {
                if !seen.insert(first) {
                    bail!(
                        "{}: damaged: directory {} is inside itself; fsck.vfat repairs it",
                        file_system.name,
                        file_system.node(next)?.record.name
                    );
                }
                file_system.add_children(next)?;
            }
            next += 1;
        }
        Ok(file_system)
    }

    /// `1a2b-3c4d`, what `UUID=` names it by, lower case.
    pub fn uuid(&self) -> String {
        format!(
            "{:04x}-{:04x}",
            self.volume.serial >> 16,
            self.volume.serial & 0xffff
        )
    }

    /// What `LABEL=` names it by.
    pub fn label(&self) -> &str {
        &self.volume.label
    }

    fn add_children(&mut self, parent: usize) -> Result<()> {
        let first = self.node(parent)?.record.first;
        let about = || self.name.clone();
        let mut bytes = Vec::new();
        let runs = if parent == 0 {
            self.volume.root_runs()
        } else {
            self.volume.runs(first)
        };
        Content::new(&self.volume, runs.with_context(about)?, LARGEST_DIRECTORY)
            .read_to_end(&mut bytes)
            .with_context(about)?;
        for record in directory::records(&bytes) {
            let child = self.nodes.len();
            if child >= MOST_FILES {
                bail!("{}: damaged: more than {MOST_FILES} files", self.name);
            }
            self.nodes.push(Node {
                record,
                children: Vec::new(),
            });
            if let Some(parent) = self.nodes.get_mut(parent) {
                parent.children.push(child);
            }
        }
        Ok(())
    }

    fn node(&self, at: usize) -> Result<&Node> {
        self.nodes.get(at).context("FAT: node")
    }

    /// What lies at a path; upper and lower case are the same, as they are when it is mounted.
    fn find(&self, path: &Path) -> Result<Option<usize>> {
        let mut here = 0;
        for name in path {
            let name = name.to_string_lossy();
            let mut children = self.node(here)?.children.iter().copied();
            let same = |at: &usize| {
                let node = self.nodes.get(*at);
                node.is_some_and(|node| node.record.name.eq_ignore_ascii_case(&name))
            };
            match children.find(same) {
                Some(child) => here = child,
                None => return Ok(None),
            }
        }
        Ok(Some(here))
    }

    fn existing(&self, path: &Path) -> Result<&Node> {
        let at = self.find(path)?;
        let at = at.with_context(|| format!("{}: /{}: no such file", self.name, path.display()))?;
        self.node(at)
    }
}

impl Backing for FileSystem {
    fn lstat(&self, path: &Path) -> Result<Option<Metadata>> {
        let Some(at) = self.find(path)? else {
            return Ok(None);
        };
        let record = &self.node(at)?.record;
        let kind = if record.directory {
            Kind::Directory
        } else {
            Kind::File
        };
        Ok(Some(Metadata {
            kind,
            // What the kernel gives them when nothing is said.
            mode: 0o755,
            user: 0,
            group: 0,
            modified: record.modified,
            size: u64::from(record.size),
            links: 1,
            device: (0, 0),
            identity: (self.id, at as u64),
        }))
    }

    fn entries(&self, path: &Path) -> Result<Vec<OsString>> {
        let children = &self.existing(path)?.children;
        children
            .iter()
            .map(|at| Ok(self.node(*at)?.record.name.clone().into()))
            .collect()
    }

    fn read_link(&self, path: &Path) -> Result<PathBuf> {
        bail!("{}: /{}: FAT has no links", self.name, path.display())
    }

    fn reader(&self, path: &Path) -> Result<Box<dyn Read + '_>> {
        let record = &self.existing(path)?.record;
        let about = || format!("{}: /{}", self.name, path.display());
        let runs = self.volume.runs(record.first).with_context(about)?;
        let size = u64::from(record.size);
        let room: u64 = runs.iter().map(|run| run.length).sum();
        if room < size {
            bail!("{}: damaged: {size} bytes in clusters for {room}", about());
        }
        Ok(Box::new(Content::new(&self.volume, runs, size)))
    }

    fn attributes(&self, _: &Path) -> Result<Vec<Attribute>> {
        Ok(Vec::new())
    }
}

/// The bytes of a file.
struct Content<'a> {
    volume: &'a Volume,
    runs: std::vec::IntoIter<Run>,
    run: Run,
    left: u64,
}

impl<'a> Content<'a> {
    fn new(volume: &'a Volume, runs: Vec<Run>, size: u64) -> Self {
        Self {
            volume,
            runs: runs.into_iter(),
            run: Run { start: 0, length: 0 },
            left: size,
        }
    }
}

impl Read for Content<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.run.length == 0 {
            match self.runs.next() {
                Some(run) => self.run = run,
                None => return Ok(0),
            }
        }
        let most = self.run.length.min(self.left);
        let count = usize::try_from(most).unwrap_or(usize::MAX).min(buffer.len());
        let buffer = buffer.get_mut(..count).unwrap_or_default();
        self.volume.part.read_at(self.run.start, buffer)?;
        let count = buffer.len() as u64;
        self.run.start += count;
        self.run.length -= count;
        self.left -= count;
        Ok(buffer.len())
    }
}
