//! From what a person asks for to a system that is mounted.

use super::choose;
use super::find::{self, Found, System};
use super::inside::{data, within};
use super::make::{Report, Work};
use super::plan::{Asked, Plan};
use super::state::{By, Held};
use super::table;
use super::volumes::{self, For, Unlocked};
use crate::disks::{self, Disk, LUKS, Luks};
use crate::output;
use anyhow::bail;
use std::io::{IsTerminal as _, stdin};
use std::path::Path;

/// Which system is meant, where it goes, and how.
#[derive(Debug)]
pub struct Request<'a> {
    /// Its device, as a person names it.
    pub device: Option<&'a str>,
    /// Its subvolume.
    pub subvolume: Option<&'a str>,
    /// Where.
    pub at: &'a Path,
    /// How.
    pub asked: Asked,
    /// By which command.
    pub by: By,
}

/// Mounts what is asked for; `None`: it is not clear which is meant, and that has been said.
///
/// # Errors
/// It is not there, or cannot be mounted; then what was made to appear for it is put back to sleep.
pub fn bring(held: &mut Held, request: &Request<'_>) -> anyhow::Result<Option<Report>> {
    let outcome = prepared(held, request).and_then(|found| match found {
        Some((title, plan)) => {
            let work = Work {
                title,
                at: request.at,
                by: request.by,
                plan,
            };
            work.carry_out(held).map(Some)
        }
        None => Ok(None),
    });
    if !matches!(outcome, Ok(Some(_))) {
        put_back(held)?;
    }
    outcome
}

/// Decides as [`bring`] would, and does nothing.
///
/// # Errors
/// As [`bring`].
pub fn rehearse(held: &mut Held, request: &Request<'_>) -> anyhow::Result<Option<Report>> {
    let outcome = prepared(held, request);
    put_back(held)?;
    let Some((title, plan)) = outcome? else {
        return Ok(None);
    };
    Ok(Some(Report::rehearsed(title, request.at, plan)))
}

fn put_back(held: &mut Held) -> anyhow::Result<()> {
    if held.state.systems.is_empty() {
        for line in volumes::close(&mut held.state.opened, Unlocked::Stays) {
            output::complain(&line);
        }
        held.save()?;
    }
    Ok(())
}

/// What is to be mounted, by which name.
fn prepared(held: &mut Held, request: &Request<'_>) -> anyhow::Result<Option<(String, Plan)>> {
    free(held, request.at)?;
    let mut notes = Vec::new();
    let (disks, found) = search(held, request, &mut notes)?;
    let systems: Vec<&System> = found
        .systems
        .iter()
        .filter(|system| {
            request
                .subvolume
                .is_none_or(|name| system.subvolume.as_deref() == Some(name))
        })
        .collect();
    let mut asked = request.asked;
    if let Some(asleep) = disks.iter().find(|disk| disk.fs.as_deref() == Some("swsuspend")) {
        notes.push(format!(
            "a system sleeps on {}, and would be damaged by writes when it wakes: everything is read-only",
            asleep.device
        ));
        asked.read_only = true;
    }
    let (title, mut plan) = match (systems.is_empty(), request.device) {
        (true, Some(name)) => {
            let disk = data(&disks, name)?;
            (disk.device.clone(), Plan::of_data(disk, asked))
        }
        _ => {
            if systems.is_empty() {
                choose::remarks(&found)
                    .iter()
                    .for_each(|line| output::complain(line));
            }
            let command = if request.by == By::Chroot {
                "rescue chroot"
            } else {
                "rescue mount"
            };
            let Some(system) = choose::one(&systems, command)? else {
                return Ok(None);
            };
            (system.title(), Plan::of(system, &disks, asked))
        }
    };
    plan.notes.splice(0..0, notes);
    Ok(Some((title, plan)))
}

/// Refuses a place where something is.
fn free(held: &Held, at: &Path) -> anyhow::Result<()> {
    if at == Path::new("/") {
        bail!("/: the rescue system itself is there; give a directory such as /mnt");
    }
    if let Some(placed) = held.state.at(at) {
        bail!(
            "{}: {} is mounted there; 'rescue umount' first, or --at DIR",
            at.display(),
            placed.title
        );
    }
    if let Some(mount) = table::at(&table::read()?, at) {
        bail!(
            "{}: {} is mounted there; unmount it first, or --at DIR",
            at.display(),
            mount.source
        );
    }
    Ok(())
}

/// Looks for systems, unlocking what has to be unlocked to see one.
fn search(
    held: &mut Held,
    request: &Request<'_>,
    notes: &mut Vec<String>,
) -> anyhow::Result<(Vec<Disk>, Found)> {
    loop {
        let activated = volumes::activate(For::Use)?;
        held.state.opened.extend(activated.opened);
        held.save()?;
        *notes = activated.notes;
        let disks = disks::list()?;
        let concerned: Vec<&Disk> = match request.device {
            Some(name) => within(&disks, disks::find(&disks, name)?),
            None => disks.iter().collect(),
        };
        let found = find::systems(concerned.iter().copied());
        let Some(locked) = to_unlock(&concerned, &found, request) else {
            return Ok((disks, found));
        };
        held.state.opened.extend(volumes::unlock(&locked)?);
        held.save()?;
    }
}

/// The LUKS device to open before there is anything to mount: the one that was named, else the only locked one there is.
fn to_unlock(concerned: &[&Disk], found: &Found, request: &Request<'_>) -> Option<String> {
    if !found.systems.is_empty() {
        return None;
    }
    let locked: Vec<&Disk> = concerned
        .iter()
        .copied()
        .filter(|disk| disk.fs.as_deref() == Some(LUKS) && disk.luks == Some(Luks::Locked))
        .collect();
    match locked.as_slice() {
        // What is on standard input is the command's own, unless the device was named.
        [one] if stdin().is_terminal() || (request.device.is_some() && request.by == By::Mount) => {
            Some(one.device.clone())
        }
        [first, ..] if stdin().is_terminal() => {
            output::complain(&format!(
                "No system is found yet, and {} devices are locked; the first is {}.",
                locked.len(),
                first.device
            ));
            Some(first.device.clone())
        }
        _ => None,
    }
}
