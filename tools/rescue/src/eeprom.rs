//! `rescue eeprom show`: what the bootloader of a Raspberry Pi 4 or 5 is and how it is configured, in words.
//!
//! Nothing is written: what is in an EEPROM is its owner's business, and `image-builder eeprom` says how to change it.

use crate::{cut, machine, output};
use anyhow::{Context as _, bail};
use argh::FromArgs;
use lifeboot_contract::firmware::boot_order::Order;
use lifeboot_contract::firmware::mailbox::{BOARD_REVISION, GET_REBOOT_ORDER};
use lifeboot_contract::firmware::{eeprom, revision};
use lifeboot_init::board::Board;
use lifeboot_init::firmware::{FirmwareError, Mailbox, ask};
use serde::Serialize;
use std::process::ExitCode;

/// look at the bootloader of a Raspberry Pi
#[derive(Debug, FromArgs)]
#[cfg_attr(test, derive(argh::ArgsInfo))]
#[argh(
    subcommand,
    name = "eeprom",
    example = "Version, boot order and configuration:\n$ {command_name} show"
)]
pub struct Eeprom {
    #[argh(subcommand)]
    action: Action,
}

#[derive(Debug, FromArgs)]
#[cfg_attr(test, derive(argh::ArgsInfo))]
#[argh(subcommand)]
enum Action {
    Show(Show),
}

/// show version, configuration, boot order and secure boot of the bootloader
#[derive(Debug, FromArgs)]
#[cfg_attr(test, derive(argh::ArgsInfo))]
#[argh(
    subcommand,
    name = "show",
    note = "What is shown is what the bootloader left in the device tree and in memory when this machine started: a configuration that was written since then is not seen before the next start. Passwords and the like are cut out. Nothing is changed; 'image-builder eeprom' on another machine says how to.",
    example = "What does it boot from, and in which order?\n$ {command_name}\nFor a script:\n$ {command_name} --json"
)]
struct Show {
    /// print JSON
    #[argh(switch)]
    json: bool,
}

/// What is known of a bootloader; what is not told is absent.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Bootloader {
    /// The board, as the device tree calls it.
    pub model: Option<String>,
    /// Its revision code in words.
    pub revision: Option<String>,
    /// The bootloader's git hash.
    pub version: Option<String>,
    /// When it was built, seconds since 1970.
    pub built: Option<u32>,
    /// When it was last updated, seconds since 1970.
    pub updated: Option<u32>,
    /// What this system was booted from.
    pub booted_from: Option<String>,
    /// Partition it was booted from.
    pub partition: Option<u32>,
    /// Whether this is a trial boot.
    pub tryboot: bool,
    /// Secure boot in words.
    pub secure_boot: Option<String>,
    /// Whether the EEPROM holds its owner's public key.
    pub has_public_key: Option<bool>,
    /// `BOOT_ORDER` as it stands in the configuration.
    pub boot_order: Option<String>,
    /// The same in words.
    pub boot_order_words: Option<String>,
    /// Orders under a condition: the section and the order in words.
    pub conditional_orders: Vec<(String, String)>,
    /// The order of the next start alone.
    pub next_order: Option<String>,
    /// What the power supply can give, in mA, as a Pi 5 negotiated it.
    pub supply_ma: Option<u32>,
    /// The configuration, secrets cut.
    pub config: Option<String>,
    /// Why the configuration is not known.
    pub config_missing: Option<String>,
}

/// Shows.
///
/// # Errors
/// Not a Raspberry Pi, or nowhere to print to.
pub fn run(options: &Eeprom) -> anyhow::Result<ExitCode> {
    let Action::Show(show) = &options.action;
    let board = machine::board();
    if !board.is_raspberry_pi() {
        bail!("this machine is not a Raspberry Pi, or its firmware left no device tree");
    }
    let mut mailbox = machine::mailbox().ok();
    let bootloader = Bootloader::of(
        &board,
        mailbox.as_mut().map(|mailbox| mailbox as &mut dyn Mailbox),
    );
    if show.json {
        output::line(&serde_json::to_string_pretty(&bootloader).context("bootloader")?)?;
    } else {
        let lines = bootloader.lines();
        output::lines(lines.iter().map(String::as_str))?;
    }
    Ok(ExitCode::SUCCESS)
}

