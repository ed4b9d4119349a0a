//! Builds from a disk image: the same bytes as from the directory that was put into it.

use std::fs;
use std::path::PathBuf;

use crate::support::{Ran, System, image_builder, program};

/// A root file system of the made-up system, as a file.
fn image(system: &System) -> PathBuf {
    system.file("root/etc/os-release", b"ID=test\n");
    let image = system.path("os.img");
    fs::File::create(&image).unwrap().set_len(8 << 20).unwrap();
    let (root, file) = (system.path("root"), image.display().to_string());
    let made = program(
        "/usr/sbin/mke2fs",
        &["-q", "-F", "-t", "ext4", "-d", root.to_str().unwrap(), &file],
    );
    assert_eq!((made.code, made.err.as_str()), (0, ""));
    image
}

fn build(system: &System, source: &[&str]) -> Ran {
    let path = |name: &str| system.path(name).display().to_string();
    let mut words = vec!["build".to_owned()];
    words.extend(source.iter().map(|word| (*word).to_owned()));
    if !source.contains(&"--board") {
        words.extend(["--board".into(), "tiny".into()]);
    }
    for (flag, name) in [
        ("--kernel-config", "config"),
        ("--executable", "rescue"),
        ("--out", "out"),
    ] {
        words.extend([flag.to_owned(), path(name)]);
    }
    words.extend(["--features".into(), "core,tool".into()]);
    image_builder(&words)
}

#[test]
fn an_image_gives_the_bytes_of_the_directory_it_was_made_from() {
    let system = System::new();
    let image = image(&system);
    let root = system.path("root");
    let built = build(&system, &["--from-root", root.to_str().unwrap()]);
    assert_eq!((built.code, built.err.as_str()), (0, ""));
    let from_root = system.initramfs();
    program("xz", &["-k1", "--block-size=65536", image.to_str().unwrap()]);
    program("gzip", &["-k1", image.to_str().unwrap()]);
    program("zstd", &["-qk1", image.to_str().unwrap()]);
    for name in ["os.img", "os.img.xz", "os.img.gz", "os.img.zst"] {
        fs::remove_dir_all(system.path("out")).unwrap();
        let built = build(&system, &["--from-image", system.path(name).to_str().unwrap()]);
        assert_eq!((built.code, built.err.as_str()), (0, ""), "{name}");
        assert!(system.initramfs() == from_root, "{name}");
    }
}

#[test]
fn what_an_image_lacks_is_named_all_at_once() {
    let system = System::new();
    fs::remove_file(system.path("root/usr/sbin/tool2")).unwrap();
    fs::remove_file(system.path("root/usr/bin/busybox")).unwrap();
    let image = image(&system);
    let built = build(&system, &["--from-image", image.to_str().unwrap()]);
    assert_eq!(built.code, 1);
    assert_eq!(
        built.err,
        "image-builder: feature core: os.img has no /usr/bin/busybox: a shell\n\
         feature tool: os.img has no /usr/sbin/tool2: a program with libraries\n\
         install them there, or leave the features out\n"
    );
    assert!(!system.path("out").exists());
}

#[test]
fn two_sources_or_a_damaged_one_are_refused_and_nothing_is_written() {
    let system = System::new();
    let image = image(&system);
    let file = image.to_str().unwrap();
    let both = build(&system, &["--from-image", file, "--from-debian", "trixie"]);
    assert_eq!(both.code, 1);
    assert!(
        both.err.contains("2 sources: an image is built from one of"),
        "{}",
        both.err
    );
    fs::File::options()
        .write(true)
        .open(&image)
        .unwrap()
        .set_len(4 << 20)
        .unwrap();
    let cut = build(&system, &["--from-image", file]);
    assert!(
        cut.code == 1 && cut.err.contains("in a partition of 4194304 bytes: cut short"),
        "{}",
        cut.err
    );
    assert!(!system.path("out").exists());
}

#[test]
fn a_card_is_not_written_over_the_image_it_is_made_from() {
    let system = crate::boot_img::system();
    let image = image(&system);
    let (source, copy) = (image.to_str().unwrap(), system.path("copy.img"));
    fs::copy(&image, &copy).unwrap();
    let before = fs::read(&image).unwrap();
    let disk = |disk: &str| {
        build(
            &system,
            &["--board", "tiny-pi", "--from-image", source, "--disk", disk],
        )
    };
    let same = disk(source);
    let why = format!("image-builder: {source}: is the source {source}, which the image would replace");
    assert!(same.code == 1 && same.err.starts_with(&why), "{}", same.err);
    assert!(fs::read(&image).unwrap() == before && !system.path("out").exists());
    // Another file with the same bytes is replaced.
    let other = disk(copy.to_str().unwrap());
    assert_eq!((other.code, other.err.as_str()), (0, ""));
    assert!(fs::read(&image).unwrap() == before && fs::read(&copy).unwrap() != before);
}
