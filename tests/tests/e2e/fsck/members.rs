//! What is made of several devices, disks that do not answer, and disks that say that they are ill.

use super::{ends, guest, json, of, reads, start};
use anyhow::{Context, Result, ensure};
use lifeboot_tests::fixtures::disk::{Disks, LETTER_TEXT, PASSPHRASE};
use lifeboot_tests::guest::Client;
use serde_json::{Value, json};
use std::path::PathBuf;

fn run(client: &Client, script: &str) -> Result<String> {
    Ok(client.run(&[&format!("set -e; {script}")])?.success()?.text())
}

/// The entry of the one array there is.
fn the_array(entries: &[Value]) -> Result<&Value> {
    let array = entries.iter().find(|entry| !entry["array"].is_null());
    array.with_context(|| format!("no array in {entries:#?}"))
}

/// How what a device is part of is, and what makes it usable.
fn part_of(entries: &[Value], device: &str) -> Result<(String, String)> {
    let part = &of(entries, device)?["part_of"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Ok((text(&part["standing"]["is"]), text(&part["activate"])))
}

fn listed(client: &Client) -> Result<Vec<Value>> {
    json(client, &["rescue", "disks", "--json"])
}

/// A mirror of vda and vdb with the letter in it.
fn make_mirror(client: &Client) -> Result<()> {
    let script = format!(
        "mkdir -p /mnt; (mdadm --create /dev/md/pair --run --metadata=1.2 --level=1 --raid-devices=2 /dev/vda /dev/vdb
         mdadm --wait /dev/md/pair || true; mke2fs -q -t ext4 /dev/md/pair) >/dev/null 2>&1
         mount /dev/md/pair /mnt; printf '%s' '{LETTER_TEXT}' >/mnt/letter.txt; umount /mnt"
    );
    run(client, &script).map(drop)
}

/// One half is taken out, which is refused until the kernel has let go of it, and the other goes on: written to, stopped, and found by the next boot.
fn lose_a_half(client: &Client) -> Result<()> {
    let script =
        "(mdadm /dev/md/pair --fail /dev/vdb
                   n=0; until mdadm /dev/md/pair --remove /dev/vdb; do n=$((n + 1)); [ $n -lt 100 ]; sleep 0.3; done; mount /dev/md/pair /mnt
                   touch /mnt/later; umount /mnt; sleep 1; mdadm --stop /dev/md/pair) >/dev/null 2>&1";
    run(client, script).map(drop)
}

/// LUKS on a logical volume of vdc and vdd, closed and not active.
fn make_volumes(client: &Client) -> Result<()> {
    let script = format!(
        "(vgcreate box /dev/vdc /dev/vdd; lvcreate -y -L 60M -n safe box) >/dev/null 2>&1
         printf '%s' '{PASSPHRASE}' >/tmp/key
         cryptsetup luksFormat -q --pbkdf pbkdf2 --pbkdf-force-iterations 1000 /dev/box/safe /tmp/key
         cryptsetup open --key-file /tmp/key /dev/box/safe inner; mke2fs -q -t ext4 /dev/mapper/inner
         cryptsetup close inner; vgchange -an box >/dev/null"
    );
    run(client, &script).map(drop)
}

