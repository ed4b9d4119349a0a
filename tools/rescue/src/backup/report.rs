//! What came of a backup, for people and for programs.

use super::copy::Gap;
use super::survey::Area;
use crate::disks::human;
use crate::ticker::clock;
use serde::Serialize;

/// What `--json` prints.
#[derive(Debug, Serialize)]
pub struct Report {
    pub outcome: Outcome,
    pub device: String,
    pub model: Option<String>,
    pub serial: Option<String>,
    /// Bytes of the disk, and of the image when it is unpacked.
    pub size: u64,
    pub target: String,
    /// `zstd` or `raw`.
    pub format: &'static str,
    /// Bytes that had to be read; the others are zeros in the image.
    pub wanted_bytes: u64,
    /// Bytes that were read.
    pub read_bytes: u64,
    /// Bytes of what was written or sent.
    pub packed_bytes: u64,
    /// Of these.
    pub sha256: Option<String>,
    /// Whether it was read back and compared.
    pub verified: bool,
    /// What could not be read, with `--skip-errors`: zeros in the image.
    pub unread: Vec<Gap>,
    /// What is on the disk.
    pub areas: Vec<Area>,
    pub seconds: f64,
    pub error: Option<String>,
    /// What the digest file calls the image.
    #[serde(skip)]
    pub file_name: String,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// All of it is there.
    Done,
    /// It is there, with zeros for what could not be read.
    Damaged,
    Failed,
    /// A dry run found nothing against it.
    Would,
}

impl Report {
    /// What is on the disk, and how much of it is read.
    pub fn plan(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for area in &self.areas {
            let fs = area.fs.as_deref().unwrap_or("unknown");
            let what = match &area.whole {
                Some(why) => format!("all of it: {why}"),
                None => format!("{} in use", human(area.wanted)),
            };
            lines.push(format!(
                "  from {:>8}  {:>8}  {fs:<8}  {what}",
                human(area.from),
                human(area.size)
            ));
        }
        lines
    }

    /// The digest as sha256sum writes it.
    pub fn digest(&self) -> String {
        format!(
            "{}  {}",
            self.sha256.as_deref().unwrap_or_default(),
            self.file_name
        )
    }

    /// For people.
    pub fn lines(&self) -> Vec<String> {
        let verified = if self.verified {
            ", read back and compared"
        } else {
            ""
        };
        let seconds = self.seconds.max(0.001);
        let mut lines = vec![
            format!(
                "{}: {} of {} read in {} ({}/s), {} as {} in {}{verified}",
                self.device,
                human(self.read_bytes),
                human(self.size),
                clock(self.seconds.round() as u64),
                human((self.read_bytes as f64 / seconds) as u64),
                human(self.packed_bytes),
                self.format,
                self.target
            ),
            self.digest(),
        ];
        lines.extend(self.unread.iter().map(|gap| {
            let (from, size) = (gap.from, gap.size);
            format!(
                "NOT READ: {size} bytes at byte {from}, zeros in the image ({})",
                gap.error
            )
        }));
        lines
    }
}
