//! What the device mapper has made of which devices, as /sys tells it.
//!
//! A LUKS UUID is no device: a copy of a disk has the same one, and a mapping outlives the disk it was made of. So who asks whether a
//! device is open has to name the device.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

const SYS: &str = "/sys/block";

/// A device of the device mapper.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mapped {
    /// `dm-0`
    pub kernel: String,
    /// `luks-…`, under /dev/mapper
    pub name: String,
    /// `CRYPT-LUKS2-…`
    pub uuid: String,
    /// `252:0`
    pub number: String,
    /// The devices it is made of.
    pub made_of: Vec<Part>,
}

/// A device that something is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// `vda1`
    pub kernel: String,
    /// `254:1`; `None`: it has gone away.
    pub number: Option<String>,
}

/// Whether a device is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opened {
    /// It is not.
    No,
    /// As this, /dev/dm-0.
    As(PathBuf),
    /// It is not; another device with its UUID is.
    Other {
        /// What was opened.
        mapped: Mapped,
        /// From what, /dev/vda1.
        device: String,
    },
    /// It is not; a device with its UUID was open when it went away.
    LeftOver(Mapped),
}

/// All of them.
#[derive(Debug, Default)]
pub struct Mappings(Vec<Mapped>);

impl Mapped {
    /// `/dev/mapper/luks-…`
    pub fn path(&self) -> String {
        format!("/dev/mapper/{}", self.name)
    }

    /// Whether it was opened by cryptsetup.
    pub fn is_crypt(&self) -> bool {
        self.uuid.starts_with("CRYPT-")
    }

    /// Bytes.
    pub fn size(&self) -> u64 {
        let sectors = fs::read_to_string(Path::new(SYS).join(&self.kernel).join("size")).unwrap_or_default();
        sectors.trim().parse::<u64>().unwrap_or(0).saturating_mul(512)
    }

    fn is_of(&self, luks_uuid: &str) -> bool {
        let bare: String = luks_uuid.chars().filter(|c| *c != '-').collect();
        let mut parts = self.uuid.splitn(4, '-');
        parts.next() == Some("CRYPT")
            && parts.next().is_some_and(|kind| kind.starts_with("LUKS"))
            && parts.next() == Some(&bare)
    }
}

/// What is in a directory of /sys, in order; nothing where there is none.
pub fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

impl Mappings {
    /// As they are now.
    pub fn read() -> Mappings {
        Mappings::below(Path::new(SYS))
    }

