//! Unmodified firmware that finds what it boots on the network by itself.

use super::Board;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Firmware as Debian packages it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Firmware {
    /// EDK2: AAVMF on arm64, OVMF on the PC.
    Uefi,
    /// The same with Secure Boot on, trusting the "snake oil" certificate whose key Debian ships; the PC only.
    SecureUefi,
    /// U-Boot for QEMU's arm64 machine.
    UBoot,
    /// The PC's own BIOS; iPXE in the network card's ROM does the rest.
    Bios,
}

impl Firmware {
    /// Adds it to a QEMU command; what it remembers lies in `dir`.
    pub(super) fn add(self, board: Board, dir: &Path, command: &mut Command) -> Result<()> {
        match (self, board) {
            (Firmware::Uefi, Board::VirtArm64) => flash(
                "/usr/share/AAVMF/AAVMF_CODE.fd",
                "/usr/share/AAVMF/AAVMF_VARS.fd",
                "qemu-efi-aarch64",
                dir,
                command,
            ),
            (Firmware::Uefi, Board::PcX86_64) => flash(
                "/usr/share/OVMF/OVMF_CODE_4M.fd",
                "/usr/share/OVMF/OVMF_VARS_4M.fd",
                "ovmf",
                dir,
                command,
            ),
            (Firmware::SecureUefi, Board::PcX86_64) => {
                command.args(["-machine", "smm=on"]);
                command.args(["-global", "driver=cfi.pflash01,property=secure,value=on"]);
                flash(
                    "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd",
                    "/usr/share/OVMF/OVMF_VARS_4M.snakeoil.fd",
                    "ovmf",
                    dir,
                    command,
                )
            }
            (Firmware::UBoot, Board::VirtArm64) => {
                let path = "/usr/lib/u-boot/qemu_arm64/u-boot.bin";
                installed(path, "u-boot-qemu")?;
                command.args(["-bios", path]);
                Ok(())
            }
            (Firmware::Bios, Board::PcX86_64) => {
                command.args(["-boot", "n"]);
                Ok(())
            }
            _ => anyhow::bail!("{self:?} is not for {}", board.name()),
        }
    }

    /// The network card, on `netdev=n0`.
    pub(super) fn card(self) -> &'static str {
        match self {
            // EDK2 and U-Boot have a driver of their own, so the card's ROM would only stand in the way.
            Firmware::Uefi | Firmware::SecureUefi | Firmware::UBoot => {
                "virtio-net-pci,netdev=n0,romfile=,bootindex=1"
            }
            Firmware::Bios => "virtio-net-pci,netdev=n0,bootindex=1",
        }
    }
}

/// Code that cannot be written and variables that can, the latter as a copy.
fn flash(code: &str, variables: &str, package: &str, dir: &Path, command: &mut Command) -> Result<()> {
    installed(code, package)?;
    installed(variables, package)?;
    let copy = dir.join("variables.fd");
    fs::copy(variables, &copy).with_context(|| variables.to_owned())?;
    let drive = |file: &str, more: &str| format!("if=pflash,format=raw,file={file}{more}");
    command.args(["-drive", &drive(code, ",readonly=on")]);
    command.args(["-drive", &drive(&copy.display().to_string(), "")]);
    Ok(())
}

fn installed(path: &str, package: &str) -> Result<()> {
    ensure!(
        Path::new(path).exists(),
        "could not run: {path}: not there, it is in the Debian package {package}"
    );
    Ok(())
}
