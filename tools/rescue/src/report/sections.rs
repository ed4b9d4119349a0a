//! The sections, in the order of the report.

use super::{QUICK, Told, hardware, logs, system};
use crate::{control, disks, net};
use anyhow::Context as _;
use lifeboot_contract::status::Phase;
use serde_json::{Value, json};
use std::time::Duration;

/// A part of a report.
pub struct Section {
    pub name: &'static str,
    /// Then it is given up.
    pub patience: Duration,
    pub gather: fn() -> anyhow::Result<Told>,
}

const fn section(name: &'static str, patience: Duration, gather: fn() -> anyhow::Result<Told>) -> Section {
    Section {
        name,
        patience,
        gather,
    }
}

/// Disks may have to spin up, and names and servers may not answer.
const SLOW: Duration = Duration::from_secs(40);

/// All of them.
pub static ALL: [Section; 12] = [
    section("system", QUICK, system::gather),
    section("firmware", QUICK, hardware::firmware),
    section("power", QUICK, hardware::power),
    section("network", SLOW, network),
    section("disks", SLOW, list_disks),
    section("mounts", QUICK, system::mounts),
    section("modules", QUICK, system::modules),
    section("parameters", QUICK, system::parameters),
    section("status", QUICK, status),
    section("events", QUICK, logs::events),
    section("kernel-log", QUICK, logs::kernel),
    section("pstore", QUICK, logs::pstore),
];

fn network() -> anyhow::Result<Told> {
    let report = net::report();
    Ok(Told {
        warnings: report.warnings(),
        facts: serde_json::to_value(&report).context("network")?,
    })
}

fn list_disks() -> anyhow::Result<Told> {
    let disks = disks::list()?;
    Ok(Told {
        warnings: Vec::new(),
        facts: json!({ "disks": serde_json::to_value(&disks).context("disks")? }),
    })
}

fn status() -> anyhow::Result<Told> {
    let status = control::status()?;
    let mut warnings = status.warnings.clone();
    if let Phase::Failed { failure, .. } = &status.phase {
        warnings.push(format!("the boot failed: {failure}"));
    }
    let mut facts = serde_json::to_value(&status).context("status")?;
    if let Value::Object(fields) = &mut facts {
        fields.insert("says".to_owned(), json!(status.lines()));
    }
    Ok(Told { warnings, facts })
}
