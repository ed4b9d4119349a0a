use super::*;
use crate::backup::sample::{Dir, FILES, MIB, START, content, framed, run, spoiled};
use std::fs;

const SIZE: u64 = 256 * MIB;

/// A disk with a file system of that kind on it, and the files.
fn made(dir: &Dir, options: &[&str]) -> Vec<u8> {
    let image = dir.blank(SIZE);
    let tree = dir.tree().display().to_string();
    let fixed = ["-q", "-f", "--rootdir", &tree, &image];
    run("mkfs.btrfs", &[options, &fixed].concat());
    framed(&fs::read(image).unwrap())
}

fn survey(disk: &[u8]) -> Result<Wanted, String> {
    let mut wanted = Wanted::all(disk.len() as u64);
    spare(disk, START..START + SIZE, &mut wanted).map(|()| wanted)
}

/// That a file system has all of its files and no errors.
fn is_whole(dir: &Dir, bytes: &[u8]) {
    let image = dir.put(bytes);
    run("btrfs", &["check", "--check-data-csum", &image]);
    let out = dir.out();
    run("btrfs", &["restore", &image, &out.display().to_string()]);
    dir.compare_and_remove(&out);
}

/// How often the middle of a file of some length is on the disk.
fn copies(disk: &[u8]) -> Vec<usize> {
    let wanted: Vec<Vec<u8>> = (0..FILES).map(content).collect();
    let pieces = wanted.iter().filter_map(|content| content.get(4096..4096 + 64));
    let heads = |piece: &[u8]| {
        let places = disk[START as usize..].chunks_exact(4096);
        places.filter(|place| place.starts_with(piece)).count()
    };
    pieces.map(heads).collect()
}

#[test]
fn what_is_spared_nobody_misses_and_second_copies_come_along() {
    let dir = Dir::new("btrfs-kinds");
    for (options, data) in [
        (&[][..], 1),
        (&["-m", "dup", "-d", "dup", "-n", "4096"], 2),
        (&["--mixed", "-n", "4096"], 1),
        (&["-O", "^no-holes,^skinny-metadata"], 1),
    ] {
        let disk = made(&dir, options);
        let wanted = survey(&disk).unwrap_or_else(|why| panic!("{options:?}: {why}"));
        let read = wanted.count();
        assert!(
            read < SIZE / 3 && read > 7 * MIB,
            "{options:?}: {read} bytes are wanted"
        );
        let mut spoiled = spoiled(&disk, &wanted);
        let found = copies(&spoiled);
        assert!(
            found.iter().all(|count| *count >= data) && found == copies(&disk),
            "{options:?}: {found:?}"
        );
        is_whole(&dir, &spoiled[START as usize..(START + SIZE) as usize]);
        // The second superblock, and through it everything once more.
        let first = (START + superblock::AT) as usize;
        spoiled[first..first + 4096].fill(0);
        let image = dir.put(&spoiled[START as usize..(START + SIZE) as usize]);
        run("btrfs", &["check", "-s", "1", &image]);
        // Of two copies of the trees the second is as good as the first.
        if !options.contains(&"--mixed") {
            the_second_copy_is_whole(&dir, &disk, &wanted);
        }
    }
}

/// Everything once more, without the first copy of any block of the trees.
fn the_second_copy_is_whole(dir: &Dir, disk: &[u8], wanted: &Wanted) {
    let fs = Super::parse(&bytes(disk, START + superblock::AT, superblock::LENGTH).unwrap()).unwrap();
    let chunks = Chunks::read(disk, START, &fs).unwrap();
    let mut spoiled = spoiled(disk, wanted);
    let mut lost = 0;
    for chunk in chunks.iter() {
        let copies = chunk.copies(&(chunk.at..chunk.at + chunk.length));
        if chunk.kind & 1 == 0 && copies.len() == 2 {
            let (from, to) = (START + copies[0].start, START + copies[0].end);
            spoiled[from as usize..to as usize].fill(0);
            lost += 1;
        }
    }
    assert!(lost >= 2, "{lost}");
    is_whole(dir, &spoiled[START as usize..(START + SIZE) as usize]);
}

/// Why nothing is spared when the bytes at `at` of the file system are changed, and the checksum of the `length` bytes from `from` on is made
/// right again; the disk is then as before.
fn refusal(disk: &mut [u8], (at, bytes): (u64, &[u8]), (from, length): (u64, u64)) -> Result<Wanted, String> {
    let (at, from, length) = ((START + at) as usize, (START + from) as usize, length as usize);
    let before = disk[from..from + length].to_vec();
    disk[at..at + bytes.len()].copy_from_slice(bytes);
    let block = &mut disk[from..from + length];
    let right = (!crc32c(!0, &block[32..])).to_le_bytes();
    block[..4].copy_from_slice(&right);
    let told = survey(disk);
    disk[from..from + length].copy_from_slice(&before);
    told
}

