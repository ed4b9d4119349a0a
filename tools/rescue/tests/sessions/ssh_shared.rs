//! Several sessions in one connection, by OpenSSH's ControlMaster.
//!
//! Its master closes a channel as soon as that has ended both ways, and a session's input ends at once here: a status that
//! comes after the end of output is lost, and the client ends with 255.

use crate::server::Server;
use crate::ssh_terminal::Terminal;
use crate::stand_in::{finish, output, until};
use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// One more than a connection may have at a time, several times over.
const ONE_AFTER_ANOTHER: i32 = 25;

/// A master and its connection.
pub struct Shared<'a> {
    server: &'a Server,
    socket: String,
    master: Child,
}

impl Shared<'_> {
    pub fn start(server: &Server) -> Shared<'_> {
        let path = server.dir.join("mux");
        let socket = format!("ControlPath={}", path.display());
        let master = server.ssh(&["-MNT", "-o", &socket], &[]).spawn().unwrap();
        until("the master", || path.exists());
        Shared {
            server,
            socket,
            master,
        }
    }

    /// A session in that connection; a client that cannot have one makes no connection of its own.
    pub fn ssh(&self, line: &str) -> Command {
        let no_other = ["-o", "ControlMaster=no", "-o", "ProxyCommand=false"];
        let mut options = vec!["-o", self.socket.as_str()];
        options.extend(no_other);
        self.server.ssh(&options, &[line])
    }
}

impl Drop for Shared<'_> {
    fn drop(&mut self) {
        self.master.kill().unwrap();
        self.master.wait().unwrap();
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn several_sessions_in_one_connection_have_each_their_own_status() {
    let server = Server::start();
    let mut first = Terminal::open(server.ssh(&["-T"], &["echo one; cat"]));
    first.until("one");
    let shared = Shared::start(&server);
    let sessions: Vec<_> = (0..4)
        .map(|n| {
            let line = format!("until [ -e go ]; do sleep 0.1; done; exit {n}");
            let mut command = shared.ssh(&line);
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            command.spawn().unwrap()
        })
        .collect();
    server.init.until_held(5);
    fs::write(server.dir.join("home/go"), "").unwrap();
    for (n, child) in (0..).zip(sessions) {
        let ended = finish(child);
        assert_eq!(ended.status.code(), Some(n), "{}", text(&ended.stderr));
    }
    first.type_in("still here\n");
    first.until("still here");
    first.child.kill().unwrap();
    first.child.wait().unwrap();
}

#[test]
fn sessions_one_after_another_in_one_connection_do_not_use_it_up() {
    let server = Server::start();
    let shared = Shared::start(&server);
    for n in 0..ONE_AFTER_ANOTHER {
        let ended = output(shared.ssh(&format!("echo {n}; exit {n}")));
        assert_eq!(ended.status.code(), Some(n), "{}", text(&ended.stderr));
        assert_eq!(text(&ended.stdout), format!("{n}\n"));
    }
}

#[test]
fn a_program_without_output_keeps_its_session_and_its_status() {
    let server = Server::start();
    let shared = Shared::start(&server);
    let ended = output(shared.ssh("exec >&- 2>&-; sleep 1; echo done >done; exit 5"));
    assert_eq!(ended.status.code(), Some(5), "{}", text(&ended.stderr));
    assert!(server.dir.join("home/done").exists());
}

#[test]
fn a_child_left_behind_outlives_its_session() {
    let server = Server::start();
    let shared = Shared::start(&server);
    let ended = output(shared.ssh("sleep 30 >/dev/null 2>&1 </dev/null & echo $!; exit 6"));
    assert_eq!(ended.status.code(), Some(6), "{}", text(&ended.stderr));
    let id = text(&ended.stdout).trim().to_owned();
    std::thread::sleep(Duration::from_millis(300));
    let alive = Command::new("kill").arg(&id).status().unwrap();
    assert!(alive.success(), "process {id} is gone");
}
