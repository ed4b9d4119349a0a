//! The ssh server on the other architecture, by everything a person does with it.

use crate::ssh::{noise, same};
use crate::ssh_access::{as_user, with_unlock_key};
use anyhow::{Context, Result, ensure};
use lifeboot_tests::deadline::Deadline;
use lifeboot_tests::fixtures::disk::{Disks, PASSPHRASE};
use lifeboot_tests::guest::{Board, Client, Guest, Peer};
use lifeboot_tests::process::{self, may_fail};
use lifeboot_tests::{load, loopback};
use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::Stdio;

/// Files for rsync.
const FILES: usize = 1000;

#[test]
#[ignore = "make test-all"]
fn people_log_in_copy_forward_and_unlock() -> Result<()> {
    let disks = Disks::new("ssh-arm64")?;
    let (guest, stranger) = with_unlock_key(Guest::on(Board::VirtArm64, "ssh on arm64"), &disks)?;
    let client = guest.client(Peer::Rescue);
    let machine = client.run_with(&["uname -m; cat; exit 7"], b"right\n")?;
    ensure!(
        (machine.status, machine.text().as_str()) == (Some(7), "aarch64\nright\n"),
        "status {:?}: {}{}",
        machine.status,
        machine.text(),
        machine.errors()
    );
    terminal(&client)?;
    copies(&client, disks.dir())?;
    forwards(&client)?;
    shared_connection(&client, disks.dir())?;
    load::sessions_at_once(20, disks.dir(), 120, |line| client.command(&[], &[line]))?;
    unlocks(&client, &stranger)?;
    guest.passed()
}

fn terminal(client: &Client) -> Result<()> {
    let mut session = client.converse(&[])?;
    session.expect("~#", 60)?;
    session.send("stty size\n")?;
    session.expect("43 132", 60)?;
    session.send("exit 5\n")?;
    ensure!(session.end(60)? == 5, "{}", session.heard());
    Ok(())
}

fn copies(client: &Client, dir: &Path) -> Result<()> {
    let (there, back) = (dir.join("there"), dir.join("back"));
    fs::write(&there, noise(5 << 20)).context("noise")?;
    let (near, far) = (there.to_string_lossy(), back.to_string_lossy());
    for protocol in [&["-O"][..], &[]] {
        client.scp(protocol, &near, "guest:/tmp/noise")?;
        client.scp(protocol, "guest:/tmp/noise", &far)?;
        same(&there, &back)?;
        fs::remove_file(&back).context("back")?;
    }
    client.sftp(&format!("put {near} /tmp/other\nget /tmp/other {far}\n"))?;
    same(&there, &back)?;
    load::small_files_there_and_back(FILES, dir, &client.rsync_shell(), "root@127.0.0.1:/tmp/many")
}

/// There to the guest's own ssh server, back to a port of this machine.
fn forwards(client: &Client) -> Result<()> {
    let mut there = client.command(&["-W", "127.0.0.1:22"], &[]);
    let greeting = process::run_with(&mut there, b"")?;
    ensure!(
        greeting.text().starts_with("SSH-2.0-lifeboot"),
        "{}{}",
        greeting.text(),
        greeting.errors()
    );
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("loopback")?;
    let here = listener.local_addr().context("loopback")?.port();
    let far = loopback::Port::reserve()?.number();
    let remote = format!("{far}:127.0.0.1:{here}");
    let line = format!("exec bash -c 'cat </dev/tcp/127.0.0.1/{far}'");
    let said = std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut back = client.command(&["-o", "ExitOnForwardFailure=yes", "-R", &remote], &[&line]);
            process::run_with(&mut back, b"")
        });
        listener.set_nonblocking(true).context("loopback")?;
        let accepted =
            Deadline::after(60).wait_for("a connection through the guest", || match listener.accept() {
                Ok((stream, _)) => Ok(Some(stream)),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(None),
                Err(error) => Err(error.into()),
            });
        accepted.and_then(|mut stream| stream.write_all(b"through\n").context("stream"))?;
        asking.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?
    })?;
    ensure!(said.text() == "through\n", "{}{}", said.text(), said.errors());
    Ok(())
}

/// Several sessions in one connection, each with its own status.
fn shared_connection(client: &Client, dir: &Path) -> Result<()> {
    let path = dir.join("mux");
    let socket = format!("ControlPath={}", path.display());
    let mut master = client
        .command(&["-MNT", "-o", &socket], &[])
        .stdin(Stdio::null())
        .spawn()
        .context("could not run: ssh")?;
    let shared = Deadline::after(60)
        .wait_for("the master", || Ok(path.exists().then_some(())))
        .and_then(|()| {
            (0..15).try_for_each(|number| {
                let options = [
                    "-o",
                    &socket,
                    "-o",
                    "ControlMaster=no",
                    "-o",
                    "ProxyCommand=false",
                ];
                let mut ssh = client.command(&options, &[&format!("exit {number}")]);
                let ended = process::run_with(&mut ssh, b"")?;
                ensure!(
                    ended.status == Some(number),
                    "session {number} in one connection: status {:?}: {}",
                    ended.status,
                    ended.errors()
                );
                Ok(())
            })
        });
    may_fail("ending the master", master.kill());
    may_fail("ending the master", master.wait());
    shared
}

fn unlocks(client: &Client, stranger: &Client) -> Result<()> {
    let shell = as_user(stranger, "unlock", &["sh"], "")?;
    ensure!(
        shell.status == Some(1),
        "status {:?}: {}",
        shell.status,
        shell.text()
    );
    for (passphrase, status) in [("not it", 1), (PASSPHRASE, 0)] {
        let ended = as_user(stranger, "unlock", &[], &format!("{passphrase}\n"))?;
        ensure!(
            ended.status == Some(status),
            "'{passphrase}': status {:?}: {}",
            ended.status,
            ended.errors()
        );
    }
    let open = client.run(&["ls /dev/mapper"])?.success()?.text();
    ensure!(open.contains("luks-"), "open is: {open}");
    Ok(())
}
