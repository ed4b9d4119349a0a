//! What clients ask and children report, and what PID 1 makes of it.

use super::children::{Child, Kind};
use super::clients::Client;
use super::{Ending, GRACE_MS, Init};
use crate::report::now_ms;
use lifeboot_contract::control::{Order, Reply, Report, Request};
use lifeboot_contract::event::{Event, Level, Stage};
use lifeboot_contract::plan::{Hold, OnFailure, Source};
use lifeboot_contract::status::{Phase, Status};

impl Init {
    /// A request of a client; `None`: no answer.
    pub(super) fn answer(&mut self, index: usize, request: Request) -> Option<Reply> {
        let done = |text: &str| {
            Some(Reply::Done {
                text: text.to_owned(),
            })
        };
        match request {
            Request::Status => return Some(Reply::Status(Box::new(self.status_now()))),
            Request::Log { since, follow } => {
                self.tell_log(index, since);
                if follow {
                    self.clients[index].follow();
                    return None;
                }
            }
            Request::Boot { root } => {
                let answer = match root {
                    None => self.go_on(),
                    Some(root) => self.boot_once(root),
                };
                return Some(match answer {
                    Ok(text) => Reply::Done { text },
                    Err(what) => Reply::Error { what },
                });
            }
            Request::Hold { who, kind } => {
                self.go_on = false;
                let who = self.name_session(&who);
                let event = Event::new(now_ms(), Level::Debug, "session.start").with("who", who.as_str());
                self.clients[index].hold(who, kind, now_ms());
                self.record(event.with("kind", format!("{kind:?}").to_lowercase()));
            }
            Request::Nudge => self.order(Order::Nudge),
            Request::Reboot { argument } => {
                self.reboot_argument = argument;
                self.due = Some((now_ms() + GRACE_MS, Ending::Reboot));
            }
            Request::Poweroff => self.due = Some((now_ms() + GRACE_MS, Ending::Poweroff)),
            Request::Event(event) => {
                self.record(event);
                if self.clients[index].is_pipeline() {
                    return None;
                }
            }
            Request::Pipeline => {
                self.clients[index].become_pipeline();
                return None;
            }
            Request::Report(report) => {
                if self.clients[index].is_pipeline() {
                    self.report(report);
                    return None;
                }
                return Some(Reply::Error {
                    what: "only the pipeline reports".to_owned(),
                });
            }
        }
        done("")
    }

    /// Sends what happened from number `since` on.
    fn tell_log(&mut self, index: usize, since: u64) {
        let events: Vec<Event> = self
            .ring
            .iter()
            .filter(|event| event.seq >= since)
            .cloned()
            .collect();
        let client = &mut self.clients[index];
        events
            .into_iter()
            .for_each(|event| client.reply(&Reply::Event(event)));
    }

    /// `rescue boot`.
    fn go_on(&mut self) -> Result<String, String> {
        // A break ends whatever comes behind it; the stages up to the network are for everybody.
        if !matches!(self.status.phase, Phase::Break { .. }) {
            self.may_boot()?;
            if self.plan.roots.is_empty() && !self.once && self.ready.is_none() {
                return Err("no root= was given, so there is nothing to boot".to_owned());
            }
        }
        self.go_on = true;
        // A pipeline whose root stands has nothing more to do; it would begin again.
        if self.ready.is_none() {
            self.order(Order::GoOn);
            let pipeline = self
                .children
                .iter_mut()
                .filter(|child| child.kind == Kind::Pipeline);
            pipeline.for_each(Child::hurry);
        }
        Ok(match &self.status.phase {
            Phase::Held { source } => format!("starting {source} now; this session ends"),
            Phase::Failed { .. } => "trying again now; the system starts as soon as it is ready".to_owned(),
            Phase::WaitingForPassphrase { .. } => {
                "still waiting for a passphrase: type 'rescue unlock'".to_owned()
            }
            Phase::Break { stage } => format!("going on with stage {stage}"),
            _ => "the boot is under way; the system starts as soon as it is ready".to_owned(),
        })
    }

