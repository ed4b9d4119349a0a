//! Reading a squashfs through upstream's library, after the few fields that decide whether that is safe were looked at.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail};
use lifeboot_contract::image::ListingEntry;
use squashfs_ng::read::{Archive, Data, Node};

use super::Findings;

/// Deeper than any system's tree; a damaged image may claim any depth.
const DEPTH: usize = 128;
/// What is tried when no `init=` is given, in the device's order.
const INITS: &[&str] = &["/sbin/init", "/lib/systemd/systemd", "/etc/init", "/bin/init"];

/// Superblock: kernel `fs/squashfs/squashfs_fs.h`.
struct Superblock {
    block_size: u32,
    compression: u16,
    bytes_used: u64,
}

/// Reads a whole image.
pub fn read(path: &Path) -> Result<(Findings, Vec<ListingEntry>)> {
    let superblock = superblock(path)?;
    let mut findings = Findings { kind: "squashfs", ..Findings::default() };
    let name = match superblock.compression {
        1 => "gzip",
        2 => "lzma",
        3 => "lzo",
        4 => "xz",
        5 => "lz4",
        6 => "zstd",
        other => bail!("unknown compression {other}"),
    };
    findings.compression = Some(format!("{name}, blocks of {} bytes", superblock.block_size));
    let archive = Archive::open(path)?;
    let mut entries = Vec::new();
    let root = archive.get_exists("/")?;
    walk(&root, "", 0, &mut entries)?;
    findings.init = INITS.iter().find_map(|path| init(&archive, path));
    if findings.init.is_none() {
        findings.problems.push(format!("no init, looked for {}", INITS.join(" ")));
    }
    findings.system = system(&archive);
    Ok((findings, entries))
}

/// The library maps the file, so one that is shorter than it says must not reach it.
fn superblock(path: &Path) -> Result<Superblock> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut bytes = [0_u8; 96];
    file.read_exact(&mut bytes).with_context(|| format!("{length} bytes are less than a superblock's 96"))?;
    let at = |from: usize, count: usize| -> u64 {
        bytes.iter().skip(from).take(count).rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
    };
    let superblock = Superblock {
        block_size: u32::try_from(at(12, 4))?,
        compression: u16::try_from(at(20, 2))?,
        bytes_used: at(40, 8),
    };
    if superblock.bytes_used > length {
        bail!("cut short: {length} of {} bytes", superblock.bytes_used);
    }
    Ok(superblock)
}

fn walk(node: &Node<'_>, path: &str, depth: usize, entries: &mut Vec<ListingEntry>) -> Result<()> {
    if depth > DEPTH {
        bail!("/{path}: more than {DEPTH} directories deep");
    }
    let about = || format!("/{path}");
    let data = node.data().with_context(about)?;
    let mut size = 0;
    let kind = match &data {
        Data::File(file) => {
            size = file.size();
            'f'
        }
        Data::Dir(_) => 'd',
        Data::Symlink(_) => 'l',
        Data::BlockDev(..) => 'b',
        Data::CharDev(..) => 'c',
        Data::Fifo | Data::Socket => 'p',
    };
    if !path.is_empty() {
        entries.push(ListingEntry { kind, mode: u32::from(node.mode() & 0o7777), size, path: path.to_owned() });
    }
    let Data::Dir(children) = data else { return Ok(()) };
    for child in children {
        let child = child.with_context(about)?;
        let name = child.name().with_context(about)?;
        let below = if path.is_empty() { name } else { format!("{path}/{name}") };
        walk(&child, &below, depth + 1, entries)?;
    }
    Ok(())
}

/// `PATH`, with what it leads to when it is a link.
fn init(archive: &Archive, path: &str) -> Option<String> {
    let node = archive.get(path).ok().flatten()?;
    let resolved = node.resolve().ok().flatten()?;
    if !resolved.is_file().ok()? || resolved.mode() & 0o111 == 0 {
        return None;
    }
    let target = resolved.path().map(|target| target.display().to_string()).filter(|target| target != path);
    Some(target.map_or_else(|| path.to_owned(), |target| format!("{path} -> {target}")))
}

fn system(archive: &Archive) -> Option<String> {
    let paths = ["/etc/os-release", "/usr/lib/os-release"];
    let node = paths.iter().find_map(|path| archive.get(path).ok().flatten()?.resolve().ok().flatten())?;
    let text = node.as_file().ok()?.to_string().ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(line.trim_matches('"').to_owned())
}
