//! Reading a squashfs through upstream's library, after the few fields that decide whether that is safe were looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::panic;
use std::path::Path;

use anyhow::{Context, Result, bail};
use lifeboot_contract::image::ListingEntry;
use squashfs_ng::SquashfsError;
use squashfs_ng::read::{Archive, Data, Node};

use super::Findings;

/// Deeper than any system's tree; a damaged image may claim any depth.
const DEPTH: usize = 128;
/// The kernel's own limit on links in one path.
const LINKS: u32 = 40;
/// What is tried when no `init=` is given, in the device's order.
const INITS: &[&str] = &["/sbin/init", "/lib/systemd/systemd", "/etc/init", "/bin/init"];

/// Superblock: kernel `fs/squashfs/squashfs_fs.h`.
struct Superblock {
    block_size: u32,
    compression: u16,
    bytes_used: u64,
}

/// Reads a whole image. The library panics at some kinds of damage; that is damage like any other here.
pub fn read(path: &Path) -> Result<(Findings, Vec<ListingEntry>)> {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let read = panic::catch_unwind(|| read_whole(path));
    panic::set_hook(usual);
    read.unwrap_or_else(|_| bail!("damaged: the squashfs library gave up"))
}

/// What is wrong with an image that was just made, as `inspect` would say.
pub fn problems(path: &Path) -> Vec<String> {
    match read(path) {
        Ok((findings, _)) => findings.problems,
        Err(error) => vec![format!("{error:#}")],
    }
}

fn read_whole(path: &Path) -> Result<(Findings, Vec<ListingEntry>)> {
    let superblock = superblock(path)?;
    let mut findings = Findings {
        kind: "squashfs",
        ..Findings::default()
    };
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
    let mut walked = Walked::default();
    let root = archive.get_exists("/")?;
    walk(&root, "", 0, &mut walked)?;
    let Walked {
        entries,
        paths,
        unnamed,
    } = walked;
    findings.unnamed = unnamed;
    findings.init = INITS.iter().find_map(|path| paths.init(path));
    if findings.init.is_none() {
        findings
            .problems
            .push(format!("no init, looked for {}", INITS.join(" ")));
    }
    findings.system = system(&archive, &paths);
    Ok((findings, entries))
}

/// The library maps the file, so one that is shorter than it says must not reach it.
fn superblock(path: &Path) -> Result<Superblock> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut bytes = [0_u8; 96];
    file.read_exact(&mut bytes)
        .with_context(|| format!("{length} bytes are less than a superblock's 96"))?;
    let at = |from: usize, count: usize| -> u64 {
        bytes
            .iter()
            .skip(from)
            .take(count)
            .rev()
            .fold(0, |value, byte| value << 8 | u64::from(*byte))
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

#[derive(Default)]
struct Walked {
    entries: Vec<ListingEntry>,
    paths: Paths,
    /// Names that are not UTF-8, which the library does not hand out.
    unnamed: usize,
}

impl Walked {
    fn note(&mut self, node: &Node<'_>, data: &Data<'_>, path: &str) {
        let (kind, size) = match data {
            Data::File(file) => ('f', file.size()),
            Data::Dir(_) => ('d', 0),
            Data::Symlink(_) => ('l', 0),
            Data::BlockDev(..) => ('b', 0),
            Data::CharDev(..) => ('c', 0),
            Data::Fifo | Data::Socket => ('p', 0),
        };
        let mode = u32::from(node.mode() & 0o7777);
        if kind == 'f' && mode & 0o111 != 0 {
            self.paths.executable.insert(path.to_owned());
        }
        if let Data::Symlink(target) = data {
            self.paths
                .links
                .insert(path.to_owned(), target.display().to_string());
        }
        self.entries.push(ListingEntry {
            kind,
            mode,
            size,
            path: path.to_owned(),
        });
    }
}

fn walk(node: &Node<'_>, path: &str, depth: usize, walked: &mut Walked) -> Result<()> {
    if depth > DEPTH {
        bail!("/{path}: more than {DEPTH} directories deep");
    }
    let about = || format!("/{path}");
    let data = node.data().with_context(about)?;
    if !path.is_empty() {
        walked.note(node, &data, path);
    }
    let Data::Dir(children) = data else { return Ok(()) };
    for child in children {
        let child = match child {
            Err(SquashfsError::Utf8(_)) => {
                walked.unnamed += 1;
                continue;
            }
            child => child.with_context(about)?,
        };
        let name = child.name().with_context(about)?;
        let below = if path.is_empty() {
            name
        } else {
            format!("{path}/{name}")
        };
        walk(&child, &below, depth + 1, walked)?;
    }
    Ok(())
}

/// Links of an image, and what is executable: enough to find out what a path leads to, through links anywhere in it.
#[derive(Default)]
struct Paths {
    links: BTreeMap<String, String>,
    executable: BTreeSet<String>,
}

impl Paths {
    /// `PATH`, with what it leads to when it is a link.
    fn init(&self, path: &str) -> Option<String> {
        let target = self.resolve(path)?;
        if !self.executable.contains(&target) {
            return None;
        }
        let target = format!("/{target}");
        Some(if target == path {
            target
        } else {
            format!("{path} -> {target}")
        })
    }

    fn resolve(&self, path: &str) -> Option<String> {
        let mut rest: Vec<String> = path.split('/').map(str::to_owned).rev().collect();
        let mut here: Vec<String> = Vec::new();
        let mut links = 0;
        while let Some(name) = rest.pop() {
            match name.as_str() {
                "" | "." => continue,
                ".." => {
                    here.pop();
                    continue;
                }
                _ => here.push(name),
            }
            if let Some(target) = self.links.get(&here.join("/")) {
                links += 1;
                if links > LINKS {
                    return None;
                }
                here.pop();
                if target.starts_with('/') {
                    here.clear();
                }
                rest.extend(target.split('/').rev().map(str::to_owned));
            }
        }
        Some(here.join("/"))
    }
}

fn system(archive: &Archive, paths: &Paths) -> Option<String> {
    let node = archive
        .get(format!("/{}", paths.resolve("/etc/os-release")?))
        .ok()
        .flatten()?;
    let text = node.as_file().ok()?.to_string().ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(line.trim_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_init_is_found_through_links_anywhere_in_its_path() {
        let mut paths = Paths::default();
        for (link, target) in [
            ("sbin", "usr/sbin"),
            ("usr/sbin/init", "../lib/systemd/systemd"),
            ("a", "/b"),
            ("b", "a"),
        ] {
            paths.links.insert(link.to_owned(), target.to_owned());
        }
        paths.executable.insert("usr/lib/systemd/systemd".to_owned());
        assert_eq!(
            paths.init("/sbin/init").as_deref(),
            Some("/sbin/init -> /usr/lib/systemd/systemd")
        );
        assert_eq!(
            paths.init("/usr/lib/systemd/systemd").as_deref(),
            Some("/usr/lib/systemd/systemd")
        );
        assert_eq!(paths.init("/a"), None);
        assert_eq!(paths.init("/bin/init"), None);
    }
}