#[test]
fn a_mirror_without_a_half_names_it_and_a_sleeping_group_says_how_it_is_woken() -> Result<()> {
    let disks = Disks::new("members")?;
    let paths: Vec<PathBuf> = (0..4)
        .map(|number| disks.blank(&format!("d{number}"), 64))
        .collect::<Result<_>>()?;
    let (guest, client) = start(guest("members", &paths)?)?;
    make_mirror(&client)?;
    let whole = listed(&client)?;
    ensure!(part_of(&whole, "/dev/vda")?.0 == "active", "{whole:#?}");
    ensure!(the_array(&whole)?["array"]["missing"] == json!([]), "{whole:#?}");

    lose_a_half(&client)?;
    let (standing, how) = part_of(&listed(&client)?, "/dev/vda")?;
    ensure!(standing == "inactive-incomplete", "it is {standing}");
    ensure!(
        !how.contains("vdb"),
        "the half that is older would be taken: {how}"
    );
    ends(&client, &["rescue", "fsck", "/dev/vda"], 1)?;
    run(&client, &format!("{how} 2>&1"))?;
    let half = listed(&client)?;
    let md = the_array(&half)?;
    ensure!(md["array"]["missing"] == json!([1]), "{half:#?}");
    ensure!(md["array"]["left_out"] == json!(["/dev/vdb"]), "{half:#?}");
    ensure!(part_of(&half, "/dev/vda")?.0 == "degraded", "{half:#?}");
    let device = md["device"].as_str().unwrap_or_default();
    ends(&client, &["rescue", "fsck", device], 0)?;
    reads(&client, device, "letter.txt")?;

    make_volumes(&client)?;
    let (standing, how) = part_of(&listed(&client)?, "/dev/vdc")?;
    ensure!(standing == "inactive", "it is {standing}");
    run(&client, &format!("{how} >/dev/null"))?;
    let awake = listed(&client)?;
    ensure!(part_of(&awake, "/dev/vdd")?.0 == "active", "{awake:#?}");
    let safe = of(&awake, "/dev/mapper/box-safe")?;
    ensure!(safe["luks"]["is"] == "locked", "{awake:#?}");
    run(&client, "cryptsetup open --key-file /tmp/key /dev/box/safe inner")?;
    let all = ends(&client, &["rescue", "fsck", "all"], 0)?.text();
    ensure!(all.contains("/dev/mapper/inner"), "{all}");
    guest.passed()
}

#[test]
fn a_disk_that_hangs_or_fails_is_named_and_holds_up_nobody() -> Result<()> {
    let disks = Disks::new("dying")?;
    let drive = |id: &str| -> Result<String> { Ok(disks.blank(id, 16)?.display().to_string()) };
    let (good, ill) = (drive("good")?, drive("ill")?);
    let mut builder = guest("dying disks", &[disks.blank("d", 64)?])?;
    for (id, path, more) in [("good", &good, ""), ("ill", &ill, ",smart_critical_warning=4")] {
        builder = builder
            .argument("-drive")
            .argument(format!("file={path},format=raw,if=none,id={id}"))
            .argument("-device")
            .argument(format!("nvme,serial={id},drive={id}{more}"));
    }
    let (guest, client) = start(builder)?;
    run(
        &client,
        "dmsetup create fails --table '0 65536 error'; dmsetup create works --table '0 32768 linear /dev/vda 0'
         dmsetup create hangs --table '0 32768 linear /dev/vda 32768'; dmsetup mknodes
         dmsetup suspend hangs",
    )?;
    // The disk answers only when all has been said; were it waited for, nothing would ever be.
    let listing = "timeout -s KILL 300 rescue disks --json; status=$?; dmsetup resume hangs; exit $status";
    let seen = json(&client, &[listing])?;
    for (name, troubled) in [("works", false), ("fails", true), ("hangs", true)] {
        let entry = of(&seen, &format!("/dev/mapper/{name}"))?;
        ensure!(entry["trouble"].is_null() != troubled, "{name}: {entry:#?}");
    }
    let again = listed(&client)?;
    ensure!(
        of(&again, "/dev/mapper/hangs")?["trouble"].is_null(),
        "{again:#?}"
    );
    ends(&client, &["rescue", "fsck", "/dev/mapper/fails"], 1)?;

    let asked = json(&client, &["rescue", "disks", "--health", "--json"])?;
    for (serial, verdict) in [("good", "good"), ("ill", "failing")] {
        let entry = asked.iter().find(|entry| entry["serial"] == serial);
        let told = entry.map(|entry| &entry["health"]["verdict"]);
        ensure!(told.is_some_and(|told| told == verdict), "{serial}: {asked:#?}");
    }
    guest.passed()
}
