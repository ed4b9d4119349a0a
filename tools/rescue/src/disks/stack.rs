//! What a device is made of, and what is made of it, by the kernel's own links.
//!
//! The one thing a reader would get wrong: two partitions of one disk have it in common and are nothing to each other.

use super::sysfs;
use lifeboot_init::block::names;
use std::fs;
use std::path::Path;

const CLASS: &str = "/sys/class/block";

/// What lies below `device`, the nearest first: the disk of a partition, the members of an array, what a volume is on.
pub fn below(device: &str) -> Vec<String> {
    below_in(Path::new(CLASS), &sysfs::name(device))
}

/// What is made of `device`, the nearest first: its partitions, what is unlocked from them, volumes, arrays.
pub fn above(device: &str) -> Vec<String> {
    above_in(Path::new(CLASS), &sysfs::name(device))
}

fn below_in(class: &Path, name: &str) -> Vec<String> {
    walk(class, name, |name| {
        let mut nearest = names(&class.join(name).join("slaves"));
        if class.join(name).join("partition").exists()
            && let Ok(real) = fs::canonicalize(class.join(name))
            && let Some(disk) = real.parent().and_then(Path::file_name)
        {
            nearest.push(disk.to_string_lossy().into_owned());
        }
        nearest
    })
}

fn above_in(class: &Path, name: &str) -> Vec<String> {
    walk(class, name, |name| {
        let dir = class.join(name);
        let mut nearest = names(&dir);
        nearest.retain(|inside| dir.join(inside).join("partition").exists());
        nearest.extend(names(&dir.join("holders")));
        nearest
    })
}

/// All that can be come to from `name` on, as people call it; each once, however many ways lead there.
fn walk(class: &Path, name: &str, next: impl Fn(&str) -> Vec<String>) -> Vec<String> {
    let mut known = vec![name.to_owned()];
    let mut at = 0;
    while let Some(name) = known.get(at).cloned() {
        for one in next(&name) {
            if !known.contains(&one) {
                known.push(one);
            }
        }
        at += 1;
    }
    known.iter().skip(1).map(|name| path(class, name)).collect()
}

/// As lsblk calls it.
fn path(class: &Path, name: &str) -> String {
    match sysfs::word(&class.join(name).join("dm/name")) {
        Some(mapped) => format!("/dev/mapper/{mapped}"),
        // A slash cannot be in a name there.
        None => format!("/dev/{}", name.replace('!', "/")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    /// /dev/vda with two partitions; the second is unlocked, and a volume of that lies on /dev/vdb too.
    fn tree() -> PathBuf {
        let dir = std::env::temp_dir().join(format!("lifeboot-stack-{}", std::process::id()));
        let (class, devices) = (dir.join("class"), dir.join("devices"));
        fs::create_dir_all(&class).unwrap();
        for (place, links) in [
            ("vda", &[][..]),
            ("vda/vda1", &[]),
            ("vda/vda2", &["holders/dm-0"]),
            ("vdb", &["holders/dm-1"]),
            ("dm-0", &["slaves/vda2", "holders/dm-1"]),
            ("dm-1", &["slaves/dm-0", "slaves/vdb"]),
        ] {
            let own = devices.join(place);
            for inside in ["slaves", "holders", "queue"] {
                fs::create_dir_all(own.join(inside)).unwrap();
            }
            for link in links {
                fs::write(own.join(link), "").unwrap();
            }
            if place.contains('/') {
                fs::write(own.join("partition"), "1\n").unwrap();
            }
            symlink(&own, class.join(own.file_name().unwrap())).unwrap();
        }
        for (name, mapped) in [("dm-0", "luks-1\n"), ("dm-1", "vg-root\n")] {
            fs::create_dir(devices.join(name).join("dm")).unwrap();
            fs::write(devices.join(name).join("dm/name"), mapped).unwrap();
        }
        dir
    }

    #[test]
    fn a_volume_lies_on_every_disk_it_is_made_of_and_neighbours_are_nothing_to_each_other() {
        let dir = tree();
        let class = dir.join("class");
        let below = |name: &str| below_in(&class, name);
        let above = |name: &str| above_in(&class, name);
        assert_eq!(
            below("dm-1"),
            ["/dev/mapper/luks-1", "/dev/vdb", "/dev/vda2", "/dev/vda"]
        );
        assert_eq!(
            above("vda"),
            [
                "/dev/vda1",
                "/dev/vda2",
                "/dev/mapper/luks-1",
                "/dev/mapper/vg-root"
            ]
        );
        assert_eq!(above("vdb"), ["/dev/mapper/vg-root"]);
        assert_eq!(
            (below("vda1"), above("vda1")),
            (vec!["/dev/vda".to_owned()], vec![])
        );
        assert!(below("vda").is_empty() && above("nothing").is_empty());
        fs::remove_dir_all(&dir).unwrap();
    }
}