impl Bootloader {
    /// Gathers what the board tells, and the mailbox where there is one.
    pub fn of(board: &Board, mailbox: Option<&mut dyn Mailbox>) -> Bootloader {
        let property = |name: &str| format!("chosen/bootloader/{name}");
        let number = |name: &str| board.number(&property(name));
        let mut found = Bootloader {
            model: board.text("model"),
            revision: board.number("system/linux,revision").map(revision::words),
            version: board.text(&property("version")),
            built: number("build_timestamp"),
            updated: number("update_timestamp").filter(|seconds| *seconds != 0),
            booted_from: board
                .boot_mode()
                .map(|mode| format!("{:x} {}", mode.digit, mode.what)),
            partition: number("partition"),
            tryboot: number("tryboot") == Some(1),
            // The property has had two names.
            secure_boot: number("signed")
                .or_else(|| number("signed_boot"))
                .map(secure_boot),
            has_public_key: board.bootloader_key().ok().map(|key| !key.is_empty()),
            supply_ma: board.number("chosen/power/max_current").filter(|ma| *ma != 0),
            ..Bootloader::default()
        };
        match board.bootloader_config() {
            Ok(config) => found.take_config(&config),
            Err(error) => found.config_missing = Some(error.to_string()),
        }
        if let Some(mailbox) = mailbox {
            found.ask(mailbox);
        }
        found
    }

    fn take_config(&mut self, config: &str) {
        let words = |text: &str| Order::of_text(text).map(|order| order.words());
        self.boot_order = eeprom::value(config, "BOOT_ORDER").map(str::to_owned);
        self.boot_order_words = self.boot_order.as_deref().and_then(words);
        self.conditional_orders = eeprom::conditional(config, "BOOT_ORDER")
            .into_iter()
            .map(|(section, order)| {
                let order =
                    words(order).map_or_else(|| order.to_owned(), |words| format!("{order}: {words}"));
                (format!("[{section}]"), order)
            })
            .collect();
        self.config = Some(cut::config(config));
    }

    fn ask(&mut self, mailbox: &mut dyn Mailbox) {
        if self.revision.is_none()
            && let Ok(code) = ask(mailbox, BOARD_REVISION, &[0], 1)
        {
            self.revision = code.first().map(|code| revision::words(*code));
        }
        self.next_order = next_order(mailbox).ok().map(|order| match order {
            None => "as usual".to_owned(),
            Some(order) => format!("{order}: {}", order.words()),
        });
    }

    /// For people.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut say = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                let name = if name.is_empty() {
                    String::new()
                } else {
                    format!("{name}:")
                };
                lines.push(format!("{name:<14}{value}"));
            }
        };
        say("Board", self.model.clone());
        say("Revision", self.revision.clone());
        say("Bootloader", self.built.map(|built| self.described(built)));
        say("Updated", self.updated.map(|at| output::date(at.into())));
        say(
            "Started from",
            self.booted_from.clone().map(|from| self.partitioned(from)),
        );
        say("Power supply", self.supply_ma.map(|ma| format!("{ma} mA")));
        say("Secure boot", self.secure_boot.clone());
        say(
            "Public key",
            self.has_public_key
                .map(|has| if has { "in the EEPROM" } else { "none" }.to_owned()),
        );
        let order = |number: &String| {
            let words = self.boot_order_words.as_deref().unwrap_or("not understood");
            format!("{number}, read from the right: {words}")
        };
        say("Boot order", self.boot_order.as_ref().map(order));
        for (section, order) in &self.conditional_orders {
            say("", Some(format!("{section} {order}")));
        }
        say("Next start", self.next_order.clone());
        match (&self.config, &self.config_missing) {
            (Some(config), _) => {
                lines.push("Configuration:".to_owned());
                lines.extend(
                    config
                        .lines()
                        .map(|line| format!("  {line}").trim_end().to_owned()),
                );
            }
            (None, Some(why)) => lines.push(format!("Configuration: not known: {why}")),
            (None, None) => {}
        }
        lines
    }

    fn described(&self, built: u32) -> String {
        let version = self
            .version
            .as_deref()
            .map(|version| format!(", version {version}"));
        format!("{}{}", output::date(built.into()), version.unwrap_or_default())
    }

    fn partitioned(&self, from: String) -> String {
        let partition = self.partition.filter(|partition| *partition != 0);
        let partition = partition.map(|partition| format!(", partition {partition}"));
        let trial = if self.tryboot {
            ", a trial boot (tryboot)"
        } else {
            ""
        };
        format!("{from}{}{trial}", partition.unwrap_or_default())
    }
}

