//! The key: typed, piped, from a file, or by Tang servers; tried on one device or on several.

use super::{Report, already, tang};
use crate::output;
use crate::prompt::{self, Answer, Secret};
use anyhow::{Context as _, anyhow, bail};
use lifeboot_contract::plan::{BlockId, FilePlace, Header};
use lifeboot_init::luks::{self, Key, Outcome, Volume};
use std::io::{IsTerminal as _, stderr, stdin};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

/// How often a person may mistype.
const TRIES: u32 = 3;

/// Where the key comes from.
pub(super) enum Source {
    Person,
    File(FilePlace),
    Tang,
}

/// Whether it is opened, or only the key tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Aim {
    Open,
    Test,
}

impl Aim {
    pub(super) fn attempt(self, volume: &Volume, key: Key<'_>) -> anyhow::Result<Outcome> {
        // Of two copies that are opened together the first stands in the way of the second.
        if let Some(why) = already::in_the_way(volume, self) {
            bail!(why);
        }
        Ok(match self {
            Aim::Open => volume.open(key)?,
            Aim::Test => volume.test(key)?,
        })
    }

    pub(super) fn done(self, volume: &Volume) -> Report {
        let about = Report::about(volume.device.clone());
        match self {
            Aim::Open => Report {
                mapper: Some(volume.mapper()),
                was: Some("locked"),
                ..about
            },
            Aim::Test => Report {
                opens: Some(true),
                ..about
            },
        }
    }
}

/// Opens each of them, as far as the key fits. One that fails alone is an error, of several each has its report.
///
/// # Errors
/// There is no key, or the only device is not open.
pub(super) fn open(volumes: &[Volume], source: &Source, aim: Aim) -> anyhow::Result<Vec<Report>> {
    let reports = match source {
        Source::Tang => volumes.iter().map(|volume| tang::open(volume, aim)).collect(),
        Source::File(place) => {
            let secret = luks::read_key(place).map_err(|what| anyhow!(what))?;
            let failed = |volume: &Volume| format!("{}: {place} does not open it", volume.device);
            once(volumes, &secret, aim, failed)
        }
        Source::Person if !stdin().is_terminal() => {
            let secret = Secret::read_from(stdin().lock()).context("passphrase on standard input")?;
            if secret.bytes().is_empty() {
                bail!("{}: there is no passphrase on standard input", names(volumes));
            }
            once(volumes, &secret, aim, |volume| {
                format!("{}: wrong passphrase", volume.device)
            })
        }
        Source::Person => ask(volumes, aim)?,
    };
    match reports.as_slice() {
        [
            Report {
                error: Some(what), ..
            },
        ] => bail!(what.clone()),
        _ => Ok(reports),
    }
}

fn once(volumes: &[Volume], secret: &Secret, aim: Aim, wrong: impl Fn(&Volume) -> String) -> Vec<Report> {
    let attempt = |volume: &Volume| match aim.attempt(volume, Key::Passphrase(secret)) {
        Ok(Outcome::Open) => aim.done(volume),
        Ok(Outcome::WrongKey) => failed(volume, wrong(volume)),
        Err(error) => failed(volume, format!("{error:#}")),
    };
    volumes.iter().map(attempt).collect()
}

pub(super) fn failed(volume: &Volume, what: String) -> Report {
    Report {
        error: Some(what),
        ..Report::about(volume.device.clone())
    }
}