#[test]
fn what_is_not_certain_spares_nothing() {
    let dir = Dir::new("btrfs-doubts");
    let mut disk = made(&dir, &[]);
    assert!(survey(&disk).is_ok());
    let fs =
        Super::parse(&bytes(disk.as_slice(), START + superblock::AT, superblock::LENGTH).unwrap()).unwrap();
    let chunks = Chunks::read(disk.as_slice(), START, &fs).unwrap();
    let place = |at: u64| {
        chunks
            .of(&(at..at + fs.node))
            .unwrap()
            .copies(&(at..at + fs.node))[0]
            .start
    };
    let at = superblock::AT;
    let (of_super, root, chunk) = ((at, 4096), place(fs.root.at), place(fs.chunk_root.at));
    let (of_root, of_chunk) = ((root, fs.node), (chunk, fs.node));
    for (change, sum, says) in [
        ((at + 64, &b"-"[..]), of_super, "no superblock"),
        ((at + 196, &[1]), of_super, "of a kind"),
        ((at + 48, &[1]), of_super, "checksum of its superblock"),
        ((at + 56, &[5]), of_super, "not known here"),
        ((at + 60, &[1]), of_super, "not known here"),
        ((at + 180, &[0x13]), of_super, "not known here"),
        ((at + 189, &[0x13]), of_super, "not known here"),
        ((at + 136, &[2]), of_super, "several devices"),
        ((at + 97, &[1]), of_super, "its log waits"),
        ((at + 122, &[9]), of_super, "bytes of it are used"),
        ((at + 112, &[1]), of_super, "contradicts itself"),
        ((at + 145, &[7]), of_super, "contradicts itself"),
        ((at + 160, &[0, 9]), of_super, "contradicts itself"),
        ((at + 160, &[0, 0]), of_super, "nowhere"),
        ((at + 201, &[2]), of_super, "is damaged"),
        ((at + 85, &[1]), of_super, "nowhere"),
        ((at + 72, &[0xEE]), of_super, "is damaged"),
        ((at + 198, &[1]), of_super, "is damaged"),
        ((root + 96, &[0, 9]), of_root, "is damaged"),
        ((root + 88, &[2]), of_root, "is damaged"),
        ((root + 48, &[2]), of_root, "is damaged"),
        ((root + 32, &[2, 3, 4]), of_root, "is damaged"),
        ((root + 101, &[0xFF; 8]), of_root, "is damaged"),
        ((chunk + 96, &[1]), of_chunk, "not in its chunk tree"),
    ] {
        let why = refusal(&mut disk, change, sum).unwrap_err();
        assert!(why.contains(says), "{change:?}: {why}");
        disk[(START + change.0) as usize] ^= 0x40;
        assert!(survey(&disk).is_err(), "{change:?}");
        disk[(START + change.0) as usize] ^= 0x40;
    }
    let mut wanted = Wanted::all(disk.len() as u64);
    assert!(
        spare(&disk[..], START..START + SIZE - MIB, &mut wanted).is_err_and(|why| why.contains("larger"))
    );
    assert_eq!(wanted, Wanted::all(disk.len() as u64));
    for cut in [0, 66 << 10, 3 * MIB] {
        assert!(survey(&disk[..(START + cut) as usize]).is_err());
    }
}

#[test]
fn a_superblock_with_a_later_copy_is_not_believed() {
    let dir = Dir::new("btrfs-later");
    let mut disk = made(&dir, &[]);
    let second = SUPERS[1];
    let of_second = (second, superblock::LENGTH);
    let generation = field(&disk, (START + second) as usize + 72, 8);
    let mut told = |generation: u64| refusal(&mut disk, (second + 72, &generation.to_le_bytes()), of_second);
    assert!(told(generation).is_ok() && told(generation - 1).is_ok());
    let why = told(generation + 1).unwrap_err();
    assert!(why.contains("older than the one at byte 67108864"), "{why}");
    // One that was there before the file system was made, and one that is damaged, say nothing of it.
    let place = (START + second) as usize;
    disk[place + 72] ^= 0x40;
    assert!(survey(&disk).is_ok());
    disk[place + 32] ^= 1;
    assert!(refusal(&mut disk, (second + 73, &[9]), of_second).is_ok());
}

#[test]
fn an_extent_that_is_missing_or_too_long_is_noticed_by_the_counters() {
    let dir = Dir::new("btrfs-extents");
    let mut disk = made(&dir, &[]);
    let fs =
        Super::parse(&bytes(disk.as_slice(), START + superblock::AT, superblock::LENGTH).unwrap()).unwrap();
    let chunks = Chunks::read(disk.as_slice(), START, &fs).unwrap();
    let read = |at: u64| chunks.block(disk.as_slice(), START, &fs, at);
    let mut tree = None;
    walk(&fs, &fs.root, &read, &mut |key, item| {
        if key.kind == ROOT && key.object == EXTENTS {
            tree = Some(field(item, 176, 8));
        }
        Ok(())
    })
    .unwrap();
    let mut at = tree.unwrap();
    // Down to the first leaf.
    while field(&read(at).unwrap(), 100, 1) > 0 {
        at = field(&read(at).unwrap(), 101 + 17, 8);
    }
    let leaf = read(at).unwrap();
    let count = field(&leaf, 96, 4) as usize;
    let kinds: Vec<u64> = (0..count)
        .map(|index| field(&leaf, 101 + index * 25 + 8, 1))
        .collect();
    let extent = kinds.iter().position(|kind| *kind == EXTENT).unwrap() as u64;
    let place = chunks
        .of(&(at..at + fs.node))
        .unwrap()
        .copies(&(at..at + fs.node))[0]
        .start;
    let entry = place + 101 + extent * 25;
    // Its kind is one that nobody asks for; it is longer by 256 bytes, by 16 MiB; it lies elsewhere.
    for (change, says) in [
        ((entry + 8, &[167_u8][..]), "are used and it says"),
        ((entry + 10, &[1]), "tree of extents is damaged"),
        ((entry + 12, &[1]), "damaged"),
        ((entry + 5, &[1]), "damaged"),
    ] {
        let why = refusal(&mut disk, change, (place, fs.node)).unwrap_err();
        assert!(why.contains(says), "{change:?}: {why}");
    }
}
