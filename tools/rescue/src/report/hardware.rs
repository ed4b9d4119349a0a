//! Firmware, power and heat.

use super::Told;
use crate::eeprom::Bootloader;
use crate::{machine, output};
use anyhow::Context as _;
use lifeboot_contract::firmware::mailbox::{
    CUSTOMER_OTP, FIRMWARE_REVISION, MAX_TEMPERATURE, TEMPERATURE, THROTTLED,
};
use lifeboot_contract::firmware::throttled;
use lifeboot_init::firmware::{DEVICE, Mailbox, ask};
use serde_json::{Map, Value, json};
use std::fs;
use std::path::Path;

/// Thousandths of a degree Celsius: a Pi slows down at 80, others a little later.
const HOT: i64 = 80_000;
const OTP_ROWS: usize = 8;

/// Bootloader and firmware: a Raspberry Pi's, or a PC's.
pub fn firmware() -> anyhow::Result<Told> {
    let board = machine::board();
    let mut facts = Map::new();
    if board.is_raspberry_pi() {
        let mut mailbox = machine::mailbox();
        let as_mailbox = mailbox.as_mut().ok().map(|mailbox| mailbox as &mut dyn Mailbox);
        let bootloader = Bootloader::of(&board, as_mailbox);
        facts.insert(
            "bootloader".to_owned(),
            serde_json::to_value(&bootloader).context("bootloader")?,
        );
        match &mut mailbox {
            Ok(mailbox) => facts.extend(asked(mailbox)),
            Err(error) => drop(facts.insert("mailbox".to_owned(), json!(format!("{DEVICE}: {error}")))),
        }
    }
    let dmi = [
        "bios_vendor",
        "bios_version",
        "bios_date",
        "board_name",
        "sys_vendor",
    ];
    for name in dmi {
        facts.extend(
            board
                .file(&format!("sys/class/dmi/id/{name}"))
                .map(|text| (name.to_owned(), json!(text))),
        );
    }
    let by = if machine::root().join("sys/firmware/efi").is_dir() {
        "UEFI"
    } else {
        "not UEFI"
    };
    facts.insert("started_by".to_owned(), json!(by));
    Ok(Told {
        warnings: Vec::new(),
        facts: Value::Object(facts),
    })
}

/// What the mailbox tells about firmware and one-time memory; what it does not is left out. Of the owner's rows only how many are used.
fn asked(mailbox: &mut dyn Mailbox) -> Map<String, Value> {
    let mut facts = Map::new();
    if let Ok(built) = ask(mailbox, FIRMWARE_REVISION, &[0], 1) {
        let built = built.first().copied().unwrap_or(0);
        facts.insert("firmware_built".to_owned(), json!(output::date(built.into())));
    }
    let mut rows = [0; 2 + OTP_ROWS];
    rows[1] = OTP_ROWS as u32;
    if let Ok(answer) = ask(mailbox, CUSTOMER_OTP, &rows, rows.len()) {
        let used = answer.iter().skip(2).filter(|row| **row != 0).count();
        facts.insert(
            "customer_otp".to_owned(),
            json!(format!("{used} of {OTP_ROWS} rows are used")),
        );
    }
    facts
}

/// Under-voltage, throttling and temperatures.
pub fn power() -> anyhow::Result<Told> {
    let root = machine::root();
    let mut warnings = Vec::new();
    let mut facts = Map::new();
    if let Ok(mut mailbox) = machine::mailbox() {
        facts.extend(of_mailbox(&mut mailbox, &mut warnings));
    }
    // Kernels without the mailbox device watch the same bit.
    if let Some(alarm) = under_voltage(&root.join("sys/class/hwmon")) {
        facts.insert(
            "rpi_volt".to_owned(),
            json!(if alarm { "under-voltage" } else { "good" }),
        );
        let known = warnings
            .iter()
            .any(|warning| warning.starts_with("under-voltage"));
        if alarm && !known {
            warnings.push(
                "under-voltage since the last look (rpi_volt): the power supply is too weak".to_owned(),
            );
        }
    }
    let zones = zones(&root.join("sys/class/thermal"));
    for (name, temperature) in &zones {
        if *temperature >= HOT {
            warnings.push(format!("{name}: {} °C", temperature / 1000));
        }
    }
    let zones: Map<String, Value> = zones
        .into_iter()
        .map(|(name, temperature)| (name, json!(degrees(temperature))))
        .collect();
    facts.insert("temperatures".to_owned(), Value::Object(zones));
    Ok(Told {
        warnings,
        facts: Value::Object(facts),
    })
}

