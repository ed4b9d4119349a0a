//! Where on the disk is what the file system speaks of: its addresses are not those of the disk, and most of them have two places.

use super::superblock::Super;
use super::tree::{KEY, Key, walk};
use super::{bytes, field};
use crate::backup::origin::Bytes;
use std::collections::BTreeMap;
use std::ops::Range;

const CHUNK: u64 = 228;
/// Bytes of a chunk before its places, and of each of these.
const HEAD: usize = 48;
const PLACE: usize = 32;
/// Data, system, metadata; two copies on one device. All other kinds need several devices, or are stripes.
const KINDS: u64 = 0x7;
const TWICE: u64 = 0x20;

/// A piece of the file system's addresses that lies in one piece on the disk, once or more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    pub at: u64,
    pub length: u64,
    pub kind: u64,
    /// Where it begins on the disk.
    places: Vec<u64>,
}

impl Chunk {
    fn parse(key: Key, item: &[u8], fs: &Super) -> Result<Chunk, String> {
        let odd = || format!("the chunk at {} is damaged", key.offset);
        let (length, kind, count) = (field(item, 0, 8), field(item, 24, 8), field(item, 44, 2));
        if kind & !(KINDS | TWICE) != 0 {
            return Err("it spreads what it has over several devices, or stripes".to_owned());
        }
        let copies = if kind & TWICE != 0 { 2 } else { 1 };
        let stripes = item.get(HEAD..).unwrap_or_default().chunks_exact(PLACE);
        if count != copies || stripes.len() as u64 != copies || !stripes.remainder().is_empty() {
            return Err(odd());
        }
        let mut places = Vec::new();
        for stripe in stripes {
            let place = field(stripe, 8, 8);
            let fits = place.checked_add(length).is_some_and(|end| end <= fs.size);
            if field(stripe, 0, 8) != fs.device || !fits {
                return Err(odd());
            }
            places.push(place);
        }
        if length == 0 || key.offset.checked_add(length).is_none() {
            return Err(odd());
        }
        Ok(Chunk {
            at: key.offset,
            length,
            kind,
            places,
        })
    }

    /// Where on the disk `range` is, which lies in it.
    pub fn copies(&self, range: &Range<u64>) -> Vec<Range<u64>> {
        let place = |place: &u64| place + (range.start - self.at)..place + (range.end - self.at);
        self.places.iter().map(place).collect()
    }
}

/// All of them, by their first address.
#[derive(Default)]
pub struct Chunks(BTreeMap<u64, Chunk>);

impl Chunks {
    /// # Errors
    /// Why they are not believed.
    pub fn read(disk: &(impl Bytes + ?Sized), start: u64, fs: &Super) -> Result<Chunks, String> {
        let mut system = Chunks::default();
        let mut rest = fs.system_chunks.as_slice();
        while !rest.is_empty() {
            let length = HEAD + PLACE * usize::from(rest.get(KEY + 44).copied().unwrap_or(0));
            let (Some(key), Some(item)) = (rest.get(..KEY), rest.get(KEY..KEY + length)) else {
                return Err("its list of system chunks is damaged".to_owned());
            };
            system.add(Chunk::parse(Key::parse(key), item, fs)?)?;
            rest = rest.get(KEY + length..).unwrap_or_default();
        }
        let mut all = Chunks::default();
        let read = |at: u64| system.block(disk, start, fs, at);
        walk(fs, &fs.chunk_root, &read, &mut |key, item| match key.kind {
            CHUNK => all.add(Chunk::parse(key, item, fs)?),
            _ => Ok(()),
        })?;
        let same = |chunk: &Chunk| all.0.get(&chunk.at) == Some(chunk);
        if !system.iter().all(same) {
            return Err("its system chunks are not in its chunk tree".to_owned());
        }
        all.apart()?;
        Ok(all)
    }

    fn add(&mut self, chunk: Chunk) -> Result<(), String> {
        match self.0.insert(chunk.at, chunk) {
            None => Ok(()),
            Some(twice) => Err(format!("the chunk at {} is there twice", twice.at)),
        }
    }

    /// # Errors
    /// Two of them lie over each other, by address or on the disk.
    fn apart(&self) -> Result<(), String> {
        let apart = |mut ranges: Vec<Range<u64>>| {
            ranges.sort_by_key(|range| range.start);
            ranges.windows(2).all(|two| two[0].end <= two[1].start)
        };
        let addresses = self.iter().map(|chunk| chunk.at..chunk.at + chunk.length);
        let places = self
            .iter()
            .flat_map(|chunk| chunk.copies(&(chunk.at..chunk.at + chunk.length)));
        match apart(addresses.collect()) && apart(places.collect()) {
            true => Ok(()),
            false => Err("two of its chunks overlap".to_owned()),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = &Chunk> {
        self.0.values()
    }

    /// The one that has all of `range`.
    pub fn of(&self, range: &Range<u64>) -> Option<&Chunk> {
        let (_, chunk) = self.0.range(..=range.start).next_back()?;
        (range.end <= chunk.at + chunk.length).then_some(chunk)
    }

    /// A block of a tree, its first copy.
    ///
    /// # Errors
    /// It lies nowhere, or cannot be read.
    pub fn block(
        &self,
        disk: &(impl Bytes + ?Sized),
        start: u64,
        fs: &Super,
        at: u64,
    ) -> Result<Vec<u8>, String> {
        let nowhere = || format!("its trees lead to byte {at}, which is nowhere");
        let range = at..at.checked_add(fs.node).ok_or_else(nowhere)?;
        let chunk = self.of(&range).ok_or_else(nowhere)?;
        let place = chunk.copies(&range).into_iter().next().ok_or_else(nowhere)?;
        bytes(disk, start + place.start, fs.node)
    }
}
