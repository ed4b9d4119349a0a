//! Logical volumes: which group a physical volume belongs to, and how to get at what is in it.

use super::{Disk, PartOf, Standing};
use crate::tool;
use serde::Deserialize;
use std::fs;
use std::time::Duration;

/// What blkid calls a physical volume.
pub const MEMBER: &str = "LVM2_member";

const PATIENCE: Duration = Duration::from_secs(5);

/// Adds the volume groups' names and states, where lvm is in the image.
pub fn relate(disks: &mut [Disk]) {
    if !disks.iter().any(|disk| disk.fs.as_deref() == Some(MEMBER)) {
        return;
    }
    let volumes = report(&[
        "pvs",
        "--options",
        "pv_name,vg_name,vg_missing_pv_count,vg_partial",
    ]);
    let logical = report(&["lvs", "--options", "vg_name,lv_name,lv_active"]);
    for disk in disks.iter_mut().filter(|disk| disk.fs.as_deref() == Some(MEMBER)) {
        disk.part_of = Some(part_of(&disk.device, volumes.as_deref(), logical.as_deref()));
    }
}

/// One row of a report; which fields it has depends on what was asked.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Row {
    pv_name: String,
    vg_name: String,
    vg_missing_pv_count: String,
    lv_active: String,
}

#[derive(Deserialize)]
struct Report {
    report: Vec<Section>,
}

#[derive(Deserialize)]
struct Section {
    #[serde(default)]
    pv: Vec<Row>,
    #[serde(default)]
    lv: Vec<Row>,
}

/// `None`: lvm is not in the image, or has not answered.
fn report(words: &[&str]) -> Option<Vec<Row>> {
    tool::place("lvm")?;
    let command = tool::command("lvm", words.iter().copied().chain(["--reportformat", "json"]));
    understand(&tool::run_within(command, PATIENCE).ok()?.stdout)
}

fn understand(json: &[u8]) -> Option<Vec<Row>> {
    let report: Report = serde_json::from_slice(json).ok()?;
    Some(
        report
            .report
            .into_iter()
            .flat_map(|section| section.pv.into_iter().chain(section.lv))
            .collect(),
    )
}

fn part_of(device: &str, volumes: Option<&[Row]>, logical: Option<&[Row]>) -> PartOf {
    let part = |name: Option<String>, standing, activate| PartOf {
        what: "LVM",
        name,
        standing,
        activate,
    };
    let Some(volumes) = volumes else {
        return part(None, Standing::Unknown, None);
    };
    let own = volumes.iter().find(|row| same(&row.pv_name, device));
    let Some(row) = own.filter(|row| !row.vg_name.is_empty()) else {
        return part(None, Standing::Unused, None);
    };
    let group = &row.vg_name;
    let missing = row.vg_missing_pv_count.trim().parse().unwrap_or(0);
    let mut inside = logical
        .unwrap_or_default()
        .iter()
        .filter(|row| row.vg_name == *group);
    let asleep = inside.any(|row| row.lv_active != "active");
    let (standing, activate) = match (missing, asleep) {
        (0, false) => (Standing::Active, None),
        (0, true) => (Standing::Inactive, Some(format!("vgchange -ay {group}"))),
        (missing, _) => (
            Standing::Incomplete { missing },
            asleep.then(|| format!("vgchange -ay --activationmode degraded {group}")),
        ),
    };
    part(Some(group.clone()), standing, activate)
}

fn same(name: &str, device: &str) -> bool {
    let real = |path: &str| fs::canonicalize(path).ok();
    name == device || real(name).is_some_and(|path| Some(path) == real(device))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PVS: &str = r#"{"report":[{"pv":[
        {"pv_name":"/dev/vda","vg_name":"vg0","vg_missing_pv_count":"0"},
        {"pv_name":"/dev/vdb","vg_name":"","vg_missing_pv_count":""},
        {"pv_name":"/dev/vdc","vg_name":"half","vg_missing_pv_count":"1"}]}],"log":[]}"#;
    const LVS: &str = r#"{"report":[{"lv":[
        {"vg_name":"vg0","lv_name":"root","lv_active":"active"},
        {"vg_name":"vg0","lv_name":"home","lv_active":""},
        {"vg_name":"half","lv_name":"x","lv_active":""}]}]}"#;

    fn of(device: &str) -> PartOf {
        let rows = |json: &str| understand(json.as_bytes());
        part_of(device, rows(PVS).as_deref(), rows(LVS).as_deref())
    }

    #[test]
    fn a_group_that_sleeps_says_how_it_is_woken() {
        let part = of("/dev/vda");
        assert_eq!(
            (part.name.as_deref(), part.standing, part.activate.as_deref()),
            (Some("vg0"), Standing::Inactive, Some("vgchange -ay vg0"))
        );
        assert_eq!(of("/dev/vdb").standing, Standing::Unused);
        assert_eq!(of("/dev/vdc").standing, Standing::Incomplete { missing: 1 });
    }

    #[test]
    fn what_lvm_does_not_say_is_not_known() {
        assert_eq!(part_of("/dev/vda", None, None).standing, Standing::Unknown);
        for text in ["", "{}", "[]", r#"{"report":[{"pv":[{"pv_name":3}]}]}"#] {
            assert!(understand(text.as_bytes()).is_none(), "{text}");
        }
    }
}
