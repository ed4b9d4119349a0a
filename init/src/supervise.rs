//! PID 1: it mounts, spawns, reaps, listens, pets the watchdog, and in the end becomes the real init.
//!
//! It holds no TLS, no async runtime and no parser of anything that comes from the network; every decision is taken in one thread that never
//! blocks. A panic anywhere in it is caught and becomes an event. What is allowed to fail runs in child processes.

use crate::report::{Reporter, Sink, chain, now_ms};
use crate::stage::plan;
use crate::sys::watchdog::Watchdog;
use children::{Child, Kind};
use clients::Client;
use consoles::Outputs;
use lifeboot_contract::control::{ReadyRoot, Reply, Report};
use lifeboot_contract::event::{Event, Level, Stage};
use lifeboot_contract::image;
use lifeboot_contract::plan::{Note, Plan, Ssh};
use lifeboot_contract::status::{SshStatus, Status};
use std::collections::VecDeque;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex};

mod children;
mod clients;
mod consoles;
mod ending;
mod keys;
mod mounts;
mod requests;
mod tunnels;
mod turn;

/// Events that are remembered for `rescue log`.
const RING: usize = 4000;
/// Time for answers to reach the people who asked before everything ends.
const GRACE_MS: u64 = 400;

/// Everything PID 1 knows.
struct Init {
    plan: Plan,
    status: Status,
    ring: VecDeque<Event>,
    next_seq: u64,
    outputs: Outputs,
    listener: Option<UnixListener>,
    clients: Vec<Client>,
    children: Vec<Child>,
    ready: Option<ReadyRoot>,
    /// How often the real init could not be executed.
    failed_handovers: u32,
    /// A person said `rescue boot`; forgotten when the next session begins.
    go_on: bool,
    /// The root that is being made was named by a person, for once.
    once: bool,
    /// What the firmware is told when the machine restarts.
    reboot_argument: Option<String>,
    /// What is due at which time on the boot clock.
    due: Option<(u64, Ending)>,
    watchdog: Option<Watchdog>,
    next_pet_ms: u64,
    /// When the ssh server is started at the latest, while it waits for a key partition.
    sshd_due_ms: Option<u64>,
    deadline_ms: Option<u64>,
    /// Events from code that runs inside this process.
    inbox: Arc<Inbox>,
}

/// How PID 1's time with the rescue system ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Handover,
    Reboot,
    Poweroff,
}

#[derive(Default)]
struct Inbox(Mutex<Vec<Event>>);

impl Sink for Inbox {
    fn event(&self, event: Event) {
        if let Ok(mut events) = self.0.lock() {
            events.push(event);
        }
    }

    fn report(&self, _: Report) {}
}

/// Runs as PID 1. Never returns; it becomes the real init, or restarts or switches off the machine.
pub fn run() -> ! {
    let mut init = catch_unwind(Init::start).unwrap_or_else(|_| Init::without_plan());
    loop {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| init.turn())) {
            let message = panic_message(&*panic);
            let event = Event::new(now_ms(), Level::Error, "init.panic").with("message", message.as_str());
            // Recording is simple enough not to panic; if it does, the next turn is what matters.
            drop(catch_unwind(AssertUnwindSafe(|| {
                init.record(event.text(format!("PID 1 caught a panic and goes on: {message}")))
            })));
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (_, Some(text)) => text.clone(),
        _ => "without a message".to_owned(),
    }
}

impl Init {
    fn start() -> Init {
        let trouble = mounts::basic();
        let whole = plan::completeness(Path::new("/"));
        let mut plan = plan::run(Path::new("/"));
        if !whole.is_complete() {
            plan.refuse(whole.describe() + &mounts::when_full(Path::new("/")));
        }
        let stored = plan::store(&plan);
        let mut init = Init::with(plan);
        init.announce();
        for what in trouble {
            init.complain("child.error", what);
        }
        if let Err(error) = stored {
            init.complain("child.error", chain(&error));
        }
        init.note_sentinel(&whole);
        init.note_plan();
        init.listen();
        init.spawn_all();
        init
    }