    /// A plan that was refused boots nothing, however often it is tried.
    fn may_boot(&self) -> Result<(), String> {
        match &self.plan.refusal {
            Some(refusal) => Err(format!("no root is booted: {refusal}; correct that and restart")),
            None => Ok(()),
        }
    }

    /// `rescue boot ROOT`.
    fn boot_once(&mut self, root: Source) -> Result<String, String> {
        if self.plan.is_locked("root") {
            return Err(format!(
                "{root}: the image locks root=, so no other root is booted"
            ));
        }
        self.may_boot()?;
        if !self.clients.iter().any(Client::is_pipeline) {
            return Err("the boot pipeline does not run at this moment; try again".to_owned());
        }
        self.go_on = true;
        self.once = true;
        // What stands ready is not what is wanted.
        self.ready = None;
        self.due = self.due.filter(|(_, ending)| *ending != Ending::Handover);
        let text = match &self.status.phase {
            Phase::Booting { .. } => "; the stage that is under way comes to its end first",
            _ => "",
        };
        let text = format!("booting {root} for this once{text}");
        self.order(Order::BootOnce(root));
        Ok(text)
    }

    pub(super) fn order(&mut self, order: Order) {
        let reply = Reply::Order(order);
        for client in self.clients.iter_mut().filter(|client| client.is_pipeline()) {
            client.reply(&reply);
        }
    }

    pub(super) fn report(&mut self, report: Report) {
        match report {
            Report::Stage(stage) => self.status.phase = Phase::Booting { stage },
            Report::Replanned => self.replanned(),
            Report::Addresses(addresses) => self.status.addresses = addresses,
            Report::Hostname(name) => self.status.hostname = name,
            Report::Waiting(volumes) if volumes.is_empty() => {}
            Report::Waiting(volumes) => self.status.phase = Phase::WaitingForPassphrase { volumes },
            Report::Idle => self.status.phase = Phase::Rescue,
            Report::Break(stage) => self.status.phase = Phase::Break { stage },
            Report::Failed {
                failure,
                attempts,
                next_try_ms,
            } => {
                let now = now_ms();
                // The person wanted another root than the one that is tried next.
                let once = std::mem::take(&mut self.once);
                self.go_on &= !once;
                self.status.attempts = attempts;
                let next_try_ms = next_try_ms.map(|pause| now + pause);
                self.status.phase = Phase::Failed {
                    failure,
                    since_ms: now,
                    next_try_ms,
                    rootless: self.plan.roots.is_empty(),
                    refused: self.plan.refusal.is_some(),
                };
                if next_try_ms.is_none() && !once && self.plan.on_failure == OnFailure::Reboot {
                    self.deadline_ms = Some(now);
                }
            }
            Report::Ready(root) => {
                self.once = false;
                self.status.phase = Phase::Held {
                    source: root.source.clone(),
                };
                self.ready = Some(root);
                if self.is_held() {
                    self.say_held();
                }
            }
        }
    }

    /// Somebody has unmounted what stood ready, to check it, say.
    pub(super) fn mount_again(&mut self) {
        let Some(root) = self.ready.take() else { return };
        let event = Event::new(now_ms(), Level::Info, "boot.unmounted").with("root", root.source.as_str());
        let text = format!(
            "{} is not mounted at {} any more: it is mounted again",
            root.source, root.path
        );
        self.record(event.text(text));
        self.status.phase = Phase::Booting { stage: Stage::Mount };
        self.order(Order::GoOn);
    }

    pub(super) fn say_held(&mut self) {
        let who: Vec<String> = self
            .clients
            .iter()
            .filter_map(Client::session)
            .map(|session| session.who)
            .collect();
        let event = Event::new(now_ms(), Level::Info, "boot.held")
            .with("holds", who.len())
            .with("who", who);
        let until = match self.plan.hold {
            Hold::Always => "'rescue boot' is typed",
            Hold::Session | Hold::Never => "the last session ends or 'rescue boot' is typed",
        };
        self.record(event.text(format!("the system is ready; it starts when {until}")));
    }

    /// What keeps a ready system from being started.
    fn hold(&self) -> Hold {
        match self.go_on {
            true => Hold::Never,
            false => self.plan.hold,
        }
    }

