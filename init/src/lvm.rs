//! Logical volumes, where the image has LVM: groups are activated when a physical volume has come up, so that what is on them can be
//! found. Nothing is written but what activation itself needs.

use crate::luks::{last_words, program, run};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

const LVM: &str = "/usr/sbin/lvm";
/// What blkid calls a physical volume.
pub const MEMBER: &str = "LVM2_member";

/// What has been activated.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Activated {
    /// Volume groups.
    pub groups: Vec<String>,
    /// `/dev/vg/lv`
    pub volumes: Vec<String>,
}

/// Whether the image has LVM.
pub fn is_here() -> bool {
    Path::new(LVM).exists()
}

/// Activates every volume group that has all of its devices and is not active yet; `None`: there is none.
///
/// # Errors
/// LVM could not be run or understood; what it says of groups that cannot be activated.
pub fn activate() -> Result<Option<Activated>, String> {
    activate_with(|| Ok(None))
}

/// The same, but what is activated refuses writes. What is active already stays as it is: naming it would turn it read-only, also under
/// the feet of those who write to it.
///
/// # Errors
/// As [`activate`].
pub fn activate_read_only() -> Result<Option<Activated>, String> {
    activate_with(|| {
        let fields = "vg_name,lv_name,lv_active,pool_lv";
        let report = run_json(lvm(["lvs", "--reportformat", "json", "-o", fields]))?;
        Ok(Some(read_only(&asleep(&rows("lv", report)))))
    })
}

/// Volumes that are not active, as `vg/lv`. A pool runs with the first of its volumes, though it is called active only by itself.
fn asleep(volumes: &[Value]) -> Vec<String> {
    let is_active = |row: &Value| field(row, "lv_active") == "active";
    let runs_for_another = |pool: &Value| {
        volumes.iter().any(|row| {
            is_active(row)
                && field(row, "vg_name") == field(pool, "vg_name")
                && field(row, "pool_lv") == field(pool, "lv_name")
        })
    };
    let asleep = volumes
        .iter()
        .filter(|row| !is_active(row) && !runs_for_another(row));
    asleep
        .map(|row| format!("{}/{}", field(row, "vg_name"), field(row, "lv_name")))
        .collect()
}

/// LVM's configuration by which these volumes refuse writes when they are activated.
fn read_only(volumes: &[String]) -> String {
    let quoted: Vec<String> = volumes.iter().map(|name| format!("\"{name}\"")).collect();
    let list = quoted.join(", ");
    format!("activation {{ read_only_volume_list = [ {list} ] }}")
}

fn activate_with(
    config: impl FnOnce() -> Result<Option<String>, String>,
) -> Result<Option<Activated>, String> {
    if !is_here() || !has_members() {
        return Ok(None);
    }
    let before = active();
    let config = config()?;
    let mut command = lvm(["vgchange", "--activate", "y", "--autobackup", "n", "--quiet"]);
    if let Some(config) = config {
        command.args(["--config", &config]);
    }
    let ended = run(command, None)?;
    let after = volumes()?;
    let new: Vec<&(String, String)> = after.iter().filter(|(_, path)| !before.contains(path)).collect();
    if new.is_empty() {
        return match ended.status.success() {
            true => Ok(None),
            false => Err(format!("vgchange: {}", last_words(&ended))),
        };
    }
    let mut activated = Activated::default();
    for (group, path) in new {
        if !activated.groups.contains(group) {
            activated.groups.push(group.clone());
        }
        activated.volumes.push(path.clone());
    }
    Ok(Some(activated))
}

/// Deactivates one volume.
///
/// # Errors
/// What LVM says: it is in use, above all.
pub fn deactivate(volume: &str) -> Result<(), String> {
    let ended = run(
        lvm(["lvchange", "--activate", "n", "--autobackup", "n", volume]),
        None,
    )?;
    match ended.status.success() {
        true => Ok(()),
        false => Err(last_words(&ended)),
    }
}

