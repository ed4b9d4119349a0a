//! What `build` makes for a Raspberry Pi's boot loader: the FAT image and config.txt. Checked by dosfstools and mtools.

use std::fs;
use std::path::Path;

use flate2::read::GzDecoder;

use crate::boot_sig::key;
use crate::support::{Ran, System, program};

/// A system for a board with such a boot loader.
pub fn system() -> System {
    let system = System::new();
    // An arm64 Image as far as the builder looks.
    let mut kernel = vec![7_u8; 5000];
    kernel[56..60].copy_from_slice(b"ARM\x64");
    let modules = "root/usr/lib/modules/7.0-test";
    system.file(&format!("{modules}/vmlinuz"), &kernel);
    system.file(
        &format!("{modules}/dtb/vendor/bcm0000-one.dtb"),
        b"the first tree",
    );
    system.file(
        &format!("{modules}/dtb/vendor/bcm0000-two.dtb"),
        b"the second tree",
    );
    let firmware = "root/usr/lib/raspi-firmware";
    system.file(&format!("{firmware}/bootcode.bin"), b"second stage");
    system.file(&format!("{firmware}/start.elf"), b"third stage");
    system.file(&format!("{firmware}/start_x.elf"), b"nobody asks for it");
    for name in ["fits", "mine", "another"] {
        system.file(&format!("{firmware}/overlays/{name}.dtbo"), name.as_bytes());
    }
    system.file("config/tiny-pi.toml", include_bytes!("tiny-pi.toml"));
    system.same_times();
    system
}

pub fn build(system: &System, more: &[&str]) -> Ran {
    system.build(&[&["--board", "tiny-pi"], more].concat())
}

/// Every file of a FAT file system in an image, by path.
pub fn read_back(image: &str) -> Vec<(String, Vec<u8>)> {
    let out = tempfile::tempdir().unwrap();
    let copied = program(
        "mcopy",
        &["-s", "-n", "-i", image, "::*", out.path().to_str().unwrap()],
    );
    // An empty one has nothing that `*` would stand for.
    assert!(
        copied.code == 0 || copied.err.contains("\"::*\" not found"),
        "{}",
        copied.err
    );
    files_below(out.path())
}

