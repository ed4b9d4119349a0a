//! What is on one device, found out in a process of its own: a disk that does not answer holds up that process and nobody else.
//!
//! There is no udev in the image, so nothing has been looked at before. `blkid` knows file systems and partition tables; what it
//! does not say is why it found nothing, and whether both copies of a GPT are whole.

use super::gpt::{self, Gpt};
use super::md;
use crate::{output, tool};
use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::process::{Command, ExitCode, Output};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The word after `rescue`.
pub const WORD: &str = "look-at";

/// How long a device may take to answer. Only what hangs takes so long, but an emulated machine with one processor is slow, too.
const PATIENCE: Duration = Duration::from_secs(8);
/// How many are looked at together: more would wait for the processor and seem to hang.
const TOGETHER: usize = 4;

/// blkid: several signatures contradict each other, see blkid(8).
const AMBIVALENT: i32 = 8;

/// What is on a device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    pub fs: Option<String>,
    pub label: Option<String>,
    pub uuid: Option<String>,
    pub partlabel: Option<String>,
    pub partuuid: Option<String>,
    pub table: Option<String>,
    pub gpt: Option<Gpt>,
    pub raid: Option<md::Told>,
    /// Why not more is known.
    pub trouble: Option<String>,
}

/// Looks at the device named in `words` and prints what blkid would not have told, for [`at`].
///
/// # Errors
/// When no device is named; what is wrong with it is part of what is found.
pub fn run(words: &[OsString]) -> anyhow::Result<ExitCode> {
    let seen = match words {
        [device] => examine(&device.to_string_lossy()),
        [device, _member] => Seen {
            raid: md::told(&device.to_string_lossy()),
            ..Seen::default()
        },
        _ => bail!("{WORD}: one device"),
    };
    output::line(&serde_json::to_string(&seen).context("what was seen")?)?;
    Ok(ExitCode::SUCCESS)
}

/// Looks at every device, several at a time.
pub fn at(devices: &[String]) -> Vec<Seen> {
    let next = AtomicUsize::new(0);
    let seen = Mutex::new(vec![Seen::default(); devices.len()]);
    std::thread::scope(|scope| {
        for _ in 0..TOGETHER.min(devices.len()) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(device) = devices.get(index) else { break };
                    let one = from_afar(device);
                    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                    if let Some(place) = seen.get_mut(index) {
                        *place = one;
                    }
                }
            });
        }
    });
    seen.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn from_afar(device: &str) -> Seen {
    let mut seen = Seen::default();
    let known = blkid(device).and_then(|command| tool::run_within(command, PATIENCE));
    let done = match known {
        Ok(ended) => seen.judge(&ended),
        Err(error) => {
            seen.trouble = Some(late(&error));
            true
        }
    };
    // What blkid does not tell of is found out in a process too.
    let is_member = seen.fs.as_deref() == Some(md::MEMBER);
    if !done || is_member {
        let words = [WORD, device].into_iter().chain(is_member.then_some(md::MEMBER));
        let looked = std::env::current_exe()
            .context("rescue")
            .and_then(|program| tool::run_within(tool::command(&program.to_string_lossy(), words), PATIENCE))
            .and_then(|ended| serde_json::from_slice(&ended.stdout).context("look"));
        match looked {
            Ok(more) => seen.add(more),
            Err(error) => seen.trouble = Some(late(&error)),
        }
    }
    seen
}

fn late(error: &anyhow::Error) -> String {
    match error.is::<tool::Late>() {
        true => format!("did not answer within {} s", PATIENCE.as_secs()),
        false => format!("could not be looked at: {error:#}"),
    }
}

fn blkid(device: &str) -> anyhow::Result<Command> {
    if tool::place("blkid").is_none() {
        bail!("blkid is not in this image: build it with feature disks");
    }
    Ok(tool::command("blkid", ["--probe", "--output", "export", device]))
}

