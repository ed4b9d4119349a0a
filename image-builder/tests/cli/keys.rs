//! What `build` takes for the keys of an image, which is public, and what it refuses.

use crate::support::{Ran, System, image_builder, program, ssh_key};

/// Builds with a file behind a flag.
fn with(system: &System, flag: &str, text: &[u8]) -> Ran {
    system.file("given", text);
    system.build(&[flag, &system.path("given").display().to_string()])
}

/// Refused with the file, its line and the reason, and nothing is written.
fn refused(flag: &str, text: &[u8], line: &str, why: &str) {
    let system = System::new();
    let built = with(&system, flag, text);
    let given = system.path("given").display().to_string();
    assert_eq!(built.code, 1, "{flag}: {why}");
    assert!(
        built.err.starts_with(&format!("image-builder: {given}: {line}")) && built.err.contains(why),
        "{flag}: {}",
        built.err
    );
    assert!(!system.path("out").exists());
}

fn taken(flag: &str, text: &[u8]) {
    let built = with(&System::new(), flag, text);
    assert_eq!((built.code, built.err.as_str()), (0, ""), "{flag}");
}

/// A pair of the stock tool, whose comment is the owner's own.
fn minisign_pair() -> (String, String) {
    let place = tempfile::tempdir().unwrap();
    let path = |name: &str| place.path().join(name).display().to_string();
    let (secret, public) = (path("k.key"), path("k.pub"));
    let words = [
        "-G",
        "-W",
        "-f",
        "-c",
        "company signing key",
        "-p",
        &public,
        "-s",
        &secret,
    ];
    let made = program("minisign", &words);
    assert_eq!(made.code, 0, "{}", made.err);
    let read = |path: &str| std::fs::read_to_string(path).unwrap();
    (read(&secret), read(&public))
}

fn ssh_pair() -> (String, String) {
    let place = tempfile::tempdir().unwrap();
    let key = place.path().join("k").display().to_string();
    let made = program(
        "ssh-keygen",
        &["-q", "-t", "ed25519", "-N", "", "-C", "me", "-f", &key],
    );
    assert_eq!(made.code, 0, "{}", made.err);
    let read = |path: &str| std::fs::read_to_string(path).unwrap();
    (read(&key), read(&format!("{key}.pub")))
}

fn utf16(text: &str) -> Vec<u8> {
    let units = "\u{feff}".encode_utf16().chain(text.encode_utf16());
    units.flat_map(u16::to_le_bytes).collect()
}

const LOGIN: [&str; 4] = ["--authorized-keys", "--unlock-keys", "--status-keys", "--user-ca"];

#[test]
fn a_public_half_goes_into_an_image_and_its_private_one_never_does() {
    let (secret, public) = minisign_pair();
    taken("--trusted-key", public.as_bytes());
    refused(
        "--trusted-key",
        secret.as_bytes(),
        "line 2: ",
        "holds a private key",
    );
    let (private, public) = ssh_pair();
    let ppk = format!("PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\n{public}");
    for flag in LOGIN {
        taken(flag, public.as_bytes());
        refused(flag, private.as_bytes(), "line 1: ", "holds a private key");
        refused(flag, secret.as_bytes(), "line 2: ", "holds a private key");
        refused(flag, ppk.as_bytes(), "line 1: ", "holds a private key");
        refused(flag, &utf16(&private), "is UTF-16", "save it as UTF-8");
        refused(flag, &utf16(&private)[2..], "line 1: ", "NUL byte");
    }
    // Behind a comment nothing is parsed.
    let (_, body) = private.split_once('\n').unwrap();
    refused(
        "--authorized-keys",
        format!("{public}# {body}").as_bytes(),
        "line 2: ",
        "private key",
    );
}

#[test]
fn a_private_key_of_this_program_is_refused_whatever_its_comment() {
    let system = System::new();
    let os = system.path("os").display().to_string();
    assert_eq!(image_builder(&["keygen", "--out", &os]).code, 0);
    let read = |ending: &str| std::fs::read_to_string(system.path(ending)).unwrap();
    let (_, secret) = read("os.key")
        .split_once('\n')
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .unwrap();
    taken("--trusted-key", read("os.pub").as_bytes());
    let renamed = format!("untrusted comment: ours\n{secret}");
    refused(
        "--trusted-key",
        renamed.as_bytes(),
        "line 2: ",
        "holds a private key",
    );
}

#[test]
fn boot_parameters_bring_public_keys_and_no_private_one() {
    let (private, public) = ssh_pair();
    for word in ["ssh-key", "ssh-unlock-key", "ssh-status-key", "ssh-user-ca"] {
        let config = |key: &str| format!("lifeboot.{word} = \"\"\"{key}\"\"\"\n");
        taken("--config", config(public.trim()).as_bytes());
        refused(
            "--config",
            config(&private).as_bytes(),
            "line 1: ",
            "holds a private key",
        );
        refused(
            "--config",
            config("ssh-ed25519 AAAA").as_bytes(),
            "line 1: ",
            "cut off or damaged",
        );
    }
    let commented = format!("lifeboot.ssh-port = 22\n# {}", private.replace('\n', "\n# "));
    refused(
        "--config",
        commented.as_bytes(),
        "line 2: ",
        "holds a private key",
    );
}

