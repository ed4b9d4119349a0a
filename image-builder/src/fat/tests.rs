//! What other programs say of the file systems written here: dosfstools checks them, mtools reads them back.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::*;

fn run(program: &str, words: &[&str]) -> (bool, String) {
    let output = Command::new(program)
        .args(words)
        .env("MTOOLSRC", "/dev/null")
        .env("TZ", "UTC")
        .output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

/// Checks an image and reads every file back.
fn verify(bytes: &[u8], files: &[(String, Vec<u8>)], kind: &str) {
    let place = tempfile::tempdir().unwrap();
    let image = place.path().join("image");
    fs::write(&image, bytes).unwrap();
    let image = image.to_str().unwrap();
    let (good, text) = run("fsck.vfat", &["-n", "-v", image]);
    assert!(good && !text.contains("differ"), "{text}");
    assert!(text.contains(&format!("{kind} bit entries")), "{text}");
    let out = place.path().join("out");
    fs::create_dir(&out).unwrap();
    let (good, text) = run("mcopy", &["-s", "-n", "-i", image, "::*", out.to_str().unwrap()]);
    assert!(good, "{text}");
    for (path, data) in files {
        assert!(fs::read(out.join(Path::new(path))).unwrap() == *data, "{path}");
    }
}

fn files(last: usize) -> Vec<(String, Vec<u8>)> {
    let text = |size: usize| (0..size).map(|at| (at % 251) as u8).collect::<Vec<u8>>();
    vec![
        ("config.txt".into(), b"arm_64bit=1\n".to_vec()),
        ("EMPTY".into(), Vec::new()),
        ("bcm2712-rpi-5-b.dtb".into(), text(512)),
        ("bcm2712-d-rpi-5-b.dtb".into(), text(513)),
        ("overlays/disable-bt.dtbo".into(), text(1000)),
        ("overlays/deep/er/a file with blanks.txt".into(), text(1)),
        ("kernel8.img".into(), text(last)),
    ]
}

fn fitting(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let volume = Volume {
        label: "BOOT",
        time: 1_700_000_000,
        files,
        size: Size::Fitting,
    };
    volume.write().unwrap().bytes().unwrap()
}

#[test]
fn every_kind_of_fat_is_found_sound_and_reads_back() {
    for (size, kind) in [(100_000, "12"), (5_000_000, "16"), (40_000_000, "32")] {
        let files = files(size);
        verify(&fitting(&files), &files, kind);
    }
}

#[test]
fn no_size_near_a_border_between_kinds_is_read_as_another() {
    for border in [4085_usize, 65525] {
        for off in (0..48).step_by(8) {
            let files = [("a".to_owned(), vec![1; (border - 24 + off) * SECTOR])];
            let bytes = fitting(&files);
            // What mtools and the kernel count by: the sectors that are left for clusters.
            let field = |at: usize| usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]));
            let long = |at: usize| field(at) | field(at + 2) << 16;
            let table = if field(22) == 0 { long(36) } else { field(22) };
            let sectors = if field(19) == 0 { long(32) } else { field(19) };
            let clusters = sectors - field(14) - usize::from(bytes[16]) * table - field(17) * 32 / SECTOR;
            assert!(clusters.abs_diff(border) >= 16, "{border} {off}: {clusters}");
            let kind = match clusters {
                0..4085 => "12",
                4085..65525 => "16",
                _ => "32",
            };
            verify(&bytes, &files, kind);
        }
    }
}

#[test]
fn partitions_of_both_kinds_are_found_sound() {
    let files = files(3_000_000);
    for (kind, name, sectors) in [
        (Kind::Fat32, "32", 256 << 11),
        (Kind::Fat32, "32", 80 << 11),
        (Kind::Fat16, "16", 16 << 11),
    ] {
        let volume = Volume {
            label: "LIFEBOOT",
            time: 1_700_000_000,
            files: &files,
            size: Size::Partition {
                kind,
                start: 8192,
                sectors,
            },
        };
        let written = volume.write().unwrap();
        assert_eq!(written.bytes().unwrap().len(), sectors as usize * SECTOR);
        verify(&written.bytes().unwrap(), &files, name);
    }
}

#[test]
fn what_is_written_to_a_file_is_what_stands_in_memory() {
    let files = files(70_000);
    let volume = Volume {
        label: "BOOT",
        time: 0,
        files: &files,
        size: Size::Partition {
            kind: Kind::Fat16,
            start: 1,
            sectors: 16384,
        },
    };
    let written = volume.write().unwrap();
    let file = tempfile::tempfile().unwrap();
    file.set_len(512 + (8 << 20)).unwrap();
    written.write_to(&file, 512).unwrap();
    let mut bytes = vec![0; 8 << 20];
    file.read_exact_at(&mut bytes, 512).unwrap();
    assert!(bytes == written.bytes().unwrap());
}

#[test]
fn the_same_files_give_the_same_bytes_and_others_another_number() {
    let one = fitting(&files(1000));
    assert!(one == fitting(&files(1000)));
    let other = fitting(&files(1001));
    assert_ne!(one[39..43], other[39..43]);
}

#[test]
fn a_directory_with_many_names_keeps_them_all() {
    for (directory, count) in [("", 400), ("overlays/", 700)] {
        let files: Vec<_> = (0..count)
            .map(|number| (format!("{directory}an-overlay-{number}.dtbo"), vec![1; number]))
            .collect();
        verify(&fitting(&files), &files, "12");
    }
}

#[test]
fn files_that_do_not_fit_or_have_one_name_are_refused() {
    let files = files(9 << 20);
    let volume = |files| Volume {
        label: "LIFEBOOT",
        time: 0,
        files,
        size: Size::Partition {
            kind: Kind::Fat16,
            start: 0,
            sectors: 16384,
        },
    };
    let error = volume(&files).write().unwrap_err().to_string();
    assert!(
        error.starts_with("LIFEBOOT: 944") && error.contains("bytes do not fit a partition with"),
        "{error}"
    );
    let twice = [
        ("Config.txt".to_owned(), Vec::new()),
        ("config.TXT".to_owned(), Vec::new()),
    ];
    let error = volume(&twice).write().unwrap_err().to_string();
    assert_eq!(error, "config.TXT: FAT takes it and Config.txt for the same name");
}
