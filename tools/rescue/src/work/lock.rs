//! One device, one who has it for itself: a lock that ends with the process that holds it, and says who that is.

use crate::control;
use crate::disks::stack;
use anyhow::{Context as _, bail};
use serde::Serialize;
use std::fs::{self, File, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// `rescue disks` holds a lock for a moment when it looks whether there is one.
const MOMENT: Duration = Duration::from_secs(1);

/// What a device is locked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// Others may look too.
    Look,
    /// Nobody else may do anything: it is repaired.
    Repair,
    /// Nobody else may do anything: an image is written to it.
    Deploy,
    /// Nobody else may do anything: it is read, and must not change.
    Backup,
}

impl Purpose {
    /// Those that keep everybody else away, by the word that stands in the lock.
    const EXCLUSIVE: [(Purpose, &'static str); 3] = [
        (Purpose::Repair, "repair"),
        (Purpose::Deploy, "deploy"),
        (Purpose::Backup, "backup"),
    ];

    /// Where what is done to `device` is told for reading later.
    pub fn log(self, device: &str) -> PathBuf {
        let command = match self {
            Purpose::Look | Purpose::Repair => "fsck",
            Purpose::Deploy => "deploy",
            Purpose::Backup => "backup",
        };
        let name = format!("{command}-{}.log", slug(device));
        control::run_dir().join("log").join(name)
    }

    /// `being written`
    pub fn participle(self) -> &'static str {
        match self {
            Purpose::Look => "looked at",
            Purpose::Repair => "repaired",
            Purpose::Deploy => "written",
            Purpose::Backup => "read",
        }
    }
}

/// A process that has a device for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Holder {
    #[serde(rename = "process")]
    pub id: u32,
    pub purpose: Purpose,
}

impl Holder {
    /// `being written by process 159; how far: tail -f …`. What ends with its session has no log.
    pub fn told(self, device: &str) -> String {
        let text = format!("being {} by process {}", self.purpose.participle(), self.id);
        let log = self.purpose.log(device);
        match log.exists() {
            true => format!("{text}; how far: tail -f {}", log.display()),
            false => text,
        }
    }
}

/// Lasts until it is dropped, or this process dies.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// A device's name where it is part of a file's name.
pub fn slug(device: &str) -> String {
    device.trim_start_matches("/dev/").replace('/', "-")
}

/// Locks `device`. Whoever wants it for themselves does not get it while somebody has a part of it, or what it is a part of.
///
/// # Errors
/// Another check or repair of it runs; it is named.
pub fn take(device: &str, purpose: Purpose) -> anyhow::Result<Lock> {
    let lock = take_in(&dir(), device, purpose)?;
    match in_the_way(device).filter(|_| purpose != Purpose::Look) {
        Some(told) => bail!("{device}: {told}"),
        None => Ok(lock),
    }
}

/// For whoever mounts `device`: nobody has it, a part of it or what it is a part of for themselves, and nobody gets it before what is
/// returned is dropped.
///
/// # Errors
/// Somebody has; it is named.
pub fn visit(device: &str) -> anyhow::Result<Vec<Lock>> {
    visit_in(&dir(), device, &around(device))
}

/// Who has something for themselves that `device` is a part of, or that is a part of `device`.
pub fn in_the_way(device: &str) -> Option<String> {
    told_in(&dir(), &around(device))
}

fn around(device: &str) -> Vec<String> {
    [stack::below(device), stack::above(device)].concat()
}

fn visit_in(dir: &Path, device: &str, around: &[String]) -> anyhow::Result<Vec<Lock>> {
    let all = std::iter::once(device).chain(around.iter().map(String::as_str));
    all.map(|one| take_in(dir, one, Purpose::Look)).collect()
}

fn told_in(dir: &Path, devices: &[String]) -> Option<String> {
    devices
        .iter()
        .find_map(|device| Some(format!("{device} is {}", holder_in(dir, device)?.told(device))))
}

/// The process that has `device` for itself, if one has.
pub fn holder(device: &str) -> Option<Holder> {
    holder_in(&dir(), device)
}

/// For what would end a repair, a deploy or a backup in the middle.
///
/// # Errors
/// One runs that nobody has asked to stop; it is named.
pub fn none_is_held() -> anyhow::Result<()> {
    none_is_held_in(&dir())
}

/// What is under way, a sentence each: who logs in again after a cut wants to know.
pub fn lines() -> Vec<String> {
    lines_in(&dir())
}

fn lines_in(dir: &Path) -> Vec<String> {
    let line = |(device, holder): &(String, Holder)| format!("{device} is {}", holder.told(device));
    all_held(dir).iter().map(line).collect()
}

fn none_is_held_in(dir: &Path) -> anyhow::Result<()> {
    if let Some((device, Holder { id, purpose })) = all_held(dir).first() {
        let done = purpose.participle();
        bail!("{device} is being {done} by process {id}: wait for its end, or have it stop: kill {id}");
    }
    Ok(())
}

/// Each device that somebody has for themselves, by the name its lock has.
fn all_held(dir: &Path) -> Vec<(String, Holder)> {
    let held = |entry: fs::DirEntry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        let device = name.strip_suffix(".lock")?;
        Some((device.to_owned(), holder_in(dir, device)?))
    };
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(held).collect()
}

/// Takes the number out of the lock of a repair that was asked to stop: whoever wants to restart the machine need not wait for a disk
/// that never answers again.
pub fn disown(device: &str) {
    let file = File::options().write(true).open(path(&dir(), device));
    crate::output::ignore(file.and_then(|file| file.set_len(0)));
}

fn dir() -> PathBuf {
    control::run_dir().join("work")
}

fn path(dir: &Path, device: &str) -> PathBuf {
    dir.join(format!("{}.lock", slug(device)))
}

