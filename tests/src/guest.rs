//! A guest in QEMU: built from words and disks, watched through its events, killed when dropped.
//!
//! Emulated always (`-accel tcg`). The one thing a reader would get wrong: QEMU's user network accepts a forwarded
//! connection before anybody listens in the guest, so "connected" says nothing; an ssh login does.

mod board;
mod builder;
mod console;
mod events;
mod firmware;
mod network;
mod qmp;
mod ssh;

pub use board::Board;
pub use builder::{Disk, GuestBuilder};
pub use firmware::Firmware;
pub use ssh::{Client, Conversation, Peer};

use crate::deadline::Deadline;
use crate::loopback::Port;
use crate::process::{self, may_fail};
use anyhow::{Context, Result, bail, ensure};
use events::EventLog;
use lifeboot_contract::event::Event;
use lifeboot_contract::status::Status;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::time::Instant;

/// Lines of the console shown when something failed.
const LAST_LINES: usize = 40;

/// A running guest.
#[derive(Debug)]
pub struct Guest {
    name: String,
    board: Board,
    dir: PathBuf,
    child: Child,
    started: Instant,
    shown: String,
    ssh_port: Port,
    keyboard: console::Keyboard,
    events: EventLog,
    passed: bool,
    kept: bool,
    told: std::cell::Cell<bool>,
}

impl Guest {
    /// A guest to be described further; `name` is for reports.
    pub fn on(board: Board, name: &str) -> GuestBuilder {
        GuestBuilder::new(board, name)
    }

    /// The first event of that name, waiting for it.
    ///
    /// # Errors
    /// It did not come in time, or QEMU ended; with the last lines of the console.
    pub fn wait_event(&mut self, name: &str, seconds: u64) -> Result<Event> {
        self.wait_event_where(name, seconds, |_| true)
    }

    /// The first event of that name that `wanted` accepts, waiting for it.
    ///
    /// # Errors
    /// It did not come in time, or QEMU ended; with the last lines of the console.
    pub fn wait_event_where(
        &mut self,
        name: &str,
        seconds: u64,
        wanted: impl Fn(&Event) -> bool,
    ) -> Result<Event> {
        let mut lost = false;
        let found = Deadline::after(seconds).wait_for(&format!("event {name}"), || {
            let found = self
                .events
                .read()?
                .iter()
                .find(|event| event.name == name && wanted(event))
                .cloned();
            if found.is_none() && lost {
                bail!("QEMU ended before event {name}");
            }
            lost = self.child.try_wait()?.is_some();
            Ok(found)
        });
        found.with_context(|| self.diagnosis())
    }

    /// Every event so far.
    ///
    /// # Errors
    /// Their file cannot be read.
    pub fn events(&mut self) -> Result<&[Event]> {
        self.events.read()
    }

    /// Whether an event of that name has come.
    ///
    /// # Errors
    /// Their file cannot be read.
    pub fn has_event(&mut self, name: &str) -> Result<bool> {
        Ok(self.events.read()?.iter().any(|event| event.name == name))
    }

    /// Waits for a text on the console: only where the sentence itself is what is tested, or no events exist yet.
    ///
    /// # Errors
    /// It did not come in time.
    pub fn wait_console(&self, text: &str, seconds: u64) -> Result<()> {
        self.wait_console_after(0, text, seconds)
    }

    /// The same, looking only at what came after byte `from` of the console (see [`Guest::console_length`]).
    ///
    /// # Errors
    /// It did not come in time.
    pub fn wait_console_after(&self, from: usize, text: &str, seconds: u64) -> Result<()> {
        Deadline::after(seconds)
            .wait_for(&format!("'{text}' on the console"), || {
                Ok(self
                    .console()?
                    .get(from..)
                    .is_some_and(|tail| tail.contains(text))
                    .then_some(()))
            })
            .with_context(|| self.diagnosis())
    }

    /// Everything the console has shown.
    ///
    /// # Errors
    /// Its file cannot be read.
    pub fn console(&self) -> Result<String> {
        console::read(&self.dir)
    }

