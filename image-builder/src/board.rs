//! Boards: what hardware an image is for, read from `kernel-config/<board>.toml`. Adding a board is adding a file.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// The board files the builder was compiled with.
const EMBEDDED: &[(&str, &str)] = &[
    ("pc-x86_64", include_str!("../../kernel-config/pc-x86_64.toml")),
    ("pi3", include_str!("../../kernel-config/pi3.toml")),
    ("virt-arm64", include_str!("../../kernel-config/virt-arm64.toml")),
];

/// A board file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Board {
    /// The file's name without `.toml`.
    #[serde(skip)]
    pub name: String,
    /// One line for people.
    pub about: String,
    pub arch: Arch,
    /// The Debian package that brings the kernel.
    pub kernel_package: String,
    /// Serial consoles, as in the kernel's `console=`, the important one first.
    pub consoles: Vec<String>,
    /// Device trees to write beside the kernel, by file name.
    pub device_trees: Vec<String>,
    pub modules: BoardModules,
    pub qemu: Option<Qemu>,
}

/// Module name to the reason it is carried.
pub type Reasons = BTreeMap<String, String>;

/// A board's own modules.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BoardModules {
    /// Written into the archive before everything else that is not needed to start.
    #[serde(default)]
    pub network: Reasons,
    #[serde(default)]
    pub devices: Reasons,
    /// Carried where the kernel has them; no error where it does not.
    #[serde(default)]
    pub optional: Reasons,
}

/// How QEMU models the board.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Qemu {
    pub program: String,
    pub args: Vec<String>,
    /// Put behind `args` under KVM; absent where the model knows no KVM.
    pub kvm_args: Option<Vec<String>>,
    pub device_tree: Option<String>,
    /// Words the model needs on the kernel command line.
    #[serde(default)]
    pub append: Vec<String>,
    /// The device that is given `netdev=net0`.
    pub network: String,
    /// `sd`, or the device that is given `drive=`.
    pub disk: String,
    /// MiB.
    pub memory: u32,
}

/// A processor architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arch {
    Aarch64,
    #[serde(rename = "x86_64")]
    X86_64,
}

impl Arch {
    /// As `uname -m` prints it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Aarch64 => "aarch64",
            Self::X86_64 => "x86_64",
        }
    }

    /// As Debian calls it.
    pub fn debian(self) -> &'static str {
        match self {
            Self::Aarch64 => "arm64",
            Self::X86_64 => "amd64",
        }
    }

    /// The directory name of Debian's libraries.
    pub fn triplet(self) -> &'static str {
        match self {
            Self::Aarch64 => "aarch64-linux-gnu",
            Self::X86_64 => "x86_64-linux-gnu",
        }
    }

    /// The Rust target of the device's executable.
    pub fn rust_target(self) -> &'static str {
        match self {
            Self::Aarch64 => "aarch64-unknown-linux-musl",
            Self::X86_64 => "x86_64-unknown-linux-musl",
        }
    }

    /// `e_machine` of its executables.
    pub fn elf_machine(self) -> object::elf::Machine {
        match self {
            Self::Aarch64 => object::elf::EM_AARCH64,
            Self::X86_64 => object::elf::EM_X86_64,
        }
    }
}

impl Board {
    /// Reads a board by name, from a directory of board files or from those compiled in.
    pub fn load(name: &str, directory: Option<&Path>) -> Result<Self> {
        let known = names(directory)?;
        if !known.iter().any(|known| known == name) {
            bail!("unknown board '{name}'; known are {}", known.join(" "));
        }
        let mut board: Self = read(name, directory)?;
        board.name = name.to_owned();
        for reasons in [
            &board.modules.network,
            &board.modules.devices,
            &board.modules.optional,
        ] {
            check_reasons(name, reasons)?;
        }
        Ok(board)
    }
}

/// The boards there are.
pub fn names(directory: Option<&Path>) -> Result<Vec<String>> {
    let Some(directory) = directory else {
        return Ok(EMBEDDED.iter().map(|(name, _)| (*name).to_owned()).collect());
    };
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).with_context(|| directory.display().to_string())? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if let Some(name) = name.strip_suffix(".toml").filter(|name| *name != "features") {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

fn read<T: for<'de> Deserialize<'de>>(name: &str, directory: Option<&Path>) -> Result<T> {
    match directory {
        Some(directory) => read_toml(&directory.join(format!("{name}.toml"))),
        None => {
            let text = EMBEDDED
                .iter()
                .find(|(known, _)| *known == name)
                .map_or("", |(_, text)| text);
            toml::from_str(text).with_context(|| format!("{name}.toml"))
        }
    }
}

/// Reads a TOML file; the error carries its path, and the line.
pub fn read_toml<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<T> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    toml::from_str(&text).with_context(|| path.display().to_string())
}

/// Refuses a module that stands there without a reason.
pub fn check_reasons(file: &str, reasons: &Reasons) -> Result<()> {
    match reasons.iter().find(|(_, reason)| reason.trim().is_empty()) {
        Some((module, _)) => bail!("{file}.toml: module {module} is listed without a reason"),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_embedded_board_reads() {
        for (name, _) in EMBEDDED {
            let board = Board::load(name, None).unwrap();
            assert!(!board.consoles.is_empty(), "{name}");
            assert!(!board.modules.network.is_empty(), "{name}");
        }
    }

    #[test]
    fn every_board_file_of_the_tree_is_embedded() {
        let tree = Path::new(env!("CARGO_MANIFEST_DIR")).join("../kernel-config");
        assert_eq!(names(Some(&tree)).unwrap(), names(None).unwrap());
    }

    #[test]
    fn an_unknown_board_is_answered_with_the_known_ones() {
        let error = Board::load("pi9", None).unwrap_err();
        assert_eq!(
            error.to_string(),
            "unknown board 'pi9'; known are pc-x86_64 pi3 virt-arm64"
        );
    }

    #[test]
    fn a_module_needs_a_reason() {
        let reasons = Reasons::from([("loop".to_owned(), " ".to_owned())]);
        assert_eq!(
            check_reasons("x", &reasons).unwrap_err().to_string(),
            "x.toml: module loop is listed without a reason"
        );
    }
}
