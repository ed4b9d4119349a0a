//! Whether a person has the root in use.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Where a person has mounted this device: it must be checked before it becomes the root, and cannot be while it is in use.
pub(super) fn place_of(mounts: &str, device: &Path) -> Option<String> {
    let same = |source: &str| {
        let number = |path: &Path| {
            fs::metadata(path)
                .map(|meta| meta.rdev())
                .ok()
                .filter(|number| *number != 0)
        };
        Path::new(source) == device
            || (number(Path::new(source)).is_some() && number(Path::new(source)) == number(device))
    };
    let mut lines = mounts.lines().map(|line| line.split(' '));
    lines.find_map(|mut fields| {
        let (source, target) = (fields.next()?, fields.next()?);
        (source.starts_with("/dev/") && same(source)).then(|| target.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_that_somebody_has_mounted_is_seen_with_the_place_and_another_is_not() {
        let mounts = "rootfs / rootfs rw 0 0\n/dev/vda2 /mnt ext4 rw 0 0\n/dev/vdb /x ext4 ro 0 0\n";
        assert_eq!(place_of(mounts, Path::new("/dev/vda2")).as_deref(), Some("/mnt"));
        assert_eq!(place_of(mounts, Path::new("/dev/vda1")), None);
        assert_eq!(place_of("/dev/null /n x\n", Path::new("/dev/zero")), None);
        assert_eq!(place_of("", Path::new("/dev/vda2")), None);
    }
}