/// Every file below a directory, by path from there, sorted.
pub fn files_below(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                let name = path.strip_prefix(directory).unwrap().display().to_string();
                found.push((name, fs::read(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

fn text(files: &[(String, Vec<u8>)], name: &str) -> String {
    let (_, bytes) = files.iter().find(|(found, _)| found == name).unwrap();
    String::from_utf8(bytes.clone()).unwrap()
}

pub fn boot_img(system: &System) -> String {
    system.path("out/http/boot.img").display().to_string()
}

#[test]
fn the_image_is_sound_and_holds_what_the_boot_loader_asks_for() {
    let system = system();
    let built = build(&system, &["--cmdline", "root=http://a/b.squashfs"]);
    assert_eq!((built.code, built.err.as_str()), (0, ""));
    let image = boot_img(&system);
    let checked = program("fsck.vfat", &["-n", &image]);
    assert_eq!(checked.code, 0, "{}", checked.out);
    let files = read_back(&image);
    let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    let expected = [
        "bcm0000-one.dtb",
        "bcm0000-two.dtb",
        "bootcode.bin",
        "cmdline.txt",
        "config.txt",
        "initramfs.cpio.zst",
        "kernel8.img",
        "overlays/fits.dtbo",
        "start.elf",
    ];
    assert_eq!(names, expected);
    assert_eq!(
        text(&files, "config.txt"),
        "# Made by lifeboot's image-builder.\narm_64bit=1\nenable_uart=1\nupstream_kernel=1\nkernel=kernel8.img\n\
         initramfs initramfs.cpio.zst followkernel\n"
    );
    assert_eq!(
        text(&files, "cmdline.txt"),
        "console=ttyS1,115200 console=ttyAMA0,115200 root=http://a/b.squashfs\n"
    );
    assert_eq!(text(&files, "bcm0000-two.dtb"), "the second tree");
    let kernel = &files.iter().find(|(name, _)| name == "kernel8.img").unwrap().1;
    let mut unpacked = Vec::new();
    std::io::Read::read_to_end(&mut GzDecoder::new(kernel.as_slice()), &mut unpacked).unwrap();
    assert!(unpacked == fs::read(system.path("out/kernel")).unwrap());
    let initramfs = &files
        .iter()
        .find(|(name, _)| name.starts_with("initramfs"))
        .unwrap()
        .1;
    let alone = system.initramfs();
    assert!(initramfs.starts_with(&alone) && initramfs.len() == alone.len().next_multiple_of(4));
    assert!(initramfs[alone.len()..].iter().all(|byte| *byte == 0));
}

#[test]
fn the_same_input_on_another_path_gives_the_same_bytes() {
    let (one, other) = (system(), system());
    let key = key(&one, "2048");
    let words = ["--boot-key", &key, "--serial", "9ffefdef", "--serial", "00000001"];
    for system in [&one, &other] {
        let disk = system.path("out/disk.img").display().to_string();
        let built = build(system, &[&words[..], &["--disk", &disk]].concat());
        assert_eq!((built.code, built.err.as_str()), (0, ""));
    }
    let (one, other) = (files_below(&one.path("out")), files_below(&other.path("out")));
    let names: Vec<&str> = one.iter().map(|(name, _)| name.as_str()).collect();
    for name in [
        "disk.img",
        "http/boot.img",
        "http/boot.sig",
        "tftp/00000001/kernel8.img",
        "manifest.json",
    ] {
        assert!(names.contains(&name), "{name} of {names:?}");
    }
    assert_eq!(one.len(), other.len());
    for (one, other) in one.iter().zip(&other) {
        assert!(one == other, "{} differs", one.0);
    }
}

#[test]
fn an_image_over_the_limit_is_refused_with_what_is_large_in_it() {
    let system = system();
    let board = include_str!("tiny-pi.toml");
    assert_eq!(build(&system, &[]).code, 0);
    fs::remove_dir_all(system.path("out")).unwrap();
    system.file(
        "config/tiny-pi.toml",
        board.replace("limit-mb = 64", "limit-mb = 0").as_bytes(),
    );
    let built = build(&system, &[]);
    assert_eq!(built.code, 1);
    assert!(
        built
            .err
            .contains(" bytes, over the 0 that tiny-pi loads (this file)\n"),
        "{}",
        built.err
    );
    for name in [
        "  initramfs.cpio.zst\n",
        "  kernel8.img\n",
        "saved by leaving out feature ",
    ] {
        assert!(built.err.contains(name), "{name}: {}", built.err);
    }
    assert!(!system.path("out").exists());
}

#[test]
fn an_image_over_a_doubtful_size_is_built_with_a_warning_where_the_board_knows_one() {
    let board = include_str!("tiny-pi.toml");
    let known = "limit-mb = 64\ndoubtful-mb = 30\ndoubtful-source = \"somebody said so\"";
    let known = board.replace("limit-mb = 64", known);
    for (board, size, warned) in [
        (known.as_str(), 29_000_000, false),
        (known.as_str(), 30_000_000, true),
        (board, 30_000_000, false),
    ] {
        let system = system();
        system.file("config/tiny-pi.toml", board.as_bytes());
        // Nothing that a FAT file system would make smaller.
        system.file("root/usr/lib/raspi-firmware/start.elf", &vec![1; size]);
        let built = build(&system, &[]);
        assert_eq!(built.code, 0, "{}", built.err);
        assert_eq!(
            built
                .err
                .contains("; over 30000000 is doubtful: somebody said so\n"),
            warned,
            "{}",
            built.err
        );
        assert_eq!(built.err.contains("  start.elf\n"), warned);
        assert_eq!(program("fsck.vfat", &["-n", &boot_img(&system)]).code, 0);
    }
}

#[test]
fn the_owners_lines_win_and_bring_their_overlays() {
    let system = system();
    system.file("mine.txt", b"enable_uart=0\ndtoverlay=mine,gpiopin=4\n");
    let mine = system.path("mine.txt").display().to_string();
    let built = build(&system, &["--config-txt", &mine]);
    assert_eq!(
        (built.code, built.err),
        (0, format!("{mine}: enable_uart in place of 'enable_uart=1'\n"))
    );
    let files = read_back(&boot_img(&system));
    assert!(text(&files, "config.txt").ends_with("enable_uart=0\ndtoverlay=mine,gpiopin=4\n"));
    assert!(!text(&files, "config.txt").contains("enable_uart=1"));
    assert_eq!(text(&files, "overlays/mine.dtbo"), "mine");
    assert!(!files.iter().any(|(name, _)| name.contains("another")));
    system.file("mine.txt", b"dtoverlay=theirs\n");
    let built = build(&system, &["--config-txt", &mine]);
    assert_eq!(built.code, 1);
    assert!(
        built
            .err
            .contains("config.txt: dtoverlay=theirs: no theirs.dtbo in "),
        "{}",
        built.err
    );
    system.file("mine.txt", b"enable_uart=0\n# -----BEGIN PRIVATE KEY-----\n");
    let built = build(&system, &["--config-txt", &mine]);
    assert_eq!(built.code, 1);
    assert!(
        built.err.contains("mine.txt: line 2: holds a private key"),
        "{}",
        built.err
    );
}

#[test]
fn firmware_that_is_missing_is_named_and_can_be_left_out() {
    let system = system();
    fs::remove_file(system.path("root/usr/lib/raspi-firmware/start.elf")).unwrap();
    let built = build(&system, &[]);
    assert_eq!(built.code, 1);
    assert!(
        built.err.contains("start.elf: not in ")
            && built.err.contains("in the Debian package firmware-of-nobody"),
        "{}",
        built.err
    );
    assert_eq!(build(&system, &["--no-firmware"]).code, 0);
    let files = read_back(&boot_img(&system));
    assert!(!files.iter().any(|(name, _)| name == "bootcode.bin"));
    // As Raspberry Pi OS has it: on the boot partition.
    system.file("root/boot/firmware/start.elf", b"of the boot partition");
    assert_eq!(build(&system, &[]).code, 0);
    assert_eq!(
        text(&read_back(&boot_img(&system)), "start.elf"),
        "of the boot partition"
    );
}

#[test]
fn a_kernel_the_boot_loader_cannot_start_is_refused() {
    let system = system();
    system.file(
        "root/usr/lib/modules/7.0-test/vmlinuz",
        b"MZ a kernel for something else",
    );
    let built = build(&system, &[]);
    let expected =
        "image-builder: kernel 7.0-test: not an arm64 Image, which is all the boot loader starts\n";
    assert_eq!((built.code, built.err.as_str()), (1, expected));
    assert!(!system.path("out").exists());
}

#[test]
fn a_board_without_such_a_boot_loader_gets_none_of_it() {
    let system = System::new();
    assert_eq!(system.build(&[]).code, 0);
    assert!(!system.path("out/http").exists() && !system.path("out/tftp").exists());
    let built = system.build(&["--serial", "9ffefdef"]);
    assert_eq!(
        built.err,
        "image-builder: --serial: tiny has no Raspberry Pi boot loader\n"
    );
}

#[test]
fn a_recipe_says_the_same_as_the_flags() {
    let (flags, recipe) = (system(), system());
    let key = key(&flags, "2048");
    let path = |system: &System, name: &str| system.path(name).display().to_string();
    for system in [&flags, &recipe] {
        system.file("mine.txt", b"dtoverlay=mine\n");
    }
    let words = [
        "--boot-key",
        &key,
        "--serial",
        "9ffefdef",
        "--cmdline",
        "quiet",
        "--no-firmware",
    ];
    let config = path(&flags, "mine.txt");
    assert_eq!(
        build(&flags, &[&words[..], &["--config-txt", &config]].concat()).code,
        0
    );
    let text = format!(
        "boot-key = \"{key}\"\nserial = [\"9FFEFDEF\"]\ncmdline = \"quiet\"\nfirmware = false\nconfig-txt = \"mine.txt\"\n"
    );
    recipe.file("recipe.toml", text.as_bytes());
    let built = build(&recipe, &["--recipe", &path(&recipe, "recipe.toml")]);
    assert_eq!((built.code, built.err.as_str()), (0, ""));
    assert!(files_below(&flags.path("out")) == files_below(&recipe.path("out")));
}