fn of_mailbox(mailbox: &mut dyn Mailbox, warnings: &mut Vec<String>) -> Map<String, Value> {
    let mut facts = Map::new();
    if let Ok(bits) = ask(mailbox, THROTTLED, &[0], 1) {
        let bits = bits.first().copied().unwrap_or(0);
        let words = throttled::words(bits);
        facts.insert("throttled".to_owned(), json!(format!("{bits:#x}")));
        facts.insert("throttled_words".to_owned(), json!(words));
        warnings.extend(words);
    }
    for (tag, name) in [(TEMPERATURE, "chip"), (MAX_TEMPERATURE, "chip_limit")] {
        if let Ok(answer) = ask(mailbox, tag, &[0, 0], 2) {
            let temperature = i64::from(answer.get(1).copied().unwrap_or(0));
            facts.insert(name.to_owned(), json!(degrees(temperature)));
        }
    }
    facts
}

fn degrees(thousandths: i64) -> String {
    format!("{}.{} °C", thousandths / 1000, (thousandths % 1000).abs() / 100)
}

/// Whether the kernel's driver has seen the voltage drop; `None` where there is no such driver.
fn under_voltage(hwmon: &Path) -> Option<bool> {
    let monitors = fs::read_dir(hwmon).ok()?.flatten();
    let is_ours =
        |path: &Path| fs::read_to_string(path.join("name")).is_ok_and(|name| name.trim() == "rpi_volt");
    let monitor = monitors.map(|entry| entry.path()).find(|path| is_ours(path))?;
    let alarm = fs::read_to_string(monitor.join("in0_lcrit_alarm")).ok()?;
    Some(alarm.trim() == "1")
}

/// Name and temperature of each thermal zone.
fn zones(thermal: &Path) -> Vec<(String, i64)> {
    let entries = fs::read_dir(thermal).into_iter().flatten().flatten();
    let mut found: Vec<(String, i64)> = entries
        .filter_map(|entry| {
            let text = |file: &str| fs::read_to_string(entry.path().join(file)).ok();
            Some((
                text("type")?.trim().to_owned(),
                text("temp")?.trim().parse().ok()?,
            ))
        })
        .collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifeboot_init::firmware::Scripted;

    #[test]
    fn the_mailbox_tells_power_and_heat_in_words() {
        let mut mailbox = Scripted {
            answers: vec![
                (THROTTLED, vec![0x5_0001]),
                (TEMPERATURE, vec![0, 48_312]),
                (CUSTOMER_OTP, vec![0, 8, 1, 0, 0, 0, 0, 0, 0, 2]),
                (FIRMWARE_REVISION, vec![1_746_713_597]),
            ],
            ..Scripted::default()
        };
        let mut warnings = Vec::new();
        let facts = of_mailbox(&mut mailbox, &mut warnings);
        assert_eq!(facts["chip"], "48.3 °C");
        assert!(!facts.contains_key("chip_limit"));
        assert_eq!(
            warnings,
            ["under-voltage now", "throttled has happened since the start"]
        );
        let facts = asked(&mut mailbox);
        assert_eq!(facts["customer_otp"], "2 of 8 rows are used");
        assert_eq!(facts["firmware_built"], "2025-05-08 14:13:17 UTC");
    }

    #[test]
    fn without_a_mailbox_the_kernel_knows_of_under_voltage_and_heat() {
        let dir = std::env::temp_dir().join(format!("lifeboot-power-{}", std::process::id()));
        for (path, text) in [
            ("hwmon/hwmon0/name", "cpu_thermal\n"),
            ("hwmon/hwmon1/name", "rpi_volt\n"),
            ("hwmon/hwmon1/in0_lcrit_alarm", "1\n"),
            ("thermal/thermal_zone0/type", "cpu-thermal\n"),
            ("thermal/thermal_zone0/temp", "81500\n"),
            ("thermal/thermal_zone1/type", "broken\n"),
        ] {
            let path = dir.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        assert_eq!(under_voltage(&dir.join("hwmon")), Some(true));
        assert_eq!(zones(&dir.join("thermal")), [("cpu-thermal".to_owned(), 81_500)]);
        fs::remove_dir_all(&dir).unwrap();
        assert_eq!((under_voltage(&dir.join("hwmon")), zones(&dir).len()), (None, 0));
    }
}
