//! What came of it, for people and for programs.

use super::job::Found;
use super::target::Target;
use super::write::Landed;
use crate::disks::{self, Disk, human};
use crate::ticker::clock;
use anyhow::Context as _;
use lifeboot_init::stage::fetch::Saved;
use lifeboot_init::stage::verify::How;
use serde::Serialize;

/// What `--json` prints.
#[derive(Debug, Serialize)]
pub struct Report {
    source: String,
    device: String,
    model: Option<String>,
    serial: Option<String>,
    /// Bytes of the disk.
    size: u64,
    outcome: Outcome,
    /// What the disk is now.
    disk: State,
    /// How the source is packed, once that is known.
    format: Option<&'static str>,
    /// `minisign`, `sha256` or `off`, once it proved itself.
    proof: Option<&'static str>,
    /// The key or the digest.
    proved_by: Option<String>,
    /// The trusted comment of the signature.
    comment: Option<String>,
    source_bytes: Option<u64>,
    /// For a dry run at least so many.
    image_bytes: Option<u64>,
    /// Zeros of the image that did not have to be written.
    not_written_bytes: Option<u64>,
    pub seconds: f64,
    pub error: Option<String>,
    /// The disk and what is on it now, as `rescue disks --json` has it.
    contents: Vec<Disk>,
    #[serde(skip)]
    pub touched: bool,
    #[serde(skip)]
    pub would: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    Done,
    Failed,
    /// A dry run found nothing against it.
    Would,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    /// As it was.
    Untouched,
    /// Without a partition table; what was on it is lost.
    Unusable,
    /// The image, read back.
    Whole,
}

impl Report {
    /// Nothing has happened.
    pub fn new(source: &str) -> Report {
        Report {
            source: source.to_owned(),
            device: String::new(),
            model: None,
            serial: None,
            size: 0,
            outcome: Outcome::Failed,
            disk: State::Untouched,
            format: None,
            proof: None,
            proved_by: None,
            comment: None,
            source_bytes: None,
            image_bytes: None,
            not_written_bytes: None,
            seconds: 0.0,
            error: None,
            contents: Vec::new(),
            touched: false,
            would: false,
        }
    }

    /// Which disk.
    pub fn about(&mut self, target: &Target) {
        self.device.clone_from(&target.disk.device);
        self.model.clone_from(&target.model);
        self.serial.clone_from(&target.serial);
        self.size = target.disk.size;
    }

    /// What the first bytes told.
    pub fn found(&mut self, found: Option<Found>) {
        if let Some(found) = found {
            self.format = Some(found.format.word());
            self.source_bytes = self.source_bytes.or(found.source);
            self.image_bytes = found.image;
        }
    }

    /// That the source proved itself.
    pub fn saved(&mut self, saved: &Saved) {
        self.source_bytes = Some(saved.len);
        self.proof = Some(saved.how.word());
        match &saved.how {
            How::Minisign { key, comment } => {
                self.proved_by = Some(key.clone());
                self.comment = Some(comment.clone());
            }
            How::Sha256(digest) => self.proved_by = Some(digest.clone()),
            How::Off => {}
        }
    }

    /// That all of it is on the disk.
    pub fn landed(&mut self, landed: &Landed) {
        self.outcome = Outcome::Done;
        self.disk = State::Whole;
        self.image_bytes = Some(landed.len);
        self.not_written_bytes = Some(landed.not_written);
    }

    /// Looks at what is on the disk now.
    ///
    /// # Errors
    /// As `rescue disks`.
    pub fn contents(&mut self, device: &str) -> anyhow::Result<()> {
        let target = Target::find(device, None).context("the disk is written, but cannot be shown")?;
        self.contents = std::iter::once(target.disk).chain(target.inside).collect();
        Ok(())
    }

    /// As JSON.
    ///
    /// # Errors
    /// None that is known.
    pub fn json(&mut self) -> anyhow::Result<String> {
        if self.would {
            self.outcome = Outcome::Would;
        }
        if self.touched && self.disk == State::Untouched {
            self.disk = State::Unusable;
        }
        serde_json::to_string_pretty(self).context("report")
    }

    /// For people.
    pub fn lines(&self) -> Vec<String> {
        let image = self.image_bytes.unwrap_or_default();
        let proof = match (self.proof, &self.proved_by, &self.comment) {
            (Some("minisign"), Some(key), Some(comment)) => format!("signed by {key} ({comment})"),
            (Some("sha256"), ..) => "SHA-256 as given".to_owned(),
            _ => "NOT VERIFIED".to_owned(),
        };
        let mut lines = vec![
            format!(
                "{}: {} written in {} and read back, {proof}",
                self.device,
                human(image),
                clock(self.seconds.round() as u64)
            ),
            String::new(),
        ];
        lines.extend(disks::lines(&self.contents));
        lines
    }

    /// What a dry run says.
    pub fn would_do(&self) -> String {
        let length = |bytes: Option<u64>| bytes.map_or_else(|| "unknown length".to_owned(), human);
        let what = match self.format {
            Some("raw") => format!("raw, {}", length(self.source_bytes)),
            Some(format) => match self.image_bytes {
                Some(bytes) => format!(
                    "{format}, {}, unpacked {}",
                    length(self.source_bytes),
                    human(bytes)
                ),
                None => format!("{format}, {}", length(self.source_bytes)),
            },
            None => "not looked at".to_owned(),
        };
        format!(
            "Would overwrite {} with {} ({what}). Nothing was written.",
            self.device, self.source
        )
    }
}

/// What a failure left behind.
pub fn state(device: &str, touched: bool) -> String {
    match touched {
        false => format!("{device} was not touched"),
        true => format!("{device} is unusable now, deploy again"),
    }
}
