//! Forwarded connections, both ways, and the agent's.

use crate::port::Port;
use crate::server::Server;
use crate::ssh_terminal::Terminal;
use crate::stand_in::{output, output_with, until};
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const BIG: usize = 30 << 20;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length)
        .map(|at| (at ^ (at >> 9) ^ (at >> 17)) as u8)
        .collect()
}

/// A server that sends back what it gets, and ends when its client has; its port.
fn echo() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut reader = stream.try_clone().unwrap();
                drop(std::io::copy(&mut reader, &mut &stream));
                drop(stream.shutdown(Shutdown::Write));
            });
        }
    });
    port
}

/// A client with only forwarding, ended with the value.
struct Forwarding(Child);

impl Forwarding {
    fn start(server: &Server, options: &[&str]) -> Forwarding {
        let all: Vec<&str> = ["-N", "-o", "ExitOnForwardFailure=yes"]
            .into_iter()
            .chain(options.iter().copied())
            .collect();
        Forwarding(server.ssh(&all, &[]).stderr(Stdio::piped()).spawn().unwrap())
    }
}

impl Drop for Forwarding {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn connect(port: u16) -> TcpStream {
    let mut found = None;
    until("a listener", || {
        found = TcpStream::connect(("127.0.0.1", port)).ok();
        found.is_some()
    });
    let stream = found.unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

/// Sends `data` while reading what comes back.
fn round_trip(stream: &TcpStream, data: &[u8]) -> Vec<u8> {
    let mut back = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            (&mut &*stream).write_all(data).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
        });
        (&mut &*stream).read_to_end(&mut back).unwrap();
    });
    back
}

#[test]
fn a_local_forward_carries_much_both_ways_at_once_and_holds_nothing() {
    let server = Server::start();
    let (here, there) = (Port::reserve(), echo());
    let _client = Forwarding::start(&server, &["-L", &format!("{}:localhost:{there}", here.number)]);
    let data = pattern(BIG);
    assert!(round_trip(&connect(here.number), &data) == data);
    let small: Vec<_> = (0..40).map(|_| connect(here.number)).collect();
    for (number, stream) in small.iter().enumerate() {
        let word = format!("number {number}");
        assert_eq!(text(&round_trip(stream, word.as_bytes())), word);
    }
    assert_eq!(server.init.holds().len(), 0);
}

#[test]
fn a_remote_forward_listens_on_loopback_alone_and_goes_with_its_client() {
    let server = Server::start();
    let (here, there) = (Port::reserve(), echo());
    let client = Forwarding::start(&server, &["-R", &format!("*:{}:127.0.0.1:{there}", here.number)]);
    let data = pattern(BIG);
    assert!(round_trip(&connect(here.number), &data) == data);
    let listening = fs::read_to_string("/proc/net/tcp").unwrap();
    let anywhere = format!("00000000:{:04X} ", here.number);
    let loopback = format!("0100007F:{:04X} ", here.number);
    assert!(listening.contains(&loopback) && !listening.contains(&anywhere));
    drop(client);
    until("the end of the listener", || {
        TcpStream::connect(("127.0.0.1", here.number)).is_err()
    });
}

#[test]
fn a_port_left_open_is_chosen_and_told_and_a_taken_one_is_refused() {
    let server = Server::start();
    let there = echo();
    let ended = output(server.ssh(&["-v", "-R", &format!("0:127.0.0.1:{there}")], &["true"]));
    assert!(
        text(&ended.stderr).contains("Allocated port"),
        "{}",
        text(&ended.stderr)
    );
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let options = [
        "-o",
        "ExitOnForwardFailure=yes",
        "-R",
        &format!("{port}:127.0.0.1:{there}"),
    ];
    assert_eq!(output(server.ssh(&options, &["true"])).status.code(), Some(255));
}

#[test]
fn a_dynamic_forward_leads_anywhere() {
    let server = Server::start();
    let (here, there) = (Port::reserve(), echo());
    let _client = Forwarding::start(&server, &["-D", &here.number.to_string()]);
    let stream = connect(here.number);
    // SOCKS 5 (RFC 1928): no authentication, connect to a name.
    let mut hello = vec![5, 1, 0, 5, 1, 0, 3, 9];
    hello.extend_from_slice(b"localhost");
    hello.extend_from_slice(&there.to_be_bytes());
    (&mut &stream).write_all(&hello).unwrap();
    let mut answer = [0; 12];
    (&mut &stream).read_exact(&mut answer).unwrap();
    assert_eq!(answer[..4], [5, 0, 5, 0]);
    assert_eq!(round_trip(&stream, b"through the proxy"), b"through the proxy");
}

#[test]
fn a_connection_that_cannot_be_made_is_told_and_the_rest_goes_on() {
    let server = Server::start();
    let nowhere = Port::reserve();
    let ended = output(server.ssh(&["-v", "-W", &format!("127.0.0.1:{}", nowhere.number)], &[]));
    assert!(
        !ended.status.success() && text(&ended.stderr).contains("connect failed"),
        "{}",
        text(&ended.stderr)
    );
    let through = output_with(
        server.ssh(&["-W", &format!("127.0.0.1:{}", echo())], &[]),
        b"word".to_vec(),
    );
    assert_eq!(text(&through.stdout), "word");
}

