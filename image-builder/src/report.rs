//! What the builder says when it is done: a table of what takes how much space.

pub mod features;

use std::fmt::Write;

use crate::archive::{Archive, Part};

/// A line for each part: bytes as unpacked, and its share of the compressed archive.
///
/// The shares are estimated: each part is compressed by itself, fast, and the results are scaled to the real total.
pub fn sizes(archive: &Archive, compressed: usize) -> String {
    let rows: Vec<(Part, usize, usize)> = Part::ALL
        .iter()
        .map(|part| {
            let items = || archive.items().iter().filter(|item| item.part == *part);
            let bytes: Vec<u8> = items().flat_map(|item| item.data.iter().copied()).collect();
            let packed = zstd::bulk::compress(&bytes, 3).map_or(bytes.len(), |packed| packed.len());
            (*part, bytes.len(), packed + items().count() * 16)
        })
        .collect();
    let raw: usize = rows.iter().map(|row| row.1).sum();
    let packed: usize = rows.iter().map(|row| row.2).sum::<usize>().max(1);
    let mut text = format!("{:<20} {:>12} {:>12}\n", "part", "unpacked", "about packed");
    for (part, bytes, estimate) in rows {
        let share = estimate as u128 * compressed as u128 / packed as u128;
        line(&mut text, part.name(), bytes, share);
    }
    line(&mut text, "total", raw, compressed as u128);
    text
}

fn line(text: &mut String, name: &str, raw: usize, packed: u128) {
    // Writing to a string cannot fail.
    if writeln!(text, "{name:<20} {raw:>12} {packed:>12}").is_err() {
        text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_add_up_to_the_total() {
        let mut archive = Archive::default();
        archive
            .file("init", 0o755, vec![7; 4000], Part::Executable)
            .unwrap();
        archive
            .file("a", 0o644, (0..=255).collect(), Part::Modules)
            .unwrap();
        let text = sizes(&archive, 1000);
        let column = |line: &str| line.split_whitespace().last().unwrap().parse::<usize>().unwrap();
        let lines: Vec<&str> = text.lines().skip(1).collect();
        let (total, parts) = lines.split_last().unwrap();
        assert_eq!(column(total), 1000);
        let sum: usize = parts.iter().map(|line| column(line)).sum();
        assert!((990..=1000).contains(&sum), "{text}");
    }
}
