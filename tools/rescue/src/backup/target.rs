//! Where a backup goes: a server, a file, standard output.

use super::put::{Method, Trouble, Upload};
use crate::deploy::write::is_zero;
use anyhow::{Context as _, anyhow, bail};
use lifeboot_contract::plan::Plan;
use lifeboot_contract::template::Template;
use lifeboot_init::stage::fetch::{Limits, Url, mem_available, shown};
use rustix::fs::{FsWord, statfs};
use std::fs::{self, File};
use std::io::{self, IsTerminal as _, Seek as _, SeekFrom, Write, stdout};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// File systems that are memory: tmpfs and ramfs (include/uapi/linux/magic.h).
const IN_MEMORY: [FsWord; 2] = [0x0102_1994, 0x8584_58F6];
/// Zeros in a raw file become holes in pieces of this size.
const HOLE: usize = 64 << 10;

/// A target, nothing of it written yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Templates are expanded.
    Url(Url),
    File(PathBuf),
    Stdout,
}

impl Target {
    /// What is meant by what was typed.
    ///
    /// # Errors
    /// It can be nothing that a backup goes to.
    pub fn parse(text: &str, plan: &Plan) -> anyhow::Result<Target> {
        if text == super::STDOUT {
            return match stdout().is_terminal() {
                true => {
                    bail!("standard output is a terminal; give a file, or pipe it: … | cat >disk.img.zst")
                }
                false => Ok(Target::Stdout),
            };
        }
        if text.contains("://") {
            let url = Template::parse(text).and_then(|template| template.expand(&plan.facts));
            let url = Url::parse(&url.with_context(|| text.to_owned())?).with_context(|| text.to_owned())?;
            return match url.scheme() {
                "http" | "https" => Ok(Target::Url(url)),
                other => bail!("{}: neither http nor https but {other}", shown(&url)),
            };
        }
        let path = PathBuf::from(text);
        if let Ok(meta) = fs::symlink_metadata(&path) {
            match meta.is_dir() {
                true => bail!("{text}: it is a directory; name a file in it"),
                false => bail!("{text}: is there already, and is not overwritten"),
            }
        }
        let digest = digest_file(&path);
        if fs::symlink_metadata(&digest).is_ok() {
            bail!("{}: is there already, and is not overwritten", digest.display());
        }
        Ok(Target::File(path))
    }

    /// Why `needed` bytes should not go there.
    pub fn refusal(&self, needed: u64) -> Option<String> {
        let Target::File(path) = self else { return None };
        let dir = directory(path);
        let place = statfs(dir).ok()?;
        if !IN_MEMORY.contains(&place.f_type) {
            return None;
        }
        let room = mem_available().ok()?.0 / 2;
        (needed > room).then(|| {
            format!(
                "{}: is in memory, of which {room} bytes may be used, and up to {needed} are needed; mount a disk or name a URL",
                path.display()
            )
        })
    }

    /// As people and programs know it.
    pub fn name(&self) -> String {
        match self {
            Target::Url(url) => shown(url),
            Target::File(path) => path.display().to_string(),
            Target::Stdout => "standard output".to_owned(),
        }
    }

    /// What the digest file calls it.
    pub fn file_name(&self) -> String {
        match self {
            Target::Url(url) => url.path().rsplit('/').next().unwrap_or_default().to_owned(),
            Target::File(path) => path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            Target::Stdout => "-".to_owned(),
        }
    }

    /// Begins to write; `length` bytes where that is known.
    pub fn open(&self, method: Method, length: Option<u64>, kept: &Kept) -> Result<Sink, Trouble> {
        match self {
            Target::Url(url) => Upload::begin(url, method, length, &Limits::default())
                .map(|upload| Sink::Upload(Box::new(upload))),
            Target::File(path) => {
                let sparse = length.is_some();
                let partial = Partial::create(path, sparse, kept).map_err(Trouble::Final)?;
                Ok(Sink::File(partial))
            }
            Target::Stdout => Ok(Sink::Stdout),
        }
    }
}

/// Where the digest of an image lies.
pub fn digest_file(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".sha256");
    name.into()
}

