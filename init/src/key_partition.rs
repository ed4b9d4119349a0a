//! The key partition: found, read into memory and let go again, before the network and the ssh server begin.
//!
//! Everything here has an end: the search after `lifeboot.key-wait`, the reading of a dying disk soon after that, and whatever comes of it the
//! boot goes on. The one thing a reader would get wrong: what is read stays what it was, until the next boot. A partition that appears later
//! changes nothing, since a host key that changes under its clients looks like an attack.

use crate::block::{self, Orders};
use crate::report::{Reporter, chain, unheeded};
use crate::stage::devices::Devices;
use lifeboot_contract::key_partition::{COPY, FILES, HOST_KEY, LONGEST};
use lifeboot_contract::plan::{BlockId, Plan};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;
use sys_mount::{Mount, MountFlags, UnmountFlags};

/// Where it is mounted while it is read.
const MOUNT: &str = "/run/lifeboot/keys.mounted";
/// A disk that answers at all has answered by then.
const READING: Duration = Duration::from_secs(10);
/// Partitions appear one after the other; the list is taken for complete when it has not changed for so long.
const SETTLED: Duration = Duration::from_millis(300);

/// After this time PID 1 need not wait for the result any more.
pub fn bound(plan: &Plan) -> Duration {
    Duration::from_secs(plan.key_wait_s) + 2 * READING
}

/// What was read, by name.
type Files = Vec<(&'static str, Vec<u8>)>;

/// Looks for the partition the plan names, once a boot, and leaves its files at [`COPY`].
pub fn run(plan: &Plan, devices: &Devices, reporter: &Reporter) {
    let Some(id) = plan.key_partition.clone() else {
        return;
    };
    if Path::new(COPY).exists() {
        return;
    }
    let wait_s = plan.key_wait_s;
    let (sender, done) = mpsc::channel();
    let (devices, at_work) = (devices.clone(), reporter.clone());
    let work = move || {
        let files = look(&id, wait_s, &devices, &at_work);
        // Nobody listens any more when it took too long.
        drop(sender.send(files));
    };
    let spawned = std::thread::Builder::new().name("keys".into()).spawn(work);
    reporter.ignore("keys thread", spawned);
    let files = done
        .recv_timeout(Duration::from_secs(wait_s) + READING)
        .unwrap_or_else(|error| {
            let what = match error {
                mpsc::RecvTimeoutError::Timeout => "the disk of the key partition does not answer",
                mpsc::RecvTimeoutError::Disconnected => "reading the key partition failed unexpectedly",
            };
            refuse(reporter, format!("{what}; the boot goes on without it"));
            Files::new()
        });
    if let Err(error) = keep(Path::new(COPY), &files) {
        refuse(reporter, format!("{COPY}: {}", chain(&error)));
    }
}

/// Waits for the partition and reads it; says what comes of it.
fn look(id: &BlockId, wait_s: u64, devices: &Devices, reporter: &Reporter) -> Files {
    let device = match find(id, wait_s) {
        Ok(Some(device)) => device,
        Ok(None) => {
            let text = format!("no key partition {id} within {wait_s} s; the boot goes on without it");
            let event = reporter.warn("keys.absent").with("wanted", id.to_string());
            reporter.event(event.with("seconds", wait_s).text(text));
            return Files::new();
        }
        Err(what) => {
            refuse(reporter, what);
            return Files::new();
        }
    };
    let name = device.display().to_string();
    let (files, troubles) = read_from(&device, devices);
    for what in &troubles {
        refuse(reporter, format!("key partition {name}: {what}"));
    }
    if files.is_empty() && troubles.is_empty() {
        let what = format!(
            "key partition {name}: none of {} is in its root",
            FILES.join(", ")
        );
        refuse(reporter, what);
    }
    if !files.is_empty() {
        let names: Vec<&str> = files.iter().map(|(name, _)| *name).collect();
        let text = format!("key partition {name}: {}", names.join(", "));
        let event = reporter
            .info("keys.done")
            .with("device", name)
            .with("files", names);
        reporter.event(event.text(text));
    }
    files
}

fn refuse(reporter: &Reporter, what: String) {
    let event = reporter.warn("keys.failed").with("what", what.as_str());
    reporter.event(event.text(what));
}

/// The one partition of that name, as soon as the list of partitions has come to rest; two of them are none.
fn find(id: &BlockId, wait_s: u64) -> Result<Option<PathBuf>, String> {
    // Nobody gives orders here: the wait is short and has its own end.
    let silence = Orders::new(mpsc::channel().1);
    let mut trouble = None;
    let found = block::wait_for(&silence, Some(Duration::from_secs(wait_s)), || {
        let mut before = candidates(id, &mut trouble);
        while !before.is_empty() {
            std::thread::sleep(SETTLED);
            let now = candidates(id, &mut trouble);
            if now == before {
                return Some(now);
            }
            before = now;
        }
        None
    });
    match (found.unwrap_or_default().as_slice(), trouble) {
        ([], Some(what)) => Err(format!("key partition {id}: {what}")),
        ([], None) => Ok(None),
        ([device], _) => Ok(Some(device.clone())),
        (several, _) => {
            let names: Vec<String> = several.iter().map(|path| path.display().to_string()).collect();
            let names = names.join(", ");
            Err(format!(
                "key partition {id}: there are several ({names}), so none is read"
            ))
        }
    }
}

fn candidates(id: &BlockId, trouble: &mut Option<String>) -> Vec<PathBuf> {
    match block::find_all(id) {
        Ok(found) => found,
        Err(error) => {
            *trouble = Some(chain(&error));
            Vec::new()
        }
    }
}

/// Mounts, reads, unmounts. FAT alone: it has no journal that a read-only mount would replay.
fn read_from(device: &Path, devices: &Devices) -> (Files, Vec<String>) {
    match block::fstype(device) {
        Ok(Some(kind)) if kind == "vfat" => {}
        Ok(kind) => {
            let kind = kind.unwrap_or_else(|| "no known file system".to_owned());
            return (Files::new(), vec![format!("is {kind}, only FAT is read")]);
        }
        Err(error) => return (Files::new(), vec![chain(&error)]),
    }
    devices.load("vfat");
    let flags = MountFlags::RDONLY | MountFlags::NOEXEC | MountFlags::NOSUID | MountFlags::NODEV;
    let mounted = fs::create_dir_all(MOUNT)
        .and_then(|()| Mount::builder().fstype("vfat").flags(flags).mount(device, MOUNT));
    if let Err(error) = mounted {
        return (
            Files::new(),
            vec![format!("cannot be mounted: {}", chain(&error))],
        );
    }
    let result = read(Path::new(MOUNT));
    unheeded(MOUNT, sys_mount::unmount(MOUNT, UnmountFlags::DETACH));
    unheeded(MOUNT, fs::remove_dir(MOUNT));
    result
}

/// The known files in `dir`, and what is wrong with those that are not taken.
fn read(dir: &Path) -> (Files, Vec<String>) {
    let mut files = Files::new();
    let mut troubles = Vec::new();
    for name in FILES {
        match read_one(&dir.join(name)) {
            Ok(Some(bytes)) => files.push((name, bytes)),
            Ok(None) => {}
            Err(what) => troubles.push(format!("{name}: {what}")),
        }
    }
    (files, troubles)
}

fn read_one(path: &Path) -> Result<Option<Vec<u8>>, String> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let meta = file.metadata().map_err(|error| error.to_string())?;
    if !meta.is_file() {
        return Err("is not a file".to_owned());
    }
    let mut bytes = Vec::new();
    file.take(LONGEST + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| error.to_string())?;
    match bytes.len() as u64 {
        0 => Err("is empty".to_owned()),
        length if length > LONGEST => Err(format!("{} bytes, at most {LONGEST} are read", meta.len())),
        _ if std::str::from_utf8(&bytes).is_err() => Err("is not text".to_owned()),
        _ => Ok(Some(bytes)),
    }
}

