//! `rescue unlock`: opens LUKS devices and tells PID 1, so that a boot that waits goes on.
//!
//! How a volume is opened is [`lifeboot_init::luks`]'s to know; this is about which one is meant, by what key, and what is said.

use crate::disks::{self, Disk, LUKS};
use crate::mount::volumes::{self, For};
use crate::{control, output};
use anyhow::{Context as _, bail};
use argh::FromArgs;
use lifeboot_contract::control::Request;
use lifeboot_contract::plan::{Header, Plan};
use lifeboot_init::lvm;
use serde::Serialize;
use std::process::ExitCode;

mod already;
mod by_hand;
mod choose;
mod lock;
mod show;
mod tang;

pub use lifeboot_init::luks::{Key, Outcome, Volume};
pub use lock::{Lock, run as run_lock};

use by_hand::{Aim, Source};

/// open LUKS devices: by passphrase, key file or Tang server
#[derive(Debug, FromArgs)]
#[cfg_attr(test, derive(argh::ArgsInfo))]
#[argh(
    subcommand,
    name = "unlock",
    note = "The passphrase is asked for without echo, or read from standard input when that is no terminal. A boot that waits for the device goes on by itself, and logical volumes that appear are activated where the image has LVM.\n\nFILE and HEADER may name another device, which is mounted read-only for as long as it takes: /keys/disk.key:LABEL=STICK.\n\n--tang asks the Tang servers the device is bound to (clevis luks bind), and says which step fails. The boot does the same by itself for volumes of rd.luks.uuid=.",
    example = "The only locked device there is:\n$ {command_name}\nOne of several, or all that share a passphrase:\n$ {command_name} /dev/vda2\n$ {command_name} --all\nFrom a script:\n$ ssh root@device {command_name} UUID=0a3407de-… <passphrase-file\nWith a key file on a stick, with a header on one:\n$ {command_name} --key-file /keys/disk.key:LABEL=STICK /dev/vda2\n$ {command_name} --header /headers/vdb.img:LABEL=STICK /dev/vdb\nIs this still the passphrase? Nothing is opened:\n$ {command_name} --test /dev/vda2\nWhich ways in are there?\n$ {command_name} --show /dev/vda2"
)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of the command line"
)]
pub struct Unlock {
    /// device, name or UUID=… (default: what the boot waits for, else the one that is locked)
    #[argh(positional)]
    device: Option<String>,
    /// every locked device that the passphrase fits
    #[argh(switch)]
    all: bool,
    /// read the key from this file, all of it; FILE or /FILE:DEVICE
    #[argh(option, arg_name = "file")]
    key_file: Option<String>,
    /// the header is not on DEVICE but there: FILE, /FILE:DEVICE or DEVICE
    #[argh(option, arg_name = "header")]
    header: Option<String>,
    /// name under /dev/mapper (default: the boot's, else luks-UUID)
    #[argh(option, arg_name = "name")]
    name: Option<String>,
    /// allow no writing to what is opened
    #[argh(switch)]
    read_only: bool,
    /// ask the Tang servers instead of a person
    #[argh(switch)]
    tang: bool,
    /// only check the passphrase, key file or servers; open nothing
    #[argh(switch)]
    test: bool,
    /// only show key slots and tokens
    #[argh(switch)]
    show: bool,
    /// print JSON
    #[argh(switch)]
    json: bool,
}

/// What `--json` prints of each device.
#[derive(Debug, Serialize)]
struct Report {
    device: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    mapper: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    was: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    opens: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    logical_volumes: Vec<String>,
}

