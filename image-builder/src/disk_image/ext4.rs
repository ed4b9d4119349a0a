//! An ext4 file system of a disk image as a tree's backing. The bytes, names and links come from the crate ext4-view, which
//! checks the checksums on the way; what it does not tell (inode numbers, how many names, device numbers, extended
//! attributes) is read from the inodes beside it.

mod attributes;
mod inode;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Context, Result, anyhow, bail};
use ext4_view::Ext4;

use self::inode::{Inode, Inodes};
use super::medium::Slice;
use crate::tree::{Attribute, Backing, Kind, Metadata};

/// The magic number and where it stands.
const MAGIC: (u64, [u8; 2]) = (1024 + 0x38, [0x53, 0xef]);
const ROOT: u32 = 2;

/// An ext2, ext3 or ext4 file system that nothing writes to.
pub struct FileSystem {
    /// `raspios.img: partition 2`, for messages.
    name: String,
    /// Tells its inodes from those of other file systems of the same tree.
    id: u64,
    reader: Ext4,
    inodes: Inodes,
    /// Directories that were read: by inode, the path it was reached by and its names.
    directories: RefCell<BTreeMap<u32, Rc<Directory>>>,
}

struct Directory {
    path: PathBuf,
    names: BTreeMap<OsString, u32>,
}

/// Whether the bytes look like one.
pub fn is_one(part: &Slice) -> bool {
    part.bytes(MAGIC.0, 2).is_ok_and(|bytes| bytes == MAGIC.1)
}

impl std::fmt::Debug for FileSystem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileSystem")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl FileSystem {
    /// Reads the superblock and the group descriptors.
    pub fn open(name: String, part: &Slice, id: u64) -> Result<Self> {
        let inodes = Inodes::read(part).with_context(|| name.clone())?;
        let reader = Ext4::load(Box::new(part.clone())).map_err(|error| damaged(&name, &error))?;
        Ok(Self {
            name,
            id,
            reader,
            inodes,
            directories: RefCell::default(),
        })
    }

    /// What `UUID=` names it by, lower case.
    pub fn uuid(&self) -> String {
        self.reader.uuid().to_string().to_lowercase()
    }

    /// What `LABEL=` names it by.
    pub fn label(&self) -> String {
        self.reader.label().display().to_string()
    }

    /// The inode at a path, `None` when nothing lies there.
    fn number(&self, path: &Path) -> Result<Option<u32>> {
        let mut number = ROOT;
        let mut here = PathBuf::new();
        for name in path {
            if self.inode(number)?.kind != Kind::Directory {
                return Ok(None);
            }
            let directory = self.directory(number, &here)?;
            let Some(child) = directory.names.get(name) else {
                return Ok(None);
            };
            number = *child;
            here.push(name);
        }
        Ok(Some(number))
    }

    fn inode(&self, number: u32) -> Result<Inode> {
        let inode = self.inodes.inode(number);
        inode.with_context(|| format!("{}: inode {number}", self.name))
    }

    /// The names in a directory. Nothing but damage gives one directory two paths, and then it may hold itself.
    fn directory(&self, number: u32, path: &Path) -> Result<Rc<Directory>> {
        if let Some(known) = self.directories.borrow().get(&number) {
            if known.path != path {
                bail!(
                    "{}: damaged: /{} and /{} are the same directory; e2fsck repairs it",
                    self.name,
                    known.path.display(),
                    path.display()
                );
            }
            return Ok(Rc::clone(known));
        }
        let inode = self.inode(number)?;
        let names = self.inodes.names(&inode);
        let directory = Rc::new(Directory {
            path: path.to_owned(),
            names: names.with_context(|| self.about(path))?,
        });
        self.directories
            .borrow_mut()
            .insert(number, Rc::clone(&directory));
        Ok(directory)
    }

    fn existing(&self, path: &Path) -> Result<u32> {
        let number = self.number(path)?;
        number.with_context(|| format!("{}: no such file", self.about(path)))
    }

    fn about(&self, path: &Path) -> String {
        format!("{}: /{}", self.name, path.display())
    }
}

impl Backing for FileSystem {
    fn lstat(&self, path: &Path) -> Result<Option<Metadata>> {
        let Some(number) = self.number(path)? else {
            return Ok(None);
        };
        let inode = self.inode(number)?;
        Ok(Some(Metadata {
            kind: inode.kind,
            mode: inode.mode,
            user: inode.user,
            group: inode.group,
            modified: inode.modified,
            size: inode.size,
            links: inode.links,
            device: inode.device,
            identity: (self.id, u64::from(number)),
        }))
    }

    fn entries(&self, path: &Path) -> Result<Vec<OsString>> {
        // Asked first, because it refuses a directory that holds itself.
        let number = self.existing(path)?;
        let directory = self.directory(number, path)?;
        // Read a second time, with the checksums that the first reading does not look at.
        let mut names = Vec::new();
        let about = |error| damaged(&self.about(path), &error);
        for entry in self.reader.read_dir(absolute(path).as_slice()).map_err(about)? {
            let entry = entry.map_err(about)?;
            let name = OsStr::from_bytes(entry.file_name().as_ref()).to_owned();
            if name == "." || name == ".." {
                continue;
            }
            if !directory.names.contains_key(&name) || name.as_bytes().contains(&b'/') {
                bail!("{}: damaged: name {}", self.about(path), name.display());
            }
            names.push(name);
        }
        Ok(names)
    }

    fn read_link(&self, path: &Path) -> Result<PathBuf> {
        let target = self.reader.read_link(absolute(path).as_slice());
        let target = target.map_err(|error| damaged(&self.about(path), &error))?;
        let bytes: &[u8] = target.as_ref();
        Ok(OsString::from_vec(bytes.to_vec()).into())
    }

    fn reader(&self, path: &Path) -> Result<Box<dyn Read + '_>> {
        let file = self.reader.open(absolute(path).as_slice());
        Ok(Box::new(
            file.map_err(|error| damaged(&self.about(path), &error))?,
        ))
    }

    fn attributes(&self, path: &Path) -> Result<Vec<Attribute>> {
        let inode = self.inode(self.existing(path)?)?;
        let attributes = attributes::read(&self.inodes, &inode);
        attributes.with_context(|| format!("{}: extended attributes", self.about(path)))
    }
}

fn absolute(path: &Path) -> Vec<u8> {
    let mut absolute = b"/".to_vec();
    absolute.extend_from_slice(path.as_os_str().as_bytes());
    absolute
}

fn damaged(about: &str, error: &ext4_view::Ext4Error) -> anyhow::Error {
    let hint = match error {
        ext4_view::Ext4Error::Corrupt(_) => "; e2fsck repairs what can be repaired",
        _ => "",
    };
    anyhow!("{about}: ext4: {error}{hint}")
}