    fn below(sys: &Path) -> Mappings {
        let word = |path: PathBuf| fs::read_to_string(path).map(|text| text.trim().to_owned());
        let mapped = |kernel: String| {
            let dir = sys.join(&kernel);
            // The link to a device that has gone stays, and leads nowhere.
            let made_of = names(&dir.join("slaves")).into_iter().map(|kernel| Part {
                number: word(dir.join("slaves").join(&kernel).join("dev")).ok(),
                kernel,
            });
            Some(Mapped {
                uuid: word(dir.join("dm/uuid")).ok()?,
                name: word(dir.join("dm/name")).unwrap_or_default(),
                number: word(dir.join("dev")).unwrap_or_default(),
                made_of: made_of.collect(),
                kernel,
            })
        };
        Mappings(names(sys).into_iter().filter_map(mapped).collect())
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Mapped> {
        self.0.iter()
    }

    /// The open volume of that UUID, of whichever device; not one whose disk has gone.
    pub fn of_uuid(&self, luks_uuid: &str) -> Option<&Mapped> {
        self.iter()
            .find(|one| one.is_of(luks_uuid) && !self.is_left_over(one))
    }

    /// Whether the device of that number, with that UUID on it, is open.
    pub fn opened(&self, luks_uuid: &str, number: Option<&str>) -> Opened {
        let same: Vec<&Mapped> = self.iter().filter(|one| one.is_of(luks_uuid)).collect();
        if let Some(own) = same.iter().find(|one| self.is_made_of(one, number)) {
            return Opened::As(Path::new("/dev").join(&own.kernel));
        }
        if let Some(over) = same.iter().find(|one| self.is_left_over(one)) {
            return Opened::LeftOver((*over).clone());
        }
        same.first().map_or(Opened::No, |other| Opened::Other {
            device: self.source_of(other),
            mapped: (*other).clone(),
        })
    }

    /// Those of which all that they were made of has gone, what others are made of before those.
    pub fn left_over(&self) -> Vec<&Mapped> {
        let mut found: Vec<&Mapped> = self.iter().filter(|one| self.is_left_over(one)).collect();
        found.sort_by_key(|one| self.depth(one));
        found
    }

    /// What it is made of, where that is itself one of these.
    pub fn beneath(&self, one: &Mapped) -> Option<&Mapped> {
        one.made_of.iter().find_map(|part| self.get(part))
    }

    fn get(&self, part: &Part) -> Option<&Mapped> {
        self.iter().find(|one| one.kernel == part.kernel)
    }

    fn depth(&self, one: &Mapped) -> usize {
        self.beneath(one).map_or(0, |lower| self.depth(lower) + 1)
    }

    fn is_left_over(&self, one: &Mapped) -> bool {
        let gone = |part: &Part| match self.get(part) {
            Some(lower) => self.is_left_over(lower),
            None => part.number.is_none(),
        };
        !one.made_of.is_empty() && one.made_of.iter().all(gone)
    }

    fn is_made_of(&self, one: &Mapped, number: Option<&str>) -> bool {
        number.is_some()
            && one.made_of.iter().any(|part| {
                let lower = self.get(part);
                part.number.as_deref() == number || lower.is_some_and(|lower| self.is_made_of(lower, number))
            })
    }

    /// The device it was opened from, by the name people know.
    fn source_of(&self, one: &Mapped) -> String {
        match (one.made_of.first(), self.beneath(one)) {
            (_, Some(lower)) if lower.uuid.starts_with("CRYPT-SUBDEV") => self.source_of(lower),
            (_, Some(lower)) => lower.path(),
            (Some(part), None) => format!("/dev/{}", part.kernel),
            (None, None) => one.path(),
        }
    }
}

/// `254:1` of a block device's node.
pub fn number_of(node: &Path) -> Option<String> {
    let number = fs::metadata(node).ok()?.rdev();
    let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
    (number != 0).then(|| format!("{major}:{minor}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    const UUID: &str = "54860739-aaaa";

    /// /sys/block with `dm-0` opened from `vda1`, `dm-1` on that, and `dm-2`, which is no LUKS, on `vdc`.
    fn sys() -> tempfile::TempDir {
        let sys = tempfile::tempdir().unwrap();
        for (kernel, number) in [("vda1", "254:1"), ("vdc", "254:32")] {
            fs::create_dir(sys.path().join(kernel)).unwrap();
            fs::write(sys.path().join(kernel).join("dev"), format!("{number}\n")).unwrap();
        }
        for (kernel, uuid, name, of) in [
            ("dm-0", "CRYPT-LUKS2-54860739aaaa-luks-x", "luks-x", "vda1"),
            ("dm-1", "LVM-abc", "vg-root", "dm-0"),
            ("dm-2", "LVM-def", "other-root", "vdc"),
        ] {
            let dir = sys.path().join(kernel);
            fs::create_dir_all(dir.join("dm")).unwrap();
            fs::create_dir_all(dir.join("slaves")).unwrap();
            fs::write(dir.join("dev"), format!("252:{}\n", &kernel[3..])).unwrap();
            fs::write(dir.join("dm/uuid"), format!("{uuid}\n")).unwrap();
            fs::write(dir.join("dm/name"), format!("{name}\n")).unwrap();
            symlink(sys.path().join(of), dir.join("slaves").join(of)).unwrap();
        }
        sys
    }

    #[test]
    fn a_device_is_open_and_its_copy_with_the_same_uuid_is_not() {
        let sys = sys();
        let mappings = Mappings::below(sys.path());
        assert_eq!(
            mappings.opened(UUID, Some("254:1")),
            Opened::As("/dev/dm-0".into())
        );
        let Opened::Other { mapped, device } = mappings.opened(UUID, Some("254:17")) else {
            panic!("{:?}", mappings.opened(UUID, Some("254:17")));
        };
        assert_eq!(
            (mapped.path().as_str(), device.as_str()),
            ("/dev/mapper/luks-x", "/dev/vda1")
        );
        assert_eq!(mappings.opened("54860739-bbbb", Some("254:1")), Opened::No);
        assert_eq!(mappings.of_uuid(UUID).unwrap().kernel, "dm-0");
    }

    #[test]
    fn what_was_opened_from_a_disk_that_went_away_is_left_over_with_all_that_is_on_it() {
        let sys = sys();
        assert!(Mappings::below(sys.path()).left_over().is_empty());
        fs::remove_dir_all(sys.path().join("vda1")).unwrap();
        let mappings = Mappings::below(sys.path());
        let over: Vec<&str> = mappings
            .left_over()
            .iter()
            .map(|one| one.kernel.as_str())
            .collect();
        assert_eq!(over, ["dm-0", "dm-1"]);
        assert!(mappings.of_uuid(UUID).is_none());
        assert!(matches!(
            mappings.opened(UUID, Some("254:17")),
            Opened::LeftOver(_)
        ));
    }

    #[test]
    fn what_is_made_of_a_volume_is_made_of_the_disk_below() {
        let sys = sys();
        let dir = sys.path().join("dm-0");
        fs::remove_file(dir.join("slaves/vda1")).unwrap();
        symlink(sys.path().join("dm-2"), dir.join("slaves/dm-2")).unwrap();
        let mappings = Mappings::below(sys.path());
        for number in ["252:2", "254:32"] {
            assert!(
                matches!(mappings.opened(UUID, Some(number)), Opened::As(_)),
                "{number}"
            );
        }
        let other = mappings.opened(UUID, None);
        assert!(
            matches!(&other, Opened::Other { device, .. } if device == "/dev/mapper/other-root"),
            "{other:?}"
        );
    }
}
