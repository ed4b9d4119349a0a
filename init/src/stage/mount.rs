//! Stage mount: the new root, put together at `/sysroot`.
//!
//! An OS image is mounted from the very descriptor that was verified; there is no path in between that could be exchanged. A
//! local root is unlocked, checked and mounted as the kernel would.

use crate::block::{self, Orders};
use crate::report::{FailureExt, Reporter, failure, unheeded};
use crate::stage::devices::Devices;
use crate::stage::verify::Verified;
use crate::sys::loop_device;
use crate::uplink::Uplink;
use lifeboot_contract::control::ReadyRoot;
use lifeboot_contract::event::{Failure, Stage};
use lifeboot_contract::plan::{Access, BlockId, Overlay, Plan};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use sys_mount::{Mount, MountFlags, UnmountFlags};

mod in_use;
mod real_init;
mod unlock;

use in_use::place_of;
pub use real_init::executable;
use real_init::find_init;

/// Where the new root stands until the handover.
pub const SYSROOT: &str = "/sysroot";
const LOWER: &str = "/run/lifeboot/lower";
const UPPER: &str = "/run/lifeboot/upper";
/// How long a disk may take to appear: a USB disk behind a hub needs about ten seconds to spin up and be found.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a local root is made with.
pub struct Means<'m> {
    /// The plan.
    pub plan: Arc<Plan>,
    /// Drivers.
    pub devices: &'m Devices,
    /// The way to a Tang server.
    pub uplink: &'m Uplink,
    /// What PID 1 says meanwhile.
    pub orders: &'m Orders,
    /// Who is told.
    pub reporter: &'m Reporter,
}

/// Mounts of a root that is not complete yet: taken down again when dropped.
struct Scaffold(Vec<&'static str>);

impl Scaffold {
    fn new(reporter: &Reporter) -> Scaffold {
        // Leftovers of an attempt that was killed.
        for target in [SYSROOT, UPPER, LOWER] {
            while rustix::mount::unmount(target, rustix::mount::UnmountFlags::DETACH).is_ok() {}
            reporter.ignore(target, fs::create_dir_all(target));
        }
        Scaffold(Vec::new())
    }

    fn mount(
        &mut self,
        from: &Path,
        to: &'static str,
        kind: &str,
        flags: MountFlags,
        data: &str,
    ) -> Result<(), Failure> {
        let mounted = Mount::builder()
            .fstype(kind)
            .flags(flags)
            .data(data)
            .mount(from, to);
        mounted.map_err(|error| {
            failure(Stage::Mount, format!("{} as {kind} on {to}", from.display())).because(&error)
        })?;
        self.0.push(to);
        Ok(())
    }

    fn complete(mut self) {
        self.0.clear();
    }
}

impl Drop for Scaffold {
    fn drop(&mut self) {
        for target in self.0.iter().rev() {
            // An unfinished root holds nothing that anybody wrote.
            unheeded(target, sys_mount::unmount(target, UnmountFlags::DETACH));
        }
    }
}

/// Puts a verified OS image under its overlay.
///
/// # Errors
/// The mount that failed, with the kernel's reason; no init in the image.
pub fn image(
    plan: &Plan,
    devices: &Devices,
    verified: Verified,
    orders: &Orders,
    reporter: &Reporter,
) -> Result<ReadyRoot, Failure> {
    for module in ["loop", "squashfs"] {
        devices.load(module);
    }
    let source = verified.url().to_owned();
    let mut scaffold = Scaffold::new(reporter);
    let name = source.rsplit('/').next().unwrap_or_default();
    let device = loop_device::attach(verified.image(), name)
        .map_err(|error| failure(Stage::Mount, format!("loop device for {source}")).because(&error))?;
    let read_only = MountFlags::RDONLY;
    if plan.overlay == Overlay::None {
        scaffold.mount(&device.path, SYSROOT, "squashfs", read_only, "")?;
    } else {
        scaffold.mount(&device.path, LOWER, "squashfs", read_only, "")?;
        devices.load("overlay");
        writable(plan, &mut scaffold, orders)?;
        let data = format!("lowerdir={LOWER},upperdir={UPPER}/upper,workdir={UPPER}/work");
        scaffold.mount(
            Path::new("overlay"),
            SYSROOT,
            "overlay",
            MountFlags::empty(),
            &data,
        )?;
    }
    drop(device);
    finish(plan, source, scaffold, reporter)
}

/// Mounts the writable layer at [`UPPER`].
fn writable(plan: &Plan, scaffold: &mut Scaffold, orders: &Orders) -> Result<(), Failure> {
    match &plan.overlay {
        Overlay::Device(id) => {
            let device = block::await_device(id, orders, PATIENCE, || {})?;
            let kind = kind_of(&device, None)?;
            check(&device, &kind)?;
            scaffold.mount(&device, UPPER, &kind, MountFlags::empty(), "")?;
        }
        Overlay::Tmpfs(size) => {
            scaffold.mount(
                Path::new("tmpfs"),
                UPPER,
                "tmpfs",
                MountFlags::empty(),
                &format!("size={size},mode=0755"),
            )?;
        }
        Overlay::None => {}
    }
    for name in ["upper", "work"] {
        let dir = Path::new(UPPER).join(name);
        fs::create_dir_all(&dir)
            .map_err(|error| failure(Stage::Mount, dir.display().to_string()).because(&error))?;
    }
    Ok(())
}

/// Unlocks, checks and mounts a local root.
///
/// # Errors
/// A device that did not appear, a file system that could not be repaired without a person, a mount that failed, no init.
pub fn local(means: &Means, id: &BlockId) -> Result<ReadyRoot, Failure> {
    let Means {
        plan,
        devices,
        orders,
        reporter,
        ..
    } = means;
    unlock::run(means)?;
    let device = block::await_device(id, orders, PATIENCE, || unlock::activate(reporter))?;
    let kind = kind_of(&device, plan.local.fstype.as_deref())?;
    if kind == "crypto_LUKS" {
        return Err(failure(
            Stage::Mount,
            format!("{id} ({}) is a LUKS volume", device.display()),
        )
        .hint("name its file system in root= and the volume in rd.luks.uuid="));
    }
    devices.load(&kind);
    // First: what an attempt that was killed has left at /sysroot goes.
    let mut scaffold = Scaffold::new(reporter);
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    if let Some(place) = place_of(&mounts, &device) {
        return Err(failure(
            Stage::Mount,
            format!("{id} ({}) is mounted at {place}", device.display()),
        )
        .hint("type 'rescue umount', or 'umount' with that directory, then 'rescue boot'"));
    }
    let result = check(&device, &kind)?;
    let done = reporter
        .debug("mount.fsck")
        .with("device", device.display().to_string())
        .with("result", result);
    reporter.event(done);
    let (mut flags, data) = options(plan.local.flags.as_deref().unwrap_or_default());
    if plan.local.access == Access::ReadOnly {
        flags |= MountFlags::RDONLY;
    }
    scaffold.mount(&device, SYSROOT, &kind, flags, &data)?;
    finish(plan, id.to_string(), scaffold, reporter)
}

fn kind_of(device: &Path, given: Option<&str>) -> Result<String, Failure> {
    if let Some(kind) = given {
        return Ok(kind.to_owned());
    }
    match block::fstype(device) {
        Ok(Some(kind)) => Ok(kind),
        Ok(None) => Err(failure(
            Stage::Mount,
            format!("{}: no file system is recognised", device.display()),
        )
        .hint("'rescue fsck' may know more; rootfstype= overrides")),
        Err(error) => Err(failure(Stage::Mount, device.display().to_string()).because(&error)),
    }
}

/// What can be repaired without a question is repaired (e2fsck -p); more than that needs a person.
fn check(device: &Path, kind: &str) -> Result<String, Failure> {
    if !kind.starts_with("ext") {
        return Ok(format!("{kind} is not checked before mounting"));
    }
    let name = device.display();
    let output = Command::new("/usr/sbin/e2fsck")
        .arg("-p")
        .arg(device)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| failure(Stage::Mount, format!("{name}: e2fsck")).because(&error))?;
    let said = String::from_utf8_lossy(&output.stdout)
        .lines()
        .last()
        .unwrap_or_default()
        .to_owned();
    match output.status.code() {
        Some(0) => Ok(format!("clean: {said}")),
        Some(1 | 2) => Ok(format!("repaired: {said}")),
        code => Err(failure(
            Stage::Mount,
            format!("{name}: e2fsck -p ended with {}: {said}", code.unwrap_or(-1)),
        )
        .hint(&format!("type 'rescue fsck --repair {name}', then 'rescue boot'"))),
    }
}

