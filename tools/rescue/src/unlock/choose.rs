//! Which device is meant when none was named.

use crate::disks::{self, Disk, LUKS, Luks};
use crate::output;
use anyhow::bail;
use std::io::{IsTerminal as _, Write as _, stderr, stdin};

const NONE: &str = "there is no LUKS device; 'rescue disks' shows what is there";

fn all(disks: &[Disk]) -> Vec<&Disk> {
    let luks = disks.iter().filter(|disk| disk.fs.as_deref() == Some(LUKS));
    luks.collect()
}

fn locked<'a>(all: &[&'a Disk]) -> Vec<&'a Disk> {
    let locked = all.iter().copied().filter(|disk| disk.luks == Some(Luks::Locked));
    locked.collect()
}

/// Every locked device, or the open ones where none is locked.
pub(super) fn all_locked(disks: &[Disk]) -> anyhow::Result<Vec<&Disk>> {
    let all = all(disks);
    match (locked(&all), all.is_empty()) {
        (_, true) => bail!(NONE),
        (locked, _) if locked.is_empty() => Ok(all),
        (locked, _) => Ok(locked),
    }
}

/// The device to ask about when none was named; `None` after saying why it cannot be chosen.
pub(super) fn the_locked_one(disks: &[Disk]) -> anyhow::Result<Option<&Disk>> {
    let all = all(disks);
    match (locked(&all).as_slice(), all.as_slice()) {
        ([one], _) => Ok(Some(one)),
        ([], []) => bail!(NONE),
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
        output::complain("rescue: say which one: rescue unlock DEVICE, or rescue unlock --all");
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
