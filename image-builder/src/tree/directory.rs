//! A directory of this host as a tree's backing.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};

use super::backing::{Attribute, Backing, Kind, Metadata};

/// The limit of Linux on a list of attribute names, and on one value.
const ATTRIBUTES: usize = 64 << 10;

/// A directory of this host.
#[derive(Debug)]
pub struct Directory {
    root: PathBuf,
}

impl Directory {
    /// A directory that is there.
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }

    fn on_host(&self, path: &Path) -> PathBuf {
        // Joining the empty path would append a slash, which follows a link in the last place.
        if path.as_os_str().is_empty() {
            self.root.join(".")
        } else {
            self.root.join(path)
        }
    }
}

impl Backing for Directory {
    fn lstat(&self, path: &Path) -> Result<Option<Metadata>> {
        let on_host = self.on_host(path);
        match fs::symlink_metadata(&on_host) {
            Ok(meta) => Ok(Some(known(&meta).with_context(|| on_host.display().to_string())?)),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error).with_context(|| on_host.display().to_string()),
        }
    }

    fn entries(&self, path: &Path) -> Result<Vec<OsString>> {
        let on_host = self.on_host(path);
        let about = || on_host.display().to_string();
        let entries = fs::read_dir(&on_host).with_context(about)?;
        entries
            .map(|entry| Ok(entry.with_context(about)?.file_name()))
            .collect()
    }

    fn read_link(&self, path: &Path) -> Result<PathBuf> {
        let on_host = self.on_host(path);
        fs::read_link(&on_host).with_context(|| on_host.display().to_string())
    }

    fn reader(&self, path: &Path) -> Result<Box<dyn Read + '_>> {
        let on_host = self.on_host(path);
        let file = File::open(&on_host).with_context(|| on_host.display().to_string())?;
        Ok(Box::new(file))
    }

    fn attributes(&self, path: &Path) -> Result<Vec<Attribute>> {
        let on_host = self.on_host(path);
        let about = |error| anyhow!("{}: extended attributes: {error}", on_host.display());
        let mut names = vec![0_u8; ATTRIBUTES];
        let length = match rustix::fs::llistxattr(&on_host, &mut names[..]) {
            Err(rustix::io::Errno::NOTSUP) => 0,
            length => length.map_err(about)?,
        };
        names.truncate(length);
        names
            .split(|byte| *byte == 0)
            .filter(|name| !name.is_empty())
            .map(|name| {
                let mut value = vec![0_u8; ATTRIBUTES];
                let name = OsStr::from_bytes(name);
                let length = rustix::fs::lgetxattr(&on_host, name, &mut value[..]).map_err(about)?;
                value.truncate(length);
                Ok((name.to_owned(), value))
            })
            .collect()
    }
}

fn known(meta: &fs::Metadata) -> Result<Metadata> {
    Ok(Metadata {
        kind: Kind::of_mode(meta.mode()).with_context(|| format!("mode {:o}", meta.mode()))?,
        mode: meta.mode() & 0o7777,
        user: meta.uid(),
        group: meta.gid(),
        modified: meta.mtime(),
        size: meta.size(),
        links: meta.nlink(),
        device: (rustix::fs::major(meta.rdev()), rustix::fs::minor(meta.rdev())),
        identity: (meta.dev(), meta.ino()),
    })
}
