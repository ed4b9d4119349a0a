//! Stage devices: drivers for what is there, and what the plan needs by name.
//!
//! Nothing waits for "everything has settled": the coldplug pass loads what is plugged in now, a listener on the kernel's
//! uevents loads what appears later, and whoever needs a device waits for that device.

use crate::lvm;
use crate::modules::Modules;
use crate::report::{FailureExt, Reporter, chain, failure, now_ms};
use lifeboot_contract::event::{Failure, Stage};
use lifeboot_contract::plan::{Overlay, Plan, Source};
use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// Drivers are loaded, and later devices will get theirs.
#[derive(Clone)]
pub struct Devices {
    shared: Arc<Shared>,
}

struct Shared {
    modules: Modules,
    done: Mutex<HashSet<String>>,
    /// Held while a module is being loaded, so that who finds it among the done can wait until it really is.
    loading: Mutex<()>,
    reporter: Reporter,
}

/// Starts loading drivers, and returns at once: who needs a device waits for that device.
///
/// # Errors
/// No thread can be had. A driver that fails is an event, and what needs its device will say so by the device's name.
pub fn run(plan: &Plan, reporter: &Reporter) -> Result<Devices, Failure> {
    let modules = Modules::of_running_kernel();
    let shared = Shared {
        modules,
        done: Mutex::default(),
        loading: Mutex::default(),
        reporter: reporter.clone(),
    };
    let devices = Devices {
        shared: Arc::new(shared),
    };
    devices.listen();
    let worker = devices.clone();
    let needed = needed_by(plan);
    let work = move || {
        let started = now_ms();
        worker.coldplug();
        needed.iter().for_each(|name| worker.load(name));
        let reporter = &worker.shared.reporter;
        reporter.event(
            reporter
                .debug("devices.done")
                .with("modules", worker.known())
                .with("ms", now_ms() - started),
        );
    };
    let spawned = std::thread::Builder::new().name("coldplug".into()).spawn(work);
    spawned.map_err(|error| failure(Stage::Devices, "a thread for loading drivers").because(&error))?;
    Ok(devices)
}

/// Modules that no modalias names.
fn needed_by(plan: &Plan) -> Vec<&'static str> {
    let mut names = Vec::new();
    if plan.roots.iter().any(|root| matches!(root, Source::Http(_))) {
        names.extend(["loop", "squashfs"]);
        if plan.overlay != Overlay::None {
            names.push("overlay");
        }
    }
    if !plan.luks.is_empty() || lvm::is_here() {
        names.push("dm_mod");
    }
    if !plan.luks.is_empty() {
        names.push("dm_crypt");
    }
    names
}

impl Devices {
    /// Loads what a plan that was made anew needs besides, without anybody waiting for it.
    pub fn also(&self, plan: &Plan) {
        let devices = self.clone();
        let needed = needed_by(plan);
        let work = move || needed.iter().for_each(|name| devices.load(name));
        let spawned = std::thread::Builder::new().name("modules".into()).spawn(work);
        self.shared.reporter.ignore("modules thread", spawned);
    }

    /// Loads a module by name, once; it is there when this returns. What goes wrong is an event.
    pub fn load(&self, name: &str) {
        let _one_at_a_time = self.shared.loading.lock();
        let fresh = self
            .shared
            .done
            .lock()
            .map(|mut done| done.insert(name.to_owned()))
            .unwrap_or(true);
        if !fresh {
            return;
        }
        let started = now_ms();
        let reporter = &self.shared.reporter;
        match self.shared.modules.insert(name) {
            Ok(loaded) => {
                for module in loaded {
                    reporter.event(
                        reporter
                            .debug("devices.module")
                            .with("module", module)
                            .with("ms", now_ms() - started),
                    );
                }
            }
            Err(error) => reporter.event(
                reporter
                    .warn("devices.failed")
                    .with("what", chain(&error))
                    .text(chain(&error)),
            ),
        }
    }

    /// Loads what a modalias names, if the image has it: most devices of a machine need no driver here.
    fn plug(&self, modalias: &str) {
        let known = self
            .shared
            .done
            .lock()
            .map(|mut done| !done.insert(modalias.to_owned()))
            .unwrap_or(false);
        if !known {
            for module in self.shared.modules.resolve(modalias) {
                self.load(&module);
            }
        }
    }

