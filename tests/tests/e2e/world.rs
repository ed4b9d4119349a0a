//! What most tests begin with.

use anyhow::{Context, Result, ensure};
use lifeboot_contract::event::Event;
use lifeboot_tests::artefacts::{OsImage, tiny_os};
use lifeboot_tests::fault_server::FaultServer;
use lifeboot_tests::guest::{Board, Client, Guest, GuestBuilder, Peer};
use sha2::{Digest, Sha256};
use std::io::Read;

/// Seconds within which an emulated guest has an ssh server, however busy the machine is.
pub const BOOT: u64 = 120;
/// Seconds within which it has fetched, checked and started the tiny OS.
pub const FULL_BOOT: u64 = 180;
/// Where OS images are served.
pub const OS: &str = "/os.squashfs";
/// Where their signatures are.
pub const SIGNATURE: &str = "/os.squashfs.minisig";

/// A guest of the faster architecture.
pub fn pc(name: &str) -> GuestBuilder {
    Guest::on(Board::PcX86_64, name).memory_mb(384)
}

/// A guest of the faster architecture whose root is what `server` has at [`OS`].
pub fn pc_booting_from(server: &FaultServer, name: &str) -> GuestBuilder {
    pc(name).word(format!("root={}", server.url(OS)))
}

/// A server of the tiny OS for the faster architecture, with its signature.
pub fn tiny_server() -> Result<(FaultServer, OsImage)> {
    let server = FaultServer::start()?;
    let os = tiny_os(Board::PcX86_64)?;
    serve(&server, &os)?;
    Ok((server, os))
}

/// Puts an image and its signature on a server.
pub fn serve(server: &FaultServer, os: &OsImage) -> Result<()> {
    server.serve_file(OS, &os.squashfs)?;
    server.serve_file(SIGNATURE, &os.signature)
}

/// Waits for the tiny OS and checks that it is whole: its payload, an overlay as root, the running kernel's modules.
pub fn wait_for_tiny(guest: &mut Guest) -> Result<Event> {
    let up = guest.wait_event("tiny.up", FULL_BOOT)?;
    ensure!(
        up.u64("pid") == Some(1),
        "the real init is process {:?}",
        up.u64("pid")
    );
    ensure!(up.str("root").contains("overlay"), "root is {}", up.str("root"));
    ensure!(
        up.str("payload") == payload_digest()?,
        "the payload has changed on its way: {}",
        up.str("payload")
    );
    ensure!(
        field_is_true(&up, "modules"),
        "the modules of the running kernel are not visible"
    );
    ensure!(field_is_true(&up, "writable"), "the root cannot be written");
    Ok(up)
}

/// Waits until the boot has failed at `stage` and is in rescue; returns the event.
pub fn wait_for_failure(guest: &mut Guest, stage: &str) -> Result<Event> {
    let failed = guest.wait_event("boot.failed", FULL_BOOT)?;
    ensure!(
        failed.str("stage") == stage,
        "failed at {}: {}",
        failed.str("stage"),
        failed.str("what")
    );
    ensure!(
        !guest.has_event("handover.start")?,
        "an OS was started nevertheless"
    );
    Ok(failed)
}

/// A boolean fact of an event.
pub fn field_is_true(event: &Event, key: &str) -> bool {
    event.fields.get(key).and_then(serde_json::Value::as_bool) == Some(true)
}

/// What the tiny OS must find its payload's SHA-256 to be.
fn payload_digest() -> Result<String> {
    let tarball = tiny_os(Board::PcX86_64)?.tarball;
    let mut command = std::process::Command::new("tar");
    let mut child = command
        .args(["-xOf"])
        .arg(&tarball)
        .arg("./payload")
        .stdout(std::process::Stdio::piped())
        .spawn()
        .context("could not run: tar")?;
    let mut hasher = Sha256::new();
    let mut output = child.stdout.take().context("tar")?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        match output.read(&mut buffer).context("tar")? {
            0 => break,
            count => hasher.update(&buffer[..count]),
        }
    }
    ensure!(
        child.wait().context("tar")?.success(),
        "{}: no payload",
        tarball.display()
    );
    Ok(hasher
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

/// SHA-256 of a file in hex.
pub fn sha256(path: &std::path::Path) -> Result<String> {
    let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
    Ok(Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

/// Logs in to a model of a Raspberry Pi, which must call itself `model` and have a lease; returns the client and the log's events.
pub fn reached_pi(guest: &mut Guest, model: &str) -> Result<(Client, String)> {
    let client = guest.wait_ssh(Peer::Rescue, 300)?;
    let told = guest.status()?.model;
    ensure!(
        told.as_deref().is_some_and(|told| told.contains(model)),
        "{told:?}"
    );
    let events = client.run(&["rescue", "log", "--json"])?.success()?.text();
    for name in ["network.lease", "ssh.listening"] {
        ensure!(events.contains(&format!("\"{name}\"")), "no {name} in:\n{events}");
    }
    Ok((client, events))
}

/// The process that has /dev/vda for itself and for that: `repair`, `deploy`, `backup`.
pub fn worked_on(client: &Client, purpose: &str) -> Result<Option<u64>> {
    let said = client.run(&["rescue", "disks", "--json"])?.success()?.text();
    let disks: serde_json::Value = serde_json::from_str(&said).with_context(|| said.clone())?;
    let mut disks = disks.as_array().into_iter().flatten();
    let disk = disks.find(|disk| disk["device"] == "/dev/vda");
    let holder = &disk.context("no /dev/vda")?["holder"];
    Ok(holder["process"]
        .as_u64()
        .filter(|_| holder["purpose"] == purpose))
}
