//! `inspect` and `plan`: what is whole is described, what is not is named.

use crate::support::{Ran, System, image_builder};

fn inspect(system: &System, bytes: &[u8]) -> Ran {
    system.file("image", bytes);
    image_builder(&["inspect".as_ref(), system.path("image").as_os_str()])
}

/// The archive itself, so that it can be damaged in places a checksum of the compression does not see.
fn plain(system: &System) -> Vec<u8> {
    zstd::decode_all(system.initramfs().as_slice()).unwrap()
}

fn replace(bytes: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    assert_eq!(old.len(), new.len());
    let at = bytes.windows(old.len()).position(|window| window == old).unwrap();
    let mut changed = bytes.to_vec();
    changed[at..at + new.len()].copy_from_slice(new);
    changed
}

#[test]
fn every_cut_of_an_initramfs_is_noticed() {
    let system = System::new();
    assert_eq!(system.build(&[]).code, 0);
    let whole = system.initramfs();
    assert_eq!(inspect(&system, &whole).code, 0);
    for eighths in 1..8 {
        let cut = inspect(&system, &whole[..whole.len() * eighths / 8]);
        assert_eq!(cut.code, 1, "{eighths}/8: {}", cut.out);
    }
    let bytes = plain(&system);
    for eighths in 1..8 {
        let cut = inspect(&system, &bytes[..bytes.len() * eighths / 8]);
        assert!(
            cut.code == 1 && cut.err.contains("cut short"),
            "{eighths}/8: {}",
            cut.err
        );
    }
}

#[test]
fn an_archive_that_is_not_what_was_built_is_noticed() {
    let system = System::new();
    assert_eq!(system.build(&[]).code, 0);
    let bytes = plain(&system);
    assert_eq!(inspect(&system, &bytes).code, 0);
    let listing = inspect(
        &system,
        &replace(&bytes, b"f 644 14 etc/ssl", b"f 644 15 etc/ssl"),
    );
    assert!(
        listing
            .err
            .ends_with("the sentinel is not the listing's digest\n"),
        "{}",
        listing.err
    );
    let entry = inspect(&system, &replace(&bytes, b"usr/sbin/tool\0", b"usr/sbin/tuul\0"));
    assert!(
        entry.err.contains("the listing is not the archive's from 'f 644"),
        "{}",
        entry.err
    );
    let header = inspect(&system, &replace(&bytes, b"070701", b"070702"));
    assert!(header.err.contains("no newc entry at byte 0"), "{}", header.err);
}

#[test]
fn a_signature_is_checked_against_the_key_given() {
    let system = System::new();
    assert_eq!(system.build(&[]).code, 0);
    let path = |name: &str| system.path(name).display().to_string();
    let image = path("out/initramfs.cpio.zst");
    for name in ["os", "other"] {
        assert_eq!(image_builder(&["keygen", "--out", &path(name)]).code, 0);
    }
    let none = image_builder(&["inspect", "--key", &path("os.pub"), &image]);
    assert!(
        none.code == 1 && none.err.contains("no signature beside it"),
        "{}",
        none.err
    );
    assert_eq!(image_builder(&["sign", "--key", &path("os.key"), &image]).code, 0);
    let good = image_builder(&["inspect", "--key", &path("os.pub"), &image]);
    assert!(
        good.code == 0 && good.out.contains("good: name=initramfs.cpio.zst"),
        "{}",
        good.out
    );
    let other = image_builder(&["inspect", "--key", &path("other.pub"), &image]);
    assert!(
        other.code == 1 && other.err.contains("signature: "),
        "{}",
        other.err
    );
    // Another image under the old signature.
    assert_eq!(system.build(&["--name", "other"]).code, 0);
    let json = image_builder(&["inspect", "--json", "--key", &path("os.pub"), &image]);
    assert_eq!(json.code, 1);
    let json: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert!(json["signature"]["bad"].is_string(), "{json}");
}

#[test]
fn what_is_no_image_is_refused_by_name() {
    let system = System::new();
    for bytes in [
        &b""[..],
        b"abc",
        b"a text of some length",
        &[0; 4096],
        b"hsqs",
        &[b'h', b's', b'q', b's', 0, 0],
    ] {
        let found = inspect(&system, bytes);
        assert!(
            found.code == 1 && found.err.contains("/image: "),
            "{bytes:?}: {}",
            found.err
        );
    }
}

#[test]
fn a_plan_says_what_would_be_booted_and_what_was_not_taken() {
    let plan = image_builder(&["plan", "root=http://10.0.2.2/os.squashfs lifeboot.ssh-port=2222"]);
    assert_eq!((plan.code, plan.err.as_str()), (0, ""));
    let json: serde_json::Value = serde_json::from_str(&plan.out).unwrap();
    assert_eq!(json["roots"][0]["http"], "http://10.0.2.2/os.squashfs");
    assert_eq!(json["ssh"]["port"], 2222);
    let odd = image_builder(&["plan", "lifeboot.nonsense=1"]);
    assert!(odd.err.contains("lifeboot.nonsense"), "{}", odd.err);
}

#[test]
fn a_plan_without_a_root_is_told_from_one_that_is_refused() {
    for (words, code, err) in [
        ("ip=dhcp root=http://10.0.2.2/os.squashfs", 0, ""),
        (
            "ip=dhcp",
            0,
            "no root= names a root: the device boots none and stays in rescue\n",
        ),
        (
            "ip=dhcp root=http://10.0.2.2/a rw lifeboot.overlay=none",
            1,
            "lifeboot.overlay: ",
        ),
    ] {
        let plan = image_builder(&["plan", words]);
        assert_eq!(plan.code, code, "{words}: {}", plan.err);
        assert!(
            plan.err.starts_with(err) && plan.err.is_empty() == err.is_empty(),
            "{words}: {}",
            plan.err
        );
    }
}
