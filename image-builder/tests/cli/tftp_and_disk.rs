//! The TFTP tree and the card image that `build` makes for a Raspberry Pi's boot loader.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::boot_img::{build, files_below, read_back, system};
use crate::boot_sig::key;
use crate::support::{System, program};

fn tree(system: &System) -> Vec<(String, Vec<u8>)> {
    files_below(&system.path("out/tftp"))
}

#[test]
fn a_tree_without_machines_has_the_files_of_the_image_at_its_root() {
    let system = system();
    assert_eq!(build(&system, &[]).code, 0);
    assert!(tree(&system) == read_back(system.path("out/http/boot.img").to_str().unwrap()));
}

#[test]
fn machines_have_a_directory_each_and_the_rom_its_file_at_the_root() {
    let system = system();
    let words = [
        "--serial",
        "100000009FFEFDEF",
        "--serial",
        "00000001",
        "--mac",
        "DC:A6:32:01:36:C2",
    ];
    let built = build(&system, &words);
    assert_eq!((built.code, built.err.as_str()), (0, ""));
    let image = read_back(system.path("out/http/boot.img").to_str().unwrap());
    let tree = tree(&system);
    let root: Vec<&str> = tree
        .iter()
        .map(|(name, _)| name.as_str())
        .filter(|name| !name.contains('/'))
        .collect();
    assert_eq!(root, ["bootcode.bin"]);
    for prefix in ["9ffefdef", "00000001", "dc-a6-32-01-36-c2"] {
        let below = tree
            .iter()
            .filter_map(|(name, bytes)| Some((name.strip_prefix(&format!("{prefix}/"))?, bytes)));
        let wanted = image.iter().filter(|(name, _)| name != "bootcode.bin");
        let wanted = wanted.map(|(name, bytes)| (name.as_str(), bytes));
        assert!(below.eq(wanted), "{prefix}");
    }
    let manifest = fs::read_to_string(system.path("out/manifest.json")).unwrap();
    assert!(
        manifest.contains("\"tftp/dc-a6-32-01-36-c2/overlays/fits.dtbo\""),
        "{manifest}"
    );
}

#[test]
fn what_only_an_earlier_build_wrote_is_taken_away() {
    let system = system();
    let names = |system: &System| -> Vec<String> {
        let files = files_below(&system.path("out"));
        files.into_iter().map(|(name, _)| name).collect()
    };
    let one = ["--serial", "00000001"];
    assert_eq!(build(&system, &one).code, 0);
    let wanted = names(&system);
    let more = ["--serial", "00000002", "--mac", "dc-a6-32-01-36-c2"];
    assert_eq!(build(&system, &[&one[..], &more].concat()).code, 0);
    // Somebody's own, and what somebody has edited since.
    system.file("out/tftp/00000002/note", b"in the attic");
    system.file("out/tftp/00000002/cmdline.txt", b"quiet");
    assert!(names(&system).len() > wanted.len() + 10);
    let built = build(&system, &one);
    assert_eq!(built.code, 0, "{}", built.err);
    let mut expected = wanted.clone();
    expected.extend(["tftp/00000002/note", "tftp/00000002/cmdline.txt"].map(str::to_owned));
    expected.sort();
    assert_eq!(names(&system), expected);
    let out = system.path("out").display().to_string();
    assert_eq!(built.out.matches(": removed, ").count(), 1, "{}", built.out);
    assert!(built.out.contains("tftp/00000002/kernel8.img"), "{}", built.out);
    let left = format!("{out}: of an earlier build, changed since and left: tftp/00000002/cmdline.txt\n");
    assert_eq!(built.err, left);
    // The same again has nothing to remove; a board of another kind has nothing of this one.
    let built = build(&system, &one);
    assert!(!built.out.contains("removed"), "{}", built.out);
    assert_eq!(system.build(&["--compression", "gzip"]).code, 0);
    let kept = [
        "initramfs.cpio.gz",
        "kernel",
        "kernel-check.txt",
        "listing.spdx.json",
        "listing.txt",
        "manifest.json",
        "tftp/00000002/cmdline.txt",
        "tftp/00000002/note",
    ];
    assert_eq!(names(&system), kept);
}

#[test]
fn a_signed_image_lies_in_the_tree_too_and_an_unsigned_one_does_not() {
    let system = system();
    let key = key(&system, "2048");
    for prefix in [None, Some("9ffefdef")] {
        let machine = prefix.map_or(vec![], |serial| vec!["--serial", serial]);
        let place = |name: &str| system.path(&format!("out/tftp/{}/{name}", prefix.unwrap_or_default()));
        assert_eq!(build(&system, &machine).code, 0);
        assert!(!place("boot.img").exists() && !place("boot.sig").exists());
        assert_eq!(
            build(&system, &[&machine[..], &["--boot-key", &key]].concat()).code,
            0
        );
        for name in ["boot.img", "boot.sig"] {
            let original = fs::read(system.path("out/http").join(name)).unwrap();
            assert!(fs::read(place(name)).unwrap() == original, "{name}");
        }
        let numbers = [place("boot.img"), system.path("out/http/boot.img")]
            .map(|path| fs::metadata(path).unwrap().ino());
        assert_eq!(numbers[0], numbers[1]);
        assert_eq!(build(&system, &machine).code, 0);
        assert!(!place("boot.img").exists() && !place("boot.sig").exists());
        fs::remove_dir_all(system.path("out")).unwrap();
    }
}

