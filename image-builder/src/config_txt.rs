//! `config.txt`: the board's lines, the owner's, and those that follow from the files beside it.
//!
//! The firmware lets a later line win, so the owner's lines come after the board's and those they replace are left out. Comments are
//! few: a bootloader of the Pi 5 did not start with a large config.txt (raspberrypi/firmware#1848).

use std::path::Path;

use anyhow::{Result, bail, ensure};

use crate::board::ConfigTxt;
use crate::public;

/// No boot loader was reported to read less; a Raspberry Pi engineer and meta-raspberrypi#1255 name it.
const LIMIT: usize = 4096;
/// Where the initramfs goes: behind the kernel, as the firmware works out.
const ADDRESS: &str = "followkernel";

/// What the generated lines name.
#[derive(Debug)]
pub struct Names<'a> {
    pub kernel: &'a str,
    pub initramfs: &'a str,
    /// Whether the kernel is not Raspberry Pi's own.
    pub mainline: bool,
}

/// A finished config.txt.
#[derive(Debug)]
pub struct Merged {
    pub text: String,
    /// What the owner should hear of.
    pub notes: Vec<String>,
    /// Overlays that its lines name.
    pub overlays: Vec<String>,
}

/// A line that sets something: the word before `=`, or the `initramfs` that has none.
fn key(line: &str) -> Option<&str> {
    let line = line.trim();
    if line.starts_with('#') || line.starts_with('[') {
        return None;
    }
    match line.split_once('=') {
        Some((key, _)) => Some(key.trim()),
        None => line.split_whitespace().next(),
    }
}

/// Keys that may stand there many times, each adding to the ones before.
fn adds_up(key: &str) -> bool {
    matches!(
        key,
        "dtoverlay" | "dtparam" | "gpio" | "device_tree_overlay" | "include"
    )
}

/// Puts the board's and the owner's lines together.
pub fn merge(board: &ConfigTxt, names: &Names, owner: Option<(&Path, &str)>) -> Result<Merged> {
    let mut notes = Vec::new();
    let (source, text) = owner.map_or(("", ""), |(path, text)| {
        (path.to_str().unwrap_or("config.txt"), text)
    });
    let lines = owner_lines(text, names, source, &mut notes)?;
    let extra = board.mainline.iter().filter(|_| names.mainline);
    let generated = [
        format!("kernel={}", names.kernel),
        format!("initramfs {} {ADDRESS}", names.initramfs),
    ];
    let ours = board.lines.iter().chain(extra).map(|(line, _)| line.as_str());
    // A line of the owner's under a filter is for some boards only, so it replaces nothing.
    let unfiltered = lines.iter().take_while(|line| !line.starts_with('['));
    let replaced: Vec<&str> = unfiltered
        .filter_map(|line| key(line))
        .filter(|key| !adds_up(key))
        .collect();
    let mut merged = vec!["# Made by lifeboot's image-builder."];
    for line in ours.chain(generated.iter().map(String::as_str)) {
        match key(line) {
            Some(_) if lines.contains(&line) => {}
            Some(key) if replaced.contains(&key) => {
                notes.push(format!("{source}: {key} in place of '{line}'"))
            }
            _ => merged.push(line),
        }
    }
    if !lines.is_empty() {
        if merged.iter().any(|line| line.starts_with('[')) {
            merged.push("[all]");
        }
        merged.push("# The owner's lines.");
        merged.extend(&lines);
    }
    let overlays = merged.iter().filter_map(|line| overlay(line)).collect();
    let mut text = merged.join("\n");
    text.push('\n');
    if text.len() > LIMIT {
        notes.push(format!(
            "config.txt: {} bytes; over {LIMIT} some boot loaders were seen not to start",
            text.len()
        ));
    }
    Ok(Merged {
        text,
        notes,
        overlays,
    })
}

/// The owner's lines without comments and blanks; what cannot work is refused, what is at odds with the image is noted.
fn owner_lines<'a>(
    text: &'a str,
    names: &Names,
    source: &str,
    notes: &mut Vec<String>,
) -> Result<Vec<&'a str>> {
    let mut lines = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let place = format!("{source}: line {}", index + 1);
        ensure!(
            line.is_ascii() && !line.bytes().any(|byte| byte.is_ascii_control()),
            "{place}: not plain text"
        );
        ensure!(
            line.starts_with('[') == line.ends_with(']'),
            "{place}: '{line}' is half a filter"
        );
        let value = line.split_once('=').map(|(_, value)| value.trim());
        match (key(line), value) {
            (Some("kernel"), Some(value)) if value != names.kernel => {
                notes.push(format!(
                    "{place}: kernel={value}, but the image's kernel is {}",
                    names.kernel
                ));
            }
            (Some("initramfs" | "ramfsfile"), value) => {
                let named = value
                    .or_else(|| line.split_whitespace().nth(1))
                    .unwrap_or_default();
                if named != names.initramfs {
                    notes.push(format!(
                        "{place}: {line}, but the image's initramfs is {}",
                        names.initramfs
                    ));
                }
            }
            (Some("initramfs_address"), _) => {}
            (Some("auto_initramfs"), Some("1")) => {
                notes.push(format!(
                    "{place}: auto_initramfs=1 looks for another name than {}",
                    names.initramfs
                ));
            }
            (Some("os_prefix" | "overlay_prefix" | "cmdline"), Some(value)) => {
                notes.push(format!("{place}: {line}: the image has no files under '{value}'"));
            }
            (Some("include"), _) => bail!("{place}: {line}: the image has only this one file of settings"),
            _ => {}
        }
        lines.push(line);
    }
    Ok(lines)
}

