//! Everything below a directory of a tree, in an order that is always the same.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::{Metadata, Tree};
use crate::tree::backing::Kind;

/// Whether a walk enters what is mounted inside the tree (a boot partition).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mounts {
    Entered,
    /// The mount points come as the empty directories they are in the file system they belong to.
    LeftOut,
}

/// A name in the tree.
#[derive(Debug)]
pub struct Entry {
    /// Relative to the tree's root; the root itself is the empty path.
    pub path: PathBuf,
    /// Of a link, the link itself.
    pub metadata: Metadata,
}

/// A directory first, then what is in it, by name as bytes; each name's own children before the next name.
#[derive(Debug)]
pub struct Walk<'a> {
    tree: &'a Tree,
    mounts: Mounts,
    waiting: Vec<PathBuf>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(tree: &'a Tree, top: PathBuf, mounts: Mounts) -> Self {
        Self {
            tree,
            mounts,
            waiting: vec![top],
        }
    }

    fn step(&mut self, path: &Path) -> Result<Entry> {
        let metadata = self.tree.found(path, self.mounts)?;
        if metadata.kind == Kind::Directory {
            let mut names = self.tree.entries_at(path, self.mounts)?;
            names.sort();
            self.waiting
                .extend(names.into_iter().rev().map(|name| path.join(name)));
        }
        Ok(Entry {
            path: path.to_owned(),
            metadata,
        })
    }
}

impl Iterator for Walk<'_> {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        let path = self.waiting.pop()?;
        let entry = self.step(&path);
        if entry.is_err() {
            self.waiting.clear();
        }
        Some(entry)
    }
}
