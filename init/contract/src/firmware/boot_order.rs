//! `BOOT_ORDER`: a hexadecimal number whose digits are boot modes, the lowest tried first. Written by hand it is easily turned round;
//! here modes are named in the order they are tried.
//!
//! Source: Raspberry Pi's documentation of BOOT_ORDER.

use std::fmt;
use std::str::FromStr;

/// A way to boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mode {
    /// Its digit in a boot order.
    pub digit: u8,
    /// Its name in our commands; empty for one that is only read.
    pub name: &'static str,
    /// What it does.
    pub what: &'static str,
}

const fn mode(digit: u8, name: &'static str, what: &'static str) -> Mode {
    Mode { digit, name, what }
}

/// Every mode that is documented; those without a name are not offered.
const MODES: [Mode; 10] = [
    mode(0x0, "", "SD card, waiting for one to be put in"),
    mode(0x1, "sd", "SD card or eMMC"),
    mode(0x2, "network", "network by TFTP"),
    mode(0x3, "rpiboot", "USB device mode for rpiboot"),
    mode(0x4, "usb", "USB disk"),
    mode(0x5, "", "USB disk at the chip's own port"),
    mode(0x6, "nvme", "NVMe disk"),
    mode(0x7, "http", "network by HTTP"),
    mode(0xe, "stop", "stop and wait for the power to be cut"),
    mode(0xf, "restart", "from the beginning again"),
];

/// The number has 32 bits.
const MOST: usize = 8;

/// The mode of a digit.
pub fn of_digit(digit: u8) -> Mode {
    let known = MODES.into_iter().find(|mode| mode.digit == digit);
    known.unwrap_or(mode(digit, "", "a mode that is not documented"))
}

/// Modes in the order they are tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order(Vec<Mode>);

/// Why a list of modes is no order.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// A name nobody knows.
    #[error("unknown mode '{0}'; known are {known}", known = names())]
    Unknown(String),
    /// Nine and more.
    #[error("{0} modes, a boot order has at most {MOST}")]
    TooMany(usize),
    /// Behind an end.
    #[error("what follows {0} is never tried")]
    Unreachable(&'static str),
    /// An end alone.
    #[error("nothing is tried")]
    Nothing,
}

fn names() -> String {
    let names: Vec<&str> = MODES
        .iter()
        .map(|mode| mode.name)
        .filter(|name| !name.is_empty())
        .collect();
    names.join(" ")
}

impl Mode {
    fn ends(&self) -> bool {
        self.digit >= 0xe
    }
}

impl FromStr for Order {
    type Err = OrderError;

    fn from_str(text: &str) -> Result<Self, OrderError> {
        let mut modes = Vec::new();
        for name in text.split(',').map(str::trim) {
            let known = MODES
                .into_iter()
                .find(|mode| !name.is_empty() && mode.name == name);
            modes.push(known.ok_or_else(|| OrderError::Unknown(name.to_owned()))?);
        }
        if modes.len() > MOST {
            return Err(OrderError::TooMany(modes.len()));
        }
        let end = modes.iter().position(Mode::ends);
        match end {
            Some(0) if modes.len() == 1 => Err(OrderError::Nothing),
            Some(at) if at + 1 < modes.len() => Err(OrderError::Unreachable(
                modes.get(at).map_or("", |mode| mode.name),
            )),
            _ => Ok(Self(modes)),
        }
    }
}

impl Order {
    /// The order that a number means. Zeros above the highest digit are not told from "SD card, waiting", which nobody writes last.
    pub fn of_number(number: u32) -> Order {
        let mut rest = number;
        let mut modes = Vec::new();
        while rest != 0 || modes.is_empty() {
            modes.push(of_digit((rest & 0xf) as u8));
            rest >>= 4;
        }
        Order(modes)
    }

    /// The order that stands in a configuration: `0xf41` or, as the bootloader takes it too, `f41`.
    pub fn of_text(text: &str) -> Option<Order> {
        let text = text.trim();
        let digits = text
            .strip_prefix("0x")
            .or_else(|| text.strip_prefix("0X"))
            .unwrap_or(text);
        let number = u32::from_str_radix(digits, 16).ok();
        number
            .filter(|_| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
            .map(Order::of_number)
    }

    /// The number.
    pub fn number(&self) -> u32 {
        self.0
            .iter()
            .rev()
            .fold(0, |number, mode| number << 4 | u32::from(mode.digit))
    }

    /// These modes first, then this order as far as there is room and without what was named already.
    #[must_use]
    pub fn preceded_by(&self, first: &[Mode]) -> Order {
        let rest = self.0.iter().filter(|mode| !first.contains(mode));
        let mut modes: Vec<Mode> = first.iter().chain(rest).copied().collect();
        modes.truncate(MOST);
        Order(modes)
    }

    /// The modes, the first tried first.
    pub fn modes(&self) -> &[Mode] {
        &self.0
    }

    /// Whether a mode is among them.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|mode| mode.name == name)
    }

    /// In words, the first tried first.
    pub fn words(&self) -> String {
        let words: Vec<String> = self
            .0
            .iter()
            .map(|mode| format!("{:x} {}", mode.digit, mode.what))
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
            .try_for_each(|mode| write!(formatter, "{:x}", mode.digit))
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
            let order = text.parse::<Order>().unwrap();
            assert_eq!(order.to_string(), number);
            assert_eq!(Order::of_text(number), Some(order.clone()));
            assert_eq!(Order::of_number(order.number()), order);
        }
    }

    #[test]
    fn it_is_explained_in_the_order_it_is_tried() {
        let order: Order = "http,sd,restart".parse().unwrap();
        assert_eq!(
            order.words(),
            "7 network by HTTP, then 1 SD card or eMMC, then f from the beginning again"
        );
        let odd = Order::of_text("f9").unwrap();
        assert_eq!(
            odd.words(),
            "9 a mode that is not documented, then f from the beginning again"
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

    #[test]
    fn a_mode_for_once_comes_before_the_usual_ones() {
        let usual = Order::of_number(0xf461);
        let once = |digit| usual.preceded_by(&[of_digit(digit)]).to_string();
        assert_eq!((once(2), once(4)), ("0xf4612".into(), "0xf614".into()));
        let full = Order::of_number(0xf765_4321);
        assert_eq!(full.preceded_by(&[of_digit(0)]).modes().len(), 8);
    }

    #[test]
    fn what_is_no_number_is_no_order() {
        for text in ["", "0x", "0xg", "0x123456789", "-1", "+f1", "0x+1"] {
            assert_eq!(Order::of_text(text), None, "{text}");
        }
        assert_eq!(Order::of_text("0"), Some(Order::of_number(0)));
    }
}
