//! How a disk feels, by its own account.
//!
//! Two kinds of asking: what the kernel has in memory costs nothing and is always looked at; `smartctl` wakes disks up and waits for
//! sick ones, so it is asked on request only and for no longer than [`PATIENCE`].

use super::{Disk, sysfs};
use crate::tool;
use serde::Serialize;
use std::path::Path;
use std::time::Duration;

mod smart;

const PATIENCE: Duration = Duration::from_secs(15);

/// What it comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It does not say.
    Unknown,
    /// Nothing speaks against it.
    Good,
    /// It wears out.
    Worn,
    /// It says that it fails, or does already.
    Failing,
}

/// What a disk says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Health {
    /// What it comes to.
    pub verdict: Verdict,
    /// The figures behind it.
    pub says: String,
    /// Who was asked: `sysfs`, `smartctl`, `nvme`.
    pub by: &'static str,
}

/// What the kernel knows without asking the disk.
pub fn cheap(disk: &Disk) -> Option<Health> {
    let dir = sysfs::dir(&disk.device).join("device");
    emmc(&dir).or_else(|| driver(&dir))
}

/// An eMMC's wear: DEVICE_LIFE_TIME_EST_TYP_A and _B, PRE_EOL_INFO of the extended CSD, JEDEC JESD84-B51 section 7.4.
fn emmc(dir: &Path) -> Option<Health> {
    let life = sysfs::word(&dir.join("life_time"))?;
    let estimates: Vec<u64> = life
        .split_whitespace()
        .filter_map(|word| u64::from_str_radix(word.trim_start_matches("0x"), 16).ok())
        .collect();
    let reserve = sysfs::number(&dir.join("pre_eol_info")).unwrap_or(0);
    judge_emmc(estimates.iter().copied().max().unwrap_or(0), reserve)
}

fn judge_emmc(estimate: u64, reserve: u64) -> Option<Health> {
    let (life, worn) = match estimate {
        // Steps of 10 %.
        1..=10 => (
            Some(format!(
                "{} to {} % of its life used",
                (estimate - 1) * 10,
                estimate * 10
            )),
            match estimate {
                10 => Verdict::Worn,
                _ => Verdict::Good,
            },
        ),
        11 => (
            Some("more than its estimated life used".to_owned()),
            Verdict::Failing,
        ),
        _ => (None, Verdict::Unknown),
    };
    let (left, spent) = match reserve {
        1 => (None, Verdict::Good),
        2 => (Some("80 % of its spare blocks used".to_owned()), Verdict::Worn),
        3 => (Some("90 % of its spare blocks used".to_owned()), Verdict::Failing),
        _ => (None, Verdict::Unknown),
    };
    let verdict = worn.max(spent);
    let says: Vec<String> = [life, left].into_iter().flatten().collect();
    (verdict != Verdict::Unknown).then(|| Health {
        verdict,
        says: match says.is_empty() {
            true => "spare blocks are left".to_owned(),
            false => says.join(", "),
        },
        by: "sysfs",
    })
}

/// A disk that its driver has given up, in the words of SCSI and NVMe.
fn driver(dir: &Path) -> Option<Health> {
    let state = sysfs::word(&dir.join("state"))?;
    let given_up = ["offline", "transport-offline", "dead", "cancel", "blocked"];
    given_up.contains(&state.as_str()).then(|| Health {
        verdict: Verdict::Failing,
        says: format!("the kernel has given it up ({state})"),
        by: "sysfs",
    })
}

/// Asks every disk itself, all at the same time. `Err`: what is missing in the image.
pub fn thorough(disks: &mut [Disk]) -> Result<(), &'static str> {
    let ask: fn(&Disk) -> Option<Health> = if tool::place("smartctl").is_some() {
        with_smartctl
    } else if tool::place("nvme").is_some() {
        with_nvme
    } else {
        return Err("smartctl is not in this image: build it with feature smart");
    };
    std::thread::scope(|scope| {
        let asked: Vec<_> = disks
            .iter_mut()
            .filter(|disk| disk.depth == 0 && disk.kind == "disk" && real(disk))
            .map(|disk| {
                scope.spawn(move || {
                    if let Some(health) = ask(disk) {
                        disk.health = Some(health);
                    }
                })
            })
            .collect();
        for one in asked {
            // A thread that panicked has nothing to say.
            drop(one.join());
        }
    });
    Ok(())
}

/// Not one that is made of memory, of a file or of another machine.
fn real(disk: &Disk) -> bool {
    !["/dev/zram", "/dev/loop", "/dev/nbd", "/dev/vd", "/dev/ram"]
        .iter()
        .any(|start| disk.device.starts_with(start))
}

fn with_smartctl(disk: &Disk) -> Option<Health> {
    let ask = |more: &[&str]| {
        let words = ["--json=c", "--info", "--health", "--attributes"];
        let words = words.iter().chain(more).copied().chain([disk.device.as_str()]);
        tool::run_within(tool::command("smartctl", words), PATIENCE)
    };
    let first = match ask(&[]) {
        // Bridges it does not know mostly pass on what SATA disks are asked.
        Ok(ended) if ended.status.code() == Some(1) && disk.transport.as_deref() == Some("usb") => {
            ask(&["--device=sat"])
        }
        other => other,
    };
    Some(match first {
        Ok(ended) => smart::of_smartctl(&ended.stdout),
        Err(error) => silent(&error, "smartctl"),
    })
}

fn with_nvme(disk: &Disk) -> Option<Health> {
    if !disk.device.starts_with("/dev/nvme") {
        return None;
    }
    let words = ["smart-log", "--output-format=json", disk.device.as_str()];
    Some(match tool::run_within(tool::command("nvme", words), PATIENCE) {
        Ok(ended) => smart::of_nvme(&ended.stdout),
        Err(error) => silent(&error, "nvme"),
    })
}

fn silent(error: &anyhow::Error, by: &'static str) -> Health {
    Health {
        verdict: Verdict::Unknown,
        says: format!("{error:#}"),
        by,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_emmc_tells_how_much_of_its_life_is_used() {
        let told =
            |estimate, reserve| judge_emmc(estimate, reserve).map(|health| (health.verdict, health.says));
        assert_eq!(
            told(1, 1),
            Some((Verdict::Good, "0 to 10 % of its life used".to_owned()))
        );
        assert_eq!(
            told(10, 2),
            Some((
                Verdict::Worn,
                "90 to 100 % of its life used, 80 % of its spare blocks used".to_owned()
            ))
        );
        assert_eq!(told(11, 1).unwrap().0, Verdict::Failing);
        assert_eq!(told(3, 3).unwrap().0, Verdict::Failing);
        assert_eq!(told(0, 1).unwrap().1, "spare blocks are left");
        assert_eq!(told(0, 0), None);
        assert_eq!(told(255, 255), None);
    }

    #[test]
    fn what_the_kernel_has_given_up_is_seen_and_what_runs_is_not_spoken_of() {
        let dir = std::env::temp_dir().join(format!("lifeboot-health-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let with = |name: &str, text: &str| {
            std::fs::write(dir.join(name), text).unwrap();
            emmc(&dir).or_else(|| driver(&dir))
        };
        assert_eq!(with("state", "running\n"), None);
        assert_eq!(with("state", "offline\n").unwrap().verdict, Verdict::Failing);
        assert_eq!(
            with("life_time", "0x02 0x0b\n").unwrap().verdict,
            Verdict::Failing
        );
        assert_eq!(with("life_time", "nonsense\n").unwrap().by, "sysfs");
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
