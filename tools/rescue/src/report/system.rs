//! What runs here: image, kernel, processor, memory, clock, mounts, modules, boot parameters.

use super::Told;
use crate::net::events;
use crate::{control, cut, machine, output};
use anyhow::Context as _;
use lifeboot_contract::firmware::revision;
use serde_json::{Value, json};
use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

/// Below this share of memory processes will be killed soon.
const LEAST_FREE_PERCENT: u64 = 5;

/// Image, kernel, processor, memory and clock.
pub fn gather() -> anyhow::Result<Told> {
    let board = machine::board();
    let name = rustix::system::uname();
    let text = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
    let mut warnings = Vec::new();
    let memory = memory(&board.file("proc/meminfo").unwrap_or_default(), &mut warnings);
    let image = lifeboot_init::stage::plan::image_info(&machine::root());
    let facts = json!({
        "hostname": text(name.nodename()),
        "model": board.text("model").or_else(|| board.file("sys/class/dmi/id/product_name")),
        "serial": board.text("serial-number").or_else(|| board.file("sys/class/dmi/id/product_serial")),
        "revision": board.number("system/linux,revision").map(revision::words),
        "kernel": format!("{} {} {}", text(name.sysname()), text(name.release()), text(name.version())),
        "architecture": text(name.machine()),
        "processor": processor(&board.file("proc/cpuinfo").unwrap_or_default()),
        "load": board.file("proc/loadavg"),
        "uptime_s": board.file("proc/uptime").and_then(|text| text.split('.').next()?.parse::<u64>().ok()),
        "memory_kib": memory,
        "clock": clock(&mut warnings),
        "image": serde_json::to_value(&image).context("image")?,
    });
    Ok(Told { warnings, facts })
}

/// How many processors of which kind.
fn processor(cpuinfo: &str) -> Value {
    let field = |name: &str| {
        let lines = cpuinfo.lines().filter_map(|line| line.split_once(':'));
        let mut values = lines
            .filter(|(key, _)| key.trim() == name)
            .map(|(_, value)| value.trim().to_owned());
        values.next()
    };
    let count = cpuinfo
        .lines()
        .filter(|line| line.starts_with("processor"))
        .count();
    // An Arm processor tells its part number and no name.
    let part = || {
        Some(format!(
            "implementer {} part {}",
            field("CPU implementer")?,
            field("CPU part")?
        ))
    };
    json!({ "count": count, "kind": field("model name").or_else(part) })
}

fn memory(meminfo: &str, warnings: &mut Vec<String>) -> Value {
    let kib = |name: &str| {
        let line = meminfo
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()
    };
    let (total, available) = (kib("MemTotal"), kib("MemAvailable"));
    if let (Some(total), Some(available)) = (total, available)
        && available * 100 < total * LEAST_FREE_PERCENT
    {
        warnings.push(format!("memory: {available} of {total} KiB are available"));
    }
    json!({ "total": total, "available": available, "free": kib("MemFree"), "cached": kib("Cached"), "swap": kib("SwapTotal") })
}

/// The time, and where it comes from.
fn clock(warnings: &mut Vec<String>) -> Value {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let events = events();
    let set = events.iter().flatten().rfind(|event| event.name == "time.set");
    let has_rtc =
        fs::read_dir(machine::root().join("sys/class/rtc")).is_ok_and(|mut clocks| clocks.next().is_some());
    if events.is_ok() && set.is_none() && !has_rtc {
        warnings.push(
            "the clock is not set: no time server has answered, and this machine has no clock of its own"
                .to_owned(),
        );
    }
    json!({ "now": output::date(now), "set_by": set.map(|event| event.str("source").to_owned()), "has_rtc": has_rtc })
}

/// What is mounted.
pub fn mounts() -> anyhow::Result<Told> {
    let path = machine::root().join("proc/mounts");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    Ok(Told {
        warnings: Vec::new(),
        facts: json!({ "mounts": text.lines().collect::<Vec<_>>() }),
    })
}

/// Modules of the kernel that are loaded.
pub fn modules() -> anyhow::Result<Told> {
    let path = machine::root().join("proc/modules");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let mut names: Vec<&str> = text.lines().filter_map(|line| line.split(' ').next()).collect();
    names.sort_unstable();
    Ok(Told {
        warnings: Vec::new(),
        facts: json!({ "modules": names.join(" ") }),
    })
}

/// The command line and the plan that came of it, secrets cut.
pub fn parameters() -> anyhow::Result<Told> {
    let cmdline = machine::board().file("proc/cmdline").unwrap_or_default();
    let plan = control::plan(&control::run_dir()).map(|plan| serde_json::to_value(&plan));
    let plan = match plan {
        Ok(plan) => plan.context("plan")?,
        Err(error) => json!({ "error": format!("{error:#}") }),
    };
    Ok(Told {
        warnings: Vec::new(),
        facts: json!({ "command_line": cut::cmdline(&cmdline), "plan": plan }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_runs_out_is_a_warning() {
        let mut warnings = Vec::new();
        let text = "MemTotal: 1000 kB\nMemFree: 3 kB\nMemAvailable: 49 kB\n";
        assert_eq!(memory(text, &mut warnings)["available"], 49);
        assert_eq!(warnings, ["memory: 49 of 1000 KiB are available"]);
        memory("MemTotal: 1000 kB\nMemAvailable: 500 kB\n", &mut warnings);
        memory("nonsense", &mut warnings);
        assert_eq!(warnings.len(), 1);
    }

    #[test]
    fn processors_are_counted_and_named() {
        let x86 = "processor\t: 0\nmodel name\t: QEMU TCG\n\nprocessor\t: 1\nmodel name\t: QEMU TCG\n";
        assert_eq!(processor(x86), json!({"count": 2, "kind": "QEMU TCG"}));
        let arm = "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd08\n";
        assert_eq!(processor(arm)["kind"], "implementer 0x41 part 0xd08");
        assert_eq!(processor("")["count"], 0);
    }
}
