//! Clients other than today's OpenSSH, and much at a time.

use crate::server::Server;
use crate::stand_in::{output, output_with};
use lifeboot_tests::load;
use std::fs;
use std::process::Command;

const BIG: usize = 10 << 20;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length)
        .map(|at| (at ^ (at >> 9) ^ (at >> 17)) as u8)
        .collect()
}

/// What `~/.ssh/known_hosts` says about the server, so that no client has to be told to trust it.
fn known_hosts(server: &Server) -> String {
    drop(output(server.ssh(&[], &["true"])));
    fs::read_to_string(server.dir.join("known_hosts")).unwrap()
}

#[test]
fn scp_of_old_moves_files_both_ways() {
    let server = Server::start();
    let (local, back) = (server.dir.join("local"), server.dir.join("back"));
    fs::write(&local, pattern(BIG)).unwrap();
    let scp = |from: &str, to: &str| {
        let mut command = Command::new("scp");
        command.arg("-O").args(server.options("ed25519")).args([from, to]);
        let ended = output(command);
        assert!(ended.status.success(), "{}", text(&ended.stderr));
    };
    scp(&local.to_string_lossy(), "root@127.0.0.1:remote");
    scp("root@127.0.0.1:remote", &back.to_string_lossy());
    assert!(fs::read(&back).unwrap() == pattern(BIG));
}

#[test]
fn twenty_sessions_at_once() {
    let server = Server::start();
    drop(known_hosts(&server));
    load::sessions_at_once(20, &server.dir, 60, |line| server.ssh(&[], &[line])).unwrap();
}

#[test]
fn libssh2_lists_puts_and_gets() {
    let server = Server::start();
    known_hosts(&server);
    let (local, back) = (server.dir.join("local"), server.dir.join("back"));
    fs::write(&local, pattern(BIG)).unwrap();
    let curl = |words: &[&str], path: &str| {
        let mut command = Command::new("curl");
        command
            .args(["-sS", "--insecure", "-u", "root:", "--key"])
            .arg(server.dir.join("ecdsa"))
            .arg("--pubkey")
            .arg(server.dir.join("ecdsa.pub"))
            .args(words)
            .arg(format!("sftp://127.0.0.1:{}{path}", server.port));
        output(command)
    };
    let home = server.dir.join("home").to_string_lossy().into_owned();
    let there = format!("{home}/remote");
    let put = curl(&["-T", &local.to_string_lossy()], &there);
    assert!(put.status.success(), "{}", text(&put.stderr));
    let get = curl(&["-o", &back.to_string_lossy()], &there);
    assert!(get.status.success(), "{}", text(&get.stderr));
    assert!(fs::read(&back).unwrap() == pattern(BIG));
    assert!(text(&curl(&[], &format!("{home}/")).stdout).contains("remote"));
}

const PARAMIKO: &str = r#"
import paramiko, sys, threading
port, key, known = int(sys.argv[1]), sys.argv[2], sys.argv[3]
client = paramiko.SSHClient()
client.load_host_keys(known)
client.connect("127.0.0.1", port, "root", key_filename=key, allow_agent=False, look_for_keys=False)
stdin, stdout, stderr = client.exec_command("cat; echo wrong >&2; exit 7")
def write():
    stdin.write(b"x" * 20000000)
    stdin.channel.shutdown_write()
# At the same time as it reads: what no server holds back for a client that only writes would keep both waiting.
threading.Thread(target=write, daemon=True).start()
assert len(stdout.read()) == 20000000
assert stderr.read() == b"wrong\n"
assert stdout.channel.recv_exit_status() == 7
sftp = client.open_sftp()
with sftp.open("file", "w") as file: file.write("word")
assert sftp.open("file").read() == b"word"
forward = client.get_transport().open_channel("direct-tcpip", ("127.0.0.1", port), ("127.0.0.1", 1))
assert forward.recv(4) == b"SSH-"
shell = client.invoke_shell(width=101, height=33)
shell.send("stty size; exit\n")
said = b""
while True:
    part = shell.recv(1000)
    if not part: break
    said += part
assert b"33 101" in said, said
print("all well")
"#;

#[test]
fn paramiko_runs_copies_and_forwards() {
    let server = Server::start();
    known_hosts(&server);
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-W", "ignore", "-c", PARAMIKO, &server.port.to_string()]);
    command
        .arg(server.dir.join("ed25519"))
        .arg(server.dir.join("known_hosts"));
    let ended = output(command);
    assert_eq!(text(&ended.stdout), "all well\n", "{}", text(&ended.stderr));
}

#[test]
fn plink_runs_a_command() {
    let server = Server::start();
    let fingerprint = server.init.event("ssh.listening").str("fingerprint").to_owned();
    let key = server.dir.join("putty.ppk");
    let mut puttygen = Command::new("puttygen");
    puttygen
        .arg(server.dir.join("ed25519"))
        .args(["-O", "private", "-o"])
        .arg(&key);
    assert!(output(puttygen).status.success());
    let mut plink = Command::new("plink");
    plink
        .args([
            "-batch",
            "-P",
            &server.port.to_string(),
            "-hostkey",
            &fingerprint,
            "-i",
        ])
        .arg(&key)
        .args(["root@127.0.0.1", "cat; exit 5"])
        .env("HOME", &server.dir);
    let ended = output_with(plink, pattern(BIG));
    assert_eq!(ended.status.code(), Some(5), "{}", text(&ended.stderr));
    assert!(ended.stdout == pattern(BIG));
}

#[test]
fn rsync_of_ten_thousand_small_files() {
    let server = Server::start();
    let shell = std::iter::once("ssh".to_owned())
        .chain(server.options("ed25519"))
        .collect::<Vec<_>>()
        .join(" ");
    load::small_files_there_and_back(10_000, &server.dir, &shell, "root@127.0.0.1:there").unwrap();
}

#[test]
#[ignore = "make test-all"]
fn sshfs_mounts_the_device() {
    let server = Server::start();
    let at = server.dir.join("mounted");
    fs::create_dir_all(&at).unwrap();
    fs::write(server.dir.join("home/file"), pattern(BIG)).unwrap();
    let mut sshfs = Command::new("sshfs");
    sshfs.arg("root@127.0.0.1:").arg(&at).args(
        server
            .options("ed25519")
            .chunks(2)
            .filter(|pair| pair[0] == "-o")
            .flatten(),
    );
    let mounted = output(sshfs);
    assert!(
        mounted.status.success(),
        "could not run: {}",
        text(&mounted.stderr)
    );
    let read = fs::read(at.join("file"));
    let written = fs::write(at.join("new"), "word");
    let unmounted = Command::new("fusermount3").arg("-u").arg(&at).status().unwrap();
    assert!(unmounted.success() && read.unwrap() == pattern(BIG));
    written.unwrap();
    assert_eq!(fs::read(server.dir.join("home/new")).unwrap(), b"word");
}