/// The order of the next start alone; `None` where none is set.
///
/// # Errors
/// The firmware does not know one.
pub fn next_order(mailbox: &mut dyn Mailbox) -> Result<Option<Order>, FirmwareError> {
    let answer = ask(mailbox, GET_REBOOT_ORDER, &[0], 1)?;
    let number = answer.first().copied().unwrap_or(0);
    Ok((number != 0).then(|| Order::of_number(number)))
}

/// Bits 0, 2 and 3 of `/chosen/bootloader/signed`, as Raspberry Pi's documentation explains them.
fn secure_boot(bits: u32) -> String {
    let words = [
        (0, "SIGNED_BOOT is configured"),
        (2, "the development key is revoked"),
        (3, "the owner's key is burnt into the chip"),
    ];
    let said: Vec<&str> = words
        .iter()
        .filter(|(bit, _)| bits >> bit & 1 == 1)
        .map(|(_, what)| *what)
        .collect();
    if said.is_empty() {
        "off".to_owned()
    } else {
        said.join(", ")
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use lifeboot_init::firmware::Scripted;
    use std::fs;
    use std::path::Path;

    /// A tree as a Raspberry Pi 5 would show it.
    pub fn pi5(root: &Path) {
        let config =
            "[all]\nBOOT_UART=1\nBOOT_ORDER=0xf461\nNETCONSOLE=6665@10.0.0.1/\n[gpio8=0]\nBOOT_ORDER=0xf7\n";
        let files: [(&str, &[u8]); 11] = [
            ("proc/device-tree/model", b"Raspberry Pi 5 Model B Rev 1.0\0"),
            (
                "proc/device-tree/compatible",
                b"raspberrypi,5-model-b\0brcm,bcm2712\0",
            ),
            (
                "proc/device-tree/system/linux,revision",
                &[0x00, 0xd0, 0x41, 0x70],
            ),
            ("proc/device-tree/chosen/bootloader/version", b"0123abcd\0"),
            (
                "proc/device-tree/chosen/bootloader/build_timestamp",
                &1_746_713_597u32.to_be_bytes(),
            ),
            ("proc/device-tree/chosen/bootloader/boot-mode", &[0, 0, 0, 2]),
            ("proc/device-tree/chosen/bootloader/signed", &[0, 0, 0, 9]),
            ("proc/device-tree/chosen/power/max_current", &[0, 0, 0x13, 0x88]),
            ("proc/device-tree/aliases/blconfig", b"/reserved-memory/nvram@0\0"),
            ("sys/bus/nvmem/devices/nvram0/nvmem", config.as_bytes()),
            ("proc/device-tree/serial-number", b"0123456789abcdef\0"),
        ];
        for (path, bytes) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
    }

    #[test]
    fn a_pi_5_is_described_line_by_line() {
        let root = std::env::temp_dir().join(format!("lifeboot-eeprom-{}", std::process::id()));
        pi5(&root);
        let mut mailbox = Scripted {
            answers: vec![(GET_REBOOT_ORDER, vec![0xf2])],
            ..Scripted::default()
        };
        let bootloader = Bootloader::of(&Board::below(&root), Some(&mut mailbox));
        fs::remove_dir_all(&root).unwrap();
        let expected = "\
Board:        Raspberry Pi 5 Model B Rev 1.0
Revision:     d04170: Raspberry Pi 5, revision 1.0, 8 GiB, BCM2712, made by Sony UK
Bootloader:   2025-05-08 14:13:17 UTC, version 0123abcd
Started from: 2 network by TFTP
Power supply: 5000 mA
Secure boot:  SIGNED_BOOT is configured, the owner's key is burnt into the chip
Boot order:   0xf461, read from the right: 1 SD card or eMMC, then 6 NVMe disk, then 4 USB disk, then f from the beginning again
              [gpio8=0] 0xf7: 7 network by HTTP, then f from the beginning again
Next start:   0xf2: 2 network by TFTP, then f from the beginning again
Configuration:
  [all]
  BOOT_UART=1
  BOOT_ORDER=0xf461
  NETCONSOLE=6665@10.0.0.1/
  [gpio8=0]
  BOOT_ORDER=0xf7";
        assert_eq!(bootloader.lines().join("\n"), expected);
    }

    #[test]
    fn what_is_not_told_is_left_out_and_a_missing_configuration_says_why() {
        let bootloader = Bootloader::of(
            &Board::below(Path::new("/nowhere")),
            Some(&mut Scripted::default()),
        );
        assert_eq!(
            bootloader.lines(),
            ["Configuration: not known: the device tree has no alias blconfig"]
        );
        assert_eq!(secure_boot(0), "off");
    }
}