/// Splits mount options into the kernel's flags and what the file system reads itself (mount(8)).
fn options(text: &str) -> (MountFlags, String) {
    let mut flags = MountFlags::empty();
    let mut data = Vec::new();
    for option in text.split(',').filter(|option| !option.is_empty()) {
        match option {
            "noatime" => flags |= MountFlags::NOATIME,
            "nodiratime" => flags |= MountFlags::NODIRATIME,
            "relatime" => flags |= MountFlags::RELATIME,
            "strictatime" => flags |= MountFlags::STRICTATIME,
            "nodev" => flags |= MountFlags::NODEV,
            "nosuid" => flags |= MountFlags::NOSUID,
            "noexec" => flags |= MountFlags::NOEXEC,
            "sync" => flags |= MountFlags::SYNCHRONOUS,
            "defaults" => {}
            other => data.push(other),
        }
    }
    (flags, data.join(","))
}

fn finish(
    plan: &Plan,
    source: String,
    scaffold: Scaffold,
    reporter: &Reporter,
) -> Result<ReadyRoot, Failure> {
    let init = find_init(Path::new(SYSROOT), plan.init.as_deref())
        .map_err(|what| failure(Stage::Mount, format!("{source}: {what}")))?;
    scaffold.complete();
    let overlay = Path::new(UPPER).join("upper").exists();
    reporter.event(
        reporter
            .info("mount.done")
            .with("root", source.as_str())
            .with("overlay", overlay)
            .with("init", init.as_str())
            .text(format!("mount: {source} is at {SYSROOT}, init is {init}")),
    );
    Ok(ReadyRoot {
        path: SYSROOT.to_owned(),
        init,
        args: plan.init_args.clone(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_options_are_told_apart() {
        let (flags, data) = options("noatime,subvol=@,nodev,compress=zstd");
        assert_eq!(
            (flags, data.as_str()),
            (MountFlags::NOATIME | MountFlags::NODEV, "subvol=@,compress=zstd")
        );
    }
}
