//! What a chroot needs of the running kernel and of this system's network, put into an installed system without changing a file of it.

use crate::mount::attach::{self, Root, Wanted};
use crate::mount::options::{Bind, Options};
use crate::mount::plain;
use crate::mount::state::Held;
use crate::mount::table;
use crate::{control, output};
use anyhow::Context as _;
use rustix::fs::{CWD, Mode, OFlags};
use std::fs;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

const NAME_SERVERS: &str = "/etc/resolv.conf";
const EFI: &str = "/sys/firmware/efi/efivars";

/// Puts it all in, unless it is in already.
///
/// # Errors
/// A place that is not there; a mount that failed.
pub fn make(held: &mut Held, at: &Path) -> anyhow::Result<()> {
    let root = Root::open(at)?;
    for place in ["/dev", "/proc", "/sys"] {
        let own = open(Path::new(place))?;
        let tree = attach::clone(own.as_fd(), Bind::Recursive).with_context(|| place.to_owned())?;
        put(held, at, &root, place, tree.as_fd())?;
    }
    if Path::new(EFI).exists() && table::at(&table::read()?, Path::new(EFI)).is_none() {
        // A machine without writable EFI variables is repaired all the same.
        if let Err(error) = kernel_file_system(held, at, &root, "efivarfs", EFI, "") {
            output::complain(&format!("EFI variables are not there: {error:#}."));
        }
    }
    kernel_file_system(held, at, &root, "tmpfs", "/run", "mode=0755,nosuid,nodev")?;
    if let Ok(lock) = make_dir(&root, "/run", "lock") {
        output::ignore(fs::set_permissions(lock, fs::Permissions::from_mode(0o1777)));
    }
    name_servers(held, at, &root)
}

fn open(path: &Path) -> anyhow::Result<std::os::fd::OwnedFd> {
    rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .with_context(|| path.display().to_string())
}

fn kernel_file_system(
    held: &mut Held,
    at: &Path,
    root: &Root,
    fs: &str,
    place: &str,
    options: &str,
) -> anyhow::Result<()> {
    let wanted = Wanted {
        fs,
        source: Path::new(fs),
        options: &Options::parse(options),
    };
    let mount = wanted.mount().with_context(|| fs.to_owned())?;
    put(held, at, root, place, mount.as_fd())
}

/// Hangs one mount, noting it before.
fn put(held: &mut Held, at: &Path, root: &Root, place: &str, mount: BorrowedFd<'_>) -> anyhow::Result<()> {
    let found = root.find(place);
    let found = found.map_err(|_| anyhow::anyhow!("{}: there is no {place} in it", at.display()))?;
    let target = attach::name_of(found.as_fd())?;
    // Another chroot has brought it, or a person has.
    if table::at(&table::read()?, &target).is_some() {
        return Ok(());
    }
    note(held, at, &target)?;
    attach::hang(mount, found.as_fd()).with_context(|| target.display().to_string())
}

fn note(held: &mut Held, at: &Path, target: &Path) -> anyhow::Result<()> {
    if let Some(placed) = held.state.at_mut(at) {
        placed.binds.push(target.to_owned());
    }
    held.save()
}

/// Makes a directory in one of the mounts just made.
fn make_dir(root: &Root, parent: &str, name: &str) -> anyhow::Result<PathBuf> {
    let parent = attach::name_of(root.find(parent)?.as_fd())?;
    let dir = parent.join(name);
    fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
    Ok(dir)
}

/// Where a link in the system leads when its /run is empty.
enum Leads {
    /// To a file that is there.
    File,
    /// Below /run: what is missing can be made there.
    Run(String),
    /// To nothing.
    Nowhere,
}

/// Has programs in it ask the name servers that this system asks. A copy is shown, so that nobody in it can change ours.
fn name_servers(held: &mut Held, at: &Path, root: &Root) -> anyhow::Result<()> {
    let Ok(text) = fs::read(NAME_SERVERS) else {
        return Ok(());
    };
    match leads(root) {
        Leads::Run(inside) => {
            let (dir, name) = inside.rsplit_once('/').unwrap_or(("", &inside));
            let dir = make_dir(root, "/run", dir)?;
            fs::write(dir.join(name), text).with_context(|| dir.display().to_string())
        }
        Leads::File => {
            let copy = control::run_dir().join("chroot-resolv.conf");
            fs::write(&copy, text).with_context(|| copy.display().to_string())?;
            let file = attach::clone(open(&copy)?.as_fd(), Bind::Plain)?;
            put(held, at, root, NAME_SERVERS, file.as_fd())
        }
        Leads::Nowhere => {
            let dir = attach::name_of(root.find("/run")?.as_fd())?;
            fs::write(dir.join("resolv.conf"), text).with_context(|| dir.display().to_string())?;
            output::complain(
                "It has no /etc/resolv.conf, so it finds no host names; 'cp /run/resolv.conf /etc/' in it makes one.",
            );
            Ok(())
        }
    }
}

fn leads(root: &Root) -> Leads {
    const LINKS: usize = 8;
    let mut path = NAME_SERVERS.to_owned();
    for _ in 0..LINKS {
        let clean = plain(&path);
        if let Some(inside) = clean
            .strip_prefix("/run/")
            .or_else(|| clean.strip_prefix("/var/run/"))
        {
            return Leads::Run(inside.to_owned());
        }
        let Ok(file) = root.find_with(&clean, OFlags::PATH | OFlags::NOFOLLOW) else {
            return Leads::Nowhere;
        };
        let Ok(target) = rustix::fs::readlinkat(&file, "", Vec::new()) else {
            return Leads::File;
        };
        let target = target.to_string_lossy().into_owned();
        let dir = clean.rsplit_once('/').map(|(dir, _)| dir).unwrap_or_default();
        path = if target.starts_with('/') {
            target
        } else {
            format!("{dir}/{target}")
        };
    }
    Leads::Nowhere
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn led(prepare: impl FnOnce(&Path)) -> String {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("lifeboot-binds-{}-{count}", std::process::id()));
        fs::create_dir_all(dir.join("etc")).unwrap();
        prepare(&dir.join("etc"));
        let led = match leads(&Root::open(&dir).unwrap()) {
            Leads::File => "a file".to_owned(),
            Leads::Run(inside) => inside,
            Leads::Nowhere => "nowhere".to_owned(),
        };
        fs::remove_dir_all(&dir).unwrap();
        led
    }

    #[test]
    fn a_dangling_link_of_systemd_resolved_leads_into_the_empty_run() {
        let link = |to: &'static str| led(move |etc| symlink(to, etc.join("resolv.conf")).unwrap());
        assert_eq!(
            link("../run/systemd/resolve/stub-resolv.conf"),
            "systemd/resolve/stub-resolv.conf"
        );
        assert_eq!(
            link("/run/NetworkManager/resolv.conf"),
            "NetworkManager/resolv.conf"
        );
        assert_eq!(link("/var/run/x"), "x");
        assert_eq!(link("../../../../run/x"), "x");
        assert_eq!(link("resolv.conf"), "nowhere", "a link to itself");
        assert_eq!(link("/nothing"), "nowhere");
    }

    #[test]
    fn a_file_is_a_file_behind_a_link_too() {
        assert_eq!(
            led(|etc| fs::write(etc.join("resolv.conf"), "x").unwrap()),
            "a file"
        );
        let linked = led(|etc| {
            fs::write(etc.join("real"), "x").unwrap();
            symlink("real", etc.join("resolv.conf")).unwrap();
        });
        assert_eq!(linked, "a file");
        assert_eq!(led(|_| {}), "nowhere");
    }
}
