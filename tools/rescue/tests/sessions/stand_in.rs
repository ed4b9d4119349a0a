//! A stand-in for PID 1: it answers on the control socket, and remembers what it was told.

use lifeboot_contract::control::{Reply, Request, SessionKind};
use lifeboot_contract::event::{Event, Level};
use lifeboot_contract::status::{Address, Phase, Session, SshStatus, Status};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Longest that anything here may take.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How often it is looked whether something has become true.
pub const LOOK: Duration = Duration::from_millis(20);

/// What the stand-in has seen, and what it says.
#[derive(Default)]
struct Seen {
    events: Vec<Event>,
    holds: Vec<String>,
    held: usize,
    holders: Vec<UnixStream>,
    orders: Vec<Request>,
    phase: Phase,
}

/// A listening stand-in.
pub struct StandIn {
    seen: Arc<Mutex<Seen>>,
}

impl StandIn {
    /// Listens where the real one would, with `dir` as run directory.
    pub fn listen(dir: &Path) -> StandIn {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let listener = UnixListener::bind(dir.join("control")).unwrap();
        let notes = Arc::clone(&seen);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let notes = Arc::clone(&notes);
                std::thread::spawn(move || answer(stream.unwrap(), &notes));
            }
        });
        StandIn { seen }
    }

    /// Waits for an event.
    pub fn event(&self, name: &str) -> Event {
        let find = || {
            self.seen
                .lock()
                .unwrap()
                .events
                .iter()
                .find(|event| event.name == name)
                .cloned()
        };
        until(name, || find().is_some());
        find().unwrap()
    }

    /// Every event of that name so far.
    pub fn events(&self, name: &str) -> Vec<Event> {
        let seen = self.seen.lock().unwrap();
        seen.events
            .iter()
            .filter(|event| event.name == name)
            .cloned()
            .collect()
    }

    /// Forgets what happened so far.
    pub fn forget_events(&self) {
        self.seen.lock().unwrap().events.clear();
    }

    /// Waits until so many sessions hold the boot.
    pub fn until_held(&self, count: usize) {
        until(&format!("{count} holds"), || {
            self.seen.lock().unwrap().held == count
        });
    }

    /// Who has ever held it.
    pub fn holds(&self) -> Vec<String> {
        self.seen.lock().unwrap().holds.clone()
    }

    /// What people have asked for.
    pub fn orders(&self) -> Vec<Request> {
        self.seen.lock().unwrap().orders.clone()
    }

    /// Changes what the boot is said to be doing.
    pub fn set_phase(&self, phase: Phase) {
        self.seen.lock().unwrap().phase = phase;
    }
}

/// A new directory. Short, because a socket's path has little room.
pub fn directory() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!(
        "lifeboot-ssh-{}-{}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    );
    let dir = std::env::temp_dir().join(name);
    fs::create_dir_all(&dir).unwrap();
    dir
}

/// Runs to the end, or fails when that takes too long.
pub fn output(mut command: Command) -> Output {
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    finish(child)
}

/// As [`output`], with `input` on standard input.
pub fn output_with(command: Command, input: Vec<u8>) -> Output {
    finish(start_with(command, input))
}

/// Starts it with `input` on its way.
pub fn start_with(mut command: Command, input: Vec<u8>) -> Child {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // A program that does not read all of it is part of some tests.
    std::thread::spawn(move || drop(stdin.write_all(&input)));
    child
}

pub fn finish(child: Child) -> Output {
    let id = child.id();
    let (done, wait) = std::sync::mpsc::channel();
    std::thread::spawn(move || drop(done.send(child.wait_with_output())));
    match wait.recv_timeout(PATIENCE) {
        Ok(output) => output.unwrap(),
        Err(_) => {
            Command::new("kill")
                .args(["-9", &id.to_string()])
                .status()
                .unwrap();
            panic!("process {id} did not end within {PATIENCE:?}");
        }
    }
}

/// Waits for something to become true.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(LOOK);
    }
}

/// A server that has said that it listens has an address too.
fn status(seen: &Seen) -> Status {
    let listening = seen.events.iter().rfind(|event| event.name == "ssh.listening");
    let ssh = listening.map(|event| SshStatus {
        port: event.u64("port").unwrap().try_into().unwrap(),
        fingerprint: event.str("fingerprint").to_owned(),
        sshfp: event.str("sshfp").to_owned(),
    });
    let address = Address {
        interface: "lo".to_owned(),
        address: std::net::Ipv4Addr::LOCALHOST.into(),
    };
    let session = Session {
        who: "somebody".to_owned(),
        kind: SessionKind::Shell,
        since_ms: 0,
    };
    Status {
        hostname: "testbox".to_owned(),
        phase: seen.phase.clone(),
        sessions: vec![session; seen.held],
        addresses: ssh.iter().map(|_| address.clone()).collect(),
        ssh,
        ..Status::default()
    }
}

fn answer(stream: UnixStream, seen: &Mutex<Seen>) {
    let mut writer = stream.try_clone().unwrap();
    let mut held = 0;
    for line in BufReader::new(stream).lines() {
        let Ok(line) = line else { break };
        let reply = match serde_json::from_str(&line).unwrap() {
            Request::Event(event) => {
                let mut seen = seen.lock().unwrap();
                if event.name == "session.cut" {
                    let line = serde_json::to_string(&Reply::Event(event.clone())).unwrap();
                    for holder in &mut seen.holders {
                        drop(writeln!(holder, "{line}"));
                    }
                }
                seen.events.push(event);
                Reply::Done { text: String::new() }
            }
            Request::Hold { who, kind } => {
                let mut seen = seen.lock().unwrap();
                seen.holds.push(format!("{who} {kind:?}"));
                seen.held += 1;
                seen.holders.push(writer.try_clone().unwrap());
                held += 1;
                Reply::Done { text: String::new() }
            }
            Request::Status => Reply::Status(Box::new(status(&seen.lock().unwrap()))),
            Request::Log { .. } => {
                let mut lines = Vec::new();
                for number in 1..=2000u64 {
                    let event = Event::new(number, Level::Info, "boot.idle").text(format!("event {number}"));
                    lines.append(&mut serde_json::to_vec(&Reply::Event(event)).unwrap());
                    lines.push(b'\n');
                }
                if writer.write_all(&lines).is_err() {
                    break;
                }
                Reply::Done { text: String::new() }
            }
            Request::Reboot { .. } => Reply::Error {
                what: "not today".to_owned(),
            },
            other => {
                let mut seen = seen.lock().unwrap();
                seen.orders.push(other);
                match &seen.phase {
                    Phase::Failed { refused: true, .. } => Reply::Error {
                        what: "not with this plan".to_owned(),
                    },
                    _ => Reply::Done {
                        text: "Done as told.".to_owned(),
                    },
                }
            }
        };
        let mut line = serde_json::to_vec(&reply).unwrap();
        line.push(b'\n');
        if writer.write_all(&line).is_err() {
            break;
        }
    }
    seen.lock().unwrap().held -= held;
}
