//! The ssh server as the system's own OpenSSH client sees it.

use crate::server::{Server, sshd};
use crate::ssh_terminal::Terminal;
use crate::stand_in::{directory, output, output_with, until};
use std::fs;
use std::process::Command;

/// More than every buffer on the way together.
const BIG: usize = 50 << 20;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Bytes that show when some are lost, doubled or swapped.
fn pattern(length: usize) -> Vec<u8> {
    let mut state = 1u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

#[test]
fn a_command_ends_with_its_own_status() {
    let server = Server::start();
    for status in [0, 3, 255] {
        let ended = output(server.ssh(&[], &[&format!("exit {status}")]));
        assert_eq!(ended.status.code(), Some(status), "{}", text(&ended.stderr));
    }
}

#[test]
fn a_command_that_dies_by_a_signal_is_told_as_one() {
    let server = Server::start();
    let ended = output(server.ssh(&["-v"], &["kill -TERM $$"]));
    assert_eq!(ended.status.code(), Some(255));
    assert!(
        text(&ended.stderr).contains("exit-signal"),
        "{}",
        text(&ended.stderr)
    );
}

#[test]
fn output_and_errors_come_apart() {
    let server = Server::start();
    let ended = output(server.ssh(&[], &["echo one; echo two >&2; echo three; exit 7"]));
    assert_eq!(text(&ended.stdout), "one\nthree\n");
    assert_eq!(text(&ended.stderr), "two\n");
    assert_eq!(ended.status.code(), Some(7));
}

#[test]
fn all_three_kinds_of_user_keys_are_accepted() {
    let server = Server::start();
    for key in ["ed25519", "ecdsa", "rsa"] {
        let ended = output(server.ssh_as(key, &[], &["echo in"]));
        assert_eq!(text(&ended.stdout), "in\n", "{key}: {}", text(&ended.stderr));
    }
    for algorithm in ["rsa-sha2-256", "rsa-sha2-512"] {
        let option = format!("PubkeyAcceptedAlgorithms={algorithm}");
        let ended = output(server.ssh_as("rsa", &["-o", &option], &["echo in"]));
        assert_eq!(
            text(&ended.stdout),
            "in\n",
            "{algorithm}: {}",
            text(&ended.stderr)
        );
    }
}

#[test]
fn a_sha1_signature_an_unknown_key_another_user_and_a_password_are_refused() {
    let server = Server::start();
    let sha1 = server.ssh_as("rsa", &["-o", "PubkeyAcceptedAlgorithms=ssh-rsa"], &["echo in"]);
    let unknown = server.ssh_as("unknown", &[], &["echo in"]);
    let user = server.ssh(&["-l", "nobody"], &["echo in"]);
    let password = server.ssh(
        &["-o", "PreferredAuthentications=password,keyboard-interactive"],
        &["echo in"],
    );
    for command in [sha1, unknown, user, password] {
        let shown = format!("{command:?}");
        let ended = output(command);
        assert_eq!(
            (ended.status.code(), text(&ended.stdout).as_str()),
            (Some(255), ""),
            "{shown}"
        );
        assert!(
            text(&ended.stderr).contains("Permission denied (publickey)"),
            "{}",
            text(&ended.stderr)
        );
    }
    until("the refusal of root", || {
        let refused = server.init.events("ssh.refused");
        refused.iter().any(|event| event.str("user") == "root")
    });
    assert_eq!(server.init.holds().len(), 0);
}

#[test]
fn without_a_key_the_server_does_not_start_and_says_why() {
    let dir = directory();
    fs::write(
        dir.join("plan.json"),
        serde_json::to_string(&lifeboot_contract::plan::Plan::default()).unwrap(),
    )
    .unwrap();
    let ended = output(sshd(&dir));
    assert_eq!(ended.status.code(), Some(1));
    assert!(
        text(&ended.stderr).contains("no authorized key"),
        "{}",
        text(&ended.stderr)
    );
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn fifty_megabytes_go_each_way_unchanged_and_the_server_stays_small() {
    let server = Server::start();
    let data = pattern(BIG);
    let ended = output_with(server.ssh(&[], &["cat >up; wc -c <up"]), data.clone());
    assert_eq!(
        text(&ended.stdout).trim(),
        BIG.to_string(),
        "{}",
        text(&ended.stderr)
    );
    assert!(
        fs::read(server.dir.join("home/up")).unwrap() == data,
        "changed on the way up"
    );
    let down = output(server.ssh(&[], &["cat up"]));
    assert!(
        down.stdout == data,
        "changed on the way down, {} bytes",
        down.stdout.len()
    );
    let status = fs::read_to_string(format!("/proc/{}/status", server.process.id())).unwrap();
    let peak = status
        .lines()
        .find(|line| line.starts_with("VmHWM"))
        .unwrap()
        .to_owned();
    let peak: u64 = peak.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(peak < 48 << 10, "the server grew to {peak} KiB");
}

#[test]
fn both_ways_at_once_do_not_lock_up() {
    let server = Server::start();
    let data = pattern(BIG);
    let ended = output_with(server.ssh(&[], &["cat"]), data.clone());
    assert!(
        ended.stdout == data,
        "changed, {} bytes, {}",
        ended.stdout.len(),
        text(&ended.stderr)
    );
}

#[test]
fn input_that_nobody_reads_yet_holds_back_neither_output_nor_other_sessions() {
    let server = Server::start();
    let data = pattern(8 << 20);
    // Writes more than the client's window before it reads, so the window has to come past the waiting input.
    let ended = output_with(
        server.ssh(&[], &["head -c 6000000 /dev/zero; sha256sum | cut -c1-8"]),
        data,
    );
    assert_eq!(ended.stdout.len(), 6_000_000 + 9);
}

#[test]
fn a_program_that_does_not_read_its_input_ends_as_it_wants() {
    let server = Server::start();
    let ended = output_with(server.ssh(&[], &["echo early; exit 4"]), pattern(4 << 20));
    assert_eq!(
        (ended.status.code(), text(&ended.stdout).as_str()),
        (Some(4), "early\n")
    );
}

#[test]
fn the_end_of_input_reaches_the_program_and_its_output_the_client() {
    let server = Server::start();
    let ended = output_with(server.ssh(&[], &["cat; echo after"]), b"before\n".to_vec());
    assert_eq!(text(&ended.stdout), "before\nafter\n");
}

#[test]
fn a_program_may_close_its_output_and_still_end_with_a_status() {
    let server = Server::start();
    let ended = output(server.ssh(&[], &["exec >&- 2>&-; sleep 0.3; exit 5"]));
    assert_eq!(ended.status.code(), Some(5));
}

#[test]
fn a_background_child_that_keeps_the_pipe_does_not_keep_the_session() {
    let server = Server::start();
    // Longer than the client is waited for.
    let ended = output(server.ssh(&[], &["sleep 300 & echo $!; exit 6"]));
    assert_eq!(ended.status.code(), Some(6));
    let id = text(&ended.stdout).trim().to_owned();
    assert!(fs::exists(format!("/proc/{id}")).unwrap(), "the child was killed");
    Command::new("kill").arg(id).status().unwrap();
}

#[test]
fn two_sessions_at_once() {
    let server = Server::start();
    let mut first = Terminal::open(server.ssh(&["-T"], &["echo one; cat"]));
    first.until("one");
    assert_eq!(text(&output(server.ssh(&[], &["echo two"])).stdout), "two\n");
    first.type_in("still here\n");
    first.until("still here");
    first.child.kill().unwrap();
    first.child.wait().unwrap();
}

#[test]
fn scp_and_sftp_move_files_both_ways() {
    let server = Server::start();
    let data = pattern(20 << 20);
    let (local, back) = (server.dir.join("local"), server.dir.join("back"));
    fs::write(&local, &data).unwrap();
    let remote = server.dir.join("home/remote");
    let mut up = Command::new("scp");
    up.args(server.options("ed25519"))
        .arg(&local)
        .arg(format!("root@127.0.0.1:{}", remote.display()));
    assert!(output(up).status.success());
    assert!(fs::read(&remote).unwrap() == data);
    let mut down = Command::new("sftp");
    down.args(server.options("ed25519"))
        .args(["-b", "-", "root@127.0.0.1"]);
    let batch = format!("get {} {}\n", remote.display(), back.display());
    let ended = output_with(down, batch.into_bytes());
    assert!(ended.status.success(), "{}", text(&ended.stderr));
    assert!(fs::read(&back).unwrap() == data);
    assert_eq!(
        server.init.holds(),
        ["root from 127.0.0.1 Sftp", "root from 127.0.0.1 Sftp"]
    );
}

#[test]
fn a_restarted_server_is_the_same_to_its_clients() {
    let mut server = Server::start();
    let first = server.init.event("ssh.listening").str("fingerprint").to_owned();
    assert_eq!(text(&output(server.ssh(&[], &["echo a"])).stdout), "a\n");
    server.restart();
    assert_eq!(server.init.event("ssh.listening").str("fingerprint"), first);
    let known = format!("[127.0.0.1]:{}", server.port);
    let ended = output(server.ssh(&["-v"], &["echo b"]));
    assert_eq!(text(&ended.stdout), "b\n");
    assert!(
        text(&ended.stderr).contains(&first),
        "{known}: {}",
        text(&ended.stderr)
    );
}

#[test]
fn a_subsystem_that_is_not_there_is_refused() {
    let server = Server::start();
    let ended = output(server.ssh(&["-s"], &["netconf"]));
    assert!(!ended.status.success());
}
