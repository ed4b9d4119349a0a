use super::*;
use crate::backup::sample::{Dir, MIB, START, framed, run, spoiled};
use std::fs;

const SIZE: u64 = 48 * MIB;

/// A disk with a file system of that kind on it.
fn made(dir: &Dir, options: &[&str]) -> Vec<u8> {
    let image = dir.blank(SIZE);
    let tree = dir.tree().display().to_string();
    let fixed = ["-q", "-F", "-E", "lazy_itable_init=1", "-d", &tree, &image];
    run("mke2fs", &[options, &fixed].concat());
    framed(&fs::read(image).unwrap())
}

/// That a file system has all of its files and no errors.
fn is_whole(dir: &Dir, bytes: &[u8]) {
    let image = dir.put(bytes);
    run("e2fsck", &["-f", "-n", &image]);
    let out = dir.out();
    let request = format!("rdump / {}", out.display());
    run("debugfs", &["-R", &request, &image]);
    dir.compare_and_remove(&out);
}

fn survey(disk: &[u8]) -> Result<Wanted, String> {
    let mut wanted = Wanted::all(disk.len() as u64);
    spare(disk, START..START + SIZE, &mut wanted).map(|()| wanted)
}

#[test]
fn what_is_spared_nobody_misses_in_a_file_system_of_any_kind() {
    let dir = Dir::new("ext4-kinds");
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
        let disk = made(&dir, options);
        let wanted = survey(&disk).unwrap_or_else(|why| panic!("{options:?}: {why}"));
        let read = wanted.count();
        assert!(
            read < SIZE * 2 / 3 && read > 7 * MIB,
            "{options:?}: {read} bytes are wanted"
        );
        let spoiled = spoiled(&disk, &wanted);
        is_whole(&dir, &spoiled[START as usize..(START + SIZE) as usize]);
    }
}

#[test]
fn what_is_not_certain_spares_nothing() {
    let dir = Dir::new("ext4-doubts");
    let disk = made(&dir, &["-t", "ext4", "-b", "1024"]);
    let plain = made(&dir, &["-t", "ext2", "-b", "1024"]);
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
    let dir = Dir::new("ext4-bits");
    for options in [
        &["-t", "ext4", "-b", "1024"][..],
        &["-t", "ext4", "-b", "1024", "-O", "^metadata_csum,uninit_bg"],
        &["-t", "ext2", "-b", "1024"],
    ] {
        let disk = made(&dir, options);
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
