//! The members of a tarball as nodes. The tarball may be anybody's: names stay inside, sizes are believed up to a limit, and
//! an end that comes early is noticed.

use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail};
use tar::{EntryType, Header};

use super::header::{self, More, checked};
use super::{path_of, sparse};
use crate::squashfs::node::{Exactly, Node, Sink, What};

const BLOCK: u64 = 512;
/// No name and no set of attributes is longer.
const MOST_ABOUT: u64 = 4 << 20;
/// No file of a system that runs from RAM is larger.
const MOST_FILE: u64 = 64 << 30;

/// Sends the members on, in their order.
pub fn read(mut from: impl Read, sink: &mut dyn Sink) -> Result<()> {
    let mut count = 0_u64;
    let mut more = More::default();
    loop {
        let Some(block) = next_block(&mut from, count)? else {
            break;
        };
        let header = checked(&block).with_context(|| damaged(count))?;
        let size = more.size(header).with_context(|| damaged(count))?;
        let padding = (BLOCK - size % BLOCK) % BLOCK;
        match header.entry_type() {
            EntryType::XHeader => more.records(&said(&mut from, size, count)?)?,
            // Holds for the whole archive; what there is of it (git's commit) is of no use here.
            EntryType::XGlobalHeader => drop(said(&mut from, size, count)?),
            EntryType::GNULongName => more.path = Some(name(said(&mut from, size, count)?)),
            EntryType::GNULongLink => more.link = Some(name(said(&mut from, size, count)?)),
            _ => {
                count += 1;
                member(header, std::mem::take(&mut more), &mut from, sink)?;
            }
        }
        skip(&mut from, padding).with_context(|| damaged(count))?;
    }
    if count == 0 {
        bail!("no tar archive, or an empty one");
    }
    // What lies behind the end: padding, and the checksum of a compressed stream.
    io::copy(&mut from, &mut io::sink()).context("behind the end")?;
    Ok(())
}

fn damaged(count: u64) -> String {
    format!("not a tar archive, or damaged, after {count} entries")
}

/// The next header, or none at the archive's end, which two empty blocks make.
fn next_block(from: &mut impl Read, count: u64) -> Result<Option<[u8; 512]>> {
    let mut blocks = [[0; 512]; 2];
    for block in &mut blocks {
        let mut there = 0;
        while let Some(rest) = block.get_mut(there..).filter(|rest| !rest.is_empty()) {
            match from.read(rest).with_context(|| damaged(count))? {
                0 if there == 0 && count == 0 => bail!("no tar archive, or an empty one"),
                0 if there == 0 => bail!("cut short after {count} entries"),
                0 => bail!(damaged(count)),
                more => there += more,
            }
        }
        if block.iter().any(|byte| *byte != 0) {
            return Ok(Some(*block));
        }
    }
    Ok(None)
}

/// The data of a member that says something about the next one.
fn said(from: &mut impl Read, size: u64, count: u64) -> Result<Vec<u8>> {
    if size > MOST_ABOUT {
        bail!("{}: {size} bytes about one name", damaged(count));
    }
    let mut bytes = Vec::new();
    Exactly::new(from, size)
        .read_to_end(&mut bytes)
        .with_context(|| damaged(count))?;
    Ok(bytes)
}

/// GNU tar ends its long names with a zero.
fn name(mut bytes: Vec<u8>) -> Vec<u8> {
    if bytes.last() == Some(&0) {
        bytes.pop();
    }
    bytes
}

fn skip(from: &mut impl Read, count: u64) -> io::Result<()> {
    io::copy(&mut Exactly::new(from, count), &mut io::sink()).map(drop)
}

