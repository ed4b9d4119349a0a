//! One turn of PID 1's loop: wait until something happens or is due, then do all of it.

use super::children::{Child, Kind};
use super::clients::Client;
use super::{Ending, GRACE_MS, Init, mounts};
use crate::report::{chain, now_ms};
use crate::sys::watchdog::Watchdog;
use lifeboot_contract::control::Reply;
use lifeboot_contract::event::{Event, Level};
use lifeboot_contract::plan::OnFailure;
use lifeboot_contract::status::Phase;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{WaitOptions, WaitStatus, wait};
use std::io::ErrorKind;

/// The longest sleep: orphans are reaped and the watchdog petted at least this often.
const TICK_MS: u64 = 1000;
/// A watchdog may appear when its driver is loaded; after this it is not looked for any more.
const WATCHDOG_SEARCH_MS: u64 = 300_000;

impl Init {
    /// Waits and works.
    pub(super) fn turn(&mut self) {
        self.sleep();
        self.pet();
        self.accept();
        self.serve();
        self.reap();
        self.restart();
        self.take_inbox();
        self.outputs.write();
        self.decide();
    }

    fn sleep(&self) {
        let mut fds: Vec<PollFd<'_>> = Vec::new();
        fds.extend(
            self.children
                .iter()
                .filter_map(Child::pidfd)
                .map(|fd| PollFd::new(fd, PollFlags::IN)),
        );
        fds.extend(
            self.listener
                .as_ref()
                .map(|listener| PollFd::new(listener, PollFlags::IN)),
        );
        for client in &self.clients {
            let flags = if client.wants_to_write() {
                PollFlags::IN | PollFlags::OUT
            } else {
                PollFlags::IN
            };
            fds.push(PollFd::from_borrowed_fd(client.fd(), flags));
        }
        fds.extend(
            self.outputs
                .waiting()
                .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::OUT)),
        );
        let ms = self.next_due_ms().saturating_sub(now_ms()).min(TICK_MS);
        let timeout = Timespec {
            tv_sec: (ms / 1000) as i64,
            tv_nsec: (ms % 1000 * 1_000_000) as i64,
        };
        if poll(&mut fds, Some(&timeout)).is_err() {
            // EINTR is a turn like any other; anything else must not spin.
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    fn next_due_ms(&self) -> u64 {
        let starts = self.children.iter().filter_map(Child::due_ms);
        let others = self
            .due
            .map(|(at, _)| at)
            .into_iter()
            .chain(self.watchdog.as_ref().map(|_| self.next_pet_ms));
        starts.chain(others).min().unwrap_or(u64::MAX)
    }

    /// Once a second: keeps the hardware watchdog quiet, and takes up what has appeared, it and consoles.
    fn pet(&mut self) {
        let now = now_ms();
        if now < self.next_pet_ms {
            return;
        }
        self.next_pet_ms = now + 1000;
        self.take_up_consoles();
        if let Some(watchdog) = &mut self.watchdog {
            if let Err(error) = watchdog.pet() {
                self.watchdog = None;
                self.complain("init.watchdog", format!("/dev/watchdog: {error}"));
            }
            return;
        }
        let Some(timeout) = self.plan.watchdog_s.filter(|_| now < WATCHDOG_SEARCH_MS) else {
            return;
        };
        match Watchdog::open(timeout) {
            Ok(watchdog) => {
                let event = Event::new(now, Level::Debug, "init.watchdog").with("device", "/dev/watchdog");
                let event = event
                    .with("identity", watchdog.identity.as_str())
                    .with("timeout_s", watchdog.timeout_s);
                self.watchdog = Some(watchdog);
                self.record(event);
            }
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ResourceBusy) => {}
            Err(error) => {
                self.plan.watchdog_s = None;
                // ENODEV: the node is there, the hardware is not.
                if error.raw_os_error() != Some(rustix::io::Errno::NODEV.raw_os_error()) {
                    self.complain("init.watchdog", format!("/dev/watchdog: {error}"));
                }
            }
        }
    }

    /// A console may come with its driver, at any time.
    fn take_up_consoles(&mut self) {
        for tty in self.outputs.rescan() {
            self.children.push(Child::new(Kind::Console(tty)));
        }
    }

    fn accept(&mut self) {
        while let Some(listener) = &self.listener {
            match listener.accept() {
                Ok((stream, _)) => self.clients.extend(Client::new(stream)),
                Err(_) => return,
            }
        }
    }

    fn serve(&mut self) {
        for index in 0..self.clients.len() {
            for request in self.clients[index].read() {
                let reply = match request {
                    Ok(request) => self.answer(index, request),
                    Err(what) => Some(Reply::Error { what }),
                };
                if let Some(reply) = reply {
                    self.clients[index].reply(&reply);
                }
            }
            self.clients[index].write();
        }
        let (open, closed): (Vec<_>, Vec<_>) = std::mem::take(&mut self.clients)
            .into_iter()
            .partition(Client::is_open);
        self.clients = open;
        for session in closed.iter().filter_map(Client::ended_session) {
            let event = Event::new(now_ms(), Level::Debug, "session.end").with("who", session.who);
            self.record(event.with("kind", format!("{:?}", session.kind).to_lowercase()));
        }
    }

    /// Collects every dead process: our children, and the orphans that every PID 1 inherits.
    fn reap(&mut self) {
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            let Some(index) = self.children.iter().position(|child| child.is(pid)) else {
                continue;
            };
            let child = &mut self.children[index];
            let words = child.last_words();
            let pause = child.ended();
            let name = child.kind.name();
            let was_pipeline = child.kind == Kind::Pipeline;
            let orderly = matches!(child.kind, Kind::Console(_)) && status.exit_status() == Some(0);
            let reason = match words.as_str() {
                "" => describe(status),
                words => format!("{}: {words}", describe(status)),
            };
            let level = if orderly { Level::Debug } else { Level::Warn };
            let event = Event::new(now_ms(), level, "init.respawn")
                .with("child", name.as_str())
                .with("reason", reason.as_str());
            self.record(event.with("pause_ms", pause).text(format!(
                "{name} ended ({reason}), starting it again in {pause} ms"
            )));
            if was_pipeline {
                // What it had mounted is its successor's to take down and build again.
                self.ready = None;
                self.status.phase = Phase::Starting;
            }
        }
    }

    fn restart(&mut self) {
        let now = now_ms();
        for index in 0..self.children.len() {
            if self.children[index].due_ms().is_some_and(|due| due <= now)
                && let Err(error) = self.children[index].start()
            {
                let name = self.children[index].kind.name();
                self.complain(
                    "child.error",
                    format!("{name} could not be started: {}", chain(&error)),
                );
            }
        }
    }

    fn take_inbox(&mut self) {
        let events = self
            .inbox
            .0
            .lock()
            .map(|mut events| std::mem::take(&mut *events))
            .unwrap_or_default();
        for event in events {
            self.record(event);
        }
    }

    /// Whether it is time to end.
    fn decide(&mut self) {
        let now = now_ms();
        if self.due.is_none()
            && !self.is_held()
            && let Some(root) = &self.ready
        {
            if mounts::is_mounted(&root.path) {
                let grace = if self.go_on { GRACE_MS } else { 0 };
                self.due = Some((now + grace, Ending::Handover));
            } else {
                self.mount_again();
            }
        }
        self.hurry_sshd(now);
        if self.deadline_ms.is_some_and(|deadline| deadline <= now) {
            self.deadline(now);
        }
        match self.due {
            Some((at, ending)) if at <= now => {
                self.due = None;
                self.end(ending);
            }
            _ => {}
        }
    }

    fn deadline(&mut self, now: u64) {
        let busy = self.clients.iter().any(|client| client.session().is_some());
        if self.plan.on_failure == OnFailure::Reboot && (busy || self.due.is_some()) {
            return;
        }
        self.deadline_ms = None;
        if self.plan.on_failure == OnFailure::Reboot {
            self.due = Some((now + GRACE_MS, Ending::Reboot));
        }
        let seconds = self.plan.deadline_s.unwrap_or(now / 1000);
        let then = if self.plan.on_failure == OnFailure::Reboot {
            "the machine restarts"
        } else {
            "rescue stays"
        };
        let event = Event::new(now, Level::Error, "boot.deadline").with("seconds", seconds);
        self.record(event.text(format!("no system was started within {seconds} s: {then}")));
    }
}

fn describe(status: WaitStatus) -> String {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (_, Some(signal)) => format!("signal {signal}"),
        _ => "unknown end".to_owned(),
    }
}
