use super::*;
use crate::backup::sample::{Dir, FILES, MIB, START, content, file, framed, run, spoiled};
use std::collections::BTreeSet;
use std::fs;

const SIZE: u64 = 96 * MIB;

/// A disk with a file system of that kind on it, and the files.
fn made(dir: &Dir, options: &[&str]) -> Vec<u8> {
    let image = dir.blank(SIZE);
    // What mkfs.xfs fills it by: see its manual, "prototype file".
    let mut prototype = "/-\n0 0\nd--755 0 0\nsub d--755 0 0\n".to_owned();
    for number in 0..FILES {
        let source = dir.tree().join(file(number));
        prototype += &format!("f{number} ---644 0 0 {}\n", source.display());
    }
    let prototype = dir.put(format!("{prototype}$\n$\n").as_bytes());
    // Without the first of these it makes none that is smaller than 300 MB.
    let fixed = ["--unsupported", "-q", "-p", &prototype, &image];
    run("mkfs.xfs", &[options, &fixed].concat());
    framed(&fs::read(image).unwrap())
}

fn survey(disk: &[u8]) -> Result<Wanted, String> {
    let mut wanted = Wanted::all(disk.len() as u64);
    spare(disk, START..START + SIZE, &mut wanted).map(|()| wanted)
}

/// That a file system has no errors and all of what is in its files.
fn is_whole(dir: &Dir, bytes: &[u8]) {
    run("xfs_repair", &["-n", &dir.put(bytes)]);
    let pieces: BTreeSet<&[u8]> = bytes
        .chunks_exact(512)
        .filter(|piece| !matches!(piece[..4], [0, 0, 0, 0] | [0xA5, 0xA5, 0xA5, 0xA5]))
        .collect();
    for number in 0..FILES {
        let content = content(number);
        let missing = content.chunks_exact(512).filter(|piece| !pieces.contains(piece));
        assert_eq!(missing.count(), 0, "{} has changed", file(number));
    }
}

