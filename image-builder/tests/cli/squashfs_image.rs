//! `squashfs --from-image`: the root partition of a card's image, which nobody mounts.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{Ran, image_builder, program};

const MIB: u64 = 1 << 20;
/// Where the root partition begins.
const ROOT: u64 = 2 * MIB;

/// cap_net_raw, effective and permitted.
const CAPABILITY: &[u8] = b"\x01\x00\x00\x02\x00\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// A card's image: a table, room where a boot partition would be, and a root with what only a file system can hold.
    fn new() -> Self {
        let place = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        for directory in ["root/etc", "root/dev", "root/usr/bin", "root/boot/firmware"] {
            fs::create_dir_all(place.path(directory)).unwrap();
        }
        fs::write(
            place.path("root/etc/fstab"),
            "PARTUUID=5de1e7a3-02 / ext4 defaults 0 1\n",
        )
        .unwrap();
        fs::write(place.path("root/usr/bin/ping"), vec![7; 300_000]).unwrap();
        fs::write(place.path("root/usr/bin/perl"), "x").unwrap();
        fs::hard_link(place.path("root/usr/bin/perl"), place.path("root/usr/bin/perl5")).unwrap();
        std::os::unix::fs::symlink("usr/bin", place.path("root/bin")).unwrap();
        same_times(&place.path("root"));
        place.file_system();
        place.card();
        place
    }

    fn file_system(&self) {
        fs::File::create(self.path("ext4"))
            .unwrap()
            .set_len(8 * MIB)
            .unwrap();
        let made = program(
            "/usr/sbin/mke2fs",
            &[
                "-q",
                "-F",
                "-t",
                "ext4",
                "-d",
                &self.text("root"),
                &self.text("ext4"),
            ],
        );
        assert_eq!((made.code, made.err.as_str()), (0, ""));
        fs::write(self.path("capability"), CAPABILITY).unwrap();
        let commands = format!(
            "cd /dev\nmknod null c 1 3\nset_inode_field null mode 020666\nset_inode_field null mtime 20260101000000\n\
             set_inode_field /dev mtime 20260101000000\nset_inode_field /lost+found mtime 20260101000000\n\
             set_inode_field / mtime 20260101000000\n\
             set_inode_field /usr/bin/ping uid 70000\nset_inode_field /usr/bin/ping gid 13\n\
             ea_set -f {} /usr/bin/ping security.capability\n",
            self.text("capability")
        );
        fs::write(self.path("commands"), commands).unwrap();
        program(
            "/usr/sbin/debugfs",
            &["-w", "-f", &self.text("commands"), &self.text("ext4")],
        );
    }

    fn card(&self) {
        let mut bytes = vec![0; usize::try_from(ROOT).unwrap()];
        // One entry of a master boot record: Linux, from where, how many sectors.
        let entry = 446 + 16;
        bytes[entry + 4] = 0x83;
        bytes[entry + 8..entry + 12].copy_from_slice(&u32::try_from(ROOT / 512).unwrap().to_le_bytes());
        bytes[entry + 12..entry + 16].copy_from_slice(&u32::try_from(8 * MIB / 512).unwrap().to_le_bytes());
        bytes[440..444].copy_from_slice(&0x5de1_e7a3_u32.to_le_bytes());
        bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
        bytes.extend(fs::read(self.path("ext4")).unwrap());
        fs::write(self.path("card.img"), bytes).unwrap();
    }

    fn squashfs(&self, card: &str) -> Ran {
        image_builder(&["squashfs", "--from-image", &self.text(card), &self.text("image")])
    }
}

/// So that what is made of two of them can be compared.
fn same_times(path: &Path) {
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000);
    if path.is_symlink() {
        let text = path.display().to_string();
        program("touch", &["-h", "-d", "@1700000000", &text]);
        return;
    }
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            same_times(&entry.unwrap().path());
        }
    }
    fs::File::open(path).unwrap().set_modified(time).unwrap();
}

