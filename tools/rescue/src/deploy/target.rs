//! Which disk is meant, what it is, and why it may not be overwritten.

use super::unmount;
use crate::disks::sysfs::{self, told, word};
use crate::disks::{self, Disk};
use lifeboot_contract::plan::BlockId;

/// The disk that is to be overwritten.
#[derive(Debug)]
pub struct Target {
    /// As `rescue disks` knows it.
    pub disk: Disk,
    /// What the maker calls it; for a partition the disk it is on.
    pub model: Option<String>,
    /// Likewise.
    pub serial: Option<String>,
    /// What is on it: partitions, what is opened from them.
    pub inside: Vec<Disk>,
    /// What it is a part of: the disk of a partition, the partition of a volume on it.
    pub around: Vec<String>,
    /// Whether the kernel lets nobody write to it.
    pub read_only: bool,
    /// Devices of which it, or a partition of it, is a part.
    pub holders: Vec<String>,
    /// Whether the keys of this boot were to be read from it.
    pub has_keys: bool,
}

impl Target {
    /// Looks at the device called `name`.
    ///
    /// # Errors
    /// There is none of that name, or several.
    pub fn find(name: &str, keys: Option<&BlockId>) -> anyhow::Result<Target> {
        let disks = disks::list()?;
        let disk = disks::find(&disks, name)?.clone();
        let inside = within(&disks, &disk.device);
        let parent = disks
            .iter()
            .find(|other| Some(&other.device) == disk.parent.as_ref());
        let maker = parent.filter(|_| disk.kind == "part").unwrap_or(&disk);
        let keys = keys.and_then(|id| disks::find(&disks, &id.to_string()).ok());
        let has_keys = keys.is_some_and(|keys| {
            let related =
                |one: &Disk, other: &str| one.device == other || one.parent.as_deref() == Some(other);
            related(keys, &disk.device) || inside.iter().any(|part| part.device == keys.device)
        });
        let own = sysfs::dir(&disk.device);
        Ok(Target {
            model: maker
                .model
                .clone()
                .or_else(|| told(&sysfs::dir(&maker.device), &sysfs::MODEL)),
            serial: told(&sysfs::dir(&maker.device), &sysfs::SERIAL),
            read_only: word(&own.join("ro")).as_deref() == Some("1"),
            holders: std::iter::once(&disk)
                .chain(inside.iter().filter(|part| part.kind == "part"))
                .flat_map(|part| sysfs::devices(&sysfs::dir(&part.device).join("holders")))
                .collect(),
            has_keys,
            around: around(&disks, &disk),
            inside,
            disk,
        })
    }

    /// Why it cannot be written from the block device that `is_source` knows: what is read would be overwritten first.
    pub fn overlap(&self, is_source: impl Fn(&str) -> bool) -> Option<String> {
        let device = &self.disk.device;
        let inside = self.inside.iter().map(|part| &part.device);
        let mut related = std::iter::once(device).chain(inside).chain(&self.around);
        let source = related.find(|other| is_source(other))?;
        Some(match source == device {
            true => format!("{device}: it is the source too"),
            false => {
                format!("{device}: the source, {source}, lies on the same disk and would be overwritten")
            }
        })
    }

    /// Why it is not overwritten whatever anybody says.
    pub fn refusal(&self) -> Option<String> {
        let device = &self.disk.device;
        let everything = || std::iter::once(&self.disk).chain(&self.inside);
        if let Some((part, point)) = everything().find_map(|part| Some((part, part.mounted.first()?))) {
            return Some(match point.as_str() {
                "[SWAP]" => format!("{device}: {} is used as swap; swapoff {0} first", part.device),
                _ => format!(
                    "{device}: {} is mounted on {point}; unmount it first: {}",
                    part.device,
                    unmount::command(point)
                ),
            });
        }
        if let Some(open) = self.inside.iter().find(|part| part.kind == "crypt") {
            return Some(format!(
                "{device}: {} is open; close it first: cryptsetup close {0}",
                open.device
            ));
        }
        if let Some(holder) = self.holders.first() {
            return Some(format!(
                "{device}: in use by {holder}, which must be stopped first"
            ));
        }
        if self.disk.kind == "rom" || self.read_only {
            return Some(format!("{device}: read-only; {}", self.disk.protection()));
        }
        None
    }

    /// Why `needs` bytes do not fit.
    pub fn too_small(&self, needs: u64) -> Option<String> {
        (needs > self.disk.size).then(|| {
            format!(
                "{}: too small, the image has {needs} bytes and it has {}",
                self.disk.device, self.disk.size
            )
        })
    }