fn take_in(dir: &Path, device: &str, purpose: Purpose) -> anyhow::Result<Lock> {
    let path = path(dir, device);
    let name = || path.display().to_string();
    fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    let mut options = File::options();
    let mut file = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .with_context(name)?;
    let begun = Instant::now();
    loop {
        let tried = match purpose {
            Purpose::Look => file.try_lock_shared(),
            Purpose::Repair | Purpose::Deploy | Purpose::Backup => file.try_lock(),
        };
        match tried {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) if begun.elapsed() < MOMENT => {
                std::thread::sleep(MOMENT / 20);
            }
            Err(TryLockError::WouldBlock) => bail!(taken(dir, device)),
            Err(TryLockError::Error(error)) => return Err(error).with_context(name),
        }
    }
    // Whoever only looks leaves no number: an empty file is nobody's.
    file.set_len(0).with_context(name)?;
    if let Some((_, word)) = Purpose::EXCLUSIVE.iter().find(|(one, _)| *one == purpose) {
        let holder = format!("{} {word}", std::process::id());
        file.write_all(holder.as_bytes()).with_context(name)?;
    }
    Ok(Lock { _file: file })
}

fn taken(dir: &Path, device: &str) -> String {
    match holder_in(dir, device) {
        Some(holder) => format!("{device}: it is {}", holder.told(device)),
        None => format!("{device}: a 'rescue fsck' or 'rescue mount' looks at it at the moment"),
    }
}

fn holder_in(dir: &Path, device: &str) -> Option<Holder> {
    let mut file = File::open(path(dir, device)).ok()?;
    if !matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)) {
        return None;
    }
    let mut text = String::new();
    file.rewind().ok()?;
    file.read_to_string(&mut text).ok()?;
    let (id, word) = text.split_once(' ')?;
    let (purpose, _) = Purpose::EXCLUSIVE.iter().find(|(_, known)| *known == word)?;
    Some(Holder {
        id: id.parse().ok()?,
        purpose: *purpose,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_who_want_one_device_for_themselves_exclude_each_other_and_the_holder_is_named() {
        let dir = std::env::temp_dir().join(format!("lifeboot-lock-{}", std::process::id()));
        let held = take_in(&dir, "/dev/mapper/a", Purpose::Repair).unwrap();
        let own = std::process::id();
        let repairs = Holder {
            id: own,
            purpose: Purpose::Repair,
        };
        assert_eq!(holder_in(&dir, "/dev/mapper/a"), Some(repairs));
        assert!(
            none_is_held_in(&dir)
                .unwrap_err()
                .to_string()
                .contains(&format!("kill {own}"))
        );
        let lines = lines_in(&dir);
        assert!(
            lines.len() == 1 && lines[0].starts_with(&format!("mapper-a is being repaired by process {own}")),
            "{lines:?}"
        );
        for purpose in [Purpose::Repair, Purpose::Look] {
            let error = take_in(&dir, "/dev/mapper/a", purpose).unwrap_err().to_string();
            assert!(error.contains(&format!("process {own}")), "{error}");
        }
        let other = take_in(&dir, "/dev/mapper/b", Purpose::Deploy).unwrap();
        let deploys = holder_in(&dir, "/dev/mapper/b").unwrap();
        assert_eq!(deploys.purpose, Purpose::Deploy);
        drop(other);
        drop(held);
        // A process that another test starts has the lock too, until it becomes another program.
        let begun = Instant::now();
        while none_is_held_in(&dir).is_err() {
            assert!(begun.elapsed() < 60 * MOMENT, "the lock stayed");
            std::thread::sleep(MOMENT / 20);
        }
        assert_eq!(holder_in(&dir, "/dev/mapper/a"), None);
        let one = take_in(&dir, "/dev/mapper/a", Purpose::Look).unwrap();
        let other = take_in(&dir, "/dev/mapper/a", Purpose::Look).unwrap();
        assert!(take_in(&dir, "/dev/mapper/a", Purpose::Repair).is_err());
        assert_eq!(holder_in(&dir, "/dev/mapper/a"), None);
        drop((one, other));
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn what_somebody_has_for_themselves_is_not_mounted_nor_what_it_is_made_of_or_part_of() {
        let dir = std::env::temp_dir().join(format!("lifeboot-visit-{}", std::process::id()));
        let around = ["/dev/a".to_owned(), "/dev/mapper/a-root".to_owned()];
        let own = std::process::id();
        for device in ["/dev/a1", "/dev/a", "/dev/mapper/a-root"] {
            let held = take_in(&dir, device, Purpose::Backup).unwrap();
            let error = visit_in(&dir, "/dev/a1", &around).unwrap_err().to_string();
            assert_eq!(error, format!("{device}: it is being read by process {own}"));
            let told = told_in(&dir, &around);
            let expected = format!("{device} is being read by process {own}");
            assert_eq!(told, (device != "/dev/a1").then_some(expected));
            drop(held);
        }
        // A neighbour is none of its business, another who looks is not in its way, and nobody begins while it mounts.
        let _neighbour = take_in(&dir, "/dev/a2", Purpose::Repair).unwrap();
        let _looks = take_in(&dir, "/dev/a", Purpose::Look).unwrap();
        let visit = visit_in(&dir, "/dev/a1", &around).unwrap();
        assert!(take_in(&dir, "/dev/mapper/a-root", Purpose::Deploy).is_err());
        drop(visit);
        assert!(take_in(&dir, "/dev/mapper/a-root", Purpose::Deploy).is_ok());
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn names_of_devices_become_names_of_files() {
        assert_eq!(slug("/dev/mapper/luks-1"), "mapper-luks-1");
        assert_eq!(slug("/dev/sda1"), "sda1");
    }
}
