//! `rescue lock`: closes what `rescue unlock` opened, unless somebody uses it.

use crate::disks::{self, Disk, Luks};
use crate::{output, tool};
use anyhow::{Context as _, anyhow, bail};
use argh::FromArgs;
use lifeboot_init::{luks, lvm};
use serde::Serialize;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

/// close a LUKS device again
#[derive(Debug, FromArgs)]
#[cfg_attr(test, derive(argh::ArgsInfo))]
#[argh(
    subcommand,
    name = "lock",
    note = "Refused while anything on it is mounted, used as swap or held open, and says by whom. Logical volumes on it that nobody uses are deactivated first. What is left over from a disk that went away, as 'rescue disks' lists it, is removed by its own name, /dev/mapper/NAME.",
    example = "By the LUKS device or by what it was opened as:\n$ {command_name} /dev/vda2\n$ {command_name} /dev/mapper/luks-0a3407de-…"
)]
pub struct Lock {
    /// the LUKS device, or what it is opened as
    #[argh(positional)]
    device: String,
    /// print JSON
    #[argh(switch)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Report<'a> {
    device: &'a str,
    was: &'static str,
    deactivated: Vec<String>,
}

/// Closes it.
///
/// # Errors
/// It is in use, is not a LUKS device, or cryptsetup refuses.
pub fn run(options: &Lock) -> anyhow::Result<ExitCode> {
    let disks = disks::list()?;
    let disk = disks::find(&disks, &options.device)?;
    let Some(mapped) = opened(&disks, disk)? else {
        say(options, &disk.device, "locked", Vec::new())?;
        return Ok(ExitCode::SUCCESS);
    };
    let users = users(&disks, mapped);
    if !users.is_empty() {
        bail!("{} is in use: {}", mapped.device, users.join("; "));
    }
    if mapped.left_over {
        remove(&disks, mapped)?;
        say(options, &mapped.device, "left over", Vec::new())?;
        return Ok(ExitCode::SUCCESS);
    }
    let has_volumes = disks
        .iter()
        .any(|other| other.parent.as_deref() == Some(&mapped.device) && other.kind == "lvm");
    let deactivated = match has_volumes {
        true => lvm::deactivate_on(&mapped.device).map_err(|what| anyhow!(what))?,
        false => Vec::new(),
    };
    let name = mapped
        .device
        .strip_prefix("/dev/mapper/")
        .unwrap_or(&mapped.device);
    luks::close(name).map_err(|what| anyhow!("{}: {what}", mapped.device))?;
    let device = mapped.parent.as_deref().unwrap_or(&mapped.device);
    say(options, device, "unlocked", deactivated)?;
    Ok(ExitCode::SUCCESS)
}

fn say(options: &Lock, device: &str, was: &'static str, deactivated: Vec<String>) -> anyhow::Result<()> {
    let text = match was {
        _ if options.json => {
            let report = Report {
                device,
                was,
                deactivated,
            };
            serde_json::to_string(&report).context("report")?
        }
        "locked" => format!("{device} is locked already."),
        "left over" => format!("{device} is removed; the disk it was opened from had gone."),
        _ if deactivated.is_empty() => format!("{device} is locked."),
        _ => format!(
            "{device} is locked, volume group {} deactivated.",
            deactivated.join(", ")
        ),
    };
    Ok(output::line(&text)?)
}

/// The mapped device that `disk` is, or that was opened from it; `None` when it is locked.
fn opened<'a>(disks: &'a [Disk], disk: &'a Disk) -> anyhow::Result<Option<&'a Disk>> {
    if disk.kind == "crypt" {
        return Ok(Some(disk));
    }
    let inside = disks
        .iter()
        .find(|other| other.kind == "crypt" && other.parent.as_deref() == Some(&disk.device));
    match (inside, &disk.luks) {
        (Some(mapped), _) => Ok(Some(mapped)),
        (None, Some(Luks::Locked)) => Ok(None),
        _ => bail!(
            "{}: not a LUKS device, and nothing was opened from it",
            disk.device
        ),
    }
}

