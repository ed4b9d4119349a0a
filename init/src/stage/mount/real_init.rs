//! The real init: which one, and whether the kernel can execute it.

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

const INITS: [&str; 4] = ["/sbin/init", "/lib/systemd/systemd", "/etc/init", "/bin/init"];

/// The init to execute: the one given, or the first of the usual ones that is there.
pub(super) fn find_init(root: &Path, given: Option<&str>) -> Result<String, String> {
    match given {
        Some(init) => executable(root, init)
            .map(|()| init.to_owned())
            .map_err(|why| format!("init={init}: {why}")),
        None => INITS
            .iter()
            .find(|init| executable(root, init).is_ok())
            .map(|init| (*init).to_owned())
            .ok_or_else(|| format!("no init: none of {} can be executed", INITS.join(", "))),
    }
}

/// Whether the kernel can execute `path` seen from inside `root`: it is there (links are followed inside the root), is a file with an execute
/// bit, and is an ELF file for this machine or a script.
pub fn executable(root: &Path, path: &str) -> Result<(), String> {
    let file = open_inside(root, path).map_err(|error| error.to_string())?;
    let mut file = fs::File::from(file);
    let meta = file.metadata().map_err(|error| error.to_string())?;
    let mode = std::os::unix::fs::PermissionsExt::mode(&meta.permissions());
    if !meta.is_file() || mode & 0o111 == 0 {
        return Err("not an executable file".to_owned());
    }
    let mut head = [0; 20];
    let length = std::io::Read::read(&mut file, &mut head).map_err(|error| error.to_string())?;
    match &head[..length] {
        [b'#', b'!', ..] => Ok(()),
        [0x7f, b'E', b'L', b'F', ..] if length == 20 => match u16::from_le_bytes([head[18], head[19]]) {
            machine if machine == MACHINE => Ok(()),
            machine => Err(format!(
                "made for another machine (ELF machine {machine}, this is {MACHINE})"
            )),
        },
        _ => Err("neither an ELF file nor a script".to_owned()),
    }
}

/// e_machine of this architecture (elf(5)): EM_AARCH64, EM_X86_64.
const MACHINE: u16 = if cfg!(target_arch = "aarch64") { 183 } else { 62 };

fn open_inside(root: &Path, path: &str) -> rustix::io::Result<OwnedFd> {
    let dir = rustix::fs::open(
        root,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    openat2(
        &dir,
        PathBuf::from(path),
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::IN_ROOT,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn root(name: &str) -> PathBuf {
        let root = std::env::temp_dir().join(format!("lifeboot-mount-{name}-{}", std::process::id()));
        fs::create_dir_all(root.join("usr/sbin")).unwrap();
        root
    }

    fn script(path: PathBuf, text: &str, mode: u32) {
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn an_init_behind_an_absolute_link_is_found_inside_the_root() {
        let root = root("link");
        symlink("/usr/sbin", root.join("sbin")).unwrap();
        script(root.join("usr/sbin/init"), "#!/bin/sh\n", 0o755);
        assert_eq!(find_init(&root, None).unwrap(), "/sbin/init");
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn an_init_without_execute_bit_or_of_another_machine_is_refused() {
        let root = root("refused");
        script(root.join("a"), "#!/bin/sh\n", 0o644);
        assert!(
            executable(&root, "/a")
                .unwrap_err()
                .contains("not an executable file")
        );
        let mut elf = b"\x7fELF".to_vec();
        elf.resize(18, 0);
        elf.extend(8u16.to_le_bytes());
        fs::write(root.join("b"), elf).unwrap();
        fs::set_permissions(root.join("b"), fs::Permissions::from_mode(0o755)).unwrap();
        assert!(executable(&root, "/b").unwrap_err().contains("ELF machine 8"));
        assert!(find_init(&root, None).unwrap_err().contains("no init"));
        fs::remove_dir_all(root).unwrap();
    }
}
