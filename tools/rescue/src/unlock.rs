//! `rescue unlock`: opens LUKS devices with cryptsetup and tells PID 1, so that a boot that waits goes on.
//!
//! The passphrase goes from the terminal or standard input to cryptsetup's standard input and nowhere else: not into
//! arguments, not into the environment, not into a log.

use crate::disks::{self, Disk, LUKS, Luks};
use crate::prompt::{self, Answer, Secret};
use crate::{control, output, tool};
use anyhow::{Context as _, bail};
use argh::FromArgs;
use lifeboot_contract::control::Request;
use lifeboot_contract::plan::{LuksOptions, Plan};
use serde::Serialize;
use std::io::{IsTerminal as _, Write as _, stderr, stdin};
use std::os::fd::AsFd as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Output};

mod memory;

use memory::Memory;

/// How often a person may mistype.
const TRIES: u32 = 3;

/// open a LUKS device with its passphrase
#[derive(Debug, FromArgs)]
#[cfg_attr(test, derive(argh::ArgsInfo))]
#[argh(
    subcommand,
    name = "unlock",
    note = "The passphrase is asked for without echo, or read from standard input when that is no terminal. A boot that waits for the device goes on by itself.",
    example = "The only locked device there is:\n$ {command_name}\nOne of several:\n$ {command_name} /dev/vda2\nFrom a script:\n$ ssh root@device {command_name} UUID=0a3407de-… <passphrase-file\nWith a key file on this machine:\n$ {command_name} --key-file /tmp/key /dev/vda2"
)]
pub struct Unlock {
    /// device, name or UUID=… (default: the one that is locked)
    #[argh(positional)]
    device: Option<String>,
    /// read the key from this file, all of it
    #[argh(option)]
    key_file: Option<PathBuf>,
    /// print JSON
    #[argh(switch)]
    json: bool,
}

/// A LUKS device and how it is to be opened.
#[derive(Debug)]
pub struct Volume {
    /// `/dev/vda2`
    pub device: String,
    /// Name under /dev/mapper.
    pub name: String,
    /// How.
    pub options: LuksOptions,
}

/// With what it is opened.
#[derive(Clone, Copy)]
pub enum Key<'a> {
    /// A passphrase.
    Passphrase(&'a Secret),
    /// All bytes of a file.
    File(&'a Path),
}

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is open.
    Open,
    /// The key fits no slot.
    WrongKey,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report<'a> {
    device: &'a str,
    mapper: String,
    was: &'static str,
}

/// Opens a device.
///
/// # Errors
/// When it could not be opened, or it is not clear which is meant.
pub fn run(options: &Unlock) -> anyhow::Result<ExitCode> {
    let disks = disks::list()?;
    let disk = match &options.device {
        Some(name) => disks::find(&disks, name)?,
        None => match the_locked_one(&disks)? {
            Some(disk) => disk,
            None => return Ok(ExitCode::from(2)),
        },
    };
    match &disk.luks {
        None => bail!(
            "{}: not a LUKS device but {}",
            disk.device,
            disk.fs.as_deref().unwrap_or("without any known content")
        ),
        Some(Luks::Unlocked(mapper)) => {
            done(options, &disk.device, mapper.clone(), "unlocked")?;
            return Ok(ExitCode::SUCCESS);
        }
        Some(Luks::Locked) => {}
    }
    let volume = Volume::of(disk, control::plan(&control::run_dir()).ok().as_ref());
    open_with_patience(&volume, options.key_file.as_deref())?;
    // The passphrase was right and the device is open; that PID 1 cannot be told changes neither.
    if let Err(error) = control::order(&Request::Nudge) {
        output::complain(&format!("rescue: the boot was not told: {error:#}"));
    }
    done(
        options,
        &disk.device,
        format!("/dev/mapper/{}", volume.name),
        "locked",
    )?;
    Ok(ExitCode::SUCCESS)
}

