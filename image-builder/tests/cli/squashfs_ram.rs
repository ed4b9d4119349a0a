//! `squashfs`: what is changed so that a system made for a card runs from RAM, and what is kept. Each thing twice, the two
//! one fact apart.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;

use crate::support::{Ran, image_builder, program};

/// cap_net_raw, effective and permitted, and made to hold a line feed: the permitted set has bits 1 and 3 too.
const CAPABILITY: &[u8] = b"\x01\x00\x00\x02\x0a\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
const FSTAB: &str = "proc /proc proc defaults 0 0\n\
                     PARTUUID=5de1e7a3-01 /boot/firmware vfat defaults 0 2\n\
                     PARTUUID=5de1e7a3-02 / ext4 defaults,noatime 0 1\n\
                     UUID=77 /data ext4 defaults 0 2\n";

/// A directory for one test, with the tarball of a system in it.
struct Place {
    directory: tempfile::TempDir,
}

/// What a system is made of here.
#[derive(Default)]
struct System {
    builder: Option<tar::Builder<Vec<u8>>>,
}

impl System {
    fn new() -> Self {
        let mut system = Self {
            builder: Some(tar::Builder::new(Vec::new())),
        };
        for directory in ["./", "etc/", "etc/ssh/", "usr/", "usr/bin/"] {
            system.add(directory, tar::EntryType::Directory, b"");
        }
        for (path, text) in [
            ("etc/fstab", FSTAB),
            ("etc/machine-id", "8c7f5de1e7a34c0f9a53b0e2d1c4f6a7\n"),
            ("etc/ssh/ssh_host_ed25519_key", "a secret"),
            ("etc/ssh/ssh_host_ed25519_key.pub", "a public key"),
            ("usr/bin/ssh-keygen", "x"),
            ("usr/lib/systemd/systemd", "x"),
            ("usr/lib/modules/7.0-test/modules.dep", ""),
            ("usr/lib/modules/7.0-test/kernel/fs/x.ko", "x"),
        ] {
            system.file(path, text);
        }
        system
    }

    fn add(&mut self, path: &str, kind: tar::EntryType, data: &[u8]) {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(if data.is_empty() { 0o755 } else { 0o644 });
        header.set_uid(1000);
        header.set_gid(1001);
        header.set_mtime(1_700_000_000);
        header.set_size(data.len() as u64);
        let builder = self.builder.as_mut().unwrap();
        builder.append_data(&mut header, path, data).unwrap();
    }

    fn file(&mut self, path: &str, text: &str) {
        self.add(path, tar::EntryType::Regular, text.as_bytes());
    }

    fn attribute(&mut self, name: &str, value: &[u8]) {
        let name = format!("SCHILY.xattr.{name}");
        let builder = self.builder.as_mut().unwrap();
        builder.append_pax_extensions([(name.as_str(), value)]).unwrap();
    }

    fn bytes(&mut self) -> Vec<u8> {
        self.builder.take().unwrap().into_inner().unwrap()
    }
}

impl Place {
    fn of(mut system: System) -> Self {
        let place = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        fs::write(place.path("os.tar"), system.bytes()).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn squashfs(&self, more: &[&str]) -> Ran {
        let mut words: Vec<OsString> = ["squashfs", "--from-tar"].map(OsString::from).into();
        words.push(self.path("os.tar").into());
        // Paths of this place are given as `@NAME`.
        words.extend(more.iter().map(|word| match word.strip_prefix('@') {
            Some(name) => self.path(name).into(),
            None => OsString::from(word),
        }));
        words.push(self.path("image").into());
        image_builder(&words)
    }

    /// Makes the image, which must work, and unpacks it.
    fn made(&self, more: &[&str]) -> Ran {
        let made = self.squashfs(more);
        assert_eq!(made.code, 0, "{}", made.err);
        let (image, out) = (self.path("image"), self.path("out"));
        let words = [
            "-q",
            "-n",
            "-f",
            "-no-xattrs",
            "-d",
            out.to_str().unwrap(),
            image.to_str().unwrap(),
        ];
        program("unsquashfs", &words);
        made
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path("out").join(name)).unwrap()
    }

    fn has(&self, name: &str) -> bool {
        self.path("out").join(name).symlink_metadata().is_ok()
    }
}

#[test]
fn lines_of_fstab_that_name_the_card_are_commented_out_unless_kept() {
    let place = Place::of(System::new());
    let made = place.made(&[]);
    let note = "# lifeboot, root in RAM: ";
    assert_eq!(
        place.text("etc/fstab"),
        FSTAB.replace("PARTUUID", &format!("{note}PARTUUID"))
    );
    assert!(
        made.err.contains("fstab: /boot/firmware / commented out"),
        "{}",
        made.err
    );
    assert!(
        made.err.contains("waits for the disk of /data; with nofail"),
        "{}",
        made.err
    );
    let place = Place::of(System::new());
    place.made(&["--fstab", "keep"]);
    assert_eq!(place.text("etc/fstab"), FSTAB);
}