    /// Bytes the console has shown.
    ///
    /// # Errors
    /// Its file cannot be read.
    pub fn console_length(&self) -> Result<usize> {
        Ok(self.console()?.len())
    }

    /// Types on the console.
    ///
    /// # Errors
    /// QEMU does not take it.
    pub fn type_on_console(&self, text: &str) -> Result<()> {
        self.keyboard.type_text(&self.dir, text)
    }

    /// An OpenSSH client for the rescue system or the full one.
    pub fn client(&self, peer: Peer) -> Client {
        Client::new(&self.dir, self.ssh_port(), peer)
    }

    /// A client for another ssh server in the guest, on `port`, which becomes reachable by this.
    ///
    /// # Errors
    /// QEMU does not do it.
    pub fn client_to(&self, port: u16) -> Result<Client> {
        self.client_at("", port, Peer::FullOs)
    }

    /// A client for `peer`, on another address of the guest than the one that QEMU gives; both become reachable by this.
    ///
    /// # Errors
    /// QEMU does not do it.
    pub fn client_at(&self, address: &str, port: u16, peer: Peer) -> Result<Client> {
        // QEMU listens on it before it answers, so it need not be reserved any longer than that.
        let here = Port::reserve()?;
        let line = format!("hostfwd_add n0 tcp:127.0.0.1:{}-{address}:{port}", here.number());
        qmp::command(
            &self.dir,
            "human-monitor-command",
            &serde_json::json!({"command-line": line}),
        )?;
        Ok(Client::new(&self.dir, here.number(), peer))
    }

    /// Runs a command in the rescue system by ssh.
    ///
    /// # Errors
    /// The client could not be started.
    pub fn ssh(&self, command: &[&str]) -> Result<process::Outcome> {
        self.client(Peer::Rescue).run(command)
    }

    /// Waits until `peer` can be logged into.
    ///
    /// # Errors
    /// Not in time; with what the client said last and the last lines of the console.
    pub fn wait_ssh(&mut self, peer: Peer, seconds: u64) -> Result<Client> {
        let client = self.client(peer);
        let mut last = String::new();
        let mut doorbell = ssh::Doorbell::at(self.ssh_port());
        Deadline::after(seconds)
            .wait_for("login by ssh", || {
                if let Some(status) = self.child.try_wait()? {
                    bail!("QEMU ended with {status}");
                }
                if !doorbell.is_answered() {
                    return Ok(None);
                }
                // At the handover the rescue system may answer once more: it is told apart, and its key forgotten.
                let outcome = match peer {
                    Peer::Rescue => client.run(&["true"])?,
                    Peer::FullOs => client.run(&["test ! -e /lifeboot.sentinel"])?,
                };
                last = outcome.errors();
                let there = outcome.status == Some(0);
                if !there && peer == Peer::FullOs {
                    client.forget_host()?;
                }
                Ok(there.then_some(()))
            })
            .with_context(|| format!("the client's last words: {}", last.trim()))
            .with_context(|| self.diagnosis())?;
        Ok(client)
    }

    /// What `rescue status --json` says.
    ///
    /// # Errors
    /// It failed or is not what the contract says.
    pub fn status(&self) -> Result<Status> {
        let outcome = self.ssh(&["rescue", "status", "--json"])?.success()?;
        serde_json::from_slice(&outcome.stdout).with_context(|| outcome.text())
    }

    /// Waits for QEMU's own end.
    ///
    /// # Errors
    /// Not in time.
    pub fn wait_exit(&mut self, seconds: u64) -> Result<ExitStatus> {
        let found = Deadline::after(seconds).wait_for("end of QEMU", || Ok(self.child.try_wait()?));
        found.with_context(|| self.diagnosis())
    }

