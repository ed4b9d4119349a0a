//! `squashfs`: what is kept, what is noticed.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::support::{image_builder, program};

struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// A tarball with what a directory cannot have without root: device nodes and other people's files.
    fn tarball(&self) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        let mut add = |path: &str, kind: tar::EntryType, mode: u32, data: &[u8], device: (u32, u32)| {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_mode(mode);
            header.set_uid(1000);
            header.set_gid(1001);
            header.set_mtime(1_700_000_000);
            header.set_size(data.len() as u64);
            if kind == tar::EntryType::Char {
                header.set_device_major(device.0).unwrap();
                header.set_device_minor(device.1).unwrap();
            }
            builder.append_data(&mut header, path, data).unwrap();
        };
        add("dev/null", tar::EntryType::Char, 0o666, b"", (1, 3));
        add(
            "usr/lib/systemd/systemd",
            tar::EntryType::Regular,
            0o755,
            &[7; 300_000],
            (0, 0),
        );
        add(
            "usr/lib/modules/7.0/kernel/fs/x.ko",
            tar::EntryType::Regular,
            0o644,
            b"x",
            (0, 0),
        );
        add(
            "etc/os-release",
            tar::EntryType::Regular,
            0o644,
            b"ID=t\nPRETTY_NAME=\"Test 1\"\n",
            (0, 0),
        );
        for (path, target) in [("sbin", "usr/sbin"), ("usr/sbin/init", "../lib/systemd/systemd")] {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            builder.append_link(&mut header, path, target).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn tree(&self) {
        for directory in ["tree/a", "tree/b"] {
            fs::create_dir_all(self.path(directory)).unwrap();
        }
        fs::write(self.path("tree/b/file"), vec![1; 5000]).unwrap();
        fs::hard_link(self.path("tree/b/file"), self.path("tree/a/second")).unwrap();
        symlink("b/file", self.path("tree/link")).unwrap();
    }
}

fn squashfs(source: &Path, image: &Path) -> crate::support::Ran {
    let words = ["squashfs", "--level", "3", "--clamp-time", "1000"].map(std::ffi::OsString::from);
    let paths = [source, image].map(|path| path.as_os_str().to_owned());
    image_builder(&words.into_iter().chain(paths).collect::<Vec<_>>())
}

#[test]
fn a_tarball_keeps_owners_and_devices_and_inspect_finds_the_init() {
    let place = Place::new();
    fs::write(place.path("os.tar"), place.tarball()).unwrap();
    let made = squashfs(&place.path("os.tar"), &place.path("os.squashfs"));
    assert_eq!(made.code, 0, "{}", made.err);
    let found = image_builder(&["inspect", "--list", "--kernel", "7.0", &place.text("os.squashfs")]);
    assert_eq!(found.code, 0, "{}", found.err);
    for line in [
        "system       Test 1\n",
        "init         /sbin/init -> /usr/lib/systemd/systemd\n",
        "modules      1 for 7.0\n",
        "asked kernel its modules are there\n",
        "\nc 666 0 dev/null\n",
        "\nf 755 300000 usr/lib/systemd/systemd\n",
    ] {
        assert!(found.out.contains(line), "{line:?} in\n{}", found.out);
    }
    let other = image_builder(&["inspect", "--kernel", "6.1", &place.text("os.squashfs")]);
    let found = "asked kernel has no modules here\n";
    assert!(other.code == 1 && other.out.contains(found), "{}", other.out);
    assert!(
        other.err.ends_with(": no modules for kernel 6.1\n"),
        "{}",
        other.err
    );
    let long = program("unsquashfs", &["-lln", &place.text("os.squashfs")]);
    let null = long.out.lines().find(|line| line.ends_with("/dev/null")).unwrap();
    assert!(
        null.starts_with("crw-rw-rw- 1000/1001") && null.contains("1,  3"),
        "{null}"
    );
}

#[test]
fn a_directory_gives_the_same_bytes_and_keeps_hard_links() {
    let (one, other) = (Place::new(), Place::new());
    for place in [&one, &other] {
        place.tree();
        let made = squashfs(&place.path("tree"), &place.path("image"));
        assert_eq!(made.code, 0, "{}", made.err);
    }
    assert!(fs::read(one.path("image")).unwrap() == fs::read(other.path("image")).unwrap());
    let out = one.text("out");
    assert_eq!(
        program("unsquashfs", &["-q", "-n", "-d", &out, &one.text("image")]).code,
        0
    );
    let inode = |name: &str| std::os::unix::fs::MetadataExt::ino(&fs::metadata(one.path(name)).unwrap());
    assert_eq!(inode("out/a/second"), inode("out/b/file"));
    assert_eq!(fs::read_link(one.path("out/link")).unwrap(), Path::new("b/file"));
}

