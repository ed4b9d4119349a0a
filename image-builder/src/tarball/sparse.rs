//! Sparse members: only what is not zeros is in the tarball, with a map of where it belongs. GNU tar has had four ways to write
//! the map (GNU tar manual, "Storing Sparse Files"); bsdtar writes the last of them by itself where a file has holes.

use std::io::{self, Read};

use anyhow::{Context, Result, bail};
use tar::Header;

use super::header::More;

/// No file is in more pieces; each takes room in memory.
const MOST_PIECES: usize = 1 << 20;
const BLOCK: usize = 512;

/// Where the bytes of a member belong.
#[derive(Debug, PartialEq, Eq)]
pub struct Map {
    /// Where from, how many.
    pieces: Vec<(u64, u64)>,
    /// Of the file with its holes.
    pub length: u64,
}

impl Map {
    /// A map that is whole: in order, within the file, and for just the bytes there are.
    fn checked(pieces: Vec<(u64, u64)>, length: u64, held: u64) -> Result<Self> {
        let (mut end, mut sum) = (0_u64, 0_u64);
        for (at, count) in &pieces {
            if *at < end {
                bail!("sparse map: pieces lie on one another");
            }
            end = at.checked_add(*count).context("sparse map: too large")?;
            sum += count;
        }
        if end > length {
            bail!("sparse map: {end} bytes in a file of {length}");
        }
        if sum != held {
            bail!("sparse map: {sum} bytes, and {held} are there");
        }
        Ok(Self { pieces, length })
    }

    /// The file's bytes, zeros where it has holes.
    pub fn expand<R: Read>(self, data: R) -> Expanded<R> {
        let mut pieces = self.pieces;
        pieces.reverse();
        Expanded {
            data,
            pieces,
            at: 0,
            length: self.length,
        }
    }
}

/// Reads the map of a sparse member of which `size` bytes are stored. The map may be at the head of these; the bytes left are
/// returned with it.
pub fn map(header: &Header, more: &More, size: u64, from: &mut impl Read) -> Result<(Map, u64)> {
    let said = |key: &str| {
        let found = more.sparse.iter().find(|(name, _)| name == key);
        found.map(|(_, value)| value.as_str())
    };
    if said("major") == Some("1") {
        let length = number(said("realsize").context("sparse map: no length")?)?;
        let (pieces, read) = at_the_head(from, size)?;
        let held = size - read;
        return Ok((Map::checked(pieces, length, held)?, held));
    }
    if let Some(length) = said("size").or(said("realsize")) {
        let length = number(length)?;
        let list: Vec<&str> = match said("map") {
            Some(map) => map.split(',').collect(),
            None => {
                let pieces = more
                    .sparse
                    .iter()
                    .filter(|(name, _)| name == "offset" || name == "numbytes");
                pieces.map(|(_, value)| value.as_str()).collect()
            }
        };
        return Ok((Map::checked(pairs(&list)?, length, size)?, size));
    }
    let (pieces, length) = old(header, from)?;
    Ok((Map::checked(pieces, length, size)?, size))
}

fn pairs(list: &[&str]) -> Result<Vec<(u64, u64)>> {
    let pairs = list.chunks(2).map(|pair| match pair {
        [at, count] => Ok((number(at)?, number(count)?)),
        _ => bail!("sparse map: an odd number of numbers"),
    });
    pairs.collect()
}

fn number(text: &str) -> Result<u64> {
    text.parse().with_context(|| format!("sparse map: '{text}'"))
}

/// Decimal numbers, a line each: how many pieces, then each; filled up to a block.
fn at_the_head(from: &mut impl Read, size: u64) -> Result<(Vec<(u64, u64)>, u64)> {
    let mut text = Vec::new();
    let mut wanted = None;
    loop {
        let lines = text.iter().filter(|byte| **byte == b'\n').count();
        if let (None, Some(end)) = (wanted, text.iter().position(|byte| *byte == b'\n')) {
            let count = std::str::from_utf8(text.get(..end).unwrap_or_default()).context("sparse map")?;
            let count = usize::try_from(number(count)?).unwrap_or(usize::MAX);
            if count > MOST_PIECES {
                bail!("sparse map: {count} pieces");
            }
            wanted = Some(1 + 2 * count);
        }
        if wanted.is_some_and(|wanted| lines >= wanted) {
            break;
        }
        if text.len() as u64 + BLOCK as u64 > size || (wanted.is_none() && !text.is_empty()) {
            bail!("sparse map: cut short");
        }
        let mut block = [0; BLOCK];
        from.read_exact(&mut block).context("sparse map")?;
        text.extend(block);
    }
    let read = text.len() as u64;
    let text = String::from_utf8(text).context("sparse map")?;
    let list: Vec<&str> = text.lines().skip(1).take(wanted.unwrap_or(1) - 1).collect();
    Ok((pairs(&list)?, read))
}

/// GNU tar's own, in the header and in blocks behind it.
fn old(header: &Header, from: &mut impl Read) -> Result<(Vec<(u64, u64)>, u64)> {
    let gnu = header.as_gnu().context("sparse map: none")?;
    let mut pieces = Vec::new();
    let mut take = |piece: &tar::GnuSparseHeader| -> Result<()> {
        if !piece.is_empty() {
            pieces.push((
                piece.offset().context("sparse map")?,
                piece.length().context("sparse map")?,
            ));
        }
        if pieces.len() > MOST_PIECES {
            bail!("sparse map: more than {MOST_PIECES} pieces");
        }
        Ok(())
    };
    gnu.sparse.iter().try_for_each(&mut take)?;
    let mut goes_on = gnu.is_extended();
    while goes_on {
        let mut block = tar::GnuExtSparseHeader::new();
        from.read_exact(block.as_mut_bytes()).context("sparse map")?;
        block.sparse().iter().try_for_each(&mut take)?;
        goes_on = block.is_extended();
    }
    Ok((pieces, gnu.real_size().context("sparse map")?))
}

/// A file with its holes.
#[derive(Debug)]
pub struct Expanded<R> {
    data: R,
    /// The next one last.
    pieces: Vec<(u64, u64)>,
    at: u64,
    length: u64,
}

impl<R: Read> Read for Expanded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self
            .pieces
            .pop_if(|(at, count)| *at + *count <= self.at)
            .is_some()
        {}
        let next = self.pieces.last().copied();
        let inside = next.filter(|(at, _)| *at <= self.at);
        let end = inside
            .map(|(at, count)| at + count)
            .or(next.map(|(at, _)| at))
            .unwrap_or(self.length);
        let most = usize::try_from(end - self.at)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let part = buffer.get_mut(..most).unwrap_or_default();
        let count = if inside.is_some() {
            self.data.read(part)?
        } else {
            part.fill(0);
            most
        };
        self.at += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_are_zeros() {
        let map = Map::checked(vec![(2, 3), (5, 0), (7, 1)], 10, 4).unwrap();
        let mut bytes = Vec::new();
        map.expand(&b"abcd"[..]).read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, b"\0\0abc\0\0d\0\0");
    }

    #[test]
    fn a_map_that_lies_is_refused() {
        for (pieces, length, held) in [
            (vec![(0, 5), (4, 1)], 10, 6),
            (vec![(0, 5)], 4, 5),
            (vec![(0, 5)], 10, 4),
            (vec![(u64::MAX, 2)], u64::MAX, 2),
        ] {
            assert!(Map::checked(pieces.clone(), length, held).is_err(), "{pieces:?}");
        }
    }
}