#[test]
fn what_is_spared_nobody_misses_in_a_file_system_of_any_kind() {
    let dir = Dir::new("xfs-kinds");
    for options in [
        &[][..],
        &["-b", "size=1024"],
        &["-b", "size=2048"],
        &["-b", "size=16384"],
        &["-s", "size=4096"],
        &["-d", "agcount=5"],
        &["-m", "rmapbt=1"],
        &["-m", "reflink=0,finobt=0,bigtime=0"],
        &["-l", "agnum=0,size=9m"],
        &["-i", "size=1024"],
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

/// Why nothing is spared when the bytes at `at` of the file system are changed, and the checksum of the `length` bytes from `from` on is made
/// right again; the disk is then as before.
fn refusal(
    disk: &mut [u8],
    (at, bytes): (u64, &[u8]),
    (from, length, sum): (u64, usize, usize),
) -> Result<Wanted, String> {
    let (at, from) = ((START + at) as usize, (START + from) as usize);
    let before = disk[from..from + length].to_vec();
    disk[at..at + bytes.len()].copy_from_slice(bytes);
    let block = &mut disk[from..from + length];
    block[sum..sum + 4].fill(0);
    let right = (!crc32c(!0, block)).to_le_bytes();
    block[sum..sum + 4].copy_from_slice(&right);
    let told = survey(disk);
    disk[from..from + length].copy_from_slice(&before);
    told
}

#[test]
fn what_is_not_certain_spares_nothing() {
    let dir = Dir::new("xfs-doubts");
    let mut disk = made(&dir, &[]);
    assert!(survey(&disk).is_ok());
    let fs = Super::parse(&disk[START as usize..][..512], |length| {
        Ok(disk[START as usize..][..length].to_vec())
    })
    .unwrap();
    let group = Group::read(disk.as_slice(), START, &fs, 0).unwrap();
    let (head, tree) = (fs.sector as u64, group.by_place.at * fs.block);
    let of_super = (0, fs.sector, 224);
    let of_group = (head, fs.sector, 216);
    let of_tree = (tree, fs.block as usize, 52);
    for (change, sum, says) in [
        ((0, &b"XFSC"[..]), of_super, "no superblock"),
        ((101, &[0xB4]), of_super, "without checksums"),
        ((126, &[1]), of_super, "to the end"),
        ((23, &[1]), of_super, "another device"),
        ((215, &[0x1F]), of_super, "not known here"),
        ((219, &[0x13]), of_super, "needs a repair"),
        ((223, &[1]), of_super, "not known here"),
        ((151, &[1]), of_super, "free blocks and says"),
        ((12, &[9]), of_super, "contradicts itself"),
        ((103, &[3]), of_super, "contradicts itself"),
        ((91, &[9]), of_super, "contradicts itself"),
        ((head + 11, &[1]), of_group, "header of group 0"),
        ((head + 15, &[1]), of_group, "contradicts the superblock"),
        ((head + 55, &[1]), of_group, "free blocks and says"),
        ((head + 31, &[0]), of_group, "contradicts the superblock"),
        ((head + 31, &[2]), of_group, "list of free blocks"),
        ((head + 16, &[9]), of_group, "list of free blocks"),
        ((head + 35, &[0]), of_group, "contradicts the superblock"),
        ((head + 35, &[2]), of_group, "list of free blocks"),
        ((head + 20, &[9]), of_group, "list of free blocks"),
        ((tree + 51, &[1]), of_tree, "list of free blocks"),
        ((tree + 56, &[9]), of_tree, "list of free blocks"),
        // The first block of the group is said to be free.
        ((tree + 56, &[0; 4]), of_tree, "list of free blocks"),
        ((tree + 60, &[0; 4]), of_tree, "list of free blocks"),
        ((tree + 7, &[0]), of_tree, "free blocks and says"),
    ] {
        let why = refusal(&mut disk, change, sum).unwrap_err();
        assert!(why.contains(says), "{change:?}: {why}");
        // With the old checksum each of them is noticed by that alone.
        disk[(START + change.0) as usize] ^= 0x40;
        assert!(survey(&disk).is_err(), "{change:?}");
        disk[(START + change.0) as usize] ^= 0x40;
    }
    let mut wanted = Wanted::all(disk.len() as u64);
    assert!(
        spare(&disk[..], START..START + SIZE - MIB, &mut wanted).is_err_and(|why| why.contains("larger"))
    );
    assert_eq!(wanted, Wanted::all(disk.len() as u64));
    for cut in [0, 300, 5000, 20 * MIB] {
        assert!(survey(&disk[..(START + cut) as usize]).is_err());
    }
}

#[test]
fn an_old_block_of_one_list_that_fits_every_counter_spares_nothing() {
    let dir = Dir::new("xfs-lost-write");
    let mut disk = made(&dir, &[]);
    let fs = Super::parse(&disk[START as usize..][..512], |length| {
        Ok(disk[START as usize..][..length].to_vec())
    })
    .unwrap();
    let group = Group::read(disk.as_slice(), START, &fs, 0).unwrap();
    for root in [group.by_place, group.by_size] {
        assert_eq!(root.levels, 1);
        let tree = root.at * fs.block;
        let record = (START + tree) as usize + HEAD;
        let from = field(&disk, record, 4);
        let of_tree = (tree, fs.block as usize, 52);
        let told = |disk: &mut [u8], from: u64| {
            let from = u32::try_from(from).unwrap().to_be_bytes();
            refusal(disk, (tree + HEAD as u64, &from), of_tree)
        };
        assert!(told(&mut disk, from).is_ok());
        // The run is as long as it was, and begins with a block that somebody uses.
        let why = told(&mut disk, from - 1).unwrap_err();
        assert!(why.contains("differ"), "{why}");
    }
}

#[test]
fn a_log_is_empty_only_behind_the_record_of_an_unmount() {
    let dir = Dir::new("xfs-log");
    let mut disk = made(&dir, &[]);
    let fs = Super::parse(&disk[START as usize..][..512], |length| {
        Ok(disk[START as usize..][..length].to_vec())
    })
    .unwrap();
    let log = (START + (fs.log_group * fs.group + fs.log_block) * fs.block) as usize;
    assert!(log::is_empty(disk.as_slice(), START, &fs).is_ok());
    // The record of the unmount is the first; its operation is in the block behind it.
    for (at, byte, says) in [
        (43, 2, "its log waits"),
        (512 + 9, 0, "its log waits"),
        (14, 9, "its log waits"),
        (304, 0x11, "not as it should be"),
        (23, 1, "not as it should be"),
        (11, 7, "not as it should be"),
        (3, 0, "not as it should be"),
        // A block of this lap, and one of a lap that never was, far behind the end.
        (700 * 512 + 3, 1, "not as it should be"),
        (700 * 512 + 3, 9, "not as it should be"),
    ] {
        let before = std::mem::replace(&mut disk[log + at], byte);
        assert_ne!(before, byte, "{at}");
        let why = log::is_empty(disk.as_slice(), START, &fs).unwrap_err();
        disk[log + at] = before;
        assert!(why.contains(says), "{at}: {why}");
    }
    // Something was written behind it: on the same lap, without or with a record.
    assert!(log::is_empty(disk.as_slice(), START, &fs).is_ok());
    let mut changed = disk;
    changed[log + 2 * 512 + 3] = 1;
    assert!(log::is_empty(changed.as_slice(), START, &fs).is_err());
    let record = changed[log..log + 512].to_vec();
    changed[log + 1024..log + 1536].copy_from_slice(&record);
    assert!(log::is_empty(changed.as_slice(), START, &fs).is_err());
}
