//! The kernel command line an output carries: the board's consoles, then the owner's words, checked by the device's own reading of them.

use anyhow::{Context, Result, bail, ensure};
use lifeboot_contract::config::Config;
use lifeboot_contract::plan::Plan;

use crate::public;

/// `COMMAND_LINE_SIZE` of arm64 and x86, less the NUL at the end: what is longer the kernel cuts off.
const LONGEST: usize = 2047;

/// One line, without an end of line.
pub fn of(consoles: &[String], words: Option<&str>) -> Result<String> {
    // The kernel's /dev/console is the last one named; the important console comes first in a board file.
    let mut line: Vec<String> = consoles
        .iter()
        .rev()
        .map(|name| format!("console={name}"))
        .collect();
    if let Some(words) = words {
        check(words)?;
        line.extend(words.split_whitespace().map(str::to_owned));
    }
    let line = line.join(" ");
    ensure!(
        line.len() <= LONGEST,
        "the kernel command line has {} bytes, a kernel reads {LONGEST}",
        line.len()
    );
    Ok(line)
}

/// Words the device would not take, or not as they are meant, are refused here rather than at a console far away.
fn check(words: &str) -> Result<()> {
    if let Some(odd) = words
        .chars()
        .find(|odd| !odd.is_ascii() || odd.is_ascii_control())
    {
        bail!("--cmdline: {odd:?} cannot be in a kernel command line");
    }
    if !words.matches('"').count().is_multiple_of(2) {
        bail!("--cmdline: a quotation mark is not closed");
    }
    public::without_secret(words).context("--cmdline")?;
    let plan = Plan::make(words, &Config::default(), Default::default(), "");
    if let Some(refusal) = plan.refusal {
        bail!("--cmdline: {refusal}");
    }
    if let Some(note) = plan.notes.first() {
        bail!("--cmdline: {}: {}", note.key, note.what);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::Board;
    use crate::kernel::Kernel;

    #[test]
    fn the_important_console_is_the_last_one_named() {
        let pi3 = Board::load("pi3", None).unwrap();
        let line = of(&pi3.consoles, Some("  rd.break=fetch   quiet ")).unwrap();
        let important = &pi3.consoles[0];
        assert!(
            line.ends_with(&format!(" console={important} rd.break=fetch quiet")),
            "{line}"
        );
    }

    #[test]
    fn the_mini_uart_has_the_name_that_the_kernel_gives_it() {
        let pi4 = Board::load("pi4", None).unwrap();
        let line = |release: &str| {
            let kernel = Kernel {
                release: release.to_owned(),
                file: String::new(),
                modules: String::new(),
            };
            of(pi4.consoles_of(&kernel), None).unwrap()
        };
        assert_eq!(
            line("7.2.12+deb13-arm64"),
            "console=ttyS1,115200 console=ttyAMA0,115200"
        );
        assert_eq!(line("6.12.47+rpt-rpi-v8"), "console=serial0,115200");
    }

    #[test]
    fn what_a_device_would_not_take_is_refused() {
        let board = Board::load("virt-arm64", None).unwrap();
        for (words, why) in [
            ("lifeboot.verfy=off", "lifeboot.verfy"),
            ("a\nb", "'\\n' cannot be in a kernel command line"),
            ("root=é", "cannot be in"),
            ("rd.break=fetch a=\"b c", "a quotation mark is not closed"),
            (&"a".repeat(3000), "a kernel reads 2047"),
        ] {
            let error = of(&board.consoles, Some(words)).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        of(&board.consoles, Some("a=\"b c\" quiet")).unwrap();
    }
}
