//! Software RAID: which array a device belongs to, whether the array is whole, and what is left out of it.

use super::{Disk, PartOf, Standing, sysfs};
use crate::tool;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// What blkid calls a member.
pub const MEMBER: &str = "linux_raid_member";

/// An array that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Array {
    /// `raid1`
    pub level: String,
    /// The kernel's word: `clean`, `active`, `read-auto`, `inactive`, …
    pub state: String,
    /// How many devices it is made for.
    pub devices: u64,
    /// Those it has.
    pub members: Vec<String>,
    /// Places that no working device fills.
    pub missing: Vec<u64>,
    /// Devices here that belong to it and that it does without.
    pub left_out: Vec<String>,
    /// What it does at the moment: `resync`, `recover`, `check`, `repair`.
    pub doing: Option<String>,
}

/// What a member's own superblock says of the array.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// `raid1`
    pub level: String,
    /// How many devices the array is made for.
    pub devices: u64,
    /// How often it was written to; a device that was left out has fewer.
    pub events: u64,
    /// The array's own name.
    pub name: Option<String>,
}

impl Array {
    /// Whether something is missing.
    pub fn degraded(&self) -> bool {
        !self.missing.is_empty()
    }
}

/// Asks mdadm about a member; `None` when it is not in the image or does not know.
pub fn told(device: &str) -> Option<Told> {
    tool::place("mdadm")?;
    let ended = tool::run(tool::command("mdadm", ["--examine", "--export", device])).ok()?;
    Some(understand(&String::from_utf8_lossy(&ended.stdout)))
}

fn understand(said: &str) -> Told {
    let mut told = Told::default();
    for (name, value) in said.lines().filter_map(|line| line.split_once('=')) {
        match name {
            "MD_LEVEL" => told.level = value.to_owned(),
            "MD_DEVICES" => told.devices = value.parse().unwrap_or(0),
            "MD_EVENTS" => told.events = value.parse().unwrap_or(0),
            // host:name
            "MD_NAME" => told.name = value.rsplit(':').next().map(str::to_owned),
            _ => {}
        }
    }
    told
}

/// Adds what is known of arrays to the devices they are and the devices they are made of.
pub fn relate(disks: &mut [Disk]) {
    for disk in disks.iter_mut() {
        disk.array = array(&sysfs::dir(&disk.device));
    }
    join(disks);
}

/// Reads the kernel's directory of an array, `/sys/class/block/md0`.
fn array(dir: &Path) -> Option<Array> {
    let md = dir.join("md");
    let word = |name: &str| sysfs::word(&md.join(name));
    let devices = sysfs::number(&md.join("raid_disks"))?;
    let in_place = |slot: &u64| {
        let device = md.join(format!("rd{slot}"));
        sysfs::word(&device.join("state")).is_some_and(|state| state.contains("in_sync"))
    };
    Some(Array {
        level: word("level").unwrap_or_default(),
        state: word("array_state").unwrap_or_default(),
        devices,
        members: sysfs::devices(&dir.join("slaves")),
        missing: (0..devices.min(1024)).filter(|slot| !in_place(slot)).collect(),
        left_out: Vec::new(),
        doing: word("sync_action").filter(|doing| doing != "idle"),
    })
}

fn join(disks: &mut [Disk]) {
    let members: Vec<(String, Option<String>)> = disks
        .iter()
        .filter(|disk| disk.fs.as_deref() == Some(MEMBER))
        .map(|disk| (disk.device.clone(), disk.uuid.clone()))
        .collect();
    for disk in disks.iter_mut() {
        let Some(array) = &mut disk.array else { continue };
        let own = members
            .iter()
            .find(|(device, _)| array.members.contains(device))
            .and_then(|(_, uuid)| uuid.clone());
        let others = members
            .iter()
            .filter(|(device, uuid)| own.is_some() && *uuid == own && !array.members.contains(device));
        array.left_out = others.map(|(device, _)| device.clone()).collect();
    }
    let arrays: Vec<(String, Array)> = disks
        .iter()
        .filter_map(|disk| Some((disk.device.clone(), disk.array.clone()?)))
        .collect();
    let idle = disks.to_vec();
    for disk in disks.iter_mut().filter(|disk| disk.fs.as_deref() == Some(MEMBER)) {
        let uses = |array: &Array| array.members.contains(&disk.device);
        let misses = |array: &Array| array.left_out.contains(&disk.device);
        disk.part_of = Some(
            match arrays.iter().find(|(_, array)| uses(array) || misses(array)) {
                Some((device, array)) => PartOf {
                    what: "RAID",
                    name: Some(device.clone()),
                    standing: match uses(array) {
                        true if array.degraded() => Standing::Degraded,
                        true => Standing::Active,
                        false => Standing::LeftOut,
                    },
                    activate: (!uses(array))
                        .then(|| format!("mdadm --manage {device} --add {}", disk.device)),
                },
                None => asleep(disk, &idle),
            },
        );
    }
}

