//! What a build leaves in its directory: kernel and initramfs for every board, and what the board's own boot loader
//! takes beside them. Each other output is one file under `output/` that writes from the same [`Built`].

pub mod boot_files;
mod boot_img;
mod disk;
mod earlier;
mod tftp;
pub mod uki;

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use lifeboot_contract::image::ImageInfo;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::archive::Archive;
use crate::board::Board;
use crate::compress::{Compression, Store};
use crate::feature::Features;
use crate::kernel::Kernel;
use crate::packages::{Package, hex};
use crate::recipe::Recipe;
use crate::tree::Tree;
use earlier::Earlier;

/// What the directory holds, and of what build.
const MANIFEST: &str = "manifest.json";

/// A finished build in memory, before anything of it is written.
#[derive(Debug)]
pub struct Built<'a> {
    pub board: &'a Board,
    /// Where kernel, device trees and firmware were taken from.
    pub tree: &'a Tree,
    pub packages: &'a [Package],
    pub kernel: &'a Kernel,
    /// The kernel's file as the tree has it.
    pub kernel_image: Vec<u8>,
    /// Compressed.
    pub initramfs: Vec<u8>,
    pub compression: Compression,
    /// The initramfs's entries: what takes how much.
    pub archive: &'a Archive,
    pub features: &'a Features,
    /// Where what was compressed before is kept.
    pub store: Option<&'a Store>,
    pub info: &'a ImageInfo,
}

/// The outputs beside kernel and initramfs that are wanted.
#[derive(Debug)]
pub struct Wanted {
    /// For every board with a Raspberry Pi's boot loader.
    pub boot_files: Option<boot_files::Options>,
    pub uki: Option<uki::Options>,
}

impl Wanted {
    /// What the recipe and the flags ask for; contradictions are refused before anything is built.
    pub fn of(recipe: &Recipe, board: &Board) -> Result<Self> {
        let wanted = Self {
            boot_files: boot_files::Options::of(recipe, board)?,
            uki: uki::Options::of(recipe, board)?,
        };
        ensure!(
            recipe.cmdline.is_none() || wanted.boot_files.is_some() || wanted.uki.is_some(),
            "--cmdline: no output of this build carries a command line; --uki makes one that does, --config bakes boot parameters into \
             the image, and run --append adds words in QEMU"
        );
        Ok(wanted)
    }
}

/// Packages that an output of the recipe is made from.
pub fn packages(recipe: &Recipe) -> Vec<String> {
    uki::packages(recipe)
}

/// The package of firmware that is not free, where the board wants one and the recipe does not leave it out.
pub fn firmware(recipe: &Recipe, board: &Board) -> Option<String> {
    let firmware = board.firmware.as_ref().filter(|_| recipe.firmware != Some(false));
    Some(firmware?.package.clone())
}

/// A file that was written, as `manifest.json` has it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Written {
    /// Relative to the output directory.
    pub name: String,
    pub size: usize,
    pub sha256: String,
}

/// `manifest.json`: what was built, out of what.
#[derive(Debug, Serialize)]
struct Manifest<'a> {
    image: &'a ImageInfo,
    compression: Compression,
    consoles: &'a [String],
    files: Vec<Written>,
    packages: &'a [Package],
}

/// Writes all of it, then removes what only an earlier build wrote, the manifest last: until then the old one lists that.
pub fn write(built: &Built, wanted: &Wanted, out: &Path) -> Result<()> {
    let boot_files = wanted
        .boot_files
        .as_ref()
        .map(|options| boot_files::Prepared::new(built, options))
        .transpose()?;
    let uki = wanted
        .uki
        .as_ref()
        .map(|options| uki::image(built, options))
        .transpose()?;
    fs::create_dir_all(out).with_context(|| out.display().to_string())?;
    let earlier = Earlier::of(out);
    let mut files = vec![
        put(out, "kernel", &built.kernel_image)?,
        put(out, &built.initramfs_name(), &built.initramfs)?,
    ];
    for name in &built.board.device_trees {
        files.push(put(out, name, &built.kernel.device_tree(built.tree, name)?)?);
    }
    if let Some(boot_files) = &boot_files {
        files.extend(boot_files.write(out)?);
    }
    if let Some(image) = &uki {
        files.push(uki::write(image, out)?);
    }
    earlier.remove(out, &files)?;
    let manifest = Manifest {
        image: built.info,
        compression: built.compression,
        consoles: &built.board.consoles,
        files,
        packages: built.packages,
    };
    let mut text = serde_json::to_vec_pretty(&manifest)?;
    text.push(b'\n');
    replace_file(&out.join(MANIFEST), &text)
}

impl Built<'_> {
    /// `initramfs.cpio.` and what it was compressed with.
    pub fn initramfs_name(&self) -> String {
        format!("initramfs.cpio.{}", self.compression.extension())
    }
}

/// Writes one output; directories above it are made.
pub fn put(out: &Path, name: &str, bytes: &[u8]) -> Result<Written> {
    let path = out.join(name);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).with_context(|| parent.display().to_string())?;
    }
    replace_file(&path, bytes)?;
    Ok(Written::of(name, bytes))
}

impl Written {
    /// A file of these bytes.
    fn of(name: &str, bytes: &[u8]) -> Self {
        Self {
            name: name.to_owned(),
            size: bytes.len(),
            sha256: hex(&Sha256::digest(bytes)),
        }
    }
}

/// Whole or not at all: a reader never sees half of it.
pub fn replace_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let fresh = path.with_file_name(format!(".{name}.new"));
    let written = fs::write(&fresh, bytes).with_context(|| fresh.display().to_string());
    let replaced =
        written.and_then(|()| fs::rename(&fresh, path).with_context(|| path.display().to_string()));
    if replaced.is_err()
        && let Err(error) = fs::remove_file(&fresh)
        && error.kind() != ErrorKind::NotFound
    {
        eprintln!("{}: {error}", fresh.display());
    }
    replaced
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_could_not_be_replaced_leaves_nothing_beside_it() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("kernel");
        let count = || fs::read_dir(place.path()).unwrap().count();
        replace_file(&path, b"one").unwrap();
        replace_file(&path, b"two").unwrap();
        assert_eq!((fs::read(&path).unwrap().as_slice(), count()), (&b"two"[..], 1));
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        let error = replace_file(&path, b"three").unwrap_err();
        assert!(error.to_string().ends_with("/kernel"), "{error:#}");
        assert_eq!(count(), 1);
    }
}