/// Deactivates the groups on these physical volumes.
///
/// # Errors
/// What LVM says, a volume in use above all.
pub fn deactivate_on(physical: &str) -> Result<Vec<String>, String> {
    if !is_here() {
        return Ok(Vec::new());
    }
    let groups = rows(
        "pv",
        run_json(lvm(["pvs", "--reportformat", "json", "-o", "vg_name", physical]))?,
    )
    .iter()
    .map(|row| field(row, "vg_name"))
    .filter(|group| !group.is_empty())
    .collect::<Vec<_>>();
    for group in &groups {
        let ended = run(
            lvm(["vgchange", "--activate", "n", "--autobackup", "n", group]),
            None,
        )?;
        if !ended.status.success() {
            return Err(format!("volume group {group}: {}", last_words(&ended)));
        }
    }
    Ok(groups)
}

fn lvm<const N: usize>(args: [&str; N]) -> Command {
    let mut command = program(LVM, args);
    // Descriptors that this process keeps open are no business of the person at the terminal.
    command.env("LVM_SUPPRESS_FD_WARNINGS", "1");
    command
}

/// Whether any block device is a physical volume. LVM itself takes long to say that there is none.
fn has_members() -> bool {
    crate::block::blkid_lines(&["-c", "/dev/null", "-o", "device", "-t", &format!("TYPE={MEMBER}")])
        .is_ok_and(|found| !found.is_empty())
}

/// Paths of the logical volumes that have a device, as `/dev/vg/lv`.
pub fn active() -> Vec<String> {
    volumes()
        .unwrap_or_default()
        .into_iter()
        .map(|(_, path)| path)
        .collect()
}

/// Group and path of every active logical volume that people use.
fn volumes() -> Result<Vec<(String, String)>, String> {
    let fields = "vg_name,lv_path,lv_active";
    let report = run_json(lvm(["lvs", "--reportformat", "json", "-o", fields]))?;
    let active = rows("lv", report)
        .into_iter()
        .filter(|row| field(row, "lv_active") == "active");
    Ok(active
        .map(|row| (field(&row, "vg_name"), field(&row, "lv_path")))
        .filter(|(_, path)| path.starts_with("/dev/"))
        .collect())
}

fn run_json(command: Command) -> Result<Value, String> {
    let ended = run(command, None)?;
    match ended.status.success() {
        true => serde_json::from_slice(&ended.stdout).map_err(|error| format!("lvm: {error}")),
        false => Err(format!("lvm: {}", last_words(&ended))),
    }
}

/// The rows of LVM's JSON reports: `{"report":[{"lv":[{…}]}]}`.
fn rows(kind: &str, report: Value) -> Vec<Value> {
    let rows = report
        .pointer(&format!("/report/0/{kind}"))
        .and_then(Value::as_array);
    rows.cloned().unwrap_or_default()
}

fn field(row: &Value, name: &str) -> String {
    row.get(name)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn reports_are_read_and_nonsense_is_none() {
        let report = json!({"report": [{"lv": [{"vg_name": "vg", "lv_path": "/dev/vg/root"}]}]});
        let found = rows("lv", report);
        assert_eq!(
            (field(&found[0], "vg_name"), field(&found[0], "lv_path")),
            ("vg".into(), "/dev/vg/root".into())
        );
        assert_eq!(field(&found[0], "none"), "");
        for nonsense in [
            json!(null),
            json!([]),
            json!({"report": 3}),
            json!({"report": [{"lv": {}}]}),
        ] {
            assert!(rows("lv", nonsense).is_empty());
        }
    }

    #[test]
    fn only_volumes_that_sleep_are_activated_read_only() {
        let row = |name: &str, active: &str, pool: &str| json!({"vg_name": "vg", "lv_name": name, "lv_active": active, "pool_lv": pool});
        let volumes = |other: &str| {
            asleep(&[
                row("root", "active", ""),
                row("home", other, ""),
                row("pool", "", ""),
                row("thin", other, "pool"),
            ])
        };
        assert_eq!(volumes(""), ["vg/home", "vg/pool", "vg/thin"]);
        assert!(volumes("active").is_empty(), "{:?}", volumes("active"));
        assert_eq!(
            read_only(&["vg/home".into(), "vg/a".into()]),
            "activation { read_only_volume_list = [ \"vg/home\", \"vg/a\" ] }"
        );
        assert_eq!(read_only(&[]), "activation { read_only_volume_list = [  ] }");
    }
}
