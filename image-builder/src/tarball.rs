//! Tar streams: what comes out of one, and nodes into one.
//!
//! The reading is our own, block by block, because attributes are binary: the crate `tar` takes a record of a PAX header apart
//! at line feeds, and a capability may hold one. Writing is the crate's.

mod header;
mod read;
mod sparse;

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Context, Result};
use tar::{Builder, EntryType, Header};

pub use read::read;

use crate::squashfs::node::{Exactly, Node, Sink, What};

/// Room for a link's target in the header itself.
const LINK_NAME: usize = 100;

/// Writes nodes as a tar stream.
pub struct Writer<W: Write> {
    out: Builder<W>,
    /// No time is later than this.
    clamp: u64,
}

impl<W: Write> Writer<W> {
    pub fn new(out: W, clamp: u64) -> Self {
        Self {
            out: Builder::new(out),
            clamp,
        }
    }

    /// The end of the archive. Without it, a stream that was given up is no archive.
    pub fn finish(mut self) -> Result<()> {
        self.out.finish()?;
        self.out.get_mut().flush()?;
        Ok(())
    }

    fn header(&self, node: &Node) -> Header {
        let mut header = Header::new_gnu();
        header.set_uid(node.user);
        header.set_gid(node.group);
        header.set_mode(node.mode & 0o7777);
        header.set_mtime(node.modified.min(self.clamp));
        header.set_size(0);
        header
    }

    /// Extended attributes as the records GNU tar and libarchive write.
    fn attributes(&mut self, node: &Node) -> io::Result<()> {
        let records: Vec<(String, &[u8])> = node
            .attributes
            .iter()
            .map(|(name, value)| {
                (
                    format!("SCHILY.xattr.{}", name.to_string_lossy()),
                    value.as_slice(),
                )
            })
            .collect();
        if records.is_empty() {
            return Ok(());
        }
        self.out
            .append_pax_extensions(records.iter().map(|(key, value)| (key.as_str(), *value)))
    }

    fn link(&mut self, mut header: Header, name: &Path, target: &Path) -> io::Result<()> {
        // As it stands there, if it fits: the crate would tidy it up.
        if target.as_os_str().len() < LINK_NAME {
            header.set_link_name_literal(target.as_os_str().as_bytes())?;
            return self.out.append_data(&mut header, name, io::empty());
        }
        self.out.append_link(&mut header, name, target)
    }
}

impl<W: Write> Sink for Writer<W> {
    fn take(&mut self, node: Node, data: &mut dyn Read) -> Result<()> {
        let mut header = self.header(&node);
        // The top itself is `./`, which sets the owner and mode of the image's root.
        let name = if node.path.as_os_str().is_empty() {
            Path::new("./")
        } else {
            &node.path
        };
        self.attributes(&node)?;
        let (kind, device) = match &node.what {
            What::File(size) => {
                header.set_entry_type(EntryType::Regular);
                header.set_size(*size);
                let data = Exactly::new(data, *size);
                return Ok(self.out.append_data(&mut header, name, data)?);
            }
            What::Link(target) => {
                header.set_entry_type(EntryType::Symlink);
                return Ok(self.link(header, name, target)?);
            }
            What::Same(first) => {
                header.set_entry_type(EntryType::Link);
                return Ok(self.link(header, name, first)?);
            }
            What::Directory => (EntryType::Directory, None),
            What::CharacterDevice(major, minor) => (EntryType::Char, Some((*major, *minor))),
            What::BlockDevice(major, minor) => (EntryType::Block, Some((*major, *minor))),
            What::Pipe => (EntryType::Fifo, None),
        };
        header.set_entry_type(kind);
        if let Some((major, minor)) = device {
            header.set_device_major(major)?;
            header.set_device_minor(minor)?;
        }
        Ok(self.out.append_data(&mut header, name, io::empty())?)
    }
}

/// A name as the bytes it is made of.
fn path_of(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

/// Decompresses, by what the stream begins with.
pub fn plain<'a>(mut from: impl io::BufRead + 'a) -> Result<Box<dyn Read + 'a>> {
    let first = from
        .fill_buf()
        .context("tarball")?
        .get(..4)
        .unwrap_or_default()
        .to_vec();
    Ok(match first.as_slice() {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(from)),
        [0xfd, b'7', b'z', b'X'] => Box::new(liblzma::bufread::XzDecoder::new_multi_decoder(from)),
        [0x28, 0xb5, 0x2f, 0xfd] => Box::new(zstd::Decoder::with_buffer(from)?),
        _ => Box::new(from),
    })
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::path::PathBuf;

    use super::*;

    /// Keeps what comes.
    #[derive(Default)]
    pub struct Kept(pub Vec<(Node, Vec<u8>)>);

    impl Sink for Kept {
        fn take(&mut self, node: Node, data: &mut dyn Read) -> Result<()> {
            let mut bytes = Vec::new();
            data.read_to_end(&mut bytes)?;
            self.0.push((node, bytes));
            Ok(())
        }
    }

    fn node(path: &str, what: What) -> Node {
        Node {
            user: 3_000_000,
            attributes: vec![],
            ..Node::of_root(Path::new(path), what, 1000)
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        let long = "x/".repeat(120) + "name";
        // A line feed in the value is what other readers trip over.
        let capability = vec![(
            OsString::from("security.capability"),
            vec![1, b'\n', 0, b'=', b'\n'],
        )];
        let mut nodes = vec![
            (node("", What::Directory), vec![]),
            (node("dir", What::Directory), vec![]),
            (node("dir/file", What::File(5)), b"12345".to_vec()),
            (node("dir/same", What::Same("dir/file".into())), vec![]),
            (node("link", What::Link("../a//b/./c/".into())), vec![]),
            (node("long-link", What::Link(PathBuf::from(&long))), vec![]),
            (node(&long, What::File(0)), vec![]),
            (node("null", What::CharacterDevice(1, 3)), vec![]),
            (node("loop", What::BlockDevice(7, 0)), vec![]),
            (node("pipe", What::Pipe), vec![]),
        ];
        nodes[2].0.attributes = capability;
        let mut bytes = Vec::new();
        let mut writer = Writer::new(&mut bytes, 900);
        for (node, data) in &nodes {
            writer.take(node.clone(), &mut data.as_slice()).unwrap();
        }
        writer.finish().unwrap();
        let mut kept = Kept::default();
        read(bytes.as_slice(), &mut kept).unwrap();
        assert_eq!(kept.0.len(), nodes.len());
        for ((found, data), (node, expected)) in kept.0.iter().zip(&nodes) {
            assert_eq!((&found.path, &found.what), (&node.path, &node.what));
            assert_eq!(
                (found.user, found.mode, found.modified),
                (3_000_000, node.mode, 900)
            );
            assert_eq!((&found.attributes, data), (&node.attributes, expected));
        }
    }

    #[test]
    fn a_source_that_ends_early_is_an_error() {
        let mut writer = Writer::new(Vec::new(), 0);
        let error = writer
            .take(node("file", What::File(10)), &mut &b"12345"[..])
            .unwrap_err();
        assert!(error.to_string().contains("5 bytes early"), "{error}");
    }
}
