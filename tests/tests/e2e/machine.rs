//! The machine itself: another root for once, what can be reached, the report for a bug, and where the firmware starts next time.

mod next_start;

use crate::key_partition::image_with;
use crate::world::{BOOT, OS, SIGNATURE, pc, serve, tiny_server, wait_for_tiny};
use anyhow::{Context, Result, ensure};
use lifeboot_tests::artefacts::tiny_os;
use lifeboot_tests::fault_server::FaultServer;
use lifeboot_tests::fixtures::disk::{Damage, Disks, PASSPHRASE};
use lifeboot_tests::fixtures::keys;
use lifeboot_tests::guest::{Board, Client, Disk, Guest, GuestBuilder, Peer};
use serde_json::Value;

fn in_rescue(guest: GuestBuilder) -> Result<(Guest, Client)> {
    let mut guest = guest.boot()?;
    guest.wait_event("boot.idle", BOOT)?;
    let client = guest.wait_ssh(Peer::Rescue, BOOT)?;
    Ok((guest, client))
}

#[test]
fn a_root_that_is_typed_is_booted() -> Result<()> {
    let (server, _os) = tiny_server()?;
    let (mut guest, client) = in_rescue(pc("boot ROOT"))?;
    let typed = client.run(&["rescue", "boot", &server.url(OS)])?.success()?;
    ensure!(typed.text().contains("this session is cut"), "{}", typed.text());
    wait_for_tiny(&mut guest)?;
    guest.passed()
}

#[test]
fn a_root_that_is_typed_and_not_signed_is_not_booted() -> Result<()> {
    let server = FaultServer::start()?;
    server.serve_file(OS, &tiny_os(Board::PcX86_64)?.squashfs)?;
    let (mut guest, client) = in_rescue(pc("boot ROOT, unsigned"))?;
    client.run(&["rescue", "boot", &server.url(OS)])?.success()?;
    let failed = guest.wait_event("boot.once-failed", BOOT)?;
    ensure!(failed.str("what").contains("minisig"), "{failed:?}");
    // The list of the boot parameters is in force again, which is empty: nothing is tried by itself.
    let told = guest.wait_event("boot.failed", BOOT)?;
    ensure!(told.u64("next_try_ms").is_none(), "{told:?}");
    ensure!(!guest.has_event("handover.start")?, "it was started nevertheless");
    client.run(&["rescue", "status"])?.success()?;
    // It is only the signature that was missing.
    server.serve_file(SIGNATURE, &tiny_os(Board::PcX86_64)?.signature)?;
    client.run(&["rescue", "boot", &server.url(OS)])?.success()?;
    wait_for_tiny(&mut guest)?;
    guest.passed()
}

#[test]
#[ignore = "make test-all"]
fn an_image_that_locks_its_root_boots_no_other() -> Result<()> {
    let (server, _os) = tiny_server()?;
    let disks = Disks::new("locked-root")?;
    let image = image_with(&disks, "locked = [\"root\"]\n")?;
    let (mut guest, client) = in_rescue(pc("boot ROOT, locked").initrd(image))?;
    let refused = client.run(&["rescue", "boot", &server.url(OS)])?;
    ensure!(refused.status == Some(1), "{refused:?}");
    ensure!(refused.errors().contains("locks root="), "{}", refused.errors());
    ensure!(!guest.has_event("boot.once")?, "it was tried nevertheless");
    guest.passed()
}

#[test]
#[ignore = "make test-all"]
fn a_root_that_is_typed_takes_the_place_of_one_that_is_ready() -> Result<()> {
    let (server, os) = tiny_server()?;
    let other = FaultServer::start()?;
    serve(&other, &os)?;
    let guest = pc("boot ROOT, held").word(format!("root={}", server.url(OS)));
    let mut guest = guest.word("lifeboot.hold=always").boot()?;
    guest.wait_event("boot.held", BOOT)?;
    let client = guest.wait_ssh(Peer::Rescue, BOOT)?;
    client.run(&["rescue", "boot", &other.url(OS)])?.success()?;
    let start = guest.wait_event("handover.start", BOOT)?;
    ensure!(start.str("root") == other.url(OS), "{start:?}");
    wait_for_tiny(&mut guest)?;
    guest.passed()
}

