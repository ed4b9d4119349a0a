//! `/dev/disk/by-uuid` and its like, as udev makes them (systemd's rules.d/60-persistent-storage.rules): nothing here needs them, but
//! programs of an installed system do. Without them grub-mkconfig writes a device's name of today where its UUID belongs.

use super::{Disk, lvm, md};
use anyhow::Context as _;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

/// Where they are.
pub const DIR: &str = "/dev/disk";

/// Makes the links in `dir` those of `disks`: what is missing is made, what leads elsewhere goes.
///
/// # Errors
/// The kernel's, naming the directory.
pub fn make(dir: &Path, disks: &[Disk]) -> anyhow::Result<()> {
    for (by, wanted) in wanted(disks) {
        let dir = dir.join(by);
        let name = || dir.display().to_string();
        fs::create_dir_all(&dir).with_context(name)?;
        for entry in fs::read_dir(&dir).with_context(name)?.flatten() {
            let there = entry.file_name();
            let leads = fs::read_link(entry.path()).unwrap_or_default();
            let right = there.to_str().and_then(|there| wanted.get(there));
            if right.is_none_or(|right| Path::new(right) != leads) {
                fs::remove_file(entry.path()).with_context(|| entry.path().display().to_string())?;
            }
        }
        for (link, target) in wanted {
            let path = dir.join(link);
            if !path.is_symlink() {
                symlink(target, &path).with_context(|| path.display().to_string())?;
            }
        }
    }
    Ok(())
}

/// The links of each directory. Of two devices with one name the first has it.
fn wanted(disks: &[Disk]) -> BTreeMap<&'static str, BTreeMap<String, String>> {
    const DIRS: [&str; 4] = ["by-uuid", "by-label", "by-partuuid", "by-partlabel"];
    let mut links: BTreeMap<&str, BTreeMap<String, String>> = DIRS.map(|by| (by, BTreeMap::new())).into();
    for disk in disks {
        // Their UUIDs are their sets'.
        let member = [lvm::MEMBER, md::MEMBER].map(Some).contains(&disk.fs.as_deref());
        let named = [
            ("by-uuid", disk.uuid.as_ref().filter(|_| !member)),
            ("by-label", disk.label.as_ref().filter(|_| !member)),
            ("by-partuuid", disk.partuuid.as_ref()),
            ("by-partlabel", disk.partlabel.as_ref()),
        ];
        let target = format!("../../{}", disk.device.trim_start_matches("/dev/"));
        for (by, name) in named {
            if let Some(name) = name.filter(|name| !name.is_empty()) {
                let links = links.entry(by).or_default();
                links.entry(escaped(name)).or_insert_with(|| target.clone());
            }
        }
    }
    links
}

/// As udev writes what is no letter, digit or one of a few signs (udev's `udev_replace_chars` and blkid's encoding): `\x20`.
fn escaped(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        if c.is_ascii_alphanumeric() || !c.is_ascii() || "#+-.:=@_".contains(c) {
            out.push(c);
        } else {
            out.push_str(&format!("\\x{:02x}", u32::from(c)));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disks::tests::seen;

    fn there(dir: &Path) -> Vec<(String, String)> {
        let mut links = Vec::new();
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let leads = fs::read_link(entry.path()).unwrap();
            links.push((
                entry.file_name().into_string().unwrap(),
                leads.to_string_lossy().into_owned(),
            ));
        }
        links.sort();
        links
    }

    #[test]
    fn links_follow_the_disks_and_one_that_is_gone_has_none() {
        let dir = std::env::temp_dir().join(format!("lifeboot-links-{}", std::process::id()));
        let mut disks = seen();
        disks.truncate(2);
        disks[0].uuid = None;
        disks[1].uuid = Some("a-b".into());
        disks[1].label = Some("my disk/1".into());
        disks[1].device = "/dev/mapper/x".into();
        make(&dir, &disks).unwrap();
        let uuid = [("a-b".to_owned(), "../../mapper/x".to_owned())];
        assert_eq!(there(&dir.join("by-uuid")), uuid);
        assert_eq!(there(&dir.join("by-label"))[0].0, "my\\x20disk\\x2f1");
        disks[1].device = "/dev/vdz".into();
        disks[1].label = None;
        make(&dir, &disks).unwrap();
        assert_eq!(there(&dir.join("by-label")), []);
        disks[0].label = Some("other".into());
        make(&dir, &disks).unwrap();
        assert_eq!(there(&dir.join("by-uuid"))[0].1, "../../vdz");
        let labels = there(&dir.join("by-label"));
        assert!(labels.len() == 1 && labels[0].0 == "other", "{labels:?}");
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn members_of_a_set_have_no_link_and_of_twins_the_first_has_it() {
        let mut disks = seen();
        disks.truncate(2);
        for disk in &mut disks {
            disk.uuid = Some("same".into());
            disk.partuuid = None;
        }
        disks[0].fs = Some("ext4".into());
        let first = format!("../../{}", disks[0].device.trim_start_matches("/dev/"));
        assert_eq!(wanted(&disks)["by-uuid"]["same"], first);
        disks[0].fs = Some(lvm::MEMBER.into());
        assert_ne!(wanted(&disks)["by-uuid"]["same"], first);
    }
}
