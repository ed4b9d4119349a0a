//! Images that are cut, wrong, or made to lead astray: each is answered with a sentence, none with a panic or without an end.

use std::fs;

use super::*;
use crate::tree::{Kind, Mounts};

/// Everything of a tree as text, whatever goes wrong on the way: nothing may hang or panic.
fn everything(tree: &Tree) -> Vec<String> {
    let walk = match tree.walk("/", Mounts::Entered) {
        Ok(walk) => walk,
        Err(error) => return vec![format!("{error:#}")],
    };
    walk.map(|entry| match entry {
        Ok(entry) => {
            let bytes = match entry.metadata.kind {
                Kind::File => tree.read(&entry.path).map(|bytes| bytes.len()),
                Kind::Link => tree.read_link(&entry.path).map(|target| target.as_os_str().len()),
                _ => Ok(0),
            };
            let attributes = tree.attributes(&entry.path);
            format!("{} {bytes:?} {attributes:?}", entry.path.display())
        }
        Err(error) => format!("{error:#}"),
    })
    .collect()
}

#[test]
fn an_image_cut_short_is_refused_with_both_numbers() {
    let image = Image::new();
    let file = fs::File::options().write(true).open(&image.file).unwrap();
    file.set_len(ROOT + MIB).unwrap();
    let error = image.error();
    assert!(
        error
            .contains("raspios.img: partition 2 ends at sector 51200, the image has 20480: it was cut short"),
        "{error}"
    );
    // The table says less than the file system has.
    let image = Image::new();
    image.write(462 + 12, &2048_u32.to_le_bytes());
    assert!(image.error().contains("partition 2: ext4: "), "{}", image.error());
    assert!(
        image
            .error()
            .contains("in a partition of 1048576 bytes: cut short"),
        "{}",
        image.error()
    );
}

#[test]
fn an_image_without_a_table_or_without_ext4_says_what_it_has() {
    let image = Image::new();
    image.write(510, &[0, 0]);
    assert!(
        image
            .error()
            .ends_with("raspios.img: no partition table: the first sector does not end in 55 aa")
    );
    let image = Image::new();
    image.write(ROOT + 1024 + 0x38, &[0, 0]);
    assert!(
        image
            .error()
            .contains("no ext4 file system in it (partition 1 FAT, partition 2 unknown)"),
        "{}",
        image.error()
    );
    image.write(ROOT, b"LUKS\xba\xbe");
    assert!(image.error().contains("partition 2 LUKS"), "{}", image.error());
}

#[test]
fn a_journal_that_was_not_written_back_is_refused_by_the_name_of_the_tool() {
    let image = Image::with(&["feature needs_recovery"], &["-t", "ext4"], "16");
    let error = image.error();
    assert!(
        error.contains("raspios.img: partition 2: ext4: was not unmounted") && error.contains("e2fsck -fy"),
        "{error}"
    );
}

#[test]
fn a_directory_inside_itself_is_refused() {
    let image = Image::with(&["mkdir a", "mkdir a/b", "ln a a/b/c"], &["-t", "ext4"], "16");
    let all = everything(&image.open().unwrap()).join("\n");
    assert!(all.contains("/a and /a/b/c are the same directory"), "{all}");
}

#[test]
fn a_name_that_is_a_path_is_refused() {
    let image = Image::with(
        &["mkdir trap", "ln etc/fstab trap/aaXaaXpasswd"],
        &["-t", "ext4", "-O", "^metadata_csum"],
        "16",
    );
    let disk = fs::read(&image.file).unwrap();
    let name = b"aaXaaXpasswd";
    let at = disk
        .windows(name.len())
        .rposition(|window| window == name)
        .unwrap();
    image.write(at as u64, b"../../passwd");
    let tree = image.open().unwrap();
    let error = format!("{:#}", tree.entries("/trap").unwrap_err());
    assert!(error.contains("raspios.img: partition 2: /trap: "), "{error}");
}

#[test]
fn a_chain_of_clusters_in_a_circle_is_refused() {
    let image = Image::new();
    // A table of two copies behind one sector; file contents follow each other, so entry N holds N + 1.
    let boot = image.bytes(BOOT, 512);
    let reserved = u64::from(u16::from_le_bytes([boot[14], boot[15]]));
    let table = BOOT + reserved * 512;
    let before = everything(&image.open().unwrap());
    assert!(
        before
            .iter()
            .any(|line| line.starts_with("boot/firmware/bcm2711-rpi-4-b.dtb Ok(5000)"))
    );
    let mut entries = image.bytes(table, 64);
    let first = (2..32)
        .find(|at| {
            u16::from_le_bytes([entries[at * 2], entries[at * 2 + 1]]) == u16::try_from(at + 1).unwrap()
        })
        .unwrap();
    entries[(first + 1) * 2..(first + 2) * 2].copy_from_slice(&u16::try_from(first).unwrap().to_le_bytes());
    image.write(table, &entries);
    let all = everything(&image.open().unwrap()).join("\n");
    assert!(all.contains("a chain of clusters goes in a circle"), "{all}");
}

/// Damage at places spread over all that is not file contents: an error or not, but an end.
#[test]
fn damage_anywhere_ends_in_an_error_or_in_bytes() {
    for options in [
        &["-t", "ext4", "-O", "^metadata_csum"][..],
        &["-t", "ext2", "-b", "1024"],
    ] {
        let image = Image::with(&["ea_set etc user.note short"], options, "16");
        let before = image.bytes(0, usize::try_from(ROOT + ROOT_LENGTH).unwrap());
        let used: Vec<usize> = (0..before.len() / 16)
            .filter(|piece| {
                before[piece * 16..piece * 16 + 16]
                    .iter()
                    .any(|byte| ![0, 7, 0xff].contains(byte))
            })
            .collect();
        let mut seed = 0x9e37_79b9_u32;
        for round in 0..400_usize {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let at = used[(round * 7919 + usize::try_from(seed >> 20).unwrap()) % used.len()] * 16
                + usize::try_from(seed >> 8 & 12).unwrap();
            let old = before[at..at + 4].to_vec();
            let new = [[0xff; 4], [0; 4], [0, 0, 0, 0x80], seed.to_le_bytes()][round % 4];
            image.write(at as u64, &new);
            if let Ok(tree) = image.open() {
                assert!(!everything(&tree).is_empty());
            }
            image.write(at as u64, &old);
        }
        assert!(image.open().is_ok());
    }
}