#[test]
fn the_machine_id_is_emptied_and_made_where_there_is_none() {
    let place = Place::of(System::new());
    place.made(&[]);
    assert_eq!(place.text("etc/machine-id"), "");
    // Another system has none, and no systemd that would want one.
    let mut system = System {
        builder: Some(tar::Builder::new(Vec::new())),
    };
    system.file("etc/fstab", "");
    let place = Place::of(system);
    place.made(&[]);
    assert!(!place.has("etc/machine-id"));
}

#[test]
fn host_keys_are_left_out_and_made_anew_unless_kept_by_name() {
    let place = Place::of(System::new());
    let made = place.made(&[]);
    assert!(!place.has("etc/ssh/ssh_host_ed25519_key") && !place.has("etc/ssh/ssh_host_ed25519_key.pub"));
    let unit = "etc/systemd/system/multi-user.target.wants/lifeboot-ssh-host-keys.service";
    assert!(place.text(unit).contains("ssh-keygen"));
    assert!(
        made.err.contains("2 files of ssh host keys left out"),
        "{}",
        made.err
    );
    let place = Place::of(System::new());
    place.made(&["--keep-ssh-host-keys"]);
    assert_eq!(place.text("etc/ssh/ssh_host_ed25519_key"), "a secret");
    assert!(!place.has(unit));
}

#[test]
fn what_swaps_to_the_card_is_masked_unless_kept() {
    let with_swap = || {
        let mut system = System::new();
        system.file("usr/lib/systemd/system/dphys-swapfile.service", "x");
        Place::of(system)
    };
    let mask = "etc/systemd/system/dphys-swapfile.service";
    let place = with_swap();
    place.made(&[]);
    assert_eq!(
        fs::read_link(place.path("out").join(mask)).unwrap(),
        PathBuf::from("/dev/null")
    );
    let place = with_swap();
    place.made(&["--services", "keep"]);
    assert!(!place.has(mask));
}

#[test]
fn a_capability_is_kept_to_the_byte() {
    let contains = |bytes: &[u8]| bytes.windows(CAPABILITY.len()).any(|window| window == CAPABILITY);
    for with in [true, false] {
        let mut system = System::new();
        if with {
            system.attribute("security.capability", CAPABILITY);
        }
        system.file("usr/bin/ping", "x");
        let place = Place::of(system);
        let made = place.squashfs(&[]);
        assert_eq!(made.code, 0, "{}", made.err);
        // Nobody but root may set it on this host, so it is looked for in a tarball of the image.
        let tar = std::process::Command::new("sqfs2tar")
            .arg(place.path("image"))
            .output();
        assert_eq!(contains(&tar.unwrap().stdout), with);
    }
}

#[test]
fn hard_links_stay_one_file_and_copies_stay_two() {
    let inode = |place: &Place, name: &str| {
        std::os::unix::fs::MetadataExt::ino(&fs::metadata(place.path("out").join(name)).unwrap())
    };
    for linked in [true, false] {
        let mut system = System::new();
        system.file("usr/bin/perl", "the same bytes");
        if linked {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Link);
            header.set_size(0);
            let builder = system.builder.as_mut().unwrap();
            builder
                .append_link(&mut header, "usr/bin/perl5", "usr/bin/perl")
                .unwrap();
        } else {
            system.file("usr/bin/perl5", "the same bytes");
        }
        let place = Place::of(system);
        place.made(&[]);
        assert_eq!(
            inode(&place, "usr/bin/perl") == inode(&place, "usr/bin/perl5"),
            linked
        );
    }
}

#[test]
fn the_kernels_modules_are_there_or_added_or_the_system_is_refused() {
    let place = Place::of(System::new());
    assert_eq!(place.squashfs(&["--kernel", "7.0-test"]).code, 0);
    fs::remove_file(place.path("image")).unwrap();
    let refused = place.squashfs(&["--kernel", "7.1-test"]);
    assert_eq!(refused.code, 1);
    for word in ["kernel 7.1-test", "those of 7.0-test", "--modules-from"] {
        assert!(refused.err.contains(word), "{}", refused.err);
    }
    assert!(!place.path("image").exists());
    let root = "other/usr/lib/modules/7.1-test";
    fs::create_dir_all(place.path(root).join("kernel")).unwrap();
    for name in ["modules.dep", "kernel/y.ko", "vmlinuz"] {
        fs::write(place.path(root).join(name), "y").unwrap();
    }
    place.made(&["--kernel", "7.1-test", "--modules-from", "@other"]);
    assert_eq!(place.text("usr/lib/modules/7.1-test/kernel/y.ko"), "y");
    assert_eq!(place.text("usr/lib/modules/7.0-test/kernel/fs/x.ko"), "x");
    assert!(!place.has("usr/lib/modules/7.1-test/vmlinuz"));
    let none = place.squashfs(&["--kernel", "7.2-test", "--modules-from", "@other"]);
    assert!(
        none.code == 1 && none.err.contains("kernel 7.2-test; there are 7.1-test"),
        "{}",
        none.err
    );
}

