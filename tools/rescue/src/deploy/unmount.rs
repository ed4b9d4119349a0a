//! Who is to take down what is mounted: a system that `rescue mount` has brought is undone by `rescue umount` as a whole, or its state no longer
//! fits what is there.

use crate::control;
use crate::mount::state::{By, Placed, State};
use crate::mount::table;
use std::fs;
use std::path::Path;

/// What to type so that nothing is mounted on `point` any more.
pub fn command(point: &str) -> String {
    of(point, &standing())
}

/// The systems that are mounted now, without waiting for whoever is mounting another.
fn standing() -> Vec<Placed> {
    let kept = fs::read(control::run_dir().join("mount.json")).unwrap_or_default();
    let mut systems = serde_json::from_slice::<State>(&kept).unwrap_or_default().systems;
    let mounts = table::read().unwrap_or_default();
    systems.retain(|placed| {
        mounts
            .iter()
            .any(|mount| mount.target == placed.at && placed.mount.is_none_or(|id| id == mount.id))
    });
    systems
}

fn of(point: &str, systems: &[Placed]) -> String {
    let around = systems
        .iter()
        .filter(|placed| placed.by != By::Person && Path::new(point).starts_with(&placed.at));
    match around.max_by_key(|placed| placed.at.components().count()) {
        Some(placed) => format!("rescue umount {}", placed.at.display()),
        None => format!("umount {point}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_command_has_mounted_that_command_undoes() {
        let placed = |at: &str, by| Placed {
            at: at.into(),
            title: String::new(),
            device: "/dev/vda2".to_owned(),
            mount: Some(1),
            by,
            binds: Vec::new(),
            sessions: Vec::new(),
        };
        let systems = [placed("/mnt", By::Mount), placed("/mnt/inner", By::Chroot)];
        assert_eq!(of("/mnt", &systems), "rescue umount /mnt");
        assert_eq!(of("/mnt/boot/efi", &systems), "rescue umount /mnt");
        assert_eq!(of("/mnt/inner/boot", &systems), "rescue umount /mnt/inner");
        assert_eq!(of("/mnt2/boot", &systems), "umount /mnt2/boot");
        let by_hand = [placed("/mnt", By::Person)];
        assert_eq!(of("/mnt/boot/efi", &by_hand), "umount /mnt/boot/efi");
        assert_eq!(of("/mnt/boot/efi", &[]), "umount /mnt/boot/efi");
    }
}
