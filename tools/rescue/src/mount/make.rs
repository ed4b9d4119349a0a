//! Doing what a [`Plan`] says: mounting, noting it, and telling what came of it.

use super::attach::{self, Refused, Root, Wanted};
use super::options::Options;
use super::plan::{LeftOut, Plan, Step, What};
use super::state::{By, Held, Placed};
use super::table::{self, Mounted};
use anyhow::{Context as _, anyhow, bail};
use lifeboot_init::block::{Writes, writes};
use rustix::fs::OFlags;
use serde::Serialize;
use std::fs::File;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// A mount that stands.
#[derive(Debug, Serialize)]
pub struct Made {
    /// `/mnt/boot`
    pub target: PathBuf,
    /// `/dev/vda1`, or a directory.
    pub source: String,
    /// `ext4`; none for a directory.
    pub fs: Option<String>,
    /// As mount(8) would say them.
    pub options: String,
}

/// What came of it.
#[derive(Debug, Serialize)]
pub struct Report {
    /// `Debian GNU/Linux 13 (trixie) on /dev/vda2`
    pub title: String,
    /// `/mnt`
    pub at: PathBuf,
    /// Whether the root can be written.
    pub read_only: bool,
    /// In the order of mounting.
    pub mounts: Vec<Made>,
    /// What is not mounted.
    pub left_out: Vec<LeftOut>,
    /// What else a person should know.
    pub notes: Vec<String>,
}

impl Report {
    /// What would come of a plan.
    pub fn rehearsed(title: String, at: &Path, plan: Plan) -> Report {
        let place = |step: &Step| match step.target.trim_start_matches('/') {
            "" => at.to_owned(),
            inside => at.join(inside),
        };
        let mounts: Vec<Made> = plan
            .steps
            .iter()
            .map(|step| made(place(step), &step.what, &step.options))
            .collect();
        Report {
            title,
            at: at.to_owned(),
            read_only: plan.steps.first().is_some_and(|root| root.options.read_only),
            mounts,
            left_out: plan.left_out,
            notes: plan.notes,
        }
    }
}

/// A system about to be mounted.
pub struct Work<'a> {
    /// For people.
    pub title: String,
    /// Where.
    pub at: &'a Path,
    /// Who asks.
    pub by: By,
    /// What to do.
    pub plan: Plan,
}

impl Work<'_> {
    /// Mounts.
    ///
    /// # Errors
    /// The root cannot be mounted; everything else is only left out.
    pub fn carry_out(self, held: &mut Held) -> anyhow::Result<Report> {
        let mut steps = self.plan.steps.into_iter();
        let first = steps
            .next()
            .with_context(|| format!("{}: nothing to mount", self.title))?;
        let mut report = Report {
            title: self.title,
            at: self.at.to_owned(),
            read_only: first.options.read_only,
            mounts: Vec::new(),
            left_out: self.plan.left_out,
            notes: self.plan.notes,
        };
        let place = attach::empty_place(self.at)?;
        held.state.systems.push(Placed {
            at: self.at.to_owned(),
            title: report.title.clone(),
            device: made(PathBuf::new(), &first.what, &first.options).source,
            mount: None,
            by: self.by,
            binds: Vec::new(),
            sessions: Vec::new(),
        });
        held.save()?;
        let (mount, options) = match stand(&first, place.as_fd(), &mut report.notes) {
            Ok(stood) => stood,
            Err(error) => {
                held.state.systems.pop();
                held.save()?;
                return Err(error);
            }
        };
        report.read_only = options.read_only;
        report
            .mounts
            .push(made(self.at.to_owned(), &first.what, &options));
        note_mount(held, self.at)?;
        let root = Root::new(mount);
        for step in steps {
            add(&root, step, &mut report);
        }
        Ok(report)
    }
}

/// The root at its place, and the options it took.
fn stand(step: &Step, place: BorrowedFd<'_>, notes: &mut Vec<String>) -> anyhow::Result<(OwnedFd, Options)> {
    let What::Device { device, fs } = &step.what else {
        bail!("its root is no device");
    };
    let (mount, options) =
        mount_device(device, fs, &step.options, notes).with_context(|| format!("{device} ({fs})"))?;
    attach::hang(mount.as_fd(), place).with_context(|| device.clone())?;
    Ok((mount, options))
}

/// Keeps the number by which the mount is known again.
fn note_mount(held: &mut Held, at: &Path) -> anyhow::Result<()> {
    let id = table::at(&table::read()?, at).map(|mount| mount.id);
    if let Some(placed) = held.state.at_mut(at) {
        placed.mount = id;
    }
    held.save()
}

