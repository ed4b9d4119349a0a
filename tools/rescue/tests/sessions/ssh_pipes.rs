//! Programs that move bytes inside the kernel, which keep the lock of a pipe as long as they wait.

use crate::server::Server;
use crate::ssh_terminal::Terminal;
use crate::stand_in::{output, until};
use std::process::Command;
use std::time::Duration;

/// Long enough for a process to come to the next system call.
const A_MOMENT: Duration = Duration::from_millis(500);

/// Writes a word, then waits for a socket that stays silent, with its standard output locked.
const LOCKS_OUTPUT: &str = r#"
import os, socket, time
near, far = socket.socketpair()
open("there", "w")
while not os.path.exists("go"): time.sleep(0.02)
os.write(1, b"word\n")
open("held", "w")
os.splice(near.fileno(), 1, 4096)
"#;

/// Waits for a socket that takes nothing more, with its standard input locked.
const LOCKS_INPUT: &str = r#"
import os, socket
near, far = socket.socketpair()
near.setblocking(False)
try:
    while True: near.send(bytes(1000))
except BlockingIOError: near.setblocking(True)
print("there", flush=True)
os.splice(0, near.fileno(), 4096)
"#;

fn python(server: &Server, script: &str) -> Terminal {
    std::fs::write(server.dir.join("home/script"), script).unwrap();
    Terminal::open(server.ssh(&["-T"], &["exec /usr/bin/python3 script"]))
}

fn signal(server: &Server, name: &str) {
    let id = server.process.id().to_string();
    assert!(Command::new("kill").args([name, &id]).status().unwrap().success());
}

fn others_are_served(server: &Server) {
    let ended = output(server.ssh(&[], &["echo in"]));
    assert_eq!(String::from_utf8_lossy(&ended.stdout), "in\n");
}

fn ends(mut session: Terminal, server: &Server) {
    session.child.kill().unwrap();
    session.child.wait().unwrap();
    server.init.until_held(0);
}

#[test]
fn a_program_that_keeps_its_output_locked_stops_nobody_else() {
    let server = Server::start();
    let session = python(&server, LOCKS_OUTPUT);
    let home = server.dir.join("home");
    until("the program", || home.join("there").exists());
    // So that the word is read only when the lock is taken.
    signal(&server, "-STOP");
    std::fs::write(home.join("go"), "").unwrap();
    until("the lock", || home.join("held").exists());
    std::thread::sleep(A_MOMENT);
    signal(&server, "-CONT");
    others_are_served(&server);
    ends(session, &server);
}

#[test]
fn a_program_that_keeps_its_input_locked_stops_nobody_else() {
    let server = Server::start();
    let mut session = python(&server, LOCKS_INPUT);
    session.until("there");
    for word in ["one\n", "two\n"] {
        session.type_in(word);
        std::thread::sleep(A_MOMENT);
    }
    others_are_served(&server);
    ends(session, &server);
}
