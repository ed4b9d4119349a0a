//! `build`, from a made-up system.

use std::fs;

use crate::support::{System, elf, golden, image_builder, module};

#[test]
fn an_image_holds_what_the_golden_lists() {
    let system = System::new();
    let built = system.build(&[]);
    assert_eq!((built.code, built.err.as_str()), (0, ""));
    let initramfs = system.path("out/initramfs.cpio.zst");
    let listed = image_builder(&["inspect".as_ref(), "--list".as_ref(), initramfs.as_os_str()]);
    assert_eq!((listed.code, listed.err.as_str()), (0, ""));
    let steady: String = listed
        .out
        .lines()
        .skip(2)
        .map(|line| format!("{line}\n"))
        .collect();
    golden("inspect-tiny.txt", &steady);
    let manifest = fs::read_to_string(system.path("out/manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    assert_eq!(manifest["image"]["kernel"], "7.0-test");
    assert_eq!(manifest["image"]["build_time"], 1_700_000_000);
    assert_eq!(manifest["files"][1]["size"], system.initramfs().len());
    assert_eq!(fs::read(system.path("out/kernel")).unwrap(), b"a kernel");
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    for compression in ["zstd", "gzip", "xz", "lz4"] {
        let (one, other) = (System::new(), System::new());
        assert_eq!(one.build(&["--compression", compression]).code, 0);
        assert_eq!(other.build(&["--compression", compression]).code, 0);
        let names: Vec<_> = fs::read_dir(one.path("out"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(names.len(), 6);
        for name in names {
            let read = |system: &System| fs::read(system.path("out").join(&name)).unwrap();
            assert!(
                read(&one) == read(&other),
                "{compression}: {} differs",
                name.display()
            );
        }
    }
}

#[test]
fn every_compression_is_read_back_whole() {
    for (compression, ending) in [("zstd", "zst"), ("gzip", "gz"), ("xz", "xz"), ("lz4", "lz4")] {
        let system = System::new();
        assert_eq!(system.build(&["--compression", compression]).code, 0);
        let initramfs = system.path(&format!("out/initramfs.cpio.{ending}"));
        let found = image_builder(&["inspect".as_ref(), initramfs.as_os_str()]);
        assert_eq!(found.code, 0, "{}", found.err);
        assert!(
            found.out.contains(&format!("compression  {compression}\n")),
            "{}",
            found.out
        );
    }
}

#[test]
fn a_missing_library_is_named_with_who_needs_it() {
    let system = System::new();
    fs::remove_file(system.path("root/usr/lib/x86_64-linux-gnu/libb.so.2")).unwrap();
    let built = system.build(&[]);
    assert_eq!(built.code, 1);
    let expected = format!(
        "image-builder: /usr/lib/x86_64-linux-gnu/liba.so.1: needs libb.so.2, which {} does not have\n",
        system.path("root").display()
    );
    assert_eq!(built.err, expected);
}

#[test]
fn a_missing_module_is_named_with_the_file_that_lists_it() {
    let system = System::new();
    fs::remove_file(system.path("root/usr/lib/modules/7.0-test/kernel/drivers/net/card.ko")).unwrap();
    let built = system.build(&[]);
    assert_eq!(built.code, 1);
    assert_eq!(
        built.err,
        "image-builder: tiny.toml: module card: kernel 7.0-test has no module card\n"
    );
    let system = System::new();
    fs::remove_file(system.path("root/usr/lib/modules/7.0-test/kernel/drivers/bus-core.ko")).unwrap();
    let expected =
        "image-builder: tiny.toml: module card: module card: kernel 7.0-test has no module bus_core\n";
    assert_eq!(system.build(&[]).err, expected);
}

#[test]
fn an_executable_that_would_not_start_is_refused() {
    let cases: [(&[u8], &str); 3] = [
        (b"#!/bin/sh\n", "not an ELF executable"),
        (
            &elf(&["libc.so.6"], Some("/lib/ld.so")),
            "not a static executable",
        ),
        (b"\x7fELF\x02\x01\x01", "rescue: "),
    ];
    for (bytes, why) in cases {
        let system = System::new();
        system.file("rescue", bytes);
        let built = system.build(&[]);
        assert_eq!(built.code, 1);
        assert!(built.err.contains(why), "{}", built.err);
        assert!(!system.path("out").exists());
    }
    let system = System::new();
    let mut arm = elf(&[], None);
    arm[18] = 183;
    system.file("rescue", &arm);
    assert!(
        system
            .build(&[])
            .err
            .contains("built for another machine (ELF machine 183, wanted 62)")
    );
}

#[test]
fn an_executable_that_is_not_there_is_answered_with_how_it_is_made() {
    let system = System::new();
    let (config, out) = (system.path("config"), system.path("out"));
    let (config, out) = (config.to_str().unwrap(), out.to_str().unwrap());
    let usual = [
        "build",
        "--board",
        "tiny",
        "--kernel-config",
        config,
        "--features",
        "core",
        "--out",
        out,
    ];
    // Run where this package is, which has no such directory.
    let ran = image_builder(&usual);
    let err = "image-builder: target/x86_64-unknown-linux-musl/device/rescue: not there; 'make images' builds it, --executable \
               names another\n";
    assert_eq!((ran.code, ran.err.as_str()), (1, err));
    let ran = image_builder(&[&usual[..], &["--executable", "nowhere"]].concat());
    assert!(
        ran.code == 1 && ran.err.starts_with("image-builder: nowhere: No such file"),
        "{}",
        ran.err
    );
}

#[test]
fn a_recipe_is_followed_and_a_flag_wins_over_it() {
    let system = System::new();
    system.file(
        "recipe.toml",
        b"name = \"mine\"\ncompression = \"gzip\"\nbuild-time = 5\n",
    );
    let recipe = system.path("recipe.toml").display().to_string();
    assert_eq!(
        system.build(&["--recipe", &recipe, "--compression", "xz"]).code,
        0
    );
    let manifest = fs::read_to_string(system.path("out/manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    assert_eq!(manifest["image"]["name"], "mine");
    assert_eq!(manifest["image"]["build_time"], 5);
    assert_eq!(manifest["compression"], "xz");
}

#[test]
fn a_bad_recipe_is_named_with_its_line() {
    let cases = [
        ("name = \"x\"\nboardd = \"tiny\"\n", "line 2", "boardd"),
        ("\n\ncompression = \"rar\"\n", "line 3", "rar"),
        ("level = \"high\"\n", "line 1", "high"),
        ("name = \n", "line 1", "name"),
    ];
    for (text, line, what) in cases {
        let system = System::new();
        system.file("recipe.toml", text.as_bytes());
        let recipe = system.path("recipe.toml").display().to_string();
        let built = system.build(&["--recipe", &recipe]);
        assert_eq!(built.code, 1);
        for word in ["recipe.toml", line, what] {
            assert!(built.err.contains(word), "{word} in: {}", built.err);
        }
    }
}

/// PEM as far as the builder looks: a SEQUENCE of one INTEGER, which tells certificates apart.
fn certificate(number: char) -> String {
    format!("-----BEGIN CERTIFICATE-----\nMAMCA{number}E=\n-----END CERTIFICATE-----\n")
}

#[test]
fn given_authorities_follow_those_of_the_feature_or_stand_alone() {
    let system = System::new();
    let (one, two) = (certificate('Q'), certificate('g'));
    system.file("one.pem", format!("of our company\n{one}").as_bytes());
    system.file("two.pem", two.as_bytes());
    let path = |name: &str| system.path(name).display().to_string();
    let bundled = |text: &str| {
        let archive = zstd::decode_all(system.initramfs().as_slice()).unwrap();
        // In the archive a file begins behind the NUL bytes that end and pad its name.
        let wanted = format!("\0{text}");
        archive
            .windows(wanted.len())
            .any(|window| window == wanted.as_bytes())
    };
    let (first, second) = (path("one.pem"), path("two.pem"));
    assert_eq!(system.build(&["--ca", &first, "--ca", &second]).err, "");
    assert!(bundled(&format!("certificate A\n{one}{two}")));
    assert_eq!(system.build(&["--features", "core", "--ca", &first]).err, "");
    assert!(bundled(&one));
    assert!(!bundled("certificate A\n"));
    system.file("recipe.toml", b"ca = [\"two.pem\"]\n");
    let recipe = path("recipe.toml");
    assert_eq!(system.build(&["--features", "core", "--recipe", &recipe]).err, "");
    assert!(bundled(&two));
    assert_eq!(system.build(&["--features", "core"]).err, "");
    assert!(!bundled("-----BEGIN"));
}

#[test]
fn an_authority_without_a_certificate_is_named() {
    let system = System::new();
    system.file("ca.der", b"\x30\x82\x01");
    system.file("ca.key", b"-----BEGIN PRIVATE KEY-----\n");
    for (file, why) in [
        ("ca.der", "no PEM certificate in it"),
        ("ca.key", "holds a private key"),
        ("nowhere.pem", "No such file"),
    ] {
        let path = system.path(file).display().to_string();
        let built = system.build(&["--ca", &path]);
        assert_eq!(built.code, 1);
        assert!(
            built.err.starts_with(&format!("image-builder: {path}: ")) && built.err.contains(why),
            "{}",
            built.err
        );
        assert!(!system.path("out").exists());
    }
}

#[test]
fn boot_parameters_the_device_would_not_take_are_refused() {
    let system = System::new();
    system.file("good.toml", b"lifeboot.ssh-port = 2222\n");
    system.file("bad.toml", b"lifeboot.verfy = \"off\"\n");
    let path = |name: &str| system.path(name).display().to_string();
    assert_eq!(system.build(&["--config", &path("good.toml")]).code, 0);
    let built = system.build(&["--config", &path("bad.toml")]);
    assert_eq!(built.code, 1);
    assert!(
        built.err.contains("bad.toml") && built.err.contains("lifeboot.verfy"),
        "{}",
        built.err
    );
}

#[test]
fn a_damaged_module_is_named() {
    let system = System::new();
    system.file(
        "root/usr/lib/modules/7.0-test/kernel/drivers/net/card.ko",
        b"not a module",
    );
    let built = system.build(&[]);
    assert_eq!(built.code, 1);
    assert!(built.err.contains("kernel/drivers/net/card.ko"), "{}", built.err);
    system.file(
        "root/usr/lib/modules/7.0-test/kernel/drivers/net/card.ko",
        &module("")[..100],
    );
    assert_eq!(system.build(&[]).code, 1);
}

#[test]
fn usage_errors_exit_with_2_and_help_with_0() {
    for words in [
        vec![],
        vec!["build"],
        vec!["nonsense"],
        vec!["build", "--nonsense"],
    ] {
        let ran = image_builder(&words);
        assert_eq!(ran.code, 2, "{words:?}");
        assert!(ran.err.ends_with("try: image-builder --help\n"), "{}", ran.err);
        assert_eq!(ran.out, "");
    }
    let help = image_builder(&["--help"]);
    assert_eq!((help.code, help.err.as_str()), (0, ""));
    golden("help.txt", &help.out);
}
