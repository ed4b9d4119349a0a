//! `keygen` and `sign`, against the stock `minisign`.

use crate::support::{image_builder, program};

struct Keys {
    directory: tempfile::TempDir,
}

impl Keys {
    fn new() -> Self {
        let keys = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        std::fs::write(keys.path("os.squashfs"), vec![7; 100_000]).unwrap();
        std::fs::write(keys.path("password"), "correct horse\n").unwrap();
        keys
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    fn stock_verifies(&self, key: &str) -> bool {
        program(
            "minisign",
            &["-V", "-p", &self.path(key), "-m", &self.path("os.squashfs")],
        )
        .code
            == 0
    }
}

#[test]
fn the_stock_tool_verifies_what_is_signed_and_shows_the_comment() {
    let keys = Keys::new();
    assert_eq!(image_builder(&["keygen", "--out", &keys.path("os")]).code, 0);
    let sign = [
        "sign",
        "--key",
        &keys.path("os.key"),
        "--image-version",
        "13.1",
        &keys.path("os.squashfs"),
    ];
    assert_eq!(image_builder(&sign).code, 0);
    let stock = program(
        "minisign",
        &["-V", "-p", &keys.path("os.pub"), "-m", &keys.path("os.squashfs")],
    );
    assert_eq!(stock.code, 0, "{}", stock.err);
    assert!(
        stock.out.contains("name=os.squashfs version=13.1 length=100000"),
        "{}",
        stock.out
    );
    std::fs::write(keys.path("os.squashfs"), vec![8; 100_000]).unwrap();
    assert!(!keys.stock_verifies("os.pub"));
}

#[test]
fn keys_of_the_stock_tool_sign_here() {
    let keys = Keys::new();
    let (public, secret) = (keys.path("stock.pub"), keys.path("stock.key"));
    assert_eq!(
        program("minisign", &["-G", "-W", "-f", "-p", &public, "-s", &secret]).code,
        0
    );
    let signed = image_builder(&["sign", "--key", &secret, &keys.path("os.squashfs")]);
    assert_eq!(signed.code, 0, "{}", signed.err);
    assert!(keys.stock_verifies("stock.pub"));
}

#[test]
fn keys_made_here_sign_with_the_stock_tool_and_inspect_verifies() {
    let keys = Keys::new();
    assert_eq!(image_builder(&["keygen", "--out", &keys.path("os")]).code, 0);
    let stock = program(
        "minisign",
        &[
            "-S",
            "-W",
            "-s",
            &keys.path("os.key"),
            "-m",
            &keys.path("os.squashfs"),
        ],
    );
    assert_eq!(stock.code, 0, "{}", stock.err);
    assert!(keys.stock_verifies("os.pub"));
}

#[test]
fn an_encrypted_key_wants_its_password() {
    let keys = Keys::new();
    let password = keys.path("password");
    assert_eq!(
        image_builder(&["keygen", "--out", &keys.path("os"), "--password-file", &password]).code,
        0
    );
    let (key, file) = (keys.path("os.key"), keys.path("os.squashfs"));
    let without = image_builder(&["sign", "--key", &key, &file]);
    assert_eq!(without.code, 1);
    assert!(
        without.err.ends_with("an encrypted key wants --password-file\n"),
        "{}",
        without.err
    );
    assert_eq!(
        image_builder(&["sign", "--key", &key, "--password-file", &password, &file]).code,
        0
    );
    assert!(keys.stock_verifies("os.pub"));
    std::fs::write(&password, "wrong horse\n").unwrap();
    assert_eq!(
        image_builder(&["sign", "--key", &key, "--password-file", &password, &file]).code,
        1
    );
}

#[test]
fn what_is_no_key_or_no_file_is_named() {
    let keys = Keys::new();
    let file = keys.path("os.squashfs");
    let no_key = image_builder(&["sign", "--key", &file, &file]);
    assert!(
        no_key.code == 1 && no_key.err.contains("os.squashfs"),
        "{}",
        no_key.err
    );
    assert_eq!(image_builder(&["keygen", "--out", &keys.path("os")]).code, 0);
    let no_file = image_builder(&["sign", "--key", &keys.path("os.key"), &keys.path("gone")]);
    assert!(
        no_file.code == 1 && no_file.err.contains("gone"),
        "{}",
        no_file.err
    );
}

#[test]
fn a_version_that_a_device_cannot_compare_is_not_signed() {
    let keys = Keys::new();
    assert_eq!(image_builder(&["keygen", "--out", &keys.path("os")]).code, 0);
    let (key, file) = (keys.path("os.key"), keys.path("os.squashfs"));
    let signature = keys.path("os.squashfs.minisig");
    for bad in ["v1.0", "1.0beta", "abc", "", "1..2"] {
        let ran = image_builder(&["sign", "--key", &key, "--image-version", bad, &file]);
        assert_eq!(ran.code, 2, "{bad}");
        let named = format!("'{bad}' is not a version of numbers");
        assert!(ran.err.contains(&named), "{}", ran.err);
        assert!(!std::path::Path::new(&signature).exists());
    }
    for good in ["1", "2026.11.20"] {
        let ran = image_builder(&["sign", "--key", &key, "--image-version", good, &file]);
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{good}");
    }
}