fn made(target: PathBuf, what: &What, options: &Options) -> Made {
    let (source, fs) = match what {
        What::Device { device, fs } => (device.clone(), Some(fs.clone())),
        What::Directory { path, .. } => (path.clone(), None),
    };
    Made {
        target,
        source,
        fs,
        options: options.shown(),
    }
}

/// One more line of the table; what fails is left out.
fn add(root: &Root, step: Step, report: &mut Report) {
    match hang(root, &step, &mut report.notes) {
        Ok((target, options)) => report.mounts.push(made(target, &step.what, &options)),
        Err(error) => {
            let Made { source, .. } = made(PathBuf::new(), &step.what, &step.options);
            report.left_out.push(LeftOut {
                source,
                target: super::os_release::tame(&step.target),
                why: format!("{error:#}"),
                expected: false,
            });
        }
    }
}

fn hang(root: &Root, step: &Step, notes: &mut Vec<String>) -> anyhow::Result<(PathBuf, Options)> {
    let place = match &step.what {
        What::Device { .. } => root.find_with(&step.target, OFlags::PATH | OFlags::DIRECTORY),
        What::Directory { .. } => root.find(&step.target),
    };
    let place = place.map_err(|_| {
        anyhow!(
            "there is no directory {} in it",
            super::os_release::tame(&step.target)
        )
    })?;
    let target = attach::name_of(place.as_fd())?;
    match &step.what {
        What::Device { device, fs } => {
            let (mount, options) = mount_device(device, fs, &step.options, notes)?;
            attach::hang(mount.as_fd(), place.as_fd())?;
            Ok((target, options))
        }
        What::Directory { path, bind } => {
            let source = root.find(path).with_context(|| super::os_release::tame(path))?;
            attach::hang(attach::clone(source.as_fd(), *bind)?.as_fd(), place.as_fd())?;
            if step.options.read_only {
                attach::refuse_writes(&target)?;
            }
            Ok((target, step.options.clone()))
        }
    }
}

/// A mount of a device by the options of its line; where these cannot be had, by those that matter. Returns those that were taken.
fn mount_device(
    device: &str,
    fs: &str,
    options: &Options,
    notes: &mut Vec<String>,
) -> anyhow::Result<(OwnedFd, Options)> {
    // Not while somebody repairs, writes or reads it, and nobody begins to until it is mounted and seen to be.
    let _visit = crate::work::visit(device)?;
    let mut options = options.clone();
    if !options.read_only
        && let Some(why) = unfit_for_writing(device, fs)
    {
        notes.push(format!("{device} is mounted read-only: {why}"));
        options.read_only = true;
    }
    let source = Path::new(device);
    let mut dropped = Vec::new();
    let mut why = None;
    loop {
        let wanted = Wanted {
            fs,
            source,
            options: &options,
        };
        match quietly(&wanted) {
            Ok(mount) => {
                notes.extend(why.map(|why| {
                    let words = dropped.join(",");
                    format!("{device} is mounted without {words} of its fstab: {why}")
                }));
                return Ok((mount, options));
            }
            Err(Refused::WriteProtected) if !options.read_only => {
                notes.push(format!("{device} is mounted read-only: it is write-protected"));
                options.read_only = true;
            }
            Err(refused) => {
                let more = drop_refused(&mut options, &refused);
                if more.is_empty() {
                    let mounts = table::read().unwrap_or_default();
                    let beside = beside(&mounts, device, options.read_only);
                    return Err(beside.unwrap_or_else(|| anyhow::Error::from(refused)));
                }
                dropped.extend(more);
                why.get_or_insert(refused);
            }
        }
    }
}

/// What the kernel means when it calls a device busy: a file system is writable wherever it is mounted, or nowhere.
fn beside(mounts: &[Mounted], device: &str, read_only: bool) -> Option<anyhow::Error> {
    let real = |path: &str| std::fs::canonicalize(path).unwrap_or_else(|_| path.into());
    let of_device =
        |mount: &&Mounted| mount.source.starts_with("/dev/") && real(&mount.source) == real(device);
    let other = mounts.iter().find(of_device)?;
    let at = other.target.display();
    match (read_only, other.read_only) {
        (false, true) => Some(anyhow!(
            "it is mounted read-only at {at} already; --read-only, or 'mount -o remount,rw {at}' first"
        )),
        (true, false) => Some(anyhow!("it is mounted for writing at {at} already")),
        _ => None,
    }
}

