//! `BOOT_ORDER`: a hexadecimal number whose digits are boot modes, the lowest tried first. Written by hand it is easily turned round;
//! here modes are named in the order they are tried.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};

/// Digit, name, and what it does; Raspberry Pi's documentation of BOOT_ORDER.
const MODES: [(u8, &str, &str); 8] = [
    (0x1, "sd", "SD card or eMMC"),
    (0x2, "network", "network by TFTP"),
    (0x3, "rpiboot", "USB device mode for rpiboot"),
    (0x4, "usb", "USB disk"),
    (0x6, "nvme", "NVMe disk"),
    (0x7, "http", "network by HTTP"),
    (0xe, "stop", "stop and wait for the power to be cut"),
    (0xf, "restart", "from the beginning again"),
];

/// Modes in the order they are tried.
#[derive(Debug)]
pub struct Order(Vec<(u8, &'static str, &'static str)>);

impl FromStr for Order {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut modes = Vec::new();
        for name in text.split(',').map(str::trim) {
            let known = || MODES.map(|(_, name, _)| name).join(" ");
            let mode = MODES.iter().find(|(_, known, _)| *known == name);
            modes.push(*mode.with_context(|| format!("unknown mode '{name}'; known are {}", known()))?);
        }
        // The number has 32 bits.
        ensure!(
            modes.len() <= 8,
            "{} modes, a boot order has at most 8",
            modes.len()
        );
        let ends = |mode: &(u8, &str, &str)| mode.0 >= 0xe;
        if let Some(at) = modes.iter().position(ends)
            && at + 1 < modes.len()
        {
            bail!(
                "what follows {} is never tried",
                modes.get(at).map_or("", |mode| mode.1)
            );
        }
        ensure!(!modes.first().is_some_and(ends), "nothing is tried");
        Ok(Self(modes))
    }
}

impl Order {
    /// Whether a mode is among them.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|mode| mode.1 == name)
    }

    /// In words, the first tried first.
    pub fn words(&self) -> String {
        let words: Vec<String> = self
            .0
            .iter()
            .map(|(digit, _, what)| format!("{digit:x} {what}"))
            .collect();
        words.join(", then ")
    }
}

impl fmt::Display for Order {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        write!(formatter, "0x")?;
        self.0
            .iter()
            .rev()
            .try_for_each(|mode| write!(formatter, "{:x}", mode.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_mode_is_the_last_digit() {
        for (text, number) in [
            ("network,sd,restart", "0xf12"),
            ("http,sd,restart", "0xf17"),
            ("sd,http,restart", "0xf71"),
            ("http,restart", "0xf7"),
            ("sd,network", "0x21"),
            ("sd, usb ,nvme,stop", "0xe641"),
        ] {
            assert_eq!(text.parse::<Order>().unwrap().to_string(), number);
        }
    }

    #[test]
    fn it_is_explained_in_the_order_it_is_tried() {
        let order: Order = "http,sd,restart".parse().unwrap();
        assert_eq!(
            order.words(),
            "7 network by HTTP, then 1 SD card or eMMC, then f from the beginning again"
        );
    }

    #[test]
    fn orders_that_cannot_work_are_refused() {
        for (text, why) in [
            ("cd", "unknown mode 'cd'; known are sd network"),
            ("", "unknown mode ''"),
            ("restart,sd", "what follows restart is never tried"),
            ("stop", "nothing is tried"),
            (
                "sd,sd,sd,sd,sd,sd,sd,sd,sd",
                "9 modes, a boot order has at most 8",
            ),
        ] {
            let error = text.parse::<Order>().unwrap_err().to_string();
            assert!(error.starts_with(why), "{error}");
        }
    }
}
