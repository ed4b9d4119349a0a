//! What is in the image besides the device's own executable: Debian's programs, busybox and its applets, the files
//! every system has in /etc.

mod missing;

use std::collections::BTreeMap;

use anyhow::{Result, bail};
pub use missing::check;

use crate::archive::{Archive, Part};
use crate::board::Arch;
use crate::elf::{Libraries, under_usr};
use crate::feature::Features;
use crate::tree::Tree;

/// Where Debian's busybox lies.
const BUSYBOX: &str = "usr/bin/busybox";

/// Applets that would stand in the way of the device's own ways to load modules, start and stop.
const LEFT_OUT: &[&str] = &[
    "halt", "init", "linuxrc", "modprobe", "poweroff", "reboot", "telinit",
];

/// Typed by people who know other systems; PID 1 wants to be asked, not signalled.
const STOPPING: &[(&str, &str)] = &[
    ("halt", "poweroff"),
    ("poweroff", "poweroff"),
    ("reboot", "reboot"),
];

const PROFILE: &str = "\
export PATH=/usr/sbin:/usr/bin
export HOME=${HOME:-/root}
export TERM=${TERM:-vt100}
umask 022
if [ -n \"$BASH_VERSION\" ]; then
    . /etc/bash.bashrc
else
    PS1='rescue@\\h:\\w\\$ '
fi
";

/// What Tab offers behind `rescue`, for bash.
const COMPLETION: &str = include_str!("../../tools/rescue/completion.bash");

/// Files of /etc, with their modes.
const ETC: &[(&str, &str)] = &[
    (
        "etc/passwd",
        "root:*:0:0:root:/root:/bin/sh\nnobody:*:65534:65534:nobody:/:/bin/false\n",
    ),
    ("etc/group", "root:x:0:\ntty:x:5:\ndisk:x:6:\nnogroup:x:65534:\n"),
    ("etc/shells", "/bin/sh\n/bin/ash\n/bin/bash\n"),
    (
        "etc/nsswitch.conf",
        "passwd: files\ngroup: files\nhosts: files dns\n",
    ),
    ("etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"),
    // mount(8) without -t tries these; the kernel's own list only has what is loaded already.
    (
        "etc/filesystems",
        "ext4\next3\next2\nvfat\nsquashfs\nbtrfs\nxfs\nf2fs\nexfat\nntfs3\nntfs\niso9660\n",
    ),
    ("etc/profile", PROFILE),
];

/// The files every system has in /etc, and the scripts that stop it.
pub fn settings(archive: &mut Archive) -> Result<()> {
    for (path, text) in ETC {
        archive.file(path, 0o644, text.as_bytes().to_vec(), Part::Settings)?;
    }
    archive.link("etc/mtab", "../proc/self/mounts")?;
    for (name, command) in STOPPING {
        let script = format!("#!/bin/sh\nexec /usr/bin/rescue {command} \"$@\"\n");
        archive.file(
            &format!("usr/sbin/{name}"),
            0o755,
            script.into_bytes(),
            Part::Settings,
        )?;
    }
    Ok(())
}

/// What bash reads when Tab is pressed behind `rescue`.
pub fn completion(archive: &mut Archive) -> Result<()> {
    let text = COMPLETION.as_bytes().to_vec();
    archive.file("etc/bash_completion.d/rescue", 0o644, text, Part::Settings)
}

/// The shell, entered early because it is what a person is left with when the rest did not fit; with its libraries, where
/// it is not the static one (Raspberry Pi OS has the other).
pub fn busybox(archive: &mut Archive, tree: &Tree, arch: Arch) -> Result<()> {
    let path = format!("/{BUSYBOX}");
    let bytes = tree.read(&path)?;
    let mut libraries = Libraries::new(tree, arch);
    libraries.add_program(&path, &bytes)?;
    archive.file(BUSYBOX, 0o755, bytes, Part::Programs)?;
    archive.link("usr/bin/sh", "busybox")?;
    put_libraries(archive, libraries)
}

fn put_libraries(archive: &mut Archive, libraries: Libraries) -> Result<()> {
    for (path, bytes) in libraries.finish() {
        if !archive.has(&path) {
            archive.file(&path, 0o755, bytes, Part::Libraries)?;
        }
    }
    Ok(())
}

/// Links for busybox's applets, where no other program has the name.
pub fn applets(archive: &mut Archive) -> Result<()> {
    let Some(busybox) = archive.items().iter().find(|item| item.path == BUSYBOX) else {
        return Ok(());
    };
    let names = applet_names(&busybox.data);
    if names.is_empty() {
        bail!("/{BUSYBOX}: no list of applets in it");
    }
    for name in names {
        let places = [format!("usr/bin/{name}"), format!("usr/sbin/{name}")];
        if !LEFT_OUT.contains(&name.as_str()) && !places.iter().any(|place| archive.has(place)) {
            archive.link(&format!("usr/bin/{name}"), "busybox")?;
        }
    }
    Ok(())
}

/// Busybox keeps its applets' names in alphabetical order, each ended by a zero, beginning with `[` and `[[`. Read from
/// there because a busybox for another architecture cannot be asked.
fn applet_names(busybox: &[u8]) -> Vec<String> {
    let start = b"[\0[[\0";
    let Some(at) = busybox.windows(start.len()).position(|window| window == start) else {
        return Vec::new();
    };
    let mut names: Vec<String> = Vec::new();
    for name in busybox.get(at..).unwrap_or_default().split(|byte| *byte == 0) {
        let Ok(name) = std::str::from_utf8(name) else {
            break;
        };
        let plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_graphic() && c != '/');
        if !plain || names.last().is_some_and(|last| last.as_str() >= name) {
            break;
        }
        names.push(name.to_owned());
    }
    names
}

