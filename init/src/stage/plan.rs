//! Stage plan: the one place where the command line, the device tree and the baked configuration are read.
//!
//! The decisions are `contract::plan`'s; here is only the reading. Run once, by PID 1, which leaves the plan at
//! `/run/lifeboot/plan.json` for the other processes.

use crate::board::Board;
use crate::report::chain;
use lifeboot_contract::config::Config;
use lifeboot_contract::image::{self, ImageInfo};
use lifeboot_contract::key_partition::{self, KeyFiles};
use lifeboot_contract::plan::{BakedKeys, Plan};
use lifeboot_contract::template::Facts;
use sha2::{Digest, Sha256};
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// What the image says about itself; a missing or bad file gives the default.
pub fn image_info(root: &Path) -> ImageInfo {
    let text = fs::read_to_string(under(root, image::IMAGE_INFO)).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

/// Reads everything below `root` (`/` on the device) and makes the plan.
pub fn run(root: &Path) -> Plan {
    let cmdline =
        String::from_utf8_lossy(&fs::read(under(root, "/proc/cmdline")).unwrap_or_default()).into_owned();
    let keys = baked_keys(root);
    let baked = match fs::read_to_string(under(root, image::CONFIG)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Config::default()),
        Err(error) => Err(format!("{}: {error}", image::CONFIG)),
        Ok(text) => Config::parse(&text).map_err(|error| format!("{}: {}", image::CONFIG, chain(&error))),
    };
    let (config, bad) = match baked {
        Ok(config) => (config, None),
        Err(what) => (Config::default(), Some(what)),
    };
    let mut plan = Plan::with_key_files(&cmdline, &config, facts(root), keys, &key_files(root));
    if let Some(what) = bad {
        plan.refuse(what);
        guard_consoles(root, &mut plan);
    }
    plan
}

/// For a plan that was made without understanding the command line or the image's configuration: consoles stay shut where one of them seems
/// to want a password.
pub fn guard_consoles(root: &Path, plan: &mut Plan) {
    let text =
        |path: &str| String::from_utf8_lossy(&fs::read(under(root, path)).unwrap_or_default()).into_owned();
    plan.guard_consoles(&[&text("/proc/cmdline"), &text(image::CONFIG)]);
}

/// The key files in the image; one that is not there has no keys in it.
pub fn baked_keys(root: &Path) -> BakedKeys {
    // One byte that is no UTF-8, in a comment for one, must not shut everybody out.
    let text = |path: &str| lossy(&under(root, path)).unwrap_or_default();
    BakedKeys {
        root: text(image::AUTHORIZED_KEYS),
        unlock: text(image::UNLOCK_KEYS),
        status: text(image::STATUS_KEYS),
        user_authorities: text(image::USER_AUTHORITIES),
    }
}

fn lossy(path: &Path) -> Option<String> {
    let bytes = fs::read(path).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// What was read from a key partition, if one has been.
fn key_files(root: &Path) -> KeyFiles {
    let dir = under(root, key_partition::COPY);
    KeyFiles {
        authorized_keys: lossy(&dir.join(key_partition::AUTHORIZED_KEYS)),
        config: fs::read_to_string(dir.join(key_partition::CONFIG)).ok(),
    }
}

/// Makes the plan anew after a key partition has been read, and leaves it in the place of `first`. No root that was refused before
/// is allowed by it.
///
/// # Errors
/// The file's.
pub fn again(first: &Plan) -> io::Result<Plan> {
    let mut plan = run(Path::new("/"));
    keep_refusal(first, &mut plan);
    store(&plan)?;
    Ok(plan)
}

fn keep_refusal(first: &Plan, plan: &mut Plan) {
    if let Some(before) = &first.refusal
        && !plan.refusal.as_ref().is_some_and(|now| now.contains(before))
    {
        plan.refuse(before.clone());
    }
}

/// Reads the plan that was left for the other processes.
///
/// # Errors
/// The file's, naming it.
pub fn stored() -> io::Result<Plan> {
    let text = fs::read_to_string(image::PLAN)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", image::PLAN)))?;
    serde_json::from_str(&text)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", image::PLAN)))
}

/// Leaves the plan for the other processes.
///
/// # Errors
/// The file's.
pub fn store(plan: &Plan) -> io::Result<()> {
    fs::create_dir_all(image::RUN)?;
    // Written beside and renamed: it may be replaced while others read it. For root alone: the hash of a password is in it, and it stays in
    // the full system.
    let partial = format!("{}.new", image::PLAN);
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options.open(&partial)?.write_all(&serde_json::to_vec(plan)?)?;
    fs::rename(&partial, image::PLAN)
}

/// How much of the initramfs was unpacked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completeness {
    /// Entries the listing names.
    pub entries: usize,
    /// Those that are not there, or not whole.
    pub missing: Vec<String>,
    /// Why the listing itself cannot be trusted, if so.
    pub fault: Option<String>,
}

