//! Which devices are meant when none was named: those the boot waits for, else the one that is locked.

use crate::disks::{self, Disk, LUKS, Luks};
use crate::output;
use anyhow::bail;
use lifeboot_contract::plan::{LuksVolume, Plan};
use lifeboot_init::block::{self, Opened};
use std::io::{IsTerminal as _, Write as _, stderr, stdin};

const NONE: &str = "there is no LUKS device; 'rescue disks' shows what is there";

/// A device that can be meant.
struct Candidate<'a> {
    disk: &'a Disk,
    locked: bool,
    /// The boot needs it.
    planned: bool,
}

/// Every device that is locked or was.
pub(super) fn every<'a>(disks: &'a [Disk], plan: Option<&Plan>) -> anyhow::Result<Vec<&'a Disk>> {
    let all: Vec<&Disk> = candidates(disks, plan).iter().map(|one| one.disk).collect();
    if all.is_empty() {
        bail!(NONE);
    }
    Ok(all)
}

/// Every locked device, or the open ones where none is locked.
pub(super) fn all_locked<'a>(disks: &'a [Disk], plan: Option<&Plan>) -> anyhow::Result<Vec<&'a Disk>> {
    let all = candidates(disks, plan);
    if all.is_empty() {
        bail!(NONE);
    }
    let any = all.iter().any(|one| one.locked);
    Ok(all
        .iter()
        .filter(|one| one.locked || !any)
        .map(|one| one.disk)
        .collect())
}

/// The devices to ask about when none was named; `None` after saying why that cannot be known.
pub(super) fn by_default<'a>(
    disks: &'a [Disk],
    plan: Option<&Plan>,
) -> anyhow::Result<Option<Vec<&'a Disk>>> {
    let all = candidates(disks, plan);
    let locked = || all.iter().filter(|one| one.locked);
    let planned: Vec<&Disk> = locked().filter(|one| one.planned).map(|one| one.disk).collect();
    if !planned.is_empty() {
        return Ok(Some(planned));
    }
    let locked: Vec<&Disk> = locked().map(|one| one.disk).collect();
    match (locked.as_slice(), all.as_slice()) {
        ([one], _) => Ok(Some(vec![*one])),
        ([], []) => bail!(NONE),
        ([], [first, ..]) => Ok(Some(vec![first.disk])),
        (several, _) => Ok(choose(several)?.map(|disk| vec![disk])),
    }
}

fn candidates<'a>(disks: &'a [Disk], plan: Option<&Plan>) -> Vec<Candidate<'a>> {
    let planned = plan.map(|plan| plan.luks.as_slice()).unwrap_or_default();
    let mut found = Vec::new();
    for disk in disks {
        let on_it = |volume: &&LuksVolume| disk.is_called(&volume.device().to_string());
        let volume = planned.iter().find(on_it);
        let is_header =
            |volume: &LuksVolume| volume.header.is_some() && disk.uuid.as_ref() == Some(&volume.uuid);
        match volume {
            // Nothing on the device itself tells that it is one.
            Some(volume) if volume.header.is_some() => found.push(Candidate {
                disk,
                locked: !matches!(block::opened(&volume.uuid, disk.device.as_ref()), Opened::As(_)),
                planned: true,
            }),
            _ if disk.fs.as_deref() != Some(LUKS) || planned.iter().any(is_header) => {}
            volume => found.push(Candidate {
                disk,
                locked: disk.luks == Some(Luks::Locked),
                planned: volume.is_some(),
            }),
        }
    }
    found
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disks::tests::seen;
    use lifeboot_contract::config::Config;
    use lifeboot_contract::template::Facts;

    fn plan(cmdline: &str) -> Plan {
        Plan::make(cmdline, &Config::default(), Facts::default(), "")
    }

    fn chosen(cmdline: &str) -> Vec<String> {
        let disks = seen();
        let found = by_default(&disks, Some(&plan(cmdline))).unwrap().unwrap();
        found.iter().map(|disk| disk.device.clone()).collect()
    }

    #[test]
    fn without_a_word_it_is_the_one_that_is_locked() {
        assert_eq!(chosen(""), ["/dev/vda3"]);
        let disks = seen();
        let all = all_locked(&disks, None).unwrap();
        assert_eq!(all.len(), 1);
    }

    #[test]
    fn what_the_boot_waits_for_comes_first_also_when_its_header_is_elsewhere() {
        let mut disks = seen();
        disks[1].luks = None;
        let plan = plan("rd.luks.options=a-b=header=/h rd.luks.data=a-b=/dev/vda1");
        let found = by_default(&disks, Some(&plan)).unwrap().unwrap();
        assert_eq!(found[0].device, "/dev/vda1");
        assert_eq!(all_locked(&disks, Some(&plan)).unwrap().len(), 2);
    }
}