#[test]
fn a_finished_build_says_which_kernel_and_board() {
    let place = Place::of(System::new());
    fs::create_dir(place.path("build")).unwrap();
    let manifest = |kernel: &str, board: &str| {
        let text = format!("{{\"image\":{{\"kernel\":\"{kernel}\",\"board\":\"{board}\"}}}}");
        fs::write(place.path("build/manifest.json"), text).unwrap();
    };
    manifest("7.0-test", "pi4");
    assert_eq!(place.squashfs(&["--for-image", "@build"]).code, 0);
    let other = place.squashfs(&["--for-image", "@build", "--kernel", "7.1-test"]);
    assert!(
        other.code == 1 && other.err.contains("boots 7.0-test"),
        "{}",
        other.err
    );
    let lz4 = place.squashfs(&["--for-image", "@build", "--compression", "lz4"]);
    assert!(lz4.code == 1 && lz4.err.contains("lz4: pi4: "), "{}", lz4.err);
    manifest("7.1-test", "pi4");
    assert_eq!(place.squashfs(&["--for-image", "@build"]).code, 1);
    fs::write(place.path("build/manifest.json"), "{}").unwrap();
    let none = place.squashfs(&["--for-image", "@build"]);
    assert!(
        none.code == 1 && none.err.contains("manifest.json: no image.kernel"),
        "{}",
        none.err
    );
}

#[test]
fn every_compression_is_written_and_a_pi_gets_no_lz4() {
    // The superblock's number for each, as in the kernel's squashfs_fs.h.
    for (name, number) in [("gzip", 1), ("lzo", 3), ("xz", 4), ("lz4", 5), ("zstd", 6)] {
        let place = Place::of(System::new());
        let made = place.squashfs(&["--compression", name]);
        assert_eq!(made.code, 0, "{name}: {}", made.err);
        assert_eq!(fs::read(place.path("image")).unwrap()[20], number, "{name}");
    }
    let on = |board: &str| {
        image_builder(&[
            "squashfs",
            "--compression",
            "lz4",
            "--board",
            board,
            "/dev/null",
            "/tmp/never",
        ])
    };
    let refused = on("pi4");
    assert!(
        refused.code == 1 && refused.err.contains("lz4: pi4: "),
        "{}",
        refused.err
    );
    assert!(on("virt-arm64").err.contains("no tar archive"), "not for the lz4");
}

#[test]
fn the_same_tarball_gives_the_same_bytes_anywhere() {
    let images: Vec<Vec<u8>> = (0..2)
        .map(|_| {
            let place = Place::of(System::new());
            assert_eq!(place.squashfs(&["--kernel", "7.0-test"]).code, 0);
            fs::read(place.path("image")).unwrap()
        })
        .collect();
    assert!(images[0] == images[1]);
}

#[test]
fn signing_is_one_step_and_an_old_signature_is_pointed_out() {
    let place = Place::of(System::new());
    let key = place.path("os").display().to_string();
    assert_eq!(image_builder(&["keygen", "--out", &key]).code, 0);
    let made = place.squashfs(&["--sign", "@os.key", "--image-version", "7"]);
    assert_eq!(made.code, 0, "{}", made.err);
    let image = place.path("image").display().to_string();
    let checked = program("minisign", &["-V", "-p", &format!("{key}.pub"), "-m", &image]);
    assert_eq!(checked.code, 0, "{}", checked.err);
    let signature = fs::read_to_string(place.path("image.minisig")).unwrap();
    assert!(signature.contains("name=image version=7 length="), "{signature}");
    let again = place.squashfs(&[]);
    assert!(
        again
            .err
            .contains("image.minisig: is the signature of the image that was there before"),
        "{}",
        again.err
    );
    for flag in ["--image-version", "--password-file"] {
        let unsigned = place.squashfs(&[flag, "7"]);
        let why = format!("{flag}: is for --sign, which is not given");
        assert!(
            unsigned.code == 1 && unsigned.err.contains(&why),
            "{}",
            unsigned.err
        );
    }
    let bad = place.squashfs(&["--sign", "@os.key", "--image-version", "v7"]);
    assert!(
        bad.code == 2 && bad.err.contains("'v7' is not a version"),
        "{}",
        bad.err
    );
    // A key that is none is noticed before anything is packed.
    let bad = place.squashfs(&["--sign", "@os.pub"]);
    assert!(bad.code == 1 && bad.err.contains("os.pub"), "{}", bad.err);
}
