//! `http/boot.img` and `http/boot.sig`: the FAT image that HTTP boot, secure boot and `boot_ramdisk=1` load, and what the
//! boot loader checks it by.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};

use super::boot_files::{Files, Options, check_limit};
use super::{Built, Written, put};
use crate::boot_sig;
use crate::fat::{Size, Volume};

pub const IMAGE: &str = "http/boot.img";
const SIGNATURE: &str = "http/boot.sig";
/// The names without the directory.
pub const NAME: &str = "boot.img";
pub const SIGNATURE_NAME: &str = "boot.sig";
/// The volume's name, as rpi-make-boot-image gives it.
const LABEL: &str = "BOOT";

/// The image, and its signature where somebody signs.
#[derive(Debug)]
pub struct Image {
    bytes: Vec<u8>,
    signature: Option<String>,
    /// Whether the board's boot loader has HTTP boot, and looks at a signature.
    http: bool,
}

impl Image {
    /// Lays the files out, holds the result against the board's limit and signs it.
    pub fn new(built: &Built, files: &Files, options: &Options) -> Result<Self> {
        let board = built.board.boot_img.as_ref().context("board without boot.img")?;
        let volume = Volume {
            label: LABEL,
            time: built.info.build_time,
            files,
            size: Size::Fitting,
        };
        let bytes = volume.write().context("boot.img")?.bytes()?;
        check_limit(built, board, files, bytes.len())?;
        let signature = sign(&bytes, built, options)?;
        let http = built.board.tftp.as_ref().is_none_or(|tftp| tftp.updatable);
        Ok(Self {
            bytes,
            signature,
            http,
        })
    }

    /// The image itself.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Its signature, where somebody signs.
    pub fn signature(&self) -> Option<&str> {
        self.signature.as_deref()
    }

    /// The signature of an earlier image is taken away first: at no time does it stand beside one it is not of.
    pub fn write(&self, out: &Path) -> Result<Vec<Written>> {
        let old = out.join(SIGNATURE);
        if old.exists() {
            std::fs::remove_file(&old).with_context(|| old.display().to_string())?;
        }
        let mut written = vec![put(out, IMAGE, &self.bytes)?];
        match &self.signature {
            Some(text) => written.push(put(out, SIGNATURE, text.as_bytes())?),
            None if !self.http => {}
            None => println!(
                "{}: not signed, so there is no boot.sig and HTTP boot will not take it: sign with --boot-key or --boot-signer",
                out.join(IMAGE).display()
            ),
        }
        if self.signature.is_some() && !self.http {
            println!(
                "{}: signed, but the board has no HTTP boot and its boot loader looks at no signature",
                out.join(IMAGE).display()
            );
        }
        Ok(written)
    }
}

fn sign(bytes: &[u8], built: &Built, options: &Options) -> Result<Option<String>> {
    let Some(signer) = &options.signer else {
        return Ok(None);
    };
    let mut file = tempfile::Builder::new()
        .prefix("boot-")
        .suffix(".img")
        .tempfile()
        .context("boot.img")?;
    if signer.wants_file() {
        file.write_all(bytes).context("boot.img")?;
    }
    let soc = built
        .board
        .boot_img
        .as_ref()
        .and_then(|board| board.target_soc.as_deref());
    let text = boot_sig::text(bytes, file.path(), built.info.build_time, soc, signer);
    Ok(Some(text.context("boot.sig")?))
}
