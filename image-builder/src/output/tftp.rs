//! `tftp/`: what network boot asks a TFTP server for, at the root or in a directory for each machine.
//!
//! The large files of several machines are hard links, which every server and every copying tool takes for plain files;
//! config.txt and cmdline.txt are copies, so that one machine's can be edited. A signed image lies there too: a boot loader that
//! has secure boot turned on asks for it instead of everything else.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::boot_files::{CMDLINE, CONFIG, Files, Options};
use super::boot_img::{self, Image};
use super::{Written, put};
use crate::board::Tftp;

/// The number of a block has 16 bits.
const BLOCKS: usize = 65_535;

/// Boot loaders that carry more, by day, newest last: block size, or any size once the number starts again at 0.
/// rpi-eeprom's release notes.
const BOOTLOADERS: [(&str, Option<u32>); 2] = [("2022-10-03", Some(1468)), ("2025-09-23", None)];

/// Which file goes where.
#[derive(Debug)]
pub struct Layout<'a> {
    board: &'a Tftp,
    prefixes: &'a [String],
    /// Whether the image lies there too: a Pi 3 knows no signature.
    image: bool,
}

impl<'a> Layout<'a> {
    /// Refuses a file that would not arrive whole.
    pub fn new(board: &'a Tftp, files: &Files, image: &Image, options: &'a Options) -> Result<Self> {
        let signed = image.signature().is_some() && board.updatable;
        let image = signed.then(|| (boot_img::NAME, image.bytes().len()));
        let files = files.iter().map(|(name, data)| (name.as_str(), data.len()));
        for (name, size) in files.chain(image) {
            check(board, options.bootloader.as_deref(), name, size)?;
        }
        Ok(Self {
            board,
            prefixes: &options.prefixes,
            image: signed,
        })
    }

    /// Writes the tree below the output directory, the image having been written.
    pub fn write(&self, files: &Files, image: &Image, out: &Path) -> Result<Vec<Written>> {
        let mut written = self.write_files(files, out)?;
        let root = [String::new()];
        let prefixes = if self.prefixes.is_empty() {
            &root
        } else {
            self.prefixes
        };
        for prefix in prefixes {
            let place = |name: &str| format!("tftp/{prefix}/{name}").replace("//", "/");
            // Those of an earlier build go first: an image never stands beside the signature of another.
            for name in [boot_img::SIGNATURE_NAME, boot_img::NAME] {
                let old = out.join(place(name));
                if old.exists() {
                    fs::remove_file(&old).with_context(|| old.display().to_string())?;
                }
            }
            if let Some(signature) = image.signature().filter(|_| self.image) {
                let linked = linked(out, boot_img::IMAGE, &place(boot_img::NAME), image.bytes())?;
                written.push(linked);
                written.push(put(out, &place(boot_img::SIGNATURE_NAME), signature.as_bytes())?);
            }
        }
        Ok(written)
    }

    fn write_files(&self, files: &Files, out: &Path) -> Result<Vec<Written>> {
        let mut written = Vec::new();
        for (name, data) in files {
            let at_root = self.prefixes.is_empty() || self.board.at_root.contains_key(name);
            if at_root {
                written.push(put(out, &format!("tftp/{name}"), data)?);
                continue;
            }
            let mut first: Option<String> = None;
            for prefix in self.prefixes {
                let place = format!("tftp/{prefix}/{name}");
                let entry = match &first {
                    Some(first) if !is_edited(name) => linked(out, first, &place, data)?,
                    _ => put(out, &place, data)?,
                };
                written.push(entry);
                first.get_or_insert(place);
            }
        }
        Ok(written)
    }
}

/// What people change for one machine.
fn is_edited(name: &str) -> bool {
    [CONFIG, CMDLINE].contains(&name)
}

/// A second name for a file that was just written; a copy where the file system has no such thing.
fn linked(out: &Path, first: &str, name: &str, data: &[u8]) -> Result<Written> {
    let path = out.join(name);
    let parent = path.parent().context("no directory")?;
    fs::create_dir_all(parent).with_context(|| parent.display().to_string())?;
    let fresh = tempfile::tempdir_in(parent).with_context(|| parent.display().to_string())?;
    let link = fresh.path().join("link");
    match fs::hard_link(out.join(first), &link) {
        Ok(()) => {
            fs::rename(&link, &path).with_context(|| path.display().to_string())?;
            Ok(Written::of(name, data))
        }
        Err(_) => put(out, name, data),
    }
}

