//! `lifeboot.efi`: a unified kernel image, one file that UEFI firmware (and U-Boot's `bootefi`) starts by itself.
//!
//! It is systemd's EFI stub with kernel, initramfs and command line as further sections; their names and meaning are those of the
//! UAPI Group's "Unified Kernel Image" specification. With Secure Boot on, the stub takes no other command line than this one; without,
//! whatever starts it may give another.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow, bail, ensure};

use super::{Built, Written, put};
use crate::board::{Arch, Board};
use crate::cmdline;
use crate::pe::{self, Image, Machine};
use crate::recipe::Recipe;

/// Its name in the output directory.
const NAME: &str = "lifeboot.efi";
/// Where the package systemd-boot-efi has its stubs.
const STUBS: &str = "/usr/lib/systemd/boot/efi";

/// What the owner says about it.
#[derive(Debug)]
pub struct Options {
    cmdline: String,
    /// Taken instead of the tree's.
    stub: Option<PathBuf>,
    secure_boot: Option<SecureBoot>,
}

impl Options {
    /// What the recipe says; `None` when it wants no such image.
    pub fn of(recipe: &Recipe, board: &Board) -> Result<Option<Self>> {
        let secure_boot = SecureBoot::given(
            recipe.secureboot_key.as_deref(),
            recipe.secureboot_cert.as_deref(),
        )?;
        if recipe.uki != Some(true) {
            ensure!(
                secure_boot.is_none(),
                "--secureboot-key is for --uki, which is not given"
            );
            return Ok(None);
        }
        ensure!(
            board.device_trees.is_empty(),
            "--uki: {} is not started by UEFI firmware",
            board.name
        );
        Ok(Some(Self {
            cmdline: cmdline::of(&board.consoles, recipe.cmdline.as_deref())?,
            stub: recipe.uki_stub.clone(),
            secure_boot,
        }))
    }
}

/// The package that has the stub, where one is wanted.
pub fn packages(recipe: &Recipe) -> Vec<String> {
    let wanted = recipe.uki == Some(true) && recipe.uki_stub.is_none();
    wanted
        .then(|| "systemd-boot-efi".to_owned())
        .into_iter()
        .collect()
}

/// A key pair that a machine's firmware has been told to trust.
#[derive(Debug)]
struct SecureBoot {
    /// PEM.
    key: PathBuf,
    /// PEM.
    certificate: PathBuf,
}

impl SecureBoot {
    /// Both or neither.
    fn given(key: Option<&Path>, certificate: Option<&Path>) -> Result<Option<Self>> {
        match (key, certificate) {
            (None, None) => Ok(None),
            (Some(key), Some(certificate)) => Ok(Some(Self {
                key: key.to_owned(),
                certificate: certificate.to_owned(),
            })),
            (Some(_), None) => bail!("--secureboot-key wants --secureboot-cert beside it"),
            (None, Some(_)) => bail!("--secureboot-cert wants --secureboot-key beside it"),
        }
    }
}

/// What goes in.
#[derive(Debug)]
struct Parts<'a> {
    stub: Vec<u8>,
    os_release: String,
    cmdline: &'a str,
    release: &'a str,
    kernel: &'a [u8],
    initramfs: &'a [u8],
}

/// Writes what [`image`] made.
pub fn write(image: &[u8], out: &Path) -> Result<Written> {
    put(out, NAME, image)
}

/// The whole file. Made before anything is written: what cannot be started is refused and leaves nothing.
pub fn image(built: &Built, options: &Options) -> Result<Vec<u8>> {
    let arch = built.board.arch;
    let stub = stub(built, options)?;
    let parts = Parts {
        os_release: os_release(built),
        cmdline: &options.cmdline,
        release: &built.kernel.release,
        kernel: &built.kernel_image,
        initramfs: &built.initramfs,
        stub,
    };
    let image = assemble(parts, machine(arch))?;
    match &options.secure_boot {
        None => Ok(image),
        Some(keys) => signed(&image, keys),
    }
}

