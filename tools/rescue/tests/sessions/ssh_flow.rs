//! Programs that leave their input waiting, and clients that leave output waiting.

use crate::server::Server;
use crate::ssh_shared::Shared;
use crate::stand_in::{finish, output, start_with, until};
use std::fs;
use std::process::{Child, Stdio};
use std::time::Duration;

/// More than server, kernel and client keep between them, and more than the server lets wait of a client that ignores its window.
const MUCH: usize = 40 << 20;

/// What the gate lets wait, and the window, several times over; without either it would be all of [`MUCH`].
const SOME_KIB: u64 = 16 << 10;

fn input() -> Vec<u8> {
    (0..MUCH).map(|at| (at / 251 + at) as u8).collect()
}

/// A program that says that it is there, and begins to read when it may.
const READS_LATER: &str = "touch there; until [ -e go ]; do sleep 0.1; done; cat >came";

/// One that says so and never reads.
const NEVER_READS: &str = "echo $$ >id; mv id there; exec sleep 1000";

/// Lets it read, and looks at what came.
fn let_it_read(server: &Server, child: Child) {
    fs::write(server.dir.join("home/go"), "").unwrap();
    let ended = finish(child);
    let errors = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!((ended.status.code(), errors.as_str()), (Some(0), ""));
    assert!(fs::read(server.dir.join("home/came")).unwrap() == input());
}

fn is_there(server: &Server) {
    let there = server.dir.join("home/there");
    until("the program", || there.exists());
    // Until nothing goes on any more.
    std::thread::sleep(Duration::from_secs(2));
}

fn resident_kib(server: &Server) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.process.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn input_that_waits_keeps_no_other_session_of_its_connection_waiting_and_takes_little_memory() {
    let server = Server::start();
    let shared = Shared::start(&server);
    let before = resident_kib(&server);
    let first = start_with(shared.ssh(READS_LATER), input());
    is_there(&server);
    let ended = output(shared.ssh("echo in; exit 3"));
    assert_eq!(String::from_utf8_lossy(&ended.stdout), "in\n");
    assert_eq!(ended.status.code(), Some(3));
    let grown = resident_kib(&server).saturating_sub(before);
    assert!(grown < SOME_KIB, "the server grew by {grown} KiB");
    let_it_read(&server, first);
}

#[test]
fn a_client_that_asks_whether_the_server_is_there_has_its_answer_while_its_input_waits() {
    let server = Server::start();
    let often = ["-o", "ServerAliveInterval=1", "-o", "ServerAliveCountMax=3"];
    let child = start_with(server.ssh(&often, &[READS_LATER]), input());
    is_there(&server);
    std::thread::sleep(Duration::from_secs(6));
    let_it_read(&server, child);
}

#[test]
fn a_client_that_is_gone_takes_its_program_along_although_its_input_waits() {
    let server = Server::start();
    let shared = Shared::start(&server);
    for command in [server.ssh(&[], &[NEVER_READS]), shared.ssh(NEVER_READS)] {
        let mut child = start_with(command, input());
        is_there(&server);
        let there = server.dir.join("home/there");
        let id = fs::read_to_string(&there).unwrap();
        fs::remove_file(there).unwrap();
        let program = format!("/proc/{}", id.trim());
        assert!(fs::exists(&program).unwrap());
        child.kill().unwrap();
        child.wait().unwrap();
        until("the program's end", || !fs::exists(&program).unwrap());
    }
    let ended = output(shared.ssh("echo still in"));
    assert_eq!(String::from_utf8_lossy(&ended.stdout), "still in\n");
}

#[test]
fn output_that_nobody_takes_for_long_ends_neither_its_session_nor_another() {
    let server = Server::start();
    let shared = Shared::start(&server);
    let lazy = start_with(server.ssh(&[], &["cat"]), input());
    let mut pager = shared.ssh("cat /dev/zero");
    let mut pager = pager.stdout(Stdio::piped()).spawn().unwrap();
    let neighbour = start_with(shared.ssh(READS_LATER), input());
    is_there(&server);
    std::thread::sleep(Duration::from_secs(20));
    let_it_read(&server, neighbour);
    let ended = finish(lazy);
    assert_eq!(String::from_utf8_lossy(&ended.stderr), "");
    assert!(ended.stdout == input());
    drop(pager.stdout.take());
    pager.wait().unwrap();
}
