//! The signature of `boot.img`, checked by OpenSSL; where the key may and may not be seen.

use std::fs;

use crate::boot_img::{boot_img, build, files_below, system};
use crate::support::{System, program};

/// A private key made by OpenSSL beside the system.
pub fn key(system: &System, bits: &str) -> String {
    let path = system.path("boot.pem").display().to_string();
    assert_eq!(program("openssl", &["genrsa", "-out", &path, bits]).code, 0);
    path
}

#[test]
fn openssl_accepts_the_signature_and_not_that_of_another_image() {
    let system = system();
    let key = key(&system, "2048");
    assert_eq!(build(&system, &["--boot-key", &key]).code, 0);
    let path = |name: &str| system.path(name).display().to_string();
    let signed = fs::read_to_string(system.path("out/http/boot.sig")).unwrap();
    let lines: Vec<&str> = signed.lines().collect();
    assert_eq!(lines.len(), 3);
    let digest = program("sha256sum", &[&boot_img(&system)]).out;
    assert!(digest.starts_with(&format!("{} ", lines[0])), "{digest}");
    assert_eq!(lines[1], "ts: 1700000000");
    let hex = lines[2].strip_prefix("rsa2048: ").unwrap();
    let bytes: Vec<u8> = (0..hex.len() / 2)
        .map(|at| u8::from_str_radix(&hex[at * 2..][..2], 16).unwrap())
        .collect();
    system.file("signature", &bytes);
    assert_eq!(
        program(
            "openssl",
            &["rsa", "-in", &key, "-pubout", "-out", &path("public.pem")]
        )
        .code,
        0
    );
    let (public, signature) = (path("public.pem"), path("signature"));
    let verify = [
        "dgst",
        "-verify",
        &public,
        "-sha256",
        "-signature",
        &signature,
        &boot_img(&system),
    ];
    assert_eq!(program("openssl", &verify).out, "Verified OK\n");
    assert_eq!(
        build(&system, &["--boot-key", &key, "--cmdline", "quiet"]).code,
        0
    );
    assert_ne!(program("openssl", &verify).code, 0);
}

#[test]
fn a_key_the_boot_loader_would_not_take_is_refused_before_anything_is_written() {
    let system = system();
    let large = key(&system, "4096");
    let built = build(&system, &["--boot-key", &large]);
    let expected =
        format!("image-builder: {large}: an RSA key of 4096 bits; the bootloader takes 2048 alone\n");
    assert_eq!((built.code, built.err), (1, expected));
    assert!(!system.path("out").exists());
}

#[test]
fn the_private_key_is_in_no_output() {
    let system = system();
    let key = key(&system, "2048");
    let disk = system.path("out/disk.img").display().to_string();
    let built = build(
        &system,
        &["--boot-key", &key, "--disk", &disk, "--serial", "9ffefdef"],
    );
    assert_eq!(built.code, 0);
    let pem = fs::read_to_string(&key).unwrap();
    let line = pem.lines().nth(5).unwrap();
    let der = system.path("key.der").display().to_string();
    assert_eq!(
        program("openssl", &["rsa", "-in", &key, "-outform", "DER", "-out", &der]).code,
        0
    );
    // Past the modulus and the public exponent, which are no secret.
    let secret = fs::read(der).unwrap()[300..332].to_vec();
    let holds = |bytes: &[u8], what: &[u8]| bytes.windows(what.len()).any(|window| window == what);
    for (name, bytes) in files_below(&system.path("out")) {
        assert!(
            !holds(&bytes, line.as_bytes()) && !holds(&bytes, &secret),
            "{name}"
        );
        assert!(!holds(&bytes, b"PRIVATE KEY"), "{name}");
    }
    assert!(!built.out.contains(line) && !built.err.contains(line));
    // The same search finds it where it is.
    assert!(holds(pem.as_bytes(), line.as_bytes()));
}

