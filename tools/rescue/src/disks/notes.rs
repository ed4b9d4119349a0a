//! What wants attention, a sentence each, with the command that helps.

use super::gpt::Gpt;
use super::health::Verdict;
use super::{Disk, PartOf, Standing, md};
use crate::work;

/// Writes down what wants attention.
pub fn add(disks: &mut [Disk]) {
    let mut told = Vec::new();
    for disk in disks {
        disk.notes = of(disk);
        // What is said of a group or an array is said once, not for each of its members.
        let part = disk
            .part_of
            .as_ref()
            .and_then(|part| membership(part, disk.raid.as_ref()));
        if let Some(note) = part.filter(|note| !told.contains(note)) {
            told.push(note.clone());
            disk.notes.push(note);
        }
    }
}

/// The notes as they stand below the table, broken into lines of at most `width`.
pub fn lines(disks: &[Disk], width: Option<usize>) -> Vec<String> {
    let notes = disks
        .iter()
        .flat_map(|disk| disk.notes.iter().map(|note| format!("{}: {note}", disk.device)));
    let mut lines: Vec<String> = notes
        .flat_map(|note| broken(&note, width.unwrap_or(usize::MAX)))
        .collect();
    if !lines.is_empty() {
        lines.insert(0, String::new());
    }
    lines
}

/// A sentence in lines of at most `width`, the second and further ones indented. A command is not torn apart: it stands at the end,
/// on a line of its own where it does not fit.
pub fn broken(note: &str, width: usize) -> Vec<String> {
    if note.chars().count() <= width {
        return vec![note.to_owned()];
    }
    let (words, command) = match note.split_once(": rescue ") {
        Some((words, rest)) => (format!("{words}:"), Some(format!("rescue {rest}"))),
        None => match COMMANDS
            .iter()
            .find_map(|name| note.split_once(&format!(": {name} ")).map(|parts| (name, parts)))
        {
            Some((name, (words, rest))) => (format!("{words}:"), Some(format!("{name} {rest}"))),
            None => (note.to_owned(), None),
        },
    };
    let mut lines = crate::output::wrapped(&words, width, 2);
    lines.extend(command.map(|command| format!("  {command}")));
    lines
}

/// Programs that notes end with.
const COMMANDS: [&str; 3] = ["mdadm", "vgchange", "dmsetup"];

fn of(disk: &Disk) -> Vec<String> {
    let mut notes = Vec::new();
    notes.extend(disk.trouble.clone());
    notes.extend(work::holder(&disk.device).map(|holder| holder.told(&disk.device)));
    notes.extend(disk.gpt.and_then(|state| partition_table(state, &disk.device)));
    notes.extend(
        disk.array
            .as_ref()
            .and_then(|array| degraded(array, &disk.device)),
    );
    if let Some(health) = &disk.health {
        match health.verdict {
            Verdict::Failing => notes.push(format!(
                "it fails: {}; copy off it what matters before anything else",
                health.says
            )),
            Verdict::Worn => notes.push(format!("it wears out: {}", health.says)),
            Verdict::Good | Verdict::Unknown => {}
        }
    }
    notes
}

fn partition_table(state: Gpt, device: &str) -> Option<String> {
    Some(match state {
        Gpt::Whole => return None,
        Gpt::PrimaryDamaged => format!(
            "its partition table is damaged, so the kernel sees no partitions; the copy at the end of the disk is good, \
             and this puts it in place: rescue fsck --repair {device}"
        ),
        Gpt::BackupDamaged => {
            "the copy of its partition table at the end of the disk is damaged; the table itself is good".to_owned()
        }
        Gpt::BackupNotAtEnd => {
            "the copy of its partition table is not at the end of the disk: it has been written from a smaller one".to_owned()
        }
        Gpt::Differing => "the two copies of its partition table differ; the kernel goes by the first".to_owned(),
        Gpt::Lost => "both copies of its partition table are damaged".to_owned(),
    })
}