/// What `rescue net --json` says: whether it calls everything reachable, and the last step of each target.
fn net(client: &Client, words: &[&str]) -> Result<(bool, Vec<(String, String)>)> {
    let outcome = client.run(&[&["rescue", "net", "--json"], words].concat())?;
    let told: Value = serde_json::from_slice(&outcome.stdout).with_context(|| outcome.errors())?;
    let targets = told["targets"].as_array().context("targets")?;
    let last = |target: &Value| {
        let steps = target["steps"].as_array().cloned().unwrap_or_default();
        let step = steps.last().cloned().unwrap_or_default();
        let text = |field: &str| step[field].as_str().unwrap_or_default().to_owned();
        (text("step"), text("what"))
    };
    ensure!(
        told["leases"][0]["server"] == "10.0.2.2" && told["routes"][0]["to"] == "default",
        "{told}"
    );
    Ok((outcome.status == Some(0), targets.iter().map(last).collect()))
}

#[test]
fn the_step_that_fails_on_the_way_to_a_server_is_named() -> Result<()> {
    let (server, _os) = tiny_server()?;
    // Nothing is booted meanwhile: the break comes before the first request.
    let guest = pc("net")
        .word(format!("root={}", server.url(OS)))
        .word("rd.break=fetch");
    let mut guest = guest.boot()?;
    guest.wait_event("boot.break", BOOT)?;
    let client = guest.wait_ssh(Peer::Rescue, BOOT)?;
    let (reached, targets) = net(&client, &[])?;
    ensure!(reached && targets.len() == 2, "signature and image: {targets:?}");
    ensure!(
        targets
            .iter()
            .all(|(step, what)| step == "http" && what.starts_with("206 ")),
        "{targets:?}"
    );
    // The same server without the file, the same host without the server, and a name that nobody has.
    let missing = server.url("/nothing");
    for (url, step) in [
        (missing.as_str(), "http"),
        ("http://10.0.2.2:9/os", "tcp"),
        ("http://nobody.invalid/os", "name"),
        // No machine of the user network has this address.
        ("http://10.0.2.77/os", "neighbour"),
    ] {
        let (reached, targets) = net(&client, &[url])?;
        ensure!(!reached && targets[0].0 == step, "{url}: {targets:?}");
    }
    ensure!(
        client.run(&["rescue", "net", "nonsense"])?.status == Some(2),
        "it is neither URL nor HOST:PORT"
    );
    guest.passed()
}

#[test]
#[ignore = "make test-all"]
fn a_certificate_that_is_refused_fails_at_tls_with_the_clock_and_one_that_is_good_does_not() -> Result<()> {
    let (guest, client) = in_rescue(pc("net, https"))?;
    for (authority, last) in [(keys::KNOWN_AUTHORITY, "http"), (keys::UNKNOWN_AUTHORITY, "tls")] {
        let server = FaultServer::start_https(&keys::tls(authority)?)?;
        serve(&server, &tiny_os(Board::PcX86_64)?)?;
        let (reached, targets) = net(&client, &[&server.url(OS)])?;
        let (step, what) = &targets[0];
        ensure!(
            step == last && reached == (last == "http"),
            "{authority}: {targets:?}"
        );
        ensure!(
            reached || (what.contains("UnknownIssuer") && what.contains("clock says")),
            "{what}"
        );
    }
    guest.passed()
}

