//! What was written down: lifeboot's events, the kernel's log, and what a kernel that crashed has left.

use super::Told;
use crate::net;
use crate::{cut, machine};
use anyhow::Context as _;
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};
use serde_json::{Map, Value, json};
use std::fs;
use std::path::Path;

const MOST_EVENTS: usize = 1000;
/// Of a log the end matters.
const MOST_LINES: usize = 1500;
const MOST_CRASH_BYTES: usize = 64 * 1024;
const PSTORE: &str = "sys/fs/pstore";

/// What a line of the kernel's log says when something is wrong; the first that fits.
const SIGNS: [(&str, &str); 15] = [
    ("nder-voltage detected", "under-voltage"),
    ("ndervoltage detected", "under-voltage"),
    ("Out of memory: Killed", "a process was killed for want of memory"),
    ("oom-kill:", "a process was killed for want of memory"),
    ("emounting filesystem read-only", "a file system became read-only"),
    ("EXT4-fs error", "a file system is damaged"),
    ("BTRFS error", "a file system is damaged"),
    ("XFS", "a file system is damaged"),
    ("F2FS-fs", "a file system is damaged"),
    ("I/O error", "a disk does not read or write"),
    ("medium error", "a disk does not read or write"),
    ("blocked for more than", "a process hangs"),
    ("soft lockup", "the processor hung"),
    ("Oops", "the kernel stumbled"),
    ("kernel BUG at", "the kernel stumbled"),
];
/// Both have harmless lines too; these words make them a sign.
const BAD_XFS: [&str; 4] = ["orruption", "rror", "Shutting down", "hutdown"];

/// Lifeboot's own account.
pub fn events() -> anyhow::Result<Told> {
    let events = net::events()?;
    let last = events
        .get(events.len().saturating_sub(MOST_EVENTS)..)
        .unwrap_or_default();
    let facts = json!({ "events": serde_json::to_value(last).context("events")? });
    Ok(Told {
        warnings: Vec::new(),
        facts,
    })
}

/// The kernel's log.
pub fn kernel() -> anyhow::Result<Told> {
    let lines = kmsg(Path::new("/dev/kmsg")).context("/dev/kmsg")?;
    let last = lines
        .get(lines.len().saturating_sub(MOST_LINES)..)
        .unwrap_or_default();
    Ok(Told {
        warnings: signs(&lines),
        facts: json!({ "log": last.join("\n") }),
    })
}