/// Asks on the terminal; what a passphrase does not open is asked for again.
fn ask(volumes: &[Volume], aim: Aim) -> anyhow::Result<Vec<Report>> {
    let mut reports = Vec::new();
    let mut left: Vec<&Volume> = volumes.iter().collect();
    for tries_left in (0..TRIES).rev() {
        let question = format!("Passphrase for {}: ", names(left.iter().copied()));
        let secret = match prompt::ask(stdin().as_fd(), &mut stderr().lock(), &question, || false)? {
            Answer::Line(secret) if !secret.bytes().is_empty() => secret,
            _ if reports.is_empty() => bail!("{}: no passphrase was given", names(left)),
            _ => break,
        };
        let attempt = |volume: &Volume| {
            let work = || aim.attempt(volume, Key::Passphrase(&secret));
            prompt::unseen(stdin().as_fd(), work)?
        };
        output::complain("Checking ...");
        left.retain(|volume| match attempt(volume) {
            Ok(Outcome::Open) => {
                reports.push(aim.done(volume));
                false
            }
            Ok(Outcome::WrongKey) => true,
            Err(error) => {
                reports.push(failed(volume, format!("{error:#}")));
                false
            }
        });
        if left.is_empty() {
            return Ok(reports);
        }
        if tries_left > 0 {
            let which = if volumes.len() > 1 {
                format!(" for {}", names(left.iter().copied()))
            } else {
                String::new()
            };
            output::complain(&format!("Wrong passphrase{which}, please try again."));
        }
    }
    for volume in left {
        if volume
            .metadata()
            .is_ok_and(|found| found.is_some_and(|found| !found.tokens.is_empty()))
        {
            let device = &volume.device;
            output::complain(&format!(
                "There are other ways in: 'rescue unlock --show {device}' lists them."
            ));
        }
        reports.push(failed(
            volume,
            format!("{}: wrong passphrase, {TRIES} times", volume.device),
        ));
    }
    Ok(reports)
}

fn names<'a>(volumes: impl IntoIterator<Item = &'a Volume>) -> String {
    let names: Vec<&str> = volumes.into_iter().map(|volume| volume.device.as_str()).collect();
    names.join(", ")
}

/// `FILE` of this machine, or `/FILE:DEVICE`.
pub(super) fn key_file(value: &str) -> anyhow::Result<FilePlace> {
    place(value).with_context(|| format!("--key-file {value}"))
}

/// `FILE`, `/FILE:DEVICE` or a device.
pub(super) fn header(value: &str) -> anyhow::Result<Header> {
    match BlockId::parse(value) {
        Some(id) => Ok(Header::Device(id)),
        None => Ok(Header::File(
            place(value).with_context(|| format!("--header {value}"))?,
        )),
    }
}

fn place(value: &str) -> anyhow::Result<FilePlace> {
    // A name with a colon in it is still the name of a file when there is one.
    let local = Path::new(value);
    if local.exists() || !value.contains(':') {
        let path: PathBuf = std::path::absolute(local)?;
        return Ok(FilePlace {
            path: path.to_string_lossy().into_owned(),
            device: None,
        });
    }
    FilePlace::parse(value).map_err(|what| anyhow!(what))
}

/// `/dev/dm-0` by the name people know.
pub(super) fn mapper_of(device: &Path) -> Option<String> {
    let kernel = device.file_name()?.to_string_lossy().into_owned();
    let name = std::fs::read_to_string(format!("/sys/class/block/{kernel}/dm/name")).ok()?;
    Some(format!("/dev/mapper/{}", name.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_is_of_this_machine_unless_a_device_is_named() {
        let local = key_file("/tmp/k").unwrap();
        assert_eq!((local.path.as_str(), local.device), ("/tmp/k", None));
        let other = key_file("/k:LABEL=STICK").unwrap();
        assert_eq!(other.device, Some(BlockId::Label("STICK".into())));
        let odd = std::env::temp_dir().join(format!("odd:name-{}", std::process::id()));
        std::fs::write(&odd, "x").unwrap();
        assert_eq!(key_file(odd.to_str().unwrap()).unwrap().device, None);
        std::fs::remove_file(odd).unwrap();
        assert!(key_file("/k:STICK").is_err());
    }

    #[test]
    fn a_header_is_a_device_or_a_file() {
        assert_eq!(
            header("/dev/vdc").unwrap(),
            Header::Device(BlockId::Path("/dev/vdc".into()))
        );
        assert_eq!(
            header("PARTLABEL=h").unwrap(),
            Header::Device(BlockId::PartLabel("h".into()))
        );
        assert!(matches!(
            header("/tmp/h").unwrap(),
            Header::File(FilePlace { device: None, .. })
        ));
        assert!(matches!(
            header("/h:LABEL=B").unwrap(),
            Header::File(FilePlace { device: Some(_), .. })
        ));
    }
}