#[test]
fn a_report_has_every_section_and_no_secret() -> Result<()> {
    let guest = pc("report")
        .word("lifeboot.a-password=geheim")
        // One that the kernel does not know either: it is in its log twice more.
        .word("wifi_password=geheim")
        .word("lifeboot.syslog=10.0.2.2");
    let (guest, client) = in_rescue(guest)?;
    let told = client.run(&["rescue", "report", "--json"])?.success()?;
    let text = told.text();
    ensure!(
        !text.contains("geheim"),
        "a secret of the command line is in the report"
    );
    ensure!(
        text.matches("wifi_password=(cut)").count() >= 3,
        "it is where it is looked for"
    );
    let report: Value = serde_json::from_str(&text).context("report")?;
    let sections = report["sections"].as_object().context("sections")?;
    for (name, fact) in [
        ("system", "kernel"),
        ("firmware", "started_by"),
        ("power", "temperatures"),
        ("network", "interfaces"),
        ("disks", "disks"),
        ("mounts", "mounts"),
        ("modules", "modules"),
        ("parameters", "command_line"),
        ("status", "phase"),
        ("events", "events"),
        ("kernel-log", "log"),
        ("pstore", "files"),
    ] {
        ensure!(
            sections
                .get(name)
                .is_some_and(|section| section.get(fact).is_some()),
            "{name}: {:?}",
            sections.get(name)
        );
    }
    // Without process 1 all the others are there still.
    let alone = client
        .run(&["LIFEBOOT_RUN=/nowhere rescue report --json"])?
        .success()?
        .text();
    let report: Value = serde_json::from_str(&alone).context("report")?;
    ensure!(
        report["sections"]["status"].get("error").is_some(),
        "{}",
        report["sections"]["status"]
    );
    ensure!(
        report["sections"]["kernel-log"].get("log").is_some(),
        "{}",
        report["warnings"]
    );
    let first = client.run(&["rescue report | head -n 6"])?.success()?.text();
    ensure!(
        first.contains("What is wrong:") || first.contains("Nothing is known to be wrong."),
        "{first}"
    );
    guest.passed()
}

/// A report of a guest with an open LUKS volume: the devices in it that are in trouble.
fn report_with(name: &str, before: &str) -> Result<Vec<String>> {
    let disks = Disks::new(name)?;
    let path = disks.luks("volume.img", "data", Damage::None)?;
    let (guest, client) = in_rescue(pc(name).memory_mb(448).disk(Disk::raw(path)))?;
    let open = format!("printf %s '{PASSPHRASE}' | cryptsetup open --key-file - /dev/vda volume && {before}");
    client.run(&[&open])?.success()?;
    // A disk that hangs does so for ever: what waits for it is ended here, and is no report.
    let text = client
        .run(&["timeout -s KILL 600 rescue report --json"])?
        .success()?
        .text();
    let report: Value = serde_json::from_str(&text).context("report")?;
    let sections = &report["sections"];
    ensure!(
        sections["kernel-log"].get("log").is_some() && sections["status"].get("phase").is_some(),
        "{}",
        report["warnings"]
    );
    guest.passed()?;
    let disks = sections["disks"]["disks"].as_array().context("no disks")?;
    let in_trouble = disks.iter().filter(|disk| !disk["trouble"].is_null());
    let devices = in_trouble.map(|disk| disk["device"].as_str().unwrap_or_default().to_owned());
    Ok(devices.collect())
}

#[test]
#[ignore = "make test-all"]
fn a_disk_that_hangs_is_named_in_a_report_and_keeps_nothing_else_out_of_it() -> Result<()> {
    let in_trouble = report_with("report", "true")?;
    ensure!(
        in_trouble.is_empty(),
        "a disk that answers is in trouble: {in_trouble:?}"
    );
    // From here on whatever reads the volume waits for ever and cannot be killed.
    let in_trouble = report_with("report-hanging-disk", "cryptsetup luksSuspend volume")?;
    ensure!(
        in_trouble == ["/dev/mapper/volume"],
        "in trouble are {in_trouble:?}"
    );
    Ok(())
}