#[test]
fn input_that_a_slow_target_leaves_waiting_does_not_stop_another_channel() {
    let server = Server::start();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (here, port) = (Port::reserve(), listener.local_addr().unwrap().port());
    let echo = echo();
    let other = Port::reserve();
    let forwards = [
        format!("{}:127.0.0.1:{port}", here.number),
        format!("{}:127.0.0.1:{echo}", other.number),
    ];
    let _client = Forwarding::start(&server, &["-L", &forwards[0], "-L", &forwards[1]]);
    let slow = connect(here.number);
    let (target, _) = listener.accept().unwrap();
    let data = pattern(24 << 20);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            (&mut &slow).write_all(&data).unwrap();
            slow.shutdown(Shutdown::Write).unwrap();
        });
        // Until the target's and the server's buffers are full.
        std::thread::sleep(Duration::from_secs(1));
        assert_eq!(round_trip(&connect(other.number), b"meanwhile"), b"meanwhile");
        let mut came = vec![0; data.len()];
        (&mut &target).read_exact(&mut came).unwrap();
        assert!(came == data);
    });
    assert_eq!(round_trip(&connect(other.number), b"still there"), b"still there");
}

#[test]
fn the_clients_agent_is_reached_through_a_socket_that_goes_with_the_session() {
    let server = Server::start();
    let socket = server.dir.join("my-agent");
    let mut agent = Command::new("ssh-agent");
    agent.args(["-D", "-a"]).arg(&socket);
    let _agent = Forwarding(agent.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    // Its name is there before it listens.
    until("the agent", || UnixStream::connect(&socket).is_ok());
    let mut add = Command::new("ssh-add");
    add.arg("-q")
        .arg(server.dir.join("rsa"))
        .env("SSH_AUTH_SOCK", &socket);
    assert!(output(add).status.success());
    let line = "stat -c %a $(dirname $SSH_AUTH_SOCK); echo $SSH_AUTH_SOCK; ssh-add -l";
    let options = server.options("ed25519");
    let own = options
        .chunks(2)
        .filter(|pair| !pair[1].starts_with("IdentityAgent"));
    let mut ssh = Command::new("ssh");
    ssh.args(own.flatten())
        .args(["-A", "root@127.0.0.1", line])
        .env("SSH_AUTH_SOCK", &socket);
    let ended = output(ssh);
    let said = text(&ended.stdout);
    let lines: Vec<&str> = said.lines().collect();
    assert!(
        lines.len() == 3 && lines[0] == "700" && lines[2].contains("(RSA)"),
        "{said}{}",
        text(&ended.stderr)
    );
    until("the end of the socket", || !fs::exists(lines[1]).unwrap());
    let without = server.ssh(&["-a"], &["echo .$SSH_AUTH_SOCK"]);
    assert_eq!(text(&output(without).stdout), ".\n");
}

#[test]
fn a_forward_of_a_session_ends_with_it_while_the_program_lives() {
    let server = Server::start();
    let (here, there) = (Port::reserve(), echo());
    let options = ["-T", "-R", &format!("{}:127.0.0.1:{there}", here.number)];
    let mut terminal = Terminal::open(server.ssh(&options, &["trap '' HUP; echo $$ up; exec sleep 300"]));
    terminal.until("up");
    assert_eq!(round_trip(&connect(here.number), b"word"), b"word");
    let id = terminal.text().split_whitespace().next().unwrap().to_owned();
    terminal.child.kill().unwrap();
    terminal.child.wait().unwrap();
    until("the end of the listener", || {
        TcpStream::connect(("127.0.0.1", here.number)).is_err()
    });
    // What ignores the hang-up goes on, and the boot waits for it.
    assert!(fs::exists(format!("/proc/{id}")).unwrap());
    server.init.until_held(1);
    Command::new("kill").arg(&id).status().unwrap();
    server.init.until_held(0);
}

#[test]
fn x11_is_refused_and_the_command_runs_without_it() {
    let server = Server::start();
    for (option, refused) in [("-x", false), ("-Y", true)] {
        // Nothing is asked of a display; the client only has to believe that there is one.
        let options = [option, "-vv", "-o", "XAuthLocation=/nonexistent"];
        let mut command = server.ssh(&options, &["echo DISPLAY=$DISPLAY"]);
        command.env("DISPLAY", "127.0.0.1:99");
        let ended = output(command);
        let said = text(&ended.stderr);
        assert_eq!(text(&ended.stdout), "DISPLAY=\n", "{said}");
        assert_eq!(said.contains("X11 forwarding request failed"), refused, "{said}");
        assert!(!said.contains("X11 forwarding request accepted"), "{said}");
    }
}
