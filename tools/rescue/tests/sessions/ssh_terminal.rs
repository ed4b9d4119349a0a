//! The ssh server with a person behind the client: terminals, job control, and clients that die.

use crate::server::Server;
use crate::stand_in::{LOOK, PATIENCE, output, until};
use std::fs;
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::Instant;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_terminal_has_the_size_type_and_variables_the_client_gave() {
    let server = Server::start();
    let mut command = Command::new("script");
    let ssh = server.ssh(
        &["-tt", "-o", "SendEnv=LC_TEST SECRET"],
        &["stty size; echo $TERM $LC_TEST.$SECRET; tty"],
    );
    let line: Vec<String> = std::iter::once(ssh.get_program())
        .chain(ssh.get_args())
        .map(|w| format!("'{}'", w.display()))
        .collect();
    let line = format!("stty rows 33 cols 101; {}", line.join(" "));
    command
        .args(["-qec", &line, "/dev/null"])
        .env("TERM", "vt220")
        .env("LC_TEST", "yes")
        .env("SECRET", "no");
    let ended = output(command);
    let said = text(&ended.stdout).replace(['\r', '\0'], "");
    assert!(said.contains("33 101\nvt220 yes.\n/dev/pts/"), "{said}");
}

/// A login shell under a terminal of our own.
pub struct Terminal {
    pub child: std::process::Child,
    stdin: std::process::ChildStdin,
    seen: std::sync::Arc<std::sync::Mutex<Vec<u8>>>,
}

impl Terminal {
    pub fn open(mut ssh: Command) -> Terminal {
        let mut child = ssh
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let seen = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let sink = std::sync::Arc::clone(&seen);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = stdout.read(&mut buffer) {
                sink.lock().unwrap().extend_from_slice(&buffer[..count]);
            }
        });
        Terminal { child, stdin, seen }
    }

    pub fn text(&self) -> String {
        text(&self.seen.lock().unwrap())
    }

    pub fn type_in(&mut self, keys: &str) {
        self.stdin.write_all(keys.as_bytes()).unwrap();
    }

    pub fn until(&self, words: &str) {
        let start = Instant::now();
        while !self.text().contains(words) {
            assert!(start.elapsed() < PATIENCE, "no '{words}' in: {}", self.text());
            std::thread::sleep(LOOK);
        }
    }

    /// What follows `words` up to the end of their line, once that is there.
    fn line_after(&self, words: &str) -> String {
        let line = |text: String| Some(text.split_once(words)?.1.split_once("\r\n")?.0.to_owned());
        until(words, || line(self.text()).is_some());
        line(self.text()).unwrap()
    }
}

/// For an interactive shell: says `runs` and its number, then does nothing until it is interrupted.
pub const SLEEPER: &str = "sh -c 'echo ru''ns $$; exec sleep 100'";

/// Waits until keys for signals reach that process: it has the foreground of its terminal and nothing to do (`proc_pid_stat(5)`).
pub fn until_in_foreground(id: &str) {
    until("the foreground", || {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
        let fields = stat.rsplit(')').next().unwrap().split_whitespace();
        let fields: Vec<&str> = fields.take(6).collect();
        matches!(fields[..], ["S", _, group, _, _, foreground] if group == foreground)
    });
}

/// Waits until that process has ended and its shell knows it.
pub fn until_gone(id: &str) {
    until("the end of the process", || {
        !fs::exists(format!("/proc/{id}")).unwrap()
    });
}

#[test]
fn a_login_shell_greets_and_has_job_control() {
    let server = Server::start();
    let mut terminal = Terminal::open(server.ssh(&["-tt"], &[]));
    terminal.until("testbox: starting");
    server.init.until_held(1);
    assert_eq!(server.init.holds(), ["root from 127.0.0.1 Shell"]);
    terminal.type_in("set -m; echo se''t\n");
    terminal.until("set\r\n");
    terminal.type_in(&format!("{SLEEPER}\n"));
    let id = terminal.line_after("runs ");
    until_in_foreground(&id);
    terminal.type_in("\x1a");
    terminal.until("Stopped");
    terminal.type_in("fg\n");
    until_in_foreground(&id);
    terminal.type_in("\x03");
    until_gone(&id);
    terminal.type_in("echo st''atus $?\n");
    terminal.until("status 130");
    terminal.type_in("exit 9\n");
    let ended = terminal.child.wait().unwrap();
    assert_eq!(ended.code(), Some(9), "{}", terminal.text());
    server.init.until_held(0);
}

#[test]
fn a_terminal_under_a_command_can_be_interrupted() {
    let server = Server::start();
    let mut terminal = Terminal::open(server.ssh(
        &["-tt"],
        &["trap 'echo caught; exit 8' INT; echo up; sleep 20 & wait"],
    ));
    terminal.until("up");
    terminal.type_in("\x03");
    assert_eq!(
        terminal.child.wait().unwrap().code(),
        Some(8),
        "{}",
        terminal.text()
    );
    // Who reads the client's output may be behind its end.
    terminal.until("caught");
}

#[test]
fn when_the_client_dies_its_processes_are_hung_up_and_its_hold_ends() {
    let server = Server::start();
    for options in [&["-tt"][..], &["-T"][..]] {
        let mut terminal = Terminal::open(server.ssh(options, &["echo pid $$; exec sleep 1000"]));
        terminal.until("pid ");
        let id = terminal.text().split_whitespace().nth(1).unwrap().to_owned();
        server.init.until_held(1);
        terminal.child.kill().unwrap();
        terminal.child.wait().unwrap();
        server.init.until_held(0);
        until_gone(&id);
    }
}

#[test]
fn whoever_is_cut_by_somebody_else_reads_why_and_by_whom() {
    let server = Server::start();
    let mut terminals = [0; 2].map(|_| Terminal::open(server.ssh(&["-tt"], &[])));
    server.init.until_held(2);
    let [other, own] = &mut terminals;
    let rescue = env!("CARGO_BIN_EXE_rescue");
    own.type_in(&format!("{rescue} reboot\n"));
    own.until("not today");
    own.type_in(&format!("{rescue} poweroff\n"));
    own.until("2 sessions, this one among them, are cut.");
    other.until(
        "\r\nThe machine switches off now, asked for by root from 127.0.0.1: this session is cut.\r\n",
    );
    assert!(!other.text().contains("restarts"), "what is refused cuts nobody");
    assert!(!own.text().contains("asked for by"), "{}", own.text());
    for terminal in &mut terminals {
        terminal.type_in("exit\n");
        terminal.child.wait().unwrap();
    }
}