/// A member of an array that nobody has started.
fn asleep(disk: &Disk, all: &[Disk]) -> PartOf {
    let siblings: Vec<&Disk> = all
        .iter()
        .filter(|other| other.fs.as_deref() == Some(MEMBER) && other.uuid == disk.uuid)
        .collect();
    let told = disk.raid.clone().unwrap_or_default();
    let newest = siblings
        .iter()
        .filter_map(|other| other.raid.as_ref())
        .map(|raid| raid.events)
        .max();
    // One that was left out before is not made part of it again without anybody asking.
    let current: Vec<&str> = siblings
        .iter()
        .filter(|other| {
            other
                .raid
                .as_ref()
                .is_none_or(|raid| Some(raid.events + 1) >= newest)
        })
        .map(|other| other.device.as_str())
        .collect();
    let name = told.name.clone().filter(|name| !name.is_empty());
    let place = match &name {
        Some(name) => format!("/dev/md/{name}"),
        None => "/dev/md127".to_owned(),
    };
    let whole = current.len() as u64 >= told.devices;
    PartOf {
        what: "RAID",
        name,
        standing: if told.devices > 0 && !whole {
            Standing::InactiveIncomplete {
                here: current.len() as u64,
                of: told.devices,
            }
        } else {
            Standing::Inactive
        },
        activate: Some(format!("mdadm --assemble --run {place} {}", current.join(" "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn member(device: &str, events: u64) -> Disk {
        Disk {
            device: device.to_owned(),
            fs: Some(MEMBER.to_owned()),
            uuid: Some("a".to_owned()),
            raid: Some(Told {
                level: "raid1".to_owned(),
                devices: 2,
                events,
                name: Some("data".to_owned()),
            }),
            ..Disk::default()
        }
    }

    fn running(members: &[&str], missing: &[u64]) -> Disk {
        Disk {
            device: "/dev/md0".to_owned(),
            array: Some(Array {
                level: "raid1".to_owned(),
                state: "clean".to_owned(),
                devices: 2,
                members: members.iter().map(|&name| name.to_owned()).collect(),
                missing: missing.to_vec(),
                left_out: Vec::new(),
                doing: None,
            }),
            ..Disk::default()
        }
    }

    fn standing(disks: &[Disk], index: usize) -> Standing {
        disks[index].part_of.as_ref().unwrap().standing.clone()
    }

    #[test]
    fn a_mirror_says_whether_both_halves_are_in_it() {
        let mut whole = vec![
            member("/dev/vda", 9),
            member("/dev/vdb", 9),
            running(&["/dev/vda", "/dev/vdb"], &[]),
        ];
        join(&mut whole);
        assert_eq!(standing(&whole, 1), Standing::Active);
        let mut half = vec![
            member("/dev/vda", 9),
            member("/dev/vdb", 4),
            running(&["/dev/vda"], &[1]),
        ];
        join(&mut half);
        assert_eq!(standing(&half, 0), Standing::Degraded);
        assert_eq!(standing(&half, 1), Standing::LeftOut);
        assert_eq!(half[2].array.as_ref().unwrap().left_out, ["/dev/vdb"]);
        assert_eq!(
            half[1].part_of.as_ref().unwrap().activate.as_deref(),
            Some("mdadm --manage /dev/md0 --add /dev/vdb")
        );
    }

    #[test]
    fn an_array_that_nobody_started_is_started_without_the_half_that_is_older() {
        let mut disks = vec![member("/dev/vda", 9), member("/dev/vdb", 4)];
        join(&mut disks);
        assert_eq!(
            standing(&disks, 0),
            Standing::InactiveIncomplete { here: 1, of: 2 }
        );
        assert_eq!(
            disks[0].part_of.as_ref().unwrap().activate.as_deref(),
            Some("mdadm --assemble --run /dev/md/data /dev/vda")
        );
        let mut equal = vec![member("/dev/vda", 9), member("/dev/vdb", 9)];
        join(&mut equal);
        assert_eq!(standing(&equal, 0), Standing::Inactive);
    }

    #[test]
    fn the_kernels_directory_is_read() {
        let dir = std::env::temp_dir().join(format!("lifeboot-md-{}", std::process::id()));
        let put = |name: &str, text: &str| {
            let path = dir.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        assert_eq!(array(&dir), None);
        put("md/raid_disks", "2\n");
        put("md/level", "raid1\n");
        put("md/array_state", "clean\n");
        put("md/sync_action", "idle\n");
        put("md/rd0/state", "in_sync\n");
        put("slaves/vda", "");
        let found = array(&dir).unwrap();
        fs::remove_dir_all(&dir).unwrap();
        assert_eq!(
            (found.missing.as_slice(), found.members.as_slice()),
            (&[1][..], &["/dev/vda".to_owned()][..])
        );
        assert!(found.degraded() && found.doing.is_none());
    }

    #[test]
    fn what_mdadm_says_is_understood_and_what_it_does_not_say_is_zero() {
        let told = understand("MD_LEVEL=raid1\nMD_DEVICES=2\nMD_NAME=any:data\nMD_EVENTS=17\nMD_UUID=x\n");
        assert_eq!(
            (told.devices, told.events, told.name.as_deref()),
            (2, 17, Some("data"))
        );
        assert_eq!(understand("nonsense\n=\nMD_DEVICES=-1"), Told::default());
    }
}