/// Leaves the files for PID 1 and sshd; the directory appears with all of them in it, and says that the search has ended.
fn keep(dir: &Path, files: &Files) -> std::io::Result<()> {
    let partial = dir.with_extension("new");
    if partial.exists() {
        fs::remove_dir_all(&partial)?;
    }
    DirBuilder::new().recursive(true).mode(0o700).create(&partial)?;
    for (name, bytes) in files {
        let mode = if *name == HOST_KEY { 0o600 } else { 0o644 };
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(partial.join(name))?
            .write_all(bytes)?;
    }
    fs::rename(&partial, dir)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn partition(name: &str, files: &[(&str, &[u8])]) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("lifeboot-keys-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        for (name, bytes) in files {
            fs::write(dir.join(name), bytes).unwrap();
        }
        dir
    }

    #[test]
    fn only_the_known_files_are_read_and_each_may_be_absent() {
        let dir = partition(
            "some",
            &[("authorized_keys", b"ssh-ed25519 A\n"), ("boot.bin", b"x")],
        );
        let (files, troubles) = read(&dir);
        fs::remove_dir_all(dir).unwrap();
        assert_eq!(files, [("authorized_keys", b"ssh-ed25519 A\n".to_vec())]);
        assert!(troubles.is_empty());
    }

    #[test]
    fn a_file_that_cannot_be_meant_is_named_and_the_others_are_taken() {
        let long = vec![b'#'; LONGEST as usize + 1];
        let dir = partition(
            "bad",
            &[("authorized_keys", &long), ("config.toml", b"ro = true\n")],
        );
        fs::create_dir_all(dir.join(HOST_KEY)).unwrap();
        let (files, troubles) = read(&dir);
        assert_eq!(files, [("config.toml", b"ro = true\n".to_vec())]);
        assert_eq!(
            troubles,
            [
                "ssh_host_ed25519_key: is not a file",
                "authorized_keys: 65537 bytes, at most 65536 are read"
            ]
        );
        fs::write(dir.join("authorized_keys"), &long[1..]).unwrap();
        fs::write(dir.join("config.toml"), b"\xff").unwrap();
        let (files, troubles) = read(&dir);
        fs::remove_dir_all(dir).unwrap();
        assert_eq!((files.len(), files[0].0), (1, "authorized_keys"));
        assert_eq!(troubles[1], "config.toml: is not text");
    }

    #[test]
    fn nobody_else_may_read_the_host_key_that_is_kept() {
        let dir = partition("kept", &[]).join("keys");
        for _ in 0..2 {
            keep(&dir, &vec![(HOST_KEY, b"secret".to_vec())]).unwrap();
            let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!((mode(&dir), mode(&dir.join(HOST_KEY))), (0o700, 0o600));
            fs::remove_dir_all(&dir).unwrap();
        }
        fs::remove_dir_all(dir.parent().unwrap()).unwrap();
    }
}
