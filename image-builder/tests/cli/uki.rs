//! `build --uki`: the sections as another reader finds them, signatures as sbverify finds them.

use std::fs;

use object::{Object, ObjectSection};

use crate::pe_stub::stub;
use crate::support::{Ran, System, program};

const X86_64: u16 = 0x8664;
const AARCH64: u16 = 0xaa64;

/// A system whose kernel UEFI firmware could start, and that has systemd's stub.
fn system() -> System {
    let system = System::new();
    system.file("root/usr/lib/modules/7.0-test/vmlinuz", &stub(X86_64, 0));
    system.file(
        "root/usr/lib/systemd/boot/efi/linuxx64.efi.stub",
        &stub(X86_64, 8),
    );
    system.same_times();
    system
}

/// Name, address in memory and bytes of every section.
fn sections(image: &[u8]) -> Vec<(String, u64, Vec<u8>)> {
    let file = object::read::pe::PeFile64::parse(image).unwrap();
    let parts = |section: object::read::pe::PeSection<'_, '_, _>| {
        let name = section.name().unwrap().to_owned();
        (name, section.address(), section.data().unwrap().to_vec())
    };
    file.sections().map(parts).collect()
}

fn image(system: &System) -> Vec<u8> {
    fs::read(system.path("out/lifeboot.efi")).unwrap()
}

fn refused(ran: &Ran, why: &str) {
    assert_eq!(ran.code, 1, "{}", ran.out);
    assert!(ran.err.contains(why), "{}", ran.err);
}

#[test]
fn kernel_initramfs_and_command_line_are_sections_behind_the_stubs_own() {
    let system = system();
    let built = system.build(&["--cmdline", "root=http://192.168.1.2/os.squashfs", "--uki"]);
    assert_eq!((built.code, built.err.as_str()), (0, ""));
    let found = sections(&image(&system));
    let names: Vec<&str> = found.iter().map(|(name, ..)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            ".text", ".sbat", ".osrel", ".cmdline", ".uname", ".initrd", ".linux"
        ]
    );
    let content = |name: &str| found.iter().find(|(found, ..)| found == name).unwrap().2.clone();
    assert_eq!(content(".text"), b"abc");
    assert_eq!(content(".sbat"), b"sbat,1\n");
    assert_eq!(
        content(".cmdline"),
        b"console=ttyS0 root=http://192.168.1.2/os.squashfs"
    );
    assert_eq!(content(".uname"), b"7.0-test");
    assert_eq!(content(".initrd"), system.initramfs());
    assert_eq!(content(".linux"), fs::read(system.path("out/kernel")).unwrap());
    let osrel = String::from_utf8(content(".osrel")).unwrap();
    assert!(osrel.starts_with("ID=lifeboot\nNAME=\"lifeboot\"\n"), "{osrel}");
    for pair in found.windows(2) {
        let (before, after) = (&pair[0], &pair[1]);
        assert!(after.1.is_multiple_of(0x1000), "{}", after.0);
        assert!(before.1 + before.2.len() as u64 <= after.1, "{}", after.0);
    }
    let manifest = fs::read_to_string(system.path("out/manifest.json")).unwrap();
    assert!(manifest.contains("\"lifeboot.efi\""), "{manifest}");
}

#[test]
fn without_the_flag_there_is_none_and_a_recipe_can_ask_for_it() {
    let system = system();
    assert_eq!(system.build(&[]).err, "");
    assert!(!system.path("out/lifeboot.efi").exists());
    system.file("recipe.toml", b"uki = true\ncmdline = \"quiet\"\n");
    let recipe = system.path("recipe.toml").display().to_string();
    assert_eq!(system.build(&["--recipe", &recipe]).err, "");
    assert_eq!(sections(&image(&system))[3].2, b"console=ttyS0 quiet");
}

#[test]
fn two_builds_on_two_paths_give_the_same_bytes() {
    let (one, other) = (system(), system());
    for system in [&one, &other] {
        assert_eq!(system.build(&["--uki"]).err, "");
    }
    assert!(image(&one) == image(&other));
}

#[test]
fn a_stub_of_the_owners_is_taken_before_the_systems() {
    let system = system();
    let mut own = stub(X86_64, 8);
    let at = own.windows(3).position(|bytes| bytes == b"abc").unwrap();
    own[at..at + 3].copy_from_slice(b"own");
    system.file("own.stub", &own);
    let path = system.path("own.stub").display().to_string();
    assert_eq!(system.build(&["--uki-stub", &path, "--uki"]).err, "");
    assert_eq!(sections(&image(&system))[0].2, b"own");
}