/// An option of another kernel keeps nobody from the data: takes away the one that was refused, or, where it was not said which, all
/// that can be done without. Returns those.
fn drop_refused(options: &mut Options, refused: &Refused) -> Vec<String> {
    let is_meant = |key: &str| match refused {
        Refused::Option(named, _) => super::os_release::tame(key) == *named,
        Refused::Kernel(_) => true,
        Refused::NoDriver(_) | Refused::WriteProtected => false,
    };
    let dropped = options
        .own
        .extract_if(.., |(key, _)| is_meant(key) && !is_essential(key));
    let word = |(key, value): (String, Option<String>)| match value {
        Some(value) => format!("{key}={value}"),
        None => key,
    };
    dropped.map(|own| super::os_release::tame(&word(own))).collect()
}

/// Options without which something else would be mounted, or written to.
fn is_essential(key: &str) -> bool {
    ["subvol", "subvolid", "noload", "norecovery", "rescue", "degraded"].contains(&key)
}

/// Mounts; where nothing is to be written, the device refuses writes meanwhile, since ext4 cleans up after a crash even when it is mounted
/// read-only (ext4_orphan_cleanup in the kernel's fs/ext4/orphan.c).
fn quietly(wanted: &Wanted<'_>) -> Result<OwnedFd, Refused> {
    let leaves_journal = ["noload", "norecovery", "rescue"]
        .iter()
        .any(|key| wanted.options.own.iter().any(|(own, _)| own == key));
    if !wanted.options.read_only || !leaves_journal {
        return wanted.mount();
    }
    let device = File::open(wanted.source).map_err(|error| Refused::Kernel(error.to_string()))?;
    // A device that cannot be told to refuse writes is mounted all the same, read-only and without its journal.
    let before = writes(&device, Writes::Refused);
    let mount = wanted.mount();
    if let Ok(Writes::Allowed) = before
        && let Err(error) = writes(&device, Writes::Allowed)
    {
        return Err(Refused::Kernel(format!("it stays read-only: {error}")));
    }
    mount
}

/// Why a file system had better not be written to.
fn unfit_for_writing(device: &str, fs: &str) -> Option<String> {
    if !fs.starts_with("ext") {
        return None;
    }
    let mut superblock = [0; 1024];
    let file = File::open(device).ok()?;
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut superblock, 1024).ok()?;
    has_errors(&superblock)
        .then(|| format!("errors are noted in it; unmount it and type 'rescue fsck {device}'"))
}

/// s_magic, s_state and EXT4_ERROR_FS of the kernel's fs/ext4/ext4.h.
fn has_errors(superblock: &[u8; 1024]) -> bool {
    superblock[0x38..0x3A] == [0x53, 0xEF] && superblock[0x3A] & 2 != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_is_writable_wherever_it_is_mounted_or_nowhere() {
        let mount = |read_only| Mounted {
            id: 1,
            target: "/sysroot".into(),
            root: "/".into(),
            fs: "ext4".into(),
            source: "/dev/nowhere1".into(),
            read_only,
        };
        let why =
            |there, wanted, device| beside(&[mount(there)], device, wanted).map(|error| error.to_string());
        let first = why(true, false, "/dev/nowhere1").unwrap();
        assert!(
            first.contains("read-only at /sysroot") && first.contains("remount,rw /sysroot"),
            "{first}"
        );
        assert!(
            why(false, true, "/dev/nowhere1")
                .unwrap()
                .contains("for writing at /sysroot")
        );
        assert_eq!(why(true, true, "/dev/nowhere1"), None);
        assert_eq!(why(true, false, "/dev/nowhere2"), None);
    }

    #[test]
    fn errors_noted_in_a_superblock_are_seen() {
        let mut superblock = [0; 1024];
        superblock[0x3A] = 2;
        assert!(!has_errors(&superblock), "no magic");
        superblock[0x38..0x3A].copy_from_slice(&[0x53, 0xEF]);
        assert!(has_errors(&superblock));
        superblock[0x3A] = 1;
        assert!(!has_errors(&superblock));
    }

    #[test]
    fn of_options_only_what_was_refused_is_dropped_and_never_what_decides_what_is_mounted() {
        let drop = |refused: Refused| {
            let mut options = Options::parse("subvol=@home,uid=1000,umask=077,nosuchopt");
            let dropped = drop_refused(&mut options, &refused);
            (dropped, options.shown())
        };
        let option = |key: &str| Refused::Option(key.to_owned(), String::new());
        assert_eq!(
            drop(option("nosuchopt")),
            (
                vec!["nosuchopt".to_owned()],
                "rw,subvol=@home,uid=1000,umask=077".to_owned()
            )
        );
        assert!(drop(option("subvol")).0.is_empty());
        // It was not said which.
        let (dropped, left) = drop(Refused::Kernel("Invalid argument".to_owned()));
        assert_eq!((dropped.len(), left.as_str()), (3, "rw,subvol=@home"));
        assert!(drop(Refused::WriteProtected).0.is_empty());
    }
}