fn done(options: &Unlock, device: &str, mapper: String, was: &'static str) -> anyhow::Result<()> {
    let text = match was {
        _ if options.json => serde_json::to_string(&Report { device, mapper, was }).context("report")?,
        "unlocked" => format!("{device} is already unlocked as {mapper}."),
        _ => format!("{device} is unlocked as {mapper}."),
    };
    Ok(output::line(&text)?)
}

/// The device to ask about when none was named; `None` after saying why it cannot be chosen.
fn the_locked_one(disks: &[Disk]) -> anyhow::Result<Option<&Disk>> {
    let all: Vec<&Disk> = disks
        .iter()
        .filter(|disk| disk.fs.as_deref() == Some(LUKS))
        .collect();
    let locked: Vec<&Disk> = all
        .iter()
        .copied()
        .filter(|disk| disk.luks == Some(Luks::Locked))
        .collect();
    match (locked.as_slice(), all.as_slice()) {
        ([one], _) => Ok(Some(one)),
        ([], []) => bail!("there is no LUKS device; 'rescue disks' shows what is there"),
        ([], [first, ..]) => Ok(Some(first)),
        (several, _) => choose(several),
    }
}

fn choose<'a>(several: &[&'a Disk]) -> anyhow::Result<Option<&'a Disk>> {
    let lines = several.iter().enumerate().map(|(index, disk)| {
        let label = disk.label.as_deref().or(disk.partlabel.as_deref()).unwrap_or("-");
        format!(
            "{:>3}  {}  {}  {label}  UUID={}",
            index + 1,
            disk.device,
            disks::human(disk.size),
            disk.uuid.as_deref().unwrap_or("-")
        )
    });
    output::complain(&format!("{} devices are locked:", several.len()));
    lines.for_each(|line| output::complain(&line));
    if !stdin().is_terminal() {
        output::complain("rescue: say which one: rescue unlock DEVICE");
        return Ok(None);
    }
    write!(stderr(), "Which one (number)? ")?;
    let mut line = String::new();
    stdin().read_line(&mut line)?;
    let index = line
        .trim()
        .parse::<usize>()
        .ok()
        .and_then(|number| number.checked_sub(1));
    let chosen = index.and_then(|index| several.get(index)).copied();
    if chosen.is_none() {
        output::complain(&format!(
            "rescue: '{}' is not a number from 1 to {}",
            line.trim(),
            several.len()
        ));
    }
    Ok(chosen)
}

fn open_with_patience(volume: &Volume, key_file: Option<&Path>) -> anyhow::Result<()> {
    if let Some(path) = key_file {
        return match volume.open(Key::File(path))? {
            Outcome::Open => Ok(()),
            Outcome::WrongKey => bail!("{}: {} does not open it", volume.device, path.display()),
        };
    }
    if !stdin().is_terminal() {
        let secret = Secret::read_from(stdin().lock()).context("passphrase on standard input")?;
        if secret.bytes().is_empty() {
            bail!(
                "{}: not unlocked, there is no passphrase on standard input",
                volume.device
            );
        }
        return match volume.open(Key::Passphrase(&secret))? {
            Outcome::Open => Ok(()),
            Outcome::WrongKey => bail!("{}: wrong passphrase", volume.device),
        };
    }
    let question = format!("Passphrase for {}: ", volume.device);
    for left in (0..TRIES).rev() {
        let secret = match prompt::ask(stdin().as_fd(), &mut stderr().lock(), &question, || false)? {
            Answer::Line(secret) if !secret.bytes().is_empty() => secret,
            _ => bail!("{}: not unlocked, no passphrase was given", volume.device),
        };
        match volume.open(Key::Passphrase(&secret))? {
            Outcome::Open => return Ok(()),
            Outcome::WrongKey if left > 0 => output::complain("Wrong passphrase, please try again."),
            Outcome::WrongKey => {}
        }
    }
    bail!("{}: wrong passphrase, {TRIES} times", volume.device)
}