#[test]
fn an_image_without_an_init_is_made_and_said() {
    let place = Place::new();
    fs::write(place.path("os.tar"), place.tarball()).unwrap();
    let made = squashfs(&place.path("os.tar"), &place.path("image"));
    assert!(made.code == 0 && !made.err.contains("no init"), "{}", made.err);
    place.tree();
    let made = squashfs(&place.path("tree"), &place.path("image"));
    let said = format!("{}: no init, looked for /sbin/init ", place.text("tree"));
    assert!(made.code == 0 && made.err.contains(&said), "{}", made.err);
}

#[test]
fn a_tarball_that_is_cut_or_none_makes_no_image() {
    let place = Place::new();
    let whole = place.tarball();
    let cases: [(&[u8], &str); 5] = [
        (b"", "no tar archive, or an empty one"),
        (b"this is not a tarball", "not a tar archive"),
        (&whole[..200], "not a tar archive, or damaged, after 0 entries"),
        (&whole[..100_000], "usr/lib/systemd/systemd: ends "),
        (&whole[..whole.len() - 1024], "cut short after 6 entries"),
    ];
    for (bytes, why) in cases {
        fs::write(place.path("os.tar"), bytes).unwrap();
        let made = squashfs(&place.path("os.tar"), &place.path("os.squashfs"));
        assert!(
            made.code == 1 && made.err.contains("os.tar: ") && made.err.contains(why),
            "{why}: {}",
            made.err
        );
        assert!(!place.path("os.squashfs").exists());
        assert_eq!(
            fs::read_dir(place.directory.path()).unwrap().count(),
            1,
            "something was left behind"
        );
    }
}

#[test]
fn compressed_tarballs_give_the_image_of_the_plain_one() {
    let place = Place::new();
    let tarball = place.tarball();
    fs::write(place.path("a.tar"), &tarball).unwrap();
    fs::write(
        place.path("a.tar.zst"),
        zstd::encode_all(tarball.as_slice(), 3).unwrap(),
    )
    .unwrap();
    assert_eq!(program("gzip", &["-k", &place.text("a.tar")]).code, 0);
    assert_eq!(program("xz", &["-k", &place.text("a.tar")]).code, 0);
    assert_eq!(squashfs(&place.path("a.tar"), &place.path("plain")).code, 0);
    for name in ["a.tar.gz", "a.tar.xz", "a.tar.zst"] {
        let made = squashfs(&place.path(name), &place.path("image"));
        assert_eq!(made.code, 0, "{name}: {}", made.err);
        assert!(
            fs::read(place.path("plain")).unwrap() == fs::read(place.path("image")).unwrap(),
            "{name}"
        );
    }
}

#[test]
fn a_cut_or_damaged_image_is_noticed() {
    let place = Place::new();
    fs::write(place.path("os.tar"), place.tarball()).unwrap();
    assert_eq!(
        squashfs(&place.path("os.tar"), &place.path("os.squashfs")).code,
        0
    );
    let whole = fs::read(place.path("os.squashfs")).unwrap();
    let used = whole[40..48]
        .iter()
        .rev()
        .fold(0, |value, byte| value << 8 | usize::from(*byte));
    for length in [0, 3, 50, 96, 500, used / 2, used - 1] {
        fs::write(place.path("cut"), &whole[..length]).unwrap();
        let found = image_builder(&["inspect", &place.text("cut")]);
        assert!(
            found.code == 1 && found.err.contains("/cut: "),
            "{length}: {}",
            found.err
        );
    }
    // Every field of the superblock in turn made nonsense: an answer, whatever it is, and never a signal.
    for at in (4..96).step_by(2) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0xff;
        damaged[at + 1] ^= 0xff;
        fs::write(place.path("damaged"), &damaged).unwrap();
        let found = image_builder(&["inspect", &place.text("damaged")]);
        assert!(
            matches!(found.code, 0 | 1),
            "byte {at}: {} {}",
            found.code,
            found.err
        );
    }
}