    /// Loads drivers for everything below /sys/devices, again and again until a pass finds nothing new: a bus driver brings
    /// new devices, and their uevents may arrive only after this pass.
    fn coldplug(&self) {
        loop {
            let before = self.known();
            let mut found = Vec::new();
            modaliases(Path::new("/sys/devices"), 0, &mut found);
            // Network drivers first: being reachable comes before disks.
            found.sort_by_key(|(path, _)| {
                !(path.contains("net") || path.contains("virtio") || path.contains("usb"))
            });
            for (_, modalias) in found {
                self.plug(&modalias);
            }
            if self.known() == before {
                return;
            }
        }
    }

    fn known(&self) -> usize {
        self.shared.done.lock().map(|done| done.len()).unwrap_or_default()
    }

    /// Follows the kernel's uevents for the rest of the pipeline's life.
    fn listen(&self) {
        let devices = self.clone();
        let reporter = &self.shared.reporter;
        let socket = match uevents() {
            Ok(socket) => socket,
            Err(error) => {
                let what = format!("uevents: {error}");
                return reporter.event(
                    reporter
                        .warn("devices.failed")
                        .with("what", what.clone())
                        .text(what),
                );
            }
        };
        let spawned = std::thread::Builder::new().name("uevents".into()).spawn(move || {
            let mut buffer = vec![0; 16 * 1024];
            loop {
                match rustix::net::recv(&socket, &mut buffer, rustix::net::RecvFlags::empty()) {
                    Ok((length, _)) => {
                        if let Some(modalias) = added(&buffer[..length]) {
                            devices.plug(&modalias);
                        }
                    }
                    // The kernel dropped some: look at everything again.
                    Err(rustix::io::Errno::NOBUFS) => devices.coldplug(),
                    Err(rustix::io::Errno::INTR) => {}
                    Err(_) => return,
                }
            }
        });
        reporter.ignore("uevents thread", spawned);
    }
}

fn uevents() -> rustix::io::Result<std::os::fd::OwnedFd> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, netlink, socket_with};
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        Some(netlink::KOBJECT_UEVENT),
    )?;
    bind(&socket, &netlink::SocketAddrNetlink::new(0, 1))?;
    Ok(socket)
}

/// The MODALIAS of an `add` message: NUL-separated `KEY=value` behind a header (lib/kobject_uevent.c).
fn added(message: &[u8]) -> Option<String> {
    let mut fields = message.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    if !fields.next()?.starts_with("add@") {
        return None;
    }
    fields.find_map(|field| field.strip_prefix("MODALIAS=").map(str::to_owned))
}

fn modaliases(dir: &Path, depth: usize, found: &mut Vec<(String, String)>) {
    // The device tree of a real machine is under ten levels deep.
    if depth > 24 {
        return;
    }
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            modaliases(&entry.path(), depth + 1, found);
        } else if entry.file_name() == "modalias"
            && let Ok(text) = fs::read_to_string(entry.path())
            && !text.trim().is_empty()
        {
            found.push((dir.to_string_lossy().into_owned(), text.trim().to_owned()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_added_devices_with_a_modalias_are_plugged() {
        let message = b"add@/devices/pci0/0\0ACTION=add\0MODALIAS=pci:v1\0SEQNUM=5\0";
        assert_eq!(added(message).as_deref(), Some("pci:v1"));
        assert_eq!(added(b"remove@/devices/x\0MODALIAS=pci:v1\0"), None);
        assert_eq!(added(b"add@/devices/x\0ACTION=add\0"), None);
        assert_eq!(added(b""), None);
    }

    #[test]
    fn an_http_root_needs_loop_squashfs_and_overlay() {
        let plan = |line: &str| Plan::make(line, &Default::default(), Default::default(), "");
        assert_eq!(needed_by(&plan("root=http://a")), ["loop", "squashfs", "overlay"]);
        assert_eq!(
            needed_by(&plan("root=http://a lifeboot.overlay=none")),
            ["loop", "squashfs"]
        );
        assert!(needed_by(&plan("")).is_empty());
    }
}
