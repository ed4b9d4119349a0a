//! An output takes the place of what had its name before. That is never what it is made from: the source would be gone.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Result, bail};

/// Refuses an output that is its own source, by whatever name.
pub fn check(source: Option<&Path>, output: &Path) -> Result<()> {
    let identity = |path: &Path| fs::metadata(path).map(|meta| (meta.dev(), meta.ino()));
    // What is not there is no other's; what cannot be looked at is refused where it is opened.
    if let Some(source) = source
        && let (Ok(one), Ok(other)) = (identity(source), identity(output))
        && one == other
    {
        let (source, output) = (source.display(), output.display());
        bail!("{output}: is the source {source}, which the image would replace; name another file to write");
    }
    Ok(())
}