fn check(board: &Tftp, day: Option<&str>, name: &str, size: usize) -> Result<()> {
    let (oldest, updatable) = match board.boot_img_block_size {
        Some(block) if name == boot_img::NAME => (block, board.updatable),
        Some(_) => (board.block_size, false),
        None => (board.block_size, board.updatable),
    };
    let newest = |day: &str| BOOTLOADERS.iter().rev().find(|(since, _)| *since <= day);
    let known = day.filter(|_| updatable).and_then(newest);
    let block = match known {
        Some((_, None)) => return Ok(()),
        Some((_, Some(block))) => (*block).max(oldest),
        None => oldest,
    };
    // The last block is short, and an empty one follows a full one.
    let limit = BLOCKS * block as usize - 1;
    if size <= limit {
        return Ok(());
    }
    let carries = |block: &Option<u32>| block.is_none_or(|block| size < BLOCKS * block as usize);
    let way_out = match BOOTLOADERS
        .iter()
        .find(|(_, block)| carries(block))
        .filter(|_| updatable)
    {
        Some((since, Some(block))) => {
            format!(
                "boot loaders since {since} take blocks of {block}: say --bootloader {since} where all are that new"
            )
        }
        Some((since, None)) => format!(
            "boot loaders since {since} count on after {BLOCKS} blocks, as the server must: say --bootloader {since} where all \
             are that new"
        ),
        None => "no newer boot loader changes that".to_owned(),
    };
    bail!("tftp/{name}: {size} bytes, over the {limit} of {BLOCKS} blocks of {block}; {way_out}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::Board;

    fn board(block_size: u32, updatable: bool) -> Tftp {
        Tftp {
            block_size,
            updatable,
            boot_img_block_size: None,
            at_root: Default::default(),
        }
    }

    fn refused(board: &Tftp, day: Option<&str>, size: usize) -> Option<String> {
        check(board, day, "kernel8.img", size)
            .err()
            .map(|error| error.to_string())
    }

    #[test]
    fn the_largest_file_goes_through_and_one_byte_more_does_not() {
        for (block, updatable) in [(512, false), (1024, true), (1468, true)] {
            let board = board(block, updatable);
            let limit = 65_535 * block as usize;
            assert_eq!(refused(&board, None, limit - 1), None);
            let text = refused(&board, None, limit).unwrap();
            let start = format!(
                "tftp/kernel8.img: {limit} bytes, over the {} of 65535 blocks of {block}; ",
                limit - 1
            );
            assert!(text.starts_with(&start), "{text}");
        }
    }

    #[test]
    fn the_boot_loader_that_would_carry_it_is_named() {
        let old = board(1024, true);
        let text = refused(&old, None, 70_000_000).unwrap();
        assert!(text.ends_with(
            "since 2022-10-03 take blocks of 1468: say --bootloader 2022-10-03 where all are that new"
        ));
        let text = refused(&old, Some("2022-10-03"), 97_000_000).unwrap();
        assert!(
            text.contains("blocks of 1468; boot loaders since 2025-09-23 count on after 65535 blocks"),
            "{text}"
        );
        let rom = board(512, false);
        assert!(
            refused(&rom, Some("2025-09-23"), 40_000_000)
                .unwrap()
                .ends_with("no newer boot loader changes that")
        );
    }

    #[test]
    fn on_the_board_for_all_a_pi_3_limits_what_it_asks_for_and_nothing_else() {
        let pi = Board::load("pi", None).unwrap().tftp.unwrap();
        let refused = |day, name, size| {
            let refused = check(&pi, day, name, size).err();
            refused.map(|error| error.to_string())
        };
        // What Debian's kernel and the default features come to, and what a Pi 4 of 2021 takes at most.
        for size in [35_237_888, 67_107_839] {
            assert_eq!(refused(None, "boot.img", size), None);
            for day in [None, Some("2022-10-03"), Some("2025-09-23")] {
                let text = refused(day, "kernel8.img", size).unwrap();
                assert!(
                    text.contains("over the 33553919 of 65535 blocks of 512; no newer"),
                    "{text}"
                );
            }
        }
        assert_eq!(refused(None, "kernel8.img", 33_553_919), None);
        let text = refused(None, "boot.img", 67_107_840).unwrap();
        assert!(
            text.ends_with("say --bootloader 2022-10-03 where all are that new"),
            "{text}"
        );
        assert_eq!(refused(Some("2022-10-03"), "boot.img", 67_107_840), None);
        let pi3 = Board::load("pi3", None).unwrap().tftp.unwrap();
        assert!(check(&pi3, None, "boot.img", 35_237_888).is_err());
    }

    #[test]
    fn a_newer_boot_loader_lifts_the_limit() {
        let old = board(1024, true);
        assert!(refused(&old, Some("2022-10-02"), 70_000_000).is_some());
        assert_eq!(refused(&old, Some("2022-10-03"), 70_000_000), None);
        assert!(refused(&old, Some("2025-09-22"), 100_000_000).is_some());
        assert_eq!(refused(&old, Some("2025-09-23"), 100_000_000), None);
    }
}
