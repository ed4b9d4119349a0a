//! UEFI firmware's way: `BootNext`, through efivarfs.
//!
//! efivarfs lets a few variables be written freely, BootNext among them; every other file in it is left alone.

use super::Target;
use crate::machine;
use anyhow::{Context as _, bail, ensure};
use lifeboot_contract::firmware::uefi::{self, LoadOption, Medium};
use lifeboot_contract::plan::BlockId;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

const VARIABLES: &str = "sys/firmware/efi/efivars";

/// An entry of the firmware's boot menu.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    number: u16,
    description: String,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Boot{:04X}, '{}'", self.number, self.description)
    }
}

/// The variables, mounted for as long as this lives where nobody had mounted them.
struct Variables {
    dir: PathBuf,
    ours: bool,
}

impl Variables {
    fn open() -> anyhow::Result<Variables> {
        let dir = machine::root().join(VARIABLES);
        let is_there = |dir: &Path| fs::read_dir(dir).is_ok_and(|mut files| files.next().is_some());
        if is_there(&dir) {
            return Ok(Variables { dir, ours: false });
        }
        // A kernel that has it built in finds no module, and need not.
        let (_, _said) = lifeboot_init::modules::modprobe(&["efivarfs".to_owned()]);
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        mount("efivarfs", &dir, "efivarfs", flags, c"")
            .with_context(|| format!("efivarfs on {}", dir.display()))?;
        Ok(Variables { dir, ours: true })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(uefi::file_name(name))
    }

    fn numbers(&self, name: &str) -> Vec<u16> {
        fs::read(self.path(name)).map_or_else(|_| Vec::new(), |bytes| uefi::numbers(&bytes))
    }

    /// The boot entries, those of BootOrder first and in its order.
    fn options(&self) -> anyhow::Result<Vec<(u16, LoadOption)>> {
        let order = self.numbers("BootOrder");
        let files = fs::read_dir(&self.dir).with_context(|| self.dir.display().to_string())?;
        let mut options: Vec<(u16, LoadOption)> = files
            .flatten()
            .filter_map(|file| {
                let number = uefi::entry_number(&file.file_name().to_string_lossy())?;
                Some((number, uefi::load_option(&fs::read(file.path()).ok()?)?))
            })
            .collect();
        let place = |number: u16| {
            order
                .iter()
                .position(|other| *other == number)
                .unwrap_or(order.len())
        };
        options.sort_by_key(|(number, _)| (place(*number), *number));
        Ok(options)
    }
}

impl Drop for Variables {
    fn drop(&mut self) {
        if self.ours {
            // Busy: somebody else looks at it, and it can stay.
            crate::output::ignore(unmount(&self.dir, UnmountFlags::empty()).map_err(Into::into));
        }
    }
}

/// Whether UEFI firmware started this machine.
pub fn is_here() -> bool {
    machine::root().join("sys/firmware/efi").is_dir()
}

/// The entry that boots from a target.
///
/// # Errors
/// There is none; what there is, is named.
pub fn choose(target: Target) -> anyhow::Result<Entry> {
    let variables = Variables::open()?;
    let current = variables.numbers("BootCurrent").first().copied();
    pick(target, current, variables.options()?, whereabouts)
}

fn pick(
    target: Target,
    current: Option<u16>,
    options: Vec<(u16, LoadOption)>,
    whereabouts: impl Fn(&str) -> Option<Target>,
) -> anyhow::Result<Entry> {
    let boots_from = |option: &LoadOption| match &option.medium {
        Medium::Network => Some(Target::Network),
        Medium::Usb => Some(Target::Usb),
        Medium::Nvme => Some(Target::Nvme),
        Medium::Sd => Some(Target::Sd),
        Medium::Partition(uuid) => whereabouts(uuid),
        Medium::Other => None,
    };
    let is_current = |number: u16| current == Some(number);
    let fits = |(number, option): &&(u16, LoadOption)| match target {
        Target::Rescue => is_current(*number),
        target => option.active && boots_from(option) == Some(target),
    };
    let mut fitting: Vec<&(u16, LoadOption)> = options.iter().filter(fits).collect();
    // Of several the one that started this system has been seen to work.
    fitting.sort_by_key(|(number, _)| !is_current(*number));
    match fitting.first() {
        Some((number, option)) => Ok(Entry {
            number: *number,
            description: option.description.clone(),
        }),
        None if target == Target::Rescue => {
            bail!("the firmware did not say by which boot entry this system was started")
        }
        None => {
            let known: Vec<String> = options
                .iter()
                .map(|(number, option)| format!("Boot{number:04X} '{}'", option.description))
                .collect();
            bail!(
                "no boot entry of the firmware starts from there; it has: {}",
                known.join(", ")
            )
        }
    }
}