/// The features' programs and files, then the libraries they name.
pub fn programs(archive: &mut Archive, tree: &Tree, arch: Arch, features: &Features) -> Result<()> {
    let mut libraries = Libraries::new(tree, arch);
    // A second name of a file already written becomes a link, as it is in its package.
    let mut written: BTreeMap<(u64, u64), String> = BTreeMap::new();
    for (name, feature) in features {
        for path in &feature.files {
            let place = under_usr(path);
            if archive.has(&place) {
                continue;
            }
            let metadata = tree.metadata(path)?;
            if let Some(first) = written.get(&metadata.identity) {
                archive.link(&place, &format!("/{first}"))?;
                continue;
            }
            let bytes = tree.read(path)?;
            libraries.add_program(path, &bytes)?;
            archive.file(&place, metadata.mode & 0o755, bytes, Part::Programs)?;
            written.insert(metadata.identity, place);
        }
        for library in &feature.libraries {
            libraries.add_library(library, &format!("feature {name}"))?;
        }
    }
    put_libraries(archive, libraries)
}

/// The CA bundle: every certificate of the directories, then those given, one after the other. Without any there is no bundle.
pub fn certificates<'a>(
    archive: &mut Archive,
    tree: &Tree,
    directories: impl Iterator<Item = &'a str>,
    given: &[u8],
) -> Result<()> {
    let mut bundle = Vec::new();
    for directory in directories {
        let before = bundle.len();
        for name in tree.names(directory).iter().filter(|name| name.ends_with(".crt")) {
            bundle.extend(tree.read(format!("{directory}/{name}"))?);
            if bundle.last() != Some(&b'\n') {
                bundle.push(b'\n');
            }
        }
        if bundle.len() == before {
            bail!("{directory}: no certificates in it");
        }
    }
    bundle.extend_from_slice(given);
    if bundle.is_empty() {
        return Ok(());
    }
    archive.file(
        "etc/ssl/certs/ca-certificates.crt",
        0o644,
        bundle,
        Part::Certificates,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn applets_are_read_up_to_the_end_of_their_table() {
        let busybox = b"\x7fELFnoise [\0[[\0acpid\0ash\0zcat\0\0/var/log\0";
        assert_eq!(applet_names(busybox), ["[", "[[", "acpid", "ash", "zcat"]);
        assert!(applet_names(b"nothing here").is_empty());
    }

    #[test]
    fn applets_give_way_to_programs_and_to_the_device() {
        let mut archive = Archive::default();
        archive
            .file(
                BUSYBOX,
                0o755,
                b"[\0[[\0blkid\0ls\0modprobe\0\0".to_vec(),
                Part::Programs,
            )
            .unwrap();
        archive
            .file("usr/sbin/blkid", 0o755, Vec::new(), Part::Programs)
            .unwrap();
        applets(&mut archive).unwrap();
        assert!(archive.has("usr/bin/ls"));
        assert!(!archive.has("usr/bin/blkid"));
        assert!(!archive.has("usr/bin/modprobe"));
    }
}
