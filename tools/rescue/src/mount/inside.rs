//! What is in a device that is itself no file system: a LUKS device, a part of a RAID, a physical volume.

use crate::disks::{self, Disk, LUKS, Luks, lvm, md};
use anyhow::bail;

/// RAID, a LUKS device on it, a volume in that, and something between: nobody has more.
const DEEPEST: usize = 8;

/// A device and what is in it.
pub(super) fn within<'a>(disks: &'a [Disk], device: &'a Disk) -> Vec<&'a Disk> {
    let mut inside = vec![device];
    // A RAID comes before its second part in the list.
    loop {
        let before = inside.len();
        for disk in disks {
            let is_known = inside.iter().any(|known| known.device == disk.device);
            if !is_known && inside.iter().any(|outer| holds(outer, disk)) {
                inside.push(disk);
            }
        }
        if inside.len() == before {
            return inside;
        }
    }
}

fn holds(outer: &Disk, disk: &Disk) -> bool {
    let array = outer.part_of.as_ref().and_then(|part| part.name.as_ref());
    disk.parent.as_ref() == Some(&outer.device) || array == Some(&disk.device)
}

/// A file system that is no system, to be mounted all the same; by its own device, or by one that it alone is in.
pub(super) fn data<'a>(disks: &'a [Disk], name: &str) -> anyhow::Result<&'a Disk> {
    let mut disk = disks::find(disks, name)?;
    for _ in 0..DEEPEST {
        let inside: Vec<&Disk> = disks.iter().filter(|inner| holds(disk, inner)).collect();
        match (disk.fs.as_deref(), inside.as_slice()) {
            (Some(LUKS), _) if disk.luks == Some(Luks::Locked) => {
                bail!("{}: locked; 'rescue unlock {0}' opens it", disk.device)
            }
            (Some(LUKS | md::MEMBER | lvm::MEMBER), [one]) => disk = one,
            (Some(LUKS | md::MEMBER | lvm::MEMBER), [_, _, ..]) => {
                let devices: Vec<&str> = inside.iter().map(|inner| inner.device.as_str()).collect();
                bail!(
                    "{}: {} are in it; name one of them",
                    disk.device,
                    devices.join(", ")
                )
            }
            (Some(LUKS | md::MEMBER | lvm::MEMBER | "swap" | "swsuspend") | None, _) => break,
            (Some(_), _) => return Ok(disk),
        }
    }
    bail!(
        "{}: nothing on it can be mounted; 'rescue disks' shows what is there",
        disk.device
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disks::{PartOf, Standing};

    /// A mirror of vda and vdb with a LUKS device in it and a file system in that, and a physical volume with one volume or two.
    fn disks(luks: Luks) -> Vec<Disk> {
        let disk = |device: &str, fs: Option<&str>, parent: Option<&str>| Disk {
            device: device.into(),
            fs: fs.map(str::to_owned),
            parent: parent.map(str::to_owned),
            ..Disk::default()
        };
        let mirror = Some(PartOf {
            what: "RAID",
            name: Some("/dev/md127".into()),
            standing: Standing::Active,
            activate: None,
        });
        let mut all = vec![
            disk("/dev/vda", Some(md::MEMBER), None),
            disk("/dev/md127", Some(LUKS), Some("/dev/vda")),
            disk("/dev/mapper/luks-u", Some("ext4"), Some("/dev/md127")),
            disk("/dev/vdb", Some(md::MEMBER), None),
            disk("/dev/vdc", Some(lvm::MEMBER), None),
            disk("/dev/mapper/vg-home", Some("xfs"), Some("/dev/vdc")),
        ];
        all[0].part_of.clone_from(&mirror);
        all[3].part_of = mirror;
        if luks == Luks::Locked {
            all.remove(2);
        }
        all[1].luks = Some(luks);
        all
    }

    fn open() -> Vec<Disk> {
        disks(Luks::Unlocked("/dev/mapper/luks-u".into()))
    }

    #[test]
    fn a_file_system_is_found_by_what_it_alone_is_in() {
        let mut disks = open();
        for name in ["/dev/mapper/luks-u", "/dev/md127", "/dev/vda", "/dev/vdb"] {
            assert_eq!(data(&disks, name).unwrap().device, "/dev/mapper/luks-u", "{name}");
        }
        assert_eq!(data(&disks, "/dev/vdc").unwrap().device, "/dev/mapper/vg-home");
        disks.push(Disk {
            device: "/dev/mapper/vg-root".into(),
            ..disks[5].clone()
        });
        let said = data(&disks, "/dev/vdc").unwrap_err().to_string();
        assert!(
            said.contains("/dev/mapper/vg-home, /dev/mapper/vg-root are in it"),
            "{said}"
        );
    }

    #[test]
    fn what_is_locked_or_holds_nothing_is_not_mounted() {
        let mut disks = disks(Luks::Locked);
        for name in ["/dev/md127", "/dev/vdb"] {
            let said = data(&disks, name).unwrap_err().to_string();
            assert_eq!(
                said, "/dev/md127: locked; 'rescue unlock /dev/md127' opens it",
                "{name}"
            );
        }
        disks.retain(|disk| disk.parent.is_none());
        for name in ["/dev/vda", "/dev/vdc"] {
            let said = data(&disks, name).unwrap_err().to_string();
            assert!(said.contains("nothing on it can be mounted"), "{said}");
        }
    }

    #[test]
    fn either_half_of_a_mirror_has_in_it_what_the_mirror_has() {
        let disks = open();
        for name in ["/dev/vda", "/dev/vdb"] {
            let inside = within(&disks, disks::find(&disks, name).unwrap());
            let inside: Vec<&str> = inside.iter().map(|disk| disk.device.as_str()).collect();
            assert_eq!(inside, [name, "/dev/md127", "/dev/mapper/luks-u"]);
        }
        let other = within(&disks, disks::find(&disks, "/dev/vdc").unwrap());
        assert_eq!(other.len(), 2);
    }
}
