//! What the owner says about the files of the boot loader, checked before anything is built.

use std::path::PathBuf;

use anyhow::{Result, bail, ensure};

use crate::board::Board;
use crate::boot_sig::Signer;
use crate::recipe::Recipe;
use crate::{cmdline, config_txt, replaced};

/// What leaves the firmware room for its own words before ours, out of the 2,048 bytes that arm64 reads; a Pi 4 was seen to put
/// about 400 there.
const CMDLINE: usize = 1536;

/// The owner's wishes.
#[derive(Debug)]
pub struct Options {
    pub signer: Option<Signer>,
    /// Directories of the TFTP tree: serial numbers and MAC addresses as the boot loader asks for them.
    pub prefixes: Vec<String>,
    /// The day of the oldest boot loader to serve, `YYYY-MM-DD`.
    pub bootloader: Option<String>,
    pub disk: Option<PathBuf>,
    pub key_partition: Option<PathBuf>,
    /// The owner's lines, and where they are from.
    pub config_txt: Option<(PathBuf, String)>,
    /// For the kernel command line, behind the consoles.
    pub words: Option<String>,
    pub firmware: bool,
}

impl Options {
    /// What the recipe says; `None` for a board that has another boot loader.
    pub fn of(recipe: &Recipe, board: &Board) -> Result<Option<Self>> {
        if board.boot_img.is_none() {
            return match asked(recipe) {
                Some(flag) => bail!("{flag}: {} has no Raspberry Pi boot loader", board.name),
                None => Ok(None),
            };
        }
        let signer = match (&recipe.boot_key, &recipe.boot_signer) {
            (Some(_), Some(_)) => bail!("--boot-key and --boot-signer: one of them signs"),
            (Some(key), None) => Some(Signer::key(key)?),
            (None, Some(program)) => Some(Signer::Program(program.clone())),
            (None, None) => None,
        };
        ensure!(
            recipe.key_partition.is_none() || recipe.disk.is_some(),
            "--key-partition is for --disk, which is not given"
        );
        if let Some(disk) = &recipe.disk {
            replaced::check(recipe.from_image.as_deref(), disk)?;
        }
        let cmdline = cmdline::of(&board.consoles, recipe.cmdline.as_deref())?;
        ensure!(
            cmdline.len() <= CMDLINE,
            "cmdline.txt: {} bytes; over {CMDLINE} the firmware has no room for its own words",
            cmdline.len()
        );
        let config_txt = recipe.config_txt.clone();
        let config_txt = config_txt.map(|path| config_txt::read(&path).map(|text| (path, text)));
        if let Some(day) = &recipe.bootloader {
            check_day(day)?;
        }
        Ok(Some(Self {
            signer,
            prefixes: prefixes(recipe, board)?,
            bootloader: recipe.bootloader.clone(),
            disk: recipe.disk.clone(),
            key_partition: recipe.key_partition.clone(),
            config_txt: config_txt.transpose()?,
            words: recipe.cmdline.clone(),
            firmware: recipe.firmware.unwrap_or(true),
        }))
    }
}

/// A flag that wants a Raspberry Pi.
fn asked(recipe: &Recipe) -> Option<&'static str> {
    let flags = [
        (recipe.boot_key.is_some(), "--boot-key"),
        (recipe.boot_signer.is_some(), "--boot-signer"),
        (!recipe.serial.is_empty(), "--serial"),
        (!recipe.mac.is_empty(), "--mac"),
        (recipe.disk.is_some(), "--disk"),
        (recipe.key_partition.is_some(), "--key-partition"),
        (recipe.config_txt.is_some(), "--config-txt"),
        (recipe.bootloader.is_some(), "--bootloader"),
    ];
    flags.into_iter().find_map(|(given, flag)| given.then_some(flag))
}

fn prefixes(recipe: &Recipe, board: &Board) -> Result<Vec<String>> {
    let updatable = board.tftp.as_ref().is_some_and(|tftp| tftp.updatable);
    if let Some(mac) = recipe.mac.first().filter(|_| !updatable) {
        bail!(
            "--mac {mac}: the boot loader of {} asks by serial number alone",
            board.name
        );
    }
    let serials = recipe.serial.iter().map(|text| serial(text));
    let mut prefixes: Vec<String> = serials
        .chain(recipe.mac.iter().map(|text| mac(text)))
        .collect::<Result<_>>()?;
    let count = prefixes.len();
    prefixes.sort();
    prefixes.dedup();
    ensure!(
        prefixes.len() == count,
        "--serial and --mac: one of them is given twice"
    );
    Ok(prefixes)
}