#[test]
fn what_could_not_be_started_is_refused_and_nothing_is_written() {
    let cases: [(&str, Vec<u8>, &str); 5] = [
        (
            "modules/7.0-test/vmlinuz",
            b"\x1f\x8b gzip".to_vec(),
            "the kernel cannot be started by UEFI firmware: not a PE",
        ),
        (
            "modules/7.0-test/vmlinuz",
            stub(AARCH64, 0),
            "the kernel is for aarch64, wanted x86_64",
        ),
        (
            "systemd/boot/efi/linuxx64.efi.stub",
            stub(AARCH64, 8),
            "the EFI stub is for aarch64, wanted x86_64",
        ),
        (
            "systemd/boot/efi/linuxx64.efi.stub",
            stub(X86_64, 2),
            "the EFI stub: no room for another section header after 4 of them",
        ),
        (
            "systemd/boot/efi/linuxx64.efi.stub",
            stub(X86_64, 8)[..700].to_vec(),
            "the EFI stub: got 700 of",
        ),
    ];
    for (file, bytes, why) in cases {
        let system = system();
        system.file(&format!("root/usr/lib/{file}"), &bytes);
        system.same_times();
        refused(&system.build(&["--uki"]), why);
        assert!(!system.path("out").exists());
    }
}

#[test]
fn a_missing_stub_is_answered_with_its_package() {
    let system = system();
    fs::remove_dir_all(system.path("root/usr/lib/systemd")).unwrap();
    refused(&system.build(&["--uki"]), "package systemd-boot-efi");
}

#[test]
fn a_board_that_gets_its_device_tree_from_another_boot_loader_is_refused() {
    let system = system();
    system.file("config/tiny-pi.toml", include_bytes!("tiny-pi.toml"));
    let built = system.build(&["--board", "tiny-pi", "--uki"]);
    refused(&built, "--uki: tiny-pi is not started by UEFI firmware");
}

#[test]
fn a_command_line_that_no_output_carries_is_refused() {
    let system = system();
    let cmdline = ["--cmdline", "lifeboot.hostname=attic"];
    let why = "image-builder: --cmdline: no output of this build carries a command line; --uki makes one";
    refused(&system.build(&cmdline), why);
    system.file("recipe.toml", b"cmdline = \"quiet\"\n");
    let recipe = system.path("recipe.toml").display().to_string();
    refused(&system.build(&["--recipe", &recipe]), why);
    assert!(!system.path("out").exists());
    // The same where one does: a Raspberry Pi's boot loader always has cmdline.txt.
    assert_eq!(system.build(&[&cmdline[..], &["--uki"]].concat()).err, "");
    let pi = crate::boot_img::system();
    assert_eq!(crate::boot_img::build(&pi, &cmdline).err, "");
}

#[test]
fn a_command_line_the_device_would_not_take_is_refused() {
    let system = system();
    let built = system.build(&["--cmdline", "lifeboot.verfy=off", "--uki"]);
    refused(&built, "--cmdline: lifeboot.verfy");
    assert!(!system.path("out").exists());
    for (key, why) in [
        (
            "ssh-ed25519 AAAA",
            "--cmdline: lifeboot.ssh-key: value 1: its key is cut off",
        ),
        ("-----BEGIN OPENSSH PRIVATE KEY-----", "holds a private key"),
    ] {
        let words = format!("lifeboot.ssh-key=\"{key}\"");
        refused(&system.build(&["--cmdline", &words, "--uki"]), why);
        assert!(!system.path("out").exists());
    }
}

/// A key pair as people make one for Secure Boot.
fn keys(system: &System, name: &str) -> (String, String) {
    let path = |end: &str| system.path(&format!("{name}.{end}")).display().to_string();
    let (key, certificate) = (path("key"), path("pem"));
    let made = program(
        "openssl",
        &[
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-subj",
            "/CN=db",
            "-keyout",
            &key,
            "-out",
            &certificate,
        ],
    );
    assert_eq!(made.code, 0, "{}", made.err);
    (key, certificate)
}

#[test]
fn a_signed_image_is_verified_by_its_certificate_and_an_unsigned_one_by_none() {
    let system = system();
    let (key, certificate) = keys(&system, "db");
    let (_, other) = keys(&system, "other");
    let efi = system.path("out/lifeboot.efi").display().to_string();
    let verified = |certificate: &str| program("sbverify", &["--cert", certificate, &efi]).code == 0;
    let built = system.build(&[
        "--secureboot-key",
        &key,
        "--secureboot-cert",
        &certificate,
        "--uki",
    ]);
    assert_eq!((built.code, built.err.as_str()), (0, ""));
    assert!(verified(&certificate));
    assert!(!verified(&other));
    assert_eq!(sections(&image(&system))[3].2, b"console=ttyS0");
    assert_eq!(system.build(&["--uki"]).err, "");
    assert!(!verified(&certificate));
}

#[test]
fn half_a_key_pair_or_one_without_an_image_is_refused() {
    let system = system();
    let (key, certificate) = keys(&system, "db");
    refused(
        &system.build(&["--secureboot-key", &key, "--uki"]),
        "--secureboot-key wants --secureboot-cert beside it",
    );
    refused(
        &system.build(&["--secureboot-key", &key, "--secureboot-cert", &certificate]),
        "is for --uki, which is not given",
    );
    refused(
        &system.build(&[
            "--secureboot-key",
            &certificate,
            "--secureboot-cert",
            &certificate,
            "--uki",
        ]),
        "sbsign: ",
    );
}
