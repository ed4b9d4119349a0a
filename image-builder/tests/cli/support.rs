//! What the tests share: running the binary, goldens, and a made-up system small enough to be written down here.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// What a run of the binary left behind.
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

/// Runs the binary; anything that looks like a path may be given.
pub fn image_builder<S: AsRef<std::ffi::OsStr>>(arguments: &[S]) -> Ran {
    let home = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_image-builder"));
    command
        .args(arguments)
        .env_remove("SOURCE_DATE_EPOCH")
        .env("XDG_CACHE_HOME", home.path());
    ran(command.output().unwrap())
}

/// Runs the binary with `input` on its standard input.
pub fn ran_with_input(arguments: &[&str], input: &str) -> Ran {
    let mut child = Command::new(env!("CARGO_BIN_EXE_image-builder"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // One that does not want its input is judged by its exit code.
    drop(child.stdin.take().unwrap().write_all(input.as_bytes()));
    ran(child.wait_with_output().unwrap())
}

/// Runs another program that the test cannot do without.
pub fn program(name: &str, arguments: &[&str]) -> Ran {
    let output = Command::new(name).args(arguments).output();
    ran(output.unwrap_or_else(|error| panic!("{name}: {error}; the tests need it installed")))
}

fn ran(output: Output) -> Ran {
    Ran {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Compares with `tests/golden/NAME`.
pub fn golden(name: &str, found: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, found).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(found, expected, "{}", path.display());
}

/// A made-up system: a kernel with a handful of modules, a program with a library, busybox, a certificate; and beside it
/// board files that name just those.
pub struct System {
    pub directory: tempfile::TempDir,
}

impl System {
    pub fn new() -> Self {
        let system = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        let modules = "root/usr/lib/modules/7.0-test";
        system.file(&format!("{modules}/vmlinuz"), b"a kernel");
        system.file(&format!("{modules}/modules.builtin"), b"kernel/fs/built_in.ko\n");
        system.module("drivers/net/card.ko", "depends=bus_core\0alias=pci:v1*\0");
        system.module("drivers/bus-core.ko", "depends=\0softdep=pre: helper\0");
        system.module("lib/helper.ko", "depends=\0");
        system.module("fs/unused.ko", "depends=\0");
        system.file(
            "root/usr/bin/busybox",
            b"#ELF? [\0[[\0cat\0ls\0modprobe\0reboot\0tool\0\0",
        );
        system.file(
            "root/usr/sbin/tool",
            &elf(&["liba.so.1"], Some("/lib64/ld-test.so")),
        );
        symlink("tool", system.path("root/usr/sbin/tool2")).unwrap();
        system.file(
            "root/usr/lib/x86_64-linux-gnu/liba.so.1.0",
            &elf(&["libb.so.2"], None),
        );
        symlink(
            "liba.so.1.0",
            system.path("root/usr/lib/x86_64-linux-gnu/liba.so.1"),
        )
        .unwrap();
        system.file("root/usr/lib/x86_64-linux-gnu/libb.so.2", &elf(&[], None));
        system.file("root/usr/lib64/ld-test.so", &elf(&[], None));
        system.file("root/usr/share/ca-certificates/mozilla/A.crt", b"certificate A");
        system.file("rescue", &elf(&[], None));
        system.file("config/tiny.toml", include_bytes!("tiny.toml"));
        system.file("config/features.toml", include_bytes!("features.toml"));
        system.same_times();
        system
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn file(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    pub fn module(&self, path: &str, modinfo: &str) {
        self.file(
            &format!("root/usr/lib/modules/7.0-test/kernel/{path}"),
            &module(modinfo),
        );
    }

    /// The kernel's times are the archive's, so two systems made one after the other must not differ in them.
    pub fn same_times(&self) {
        for name in ["vmlinuz", "modules.builtin"] {
            let path = self.path(&format!("root/usr/lib/modules/7.0-test/{name}"));
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000);
            fs::File::options()
                .write(true)
                .open(path)
                .unwrap()
                .set_modified(time)
                .unwrap();
        }
    }

    /// Builds into `out`, with more words on the command line.
    pub fn build(&self, more: &[&str]) -> Ran {
        let path = |name: &str| self.path(name).display().to_string();
        let mut words = vec!["build".to_owned(), "--board".into(), "tiny".into()];
        words.extend([
            "--from-root".into(),
            path("root"),
            "--kernel-config".into(),
            path("config"),
        ]);
        words.extend([
            "--executable".into(),
            path("rescue"),
            "--features".into(),
            "core,tool".into(),
        ]);
        words.extend(["--out".into(), path("out")]);
        // What is given takes the place of what stands here; a flag given several times stays so.
        let mut usual = words.len();
        for pair in more.chunks(2) {
            if let Some(at) = words[..usual].iter().position(|word| word == pair[0]) {
                words.drain(at..at + 2);
                usual -= 2;
            }
            words.extend(pair.iter().map(|word| (*word).to_owned()));
        }
        image_builder(&words)
    }

    pub fn initramfs(&self) -> Vec<u8> {
        fs::read(self.path("out/initramfs.cpio.zst")).unwrap()
    }
}

/// A public key for ssh as far as the builder looks, with a comment.
pub fn ssh_key(comment: &str) -> String {
    format!(
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{} {comment}",
        "A".repeat(43)
    )
}

/// A kernel module as far as the builder looks: a relocatable object with a `.modinfo` section.
pub fn module(modinfo: &str) -> Vec<u8> {
    let names = b"\0.modinfo\0.shstrtab\0";
    let data_at = 64;
    let names_at = data_at + modinfo.len();
    let table_at = (names_at + names.len()).next_multiple_of(8);
    let mut file = header(1, 0, table_at, 3);
    file.extend_from_slice(modinfo.as_bytes());
    file.extend_from_slice(names);
    file.resize(table_at, 0);
    file.extend_from_slice(&[0; 64]);
    file.extend(section(1, 1, data_at, modinfo.len()));
    file.extend(section(10, 3, names_at, names.len()));
    file
}

/// An executable or library as far as the builder looks: what it needs, and its dynamic linker.
pub fn elf(needed: &[&str], interpreter: Option<&str>) -> Vec<u8> {
    let mut strings = vec![0_u8];
    let mut dynamic: Vec<(u64, u64)> = Vec::new();
    for name in needed {
        dynamic.push((1, strings.len() as u64));
        strings.extend_from_slice(name.as_bytes());
        strings.push(0);
    }
    let interpreter_at = strings.len();
    strings.extend_from_slice(interpreter.unwrap_or_default().as_bytes());
    strings.push(0);
    let strings_at = 64 + 3 * 56;
    dynamic.extend([(5, strings_at as u64), (10, strings.len() as u64), (0, 0)]);
    let dynamic_at = (strings_at + strings.len()).next_multiple_of(8);
    let end = dynamic_at + dynamic.len() * 16;
    let mut file = header(2, if interpreter.is_some() { 3 } else { 2 }, 0, 0);
    file.extend(segment(1, 0, end));
    file.extend(segment(2, dynamic_at, dynamic.len() * 16));
    file.extend(segment(
        3,
        strings_at + interpreter_at,
        strings.len() - interpreter_at,
    ));
    file.extend_from_slice(&strings);
    file.resize(dynamic_at, 0);
    for (tag, value) in dynamic {
        file.extend(tag.to_le_bytes());
        file.extend(value.to_le_bytes());
    }
    file
}

fn header(kind: u16, segments: u16, sections_at: usize, sections: u16) -> Vec<u8> {
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    file.extend(kind.to_le_bytes());
    file.extend(62_u16.to_le_bytes());
    file.extend(1_u32.to_le_bytes());
    file.extend(0_u64.to_le_bytes());
    file.extend(if segments > 0 { 64_u64 } else { 0 }.to_le_bytes());
    file.extend((sections_at as u64).to_le_bytes());
    file.extend(0_u32.to_le_bytes());
    for field in [64, 56, segments, 64, sections, sections.saturating_sub(1)] {
        file.extend(field.to_le_bytes());
    }
    file
}

fn segment(kind: u32, at: usize, size: usize) -> Vec<u8> {
    let (at, size) = (at as u64, size as u64);
    let mut bytes = kind.to_le_bytes().to_vec();
    bytes.extend(4_u32.to_le_bytes());
    for field in [at, at, at, size, size, 8] {
        bytes.extend(field.to_le_bytes());
    }
    bytes
}

fn section(name: u32, kind: u32, at: usize, size: usize) -> Vec<u8> {
    let mut bytes = name.to_le_bytes().to_vec();
    bytes.extend(kind.to_le_bytes());
    for field in [0, 0, at as u64, size as u64, 0, 1, 0] {
        bytes.extend(field.to_le_bytes());
    }
    // sh_link and sh_info share one 64-bit field above, so the entry is 64 bytes as it must be.
    assert_eq!(bytes.len(), 64);
    bytes
}
