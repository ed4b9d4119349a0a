//! Boards: what hardware an image is for, read from `kernel-config/<board>.toml`. Adding a board is adding a file.

mod boot_loader;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::kernel::Kernel;
use crate::tree::Tree;

pub use boot_loader::{BootImg, ConfigTxt, Eeprom, Firmware, Tftp};

/// The board files the builder was compiled with.
const EMBEDDED: &[(&str, &str)] = &[
    ("pc-x86_64", include_str!("../../kernel-config/pc-x86_64.toml")),
    ("pi", include_str!("../../kernel-config/pi.toml")),
    ("pi3", include_str!("../../kernel-config/pi3.toml")),
    ("pi4", include_str!("../../kernel-config/pi4.toml")),
    ("pi5", include_str!("../../kernel-config/pi5.toml")),
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
    /// How the release of the kernel ends that is taken where a system has several, the best first.
    #[serde(default)]
    pub kernel_flavours: Vec<String>,
    /// Serial consoles, as in the kernel's `console=`, the important one first. Of each driver (`ttyS`, `ttyAMA`) the kernel takes
    /// the first it is given and no other (`try_enable_preferred_console` in `kernel/printk/printk.c`).
    pub consoles: Vec<String>,
    /// The same for Raspberry Pi's own kernels, where it is another list; the firmware puts the port's name in for `serial0`.
    #[serde(default)]
    consoles_raspberrypi: Vec<String>,
    /// Device trees to write beside the kernel, by file name. In the file a name may be `a | b`, the first that the kernel
    /// has; [`Board::settle_device_trees`] leaves plain names.
    #[serde(default)]
    pub device_trees: Vec<String>,
    /// The same for device trees that not every kernel has.
    #[serde(default)]
    device_trees_optional: Vec<String>,
    /// Boards whose modules, device trees and kernel options this one has too.
    #[serde(default)]
    combines: Vec<String>,
    #[serde(default)]
    pub modules: BoardModules,
    /// Kernel options that no module of the list stands for, without `CONFIG_`; with `=y` behind the name the option must be
    /// built in.
    #[serde(default)]
    pub kernel_options: Reasons,
    /// Nodes of its device trees that are known to have no driver, by `compatible`.
    #[serde(default)]
    pub device_tree_exceptions: Reasons,
    pub firmware: Option<Firmware>,
    pub boot_img: Option<BootImg>,
    #[serde(default)]
    pub config_txt: ConfigTxt,
    pub tftp: Option<Tftp>,
    pub eeprom: Option<Eeprom>,
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
        let mut board = Self::load_file(name, directory)?;
        for part in board.combines.clone() {
            let other = Self::load_file(&part, directory).with_context(|| format!("{name}.toml"))?;
            if !other.combines.is_empty() || other.arch != board.arch {
                bail!("{name}.toml: {part} cannot be combined with other boards");
            }
            board.combine(other);
        }
        Ok(board)
    }

    /// The consoles under the names that a kernel has for them.
    pub fn consoles_of(&self, kernel: &Kernel) -> &[String] {
        if self.consoles_raspberrypi.is_empty() || kernel.is_mainline() {
            &self.consoles
        } else {
            &self.consoles_raspberrypi
        }
    }

    fn load_file(name: &str, directory: Option<&Path>) -> Result<Self> {
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
            &board.kernel_options,
            &board.device_tree_exceptions,
        ] {
            check_reasons(name, reasons)?;
        }
        Ok(board)
    }

    /// Takes over what another board needs; a reason that both give stays this board's.
    fn combine(&mut self, other: Self) {
        let own = |mine: &mut Reasons, theirs: Reasons| {
            for (name, reason) in theirs {
                mine.entry(name).or_insert(reason);
            }
        };
        own(&mut self.modules.network, other.modules.network);
        own(&mut self.modules.devices, other.modules.devices);
        own(&mut self.modules.optional, other.modules.optional);
        own(&mut self.kernel_options, other.kernel_options);
        own(&mut self.device_tree_exceptions, other.device_tree_exceptions);
        self.device_trees.extend(other.device_trees);
        self.device_trees_optional.extend(other.device_trees_optional);
    }

    /// Replaces the names of device trees by those that the kernel of the tree has.
    pub fn settle_device_trees(&mut self, kernel: &Kernel, tree: &Tree) -> Result<()> {
        let first = |names: &str| {
            alternatives(names)
                .find(|name| kernel.device_tree(tree, name).is_ok())
                .map(str::to_owned)
        };
        let mut settled = Vec::new();
        for names in &self.device_trees {
            let found = first(names)
                .with_context(|| format!("kernel {} has no device tree {names}", kernel.release))?;
            settled.push(found);
        }
        settled.extend(self.device_trees_optional.iter().filter_map(|names| first(names)));
        settled.dedup();
        self.device_trees = settled;
        self.device_trees_optional.clear();
        Ok(())
    }
}

/// The names in `a | b`.
pub fn alternatives(names: &str) -> impl Iterator<Item = &str> {
    names.split('|').map(str::trim)
}

/// Files beside the boards' that describe no board.
const NO_BOARDS: &[&str] = &["device-tree", "features"];

/// The boards there are.
pub fn names(directory: Option<&Path>) -> Result<Vec<String>> {
    let Some(directory) = directory else {
        return Ok(EMBEDDED.iter().map(|(name, _)| (*name).to_owned()).collect());
    };
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).with_context(|| directory.display().to_string())? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if let Some(name) = name
            .strip_suffix(".toml")
            .filter(|name| !NO_BOARDS.contains(name))
        {
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
            "unknown board 'pi9'; known are pc-x86_64 pi pi3 pi4 pi5 virt-arm64"
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
