//! What stands where a device is to be opened to: itself, opened before; another device with its UUID; the remains of one.

use super::by_hand::{self, Aim};
use super::{Report, Unlock, Volume};
use crate::disks::sysfs;
use lifeboot_init::block::Opened;

/// What is open, and why that is not enough.
pub(super) fn report(volume: Volume, options: &Unlock) -> Report {
    let open = match volume.opened() {
        Opened::As(open) => Some(open),
        _ => None,
    };
    let is_writable = open.as_deref().is_some_and(|open| {
        let own = sysfs::dir(&open.to_string_lossy());
        sysfs::word(&own.join("ro")).as_deref() == Some("0")
    });
    let mapper = open.as_deref().and_then(by_hand::mapper_of);
    let mapper = mapper.unwrap_or_else(|| volume.mapper());
    let device = &volume.device;
    let amiss = amiss(options, &mapper, is_writable);
    let error = amiss.map(|what| {
        format!("{device} is already unlocked as {mapper}, {what}; 'rescue lock {device}' first")
    });
    Report {
        error,
        mapper: Some(mapper),
        was: Some("unlocked"),
        ..Report::about(volume.device)
    }
}

/// What somebody wants of a device that is open otherwise.
fn amiss(options: &Unlock, mapper: &str, is_writable: bool) -> Option<String> {
    let name = options.name.as_deref().map(|name| format!("/dev/mapper/{name}"));
    match name.filter(|name| name != mapper) {
        Some(name) => Some(format!("not as {name}")),
        None => (options.read_only && is_writable).then(|| "and can be written".to_owned()),
    }
}

/// Why a device that is locked cannot be opened as it should be, whatever the key.
pub(super) fn in_the_way(volume: &Volume, aim: Aim) -> Option<String> {
    (aim == Aim::Open)
        .then(|| obstacle(&volume.device, &volume.name, &volume.opened()))
        .flatten()
}

fn obstacle(device: &str, name: &str, opened: &Opened) -> Option<String> {
    match opened {
        Opened::Other {
            mapped,
            device: other,
        } if mapped.name == name => Some(format!(
            "{device} is locked; {} is what {other} is unlocked as, which has the same UUID: is one a copy of the other? \
             'rescue unlock --name NAME {device}' opens it beside that",
            mapped.path()
        )),
        Opened::LeftOver(mapped) => Some(format!(
            "{device} is locked; {0} is left over from a disk with the same UUID that went away: 'rescue lock {0}' first",
            mapped.path()
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use argh::FromArgs as _;
    use lifeboot_init::block::Mapped;

    #[test]
    fn what_is_open_is_enough_unless_another_name_or_no_writing_was_asked_for() {
        let amiss = |words: &[&str], is_writable| {
            let options = Unlock::from_args(&["unlock"], words).unwrap();
            amiss(&options, "/dev/mapper/a", is_writable)
        };
        assert_eq!(amiss(&["vda2"], true), None);
        assert_eq!(amiss(&["--name", "a", "vda2"], true), None);
        assert_eq!(
            amiss(&["--name", "b", "vda2"], true).unwrap(),
            "not as /dev/mapper/b"
        );
        assert_eq!(amiss(&["--read-only", "vda2"], false), None);
        assert_eq!(
            amiss(&["--read-only", "vda2"], true).unwrap(),
            "and can be written"
        );
    }

    #[test]
    fn a_copy_needs_a_name_of_its_own_and_what_is_left_over_has_to_go_first() {
        let mapped = Mapped {
            kernel: "dm-0".into(),
            name: "luks-u".into(),
            uuid: "CRYPT-LUKS2-u-luks-u".into(),
            ..Mapped::default()
        };
        let other = Opened::Other {
            mapped: mapped.clone(),
            device: "/dev/vda1".into(),
        };
        let why = obstacle("/dev/vdb1", "luks-u", &other).unwrap();
        assert!(
            why.contains("/dev/vda1") && why.contains("--name NAME /dev/vdb1"),
            "{why}"
        );
        assert_eq!(obstacle("/dev/vdb1", "copy", &other), None);
        let over = Opened::LeftOver(mapped);
        for name in ["luks-u", "copy"] {
            let why = obstacle("/dev/vdb1", name, &over).unwrap();
            assert!(why.contains("'rescue lock /dev/mapper/luks-u' first"), "{why}");
        }
        assert_eq!(obstacle("/dev/vdb1", "luks-u", &Opened::No), None);
    }
}