    /// Device, model, serial and size, so that a person can tell it from its neighbour.
    pub fn title(&self) -> String {
        let model = self.model.as_deref().unwrap_or("no model told");
        let serial = match self.serial.as_deref() {
            Some(serial) => format!("serial {serial}"),
            None => "no serial told".to_owned(),
        };
        let size = disks::human(self.disk.size);
        format!("{}: {model}, {serial}, {size}", self.disk.device)
    }

    /// What is lost: the disk, its partitions, a line each.
    pub fn contents(&self) -> Vec<String> {
        let mut all = vec![self.disk.clone()];
        all.extend(self.inside.iter().cloned());
        disks::lines(&all)
    }
}

/// Everything inside `device`, parents first.
fn within(disks: &[Disk], device: &str) -> Vec<Disk> {
    let mut known = vec![device.to_owned()];
    let mut inside = Vec::new();
    for disk in disks {
        if disk.parent.as_ref().is_some_and(|parent| known.contains(parent)) {
            known.push(disk.device.clone());
            inside.push(disk.clone());
        }
    }
    inside
}

/// What `disk` lies in, the nearest first.
fn around(disks: &[Disk], disk: &Disk) -> Vec<String> {
    let parent = |of: &Disk| {
        disks
            .iter()
            .find(|other| Some(&other.device) == of.parent.as_ref())
    };
    std::iter::successors(parent(disk), |one| parent(one))
        .map(|one| one.device.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target() -> Target {
        let disks = crate::disks::tests::seen();
        let disk = disks[0].clone();
        Target {
            inside: within(&disks, &disk.device),
            around: around(&disks, &disk),
            model: disk.model.clone(),
            serial: Some("QM0001".to_owned()),
            read_only: false,
            holders: Vec::new(),
            has_keys: false,
            disk,
        }
    }

    /// The same without what is mounted and open on it.
    fn idle() -> Target {
        let mut target = target();
        target.inside.retain(|part| part.kind == "part");
        target.inside.iter_mut().for_each(|part| part.mounted.clear());
        target
    }

    #[test]
    fn what_is_in_use_is_refused_with_the_reason_and_the_same_disk_idle_is_not() {
        assert_eq!(
            target().refusal().unwrap(),
            "/dev/vda: /dev/vda1 is mounted on /mnt; unmount it first: umount /mnt"
        );
        assert_eq!(idle().refusal(), None);
        let mut open = target();
        open.inside[0].mounted.clear();
        assert!(
            open.refusal()
                .unwrap()
                .contains("cryptsetup close /dev/mapper/luks-u-2")
        );
        let mut swap = idle();
        swap.inside[2].mounted.push("[SWAP]".to_owned());
        assert_eq!(
            swap.refusal().unwrap(),
            "/dev/vda: /dev/vda3 is used as swap; swapoff /dev/vda3 first"
        );
        let mut held = idle();
        held.holders.push("/dev/md0".to_owned());
        assert!(held.refusal().unwrap().contains("/dev/md0"));
        let mut locked = idle();
        locked.read_only = true;
        assert!(locked.refusal().unwrap().contains("read-only"));
    }

    #[test]
    fn a_source_on_the_same_disk_is_refused_and_one_on_another_disk_is_not() {
        let overlap = |target: &Target, source: &str| target.overlap(|device| device == source);
        let whole = target();
        for source in ["/dev/vda", "/dev/vda1", "/dev/mapper/luks-u-2"] {
            assert!(overlap(&whole, source).unwrap().contains("source"), "{source}");
        }
        assert_eq!(overlap(&whole, "/dev/vdb"), None);
        let disks = crate::disks::tests::seen();
        let mut inner = target();
        inner.disk = disks::find(&disks, "/dev/mapper/luks-u-2").unwrap().clone();
        inner.inside.clear();
        inner.around = around(&disks, &inner.disk);
        assert!(overlap(&inner, "/dev/vda").is_some());
        assert_eq!(overlap(&inner, "/dev/vda1"), None, "its neighbour");
    }

    #[test]
    fn the_last_byte_decides_whether_it_fits() {
        let target = target();
        assert_eq!(target.too_small(2 << 30), None);
        assert_eq!(
            target.too_small((2 << 30) + 1).unwrap(),
            "/dev/vda: too small, the image has 2147483649 bytes and it has 2147483648"
        );
    }

    #[test]
    fn a_disk_is_named_so_that_it_is_not_taken_for_its_neighbour() {
        assert_eq!(target().title(), "/dev/vda: QEMU DISK, serial QM0001, 2.0 GiB");
        assert_eq!(target().contents().len(), 6);
    }
}
