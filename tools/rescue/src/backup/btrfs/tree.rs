//! A walk through a tree, in the order of its keys. Every block is checked against what leads to it.

use super::superblock::Super;
use super::{field, is_whole};

/// Bytes of a key, of what a block begins with, of an entry in a leaf, and of one in a block above it.
pub const KEY: usize = 17;
const HEAD: usize = 101;
const ITEM: usize = 25;
const POINTER: usize = 33;
/// `BTRFS_MAX_LEVEL` - 1.
const HIGHEST: u64 = 7;

/// What an item is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub object: u64,
    pub kind: u64,
    pub offset: u64,
}

impl Key {
    pub fn parse(bytes: &[u8]) -> Key {
        Key {
            object: field(bytes, 0, 8),
            kind: field(bytes, 8, 1),
            offset: field(bytes, 9, 8),
        }
    }
}

/// Where a tree begins.
#[derive(Debug, Clone, Copy)]
pub struct Tree {
    /// Its number.
    pub owner: u64,
    pub at: u64,
    pub level: u64,
    pub generation: u64,
}

/// Reads a block by its address.
type Reader<'r> = &'r dyn Fn(u64) -> Result<Vec<u8>, String>;
/// Hears of every item.
type Hearer<'h> = &'h mut dyn FnMut(Key, &[u8]) -> Result<(), String>;

/// Tells `hear` of every item of `tree`.
///
/// # Errors
/// Why the tree is not believed, or what `hear` says.
pub fn walk(fs: &Super, tree: &Tree, read: Reader<'_>, hear: Hearer<'_>) -> Result<(), String> {
    if tree.level > HIGHEST {
        return Err(damaged(tree));
    }
    down(fs, tree, read, hear, &mut None, None)
}

fn damaged(tree: &Tree) -> String {
    format!("the block at {} of its tree {} is damaged", tree.at, tree.owner)
}

/// `last` is the key that was seen last in all of the tree; `first` the one that this block must begin with.
fn down(
    fs: &Super,
    tree: &Tree,
    read: Reader<'_>,
    hear: Hearer<'_>,
    last: &mut Option<Key>,
    first: Option<Key>,
) -> Result<(), String> {
    let bytes = read(tree.at)?;
    let odd = || damaged(tree);
    let sound = is_whole(&bytes)
        && bytes.get(32..48) == Some(&fs.id[..])
        && field(&bytes, 48, 8) == tree.at
        && field(&bytes, 80, 8) == tree.generation
        && field(&bytes, 88, 8) == tree.owner
        && field(&bytes, 100, 1) == tree.level;
    if !sound {
        return Err(odd());
    }
    let count = usize::try_from(field(&bytes, 96, 4)).map_err(|_| odd())?;
    let entry = if tree.level == 0 { ITEM } else { POINTER };
    if count > (bytes.len() - HEAD) / entry || count == 0 && first.is_some() {
        return Err(odd());
    }
    let entries = bytes.get(HEAD..HEAD + count * entry).ok_or_else(odd)?;
    for (index, entry) in entries.chunks_exact(entry).enumerate() {
        let key = Key::parse(entry);
        if index == 0 && first.is_some_and(|first| first != key) {
            return Err(odd());
        }
        if tree.level > 0 {
            let below = Tree {
                owner: tree.owner,
                at: field(entry, KEY, 8),
                level: tree.level - 1,
                generation: field(entry, KEY + 8, 8),
            };
            down(fs, &below, read, hear, last, Some(key))?;
            continue;
        }
        if last.is_some_and(|last| last >= key) {
            return Err(odd());
        }
        *last = Some(key);
        let (at, length) = (field(entry, KEY, 4), field(entry, KEY + 4, 4));
        let at = HEAD + usize::try_from(at).map_err(|_| odd())?;
        let end = at + usize::try_from(length).map_err(|_| odd())?;
        hear(key, bytes.get(at..end).ok_or_else(odd)?)?;
    }
    Ok(())
}
