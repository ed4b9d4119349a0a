//! A system that was made for a disk, made fit to run from RAM, while it streams by.
//!
//! What is done is little and is said: see docs/os-images.md for the list and for what is left to the owner.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::fstab;
use super::kernel_modules;
use super::names::{Names, Sort};
use super::node::{Node, Sink, What};
use crate::tree::Tree;

/// A fstab is some lines.
const MOST_FSTAB: u64 = 1 << 20;
const MACHINE_ID: &str = "etc/machine-id";
const UNITS: &str = "etc/systemd/system";
const KEYS_UNIT: &str = "lifeboot-ssh-host-keys.service";
/// Makes host keys where the image has none: Debian makes them when the package is installed, and never again.
const KEYS_UNIT_TEXT: &str = "\
# Written by lifeboot: this system runs from RAM and its image carries no host keys.
[Unit]
Description=SSH host key of this boot
ConditionPathExists=!/etc/ssh/ssh_host_ed25519_key
Before=ssh.service sshd.service

[Service]
Type=oneshot
ExecStart=/usr/bin/ssh-keygen -q -N '' -t ed25519 -f /etc/ssh/ssh_host_ed25519_key

[Install]
WantedBy=multi-user.target
";

/// What Raspberry Pi OS starts to grow its card or to swap to it: the name that is masked, and the files any of which shows
/// that the system has it. In RAM the one fails, and the other fills RAM with what should relieve it.
const MASKED: &[(&str, &[&str])] = &[
    (
        "etc/systemd/system/dphys-swapfile.service",
        &[
            "usr/lib/systemd/system/dphys-swapfile.service",
            "etc/init.d/dphys-swapfile",
        ],
    ),
    (
        "etc/systemd/system/resize2fs_once.service",
        &["etc/init.d/resize2fs_once"],
    ),
    (
        "etc/systemd/system/rpi-resize.service",
        &["usr/lib/systemd/system/rpi-resize.service"],
    ),
    (
        "etc/systemd/system-generators/rpi-swap-generator",
        &["usr/lib/systemd/system-generators/rpi-swap-generator"],
    ),
];

/// Done by default, or left as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    Adapt,
    Keep,
}

/// The kernel that will run the system, and where its modules are if the system has none.
#[derive(Debug)]
pub struct Kernel {
    pub release: String,
    pub modules_from: Option<Tree>,
}

/// What shall be done.
#[derive(Debug)]
pub struct Wishes {
    pub fstab: Choice,
    pub services: Choice,
    pub host_keys: Choice,
    pub kernel: Option<Kernel>,
}

/// Hands nodes on, some of them changed, some left out, and in the end some more.
pub struct Adapt<'a, S> {
    out: S,
    wishes: &'a Wishes,
    names: Names,
    /// What was left out: further names of it go too.
    dropped: BTreeSet<PathBuf>,
    /// Releases the system has modules for.
    releases: BTreeSet<String>,
    /// That of the top, which is given to what is added.
    modified: u64,
    notes: Vec<String>,
}

impl<'a, S: Sink> Adapt<'a, S> {
    pub fn new(out: S, wishes: &'a Wishes) -> Self {
        Self {
            out,
            wishes,
            names: Names::default(),
            dropped: BTreeSet::new(),
            releases: BTreeSet::new(),
            modified: 0,
            notes: Vec::new(),
        }
    }

    /// Adds what is missing; what was done, a line each, and where the nodes went.
    pub fn finish(mut self) -> Result<(S, Vec<String>)> {
        let systemd = self.names.has("usr/lib/systemd/systemd") || self.names.has("lib/systemd/systemd");
        if systemd && !self.names.has(MACHINE_ID) && self.names.has("etc") {
            // No file at all would make this the first boot, with all that is done at one.
            self.add(MACHINE_ID, What::File(0), b"")?;
        }
        if systemd && self.wishes.services == Choice::Adapt {
            self.mask()?;
        }
        if !self.dropped_host_keys().is_empty() {
            self.replace_host_keys(systemd)?;
        }
        if let Some(kernel) = &self.wishes.kernel {
            self.modules(kernel)?;
        }
        Ok((self.out, self.notes))
    }

    fn dropped_host_keys(&self) -> Vec<&PathBuf> {
        self.dropped.iter().filter(|path| is_host_key(path)).collect()
    }

    fn replace_host_keys(&mut self, systemd: bool) -> Result<()> {
        let count = self.dropped_host_keys().len();
        let wants = |target: &str, unit: &str| format!("{UNITS}/{target}.wants/{unit}");
        let own = wants("multi-user.target", "regenerate_ssh_host_keys.service");
        let new = if self.names.has(&own) {
            "the system makes its own"
        } else if systemd && self.names.has("usr/bin/ssh-keygen") {
            self.add(
                &format!("{UNITS}/{KEYS_UNIT}"),
                What::File(KEYS_UNIT_TEXT.len() as u64),
                KEYS_UNIT_TEXT.as_bytes(),
            )?;
            let link = What::Link(Path::new("..").join(KEYS_UNIT));
            self.add(&wants("multi-user.target", KEYS_UNIT), link, b"")?;
            "a new one is made at every boot"
        } else {
            "nothing makes new ones"
        };
        self.notes.push(format!(
            "{count} files of ssh host keys left out, {new} (--keep-ssh-host-keys keeps them)"
        ));
        Ok(())
    }