/// The pieces as one file. The kernel comes last: a stub may unpack it in place, into memory beyond its end.
fn assemble(parts: Parts, machine: Machine) -> Result<Vec<u8>> {
    for (what, bytes) in [
        ("the EFI stub", parts.stub.as_slice()),
        ("the kernel", parts.kernel),
    ] {
        let found =
            pe::machine(bytes).with_context(|| format!("{what} cannot be started by UEFI firmware"))?;
        ensure!(found == machine, "{what} is for {found}, wanted {machine}");
    }
    let mut image = Image::read(parts.stub).context("the EFI stub")?;
    for (name, data) in [
        (".osrel", parts.os_release.as_bytes()),
        (".cmdline", parts.cmdline.as_bytes()),
        (".uname", parts.release.as_bytes()),
        (".initrd", parts.initramfs),
        (".linux", parts.kernel),
    ] {
        image.add(name, data).context("the EFI stub")?;
    }
    image.finish()
}

fn machine(arch: Arch) -> Machine {
    match arch {
        Arch::Aarch64 => Machine::AARCH64,
        Arch::X86_64 => Machine::X86_64,
    }
}

fn stub(built: &Built, options: &Options) -> Result<Vec<u8>> {
    if let Some(path) = &options.stub {
        return fs::read(path).with_context(|| path.display().to_string());
    }
    let name = match built.board.arch {
        Arch::Aarch64 => "linuxaa64.efi.stub",
        Arch::X86_64 => "linuxx64.efi.stub",
    };
    built.tree.read(format!("{STUBS}/{name}")).context(
        "no EFI stub: it is in the Debian package systemd-boot-efi; name one from elsewhere with --uki-stub FILE",
    )
}

/// What boot menus show.
fn os_release(built: &Built) -> String {
    let info = built.info;
    format!(
        "ID=lifeboot\nNAME=\"{name}\"\nPRETTY_NAME=\"{name} {version} ({board})\"\nVERSION_ID=\"{version}\"\nVARIANT_ID=\"{board}\"\n",
        name = quoted(&info.name),
        version = quoted(&info.version),
        board = quoted(&info.board),
    )
}

/// Inside double quotes as os-release(5) has them.
fn quoted(text: &str) -> String {
    let mut quoted = String::new();
    for letter in text.chars().filter(|letter| !letter.is_control()) {
        if "\\\"$`".contains(letter) {
            quoted.push('\\');
        }
        quoted.push(letter);
    }
    quoted
}

/// The image with a signature in it, by the stock tool: the signature's time is the only thing that differs between two builds.
fn signed(image: &[u8], keys: &SecureBoot) -> Result<Vec<u8>> {
    let work = tempfile::tempdir().context("a directory to sign in")?;
    let (plain, done) = (work.path().join("plain.efi"), work.path().join("signed.efi"));
    fs::write(&plain, image).with_context(|| plain.display().to_string())?;
    let output = Command::new("sbsign")
        .arg("--key")
        .arg(&keys.key)
        .arg("--cert")
        .arg(&keys.certificate)
        .arg("--output")
        .arg(&done)
        .arg(&plain)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| anyhow!("sbsign: {error}; it is in the Debian package sbsigntool"))?;
    if !output.status.success() || !done.exists() {
        bail!(
            "sbsign: {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    fs::read(&done).with_context(|| done.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_break_out_of_its_quotes() {
        assert_eq!(quoted("a\"b$c`d\\e\nf"), "a\\\"b\\$c\\`d\\\\ef");
    }

    #[test]
    fn a_key_without_its_certificate_is_refused() {
        let error = SecureBoot::given(Some(Path::new("k")), None).unwrap_err();
        assert_eq!(
            error.to_string(),
            "--secureboot-key wants --secureboot-cert beside it"
        );
        assert!(SecureBoot::given(None, None).unwrap().is_none());
    }
}
