//! The key partition of `build --disk`: it takes what a device reads, and refuses what a device would throw away.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::boot_img::{build, files_below, system};
use crate::support::{System, program, ssh_key};
use crate::tftp_and_disk::{disk, partition};

/// A host key as docs/boot.md has it made, or of another type or with a passphrase.
fn host_key(system: &System, kind: &str, passphrase: &str) {
    fs::create_dir_all(system.path("keys")).unwrap();
    let path = system.path("keys/ssh_host_ed25519_key").display().to_string();
    let made = program("ssh-keygen", &["-q", "-t", kind, "-N", passphrase, "-f", &path]);
    assert_eq!(made.code, 0, "{}", made.err);
}

#[test]
fn a_host_key_that_the_server_would_not_take_is_refused() {
    for (kind, passphrase, why) in [
        ("rsa", "", "is a key of type ssh-rsa, not ssh-ed25519"),
        ("ed25519", "secret", "is encrypted with a passphrase"),
        ("ed25519", "", ""),
    ] {
        let system = system();
        host_key(&system, kind, passphrase);
        let (keys, path) = (system.path("keys").display().to_string(), system.path("disk.img"));
        let words = ["--disk", path.to_str().unwrap(), "--key-partition", &keys];
        let built = build(&system, &words);
        if why.is_empty() {
            assert_eq!((built.code, built.err.as_str()), (0, ""));
            continue;
        }
        assert_eq!(built.code, 1);
        let named = format!("keys/ssh_host_ed25519_key: {why}");
        assert!(built.err.contains(&named), "{}", built.err);
        assert!(!path.exists() && !system.path("out").exists());
    }
}

#[test]
fn a_key_partition_says_nothing_that_the_image_locks() {
    let system = system();
    system.file("keys/authorized_keys", ssh_key("me").as_bytes());
    let (keys, path) = (system.path("keys").display().to_string(), system.path("disk.img"));
    let config = system.path("baked.toml").display().to_string();
    for (locked, why) in [
        (
            "lifeboot.ssh-key",
            "keys/authorized_keys: is ignored: the image locks",
        ),
        ("lifeboot.verify", ""),
    ] {
        system.file("baked.toml", format!("locked = [\"{locked}\"]\n").as_bytes());
        let disk = ["--disk", path.to_str().unwrap(), "--key-partition", &keys];
        let built = build(&system, &[&disk[..], &["--config", &config]].concat());
        assert_eq!(built.code == 0, why.is_empty(), "{}", built.err);
        assert!(built.err.contains(why), "{}", built.err);
    }
}

#[test]
fn the_key_partition_takes_what_a_device_reads() {
    let system = system();
    host_key(&system, "ed25519", "");
    system.file("keys/authorized_keys", ssh_key("me").as_bytes());
    system.file("keys/config.toml", b"lifeboot.hostname = \"attic\"\n");
    let keys = system.path("keys").display().to_string();
    let open = disk(&system, &[]);
    let mode = |system: &System| {
        fs::metadata(system.path("disk.img"))
            .unwrap()
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!(mode(&system), 0o644);
    let image = disk(&system, &["--key-partition", &keys]);
    assert_eq!(mode(&system), 0o600);
    let found = partition(&image, 132 << 20, 16 << 20);
    let mut given = files_below(&system.path("keys"));
    // The public half that ssh-keygen leaves there is not for the device.
    given.retain(|(name, _)| name != "ssh_host_ed25519_key.pub");
    assert!(found == given && found.len() == 3);
    assert_ne!(open[440..444], image[440..444]);
    // It is on the card and nowhere else.
    let secret = b"OPENSSH PRIVATE";
    for (name, bytes) in files_below(&system.path("out")) {
        assert!(
            !bytes.windows(secret.len()).any(|window| window == secret),
            "{name}"
        );
    }
}

#[test]
fn a_key_partition_the_device_would_not_read_is_refused() {
    for (name, text, why) in [
        (
            "ssh_host_rsa_key",
            "x",
            "a device reads ssh_host_ed25519_key authorized_keys config.toml and nothing else",
        ),
        (
            "ssh_host_ed25519_key",
            "ssh-ed25519 AAAA me\n",
            "is not a private key in OpenSSH's format",
        ),
        (
            "ssh_host_ed25519_key",
            "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n",
            "is not a private key in OpenSSH's format",
        ),
        (
            "authorized_keys",
            "# mine\nnonsense\n",
            "line 2: is not TYPE BASE64",
        ),
        (
            "config.toml",
            "locked = [\"root\"]\n",
            "cannot lock boot parameters",
        ),
        (
            "config.toml",
            "lifeboot.log = \"debug\"\n",
            "line 1: lifeboot.log='debug' is ignored",
        ),
        ("config.toml", "root = \"nowhere\"\n", "line 1: root: "),
        (
            "authorized_keys",
            "-----BEGIN OPENSSH PRIVATE KEY-----\n",
            "holds a private key",
        ),
        ("config.toml", "lifeboot.hostnam = \"x\"\n", "lifeboot.hostnam"),
        ("config.toml", "lifeboot.hostname = \n", "keys/config.toml: "),
    ] {
        let system = system();
        system.file(&format!("keys/{name}"), text.as_bytes());
        let (keys, path) = (system.path("keys").display().to_string(), system.path("disk.img"));
        let built = build(
            &system,
            &["--disk", path.to_str().unwrap(), "--key-partition", &keys],
        );
        assert_eq!(built.code, 1);
        assert!(
            built.err.contains(&format!("keys/{name}: ")) && built.err.contains(why),
            "{}",
            built.err
        );
        assert!(!path.exists() && !system.path("out").exists());
    }
}