    /// Whether it does now.
    pub(super) fn is_held(&self) -> bool {
        match self.hold() {
            Hold::Never => false,
            Hold::Session => self.clients.iter().any(|client| client.session().is_some()),
            Hold::Always => true,
        }
    }

    pub(super) fn status_now(&self) -> Status {
        let mut status = self.status.clone();
        status.uptime_ms = now_ms();
        status.sessions = self.clients.iter().filter_map(Client::session).collect();
        status.hold = self.hold();
        if status.hostname.is_empty() {
            status.hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
        }
        status
    }

    /// Consoles where somebody has a shell: only warnings are printed into their work.
    pub(super) fn consoles_in_use(&self) -> Vec<String> {
        use lifeboot_contract::control::SessionKind::Console;
        let consoles = self
            .clients
            .iter()
            .filter_map(Client::session)
            .filter(|session| session.kind == Console);
        consoles.map(|session| session.who).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifeboot_contract::control::SessionKind;
    use lifeboot_contract::event::{Failure, Stage};
    use lifeboot_contract::plan::Plan;
    use std::io::{BufRead as _, BufReader};
    use std::os::unix::net::UnixStream;

    fn with(cmdline: &str) -> Init {
        Init::with(Plan::make(cmdline, &Default::default(), Default::default(), ""))
    }

    /// After the pipeline has tried what there is.
    fn tried(cmdline: &str) -> Init {
        let mut init = with(cmdline);
        init.report(Report::Failed {
            failure: Failure {
                stage: Stage::Plan,
                what: "x".to_owned(),
                cause: None,
                hint: None,
            },
            attempts: 1,
            next_try_ms: None,
        });
        init
    }

    #[test]
    fn a_boot_goes_on_where_there_is_a_root_and_is_refused_where_none_was_given() {
        for (cmdline, goes_on) in [("root=LABEL=a", true), ("", false)] {
            let mut init = with(cmdline);
            let answer = init.go_on();
            assert_eq!((answer.is_ok(), init.go_on), (goes_on, goes_on), "{answer:?}");
            let answer = tried(cmdline).go_on();
            assert_eq!(answer.is_ok(), goes_on, "{answer:?}");
            let mut idle = with(cmdline);
            idle.report(Report::Idle);
            assert_eq!(idle.go_on().is_ok(), goes_on);
        }
        let mut once = with("");
        once.once = true;
        assert!(once.go_on().is_ok(), "a root for once is under way");
    }

    #[test]
    fn a_refused_plan_is_not_tried_again_and_the_reason_is_given() {
        for (word, goes_on) in [("lifeboot.verify=off", true), ("lifeboot.verify=maybe", false)] {
            let mut init = tried(&format!("root=http://a/os {word}"));
            let answer = init.go_on();
            assert_eq!((answer.is_ok(), init.go_on), (goes_on, goes_on), "{answer:?}");
            let lines = init.status_now().three_lines();
            assert_eq!(lines[2].contains("'rescue boot'"), goes_on, "{}", lines[2]);
        }
        let refused = tried("root=http://a/os lifeboot.verify=maybe")
            .go_on()
            .unwrap_err();
        assert!(refused.contains("lifeboot.verify"), "{refused}");
    }

    #[test]
    fn a_break_ends_whatever_comes_behind_it() {
        let mut init = with("lifeboot.verify=maybe");
        init.report(Report::Break(Stage::Network));
        assert_eq!(init.go_on().unwrap(), "going on with stage network");
    }

    #[test]
    fn who_holds_the_boot_is_told_that_they_are_cut_and_of_nothing_else() {
        for (name, told) in [("session.cut", true), ("session.end", false)] {
            let mut init = with("");
            let (far, near) = UnixStream::pair().unwrap();
            init.clients.extend(Client::new(near));
            init.clients[0].hold("root".to_owned(), SessionKind::Shell, 1);
            init.record(Event::new(1, Level::Warn, name).text("now"));
            far.set_nonblocking(true).unwrap();
            let mut line = String::new();
            let read = BufReader::new(far).read_line(&mut line);
            assert_eq!(read.is_ok(), told, "{line}");
            assert_eq!(line.contains("now"), told);
        }
    }
}
