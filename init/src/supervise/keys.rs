//! The ssh server begins with the keys it is to have: where a key partition is to be read, it waits for that, but not for ever.

use super::Init;
use super::children::{Child, Kind};
use crate::key_partition;
use crate::report::{chain, now_ms};
use crate::stage::plan;
use lifeboot_contract::event::{Event, Level};

impl Init {
    /// Starts the ssh server, or settles when it is started at the latest.
    pub(super) fn plan_sshd(&mut self) {
        match self.plan.key_partition {
            None => self.start_sshd(),
            Some(_) => {
                self.sshd_due_ms = Some(now_ms() + key_partition::bound(&self.plan).as_millis() as u64)
            }
        }
    }

    /// The pipeline has read the key partition, or looked for it long enough.
    pub(super) fn replanned(&mut self) {
        match plan::stored() {
            Err(error) => self.complain("child.error", chain(&error)),
            Ok(plan) => {
                let before = std::mem::replace(&mut self.plan, plan);
                self.deadline_ms = self.plan.deadline_s.map(|seconds| seconds * 1000);
                let notes = self.plan.notes.iter().filter(|note| !before.notes.contains(note));
                let fresh = notes.cloned().collect();
                self.note_words(
                    fresh,
                    self.plan.refusal.clone().filter(|_| before.refusal.is_none()),
                );
            }
        }
        self.start_sshd();
    }

    /// The machine must be reachable, whatever became of the search.
    pub(super) fn hurry_sshd(&mut self, now: u64) {
        if self.sshd_due_ms.is_some_and(|due| due <= now) {
            let what = "the search for the key partition has not come to its end: sshd starts without it";
            let event = Event::new(now, Level::Warn, "keys.failed").with("what", what);
            self.record(event.text(what));
            self.start_sshd();
        }
    }

    fn start_sshd(&mut self) {
        self.sshd_due_ms = None;
        if self.children.iter().any(|child| child.kind == Kind::Sshd) {
            return;
        }
        if self.plan.ssh.authorized_keys.is_empty() {
            let what = "no key may log in: none is in the image and lifeboot.ssh-key= is not given";
            let event = Event::new(now_ms(), Level::Warn, "ssh.off").with("what", what);
            self.record(event.text(format!("sshd does not run: {what}")));
        } else {
            self.children.push(Child::new(Kind::Sshd));
            // What a tunnel leads to is the ssh server; without one there is nothing to reach.
            if !self.plan.tunnels.is_empty() {
                self.children.push(Child::new(Kind::Tunnel));
            }
        }
    }
}
