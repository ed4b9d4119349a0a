//! A directory or the root partition of a disk image as nodes: in an order that is always the same, with hard links.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::node::{Exactly, Node, Sink, What};
use crate::tree::{Entry, Kind, Mounts, Tree};

/// Whose files they become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// Theirs, whose they are in the source.
    AsFound,
    /// Root's, for a tree an ordinary user made.
    Root,
}

/// Sends everything of a tree's root file system. What is mounted in it (a boot partition) is not of it.
pub fn send(tree: &Tree, owner: Owner, sink: &mut dyn Sink) -> Result<()> {
    // First names of files that have several.
    let mut first = BTreeMap::new();
    for entry in tree.walk("/", Mounts::LeftOut)? {
        let entry = entry?;
        let about = || format!("{}: /{}", tree.name(), entry.path.display());
        let Some(what) = what(tree, &entry, &mut first)? else {
            eprintln!("{}: a socket, which has no place in an image; left out", about());
            continue;
        };
        // Another name has the attributes of the first.
        let attributes = match what {
            What::Same(_) => Vec::new(),
            _ => tree.attributes(&entry.path)?,
        };
        let meta = &entry.metadata;
        let (user, group) = match owner {
            Owner::AsFound => (meta.user, meta.group),
            Owner::Root => (0, 0),
        };
        let mut data: Box<dyn Read> = match what {
            What::File(size) if size > 0 => Box::new(Exactly::new(tree.reader(&entry.path)?, size)),
            _ => Box::new(io::empty()),
        };
        let node = Node {
            path: entry.path.clone(),
            what,
            mode: meta.mode,
            user: user.into(),
            group: group.into(),
            modified: u64::try_from(meta.modified).unwrap_or(0),
            attributes,
        };
        sink.take(node, &mut data).with_context(about)?;
    }
    Ok(())
}

fn what(tree: &Tree, entry: &Entry, first: &mut BTreeMap<(u64, u64), PathBuf>) -> Result<Option<What>> {
    let meta = &entry.metadata;
    if meta.kind != Kind::Directory && meta.kind != Kind::Socket && meta.links > 1 {
        if let Some(first) = first.get(&meta.identity) {
            return Ok(Some(What::Same(first.clone())));
        }
        first.insert(meta.identity, entry.path.clone());
    }
    let (major, minor) = meta.device;
    Ok(Some(match meta.kind {
        Kind::File => What::File(meta.size),
        Kind::Directory => What::Directory,
        Kind::Link => What::Link(tree.read_link(&entry.path)?),
        Kind::CharacterDevice => What::CharacterDevice(major, minor),
        Kind::BlockDevice => What::BlockDevice(major, minor),
        Kind::Pipe => What::Pipe,
        Kind::Socket => return Ok(None),
    }))
}
