//! Which device is meant by what a person types.

use super::Disk;
use anyhow::bail;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

/// The one device called `name`.
///
/// # Errors
/// When there is none, or a label is there twice.
pub fn find<'a>(disks: &'a [Disk], name: &str) -> anyhow::Result<&'a Disk> {
    let typed = Path::new(name);
    let mut name = name.to_owned();
    // /dev/disk/by-…, /dev/root and the like.
    if name.starts_with('/')
        && let Ok(real) = std::fs::canonicalize(&name)
        && !disks.iter().any(|disk| disk.is_called(&name))
    {
        name = real.to_string_lossy().into_owned();
    }
    let found: Vec<&Disk> = disks
        .iter()
        .filter(|disk| disk.is_called(&name) || is_mapped(disk, &name))
        .collect();
    match found.as_slice() {
        [] if is_other(typed) => {
            bail!(
                "{}: not a block device; 'rescue disks' shows what is there",
                typed.display()
            )
        }
        [] => bail!(
            "{name}: no such block device; {}",
            hint(typed).unwrap_or_else(|| "'rescue disks' shows what is there".to_owned())
        ),
        [one] => Ok(one),
        several => {
            let devices: Vec<&str> = several.iter().map(|disk| disk.device.as_str()).collect();
            bail!("{name}: means {} devices: {}", several.len(), devices.join(", "))
        }
    }
}

/// What to type instead of a name that works elsewhere.
fn hint(typed: &Path) -> Option<String> {
    let last = typed.file_name()?.to_str()?;
    let by = typed
        .parent()
        .and_then(|dir| dir.strip_prefix("/dev/disk").ok())
        .and_then(Path::to_str);
    let word = match by {
        Some("by-uuid") => "UUID",
        Some("by-label") => "LABEL",
        Some("by-partuuid") => "PARTUUID",
        Some("by-partlabel") => "PARTLABEL",
        Some(_) => {
            return Some(
                "the rescue system has no links in /dev/disk; 'rescue disks' shows what is there".to_owned(),
            );
        }
        None if !typed.is_absolute() && typed.components().count() == 2 && typed.starts_with(".") => {
            return Some(format!("'/dev/{last}' or '{last}' names a device"));
        }
        None => return None,
    };
    // udev writes what a file name cannot hold as \x20.
    Some(match last.contains('\\') {
        true => format!("{word}=… names it here, 'rescue disks' shows it"),
        false => format!("'{word}={last}' names it here"),
    })
}

/// Whether something is there that is no block device: a file, `/dev/null`.
fn is_other(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|meta| !meta.file_type().is_block_device())
}

/// Whether `path` is the kernel's own name of a device that lsblk shows under /dev/mapper.
fn is_mapped(disk: &Disk, path: &str) -> bool {
    path.starts_with("/dev/dm-")
        && std::fs::canonicalize(&disk.device).is_ok_and(|real| real.as_os_str() == path)
}

#[cfg(test)]
mod tests {
    use super::super::tests::seen;
    use super::*;

    #[test]
    fn a_device_is_found_by_any_of_its_names() {
        let disks = seen();
        for name in ["/dev/vda1", "vda1", "UUID=U-1", "LABEL=data", "PARTUUID=P-1"] {
            assert_eq!(find(&disks, name).unwrap().device, "/dev/vda1", "{name}");
        }
        for (name, says) in [
            ("vdb", "no such block device"),
            ("LABEL=other", "no such block device"),
            ("/dev/nothing", "no such block device"),
            ("/dev/null", "/dev/null: not a block device"),
            ("/etc/passwd", "/etc/passwd: not a block device"),
            ("/", "/: not a block device"),
        ] {
            let said = find(&disks, name).unwrap_err().to_string();
            assert!(said.contains(says), "{said}");
        }
    }

    #[test]
    fn names_of_udev_are_answered_with_the_name_that_works_here() {
        let disks = seen();
        for (name, says) in [
            ("/dev/disk/by-label/data", Some("'LABEL=data' names it here")),
            ("/dev/disk/by-uuid/u-9", Some("'UUID=u-9' names it here")),
            ("/dev/disk/by-partuuid/p-9", Some("'PARTUUID=p-9'")),
            ("/dev/disk/by-label/my\\x20disk", Some("LABEL=…")),
            ("/dev/disk/by-id/ata-x", Some("no links in /dev/disk")),
            ("./vda", Some("'/dev/vda' or 'vda' names a device")),
            ("/dev/nothing", None),
            ("nothing", None),
        ] {
            let said = find(&disks, name).unwrap_err().to_string();
            assert!(said.contains(says.unwrap_or("'rescue disks' shows")), "{said}");
            assert_eq!(
                said.contains("names"),
                says.is_some_and(|says| says.contains('=') || name.starts_with('.')),
                "{said}"
            );
        }
    }
}