/// The last eight digits of a serial number, which is how /proc/cpuinfo shows sixteen of them.
fn serial(text: &str) -> Result<String> {
    let digits = text.trim().to_ascii_lowercase();
    ensure!(
        [8, 16].contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_hexdigit()),
        "--serial {text}: a serial number has 8 hexadecimal digits, or the 16 of /proc/cpuinfo"
    );
    Ok(digits.get(digits.len() - 8..).unwrap_or_default().to_owned())
}

/// `dc-a6-32-01-36-c2`, from that or with colons.
fn mac(text: &str) -> Result<String> {
    let address = text.trim().to_ascii_lowercase().replace(':', "-");
    let octets: Vec<&str> = address.split('-').collect();
    let good = |octet: &&str| octet.len() == 2 && octet.bytes().all(|digit| digit.is_ascii_hexdigit());
    ensure!(
        octets.len() == 6 && octets.iter().all(good),
        "--mac {text}: an address is six pairs of hexadecimal digits"
    );
    Ok(address)
}

fn check_day(day: &str) -> Result<()> {
    let parts: Vec<&str> = day.split('-').collect();
    let good = matches!(parts.as_slice(), [year, month, day] if year.len() == 4 && month.len() == 2 && day.len() == 2)
        && parts.concat().bytes().all(|digit| digit.is_ascii_digit());
    ensure!(good, "--bootloader {day}: a day is written 2025-09-23");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serial_numbers_are_the_directory_the_boot_loader_asks_for() {
        for text in ["9ffefdef", "9FFEFDEF", "100000009ffefdef"] {
            assert_eq!(serial(text).unwrap(), "9ffefdef");
        }
        for text in ["", "9ffefde", "9ffefdeg", "../../ab", "9ffefdef/"] {
            assert!(serial(text).is_err(), "{text}");
        }
    }

    #[test]
    fn addresses_are_the_directory_the_boot_loader_asks_for() {
        for text in ["dc-a6-32-01-36-c2", "DC:A6:32:01:36:C2"] {
            assert_eq!(mac(text).unwrap(), "dc-a6-32-01-36-c2");
        }
        for text in [
            "",
            "dca6320136c2",
            "dc-a6-32-01-36",
            "dc-a6-32-01-36-g2",
            "dc-a6-32-01-36-c2-00",
        ] {
            assert!(mac(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_day_is_a_day() {
        check_day("2025-09-23").unwrap();
        for day in ["2025-9-23", "23.09.2025", "latest", "2025-09-23-1"] {
            assert!(check_day(day).is_err(), "{day}");
        }
    }

    #[test]
    fn what_another_board_cannot_use_is_refused_by_name() {
        let board = Board::load("virt-arm64", None).unwrap();
        let recipe = Recipe {
            serial: vec!["9ffefdef".to_owned()],
            ..Recipe::default()
        };
        let error = Options::of(&recipe, &board).unwrap_err().to_string();
        assert_eq!(error, "--serial: virt-arm64 has no Raspberry Pi boot loader");
        assert!(Options::of(&Recipe::default(), &board).unwrap().is_none());
    }

    #[test]
    fn options_that_contradict_each_other_are_refused() {
        let board = |name| Board::load(name, None).unwrap();
        let refused = |recipe: Recipe, name| Options::of(&recipe, &board(name)).unwrap_err().to_string();
        let both = Recipe {
            boot_key: Some("a".into()),
            boot_signer: Some("b".into()),
            ..Recipe::default()
        };
        assert_eq!(
            refused(both, "pi4"),
            "--boot-key and --boot-signer: one of them signs"
        );
        let keys = Recipe {
            key_partition: Some("a".into()),
            ..Recipe::default()
        };
        assert_eq!(
            refused(keys, "pi4"),
            "--key-partition is for --disk, which is not given"
        );
        let address = Recipe {
            mac: vec!["dc-a6-32-01-36-c2".to_owned()],
            ..Recipe::default()
        };
        assert!(refused(address, "pi3").contains("the boot loader of pi3 asks by serial number alone"));
        let twice = Recipe {
            serial: vec!["9ffefdef".to_owned(), "100000009FFEFDEF".to_owned()],
            ..Recipe::default()
        };
        assert_eq!(
            refused(twice, "pi4"),
            "--serial and --mac: one of them is given twice"
        );
    }
}
