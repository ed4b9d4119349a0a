//! What a boot loader takes at most, and what to leave out when it is too much.

use std::fmt::Write;

use anyhow::{Result, bail};

use super::Files;
use crate::board::BootImg;
use crate::output::Built;
use crate::report::features;

/// Refuses an image that is over the board's limit, and warns of one that somebody has seen fail; says what in it is large.
pub fn check(built: &Built, board: &BootImg, files: &Files, size: usize) -> Result<()> {
    let limit = board.limit_mb as usize * 1_000_000;
    if size > limit {
        bail!(
            "boot.img: {size} bytes, over the {limit} that {} loads ({})\n{}",
            built.board.name,
            board.limit_source,
            contributors(built, files)
        );
    }
    let doubtful = board.doubtful_mb.map(|mb| mb as usize * 1_000_000);
    if let Some(doubtful) = doubtful.filter(|doubtful| size > *doubtful) {
        eprintln!(
            "boot.img: {size} bytes; over {doubtful} is doubtful: {}\n{}",
            board.doubtful_source.as_deref().unwrap_or("nobody says why"),
            contributors(built, files).trim_end()
        );
    }
    Ok(())
}

/// The largest files, and what the image would be smaller by without each feature.
fn contributors(built: &Built, files: &Files) -> String {
    let mut largest: Vec<(&str, usize)> = files
        .iter()
        .map(|(name, data)| (name.as_str(), data.len()))
        .collect();
    largest.sort_by_key(|(_, size)| std::cmp::Reverse(*size));
    largest.truncate(5);
    let mut text = String::new();
    let mut line = |name: &str, size: usize| {
        // Writing to a string cannot fail.
        if writeln!(text, "{size:>12}  {name}").is_err() {
            text.push('\n');
        }
    };
    for (name, size) in largest {
        line(name, size);
    }
    let mut costs = features::costs(built.archive, built.features, built.board.arch);
    costs.retain(|(_, unpacked, _)| *unpacked > 0);
    costs.sort_by_key(|(_, _, packed)| std::cmp::Reverse(*packed));
    for (feature, _, packed) in costs {
        line(&format!("about, saved by leaving out feature {feature}"), packed);
    }
    text
}