impl Volume {
    /// A LUKS device as the plan wants it opened.
    pub fn of(disk: &Disk, plan: Option<&Plan>) -> Volume {
        let uuid = disk.uuid.clone().unwrap_or_default();
        let planned = plan.and_then(|plan| {
            plan.luks
                .iter()
                .find(|volume| volume.uuid.eq_ignore_ascii_case(&uuid))
        });
        Volume {
            device: disk.device.clone(),
            name: planned.map_or_else(|| format!("luks-{uuid}"), |volume| volume.name.clone()),
            options: plan.map(|plan| plan.luks_options.clone()).unwrap_or_default(),
        }
    }

    /// Opens it.
    ///
    /// # Errors
    /// Anything but a wrong key.
    pub fn open(&self, key: Key<'_>) -> anyhow::Result<Outcome> {
        let memory = Memory::for_passphrases_of(&self.device);
        if memory.least > memory.free {
            // Not even tried: the kernel would look for somebody to kill, and that might be the ssh server.
            bail!("{}: {}", self.device, memory.too_little());
        }
        let mut command = tool::command("cryptsetup", ["open", "--type", "luks", "--batch-mode"]);
        if self.options.discard {
            command.arg("--allow-discards");
        }
        if self.options.read_only {
            command.arg("--readonly");
        }
        let path = match key {
            Key::Passphrase(_) => Path::new("-"),
            Key::File(path) => path,
        };
        command
            .arg("--key-file")
            .arg(path)
            .args(["--", &self.device, &self.name]);
        let ended = match key {
            Key::Passphrase(secret) => tool::run_with(command, secret.bytes())?,
            Key::File(_) => tool::run(command)?,
        };
        match meaning(&ended) {
            Meaning::Open => Ok(Outcome::Open),
            Meaning::WrongKey => Ok(Outcome::WrongKey),
            Meaning::NoMemory => bail!("{}: {}", self.device, memory.too_little()),
            // Depending on where it fails cryptsetup has another exit code for the same thing.
            Meaning::Other(_) if memory.most > memory.free => {
                bail!("{}: {}", self.device, memory.too_little())
            }
            Meaning::Other(what) => bail!("{}: {what}", self.device),
        }
    }
}

/// What cryptsetup's end means.
#[derive(Debug, PartialEq, Eq)]
enum Meaning {
    Open,
    WrongKey,
    NoMemory,
    Other(String),
}

/// By its exit code, see cryptsetup(8), "RETURN CODES".
fn meaning(ended: &Output) -> Meaning {
    const SIGKILL: i32 = 9;
    match ended.status.code() {
        Some(0) => Meaning::Open,
        Some(2) => Meaning::WrongKey,
        Some(3) => Meaning::NoMemory,
        // The kernel's out-of-memory killer.
        None if ended.status.signal() == Some(SIGKILL) => Meaning::NoMemory,
        _ => Meaning::Other(tool::last_words(ended)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::ExitStatus;

    fn ended(raw: i32, stderr: &str) -> Output {
        Output {
            status: ExitStatus::from_raw(raw),
            stdout: vec![],
            stderr: stderr.into(),
        }
    }

    #[test]
    fn cryptsetup_exit_codes_become_what_people_need_to_know() {
        assert_eq!(meaning(&ended(0, "")), Meaning::Open);
        assert_eq!(
            meaning(&ended(2 << 8, "No key available with this passphrase.\n")),
            Meaning::WrongKey
        );
        assert_eq!(meaning(&ended(3 << 8, "")), Meaning::NoMemory);
        assert_eq!(meaning(&ended(9, "")), Meaning::NoMemory);
        let other = meaning(&ended(4 << 8, "first\nDevice /dev/x does not exist.\n"));
        assert_eq!(other, Meaning::Other("Device /dev/x does not exist".into()));
    }
}
