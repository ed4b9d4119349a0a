//! Everything the checkers say, for reading later: `/run/lifeboot/log/fsck-DEVICE.log`.
//!
//! It lies in memory. A badly damaged file system can make a checker say hundreds of megabytes, so one run keeps its first and its
//! last words; and a log that cannot be written never stops a repair.

use crate::work::Purpose;
use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;

/// Bytes of one run that are kept from its beginning.
const FIRST: usize = 2 << 20;
/// Bytes that are kept from its end.
const LAST: usize = 128 << 10;
/// A log longer than this is put aside when the next run begins.
const LONG: u64 = 4 << 20;

/// Where the log of a device is.
pub fn path(device: &str) -> PathBuf {
    Purpose::Repair.log(device)
}

/// The log of one run.
#[derive(Debug)]
pub struct Log {
    file: Option<File>,
    written: usize,
    last: VecDeque<u8>,
    left_out: usize,
}

impl Log {
    /// Begins a run behind those that are there.
    pub fn begin(device: &str, title: &str) -> Log {
        let path = path(device);
        if fs::metadata(&path).is_ok_and(|meta| meta.len() > LONG) {
            crate::output::ignore(fs::rename(&path, path.with_extension("log.old")));
        }
        if let Some(dir) = path.parent() {
            crate::output::ignore(fs::create_dir_all(dir));
        }
        let mut log = Log {
            file: File::options().append(true).create(true).open(&path).ok(),
            written: 0,
            last: VecDeque::new(),
            left_out: 0,
        };
        log.line(&format!("== {title}"));
        log
    }

    /// What a checker said.
    pub fn add(&mut self, bytes: &[u8]) {
        let room = FIRST.saturating_sub(self.written).min(bytes.len());
        let (now, later) = bytes.split_at(room);
        self.write(now);
        self.written += now.len();
        self.last.extend(later);
        while self.last.len() > LAST {
            self.last.pop_front();
            self.left_out += 1;
        }
    }

    /// A line of our own.
    pub fn line(&mut self, text: &str) {
        self.add(text.as_bytes());
        self.add(b"\n");
    }

    /// The last words, behind what was held back.
    pub fn end(&mut self, text: &str) {
        if self.left_out > 0 {
            let gap = format!("\n[{} bytes are left out here]\n", self.left_out);
            self.write(gap.as_bytes());
        }
        let last: Vec<u8> = self.last.drain(..).collect();
        self.write(&last);
        self.write(format!("-- {text}\n\n").as_bytes());
        (self.written, self.left_out) = (0, 0);
    }

    fn write(&mut self, bytes: &[u8]) {
        // Memory may be short; the repair is worth more than what is said about it.
        if let Some(file) = &mut self.file {
            crate::output::ignore(file.write_all(bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_keeps_its_first_and_its_last_words() {
        let path = std::env::temp_dir().join(format!("lifeboot-fsck-log-{}", std::process::id()));
        let mut log = Log {
            file: Some(File::create(&path).unwrap()),
            written: 0,
            last: VecDeque::new(),
            left_out: 0,
        };
        log.line("first words");
        for _ in 0..40 {
            log.add(&[b'x'; 100_000]);
        }
        log.line("last words");
        log.end("done");
        let text = fs::read_to_string(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert!(text.starts_with("first words\n") && text.ends_with("last words\n-- done\n\n"));
        assert!(text.len() < FIRST + LAST + 200, "{}", text.len());
        assert!(text.contains("bytes are left out here"));
    }
}
