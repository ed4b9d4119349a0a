//! The files a Raspberry Pi's boot loader loads, the same whether it finds them in `boot.img`, on a TFTP server or on a card.
//!
//! Everything is made and checked before the first byte is written: what a boot loader would choke on leaves no output behind.

mod limit;
mod options;

use std::path::Path;

use anyhow::{Context, Result, bail};

use super::{Built, Written, boot_img, disk, tftp};
use crate::cmdline;
use crate::compress::Compression;
use crate::config_txt::{self, Names};
use crate::tree::Tree;
pub use limit::check as check_limit;
pub use options::Options;

/// The kernel's name: what every 64-bit boot loader looks for when it is told nothing.
const KERNEL: &str = "kernel8.img";
pub const CMDLINE: &str = "cmdline.txt";
pub const CONFIG: &str = "config.txt";
/// Where systems keep Raspberry Pi's firmware: Debian's package, then the boot partition, today's place and the one before.
const FIRMWARE: [&str; 3] = ["/usr/lib/raspi-firmware", "/boot/firmware", "/boot"];

/// The hardest: the kernel is more than half of the image, and what was packed is kept.
const LEVEL: i32 = 12;

/// Paths and contents, in the order they are laid out.
pub type Files = Vec<(String, Vec<u8>)>;

/// All that goes beside kernel and initramfs, ready to be written.
#[derive(Debug)]
pub struct Prepared<'a> {
    options: &'a Options,
    files: Files,
    image: boot_img::Image,
    tree: Option<tftp::Layout<'a>>,
    disk: Option<disk::Disk>,
}

impl<'a> Prepared<'a> {
    /// Makes it. Notes for the owner go to standard error.
    pub fn new(built: &Built<'a>, options: &'a Options) -> Result<Self> {
        let files = collect(built, options)?;
        let image = boot_img::Image::new(built, &files, options)?;
        let tree = built
            .board
            .tftp
            .as_ref()
            .map(|board| tftp::Layout::new(board, &files, &image, options));
        let disk = options
            .disk
            .as_ref()
            .map(|_| disk::Disk::new(built, &files, options));
        Ok(Self {
            tree: tree.transpose()?,
            disk: disk.transpose()?,
            options,
            files,
            image,
        })
    }

    /// Writes it below the output directory, the disk image where it was asked for.
    pub fn write(&self, out: &Path) -> Result<Vec<Written>> {
        let mut written = self.image.write(out)?;
        if let Some(tree) = &self.tree {
            written.extend(tree.write(&self.files, &self.image, out)?);
        }
        if let (Some(disk), Some(path)) = (&self.disk, &self.options.disk) {
            disk.write(path)?;
        }
        Ok(written)
    }
}

/// Everything the boot loader asks for.
fn collect(built: &Built, options: &Options) -> Result<Files> {
    let mut initramfs = built.initramfs.clone();
    // Boot loaders of 2023 lost the end of an odd initramfs (raspberrypi/firmware#1843); the kernel skips the zeros.
    initramfs.resize(initramfs.len().next_multiple_of(4), 0);
    let initramfs_name = built.initramfs_name();
    let names = Names {
        kernel: KERNEL,
        initramfs: &initramfs_name,
        mainline: built.kernel.is_mainline(),
    };
    let owner = options
        .config_txt
        .as_ref()
        .map(|(path, text)| (path.as_path(), text.as_str()));
    let config = config_txt::merge(&built.board.config_txt, &names, owner)?;
    for note in &config.notes {
        eprintln!("{note}");
    }
    let cmdline = cmdline::of(built.board.consoles_of(built.kernel), options.words.as_deref())?;
    let mut files = vec![
        (CONFIG.to_owned(), config.text.into_bytes()),
        (CMDLINE.to_owned(), format!("{cmdline}\n").into_bytes()),
    ];
    files.extend(firmware(built, options)?);
    for name in &built.board.device_trees {
        files.push((name.clone(), built.kernel.device_tree(built.tree, name)?));
    }
    files.extend(overlays(built, &config.overlays)?);
    files.push((KERNEL.to_owned(), kernel(built)?));
    files.push((initramfs_name, initramfs));
    Ok(files)
}

fn firmware(built: &Built, options: &Options) -> Result<Files> {
    let Some(firmware) = built.board.firmware.as_ref().filter(|_| options.firmware) else {
        return Ok(Vec::new());
    };
    let mut files = Vec::new();
    for name in firmware.files.keys() {
        let found = FIRMWARE.iter().map(|place| format!("{place}/{name}"));
        let Some(bytes) = first(built.tree, found)? else {
            bail!(
                "{name}: not in {}; it is in the Debian package {} (--no-firmware leaves it out)",
                built.tree.name(),
                firmware.package
            );
        };
        files.push((name.clone(), bytes));
    }
    Ok(files)
}

/// The overlays that config.txt names, which must be there, and the board's, where they are there.
fn overlays(built: &Built, named: &[String]) -> Result<Files> {
    let board = built
        .board
        .boot_img
        .iter()
        .flat_map(|board| board.overlays.keys());
    let mut names: Vec<&String> = named.iter().chain(board).collect();
    names.sort();
    names.dedup();
    let mut files = Vec::new();
    for name in names {
        match overlay(built, &format!("{name}.dtbo"))? {
            Some(bytes) => files.push((format!("overlays/{name}.dtbo"), bytes)),
            None if named.contains(name) => {
                bail!(
                    "config.txt: dtoverlay={name}: no {name}.dtbo in {}",
                    built.tree.name()
                )
            }
            None => {}
        }
    }
    // Which overlay stands in for which on another board.
    if !files.is_empty()
        && let Some(map) = overlay(built, "overlay_map.dtb")?
    {
        files.push(("overlays/overlay_map.dtb".to_owned(), map));
    }
    Ok(files)
}

fn overlay(built: &Built, file: &str) -> Result<Option<Vec<u8>>> {
    let kernel = format!("/usr/lib/linux-image-{}", built.kernel.release);
    let places = [kernel.as_str()].into_iter().chain(FIRMWARE);
    first(built.tree, places.map(|place| format!("{place}/overlays/{file}")))
}

/// The first of these paths that is a file.
fn first(tree: &Tree, mut paths: impl Iterator<Item = String>) -> Result<Option<Vec<u8>>> {
    paths
        .find_map(|path| match tree.is_file(&path) {
            Ok(true) => Some(tree.read(&path)),
            Ok(false) => None,
            Err(error) => Some(Err(error)),
        })
        .transpose()
}

/// The kernel as the boot loader takes it: an arm64 Image in gzip, which it unpacks by itself.
fn kernel(built: &Built) -> Result<Vec<u8>> {
    let given = &built.kernel_image;
    let about = || format!("kernel {}", built.kernel.release);
    let unpacked;
    let image = if Compression::of(given) == Some(Compression::Gzip) {
        unpacked = Compression::Gzip.unpack(given).with_context(about)?;
        &unpacked
    } else {
        given
    };
    // Documentation/arch/arm64/booting.rst: the magic number 56 bytes into an Image.
    if image.get(56..60) != Some(b"ARM\x64") {
        bail!(
            "{}: not an arm64 Image, which is all the boot loader starts",
            about()
        );
    }
    if given.len() != image.len() {
        return Ok(given.clone());
    }
    match built.store {
        Some(store) => store.pack(Compression::Gzip, image, LEVEL),
        None => Compression::Gzip.pack(image, LEVEL),
    }
}