/// Every record the kernel still has, `[   12.345678] text`. Each read gives one (the kernel's Documentation/ABI/testing/dev-kmsg).
fn kmsg(path: &Path) -> Result<Vec<String>, Errno> {
    let file = open(
        path,
        OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let mut buffer = vec![0; 8192];
    let mut lines = Vec::new();
    loop {
        match rustix::io::read(&file, &mut buffer[..]) {
            Ok(0) | Err(Errno::AGAIN) => return Ok(lines),
            Ok(length) => lines.extend(record(buffer.get(..length).unwrap_or_default())),
            // Records were overwritten while this was read, or one is longer than the buffer.
            Err(Errno::PIPE | Errno::INVAL | Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}

/// `PRIORITY,NUMBER,MICROSECONDS,FLAGS;TEXT`, then lines that begin with a blank.
fn record(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    let (head, text) = text.split_once(';')?;
    let microseconds: u64 = head.split(',').nth(2)?.parse().ok()?;
    let text = cut::log_line(text.lines().next().unwrap_or_default());
    Some(format!(
        "[{:>5}.{:06}] {text}",
        microseconds / 1_000_000,
        microseconds % 1_000_000
    ))
}

/// What is wrong by the kernel's account: each kind once, with how often and the last line of it.
fn signs(lines: &[String]) -> Vec<String> {
    let mut found: Vec<(&str, usize, &String)> = Vec::new();
    for line in lines {
        let fits = |(sign, _): &&(&str, &str)| {
            let bad = !matches!(*sign, "XFS" | "F2FS-fs") || BAD_XFS.iter().any(|word| line.contains(word));
            line.contains(*sign) && bad
        };
        let Some((_, meaning)) = SIGNS.iter().find(fits) else {
            continue;
        };
        match found.iter_mut().find(|(known, ..)| known == meaning) {
            Some((_, count, last)) => {
                *count += 1;
                *last = line;
            }
            None => found.push((meaning, 1, line)),
        }
    }
    let sentence = |(meaning, count, last): (&str, usize, &String)| {
        let often = if count == 1 {
            String::new()
        } else {
            format!(" ({count} lines)")
        };
        format!("{meaning}{often}: {}", last.trim())
    };
    found.into_iter().map(sentence).collect()
}

/// What a kernel left that crashed.
pub fn pstore() -> anyhow::Result<Told> {
    let dir = machine::root().join(PSTORE);
    let mut facts = Map::new();
    let is_empty = |dir: &Path| fs::read_dir(dir).map(|mut files| files.next().is_none());
    if is_empty(&dir).context("pstore: this kernel has it not")? && machine::root() == Path::new("/") {
        // Drivers that keep it: memory set aside (a Pi's ramoops), UEFI variables. Where a kernel has neither, nothing is found.
        for module in ["ramoops", "efi_pstore"] {
            let (_, _said) = lifeboot_init::modules::modprobe(&[module.to_owned()]);
        }
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        match mount("pstore", &dir, "pstore", flags, c"") {
            // Busy: it is mounted and empty.
            Ok(()) | Err(Errno::BUSY) => {}
            Err(error) => drop(facts.insert("error".to_owned(), json!(format!("pstore: {error}")))),
        }
    }
    let mut names: Vec<String> = fs::read_dir(&dir)?
        .flatten()
        .map(|file| file.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    for name in &names {
        let bytes = fs::read(dir.join(name)).with_context(|| name.clone())?;
        let end = bytes
            .get(bytes.len().saturating_sub(MOST_CRASH_BYTES)..)
            .unwrap_or_default();
        let text = String::from_utf8_lossy(end);
        let lines: Vec<String> = text.lines().map(cut::log_line).collect();
        facts.insert(name.clone(), json!(lines.join("\n")));
    }
    let warnings = match names.len() {
        0 => Vec::new(),
        count => vec![format!(
            "a kernel crashed before this one: {count} file(s) in pstore, see there"
        )],
    };
    if facts.is_empty() {
        facts.insert("files".to_owned(), json!("none"));
    }
    Ok(Told {
        warnings,
        facts: Value::Object(facts),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_a_line_and_secrets_of_the_command_line_are_cut() {
        let line = record(b"6,12,3456789,-;eth0: up\n SUBSYSTEM=net\n").unwrap();
        assert_eq!(line, "[    3.456789] eth0: up");
        let line =
            record(b"5,1,0,-;Kernel command line: quiet lifeboot.x-password=geheim root=http://a:b@h/")
                .unwrap();
        assert_eq!(
            line,
            "[    0.000000] Kernel command line: quiet lifeboot.x-password=(cut) root=http://(cut)@h/"
        );
        let line =
            record(b"5,1,0,-;Unknown kernel command line parameters \"wifi_password=geheim\"").unwrap();
        assert!(line.ends_with("wifi_password=(cut)"), "{line}");
        for odd in [&b""[..], b";", b"a,b,c;d", b"1,2;x", b"\xff\xff"] {
            assert_eq!(record(odd), None);
        }
    }

    #[test]
    fn what_is_wrong_by_the_kernels_log_is_said_once_with_the_last_line() {
        let lines = [
            "[1.0] blk_update_request: I/O error, dev sda, sector 1",
            "[2.0] blk_update_request: I/O error, dev sda, sector 2",
            "[3.0] EXT4-fs (sda1): Remounting filesystem read-only",
            "[4.0] Out of memory: Killed process 7 (tar)",
            "[5.0] hwmon hwmon1: Undervoltage detected!",
            "[6.0] XFS (sda2): Mounting V5 Filesystem",
            "[7.0] eth0: link up",
        ]
        .map(str::to_owned);
        assert_eq!(
            signs(&lines),
            [
                "a disk does not read or write (2 lines): [2.0] blk_update_request: I/O error, dev sda, sector 2",
                "a file system became read-only: [3.0] EXT4-fs (sda1): Remounting filesystem read-only",
                "a process was killed for want of memory: [4.0] Out of memory: Killed process 7 (tar)",
                "under-voltage: [5.0] hwmon hwmon1: Undervoltage detected!",
            ]
        );
        assert_eq!(
            signs(&["[1.0] XFS (sda2): Metadata corruption detected".to_owned()]).len(),
            1
        );
    }
}