#[test]
fn a_line_that_the_device_would_not_take_is_named() {
    let (_, public) = ssh_pair();
    for flag in LOGIN {
        for (line, why) in [
            ("ssh-ed25519 AAAA me", "cut off or damaged"),
            ("nonsense", "is not TYPE BASE64"),
            (&format!("environment=\"A=b\" {public}"), "option environment"),
            (
                &public.replacen("ssh-ed25519", "ssh-rsa", 1),
                "its key is of type ssh-ed25519",
            ),
        ] {
            refused(
                flag,
                format!("# ours\n{public}\n{line}\n").as_bytes(),
                "line 4: ",
                why,
            );
        }
        taken(flag, format!("# ours\n{public}\nno-pty {public}\r\n").as_bytes());
    }
}

#[test]
fn an_option_is_taken_where_the_device_takes_it() {
    let (_, public) = ssh_pair();
    let forced = format!("command=\"uptime\" {public}");
    taken("--authorized-keys", forced.as_bytes());
    refused("--unlock-keys", forced.as_bytes(), "line 1: ", "for keys of root");
    let named = format!("principals=\"night\" {public}");
    taken("--user-ca", named.as_bytes());
    refused(
        "--authorized-keys",
        named.as_bytes(),
        "line 1: ",
        "for authorities",
    );
}

#[test]
fn what_is_no_minisign_key_is_no_trusted_key() {
    let (_, ssh) = ssh_pair();
    refused(
        "--trusted-key",
        ssh.as_bytes(),
        "line 1: ",
        "ssh keys are for --authorized-keys",
    );
    refused("--trusted-key", b"", "empty", "not a minisign public key");
    let (_, public) = minisign_pair();
    let signature = public.replace("RW", "RUQ");
    refused(
        "--trusted-key",
        signature.as_bytes(),
        "line 2: ",
        "not a minisign public key",
    );
    let more = format!("{public}and more\n");
    refused(
        "--trusted-key",
        more.as_bytes(),
        "line 3: ",
        "not a minisign public key",
    );
}

#[test]
fn keys_of_each_user_and_of_authorities_lie_where_the_device_looks() {
    let system = System::new();
    let mut flags = Vec::new();
    let places = [
        "authorized_keys",
        "authorized_keys.unlock",
        "authorized_keys.status",
        "user_ca",
    ];
    for (flag, place) in LOGIN.into_iter().zip(places) {
        system.file(place, format!("{}\n", ssh_key(place)).as_bytes());
        flags.extend([flag.to_owned(), system.path(place).display().to_string()]);
    }
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    assert_eq!(system.build(&flags).err, "");
    let archive = zstd::decode_all(system.initramfs().as_slice()).unwrap();
    let archive = String::from_utf8_lossy(&archive);
    for place in places {
        // A file of a cpio archive: its name, NUL bytes, its content.
        let (_, content) = archive.split_once(&format!("etc/lifeboot/{place}\0")).unwrap();
        let content = content.trim_start_matches('\0');
        assert!(content.starts_with(&format!("{}\n", ssh_key(place))), "{place}");
    }
}

#[test]
fn an_image_that_nobody_can_log_in_to_is_built_and_says_so_last() {
    let system = System::new();
    let said = |ran: Ran| {
        assert_eq!((ran.code, ran.err.as_str()), (0, ""));
        let last = ran.out.lines().last().unwrap_or_default().to_owned();
        last.starts_with("WARNING: NOBODY CAN LOG IN")
    };
    assert!(said(system.build(&[])));
    let key = ssh_key("me");
    for flag in LOGIN {
        assert!(!said(with(&system, flag, key.as_bytes())), "{flag}");
    }
    for (config, warned) in [
        ("lifeboot.ssh-port = 2222\n".to_owned(), true),
        (format!("lifeboot.ssh-key = \"{key}\"\n"), false),
        ("lifeboot.key-partition = \"LABEL=LIFEBOOT\"\n".to_owned(), false),
    ] {
        assert_eq!(
            said(with(&system, "--config", config.as_bytes())),
            warned,
            "{config}"
        );
    }
}

#[test]
fn a_file_without_a_key_is_refused() {
    for flag in LOGIN {
        for text in ["", "# none yet\n\n"] {
            refused(
                flag,
                text.as_bytes(),
                "no key in it",
                "when the option is left out",
            );
        }
    }
}

#[test]
fn two_keys_of_one_file_name_are_named_both() {
    let system = System::new();
    let (_, public) = minisign_pair();
    for name in ["a/os.pub", "b/os.pub", "c/other.pub"] {
        system.file(name, public.as_bytes());
    }
    let path = |name: &str| system.path(name).display().to_string();
    let with =
        |one: &str, other: &str| system.build(&["--trusted-key", &path(one), "--trusted-key", &path(other)]);
    assert_eq!(with("a/os.pub", "c/other.pub").code, 0);
    let built = with("a/os.pub", "b/os.pub");
    let both = format!(
        "{} and {} would both be os.pub",
        path("a/os.pub"),
        path("b/os.pub")
    );
    assert!(built.code == 1 && built.err.contains(&both), "{}", built.err);
}