#[test]
fn large_files_of_several_machines_lie_on_the_disk_once_and_those_people_edit_do_not() {
    let system = system();
    // Twice: the second build meets the links of the first.
    for _ in 0..2 {
        assert_eq!(
            build(&system, &["--serial", "00000001", "--serial", "00000002"]).code,
            0
        );
        let number = |machine: u32, name: &str| {
            let path = system.path(&format!("out/tftp/0000000{machine}/{name}"));
            let meta = fs::symlink_metadata(path).unwrap();
            assert!(meta.is_file());
            meta.ino()
        };
        for name in [
            "kernel8.img",
            "initramfs.cpio.zst",
            "start.elf",
            "overlays/fits.dtbo",
        ] {
            assert_eq!(number(1, name), number(2, name), "{name}");
        }
        for name in ["config.txt", "cmdline.txt"] {
            assert_ne!(number(1, name), number(2, name), "{name}");
        }
    }
    assert_ne!(
        fs::metadata(system.path("out/tftp/00000001/kernel8.img"))
            .unwrap()
            .ino(),
        fs::metadata(system.path("out/kernel")).unwrap().ino()
    );
}

#[test]
fn a_file_that_would_not_arrive_whole_is_refused_unless_the_boot_loaders_are_newer() {
    let system = system();
    // The kernel's 5000 bytes are fewer in gzip; this file stays as it is.
    system.file("root/usr/lib/raspi-firmware/start.elf", &vec![1; 65_535]);
    let board = include_str!("tiny-pi.toml").replace("block-size = 1024", "block-size = 1");
    system.file("config/tiny-pi.toml", board.as_bytes());
    let built = build(&system, &[]);
    assert_eq!(built.code, 1);
    let expected = "image-builder: tftp/start.elf: 65535 bytes, over the 65534 of 65535 blocks of 1; boot loaders since 2022-10-03 \
                    take blocks of 1468: say --bootloader 2022-10-03 where all are that new\n";
    assert_eq!(built.err, expected);
    assert!(!system.path("out").exists());
    assert_eq!(build(&system, &["--bootloader", "2022-10-03"]).code, 0);
    assert_eq!(build(&system, &["--bootloader", "2022-10-02"]).code, 1);
}

#[test]
fn machines_that_cannot_be_are_refused() {
    let system = system();
    for words in [
        ["--serial", "9ffefde"],
        ["--serial", "../../ab"],
        ["--mac", "dca6320136c2"],
        ["--bootloader", "new"],
    ] {
        let built = build(&system, &words);
        assert_eq!(built.code, 1);
        assert!(
            built
                .err
                .starts_with(&format!("image-builder: {} {}: ", words[0], words[1])),
            "{}",
            built.err
        );
        assert!(!system.path("out").exists());
    }
}

/// Where the partitions of an image begin, and how long they are, in bytes; with their types.
fn partitions(image: &[u8]) -> Vec<(u8, usize, usize)> {
    assert_eq!(image[510..512], [0x55, 0xaa]);
    let number = |at: usize| u32::from_le_bytes(image[at..at + 4].try_into().unwrap()) as usize * 512;
    let entries = (0..4).map(|entry| 446 + entry * 16);
    entries
        .filter(|at| image[at + 4] != 0)
        .map(|at| (image[at + 4], number(at + 8), number(at + 12)))
        .collect()
}

/// Checks the file system of a partition and reads its files.
pub fn partition(image: &[u8], start: usize, size: usize) -> Vec<(String, Vec<u8>)> {
    let place = tempfile::NamedTempFile::new().unwrap();
    fs::write(place.path(), &image[start..start + size]).unwrap();
    let path = place.path().to_str().unwrap();
    let checked = program("fsck.vfat", &["-n", path]);
    assert_eq!(checked.code, 0, "{}", checked.out);
    read_back(path)
}

pub fn disk(system: &System, more: &[&str]) -> Vec<u8> {
    let path = system.path("disk.img").display().to_string();
    let built = build(system, &[&["--disk", &path], more].concat());
    assert_eq!((built.code, built.err.as_str()), (0, ""));
    fs::read(path).unwrap()
}

#[test]
fn a_card_holds_the_files_and_an_empty_key_partition() {
    let system = system();
    let image = disk(&system, &[]);
    let partitions = partitions(&image);
    let (mib, end) = (1 << 20, image.len());
    assert_eq!(
        partitions,
        [(0x0c, 4 * mib, 128 * mib), (0x0e, 132 * mib, 16 * mib)]
    );
    assert_eq!(end, 148 * mib);
    let mut files = partition(&image, 4 * mib, 128 * mib);
    let line = files.iter_mut().find(|(name, _)| name == "cmdline.txt").unwrap();
    let expected = b"console=ttyS1,115200 console=ttyAMA0,115200 lifeboot.key-partition=LABEL=LIFEBOOT\n";
    assert_eq!(line.1, expected);
    line.1 = b"console=ttyS1,115200 console=ttyAMA0,115200\n".to_vec();
    assert!(files == read_back(system.path("out/http/boot.img").to_str().unwrap()));
    assert!(partition(&image, 132 * mib, 16 * mib).is_empty());
    let label = program(
        "mlabel",
        &[
            "-s",
            "-i",
            &format!("{}@@132M", system.path("disk.img").display()),
            "::",
        ],
    );
    assert!(label.out.contains("LIFEBOOT"), "{}{}", label.out, label.err);
    // Sparse: most of it is never written.
    assert!(fs::metadata(system.path("disk.img")).unwrap().blocks() * 512 < 8 << 20);
}

#[test]
fn an_image_is_not_written_over_a_device_or_directory() {
    let system = system();
    for place in ["/dev/null", system.path("keys").to_str().unwrap()] {
        fs::create_dir_all(system.path("keys")).unwrap();
        let built = build(&system, &["--disk", place]);
        assert_eq!(built.code, 1);
        assert!(
            built.err.contains(&format!("--disk {place}: not a regular file")),
            "{}",
            built.err
        );
        assert!(!system.path("out").exists());
    }
}
