//! What a build leaves beside the image: the listing of its files, and `boards`, `features` and `plan`.

use std::fs;

use crate::support::{System, image_builder};

const STATUS: &str = "Package: tool\nStatus: install ok installed\nVersion: 1.2-3\nSource: tools (1.2)\nArchitecture: amd64\n\n";
const COPYRIGHT: &str = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\nFiles: *\nLicense: GPL-2+\n";

#[test]
fn every_file_is_listed_with_the_package_it_is_from() {
    let system = System::new();
    system.file("root/var/lib/dpkg/status", STATUS.as_bytes());
    system.file("root/var/lib/dpkg/info/tool.list", b"/.\n/usr\n/usr/sbin/tool\n");
    system.file("root/usr/share/doc/tool/copyright", COPYRIGHT.as_bytes());
    let built = system.build(&[]);
    assert_eq!((built.code, built.err.as_str()), (0, ""));
    let text = fs::read_to_string(system.path("out/listing.txt")).unwrap();
    let line = |name: &str| {
        let mut lines = text.lines();
        lines
            .find(|line| line.contains(&format!("  {name}  ")))
            .unwrap_or_default()
            .to_owned()
    };
    assert!(
        line("initramfs/usr/sbin/tool").ends_with("  tool  1.2-3  initramfs/usr/sbin/tool  GPL-2.0-or-later"),
        "{text}"
    );
    assert!(
        line("initramfs/usr/bin/busybox").ends_with("  -  -  initramfs/usr/bin/busybox  -"),
        "{text}"
    );
    assert!(line("initramfs/init").contains("  lifeboot  "), "{text}");
    assert!(line("kernel").contains("  -  -  kernel"), "{text}");
    let spdx = fs::read(system.path("out/listing.spdx.json")).unwrap();
    let spdx: serde_json::Value = serde_json::from_slice(&spdx).unwrap();
    assert_eq!(spdx["spdxVersion"], "SPDX-2.3");
    assert_eq!(spdx["creationInfo"]["created"], "2023-11-14T22:13:20Z");
    let files = spdx["files"].as_array().unwrap();
    let initramfs = files
        .iter()
        .filter(|file| file["fileName"].as_str().unwrap().starts_with("./initramfs/"))
        .count();
    let listed = image_builder(&[
        "inspect".as_ref(),
        "--list".as_ref(),
        system.path("out/initramfs.cpio.zst").as_os_str(),
    ]);
    let regular = listed.out.lines().filter(|line| line.starts_with("f ")).count();
    assert_eq!(initramfs, regular);
}

#[test]
fn boards_and_features_explain_themselves() {
    let boards = image_builder(&["boards"]);
    for name in ["pi ", "pi3 ", "pi4 ", "pi5 ", "virt-arm64 ", "pc-x86_64 "] {
        assert!(
            boards.out.lines().any(|line| line.starts_with(name)),
            "{}",
            boards.out
        );
    }
    let pi5 = image_builder(&["boards", "pi5"]);
    assert!(
        pi5.out
            .contains("  macb: the Ethernet controller in the I/O chip\n"),
        "{}",
        pi5.out
    );
    let features = image_builder(&["features"]);
    for line in ["* core ", "* rsync ", "  lvm "] {
        assert!(
            features.out.lines().any(|found| found.starts_with(line)),
            "{}",
            features.out
        );
    }
    assert_eq!(image_builder(&["features", "zfs"]).code, 1);
}

#[test]
fn a_plan_takes_the_boards_name_for_itself_from_its_device_tree() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.dtb");
    // A root with a model, as dtc writes it.
    let mut blob: Vec<u8> = Vec::new();
    let structure: [u32; 8] = [
        1,
        0,
        3,
        8,
        0,
        u32::from_be_bytes(*b"Boar"),
        u32::from_be_bytes(*b"d 5\0"),
        2,
    ];
    let structure: Vec<u32> = structure.into_iter().chain([9]).collect();
    let strings = b"model\0";
    let total = 40 + structure.len() * 4 + strings.len();
    for word in [
        0xd00d_feed,
        total as u32,
        40,
        40 + structure.len() as u32 * 4,
        0,
        17,
        16,
        0,
        0,
        0,
    ] {
        blob.extend(word.to_be_bytes());
    }
    structure.iter().for_each(|word| blob.extend(word.to_be_bytes()));
    blob.extend(strings);
    fs::write(&path, &blob).unwrap();
    let plan = |path: &std::path::Path| {
        let words = [
            "plan",
            "--board",
            "pi5",
            "--device-tree",
            path.to_str().unwrap(),
            "--cmdline",
            "root=http://a/b",
        ];
        image_builder(&words)
    };
    let found = plan(&path);
    assert_eq!(found.code, 0, "{}", found.err);
    assert!(found.out.contains("\"model\": \"Board 5\""), "{}", found.out);
    assert!(found.out.contains("\"arch\": \"aarch64\""), "{}", found.out);
    fs::write(&path, &blob[..blob.len() - 1]).unwrap();
    assert_eq!(plan(&path).code, 1);
}
