use super::*;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

const MIB: u64 = 1 << 20;
/// The file system lies behind this much of something else.
const START: u64 = 3 * MIB + 512;
const SIZE: u64 = 48 * MIB;

struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Dir {
        let path = std::env::temp_dir().join(format!("lifeboot-ext4-{name}-{}", std::process::id()));
        fs::create_dir_all(path.join("tree/sub")).unwrap();
        // Files of every length, and one with holes.
        for number in 0..120_usize {
            let bytes: Vec<u8> = (0..number * 997)
                .map(|at| (at * number + at / 256) as u8)
                .collect();
            fs::write(path.join(format!("tree/sub/f{number}")), bytes).unwrap();
        }
        Dir(path)
    }

    /// A disk with a file system of that kind on it.
    fn disk(&self, options: &[&str]) -> Vec<u8> {
        let image = self.0.join("fs");
        fs::write(&image, []).unwrap();
        fs::File::options()
            .write(true)
            .open(&image)
            .unwrap()
            .set_len(SIZE)
            .unwrap();
        let tree = self.0.join("tree");
        let fixed = ["-q", "-F", "-E", "lazy_itable_init=1", "-d"];
        run(
            "mke2fs",
            &[
                options,
                &fixed,
                &[&tree.to_string_lossy(), &image.to_string_lossy()],
            ]
            .concat(),
        );
        let mut disk = vec![0xEE; START as usize];
        disk.extend(fs::read(&image).unwrap());
        disk.extend([0xDD; 5000]);
        disk
    }

    /// That a file system has all of its files and no errors.
    fn is_whole(&self, bytes: &[u8]) {
        let image = self.0.join("after");
        fs::write(&image, bytes).unwrap();
        run("e2fsck", &["-f", "-n", &image.to_string_lossy()]);
        let out = self.0.join("out");
        fs::create_dir_all(&out).unwrap();
        let request = format!("rdump / {}", out.to_string_lossy());
        run("debugfs", &["-R", &request, &image.to_string_lossy()]);
        for number in 0..120 {
            let name = format!("sub/f{number}");
            let same =
                fs::read(self.0.join("tree").join(&name)).unwrap() == fs::read(out.join(&name)).unwrap();
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

fn run(program: &str, words: &[&str]) {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap());
    let done = Command::new(program)
        .args(words)
        .env("PATH", path)
        .output()
        .unwrap();
    assert!(
        done.status.success(),
        "{program} {words:?}: {}",
        String::from_utf8_lossy(&done.stderr)
    );
}

fn survey(disk: &[u8]) -> Result<Wanted, String> {
    let mut wanted = Wanted::all(disk.len() as u64);
    spare(disk, START..START + SIZE, &mut wanted).map(|()| wanted)
}

/// The disk with something else wherever nobody needs it.
fn spoiled(disk: &[u8], wanted: &Wanted) -> Vec<u8> {
    let mut spoiled = vec![0xA5; disk.len()];
    for (from, to) in wanted.pieces(0, disk.len() as u64) {
        let (from, to) = (from as usize, to as usize);
        spoiled[from..to].copy_from_slice(&disk[from..to]);
    }
    spoiled
}

#[test]
fn what_is_spared_nobody_misses_in_a_file_system_of_any_kind() {
    let dir = Dir::new("kinds");
    for options in [
        &["-t", "ext4"][..],
        &["-t", "ext4", "-b", "1024"],
        &["-t", "ext4", "-b", "2048", "-O", "^flex_bg"],
        &["-t", "ext4", "-O", "^metadata_csum,uninit_bg"],
        &["-t", "ext4", "-O", "^metadata_csum,^uninit_bg"],
        &["-t", "ext4", "-O", "^64bit"],
        &["-t", "ext4", "-b", "1024", "-O", "bigalloc", "-C", "8192"],
        &["-t", "ext4", "-b", "1024", "-O", "meta_bg,^resize_inode"],
        &["-t", "ext4", "-b", "1024", "-O", "sparse_super2"],
        &["-t", "ext4", "-O", "metadata_csum_seed"],
        &["-t", "ext3"],
        &["-t", "ext2", "-b", "1024", "-g", "1024"],
    ] {
        let disk = dir.disk(options);
        let wanted = survey(&disk).unwrap_or_else(|why| panic!("{options:?}: {why}"));
        let read = wanted.count();
        assert!(
            read < SIZE * 2 / 3 && read > 7 * MIB,
            "{options:?}: {read} bytes are wanted"
        );
        let spoiled = spoiled(&disk, &wanted);
        assert!(
            spoiled[..START as usize] == disk[..START as usize],
            "{options:?}: before it"
        );
        assert!(spoiled.ends_with(&[0xDD; 5000]), "{options:?}: behind it");
        dir.is_whole(&spoiled[START as usize..(START + SIZE) as usize]);
    }
}

#[test]
fn what_is_not_certain_spares_nothing() {
    let dir = Dir::new("doubts");
    let disk = dir.disk(&["-t", "ext4", "-b", "1024"]);
    let plain = dir.disk(&["-t", "ext2", "-b", "1024"]);
    assert!(survey(&disk).is_ok() && survey(&plain).is_ok());
    let at = START as usize + SUPER;
    for (offset, value, says) in [
        (0x3A, 0, "closed in order"),
        (0x3A, 3, "closed in order"),
        (0x60, 0x46, "journal"),
        (0xE8, 1, "journal"),
        (0x61, 0x7F, "not known here"),
        (0x66, 1, "not known here"),
        (0x0C, 0x11, "free blocks"),
        (0x18, 9, "contradicts"),
        (0x21, 0, "contradicts"),
        (0x24, 1, "contradicts"),
        (0x14, 7, "contradicts"),
        (0x29, 0, "contradicts"),
        (0x07, 1, "larger"),
    ] {
        // Where there is no checksum, each is noticed by itself; where there is, the checksum notices them all.
        let mut changed = plain.clone();
        changed[at + offset] = value;
        let why = survey(&changed).unwrap_err();
        assert!(why.contains(says), "{offset:#x}: {why}");
        let mut changed = disk.clone();
        changed[at + offset] ^= 0x40;
        assert!(survey(&changed).is_err(), "{offset:#x}");
    }
    assert!(survey(&vec![0; disk.len()]).is_err());
}

#[test]
fn a_bit_that_is_wrong_in_a_bitmap_or_a_descriptor_is_noticed_with_checksums_and_without() {
    let dir = Dir::new("bits");
    for options in [
        &["-t", "ext4", "-b", "1024"][..],
        &["-t", "ext4", "-b", "1024", "-O", "^metadata_csum,uninit_bg"],
        &["-t", "ext2", "-b", "1024"],
    ] {
        let disk = dir.disk(options);
        let start = START as usize;
        let fs = Super::parse(&disk.as_slice().bytes(START + 1024, 1024).unwrap()).unwrap();
        let group = &fs.descriptors(disk.as_slice(), START).unwrap()[0];
        let mut changed = disk.clone();
        // The first group is used to its beginning; a block of it that says that it is free.
        changed[start + group.bitmap as usize * 1024 + 1] ^= 1;
        assert!(survey(&changed).is_err(), "{options:?}: bitmap");
        let mut changed = disk.clone();
        changed[start + 2048 + 0x0C] ^= 1;
        assert!(survey(&changed).is_err(), "{options:?}: descriptor");
        let mut changed = disk.clone();
        changed[start + 2048..start + 2048 + 8].fill(0xFF);
        assert!(survey(&changed).is_err(), "{options:?}: tables outside");
        for cut in [START as usize, START as usize + 1500, START as usize + 9000] {
            assert!(survey(&disk[..cut]).is_err());
        }
    }
}