/// What the disk of a partition is.
fn whereabouts(part_uuid: &str) -> Option<Target> {
    let device = lifeboot_init::block::find(&BlockId::PartUuid(part_uuid.to_owned())).ok()??;
    let name = device.file_name()?.to_string_lossy().into_owned();
    if name.starts_with("nvme") {
        return Some(Target::Nvme);
    }
    if name.starts_with("mmcblk") {
        return Some(Target::Sd);
    }
    let path = fs::canonicalize(Path::new("/sys/class/block").join(name)).ok()?;
    path.to_string_lossy().contains("/usb").then_some(Target::Usb)
}

/// Has the firmware start from an entry next time.
///
/// # Errors
/// The firmware's, or what was written does not read back.
pub fn set(entry: &Entry) -> anyhow::Result<()> {
    let variables = Variables::open()?;
    let path = variables.path("BootNext");
    let value = uefi::boot_next(entry.number);
    fs::write(&path, value).context("BootNext")?;
    let read = fs::read(&path).context("BootNext")?;
    ensure!(
        read == value,
        "BootNext: {value:?} was written and {read:?} is read back"
    );
    Ok(())
}

/// Takes it back.
///
/// # Errors
/// The firmware's.
pub fn unset() -> anyhow::Result<()> {
    let variables = Variables::open()?;
    match fs::remove_file(variables.path("BootNext")) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error).context("BootNext"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn option(description: &str, medium: Medium) -> LoadOption {
        LoadOption {
            active: true,
            description: description.to_owned(),
            medium,
        }
    }

    fn options() -> Vec<(u16, LoadOption)> {
        vec![
            (3, option("disk", Medium::Partition("p-1".into()))),
            (0, option("UiApp", Medium::Other)),
            (1, option("PXEv4", Medium::Network)),
            (2, option("HTTPv4", Medium::Network)),
        ]
    }

    fn number(target: Target, current: Option<u16>) -> anyhow::Result<u16> {
        let disks = |uuid: &str| (uuid == "p-1").then_some(Target::Nvme);
        pick(target, current, options(), disks).map(|entry| entry.number)
    }

    #[test]
    fn the_first_entry_of_the_order_that_fits_is_taken_or_the_one_that_worked() {
        assert_eq!(number(Target::Network, Some(3)).unwrap(), 1);
        assert_eq!(number(Target::Network, Some(2)).unwrap(), 2);
        assert_eq!(number(Target::Nvme, None).unwrap(), 3);
        assert_eq!(number(Target::Rescue, Some(0)).unwrap(), 0);
    }

    #[test]
    fn where_no_entry_fits_what_there_is_is_named() {
        let error = number(Target::Usb, None).unwrap_err().to_string();
        assert!(
            error.ends_with("Boot0000 'UiApp', Boot0001 'PXEv4', Boot0002 'HTTPv4'"),
            "{error}"
        );
        assert!(number(Target::Rescue, None).is_err() && number(Target::Rescue, Some(9)).is_err());
    }

    #[test]
    fn an_entry_that_is_switched_off_is_not_chosen() {
        let mut all = options();
        all[2].1.active = false;
        let entry = pick(Target::Network, None, all, |_| None).unwrap();
        assert_eq!(entry.to_string(), "Boot0002, 'HTTPv4'");
    }
}
