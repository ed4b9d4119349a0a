//! What the commands make of a machine that is a tree of files.

use crate::stand_in::{StandIn, directory, output};
use lifeboot_contract::firmware::uefi::file_name;
use lifeboot_contract::image::ImageInfo;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn rescue(dir: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rescue"));
    command
        .args(words)
        .env("LIFEBOOT_RUN", dir)
        .env("LIFEBOOT_ROOT", dir.join("root"));
    command.stdin(Stdio::null());
    output(command)
}

fn said(ended: &Output) -> (Option<i32>, String) {
    let text = [&ended.stdout[..], &ended.stderr[..]].concat();
    (ended.status.code(), String::from_utf8_lossy(&text).into_owned())
}

fn machine(dir: &Path, files: &[(&str, &[u8])]) {
    for (path, bytes) in files {
        let path = dir.join("root").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

/// A boot entry that starts from the network: a MAC address in its device path.
fn network_entry(name: &str) -> Vec<u8> {
    let path = [&[3, 11, 37, 0][..], &[0; 33], &[0x7f, 0xff, 4, 0]].concat();
    let mut bytes = vec![7, 0, 0, 0, 1, 0, 0, 0];
    bytes.extend((path.len() as u16).to_le_bytes());
    bytes.extend(name.encode_utf16().chain([0]).flat_map(u16::to_le_bytes));
    bytes.extend(path);
    bytes
}

#[test]
fn a_pi_shows_its_boot_order_and_cannot_be_told_without_the_mailbox() {
    let dir = directory();
    machine(
        &dir,
        &[
            ("proc/device-tree/model", b"Raspberry Pi 5 Model B Rev 1.0\0"),
            (
                "proc/device-tree/compatible",
                b"raspberrypi,5-model-b\0brcm,bcm2712\0",
            ),
            ("proc/device-tree/aliases/blconfig", b"/reserved-memory/nvram@0\0"),
            (
                "sys/bus/nvmem/devices/nvram0/nvmem",
                b"BOOT_ORDER=0xf461\nWPA_PSK=geheim\n",
            ),
        ],
    );
    let (code, text) = said(&rescue(&dir, &["eeprom", "show"]));
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains("read from the right: 1 SD card or eMMC, then 6 NVMe disk"),
        "{text}"
    );
    assert!(!text.contains("geheim"), "{text}");
    let json = rescue(&dir, &["eeprom", "show", "--json"]).stdout;
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(json["boot_order"], "0xf461");
    let (code, text) = said(&rescue(&dir, &["reboot", "--to", "network"]));
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("/dev/vcio") && text.contains("only Raspberry Pi's own kernels"),
        "{text}"
    );
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn uefi_is_told_by_boot_next_which_is_taken_back_when_init_does_not_restart() {
    let dir = directory();
    let _init = StandIn::listen(&dir);
    let vars = "sys/firmware/efi/efivars";
    let file = |name: &str| format!("{vars}/{}", file_name(name));
    machine(
        &dir,
        &[
            (&file("Boot0003"), &network_entry("UEFI PXEv4")),
            (&file("Boot0007"), &network_entry("UEFI HTTPv4")),
            (&file("BootOrder"), &[7, 0, 0, 0, 7, 0, 3, 0]),
            (&file("BootCurrent"), &[6, 0, 0, 0, 3, 0]),
        ],
    );
    let next = dir.join("root").join(file("BootNext"));
    let (code, text) = said(&rescue(&dir, &["reboot", "--to", "network", "--dry-run"]));
    assert_eq!(
        (code, text.as_str()),
        (
            Some(0),
            "The next start, and only that, is from Boot0003, 'UEFI PXEv4'.\nNothing was changed, and the machine is not restarted.\n"
        )
    );
    assert!(!next.exists());
    let (code, text) = said(&rescue(&dir, &["reboot", "--to", "sd"]));
    assert_eq!(code, Some(1));
    assert!(
        text.contains("Boot0007 'UEFI HTTPv4', Boot0003 'UEFI PXEv4'"),
        "{text}"
    );
    // The stand-in refuses to restart.
    let (code, text) = said(&rescue(&dir, &["reboot", "--to", "rescue"]));
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("not today") && !next.exists(), "{text}");
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn a_machine_whose_firmware_cannot_be_told_says_so() {
    let dir = directory();
    let (code, text) = said(&rescue(&dir, &["reboot", "--to", "network"]));
    assert_eq!(code, Some(1));
    assert!(
        text.contains("neither UEFI firmware nor a Raspberry Pi's"),
        "{text}"
    );
    let (code, text) = said(&rescue(&dir, &["reboot", "--argument", &"x".repeat(256)]));
    assert_eq!(code, Some(2), "{text}");
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn the_version_is_the_programs_and_where_there_is_an_image_its_own() {
    let dir = directory();
    let own = format!("rescue {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(said(&rescue(&dir, &["--version"])), (Some(0), own.clone()));
    let image = ImageInfo {
        name: "lifeboot".to_owned(),
        version: "0.0.7".to_owned(),
        board: "pi4".to_owned(),
        build_time: 86_400,
        ..ImageInfo::default()
    };
    let text = serde_json::to_vec(&image).unwrap();
    machine(&dir, &[("etc/lifeboot/image.json", &text)]);
    let (code, text) = said(&rescue(&dir, &["--version"]));
    let line = text.strip_prefix(&own).unwrap();
    assert_eq!(code, Some(0));
    assert!(
        line.starts_with("image lifeboot 0.0.7 for pi4, built 1970-01-02"),
        "{line}"
    );
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn a_report_needs_neither_init_nor_a_known_machine() {
    let dir = directory();
    let ended = rescue(&dir, &["report", "--json"]);
    let report: serde_json::Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!(ended.status.code(), Some(0));
    let sections = report["sections"].as_object().unwrap();
    assert_eq!(sections.len(), 12);
    let why = sections["status"]["error"].as_str().unwrap();
    assert!(why.contains("init cannot be reached"), "{why}");
    assert_eq!(sections["firmware"]["started_by"], "not UEFI");
    let (code, text) = said(&rescue(&dir, &["report", "--only", "nonsense"]));
    assert_eq!(code, Some(2));
    assert!(text.contains("there are system, firmware, power"), "{text}");
    fs::remove_dir_all(dir).unwrap();
}