/// Opens devices.
///
/// # Errors
/// When none could be opened, or it is not clear which is meant.
pub fn run(options: &Unlock) -> anyhow::Result<ExitCode> {
    if let Some(what) = contradiction(options) {
        return Ok(misused(what));
    }
    let header = options.header.as_deref().map(by_hand::header).transpose()?;
    let disks = disks_with_all_made_of_them(options.device.as_deref())?;
    let plan = control::plan(&control::run_dir()).ok();
    let chosen = match (&options.device, options.all) {
        (Some(name), _) => vec![disks::find(&disks, name)?],
        (None, _) if options.show => choose::every(&disks, plan.as_ref())?,
        (None, true) => choose::all_locked(&disks, plan.as_ref())?,
        (None, false) => match choose::by_default(&disks, plan.as_ref())? {
            Some(disks) => disks,
            None => return Ok(ExitCode::from(2)),
        },
    };
    if options.name.is_some() && chosen.len() > 1 {
        return Ok(misused("--name: a name belongs to one device, name it"));
    }
    let mut volumes = Vec::new();
    for disk in chosen {
        volumes.push(wanted(options, disk, header.clone(), plan.as_ref())?);
    }
    if options.show {
        return show::run(&volumes, options.json);
    }
    let aim = if options.test { Aim::Test } else { Aim::Open };
    let (open, locked): (Vec<_>, Vec<_>) = volumes
        .into_iter()
        .partition(|volume| aim == Aim::Open && volume.is_open());
    let already = |volume| already::report(volume, options);
    let mut reports: Vec<Report> = open.into_iter().map(already).collect();
    let (stopped, locked): (Vec<_>, Vec<_>) = locked
        .into_iter()
        .map(|volume| (already::in_the_way(&volume, aim), volume))
        .partition(|(why, _)| why.is_some());
    reports.extend(stopped.into_iter().map(|(error, volume)| Report {
        error,
        ..Report::about(volume.device)
    }));
    let locked: Vec<Volume> = locked.into_iter().map(|(_, volume)| volume).collect();
    let source = match (&options.key_file, options.tang) {
        (_, true) => Source::Tang,
        (Some(file), _) => Source::File(by_hand::key_file(file)?),
        (None, false) => Source::Person,
    };
    if !locked.is_empty() {
        reports.extend(by_hand::open(&locked, &source, aim)?);
    }
    conclude(options, reports)
}

fn misused(what: &str) -> ExitCode {
    output::complain(&format!(
        "rescue: {what}\nType 'rescue unlock --help' to see what can be typed."
    ));
    ExitCode::from(2)
}

fn contradiction(options: &Unlock) -> Option<&'static str> {
    let several = options.all;
    match options {
        _ if several && options.device.is_some() => Some("--all means every locked device: do not name one"),
        _ if several && options.header.is_some() => {
            Some("--all and --header: a header belongs to one device, name it")
        }
        _ if several && options.name.is_some() => {
            Some("--all and --name: a name belongs to one device, name it")
        }
        _ if options.tang && options.key_file.is_some() => Some("--tang and --key-file: one key at a time"),
        _ if options.header.is_some() && options.device.is_none() => {
            Some("--header: say which DEVICE it belongs to")
        }
        _ => None,
    }
}

/// The devices there are; when what is wanted is not among them, RAIDs and logical volumes are brought up first.
fn disks_with_all_made_of_them(wanted: Option<&str>) -> anyhow::Result<Vec<Disk>> {
    let disks = disks::list()?;
    let there = match wanted {
        Some(name) => disks::find(&disks, name).is_ok(),
        None => disks.iter().any(|disk| disk.fs.as_deref() == Some(LUKS)),
    };
    if there {
        return Ok(disks);
    }
    let activated = volumes::activate(For::Use)?;
    for note in &activated.notes {
        output::complain(&format!("rescue: {note}"));
    }
    match activated.opened.is_empty() {
        true => Ok(disks),
        false => disks::list(),
    }
}

/// What is wanted of a device, after looking whether it is one that can be opened.
fn wanted(
    options: &Unlock,
    disk: &Disk,
    header: Option<Header>,
    plan: Option<&Plan>,
) -> anyhow::Result<Volume> {
    let mut volume = volume_of(disk, plan);
    if let Some(header) = header {
        volume.header = Some(header);
        if volume.name.is_empty() {
            volume.name = format!("luks-{}", volume.uuid()?);
        }
    }
    if volume.header.is_none() && disk.luks.is_none() {
        bail!(
            "{}: not a LUKS device but {}; when its header is elsewhere, --header says where",
            disk.device,
            content(disk)
        );
    }
    if let Some(name) = &options.name {
        if name.is_empty() || name.contains('/') {
            bail!("'{name}' is not a name for /dev/mapper");
        }
        volume.name.clone_from(name);
    }
    volume.options.read_only |= options.read_only;
    Ok(volume)
}