fn directory(path: &Path) -> &Path {
    path.parent()
        .filter(|dir| !dir.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

/// What a signal must take away: the file that is not whole yet.
#[derive(Debug, Clone, Default)]
pub struct Kept(Arc<Mutex<Option<PathBuf>>>);

impl Kept {
    fn set(&self, path: Option<PathBuf>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = path;
    }

    /// Takes it away.
    pub fn remove(&self) {
        let path = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(path) = path {
            crate::output::ignore(fs::remove_file(path));
        }
    }
}

/// What is being written to.
pub enum Sink {
    Upload(Box<Upload>),
    File(Partial),
    Stdout,
}

impl Sink {
    /// More bytes.
    pub fn put(&mut self, bytes: &[u8]) -> Result<(), Trouble> {
        match self {
            Sink::Upload(upload) => {
                let written = upload.write_all(bytes);
                written.map_err(|error| {
                    upload
                        .trouble
                        .take()
                        .unwrap_or_else(|| Trouble::Cut(anyhow!(error)))
                })
            }
            Sink::File(partial) => partial.put(bytes).map_err(|error| partial.broken(error)),
            Sink::Stdout => stdout()
                .lock()
                .write_all(bytes)
                // Not the reader's right to leave early: what it has is no backup.
                .map_err(|error| Trouble::Final(anyhow!(error).context("standard output"))),
        }
    }

    /// That was all; it is safe there when this returns.
    pub fn finish(self) -> Result<(), Trouble> {
        match self {
            Sink::Upload(upload) => upload.finish().map(drop),
            Sink::File(mut partial) => partial.keep().map_err(|error| partial.broken(error)),
            Sink::Stdout => stdout()
                .lock()
                .flush()
                .map_err(|error| Trouble::Final(anyhow!(error).context("standard output"))),
        }
    }
}

/// A file that has its name only when it is whole.
pub struct Partial {
    file: File,
    path: PathBuf,
    partial: PathBuf,
    sparse: bool,
    length: u64,
    kept: Kept,
}

impl Partial {
    /// Beside `path`, called `.partial`.
    ///
    /// # Errors
    /// The kernel's.
    pub fn create(path: &Path, sparse: bool, kept: &Kept) -> anyhow::Result<Partial> {
        let mut partial = path.as_os_str().to_owned();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        let file = File::create(&partial).with_context(|| partial.display().to_string())?;
        kept.set(Some(partial.clone()));
        Ok(Partial {
            file,
            path: path.to_path_buf(),
            partial,
            sparse,
            length: 0,
            kept: kept.clone(),
        })
    }

    /// More bytes.
    ///
    /// # Errors
    /// The kernel's.
    pub fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        for piece in bytes.chunks(HOLE) {
            match self.sparse && is_zero(piece) {
                true => drop(
                    self.file
                        .seek(SeekFrom::Current(i64::try_from(piece.len()).unwrap_or(0)))?,
                ),
                false => self.file.write_all(piece)?,
            }
        }
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Gives it its name. It is there after a loss of power, too.
    ///
    /// # Errors
    /// The kernel's; or somebody else has made a file of that name meanwhile.
    pub fn keep(&mut self) -> io::Result<()> {
        self.file.set_len(self.length)?;
        self.file.sync_all()?;
        if fs::symlink_metadata(&self.path).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        fs::rename(&self.partial, &self.path)?;
        self.kept.set(None);
        File::open(directory(&self.path))?.sync_all()
    }

    fn broken(&self, error: io::Error) -> Trouble {
        Trouble::Final(anyhow!(error).context(format!(
            "{}: after {} bytes; nothing of it was kept",
            self.path.display(),
            self.length
        )))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // Nothing, when it has got its name.
        self.kept.remove();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("lifeboot-backup-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        dir.join("disk.img")
    }

    #[test]
    fn a_file_has_its_name_when_it_is_whole_and_is_gone_when_it_is_not() {
        let path = place("partial");
        let partial = path.with_extension("img.partial");
        let kept = Kept::default();
        for whole in [false, true] {
            let mut file = Partial::create(&path, true, &kept).unwrap();
            file.put(&[vec![1; HOLE], vec![0; 2 * HOLE]].concat()).unwrap();
            assert!(partial.exists() && !path.exists());
            if whole {
                file.keep().unwrap();
            }
            drop(file);
            assert_eq!((partial.exists(), path.exists()), (false, whole));
        }
        let bytes = fs::read(&path).unwrap();
        assert!(bytes.len() == 3 * HOLE && bytes[..HOLE].iter().all(|byte| *byte == 1));
        // And it is not taken away by the next one.
        let mut second = Partial::create(&path, true, &kept).unwrap();
        assert_eq!(second.keep().unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        drop(second);
        assert!(fs::read(&path).unwrap() == bytes);
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }

    #[test]
    fn what_is_typed_is_a_url_or_a_file_that_is_not_there() {
        let parse = |text: &str| Target::parse(text, &Plan::default());
        let path = place("parse");
        assert_eq!(
            parse(&path.to_string_lossy()).unwrap(),
            Target::File(path.clone())
        );
        assert!(
            parse(&path.parent().unwrap().to_string_lossy())
                .unwrap_err()
                .to_string()
                .contains("directory")
        );
        fs::write(&path, "x").unwrap();
        assert!(
            parse(&path.to_string_lossy())
                .unwrap_err()
                .to_string()
                .contains("there already")
        );
        assert!(parse("/dev/null").is_err());
        assert!(parse("ftp://h/a").is_err() && parse("http://h/{nonsense}").is_err());
        let url = parse("http://me:secret@h/dir/a.img.zst?x=1").unwrap();
        assert_eq!(url.file_name(), "a.img.zst");
        assert_eq!(url.name(), "http://h/dir/a.img.zst?x=1");
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }
}