/// What blkid does not tell.
fn examine(device: &str) -> Seen {
    let mut seen = Seen::default();
    let mut disk = match File::open(device) {
        Ok(disk) => disk,
        Err(error) => {
            seen.trouble = Some(format!("cannot be opened: {error}"));
            return seen;
        }
    };
    if let Err(error) = disk.read_exact_at(&mut [0; 512], 0) {
        seen.trouble = Some(format!("its beginning cannot be read: {error}"));
        return seen;
    }
    match gpt::read(&mut disk, device) {
        Ok(Some(table)) => {
            seen.table = Some("gpt".to_owned());
            seen.gpt = Some(table.state);
        }
        Ok(None) => {}
        Err(error) => seen.trouble = Some(format!("cannot be read: {error:#}")),
    }
    seen
}

impl Seen {
    /// Takes over what blkid told. Whether that is all there is to know: a file system that fills the disk leaves no room for a
    /// partition table, and one found behind it is of an earlier life.
    fn judge(&mut self, ended: &Output) -> bool {
        self.learn(&ended.stdout);
        let ambivalent = ended.status.code() == Some(AMBIVALENT);
        if ambivalent {
            self.trouble =
                Some("signatures of more than one file system, so none can be relied on".to_owned());
        }
        ambivalent || self.fs.is_some()
    }

    /// Takes over what [`examine`] found. A partition has no table of its own, nor has a member of a RAID.
    fn add(&mut self, more: Seen) {
        if self.fs.is_none() && self.partuuid.is_none() {
            self.table = more.table.or(self.table.take());
            self.gpt = more.gpt;
        }
        self.raid = more.raid;
        self.trouble = more.trouble;
    }

    /// Reads `NAME=value` lines in which what is special to a shell has a backslash before it.
    fn learn(&mut self, said: &[u8]) {
        for line in String::from_utf8_lossy(said).lines() {
            let Some((name, value)) = line.split_once('=') else {
                continue;
            };
            let place = match name {
                "TYPE" => &mut self.fs,
                "LABEL" => &mut self.label,
                "UUID" => &mut self.uuid,
                "PART_ENTRY_NAME" => &mut self.partlabel,
                "PART_ENTRY_UUID" => &mut self.partuuid,
                "PTTYPE" => &mut self.table,
                _ => continue,
            };
            *place = Some(plain(value)).filter(|text| !text.is_empty());
        }
    }
}

/// Without backslashes. What a terminal would take for an order is shown as a question mark: labels are strangers' words.
fn plain(value: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = value.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        let hex = after
            .get(1..3)
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (first, after.first(), hex) {
            (b'\\', Some(b'x'), Some(byte)) => {
                bytes.push(byte);
                rest = after.get(3..).unwrap_or_default();
            }
            (b'\\', Some(escaped), _) => {
                bytes.push(*escaped);
                rest = after.get(1..).unwrap_or_default();
            }
            _ => bytes.push(*first),
        }
    }
    String::from_utf8_lossy(&bytes)
        .trim()
        .chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_blkid_says_is_read_back_as_it_is_on_the_disk() {
        let mut seen = Seen::default();
        seen.learn(b"DEVNAME=/dev/vda1\nLABEL=my\\ disk\\'s\\x20\nUUID=u-1\nTYPE=ext4\nnonsense\nPART_ENTRY_NAME=EFI\\ System\nPART_ENTRY_UUID=p-1\nPTTYPE=\n");
        let expected = Seen {
            fs: Some("ext4".into()),
            label: Some("my disk's".into()),
            uuid: Some("u-1".into()),
            partlabel: Some("EFI System".into()),
            partuuid: Some("p-1".into()),
            ..Seen::default()
        };
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_label_cannot_talk_to_the_terminal() {
        assert_eq!(plain("\\x1b[2J\u{9b}x"), "?[2J?x");
        for hostile in ["\\", "\\x", "\\x1", "\\xzz", "a\\"] {
            assert!(!plain(hostile).chars().any(char::is_control), "{hostile}");
        }
    }

    #[test]
    fn a_device_that_is_not_there_is_trouble_and_no_crash() {
        let seen = examine("/nonexistent/device");
        assert!(seen.trouble.unwrap().starts_with("cannot be opened"));
    }
}