fn degraded(array: &md::Array, device: &str) -> Option<String> {
    let places: Vec<String> = array.missing.iter().map(u64::to_string).collect();
    if places.is_empty() {
        return None;
    }
    let here = array.devices.saturating_sub(array.missing.len() as u64);
    let works = format!(
        "{} that works with {here} of {} devices, place {} is empty",
        array.level,
        array.devices,
        places.join(" and ")
    );
    let rest = match (array.doing.as_deref(), array.left_out.as_slice()) {
        (Some("recover" | "resync"), _) => "it is being filled; /proc/mdstat says how far".to_owned(),
        (_, []) => "no device here belongs there".to_owned(),
        (_, [one, ..]) => format!(
            "{one} was in it and is left out; this takes it in again and overwrites it with what the others have: \
             mdadm --manage {device} --add {one}"
        ),
    };
    Some(format!("{works}; {rest}"))
}

fn membership(part: &PartOf, raid: Option<&md::Told>) -> Option<String> {
    let name = part.name.as_deref().unwrap_or("without a name");
    let how = part.activate.as_deref().unwrap_or_default();
    let level = raid.map_or("RAID", |raid| raid.level.as_str());
    Some(match (&part.standing, part.what) {
        (Standing::Inactive, "LVM") => format!("volume group {name} is not active; this activates it: {how}"),
        (Standing::Inactive, _) => format!("array {name} ({level}) is not started; this starts it: {how}"),
        (Standing::InactiveIncomplete { here, of }, _) => format!(
            "array {name} ({level}) is not started, and only {here} of its {of} devices is here and up to date; this starts it \
             without the others: {how}"
        ),
        (Standing::Incomplete { missing }, _) if how.is_empty() => {
            format!("volume group {name} lacks {missing} of its disks")
        }
        (Standing::Incomplete { missing }, _) => format!(
            "volume group {name} lacks {missing} of its disks; this activates what can be read without them: {how}"
        ),
        (Standing::Unknown, "LVM") => {
            "lvm is not in this image or does not answer; feature lvm has it".to_owned()
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_spoken_of_once_however_many_disks_it_has() {
        let member = |device: &str| Disk {
            device: device.to_owned(),
            part_of: Some(PartOf {
                what: "LVM",
                name: Some("vg0".to_owned()),
                standing: Standing::Inactive,
                activate: Some("vgchange -ay vg0".to_owned()),
            }),
            ..Disk::default()
        };
        let mut disks = vec![member("/dev/vda"), member("/dev/vdb")];
        add(&mut disks);
        assert_eq!(
            lines(&disks, None),
            [
                "",
                "/dev/vda: volume group vg0 is not active; this activates it: vgchange -ay vg0"
            ]
        );
    }

    #[test]
    fn a_broken_table_is_explained_with_the_command_on_a_line_of_its_own() {
        let mut disks = vec![Disk {
            device: "/dev/vdb".to_owned(),
            gpt: Some(Gpt::PrimaryDamaged),
            ..Disk::default()
        }];
        add(&mut disks);
        let lines = lines(&disks, Some(80));
        assert!(lines.iter().all(|line| line.chars().count() <= 80), "{lines:#?}");
        assert_eq!(lines.last().unwrap(), "  rescue fsck --repair /dev/vdb");
        disks[0].gpt = Some(Gpt::Whole);
        add(&mut disks);
        assert!(disks[0].notes.is_empty());
    }

    #[test]
    fn the_missing_half_of_a_mirror_is_named() {
        let array = |missing: &[u64], left_out: &[&str]| md::Array {
            level: "raid1".to_owned(),
            state: "clean".to_owned(),
            devices: 2,
            members: Vec::new(),
            missing: missing.to_vec(),
            left_out: left_out.iter().map(|&name| name.to_owned()).collect(),
            doing: None,
        };
        assert_eq!(degraded(&array(&[], &[]), "/dev/md0"), None);
        let note = degraded(&array(&[1], &["/dev/vdb"]), "/dev/md0").unwrap();
        assert!(note.ends_with("mdadm --manage /dev/md0 --add /dev/vdb"), "{note}");
        assert!(
            degraded(&array(&[0], &[]), "/dev/md0")
                .unwrap()
                .contains("place 0 is empty")
        );
    }
}
