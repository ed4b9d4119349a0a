//! Who may log in as whom: users with one program, certificates, an older client.

use crate::world::{BOOT, pc};
use anyhow::{Context, Result, ensure};
use lifeboot_tests::artefacts::{keys_dir, old_openssh};
use lifeboot_tests::fixtures::disk::{Damage, Disks, PASSPHRASE};
use lifeboot_tests::fixtures::keys;
use lifeboot_tests::guest::{Client, Disk, Guest, GuestBuilder, Peer};
use lifeboot_tests::process::{self, Outcome};
use std::path::Path;

fn public(path: &Path) -> Result<String> {
    let path = path.with_extension("pub");
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    Ok(text.trim().to_owned())
}

/// Runs something as another user than root.
pub fn as_user(client: &Client, user: &str, words: &[&str], input: &str) -> Result<Outcome> {
    process::run_with(&mut client.command(&["-l", user], words), input.as_bytes())
}

/// A guest that a stranger to root may log in to as `unlock`, with a locked disk; the client is that stranger.
pub fn with_unlock_key(guest: GuestBuilder, disks: &Disks) -> Result<(Guest, Client)> {
    let stranger = keys_dir().join(keys::STRANGER);
    let path = disks.luks("locked.img", "data", Damage::None)?;
    let mut guest = guest
        .memory_mb(448)
        .disk(Disk::raw(path))
        .word(format!("lifeboot.ssh-unlock-key=\"{}\"", public(&stranger)?))
        .boot()?;
    guest.wait_event("ssh.listening", BOOT)?;
    guest.wait_ssh(Peer::Rescue, BOOT)?;
    let client = guest.client(Peer::Rescue).identity(stranger);
    Ok((guest, client))
}

#[test]
fn a_key_for_unlock_opens_the_disk_and_gives_nothing_else() -> Result<()> {
    let disks = Disks::new("unlock user")?;
    let (guest, client) = with_unlock_key(pc("unlock user"), &disks)?;
    for (user, words) in [("root", &["true"][..]), ("status", &[]), ("unlock", &["sh"])] {
        let outcome = as_user(&client, user, words, "")?;
        ensure!(outcome.status != Some(0), "{user} {words:?}: {}", outcome.text());
    }
    let wrong = as_user(&client, "unlock", &[], "not it\n")?;
    ensure!(
        wrong.status == Some(1),
        "status {:?}: {}",
        wrong.status,
        wrong.errors()
    );
    let right = as_user(&client, "unlock", &[], &format!("{PASSPHRASE}\n"))?;
    ensure!(
        right.status == Some(0),
        "status {:?}: {}",
        right.status,
        right.errors()
    );
    let opened = guest.ssh(&["ls /dev/mapper | grep -v control"])?;
    ensure!(opened.text().starts_with("luks-"), "open is: {}", opened.text());
    guest.passed()
}

#[test]
fn a_certificate_for_root_gets_in_and_one_for_another_does_not() -> Result<()> {
    let disks = Disks::new("certificate")?;
    let make = |name: &str| -> Result<std::path::PathBuf> {
        let path = disks.dir().join(name);
        process::run(
            "ssh-keygen",
            ["-q", "-N", "", "-t", "ed25519", "-f", &path.to_string_lossy()],
        )?;
        Ok(path)
    };
    let (ca, key) = (make("ca")?, make("key")?);
    let mut guest = pc("certificate")
        .word(format!("lifeboot.ssh-user-ca=\"{}\"", public(&ca)?))
        .boot()?;
    guest.wait_event("ssh.listening", BOOT)?;
    guest.wait_ssh(Peer::Rescue, BOOT)?;
    let client = guest.client(Peer::Rescue).identity(&key);
    for (principal, gets_in) in [("somebody", false), ("root", true)] {
        process::run(
            "ssh-keygen",
            [
                "-q",
                "-s",
                &ca.to_string_lossy(),
                "-I",
                "night",
                "-n",
                principal,
                "-V",
                "-1h:+1h",
                &key.with_extension("pub").to_string_lossy(),
            ],
        )?;
        let outcome = client.run(&["echo in"])?;
        ensure!(
            (outcome.text() == "in\n") == gets_in,
            "{principal}: {}",
            outcome.errors()
        );
    }
    guest.passed()
}

#[test]
#[ignore = "make test-all"]
fn an_openssh_of_2020_logs_in_copies_and_forwards() -> Result<()> {
    let mut guest = pc("old client").boot()?;
    guest.wait_event("ssh.listening", BOOT)?;
    let client = guest.wait_ssh(Peer::Rescue, BOOT)?;
    let old = old_openssh::unpacked()?;
    let mut ssh = old_openssh::command(&old, "ssh");
    let today = client.command(&["-v"], &["cat"]);
    ssh.args(today.get_args());
    let sent = "through an old client\n".repeat(100_000);
    let outcome = process::run_with(&mut ssh, sent.as_bytes())?;
    ensure!(
        outcome.text() == sent,
        "status {:?}: {}",
        outcome.status,
        outcome.errors()
    );
    ensure!(outcome.errors().contains("OpenSSH_8.4"), "{}", outcome.errors());
    let mut through = old_openssh::command(&old, "ssh");
    through.args(client.command(&["-W", "127.0.0.1:22"], &[]).get_args());
    let outcome = process::run_with(&mut through, b"")?;
    ensure!(
        outcome.text().starts_with("SSH-2.0-lifeboot"),
        "{}",
        outcome.errors()
    );
    let file = guest.dir().join("file");
    std::fs::write(&file, &sent).context("file")?;
    // That scp knows the old protocol alone.
    let mut scp = old_openssh::command(&old, "scp");
    let program = guest.dir().join("old-ssh");
    old_openssh::script(&old, &program)?;
    scp.arg("-S").arg(&program);
    scp.args(client.scp_arguments(&file.to_string_lossy(), "guest:/tmp/file"));
    process::run_with(&mut scp, b"")?.success().context("scp")?;
    let there = client.run(&["cat /tmp/file"])?;
    ensure!(there.text() == sent, "{} bytes came back", there.stdout.len());
    guest.passed()
}