impl Completeness {
    /// Whether everything is there.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty() && self.fault.is_none()
    }

    /// One sentence for people.
    pub fn describe(&self) -> String {
        match (&self.fault, self.missing.first()) {
            (Some(fault), _) => format!("the initramfs is incomplete: {fault}"),
            (None, Some(first)) => {
                format!(
                    "the initramfs is incomplete: {} of {} entries are missing or short, the first is {first}",
                    self.missing.len(),
                    self.entries
                )
            }
            (None, None) => format!("the initramfs is complete: {} entries", self.entries),
        }
    }
}

/// Compares what was unpacked with the listing, and the listing with the sentinel, the last entry of the archive.
///
/// The kernel goes on silently when the archive is damaged or memory runs out while it unpacks (init/initramfs.c), so a missing
/// sentinel is the only sign.
pub fn completeness(root: &Path) -> Completeness {
    let faulty = |fault: String| Completeness {
        entries: 0,
        missing: Vec::new(),
        fault: Some(fault),
    };
    let listing = match fs::read(under(root, image::LISTING)) {
        Ok(listing) => listing,
        Err(_) => return faulty(format!("{} is missing", image::LISTING)),
    };
    let Ok(sentinel) = fs::read_to_string(under(root, image::SENTINEL)) else {
        return faulty(format!("{}, its last entry, is missing", image::SENTINEL));
    };
    let digest: String = Sha256::digest(&listing)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    if sentinel.trim() != digest {
        return faulty(format!(
            "{} says {}, the listing is {digest}",
            image::SENTINEL,
            sentinel.trim()
        ));
    }
    match image::parse_listing(&String::from_utf8_lossy(&listing)) {
        Err(error) => faulty(error.to_string()),
        Ok(entries) => {
            let missing = entries
                .iter()
                .filter(|entry| !is_whole(root, entry))
                .map(|entry| entry.path.clone())
                .collect();
            Completeness {
                entries: entries.len(),
                missing,
                fault: None,
            }
        }
    }
}

fn is_whole(root: &Path, entry: &image::ListingEntry) -> bool {
    match fs::symlink_metadata(under(root, &entry.path)) {
        // What stands under /dev is covered by the kernel's own file system by now.
        Err(_) => entry.path.starts_with("dev/"),
        Ok(meta) => entry.kind != 'f' || meta.len() == entry.size,
    }
}

fn facts(root: &Path) -> Facts {
    let tree = Facts::of_device_tree(|name| fs::read(under(root, "/proc/device-tree").join(name)).ok());
    let dmi = |name: &str| filled(&fs::read_to_string(under(root, "/sys/class/dmi/id").join(name)).ok()?);
    Facts {
        serial: tree.serial.or_else(|| dmi("product_serial")),
        mac: None,
        model: tree.model.or_else(|| dmi("product_name")),
        arch: Some(std::env::consts::ARCH.to_owned()),
        boot_url: boot_url(root),
    }
}

/// Where a Pi's bootloader fetched its image, by its configuration.
fn boot_url(root: &Path) -> Option<String> {
    // A machine that tells none has none; most are no Raspberry Pi.
    let config = Board::below(root).bootloader_config().ok()?;
    Facts::boot_url_of(&config)
}

