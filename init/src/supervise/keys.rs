//! The ssh server begins with the keys it is to have: where a key partition is to be read, it waits for that, but not for ever.

use super::Init;
use super::children::{Child, Kind};
use crate::key_partition;
use crate::report::{chain, now_ms};
use crate::stage::plan;
use lifeboot_contract::event::{Event, Level};
use lifeboot_contract::plan::Note;

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
        if !self.runs(&Kind::Sshd) && !self.plan.ssh.lets_somebody_in() {
            let what = match self.plan.refused_key() {
                Some(Note { key, what }) => format!("no key may log in: {key}: {what}"),
                None => {
                    "no key may log in: none is in the image and lifeboot.ssh-key= is not given".to_owned()
                }
            };
            let event = Event::new(now_ms(), Level::Warn, "ssh.off").with("what", what.as_str());
            self.record(event.text(format!("sshd does not run: {what}")));
        } else if !self.runs(&Kind::Sshd) {
            self.children.push(Child::new(Kind::Sshd));
        }
        // A key partition that was read late may bring tunnels to a server that runs already.
        self.start_tunnel();
    }

    /// What a tunnel leads to is the ssh server; without one there is nothing to reach.
    fn start_tunnel(&mut self) {
        if self.runs(&Kind::Sshd) && !self.runs(&Kind::Tunnel) && !self.plan.tunnels.is_empty() {
            self.children.push(Child::new(Kind::Tunnel));
        }
    }

    fn runs(&self, kind: &Kind) -> bool {
        self.children.iter().any(|child| child.kind == *kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifeboot_contract::plan::Plan;

    fn with(cmdline: &str) -> Init {
        let key = format!("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{}", "A".repeat(43));
        let plan = Plan::make(cmdline, &Default::default(), Default::default(), key.as_str());
        Init::with(plan)
    }

    #[test]
    fn a_list_in_which_nothing_is_a_key_starts_no_server() {
        let good = format!("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{}", "B".repeat(43));
        for (key, running) in [(good.as_str(), true), ("ssh-ed25519 AAAA", false)] {
            let line = format!("lifeboot.ssh-key=\"{key}\"");
            let plan = Plan::make(&line, &Default::default(), Default::default(), "# none\n");
            let mut init = Init::with(plan);
            init.start_sshd();
            assert_eq!(init.runs(&Kind::Sshd), running);
            assert_eq!(init.plan.refused_key().is_some(), !running);
        }
    }

    #[test]
    fn an_authority_alone_is_enough_for_a_server_and_nobody_is_not() {
        for (authorities, running) in [(vec![], false), (vec!["ssh-ed25519 AAAA".to_owned()], true)] {
            let mut init = with("");
            init.plan.ssh.authorized_keys.clear();
            init.plan.ssh.user_authorities = authorities;
            init.start_sshd();
            assert_eq!(init.runs(&Kind::Sshd), running);
        }
    }

    #[test]
    fn a_tunnel_is_started_with_the_ssh_server_or_behind_it_and_once() {
        let tunnel =
            "lifeboot.tunnel=a@b lifeboot.tunnel-hostkey=SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU";
        let kinds = |init: &Init| {
            init.children
                .iter()
                .map(|child| child.kind.name())
                .collect::<Vec<_>>()
        };
        let mut init = with("");
        init.start_sshd();
        assert_eq!(kinds(&init), ["sshd"]);
        init.plan = with(tunnel).plan;
        init.start_sshd();
        init.start_sshd();
        assert_eq!(kinds(&init), ["sshd", "tunnel"]);
        init = with(tunnel);
        init.plan.ssh.authorized_keys.clear();
        init.start_sshd();
        assert!(kinds(&init).is_empty(), "a tunnel to nothing");
    }
}
