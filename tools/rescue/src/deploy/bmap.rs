//! A bmap: which blocks of an image mean something, each with its digest.
//!
//! The one thing a reader would get wrong: what a bmap leaves out is not skipped unseen. All of the image still passes by, is proved as a
//! whole, and must be zeros where the bmap has nothing - so a bmap of another image, or a forged one, is noticed. It saves writing
//! and reading back, no looking. Formats 1.3 to 2.0 of bmaptool: 1.3 has SHA-1, the later ones name their digest.

use super::block::ALIGN;
use ring::digest::{Algorithm, Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256, SHA384, SHA512, digest};
use std::sync::Arc;
use xml::Element;

mod xml;

/// A bmap of a disk of terabytes is not longer.
pub const LONGEST: u64 = 16 << 20;

/// No disk is larger; sums of two of these are numbers of 64 bits.
const LARGEST: u64 = 1 << 60;

/// Which bytes of an image mean something.
#[derive(Debug)]
pub struct Bmap {
    /// Bytes of the image.
    pub image: u64,
    ranges: Vec<Range>,
    algorithm: &'static Algorithm,
    /// The ranges, widened to what a disk can be written in, neighbours joined.
    pieces: Vec<(u64, u64)>,
}

/// Bytes `from..to`, with their digest in hex.
#[derive(Debug, PartialEq, Eq)]
struct Range {
    from: u64,
    to: u64,
    digest: Option<String>,
}

impl Bmap {
    /// Reads a bmap file.
    ///
    /// # Errors
    /// It is none, of a version that is not known, contradicts itself, or its own checksum is wrong.
    pub fn parse(text: &[u8]) -> Result<Bmap, String> {
        let text = std::str::from_utf8(text).map_err(|_| "not text in UTF-8".to_owned())?;
        let elements = xml::elements(text)?;
        let (root, version) = elements
            .first()
            .and_then(|root| Some((root, root.attribute("version")?)))
            .ok_or("it has no version")?;
        if root.name != "bmap" {
            return Err(format!("it is not a bmap but <{}>", root.name));
        }
        if !["1.3", "1.4", "2.0"].contains(&version) {
            return Err(format!("its version is {version}; 1.3, 1.4 and 2.0 are known"));
        }
        let algorithm = check_itself(text, version, &elements)?;
        let number = |name: &str| -> Result<u64, String> {
            let value = one(&elements, name)?.text.trim();
            value.parse().map_err(|_| format!("{name} is '{value}'"))
        };
        let (image, block) = (number("ImageSize")?, number("BlockSize")?);
        let (blocks, mapped) = (number("BlocksCount")?, number("MappedBlocksCount")?);
        if !block.is_power_of_two() || !(512..=1 << 20).contains(&block) {
            return Err(format!("its BlockSize is {block}"));
        }
        if !(1..=LARGEST).contains(&image) || image.div_ceil(block) != blocks {
            return Err(format!("{blocks} blocks of {block} bytes are not {image} bytes"));
        }
        let ranges = elements
            .iter()
            .filter(|element| element.name == "Range")
            .map(|element| Range::parse(element, block, blocks, image))
            .collect::<Result<Vec<Range>, String>>()?;
        if let Some(two) = ranges.windows(2).find(|two| two[1].from < two[0].to) {
            return Err(format!("its ranges overlap at byte {}", two[1].from));
        }
        let there: u64 = ranges
            .iter()
            .map(|range| (range.to - range.from).div_ceil(block))
            .sum();
        if there != mapped {
            return Err(format!("it has {there} blocks and speaks of {mapped}"));
        }
        Ok(Bmap {
            image,
            pieces: pieces(&ranges),
            ranges,
            algorithm,
        })
    }

    /// The pieces of `from..to`, each with whether it means something.
    pub fn split(&self, from: u64, to: u64) -> Vec<(u64, u64, bool)> {
        let mut split = Vec::new();
        let mut at = from;
        let first = self.pieces.partition_point(|piece| piece.1 <= from);
        for piece in self.pieces.get(first..).unwrap_or_default() {
            if piece.0 >= to {
                break;
            }
            if piece.0 > at {
                split.push((at, piece.0, false));
                at = piece.0;
            }
            let end = piece.1.min(to);
            split.push((at, end, true));
            at = end;
        }
        if at < to {
            split.push((at, to, false));
        }
        split
    }
}

impl Range {
    /// `3-5` or `7`, both ends included, counted in blocks.
    fn parse(element: &Element<'_>, block: u64, blocks: u64, image: u64) -> Result<Range, String> {
        let text = element.text.trim();
        let wrong = || format!("its range '{text}' is none of an image of {blocks} blocks");
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let parse = |number: &str| number.trim().parse::<u64>().map_err(|_| wrong());
        let (first, last) = (parse(first)?, parse(last)?);
        if first > last || last >= blocks {
            return Err(wrong());
        }
        let digest = element.attribute("chksum").or(element.attribute("sha1"));
        Ok(Range {
            from: first * block,
            // Behind neither lies more than a block more than the image has.
            to: ((last + 1) * block).min(image),
            digest: digest.map(str::to_lowercase),
        })
    }
}

