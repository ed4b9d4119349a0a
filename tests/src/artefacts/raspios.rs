//! A disk image of Raspberry Pi OS's layout, made of Debian's packages by `tests/scripts/raspios-image`: Raspberry Pi's own
//! images are not at hand wherever tests run, and this is what of them the builder looks at.

use super::os_image::{Os, digest};
use super::{cache_dir, once};
use crate::guest::Board;
use crate::process;
use anyhow::{Context, Result};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The image as it would lie on a card; some three minutes the first time, nearly all of it package scripts under emulation.
///
/// # Errors
/// It could not be made.
pub fn image() -> Result<PathBuf> {
    let base = Os::Debian.tarball(Board::VirtArm64)?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("scripts")
        .join("raspios-image");
    let what = base.file_name().context("a tarball without a name")?;
    let key = digest(&[
        &fs::read(&script).with_context(|| script.display().to_string())?,
        what.as_encoded_bytes(),
    ]);
    let image = cache_dir().join("os").join(format!("raspios-{key}.img"));
    once(&image, |partial| {
        let words = ["--base".as_ref(), base.as_os_str(), partial.as_os_str()];
        process::run(&script.to_string_lossy(), words).map(drop)
    })?;
    Ok(image)
}

/// The same as it is offered for download.
///
/// # Errors
/// It could not be made.
pub fn image_xz() -> Result<PathBuf> {
    let image = image()?;
    let packed = image.with_extension("img.xz");
    once(&packed, |partial| {
        // Several blocks, as the real ones have; the modules inside are packed already, so effort is wasted on it.
        let mut command = Command::new("xz");
        command.args(["--stdout", "--threads=0", "-1"]).arg(&image);
        let out = File::create(partial).with_context(|| partial.display().to_string())?;
        let status = command.stdout(Stdio::from(out)).status().context("xz")?;
        anyhow::ensure!(status.success(), "{}: {status}", process::shown(&command));
        Ok(())
    })?;
    Ok(packed)
}
