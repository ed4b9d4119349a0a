//! Where the parts of a FAT file system lie, and its boot sectors; Microsoft's "FAT: General Overview of On-Disk Format".

use anyhow::{Result, bail};

/// Bytes in a sector: the boot ROMs of Raspberry Pis read no other size.
pub const SECTOR: usize = 512;
/// The byte for a disk that is not a floppy.
pub const MEDIUM: u8 = 0xf8;
/// Readers disagree by a few about the number of clusters at which the kind changes.
const MARGIN: u32 = 16;
/// The kinds begin here, by number of clusters.
const FAT16_FROM: u32 = 4085;
const FAT32_FROM: u32 = 65525;

/// Which FAT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Fat12,
    Fat16,
    Fat32,
}

impl Kind {
    fn of(clusters: u32) -> Self {
        match clusters {
            0..FAT16_FROM => Self::Fat12,
            FAT16_FROM..FAT32_FROM => Self::Fat16,
            _ => Self::Fat32,
        }
    }

    /// The entry that ends a chain.
    pub fn last(self) -> u32 {
        match self {
            Self::Fat12 => 0xfff,
            Self::Fat16 => 0xffff,
            Self::Fat32 => 0x0fff_ffff,
        }
    }

    fn bits(self) -> u64 {
        match self {
            Self::Fat12 => 12,
            Self::Fat16 => 16,
            Self::Fat32 => 32,
        }
    }

    /// Sectors before the first table.
    fn reserved(self) -> u32 {
        if self == Self::Fat32 { 32 } else { 1 }
    }

    fn table_sectors(self, clusters: u32) -> u32 {
        let bytes = ((u64::from(clusters) + 2) * self.bits()).div_ceil(8);
        u32::try_from(bytes.div_ceil(SECTOR as u64)).unwrap_or(u32::MAX)
    }
}

/// Where everything lies, in sectors.
#[derive(Debug, Clone)]
pub struct Geometry {
    pub kind: Kind,
    pub clusters: u32,
    pub tables: u32,
    pub table_sectors: u32,
    pub sectors: u32,
    /// Entries of the root directory where it is not a chain of clusters.
    root_entries: u16,
    per_cluster: u32,
    /// Sectors of the disk before this file system.
    start: u32,
}

impl Geometry {
    /// The smallest for so many clusters of one sector.
    pub fn fitting(file_sectors: usize, directory_sectors: usize, root_entries: usize) -> Result<Self> {
        // As many as rpi-make-boot-image gives, and more where that is too few.
        let root_entries = root_entries.next_multiple_of(SECTOR / 32).max(256);
        let root_sectors = root_entries * 32 / SECTOR;
        let Ok(needed) = u32::try_from(file_sectors + directory_sectors) else {
            bail!("{file_sectors} sectors of files do not fit a FAT file system");
        };
        let mut clusters = needed.max(1);
        for border in [FAT16_FROM, FAT32_FROM] {
            if (border - MARGIN..border + MARGIN).contains(&clusters) {
                clusters = border + MARGIN;
            }
        }
        let kind = Kind::of(clusters);
        let Ok(root_sectors) = u32::try_from(root_sectors) else {
            bail!("{root_entries} names do not fit one FAT directory");
        };
        if kind == Kind::Fat32 {
            // Its root directory is made of clusters too.
            clusters = clusters.saturating_add(root_sectors);
        }
        let mut geometry = Self {
            kind,
            clusters,
            tables: 1,
            table_sectors: kind.table_sectors(clusters),
            sectors: 0,
            root_entries: if kind == Kind::Fat32 {
                0
            } else {
                u16::try_from(root_entries).unwrap_or(u16::MAX)
            },
            per_cluster: 1,
            start: 0,
        };
        geometry.sectors = geometry.data_at().saturating_add(clusters);
        Ok(geometry)
    }

    /// A partition of a given size, with two copies of the table as card readers expect them.
    pub fn of_partition(kind: Kind, start: u32, sectors: u32) -> Result<Self> {
        let candidates =
            [1, 2, 4, 8, 16, 32, 64].map(|per_cluster| Self::filling(kind, start, sectors, per_cluster));
        let mut fitting = candidates.into_iter().flatten().filter(|geometry| {
            let off = [FAT16_FROM, FAT32_FROM]
                .iter()
                .all(|border| geometry.clusters.abs_diff(*border) > MARGIN);
            off && Kind::of(geometry.clusters) == kind && geometry.per_cluster <= 8
        });
        // The largest clusters: less to read for a boot ROM.
        match fitting.next_back() {
            Some(geometry) => Ok(geometry),
            None => bail!("{sectors} sectors are no size for a {kind:?} file system"),
        }
    }

