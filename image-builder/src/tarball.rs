//! A directory as a tar stream: sorted, with hard links, device nodes and extended attributes.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use tar::{Builder, EntryType, Header};

/// Whose files they become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// Theirs, whose they are on this host.
    AsFound,
    /// Root's, for a tree an ordinary user made.
    Root,
}

/// Where a directory lies and what is made of it.
struct Walk<'a, W: Write> {
    top: &'a Path,
    owner: Owner,
    clamp: u64,
    out: Builder<W>,
    /// First names of files that have several.
    links: BTreeMap<(u64, u64), PathBuf>,
}

/// Writes everything below a directory, and the directory itself as the root.
pub fn write(top: &Path, owner: Owner, clamp: u64, out: impl Write) -> Result<()> {
    let mut walk = Walk {
        top,
        owner,
        clamp,
        out: Builder::new(out),
        links: BTreeMap::new(),
    };
    walk.entry(Path::new(""))?;
    walk.out.finish().with_context(|| top.display().to_string())
}

impl<W: Write> Walk<'_, W> {
    fn entry(&mut self, below: &Path) -> Result<()> {
        let path = self.top.join(below);
        let about = || path.display().to_string();
        let meta = fs::symlink_metadata(&path).with_context(about)?;
        let name = entry_name(below);
        let kind = meta.file_type();
        if kind.is_socket() {
            eprintln!(
                "{}: a socket, which has no place in an image; left out",
                path.display()
            );
            return Ok(());
        }
        let mut header = self.header(&meta);
        if !meta.is_dir() && meta.nlink() > 1 {
            let first = self.links.get(&(meta.dev(), meta.ino()));
            if let Some(first) = first {
                header.set_entry_type(EntryType::Link);
                header.set_size(0);
                return self.out.append_link(&mut header, name, first).with_context(about);
            }
            self.links.insert((meta.dev(), meta.ino()), below.to_owned());
        }
        self.attributes(&path)?;
        if kind.is_file() {
            header.set_entry_type(EntryType::Regular);
            header.set_size(meta.len());
            let file = File::open(&path).with_context(about)?;
            return self.out.append_data(&mut header, name, file).with_context(about);
        }
        if kind.is_symlink() {
            header.set_entry_type(EntryType::Symlink);
            header.set_size(0);
            let target = fs::read_link(&path).with_context(about)?;
            return self
                .out
                .append_link(&mut header, name, target)
                .with_context(about);
        }
        without_contents(&mut header, &meta).with_context(about)?;
        self.out
            .append_data(&mut header, name, std::io::empty())
            .with_context(about)?;
        if kind.is_dir() {
            self.children(below)
        } else {
            Ok(())
        }
    }

    fn children(&mut self, below: &Path) -> Result<()> {
        let path = self.top.join(below);
        let entries = fs::read_dir(&path).with_context(|| path.display().to_string())?;
        let mut names = Vec::new();
        for entry in entries {
            names.push(entry.with_context(|| path.display().to_string())?.file_name());
        }
        names.sort();
        names.iter().try_for_each(|name| self.entry(&below.join(name)))
    }

    fn header(&self, meta: &Metadata) -> Header {
        let mut header = Header::new_gnu();
        let (user, group) = match self.owner {
            Owner::AsFound => (meta.uid(), meta.gid()),
            Owner::Root => (0, 0),
        };
        header.set_uid(user.into());
        header.set_gid(group.into());
        header.set_mode(meta.mode() & 0o7777);
        header.set_mtime(u64::try_from(meta.mtime()).unwrap_or(0).min(self.clamp));
        header
    }

    /// Extended attributes as the records GNU tar and libarchive write.
    fn attributes(&mut self, path: &Path) -> Result<()> {
        let about = |error| anyhow!("{}: extended attributes: {error}", path.display());
        let mut names = vec![0_u8; 64 << 10];
        let length = match rustix::fs::llistxattr(path, &mut names[..]) {
            Err(rustix::io::Errno::NOTSUP) => 0,
            length => length.map_err(about)?,
        };
        let mut names: Vec<&[u8]> = names
            .get(..length)
            .unwrap_or_default()
            .split(|byte| *byte == 0)
            .filter(|name| !name.is_empty())
            .collect();
        names.sort_unstable();
        let mut records = Vec::new();
        for name in names {
            let mut value = vec![0_u8; 64 << 10];
            let name_path = Path::new(std::ffi::OsStr::from_bytes(name));
            let length = rustix::fs::lgetxattr(path, name_path, &mut value[..]).map_err(about)?;
            value.truncate(length);
            records.push((format!("SCHILY.xattr.{}", String::from_utf8_lossy(name)), value));
        }
        if records.is_empty() {
            return Ok(());
        }
        let records = records
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_slice()));
        self.out
            .append_pax_extensions(records)
            .with_context(|| path.display().to_string())
    }
}

/// The top itself is `./`, which sets the owner and mode of the image's root.
fn entry_name(below: &Path) -> &Path {
    if below.as_os_str().is_empty() {
        Path::new("./")
    } else {
        below
    }
}

/// Directories, device nodes and pipes.
fn without_contents(header: &mut Header, meta: &Metadata) -> std::io::Result<()> {
    header.set_size(0);
    let kind = meta.file_type();
    header.set_entry_type(match () {
        () if kind.is_dir() => EntryType::Directory,
        () if kind.is_char_device() => EntryType::Char,
        () if kind.is_block_device() => EntryType::Block,
        () => EntryType::Fifo,
    });
    if kind.is_char_device() || kind.is_block_device() {
        header.set_device_major(rustix::fs::major(meta.rdev()))?;
        header.set_device_minor(rustix::fs::minor(meta.rdev()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_directory_comes_out_sorted_with_its_links() {
        let top = tempfile::tempdir().unwrap();
        fs::create_dir(top.path().join("b")).unwrap();
        fs::write(top.path().join("b/file"), b"12345").unwrap();
        fs::hard_link(top.path().join("b/file"), top.path().join("b/second")).unwrap();
        symlink("b/file", top.path().join("a")).unwrap();
        let mut bytes = Vec::new();
        write(top.path(), Owner::Root, 1000, &mut bytes).unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let entries: Vec<(String, EntryType, u64)> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                assert_eq!(
                    (entry.header().uid().unwrap(), entry.header().mtime().unwrap()),
                    (0, 1000)
                );
                (
                    entry.path().unwrap().display().to_string(),
                    entry.header().entry_type(),
                    entry.size(),
                )
            })
            .collect();
        let expected = [
            ("./", EntryType::Directory, 0),
            ("a", EntryType::Symlink, 0),
            ("b", EntryType::Directory, 0),
            ("b/file", EntryType::Regular, 5),
            ("b/second", EntryType::Link, 0),
        ];
        let expected: Vec<_> = expected
            .into_iter()
            .map(|(path, kind, size)| (path.to_owned(), kind, size))
            .collect();
        assert_eq!(entries, expected);
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let error = write(Path::new("/nonexistent/tree"), Owner::Root, 0, Vec::new()).unwrap_err();
        assert!(error.to_string().starts_with("/nonexistent/tree"), "{error}");
    }
}
