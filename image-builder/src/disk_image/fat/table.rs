//! A FAT volume's geometry, and the table that chains its clusters.

use anyhow::{Context, Result, bail};

use super::super::medium::Slice;

/// The table of a volume of 8 GiB with the smallest clusters anything makes of that size.
const LARGEST_TABLE: u64 = 64 << 20;

/// What the boot sector says, checked, and the table.
#[derive(Debug)]
pub struct Volume {
    pub part: Slice,
    pub serial: u32,
    pub label: String,
    width: Width,
    cluster: u64,
    clusters: u64,
    /// Byte where cluster 2 starts.
    data: u64,
    root: Root,
    table: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Width {
    Twelve,
    Sixteen,
    ThirtyTwo,
}

#[derive(Debug, Clone, Copy)]
enum Root {
    /// Before the clusters, in FAT12 and FAT16.
    Fixed(Run),
    Cluster(u32),
}

/// Bytes of the volume, one behind the other.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    pub start: u64,
    pub length: u64,
}

impl Volume {
    /// Reads the boot sector and the first table.
    pub fn read(part: &Slice) -> Result<Self> {
        let boot = part.bytes(0, 512).context("FAT")?;
        let byte = |at: usize| u64::from(boot.get(at).copied().unwrap_or(0));
        let half = |at| byte(at) | byte(at + 1) << 8;
        let word = |at| half(at) | half(at + 2) << 16;
        let (sector, in_cluster) = (half(11), byte(13));
        let jumps = matches!(byte(0), 0xeb | 0xe9);
        if !jumps
            || !sector.is_power_of_two()
            || !(512..=4096).contains(&sector)
            || !in_cluster.is_power_of_two()
        {
            bail!("not FAT");
        }
        let either = |short, long| if short == 0 { long } else { short };
        let (reserved, tables, root_entries) = (half(14), byte(16), half(17));
        let (sectors, table_sectors) = (either(half(19), word(32)), either(half(22), word(36)));
        let root_start = reserved + tables * table_sectors;
        let root_sectors = (root_entries * 32).div_ceil(sector);
        let data = root_start + root_sectors;
        if reserved == 0 || !(1..=2).contains(&tables) || data >= sectors {
            bail!("FAT: damaged boot sector: {sectors} sectors, the first {data} of them tables");
        }
        if sectors * sector > part.length() {
            bail!(
                "FAT: {sectors} sectors of {sector} bytes in a partition of {} bytes: cut short",
                part.length()
            );
        }
        let clusters = (sectors - data) / in_cluster;
        // Linux's rule, which does not ask for 65525 clusters before it calls a volume FAT32.
        let width = match clusters {
            _ if half(22) == 0 => Width::ThirtyTwo,
            ..4085 => Width::Twelve,
            _ => Width::Sixteen,
        };
        let needed = match width {
            Width::Twelve => ((clusters + 2) * 3).div_ceil(2),
            Width::Sixteen => (clusters + 2) * 2,
            Width::ThirtyTwo => (clusters + 2) * 4,
        };
        if needed > table_sectors * sector || needed > LARGEST_TABLE {
            bail!("FAT: damaged boot sector: {clusters} clusters and a table of {table_sectors} sectors");
        }
        let root = match width {
            Width::ThirtyTwo => Root::Cluster(u32::try_from(word(44))?),
            _ => Root::Fixed(Run {
                start: root_start * sector,
                length: root_sectors * sector,
            }),
        };
        let extended = if width == Width::ThirtyTwo { 67 } else { 39 };
        let label = boot.get(extended + 4..extended + 15).unwrap_or_default();
        Ok(Self {
            part: part.clone(),
            serial: u32::try_from(word(extended))?,
            label: String::from_utf8_lossy(label).trim_end().to_owned(),
            width,
            cluster: in_cluster * sector,
            clusters,
            data: data * sector,
            root,
            table: part
                .bytes(reserved * sector, usize::try_from(needed)?)
                .context("FAT")?,
        })
    }

    /// Where the root directory lies.
    pub fn root_runs(&self) -> Result<Vec<Run>> {
        match self.root {
            Root::Fixed(run) => Ok(vec![run]),
            Root::Cluster(first) => self.runs(first),
        }
    }

    /// Where a chain of clusters lies, from its first; 0 is the chain of an empty file.
    pub fn runs(&self, first: u32) -> Result<Vec<Run>> {
        let mut runs: Vec<Run> = Vec::new();
        let mut next = u64::from(first);
        let mut count = 0;
        while next != 0 {
            let index = next.checked_sub(2).filter(|index| *index < self.clusters);
            let index = index
                .with_context(|| format!("damaged: a chain leads to cluster {next} of {}", self.clusters))?;
            count += 1;
            if count > self.clusters {
                bail!("damaged: a chain of clusters goes in a circle; fsck.vfat repairs it");
            }
            let start = self.data + index * self.cluster;
            match runs.last_mut() {
                Some(run) if run.start + run.length == start => run.length += self.cluster,
                _ => runs.push(Run {
                    start,
                    length: self.cluster,
                }),
            }
            next = self.after(next)?;
        }
        Ok(runs)
    }

    /// The cluster behind one, 0 behind the last.
    fn after(&self, cluster: u64) -> Result<u64> {
        let cluster = usize::try_from(cluster)?;
        let byte = |at: usize| self.table.get(at).copied().map_or(0, u64::from);
        let (next, end) = match self.width {
            Width::Twelve => {
                let at = cluster + cluster / 2;
                let pair = byte(at) | byte(at + 1) << 8;
                (if cluster % 2 == 0 { pair & 0xfff } else { pair >> 4 }, 0xff8)
            }
            Width::Sixteen => (byte(cluster * 2) | byte(cluster * 2 + 1) << 8, 0xfff8),
            Width::ThirtyTwo => {
                let at = cluster * 4;
                let word = byte(at) | byte(at + 1) << 8 | byte(at + 2) << 16 | byte(at + 3) << 24;
                (word & 0x0fff_ffff, 0x0fff_fff8)
            }
        };
        if next == 0 {
            bail!("damaged: a chain leads to a free cluster");
        }
        Ok(if next >= end { 0 } else { next })
    }
}
