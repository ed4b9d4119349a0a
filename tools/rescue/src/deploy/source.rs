//! Where an image comes from: a server, a file, standard input.

use crate::progress::Progress;
use anyhow::{Context as _, anyhow};
use lifeboot_contract::control::Report;
use lifeboot_contract::event::{Event, Failure, Level};
use lifeboot_contract::image::TRUSTED_KEYS;
use lifeboot_contract::plan::{Plan, Verify};
use lifeboot_contract::template::Template;
use lifeboot_init::report::{Reporter, Sink};
use lifeboot_init::stage::fetch::{self, Limits, Saved};
use lifeboot_init::stage::verify::TrustedKeys;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, stdin};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A minisign file has four lines.
const LONGEST_SIGNATURE: u64 = 8 * 1024;

/// A source, not opened yet.
#[derive(Debug, PartialEq, Eq)]
pub enum Source {
    /// Templates are expanded.
    Url(String),
    File {
        path: PathBuf,
        signature: PathBuf,
    },
    Stdin {
        signature: Option<PathBuf>,
    },
}

impl Source {
    /// What is meant by what was typed.
    ///
    /// # Errors
    /// A URL that is none, or a signature for one, which is always beside it.
    pub fn parse(text: &str, signature: Option<&Path>, plan: &Plan) -> anyhow::Result<Source> {
        if text == super::STDIN {
            return Ok(Source::Stdin {
                signature: signature.map(Path::to_path_buf),
            });
        }
        if !text.contains("://") {
            let mut beside = PathBuf::from(text).into_os_string();
            beside.push(".minisig");
            return Ok(Source::File {
                path: PathBuf::from(text),
                signature: signature.map_or_else(|| beside.into(), Path::to_path_buf),
            });
        }
        if signature.is_some() {
            return Err(anyhow!(
                "{text}: its signature is fetched from beside it, --signature is for files"
            ));
        }
        let url = Template::parse(text).and_then(|template| template.expand(&plan.facts));
        Ok(Source::Url(url.with_context(|| text.to_owned())?))
    }

    /// Whether it is gone when it has been read.
    pub fn is_stdin(&self) -> bool {
        matches!(self, Source::Stdin { .. })
    }

    /// The number of the block device that it is, if it is one.
    pub fn block_device(&self) -> Option<u64> {
        let meta = match self {
            Source::Url(_) => return None,
            Source::File { path, .. } => path.metadata().ok()?,
            Source::Stdin { .. } => File::from(stdin().as_fd().try_clone_to_owned().ok()?)
                .metadata()
                .ok()?,
        };
        meta.file_type().is_block_device().then(|| meta.rdev())
    }

    /// Whether it can be checked first and written afterwards.
    pub fn can_be_read_twice(&self) -> bool {
        match self {
            Source::File { path, .. } => path.is_file(),
            _ => false,
        }
    }

    /// Gives all of it to `sink`; it proved itself as `plan` wants when this returns.
    ///
    /// # Errors
    /// It did not, or could not be had, or the sink did not take it.
    pub fn give(
        &self,
        plan: &Plan,
        sink: &mut dyn fetch::Sink,
        progress: &Arc<Progress>,
    ) -> anyhow::Result<Saved> {
        let keys = trusted_keys(|note| progress.say(note));
        match self {
            Source::Url(url) => {
                let reporter = Reporter::new(Arc::new(Words(Arc::clone(progress))));
                // It is not held in memory: that limit is not one here.
                fetch::to_sink(plan, url, sink, &keys, &reporter, &Limits::default()).map_err(said)
            }
            Source::File { path, signature } => {
                let name = path.display().to_string();
                let mut file = File::open(path).with_context(|| name.clone())?;
                let meta = file.metadata().with_context(|| name.clone())?;
                let total = match meta.file_type().is_block_device() {
                    true => Some(length(&mut file).with_context(|| name.clone())?),
                    false => meta.is_file().then_some(meta.len()),
                };
                let text = match plan.verify {
                    Verify::Required => Some(read_signature(signature)?),
                    _ => None,
                };
                fetch::from_reader(plan, (&name, total), &mut file, text.as_deref(), &keys, sink)
                    .map_err(said)
            }
            Source::Stdin { signature } => {
                let text = signature.as_deref().map(read_signature).transpose()?;
                let (name, mut input) = ("standard input", stdin().lock());
                fetch::from_reader(plan, (name, None), &mut input, text.as_deref(), &keys, sink).map_err(said)
            }
        }
    }
}

/// A source that is kept whole, and so must be little.
pub struct Little {
    longest: u64,
    pub bytes: Vec<u8>,
}

impl Little {
    /// Nothing has come.
    pub fn new(longest: u64) -> Little {
        Little {
            longest,
            bytes: Vec::new(),
        }
    }
}

impl fetch::Sink for Little {
    fn begin(&mut self, _: Option<u64>) -> io::Result<()> {
        self.bytes.clear();
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.bytes.extend_from_slice(bytes);
        match self.bytes.len() as u64 > self.longest {
            true => Err(io::Error::other(format!("longer than {} bytes", self.longest))),
            false => Ok(()),
        }
    }
}

/// The keys in this image that may sign. `note` hears of files that hold none.
pub fn trusted_keys(note: impl FnMut(&str)) -> TrustedKeys {
    let (keys, notes) = TrustedKeys::load(Path::new(TRUSTED_KEYS));
    notes.iter().map(String::as_str).for_each(note);
    keys
}

/// Bytes of a disk, which its metadata does not tell.
fn length(disk: &mut File) -> io::Result<u64> {
    let length = disk.seek(SeekFrom::End(0))?;
    disk.rewind()?;
    Ok(length)
}

fn read_signature(path: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    let name = || format!("the signature {}", path.display());
    let file = File::open(path).with_context(name)?;
    file.take(LONGEST_SIGNATURE)
        .read_to_string(&mut text)
        .with_context(name)?;
    Ok(text)
}

fn said(failure: Failure) -> anyhow::Error {
    match &failure.hint {
        Some(hint) => anyhow!("{failure} (hint: {hint})"),
        None => anyhow!("{failure}"),
    }
}

/// Of what a fetch says, what is wrong on the way; how far it is, the progress says itself.
struct Words(Arc<Progress>);

impl Sink for Words {
    fn event(&self, event: Event) {
        if let Some(text) = event.text.filter(|_| event.level == Level::Warn) {
            self.0.say(&text);
        }
    }

    fn report(&self, _: Report) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_is_a_url_a_file_or_standard_input() {
        let parse = |text: &str, signature: Option<&str>| {
            Source::parse(text, signature.map(Path::new), &Plan::default())
        };
        assert_eq!(
            parse("http://h/a.img", None).unwrap(),
            Source::Url("http://h/a.img".into())
        );
        assert!(parse("http://h/a.img", Some("/tmp/s")).is_err());
        assert!(parse("http://h/{nonsense}", None).is_err());
        let file = |signature: &str| Source::File {
            path: "/tmp/a.img".into(),
            signature: signature.into(),
        };
        assert_eq!(parse("/tmp/a.img", None).unwrap(), file("/tmp/a.img.minisig"));
        assert_eq!(parse("/tmp/a.img", Some("/tmp/s")).unwrap(), file("/tmp/s"));
        assert!(parse(super::super::STDIN, None).unwrap().is_stdin());
    }
}