/// Removes what was made of a disk that has gone, the uppermost first: LVM cannot read what it would go by.
fn remove(disks: &[Disk], mapped: &Disk) -> anyhow::Result<()> {
    for disk in family(disks, mapped).into_iter().rev() {
        let name = disk.device.trim_start_matches("/dev/mapper/");
        if disk.kind == "crypt" {
            luks::close(name).map_err(|what| anyhow!("{}: {what}", disk.device))?;
            continue;
        }
        let ended = tool::run(tool::command("dmsetup", ["remove", name]))?;
        if !ended.status.success() {
            bail!("{}: dmsetup: {}", disk.device, tool::last_words(&ended));
        }
    }
    Ok(())
}

/// The device and everything made from it, what others are made from before those.
fn family<'a>(disks: &'a [Disk], mapped: &'a Disk) -> Vec<&'a Disk> {
    let mut family = vec![mapped];
    let mut at = 0;
    while let Some(parent) = family.get(at).map(|disk| disk.device.clone()) {
        family.extend(
            disks
                .iter()
                .filter(|disk| disk.parent.as_deref() == Some(&parent)),
        );
        at += 1;
    }
    family
}

/// Who uses the device or anything made from it, each as a phrase.
fn users(disks: &[Disk], mapped: &Disk) -> Vec<String> {
    let family = family(disks, mapped);
    let mut users = Vec::new();
    for disk in &family {
        for place in &disk.mounted {
            users.push(match place.as_str() {
                "[SWAP]" => format!("{} is swap", disk.device),
                place => format!("{} is mounted on {place}", disk.device),
            });
        }
        if disk.device != mapped.device && disk.kind != "lvm" && disk.kind != "part" {
            users.push(format!("{} ({}) is made of it", disk.device, disk.kind));
        }
    }
    if users.is_empty() {
        users.extend(open_files(&family));
    }
    users
}

/// Processes that have one of the devices open.
fn open_files(family: &[&Disk]) -> Vec<String> {
    let devices: Vec<_> = family
        .iter()
        .filter_map(|disk| fs::canonicalize(&disk.device).ok())
        .collect();
    let mut found = Vec::new();
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = process.file_name().to_string_lossy().into_owned();
        if !pid.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        let files = fs::read_dir(process.path().join("fd"))
            .into_iter()
            .flatten()
            .flatten();
        let holds = |link: &Path| fs::canonicalize(link).is_ok_and(|target| devices.contains(&target));
        if files.into_iter().any(|file| holds(&file.path())) {
            let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            found.push(format!("{} (process {pid}) has it open", name.trim()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disks::tests::seen;

    #[test]
    fn what_was_opened_is_found_by_either_name() {
        let disks = seen();
        let by = |name: &str| {
            let disk = disks::find(&disks, name).unwrap();
            opened(&disks, disk).map(|found| found.map(|disk| disk.device.clone()))
        };
        let mapped = Some("/dev/mapper/luks-u-2".to_owned());
        assert_eq!(by("/dev/vda2").unwrap(), mapped);
        assert_eq!(by("/dev/mapper/luks-u-2").unwrap(), mapped);
        assert_eq!(by("/dev/vda3").unwrap(), None);
        assert!(by("/dev/vda1").is_err());
    }

    #[test]
    fn a_mount_or_a_device_on_it_is_a_user_and_is_named() {
        let mut disks = seen();
        let index = disks.iter().position(|disk| disk.kind == "crypt").unwrap();
        assert!(users(&disks, &disks[index]).is_empty());
        disks[index].mounted.push("/mnt".to_owned());
        assert_eq!(
            users(&disks, &disks[index]),
            ["/dev/mapper/luks-u-2 is mounted on /mnt"]
        );
    }
}