/// What the ranges cover in whole units of [`ALIGN`].
fn pieces(ranges: &[Range]) -> Vec<(u64, u64)> {
    const UNIT: u64 = ALIGN as u64;
    let mut pieces: Vec<(u64, u64)> = Vec::new();
    for range in ranges {
        let (from, to) = (range.from / UNIT * UNIT, range.to.next_multiple_of(UNIT));
        match pieces.last_mut() {
            Some(last) if from <= last.1 => last.1 = last.1.max(to),
            _ => pieces.push((from, to)),
        }
    }
    pieces
}

/// The checksum of the bmap file over itself, in which its own place counts as zeros. Says by what the ranges are checked.
fn check_itself(text: &str, version: &str, elements: &[Element<'_>]) -> Result<&'static Algorithm, String> {
    let (algorithm, element) = match version {
        "1.3" => (&SHA1_FOR_LEGACY_USE_ONLY, one(elements, "BmapFileSHA1")?),
        _ => {
            let algorithm = match one(elements, "ChecksumType")?.text.trim().to_lowercase().as_str() {
                "sha1" => &SHA1_FOR_LEGACY_USE_ONLY,
                "sha256" => &SHA256,
                "sha384" => &SHA384,
                "sha512" => &SHA512,
                other => {
                    return Err(format!(
                        "its digests are {other}; sha1 and sha256 to sha512 are known"
                    ));
                }
            };
            (algorithm, one(elements, "BmapFileChecksum")?)
        }
    };
    let told = element.text.trim();
    // It is a part of the text, so where it lies is known.
    let from = told.as_ptr().addr() - text.as_ptr().addr();
    let mut blanked = text.as_bytes().to_vec();
    blanked
        .iter_mut()
        .skip(from)
        .take(told.len())
        .for_each(|byte| *byte = b'0');
    let found = hex(digest(algorithm, &blanked).as_ref());
    match found.eq_ignore_ascii_case(told) {
        true => Ok(algorithm),
        false => Err(format!("its own checksum is {found}, it says {told}")),
    }
}

fn one<'e, 't>(elements: &'e [Element<'t>], name: &str) -> Result<&'e Element<'t>, String> {
    let mut found = elements.iter().filter(|element| element.name == name);
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one),
        (None, _) => Err(format!("it has no {name}")),
        (Some(_), Some(_)) => Err(format!("it has two of {name}")),
    }
}

/// As digests are written.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Compares an image that passes by with its bmap.
pub struct Watcher {
    bmap: Arc<Bmap>,
    /// The range that is passing or comes next.
    next: usize,
    digest: Option<Context>,
    at: u64,
}

impl Watcher {
    /// Nothing has passed.
    pub fn new(bmap: Arc<Bmap>) -> Watcher {
        Watcher {
            bmap,
            next: 0,
            digest: None,
            at: 0,
        }
    }

    /// The next bytes of the image.
    ///
    /// # Errors
    /// They are not those that the bmap is of.
    pub fn pass(&mut self, mut bytes: &[u8]) -> Result<(), String> {
        let bmap = Arc::clone(&self.bmap);
        if self.at + bytes.len() as u64 > bmap.image {
            return Err(format!(
                "the image has more than the {} bytes of its bmap",
                bmap.image
            ));
        }
        while !bytes.is_empty() {
            let range = bmap.ranges.get(self.next);
            let (inside, until) = match range {
                Some(range) if self.at >= range.from => (true, range.to),
                Some(range) => (false, range.from),
                None => (false, bmap.image),
            };
            let count = usize::try_from(until - self.at).map_or(bytes.len(), |left| left.min(bytes.len()));
            let (part, rest) = bytes.split_at(count);
            if !inside && part.iter().any(|byte| *byte != 0) {
                return Err(format!(
                    "the bmap is not of this image: it leaves out bytes that are not zero, near byte {}",
                    self.at
                ));
            }
            self.at += count as u64;
            bytes = rest;
            if let (true, Some(range)) = (inside, range) {
                self.digest(range, part)?;
            }
        }
        Ok(())
    }

    fn digest(&mut self, range: &Range, part: &[u8]) -> Result<(), String> {
        let algorithm = self.bmap.algorithm;
        if range.digest.is_some() {
            self.digest
                .get_or_insert_with(|| Context::new(algorithm))
                .update(part);
        }
        if self.at < range.to {
            return Ok(());
        }
        self.next += 1;
        let found = self.digest.take().map(|digest| hex(digest.finish().as_ref()));
        match found == range.digest {
            true => Ok(()),
            false => Err(format!(
                "bytes {} to {} of the image are not those of its bmap",
                range.from, range.to
            )),
        }
    }

    /// Everything has passed.
    ///
    /// # Errors
    /// It was less than the bmap is of.
    pub fn finish(&self) -> Result<(), String> {
        match self.at == self.bmap.image {
            true => Ok(()),
            false => Err(format!(
                "the image has {} bytes, its bmap is of {}",
                self.at, self.bmap.image
            )),
        }
    }
}

#[cfg(test)]
mod tests;
