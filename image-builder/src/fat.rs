//! FAT file systems, written whole: every file lies in one piece, and the same files give the same bytes.
//!
//! The layout follows what Raspberry Pi's own rpi-make-boot-image asks of mkfs.fat: 512-byte sectors, the kind of FAT by the number
//! of clusters. Nothing is ever added to such a file system afterwards, so there is no allocator in here.

mod directory;
mod geometry;
mod name;

use std::borrow::Cow;
use std::fs::File;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use directory::Tree;
use geometry::Geometry;
pub use geometry::{Kind, SECTOR};

/// What is to be written.
#[derive(Debug)]
pub struct Volume<'a> {
    /// At most eleven characters.
    pub label: &'a str,
    /// The time of every file, seconds since 1970.
    pub time: u64,
    /// Path, with `/` between directories, and contents.
    pub files: &'a [(String, Vec<u8>)],
    pub size: Size,
}

/// How large the file system becomes.
#[derive(Debug, Clone, Copy)]
pub enum Size {
    /// Nothing is left free, and there is one copy of the table, as rpi-make-boot-image writes it.
    Fitting,
    /// A partition of that many sectors which begins at that sector of its disk.
    Partition { kind: Kind, start: u32, sectors: u32 },
}

/// A finished file system: what is not in a piece is zero.
#[derive(Debug)]
pub struct Written<'a> {
    size: u64,
    pieces: Vec<(u64, Cow<'a, [u8]>)>,
}

impl<'a> Volume<'a> {
    /// Lays it out.
    pub fn write(&self) -> Result<Written<'a>> {
        let tree = Tree::of(self.files)?;
        let geometry = self.geometry(&tree)?;
        let cluster = geometry.cluster_bytes();
        let mut table = Table::new(&geometry);
        let mut starts = tree.allocate(&geometry, &mut table);
        let mut pieces = Vec::new();
        for (path, data) in self.files {
            let length = u32::try_from(data.len()).ok().filter(|length| *length < u32::MAX);
            length.with_context(|| format!("{path}: {} bytes do not fit a FAT file", data.len()))?;
            let start = table.chain(data.len().div_ceil(cluster));
            starts.files.push(start);
            if start != 0 {
                pieces.push((geometry.cluster_at(start), Cow::Borrowed(data.as_slice())));
            }
        }
        let used = table.next - 2;
        if used > geometry.clusters {
            bail!(
                "{}: {} bytes do not fit a partition with {} bytes for files",
                self.label,
                used as usize * cluster,
                geometry.clusters as usize * cluster
            );
        }
        for (at, bytes) in tree.directories(&geometry, &starts, self.label, self.time) {
            pieces.push((at, Cow::Owned(bytes)));
        }
        let boot = geometry.boot_sectors(self.label, self.id(), used, table.next);
        pieces.extend(boot.into_iter().map(|(at, bytes)| (at, Cow::Owned(bytes))));
        let table = table.bytes(&geometry);
        for copy in 0..geometry.tables {
            pieces.push((geometry.table_at(copy), Cow::Owned(table.clone())));
        }
        pieces.sort_by_key(|piece| piece.0);
        Ok(Written {
            size: u64::from(geometry.sectors) * SECTOR as u64,
            pieces,
        })
    }

    fn geometry(&self, tree: &Tree) -> Result<Geometry> {
        match self.size {
            Size::Partition { kind, start, sectors } => Geometry::of_partition(kind, start, sectors),
            Size::Fitting => {
                let files = self.files.iter().map(|(_, data)| data.len().div_ceil(SECTOR));
                Geometry::fitting(files.sum(), tree.directory_sectors(), tree.root_entries())
            }
        }
    }

    /// The volume's number: the same for the same contents, another for others.
    fn id(&self) -> u32 {
        let mut hash = Sha256::new();
        hash.update(self.label);
        hash.update(self.time.to_le_bytes());
        for (path, data) in self.files {
            hash.update(path);
            hash.update((data.len() as u64).to_le_bytes());
            hash.update(data);
        }
        let digest = hash.finalize();
        digest.first_chunk().map_or(0, |first| u32::from_le_bytes(*first))
    }
}

impl Written<'_> {
    /// All of it.
    pub fn bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(self.size).context("file system too large for memory")?];
        for (at, piece) in &self.pieces {
            let at = usize::try_from(*at).context("file system too large for memory")?;
            let place = bytes
                .get_mut(at..at + piece.len())
                .context("a piece outside its file system")?;
            place.copy_from_slice(piece);
        }
        Ok(bytes)
    }

    /// Into a file, which stays sparse where nothing is.
    pub fn write_to(&self, file: &File, offset: u64) -> std::io::Result<()> {
        self.pieces
            .iter()
            .try_for_each(|(at, piece)| file.write_all_at(piece, offset + at))
    }
}

/// The table of clusters while it is filled from the front.
#[derive(Debug)]
struct Table {
    entries: Vec<u32>,
    next: u32,
    last: u32,
}

impl Table {
    fn new(geometry: &Geometry) -> Self {
        let last = geometry.kind.last();
        // The first two name the medium and say that the file system was put away in order.
        let entries = vec![(last & !0xff) | u32::from(geometry::MEDIUM), last];
        Self {
            entries,
            next: 2,
            last,
        }
    }

    /// Takes the next clusters; the first of them, 0 where none is wanted.
    fn chain(&mut self, clusters: usize) -> u32 {
        let start = self.next;
        for left in (0..clusters).rev() {
            self.next += 1;
            self.entries.push(if left == 0 { self.last } else { self.next });
        }
        if clusters == 0 { 0 } else { start }
    }

    fn bytes(&self, geometry: &Geometry) -> Vec<u8> {
        let mut bytes = match geometry.kind {
            Kind::Fat32 => self
                .entries
                .iter()
                .flat_map(|entry| entry.to_le_bytes())
                .collect(),
            Kind::Fat16 => self
                .entries
                .iter()
                .flat_map(|entry| entry.to_le_bytes().into_iter().take(2))
                .collect(),
            Kind::Fat12 => self.twelve_bits(),
        };
        bytes.resize(geometry.table_sectors as usize * SECTOR, 0);
        bytes
    }

    /// Two entries in three bytes.
    fn twelve_bits(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.entries.len() * 3 / 2 + 3);
        for pair in self.entries.chunks(2) {
            let low = pair.first().copied().unwrap_or_default();
            let high = pair.get(1).copied().unwrap_or_default();
            bytes.extend((low | high << 12).to_le_bytes().into_iter().take(3));
        }
        bytes
    }
}

#[cfg(test)]
mod tests;