/// What is on a device that is no LUKS device.
fn content(disk: &Disk) -> String {
    match (&disk.fs, &disk.table) {
        (Some(fs), _) => fs.clone(),
        (None, Some(table)) => {
            format!("a disk with a partition table ({table}), whose partitions have names of their own")
        }
        (None, None) => "without any known content".to_owned(),
    }
}

/// A LUKS device as the plan wants it opened; one with its header elsewhere has a name only if the plan gives it one.
pub fn volume_of(disk: &Disk, plan: Option<&Plan>) -> Volume {
    let planned = plan.and_then(|plan| {
        let mut volumes = plan.luks.iter();
        volumes.find(|volume| disk.is_called(&volume.device().to_string()))
    });
    if let (Some(plan), Some(planned)) = (plan, planned) {
        return Volume::planned(planned, disk.device.as_ref(), plan);
    }
    let uuid = disk.luks.as_ref().and(disk.uuid.as_ref());
    Volume {
        device: disk.device.clone(),
        name: uuid.map(|uuid| format!("luks-{uuid}")).unwrap_or_default(),
        header: None,
        options: plan.map(|plan| plan.luks_options.clone()).unwrap_or_default(),
    }
}

impl Report {
    fn about(device: String) -> Report {
        Report {
            device,
            mapper: None,
            was: None,
            opens: None,
            error: None,
            logical_volumes: Vec::new(),
        }
    }

    fn sentence(&self) -> String {
        let device = &self.device;
        let mapper = self.mapper.as_deref().unwrap_or_default();
        match (&self.error, self.opens, self.was) {
            (Some(what), ..) => what.clone(),
            (None, Some(_), _) => format!("{device}: that opens it."),
            (None, None, Some("unlocked")) => format!("{device} is already unlocked as {mapper}."),
            _ => format!("{device} is unlocked as {mapper}."),
        }
    }
}

/// Tells PID 1, brings up what has appeared, and says what there is now.
fn conclude(options: &Unlock, mut reports: Vec<Report>) -> anyhow::Result<ExitCode> {
    if reports.iter().any(|report| report.was == Some("locked")) {
        // The passphrase was right and the device is open; that PID 1 cannot be told changes neither.
        if let Err(error) = control::order(&Request::Nudge) {
            output::complain(&format!("rescue: the boot was not told: {error:#}"));
        }
        let volumes = activate();
        for report in reports.iter_mut().filter(|report| report.was == Some("locked")) {
            report.logical_volumes.clone_from(&volumes);
            missing_lvm(report.mapper.as_deref().unwrap_or_default());
        }
        if !options.json && !volumes.is_empty() {
            output::complain(&format!("Logical volumes: {}.", volumes.join(", ")));
        }
    }
    let failed = reports.iter().any(|report| report.error.is_some());
    if options.json {
        let text = match reports.as_slice() {
            [one] if !options.all => serde_json::to_string(one),
            all => serde_json::to_string(all),
        };
        output::line(&text.context("report")?)?;
    } else {
        for report in &reports {
            match &report.error {
                Some(_) => output::complain(&format!("rescue: {}", report.sentence())),
                None => output::line(&report.sentence())?,
            }
        }
    }
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// Activates volume groups and returns the volumes that appeared; what goes wrong is said.
fn activate() -> Vec<String> {
    match lvm::activate() {
        Ok(Some(found)) => found.volumes,
        Ok(None) => Vec::new(),
        Err(what) => {
            output::complain(&format!("rescue: logical volumes: {what}"));
            Vec::new()
        }
    }
}

fn missing_lvm(mapper: &str) {
    let is_member =
        lifeboot_init::block::fstype(mapper.as_ref()).is_ok_and(|kind| kind.as_deref() == Some(lvm::MEMBER));
    if is_member && !lvm::is_here() {
        output::complain(&format!(
            "{mapper} holds logical volumes, and this image lacks the feature lvm."
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_luks_device_is_called_what_it_is() {
        let of = |fs: Option<&str>, table: Option<&str>| {
            content(&Disk {
                fs: fs.map(str::to_owned),
                table: table.map(str::to_owned),
                ..Disk::default()
            })
        };
        assert_eq!(of(Some("ext4"), None), "ext4");
        assert_eq!(of(None, None), "without any known content");
        assert!(of(None, Some("gpt")).contains("partition table (gpt)"));
    }
}