/// The overlay that a line loads; `dtoverlay=` alone ends the parameters of the one before.
fn overlay(line: &str) -> Option<String> {
    let (key, value) = line.split_once('=')?;
    let name = value.split([',', ':']).next()?.trim();
    (matches!(key.trim(), "dtoverlay" | "device_tree_overlay") && !name.is_empty()).then(|| {
        name.trim_end_matches(".dtbo")
            .trim_start_matches("overlays/")
            .to_owned()
    })
}

/// Reads the owner's file.
pub fn read(path: &Path) -> Result<String> {
    public::text(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: Names = Names {
        kernel: "kernel8.img",
        initramfs: "initramfs.cpio.zst",
        mainline: true,
    };

    fn board() -> ConfigTxt {
        let line = |line: &str| (line.to_owned(), "why".to_owned());
        ConfigTxt {
            lines: vec![
                line("arm_64bit=1"),
                line("enable_uart=1"),
                line("dtoverlay=disable-bt"),
            ],
            mainline: vec![line("upstream_kernel=1")],
        }
    }

    fn merged(text: &str) -> Merged {
        merge(&board(), &NAMES, Some((Path::new("my.txt"), text))).unwrap()
    }

    #[test]
    fn the_board_alone_gives_its_lines_and_the_files() {
        let merged = merge(&board(), &NAMES, None).unwrap();
        let expected = "# Made by lifeboot's image-builder.\narm_64bit=1\nenable_uart=1\ndtoverlay=disable-bt\n\
                        upstream_kernel=1\nkernel=kernel8.img\ninitramfs initramfs.cpio.zst followkernel\n";
        assert_eq!((merged.text.as_str(), merged.notes.len()), (expected, 0));
        assert_eq!(merged.overlays, ["disable-bt"]);
        let own = merge(
            &board(),
            &Names {
                mainline: false,
                ..NAMES
            },
            None,
        )
        .unwrap();
        assert!(!own.text.contains("upstream_kernel"));
    }

    #[test]
    fn the_owner_wins_and_hears_of_it() {
        let merged =
            merged("enable_uart=0\n# mine\n\ndtoverlay=gpio-poweroff,gpiopin=26\ndtoverlay=disable-wifi:x\n");
        assert!(
            !merged.text.contains("enable_uart=1") && merged.text.ends_with("disable-wifi:x\n"),
            "{}",
            merged.text
        );
        assert_eq!(merged.notes, ["my.txt: enable_uart in place of 'enable_uart=1'"]);
        assert_eq!(merged.overlays, ["disable-bt", "gpio-poweroff", "disable-wifi"]);
    }

    #[test]
    fn a_filtered_line_replaces_nothing() {
        let merged = merged("[pi4]\nenable_uart=0\n");
        assert!(merged.text.contains("enable_uart=1\n"), "{}", merged.text);
        assert!(merged.text.ends_with("[pi4]\nenable_uart=0\n") && merged.notes.is_empty());
    }

    #[test]
    fn a_kernel_or_initramfs_of_the_owners_is_said() {
        for (line, note) in [
            (
                "kernel=vmlinuz",
                "my.txt: line 1: kernel=vmlinuz, but the image's kernel is kernel8.img",
            ),
            (
                "initramfs initrd.img followkernel",
                "my.txt: line 1: initramfs initrd.img followkernel, but the image's initramfs is initramfs.cpio.zst",
            ),
            (
                "auto_initramfs=1",
                "my.txt: line 1: auto_initramfs=1 looks for another name than initramfs.cpio.zst",
            ),
            (
                "os_prefix=new/",
                "my.txt: line 1: os_prefix=new/: the image has no files under 'new/'",
            ),
        ] {
            let notes = merged(line).notes;
            assert_eq!(notes.first().map(String::as_str), Some(note));
        }
        assert_eq!(merged("kernel=kernel8.img").notes.len(), 0);
    }

    #[test]
    fn lines_the_firmware_would_not_read_are_refused_by_number() {
        for (text, why) in [
            ("a=1\n[pi4\n", "my.txt: line 2: '[pi4' is half a filter"),
            ("a=\u{e9}", "my.txt: line 1: not plain text"),
            (
                "a=1\n\ninclude other.txt\n",
                "my.txt: line 3: include other.txt: the image has only this one file of settings",
            ),
        ] {
            let error = merge(&board(), &NAMES, Some((Path::new("my.txt"), text))).unwrap_err();
            assert_eq!(error.to_string(), why);
        }
    }

    #[test]
    fn a_large_file_is_noted() {
        let notes = merged(&"gpio=4=op\n".repeat(500)).notes;
        assert!(notes[0].starts_with("config.txt: 5"), "{notes:?}");
    }
}