#[test]
fn what_only_a_file_system_holds_is_in_the_image() {
    let place = Place::new();
    let made = place.squashfs("card.img");
    assert_eq!(made.code, 0, "{}", made.err);
    assert!(made.err.contains("fstab: / commented out"), "{}", made.err);
    let list = program("unsquashfs", &["-lln", &place.text("image")]).out;
    let line = |name: &str| {
        let end = format!("squashfs-root/{name}");
        list.lines()
            .find(|line| line.ends_with(&end))
            .unwrap_or_else(|| panic!("{name} in\n{list}"))
    };
    let null = line("dev/null");
    assert!(
        null.starts_with("crw-rw-rw- 0/0") && null.contains("1,  3"),
        "{null}"
    );
    assert!(line("usr/bin/ping").contains(" 70000/13 "), "{list}");
    assert!(list.contains("squashfs-root/bin -> usr/bin"), "{list}");
    assert!(line("boot/firmware").starts_with('d'));
    let out = place.text("out");
    program(
        "unsquashfs",
        &["-q", "-n", "-no-xattrs", "-d", &out, &place.text("image")],
    );
    let inode = |name: &str| std::os::unix::fs::MetadataExt::ino(&fs::metadata(place.path(name)).unwrap());
    assert_eq!(inode("out/usr/bin/perl"), inode("out/usr/bin/perl5"));
    assert_eq!(
        fs::read(place.path("out/usr/bin/ping")).unwrap(),
        vec![7; 300_000]
    );
    let tar = std::process::Command::new("sqfs2tar")
        .arg(place.path("image"))
        .output()
        .unwrap();
    let capability = tar
        .stdout
        .windows(CAPABILITY.len())
        .any(|window| window == CAPABILITY);
    assert!(capability, "the capability is gone");
}

#[test]
fn two_cards_made_alike_and_packed_or_not_give_the_same_bytes() {
    let (one, other) = (Place::new(), Place::new());
    assert_eq!(one.squashfs("card.img").code, 0);
    let expected = fs::read(one.path("image")).unwrap();
    assert_eq!(
        program("xz", &["-k1", "--block-size=65536", &other.text("card.img")]).code,
        0
    );
    assert_eq!(program("zstd", &["-qk1", &other.text("card.img")]).code, 0);
    for name in ["card.img", "card.img.xz", "card.img.zst"] {
        let made = other.squashfs(name);
        assert_eq!(made.code, 0, "{name}: {}", made.err);
        assert!(fs::read(other.path("image")).unwrap() == expected, "{name}");
    }
}

#[test]
fn a_card_that_is_cut_or_none_makes_no_image() {
    let place = Place::new();
    let whole = fs::read(place.path("card.img")).unwrap();
    let root = usize::try_from(ROOT).unwrap();
    let mut no_table = whole.clone();
    no_table[510] = 0;
    for (bytes, what) in [
        (&whole[..root + 4096], "cut in the file system"),
        (&whole[..whole.len() - 1000], "a thousand bytes short"),
        (&whole[..100], "a hundred bytes"),
        (&no_table, "no partition table"),
        (&vec![0; root], "zeros"),
    ] {
        fs::write(place.path("bad.img"), bytes).unwrap();
        let made = place.squashfs("bad.img");
        assert!(
            made.code == 1 && made.err.contains("bad.img"),
            "{what}: {}",
            made.err
        );
        assert!(!place.path("image").exists(), "{what}");
    }
}

#[test]
fn a_card_without_the_kernels_modules_is_refused_before_it_is_packed() {
    let place = Place::new();
    let refused = image_builder(&[
        "squashfs",
        "--kernel",
        "7.1-test",
        "--from-image",
        &place.text("card.img"),
        &place.text("image"),
    ]);
    assert!(
        refused.code == 1 && refused.err.contains("card.img: no modules of kernel 7.1-test"),
        "{}",
        refused.err
    );
}