fn member(header: &Header, mut more: More, from: &mut impl Read, sink: &mut dyn Sink) -> Result<()> {
    let written = more.sparse_path.take().or(more.path.take());
    let written = written.unwrap_or_else(|| header.path_bytes().into_owned());
    let about = || path_of(&written).display().to_string();
    let path = inside(&written).with_context(about)?;
    let stored = more.size(header).with_context(about)?;
    let map = match header.entry_type() == EntryType::GNUSparse || !more.sparse.is_empty() {
        true => Some(sparse::map(header, &more, stored, from).with_context(about)?),
        false => None,
    };
    let size = map.as_ref().map_or(stored, |(map, _)| map.length);
    if size.max(stored) > MOST_FILE {
        bail!(
            "{}: says it has {} bytes, more than any file of a system in RAM",
            about(),
            size.max(stored)
        );
    }
    let Some(what) = what(header, &mut more, &written, size).with_context(about)? else {
        return skip(from, stored).with_context(about);
    };
    if path.as_os_str().is_empty() && what != What::Directory {
        bail!("'{}': no name for what is not a directory", about());
    }
    let node = Node {
        path,
        mode: header::mode(header).with_context(about)? & 0o7777,
        user: more.user(header).with_context(about)?,
        group: more.group(header).with_context(about)?,
        modified: more.modified(header),
        attributes: more.attributes(),
        what,
    };
    match map {
        Some((map, held)) => send(node, map.expand(Exactly::new(from, held)), sink).with_context(about),
        None if matches!(node.what, What::File(_)) => {
            send(node, Exactly::new(from, stored), sink).with_context(about)
        }
        None => {
            sink.take(node, &mut io::empty()).with_context(about)?;
            skip(from, stored).with_context(about)
        }
    }
}

/// Hands a file on, and reads what the sink left of it.
fn send(node: Node, mut data: impl Read, sink: &mut dyn Sink) -> Result<()> {
    sink.take(node, &mut data)?;
    io::copy(&mut data, &mut io::sink())?;
    Ok(())
}

fn what(header: &Header, more: &mut More, written: &[u8], size: u64) -> Result<Option<What>> {
    let device = || -> Result<(u32, u32)> {
        Ok((
            header.device_major()?.context("no device number")?,
            header.device_minor()?.context("no device number")?,
        ))
    };
    let kind = header.entry_type();
    let mut target = || {
        let target = more.link.take();
        let target = target.or_else(|| Some(header.link_name_bytes()?.into_owned()));
        target
            .filter(|target| !target.is_empty())
            .context("a link to nothing")
    };
    Ok(Some(match kind {
        // An old tar marks a directory by its name alone.
        EntryType::Regular if written.ends_with(b"/") && size == 0 => What::Directory,
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => What::File(size),
        EntryType::Directory => What::Directory,
        EntryType::Symlink => What::Link(path_of(&target()?).to_owned()),
        EntryType::Link => What::Same(inside(&target()?)?),
        EntryType::Char => device().map(|(major, minor)| What::CharacterDevice(major, minor))?,
        EntryType::Block => device().map(|(major, minor)| What::BlockDevice(major, minor))?,
        EntryType::Fifo => What::Pipe,
        other => {
            eprintln!(
                "{}: a member of type '{}', which is no file; left out",
                path_of(written).display(),
                char::from(other.as_byte()).escape_default()
            );
            return Ok(None);
        }
    }))
}

/// A member's name as a path inside the image: what begins at the root begins at the image's.
fn inside(name: &[u8]) -> Result<PathBuf> {
    if name.contains(&0) {
        bail!("a name with a zero in it");
    }
    let mut path = PathBuf::new();
    for component in Path::new(path_of(name)).components() {
        match component {
            Component::Normal(name) => path.push(name),
            Component::ParentDir => bail!("a name that leads out of the archive"),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_inside() {
        let inside = |name: &str| inside(name.as_bytes()).map(|path| path.display().to_string());
        assert_eq!(inside("./").unwrap(), "");
        assert_eq!(inside("./usr/./bin//x").unwrap(), "usr/bin/x");
        assert_eq!(inside("/etc/passwd").unwrap(), "etc/passwd");
        for bad in ["..", "../x", "a/../../x", "a/.."] {
            assert!(inside(bad).is_err(), "{bad}");
        }
    }
}