    /// When making the plan panicked there are still the defaults: a network, the keys in the image, a shell.
    fn without_plan() -> Init {
        let mut plan = Plan {
            watchdog_s: Some(15),
            ssh: Ssh::baked(&plan::baked_keys(Path::new("/"))),
            ..Plan::default()
        };
        plan.refuse("making the plan panicked".to_owned());
        plan::guard_consoles(Path::new("/"), &mut plan);
        let stored = plan::store(&plan);
        let mut init = Init::with(plan);
        if let Err(error) = stored {
            init.complain("child.error", chain(&error));
        }
        init.note_plan();
        init.listen();
        init.spawn_all();
        init
    }

    fn with(plan: Plan) -> Init {
        let status = Status {
            image: plan::image_info(Path::new("/")),
            model: plan.facts.model.clone(),
            ..Status::default()
        };
        Init {
            outputs: Outputs::new(plan.log, plan.events.clone(), plan.syslog.as_deref()),
            deadline_ms: plan.deadline_s.map(|seconds| seconds * 1000),
            plan,
            status,
            ring: VecDeque::new(),
            next_seq: 1,
            listener: None,
            clients: Vec::new(),
            children: Vec::new(),
            ready: None,
            failed_handovers: 0,
            go_on: false,
            once: false,
            reboot_argument: None,
            due: None,
            watchdog: None,
            next_pet_ms: 0,
            sshd_due_ms: None,
            inbox: Arc::default(),
        }
    }

    fn reporter(&self) -> Reporter {
        Reporter::new(self.inbox.clone())
    }

    fn announce(&mut self) {
        let info = &self.status.image;
        let board = self.status.model.clone().unwrap_or_else(|| info.board.clone());
        let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
        let text = format!("lifeboot {} on {board}, kernel {kernel}", info.version);
        let event = Event::new(now_ms(), Level::Info, "init.start").with("version", info.version.as_str());
        self.record(event.with("kernel", kernel).with("board", board).text(text));
    }

    fn note_sentinel(&mut self, whole: &plan::Completeness) {
        let level = if whole.is_complete() {
            Level::Debug
        } else {
            Level::Error
        };
        let event = Event::new(now_ms(), level, "init.sentinel")
            .with("complete", whole.is_complete())
            .with("entries", whole.entries)
            .with("missing", whole.missing.len())
            .with(
                "first_missing",
                whole.missing.first().cloned().unwrap_or_default(),
            );
        self.record(event.text(whole.describe()));
        if !whole.is_complete() {
            self.status.warnings.push(whole.describe());
        }
    }

    fn note_plan(&mut self) {
        let roots: Vec<String> = self.plan.roots.iter().map(ToString::to_string).collect();
        let verify = format!("{:?}", self.plan.verify).to_lowercase();
        self.record(
            Event::new(now_ms(), Level::Debug, "plan.done")
                .with("roots", roots)
                .with("verify", verify),
        );
        self.note_words(self.plan.notes.clone(), self.plan.refusal.clone());
    }

    /// Says which words were not taken.
    fn note_words(&mut self, notes: Vec<Note>, refusal: Option<String>) {
        for note in notes {
            let kind = if note.key.contains('/') {
                ""
            } else {
                "boot parameter "
            };
            let text = format!("{kind}{}: {}", note.key, note.what);
            self.status.warnings.push(text.clone());
            let event = Event::new(now_ms(), Level::Error, "plan.note")
                .with("key", note.key)
                .with("what", note.what);
            self.record(event.text(text));
        }
        if let Some(what) = refusal {
            self.record(Event::new(now_ms(), Level::Error, "plan.failed").with("what", what));
        }
    }

    fn complain(&mut self, name: &str, what: String) {
        self.record(
            Event::new(now_ms(), Level::Warn, name)
                .with("child", "init")
                .with("what", what.as_str())
                .text(what),
        );
    }

    fn listen(&mut self) {
        let bound = UnixListener::bind(image::CONTROL).and_then(|listener| {
            std::fs::set_permissions(image::CONTROL, std::fs::Permissions::from_mode(0o600))?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        });
        match bound {
            Ok(listener) => self.listener = Some(listener),
            Err(error) => self.complain("child.error", format!("{}: {error}", image::CONTROL)),
        }
    }

