//! What the tests of file systems begin with: files, a disk with a file system in the middle of it, and junk wherever nobody needs anything.

use super::wanted::Wanted;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

pub const MIB: u64 = 1 << 20;
/// The file system lies behind this much of something else.
pub const START: u64 = 3 * MIB + 512;
const BEHIND: [u8; 5000] = [0xDD; 5000];
pub const FILES: usize = 120;

/// A directory with files of every length.
pub struct Dir(PathBuf);

impl Dir {
    pub fn new(name: &str) -> Dir {
        let path = std::env::temp_dir().join(format!("lifeboot-{name}-{}", std::process::id()));
        let dir = Dir(path);
        fs::create_dir_all(dir.tree().join("sub")).unwrap();
        for number in 0..FILES {
            fs::write(dir.tree().join(file(number)), content(number)).unwrap();
        }
        dir
    }

    pub fn tree(&self) -> PathBuf {
        self.0.join("tree")
    }

    /// A file of zeros.
    pub fn blank(&self, size: u64) -> String {
        let image = self.0.join("fs");
        fs::File::create(&image).unwrap().set_len(size).unwrap();
        image.display().to_string()
    }

    /// A file with `bytes` in it.
    pub fn put(&self, bytes: &[u8]) -> String {
        let image = self.0.join("after");
        fs::write(&image, bytes).unwrap();
        image.display().to_string()
    }

    /// An empty directory.
    pub fn out(&self) -> PathBuf {
        let out = self.0.join("out");
        fs::create_dir_all(&out).unwrap();
        out
    }

    /// That `out` has the same files.
    pub fn compare_and_remove(&self, out: &Path) {
        for number in 0..FILES {
            let name = file(number);
            let same = fs::read(out.join(&name)).unwrap() == content(number);
            assert!(same, "{name} has changed");
        }
        fs::remove_dir_all(out).unwrap();
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

/// The name of a file, from the top of the tree.
pub fn file(number: usize) -> String {
    format!("sub/f{number}")
}

/// What is in it; no piece of it anywhere twice.
pub fn content(number: usize) -> Vec<u8> {
    (0..number * 997)
        .map(|at| ((at + number * 1_000_003) as u32).wrapping_mul(2_654_435_761) >> 13)
        .map(|number| number as u8)
        .collect()
}

pub fn run(program: &str, words: &[&str]) {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap());
    let done = Command::new(program)
        .args(words)
        .env("PATH", path)
        .output()
        .unwrap();
    assert!(
        done.status.success(),
        "{program} {words:?}: {}{}",
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    );
}

/// A disk with that file system on it, and something before and behind it.
pub fn framed(bytes: &[u8]) -> Vec<u8> {
    let mut disk = vec![0xEE; START as usize];
    disk.extend(bytes);
    disk.extend(BEHIND);
    disk
}

/// The disk with something else wherever nobody needs it; what is before and behind the file system is still there.
pub fn spoiled(disk: &[u8], wanted: &Wanted) -> Vec<u8> {
    let mut spoiled = vec![0xA5; disk.len()];
    for (from, to) in wanted.pieces(0, disk.len() as u64) {
        let (from, to) = (from as usize, to as usize);
        spoiled[from..to].copy_from_slice(&disk[from..to]);
    }
    assert!(spoiled[..START as usize] == disk[..START as usize], "before it");
    assert!(spoiled.ends_with(&BEHIND), "behind it");
    spoiled
}