#[test]
fn a_public_key_in_the_private_ones_place_is_told() {
    let system = system();
    let (key, public) = (
        key(&system, "2048"),
        system.path("public.pem").display().to_string(),
    );
    assert_eq!(
        program("openssl", &["rsa", "-in", &key, "-pubout", "-out", &public]).code,
        0
    );
    let built = build(&system, &["--boot-key", &public]);
    assert_eq!(built.code, 1);
    assert!(built.err.contains("public.pem: is a public key"), "{}", built.err);
}

/// A program that is called instead of signing with a key.
fn signer(system: &System, script: &str) -> String {
    let path = |name: &str| system.path(name).display().to_string();
    system.file("script", format!("#!/bin/sh\n{script}\n").as_bytes());
    // By a process of its own: what this one has open for writing a process that another test starts has too for a while, and what
    // somebody writes to cannot be executed.
    let made = program("install", &["-m", "755", &path("script"), &path("signer")]);
    assert_eq!(made.code, 0, "{}", made.err);
    path("signer")
}

#[test]
fn a_signer_is_called_as_the_hsm_wrapper_of_rpi_eeprom_digest_is() {
    let system = system();
    let key = key(&system, "2048");
    let seen = system.path("seen").display().to_string();
    let script = format!(
        "echo \"$1 $2 $#\" > {seen}\nopenssl dgst -sign {key} -sha256 \"$3\" | od -An -v -tx1 | tr -d ' \\n'; echo"
    );
    let program = signer(&system, &script);
    let built = build(&system, &["--boot-signer", &program]);
    assert_eq!((built.code, built.err.as_str()), (0, ""));
    assert_eq!(fs::read_to_string(&seen).unwrap(), "-a rsa2048-sha256 3\n");
    let by_program = fs::read_to_string(system.path("out/http/boot.sig")).unwrap();
    assert_eq!(build(&system, &["--boot-key", &key]).code, 0);
    assert_eq!(
        by_program,
        fs::read_to_string(system.path("out/http/boot.sig")).unwrap()
    );
}

#[test]
fn a_signer_that_fails_leaves_nothing_behind() {
    for (script, why) in [
        ("echo no card >&2; exit 3", "exit status: 3: no card"),
        (
            "echo abcd",
            "printed 4 characters, not a signature of 512 hexadecimal digits",
        ),
        (
            "head -c 256 /dev/zero | tr '\\0' 'g'; head -c 256 /dev/zero | tr '\\0' 'g'",
            "printed 512 characters, not",
        ),
    ] {
        let system = system();
        let built = build(&system, &["--boot-signer", &signer(&system, script)]);
        assert_eq!(built.code, 1);
        assert!(
            built.err.starts_with("image-builder: boot.sig: ") && built.err.contains(why),
            "{}",
            built.err
        );
        assert!(!system.path("out").exists());
    }
}

#[test]
fn an_unsigned_build_says_so_and_takes_an_old_signature_away() {
    let system = system();
    let key = key(&system, "2048");
    let signed = build(&system, &["--boot-key", &key]);
    assert!(!signed.out.contains("not signed") && system.path("out/http/boot.sig").exists());
    let unsigned = build(&system, &[]);
    assert!(unsigned.out.contains("boot.img: not signed"), "{}", unsigned.out);
    assert!(!system.path("out/http/boot.sig").exists() && system.path("out/http/boot.img").exists());
}

#[test]
fn a_board_without_http_boot_is_told_what_a_signature_is_worth() {
    let system = system();
    let key = key(&system, "2048");
    for (updatable, wanted) in [("true", false), ("false", true)] {
        let board =
            include_str!("tiny-pi.toml").replace("updatable = true", &format!("updatable = {updatable}"));
        system.file("config/tiny-pi.toml", board.as_bytes());
        let signed = build(&system, &["--boot-key", &key]);
        assert_eq!(
            signed.out.contains("the board has no HTTP boot"),
            wanted,
            "{}",
            signed.out
        );
        let unsigned = build(&system, &[]);
        assert_eq!(
            unsigned.out.contains("HTTP boot will not take it"),
            !wanted,
            "{}",
            unsigned.out
        );
    }
}