    fn spawn_all(&mut self) {
        self.plan_sshd();
        self.children.push(Child::new(Kind::Pipeline));
        for tty in self.outputs.consoles() {
            self.children.push(Child::new(Kind::Console(tty)));
        }
    }

    /// Takes an event into the ring and to everybody who wants it.
    fn record(&mut self, event: Event) {
        let mut event = self.name_origin(event);
        event.seq = self.next_seq;
        self.next_seq += 1;
        self.learn(&event);
        let sitting = self.consoles_in_use();
        self.outputs.event(&event, &sitting);
        for client in self.clients.iter_mut().filter(|client| client.follows()) {
            client.reply(&Reply::Event(event.clone()));
        }
        if event.name == "session.cut" {
            let sessions = self
                .clients
                .iter_mut()
                .filter(|client| client.session().is_some());
            sessions.for_each(|client| client.reply(&Reply::Event(event.clone())));
        }
        if self.ring.len() == RING {
            self.ring.pop_front();
        }
        self.ring.push_back(event);
    }

    /// What the status takes from events of others.
    fn learn(&mut self, event: &Event) {
        self.status.take_doing(event);
        match event.name.as_str() {
            "fetch.done" | "network.done" => self.status.doing = None,
            "ssh.listening" => {
                let port = event
                    .u64("port")
                    .and_then(|port| u16::try_from(port).ok())
                    .unwrap_or(self.plan.ssh.port);
                self.status.ssh = Some(SshStatus {
                    port,
                    fingerprint: event.str("fingerprint").to_owned(),
                    sshfp: event.str("sshfp").to_owned(),
                });
            }
            "boot.once" => {
                self.status.doing = None;
                self.status.failures.clear();
            }
            // A pass over the list begins.
            "boot.attempt" => {
                // What the network does is on a thread of its own and goes on.
                self.status.doing.take_if(|doing| doing.stage == Stage::Fetch);
                // A root may stand in the list more than once.
                if event.u64("place") == Some(1) {
                    self.status.failures.clear();
                }
            }
            // The last root's failure, which is not told as a warning, is that of the boot.
            name if name.ends_with(".failed")
                && event.level == Level::Warn
                && !event.str("root").is_empty() =>
            {
                self.status.failures.push(event.str("what").to_owned());
            }
            name if name.starts_with("tunnel.") => self.learn_tunnel(event),
            "verify.off" | "network.absent" => {
                if let Some(text) = &event.text
                    && !self.status.warnings.contains(text)
                {
                    self.status.warnings.push(text.clone());
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pass_over_the_list_has_its_own_failures() {
        let mut init = Init::with(Plan::make(
            "root=http://a/x root=http://b/x root=http://a/x",
            &Default::default(),
            Default::default(),
            "",
        ));
        let attempt = |place: u64, root: &str| {
            let event = Event::new(1, Level::Debug, "boot.attempt").with("root", root);
            event.with("place", place)
        };
        let failed = |level, root: &str| {
            let event = Event::new(1, level, "fetch.failed").with("root", root);
            event.with("what", format!("fetch: {root}: 404"))
        };
        for _ in 0..2 {
            init.learn(&attempt(1, "http://a/x"));
            assert!(init.status.failures.is_empty());
            init.learn(&failed(Level::Warn, "http://a/x"));
            init.learn(&Event::new(1, Level::Warn, "fetch.retry"));
            assert!(init.status.doing.is_some());
            init.learn(&attempt(2, "http://b/x"));
            assert!(init.status.doing.is_none());
            init.learn(&failed(Level::Warn, "http://b/x"));
            init.learn(&attempt(3, "http://a/x"));
            init.learn(&failed(Level::Debug, "http://a/x"));
            let before = ["fetch: http://a/x: 404", "fetch: http://b/x: 404"];
            assert_eq!(init.status.failures, before);
        }
        init.learn(&Event::new(1, Level::Info, "boot.once"));
        assert!(init.status.failures.is_empty());
    }
}