    /// Plugs a disk that was named with `-drive if=none,id=…` into an empty slot.
    ///
    /// # Errors
    /// QEMU refuses.
    pub fn plug(&self, drive: &str, slot: &str) -> Result<()> {
        let device =
            serde_json::json!({"driver": "virtio-blk-pci", "id": "plugged", "drive": drive, "bus": slot});
        qmp::command(&self.dir, "device_add", &device)
    }

    /// Pulls out what [`Guest::plug`] has plugged in; the guest takes its time to notice.
    ///
    /// # Errors
    /// QEMU refuses.
    pub fn unplug(&self) -> Result<()> {
        qmp::command(&self.dir, "device_del", &serde_json::json!({"id": "plugged"}))
    }

    /// Plugs a network card, on the network that was named with `-netdev`, into an empty slot.
    ///
    /// # Errors
    /// QEMU refuses.
    pub fn plug_card(&self, network: &str, slot: &str) -> Result<()> {
        let device = serde_json::json!({
            "driver": "virtio-net-pci", "id": "card", "netdev": network, "bus": slot, "romfile": ""
        });
        qmp::command(&self.dir, "device_add", &device)
    }

    /// Pulls the network plug, or puts it back.
    ///
    /// # Errors
    /// QEMU does not do it.
    pub fn set_link(&self, up: bool) -> Result<()> {
        qmp::command(
            &self.dir,
            "set_link",
            &serde_json::json!({"name": "n0", "up": up}),
        )
    }

    /// Presses the reset button.
    ///
    /// # Errors
    /// QEMU does not do it.
    pub fn reset(&self) -> Result<()> {
        qmp::command(&self.dir, "system_reset", &serde_json::json!({}))
    }

    /// Cuts the power: no program in the guest gets another instruction.
    ///
    /// # Errors
    /// QEMU could not be killed.
    pub fn cut_power(&mut self) -> Result<()> {
        self.child.kill().context("QEMU")?;
        self.child.wait().context("QEMU")?;
        Ok(())
    }

    /// The port on loopback that leads to the guest's ssh server.
    pub fn ssh_port(&self) -> u16 {
        self.ssh_port.number()
    }

    /// The board.
    pub fn board(&self) -> Board {
        self.board
    }

    /// Seconds since QEMU was started.
    pub fn age(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    /// Directory of the guest's sockets and logs.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The QEMU command, as a person would type it.
    pub fn command(&self) -> &str {
        &self.shown
    }

    /// Leaves QEMU running when this value goes; returns its process id.
    pub fn leave_running(mut self) -> u32 {
        self.kept = true;
        self.passed = true;
        self.child.id()
    }

    /// The test has seen all it wanted: nothing is printed when this guest goes.
    ///
    /// # Errors
    /// QEMU itself had crashed.
    pub fn passed(mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            ensure!(
                status.code().is_none_or(|code| code == 0),
                "QEMU ended with {status}"
            );
        }
        self.passed = true;
        Ok(())
    }

    /// What a person needs to see why something failed.
    pub fn diagnosis(&self) -> String {
        self.told.set(true);
        let console = self.console().unwrap_or_else(|error| format!("{error:#}"));
        let lines: Vec<&str> = console.lines().collect();
        let tail = lines[lines.len().saturating_sub(LAST_LINES)..].join("\n");
        let events = self.events.last_lines(12);
        format!(
            "guest {} ({:.0} s after start), its last events:\n{events}\nlast lines of its console:\n{tail}\nQEMU: {}\n",
            self.name,
            self.age(),
            self.shown
        )
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        // A guest that has ended already cannot be killed; both are fine here.
        may_fail("killing QEMU", self.child.kill());
        may_fail("waiting for QEMU", self.child.wait());
        if self.passed {
            may_fail(
                "removing the guest's directory",
                std::fs::remove_dir_all(&self.dir),
            );
        } else {
            // An error that has told already need not be told twice.
            let diagnosis = if self.told.get() {
                String::new()
            } else {
                self.diagnosis()
            };
            eprintln!("{diagnosis}guest {} kept in {}", self.name, self.dir.display());
        }
    }
}