#[test]
fn what_cannot_be_read_or_made_is_refused_by_name() {
    let place = Place::new();
    let gone = squashfs(&place.path("gone"), &place.path("image"));
    assert!(gone.code == 1 && gone.err.contains("gone: "), "{}", gone.err);
    for (flag, value) in [("--level", "23"), ("--block-size", "1000")] {
        let made = image_builder(&["squashfs", flag, value, "a", "b"]);
        assert!(made.code == 1 && made.err.contains(value), "{}", made.err);
    }
}

#[test]
fn there_is_one_source_and_one_image() {
    for (words, why) in [
        (&["squashfs"][..], "no image to write is named"),
        (&["squashfs", "a"], "no source"),
        (&["squashfs", "a", "b", "c"], "3 paths"),
        (&["squashfs", "--from-tar", "a", "b", "c"], "several sources"),
        (
            &["squashfs", "--from-tar", "a", "--from-dir", "b", "c"],
            "several sources",
        ),
        (
            &["squashfs", "--fstab", "no", "a", "b"],
            "--fstab no: 'ram' or 'keep'",
        ),
        (
            &["squashfs", "--modules-from", "x", "a", "b"],
            "--modules-from: of which kernel?",
        ),
        (
            &["squashfs", "--compression", "zip", "a", "b"],
            "unknown compression 'zip'",
        ),
        (&["squashfs", "--board", "pi9", "a", "b"], "unknown board 'pi9'"),
    ] {
        let ran = image_builder(words);
        assert!(ran.code == 1 && ran.err.contains(why), "{words:?}: {}", ran.err);
    }
}

#[test]
fn a_source_is_not_replaced_by_its_image() {
    let place = Place::new();
    let tarball = place.tarball();
    fs::write(place.path("os.tar"), &tarball).unwrap();
    fs::write(place.path("copy.tar"), &tarball).unwrap();
    fs::hard_link(place.path("os.tar"), place.path("second")).unwrap();
    symlink("os.tar", place.path("link")).unwrap();
    fs::create_dir(place.path("tree")).unwrap();
    let source = place.text("os.tar");
    let (same, tree) = (place.text("./os.tar"), place.text("tree"));
    let (second, link) = (place.text("second"), place.text("link"));
    for words in [
        &[source.as_str(), &source][..],
        &[&source, &same],
        &[&source, &second],
        &[&source, &link],
        &["--from-tar", &source, &source],
        &["--from-image", &source, &source],
        &["--kernel", "7.0", "--modules-from", &source, &tree, &source],
        &[&tree, &tree],
    ] {
        let ran = image_builder(&[&["squashfs"], words].concat());
        let why = "which the image would replace";
        assert!(ran.code == 1 && ran.err.contains(why), "{words:?}: {}", ran.err);
        assert!(fs::read(place.path("os.tar")).unwrap() == tarball, "{words:?}");
        assert_eq!(fs::read_dir(place.directory.path()).unwrap().count(), 5);
    }
    // Another file with the same bytes is replaced, as any file is.
    let made = squashfs(&place.path("os.tar"), &place.path("copy.tar"));
    assert_eq!(made.code, 0, "{}", made.err);
    assert!(fs::read(place.path("copy.tar")).unwrap().starts_with(b"hsqs"));
}

#[test]
fn a_changed_byte_of_a_files_data_is_found_by_the_signature_and_by_nothing_else() {
    let place = Place::new();
    fs::write(place.path("os.tar"), place.tarball()).unwrap();
    let (key, image) = (place.text("k"), place.text("os.squashfs"));
    assert_eq!(image_builder(&["keygen", "--out", &key]).code, 0);
    let sign = place.text("k.key");
    let words = ["squashfs", "--sign", &sign, &place.text("os.tar"), &image];
    assert_eq!(image_builder(&words).code, 0);
    let public = place.text("k.pub");
    let signed = |place: &Place| image_builder(&["inspect", "--key", &public, &place.text("os.squashfs")]);
    assert_eq!(signed(&place).code, 0);
    let mut bytes = fs::read(&image).unwrap();
    // Data begins right behind the superblock.
    bytes[110] ^= 1;
    fs::write(&image, &bytes).unwrap();
    let found = signed(&place);
    assert!(
        found.code == 1 && found.err.contains(": signature: "),
        "{}",
        found.err
    );
    assert_eq!(image_builder(&["inspect", &image]).code, 0);
    let help = image_builder(&["inspect", "--help"]).out.replace("\n", " ");
    assert!(help.contains("data of its files is not"), "{help}");
}