fn filled(text: &str) -> Option<String> {
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

fn under(root: &Path, path: &str) -> std::path::PathBuf {
    root.join(path.trim_start_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifeboot_contract::plan::Console;

    fn tree(name: &str) -> std::path::PathBuf {
        let root = std::env::temp_dir().join(format!("lifeboot-plan-{name}-{}", std::process::id()));
        fs::create_dir_all(root.join("etc/lifeboot")).unwrap();
        fs::write(root.join("init"), "12345").unwrap();
        fs::write(root.join("etc/lifeboot/listing"), "f 755 5 init\n").unwrap();
        let digest: String = Sha256::digest("f 755 5 init\n")
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        fs::write(root.join("lifeboot.sentinel"), digest + "\n").unwrap();
        root
    }

    #[test]
    fn a_whole_initramfs_is_complete() {
        let found = completeness(&tree("whole"));
        assert!(found.is_complete(), "{found:?}");
    }

    #[test]
    fn a_missing_sentinel_is_noticed() {
        let root = tree("sentinel");
        fs::remove_file(root.join("lifeboot.sentinel")).unwrap();
        assert!(
            completeness(&root)
                .describe()
                .contains("its last entry, is missing")
        );
    }

    #[test]
    fn a_short_file_is_noticed_and_named() {
        let root = tree("short");
        fs::write(root.join("init"), "1234").unwrap();
        assert_eq!(
            completeness(&root).describe(),
            "the initramfs is incomplete: 1 of 1 entries are missing or short, the first is init"
        );
    }

    #[test]
    fn a_changed_listing_is_noticed() {
        let root = tree("listing");
        fs::write(root.join("etc/lifeboot/listing"), "f 755 4 init\n").unwrap();
        assert!(completeness(&root).fault.is_some());
    }

    #[test]
    fn a_broken_baked_file_refuses_the_boot_but_not_the_plan() {
        let root = tree("config");
        fs::create_dir_all(root.join("proc")).unwrap();
        fs::write(root.join("proc/cmdline"), "root=http://a lifeboot.ssh-port=2222").unwrap();
        assert_eq!(run(&root).refusal, None);
        fs::write(root.join("etc/lifeboot/config.toml"), "root = [").unwrap();
        let plan = run(&root);
        assert!(plan.refusal.is_some());
        assert_eq!((plan.ssh.port, plan.console), (2222, Console::Open));
        fs::write(
            root.join("etc/lifeboot/config.toml"),
            "lifeboot.console-password = [",
        )
        .unwrap();
        assert_eq!(run(&root).console, Console::Shut);
    }

    #[test]
    fn what_was_read_from_a_key_partition_is_in_the_plan() {
        let root = tree("keys");
        fs::create_dir_all(root.join("proc")).unwrap();
        fs::write(root.join("proc/cmdline"), "root=http://a").unwrap();
        let before = run(&root);
        assert_eq!((before.ssh.port, before.ssh.authorized_keys.len()), (22, 0));
        let keys = under(&root, key_partition::COPY);
        fs::create_dir_all(&keys).unwrap();
        fs::write(keys.join("config.toml"), "lifeboot.ssh-port = 2222").unwrap();
        let key = format!("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{}", "A".repeat(43));
        fs::write(
            keys.join("authorized_keys"),
            [key.as_bytes(), b" m\xfcller\n"].concat(),
        )
        .unwrap();
        let after = run(&root);
        fs::remove_dir_all(&root).unwrap();
        assert_eq!((after.ssh.port, after.ssh.authorized_keys.len()), (2222, 1));
    }

    #[test]
    fn a_refusal_is_not_lifted_by_a_key_partition() {
        let mut first = Plan::default();
        first.refuse("the initramfs is incomplete".to_owned());
        let mut plan = Plan::default();
        keep_refusal(&first, &mut plan);
        keep_refusal(&first, &mut plan);
        assert_eq!(plan.refusal.as_deref(), Some("the initramfs is incomplete"));
        let mut free = Plan::default();
        keep_refusal(&Plan::default(), &mut free);
        assert_eq!(free.refusal, None);
    }

    #[test]
    fn the_bootloader_configuration_gives_the_boot_url() {
        let text = "[all]\nBOOT_UART=1\nHTTP_HOST=boot.example.net\nHTTP_PORT=8080\nHTTP_PATH=/pi/rescue/\n";
        assert_eq!(
            Facts::boot_url_of(text).unwrap(),
            "http://boot.example.net:8080/pi/rescue"
        );
        assert_eq!(Facts::boot_url_of("HTTP_HOST=h").unwrap(), "http://h/net_install");
        assert_eq!(Facts::boot_url_of("BOOT_ORDER=0xf1"), None);
    }
}