    fn mask(&mut self) -> Result<()> {
        for (mask, evidence) in MASKED {
            if !evidence.iter().any(|path| self.names.has(path)) {
                continue;
            }
            let name = mask.rsplit('/').next().unwrap_or(mask);
            if self.names.has(mask) {
                self.notes
                    .push(format!("{name}: /{mask} is there and stays as it is"));
                continue;
            }
            self.add(mask, What::Link("/dev/null".into()), b"")?;
            self.notes
                .push(format!("{name} masked, in RAM it can only fail or fill RAM"));
        }
        Ok(())
    }

    fn modules(&mut self, kernel: &Kernel) -> Result<()> {
        let release = &kernel.release;
        if self.releases.contains(release) {
            self.notes
                .push(format!("the modules of kernel {release} are there"));
            return Ok(());
        }
        // Where /lib is no link, the kernel's tools look in it alone.
        let top = if self.names.sort("lib") == Some(Sort::Directory) {
            "lib/modules"
        } else {
            "usr/lib/modules"
        };
        let Some(tree) = &kernel.modules_from else {
            bail!(kernel_modules::refusal(release, &self.releases));
        };
        if self.names.has(&format!("{top}/{release}")) {
            bail!("/{top}/{release} is there without modules.dep; run depmod in that system");
        }
        let mut count = 0;
        let modified = self.modified;
        kernel_modules::send(tree, release, &Path::new(top).join(release), &mut |node, data| {
            count += usize::from(matches!(node.what, What::File(_)));
            self.with_parents(Node { modified, ..node }, data)
        })?;
        self.notes.push(format!(
            "{count} files of modules for kernel {release} added from {}",
            tree.name()
        ));
        Ok(())
    }

    fn add(&mut self, path: &str, what: What, mut data: &[u8]) -> Result<()> {
        self.with_parents(Node::of_root(Path::new(path), what, self.modified), &mut data)
    }

    fn with_parents(&mut self, node: Node, data: &mut dyn Read) -> Result<()> {
        for above in self.names.missing_above(&node.path) {
            self.names.add(&above, &What::Directory)?;
            let directory = Node::of_root(&above, What::Directory, self.modified);
            self.out.take(directory, &mut std::io::empty())?;
        }
        if self
            .names
            .add(&node.path, &node.what)
            .with_context(|| format!("/{}", node.path.display()))?
        {
            self.out.take(node, data)?;
        }
        Ok(())
    }

    /// What must not be the same on two machines, or be known from a file that lies on a web server.
    fn is_left_out(&self, node: &Node) -> bool {
        let secrets = ["var/lib/systemd/random-seed", "var/lib/systemd/credential.secret"];
        // systemd's own list of links makes it again, from /etc/machine-id.
        let second_id =
            node.path == Path::new("var/lib/dbus/machine-id") && !matches!(node.what, What::Link(_));
        let host_key = self.wishes.host_keys == Choice::Adapt && is_host_key(&node.path);
        let again = matches!(&node.what, What::Same(first) if self.dropped.contains(first));
        let secret = secrets.iter().any(|secret| node.path == Path::new(secret));
        second_id || host_key || again || (secret && node.what != What::Directory)
    }

    fn empty_machine_id(&mut self, node: Node) -> Result<()> {
        self.notes
            .push("machine-id emptied, so that each boot makes one".to_owned());
        let node = Node {
            what: What::File(0),
            ..node
        };
        self.out.take(node, &mut std::io::empty())
    }

    fn fstab(&mut self, node: Node, size: u64, data: &mut dyn Read) -> Result<()> {
        if size > MOST_FSTAB {
            bail!("{size} bytes; no fstab is that large");
        }
        let mut text = String::new();
        data.read_to_string(&mut text)
            .context("--fstab keep leaves it as it is")?;
        let adapted = fstab::for_ram(&text);
        if !adapted.out.is_empty() {
            self.notes.push(format!(
                "fstab: {} commented out (--fstab keep leaves them)",
                adapted.out.join(" ")
            ));
        }
        if !adapted.waited_for.is_empty() {
            self.notes.push(format!(
                "fstab: the boot waits for the disk of {}; with nofail it would not",
                adapted.waited_for.join(" ")
            ));
        }
        let bytes = adapted.text.as_bytes();
        let node = Node {
            what: What::File(bytes.len() as u64),
            ..node
        };
        self.out.take(node, &mut &*bytes)
    }
}

impl<S: Sink> Sink for Adapt<'_, S> {
    fn take(&mut self, node: Node, data: &mut dyn Read) -> Result<()> {
        if node.path.as_os_str().is_empty() {
            self.modified = node.modified;
        }
        if self.is_left_out(&node) {
            self.dropped.insert(node.path);
            return Ok(());
        }
        if !self.names.add(&node.path, &node.what)? {
            return Ok(());
        }
        if let Some(release) = kernel_modules::release_of(&node.path) {
            self.releases.insert(release);
        }
        match node.what {
            What::File(size) if self.wishes.fstab == Choice::Adapt && node.path == Path::new("etc/fstab") => {
                self.fstab(node, size, data)
            }
            What::File(_) | What::Link(_) if node.path == Path::new(MACHINE_ID) => {
                self.empty_machine_id(node)
            }
            _ => self.out.take(node, data),
        }
    }
}

fn is_host_key(path: &Path) -> bool {
    let Some(name) = path.strip_prefix("etc/ssh").ok().and_then(Path::to_str) else {
        return false;
    };
    name.starts_with("ssh_host_") && (name.ends_with("_key") || name.ends_with("_key.pub"))
}

#[cfg(test)]
#[path = "adapt_tests.rs"]
mod tests;