    fn filling(kind: Kind, start: u32, sectors: u32, per_cluster: u32) -> Option<Self> {
        let mut geometry = Self {
            kind,
            clusters: 0,
            tables: 2,
            table_sectors: 1,
            sectors,
            root_entries: if kind == Kind::Fat32 { 0 } else { 512 },
            per_cluster,
            start,
        };
        loop {
            geometry.clusters = sectors.checked_sub(geometry.data_at())? / per_cluster;
            let needed = kind.table_sectors(geometry.clusters);
            if needed <= geometry.table_sectors {
                return Some(geometry);
            }
            geometry.table_sectors = needed;
        }
    }

    /// Bytes in a cluster.
    pub fn cluster_bytes(&self) -> usize {
        self.per_cluster as usize * SECTOR
    }

    fn root_at(&self) -> u32 {
        self.kind.reserved() + self.tables * self.table_sectors
    }

    fn data_at(&self) -> u32 {
        self.root_at() + (u32::from(self.root_entries) * 32).div_ceil(SECTOR as u32)
    }

    /// The byte at which a copy of the table begins.
    pub fn table_at(&self, copy: u32) -> u64 {
        u64::from(self.kind.reserved() + copy * self.table_sectors) * SECTOR as u64
    }

    /// The byte at which a cluster begins.
    pub fn cluster_at(&self, cluster: u32) -> u64 {
        let sector =
            u64::from(self.data_at()) + u64::from(cluster.saturating_sub(2)) * u64::from(self.per_cluster);
        sector * SECTOR as u64
    }

    /// The byte at which the root directory begins.
    pub fn root_directory_at(&self) -> u64 {
        match self.kind {
            Kind::Fat32 => self.cluster_at(2),
            _ => u64::from(self.root_at()) * SECTOR as u64,
        }
    }

    /// The boot sector, and what FAT32 keeps beside it, each with the byte it begins at.
    pub fn boot_sectors(&self, label: &str, id: u32, used: u32, next: u32) -> Vec<(u64, Vec<u8>)> {
        let boot = self.boot_sector(label, id);
        if self.kind != Kind::Fat32 {
            return vec![(0, boot)];
        }
        let information = self.information_sector(used, next);
        let sector = SECTOR as u64;
        vec![
            (0, boot.clone()),
            (sector, information.clone()),
            (6 * sector, boot),
            (7 * sector, information),
        ]
    }

    fn boot_sector(&self, label: &str, id: u32) -> Vec<u8> {
        let mut sector = Sector::default();
        let fat32 = self.kind == Kind::Fat32;
        sector.bytes(&[0xeb, if fat32 { 0x58 } else { 0x3c }, 0x90]);
        sector.bytes(b"LIFEBOOT");
        sector.bytes(&(SECTOR as u16).to_le_bytes());
        sector.bytes(&[self.per_cluster as u8]);
        sector.bytes(&(self.kind.reserved() as u16).to_le_bytes());
        sector.bytes(&[self.tables as u8]);
        sector.bytes(&self.root_entries.to_le_bytes());
        let short = u16::try_from(self.sectors).ok().filter(|_| !fat32);
        sector.bytes(&short.unwrap_or_default().to_le_bytes());
        sector.bytes(&[MEDIUM]);
        let table = if fat32 { 0 } else { self.table_sectors as u16 };
        sector.bytes(&table.to_le_bytes());
        // One head with one sector a track: no number of sectors is then at odds with it.
        sector.bytes(&[1, 0, 1, 0]);
        sector.bytes(&self.start.to_le_bytes());
        sector.bytes(&if short.is_some() { 0 } else { self.sectors }.to_le_bytes());
        if fat32 {
            sector.bytes(&self.table_sectors.to_le_bytes());
            // Flags and version 0, the root directory's cluster, the information sector, the boot sector's copy.
            sector.bytes(&[0, 0, 0, 0, 2, 0, 0, 0, 1, 0, 6, 0]);
            sector.bytes(&[0; 12]);
        }
        sector.bytes(&[0x80, 0, 0x29]);
        sector.bytes(&id.to_le_bytes());
        sector.bytes(format!("{label:<11}").as_bytes());
        sector.bytes(match self.kind {
            Kind::Fat12 => b"FAT12   ",
            Kind::Fat16 => b"FAT16   ",
            Kind::Fat32 => b"FAT32   ",
        });
        sector.finish([0, 0, 0x55, 0xaa])
    }

    fn information_sector(&self, used: u32, next: u32) -> Vec<u8> {
        let mut sector = Sector::default();
        sector.bytes(b"RRaA");
        sector.0.resize(484, 0);
        sector.bytes(b"rrAa");
        sector.bytes(&self.clusters.saturating_sub(used).to_le_bytes());
        sector.bytes(&next.to_le_bytes());
        sector.finish([0, 0, 0x55, 0xaa])
    }
}

/// A sector filled from its beginning.
#[derive(Default)]
struct Sector(Vec<u8>);

impl Sector {
    fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn finish(mut self, end: [u8; 4]) -> Vec<u8> {
        self.0.resize(SECTOR - 4, 0);
        self.0.extend(end);
        self.0
    }
}
