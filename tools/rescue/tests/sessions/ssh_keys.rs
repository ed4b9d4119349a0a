//! Who may log in, as whom, to do what: options of keys, certificates, users with one program.

use crate::server::{Server, sshd};
use crate::ssh_terminal::Terminal;
use crate::stand_in::{directory, output};
use lifeboot_contract::plan::Plan;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Makes key pairs in a new directory, then a server whose plan is made of them.
fn server(plan: impl FnOnce(&dyn Fn(&str) -> String, &mut Plan)) -> Server {
    let dir = directory();
    for name in ["ed25519", "other", "ca", "rogue"] {
        let path = dir.join(name);
        keygen(&["-q", "-N", "", "-t", "ed25519", "-f", &path.to_string_lossy()]);
    }
    let public = |name: &str| {
        let path = dir.join(name).with_extension("pub");
        fs::read_to_string(path).unwrap().trim().to_owned()
    };
    let mut made = Plan::default();
    plan(&public, &mut made);
    Server::start_with(dir.clone(), &made)
}

/// A server with this one line for root.
fn with_options(options: &str) -> Server {
    server(|public, plan| plan.ssh.authorized_keys = vec![format!("{options} {}", public("ed25519"))])
}

fn keygen(words: &[&str]) {
    let made = Command::new("ssh-keygen").args(words).output().unwrap();
    assert!(made.status.success(), "{}", text(&made.stderr));
}

/// Certifies the key `ed25519` with the stock tool.
fn certify(dir: &Path, by: &str, words: &[&str]) {
    let (ca, key) = (dir.join(by), dir.join("ed25519.pub"));
    let ca = ca.to_string_lossy();
    let key = key.to_string_lossy();
    let mut all = vec!["-q", "-s", &*ca, "-I", "night shift", "-z", "7"];
    all.extend(words);
    all.push(&*key);
    keygen(&all);
}

fn said(ended: &Output) -> (Option<i32>, String) {
    (ended.status.code(), text(&ended.stdout))
}

fn run(server: &Server, options: &[&str], words: &[&str]) -> (Option<i32>, String) {
    said(&output(server.ssh(options, words)))
}

const OK: (Option<i32>, &str) = (Some(0), "in\n");

fn gets_in(server: &Server) -> bool {
    let (status, out) = run(server, &[], &["echo in"]);
    assert!(status == Some(0) || status == Some(255), "{status:?} {out}");
    (status, out.as_str()) == OK
}

/// Whether a session gets a terminal; without one the client gives up, having been told to insist.
fn has_terminal(server: &Server) -> bool {
    let (_, out) = run(server, &["-tt"], &["tty"]);
    assert!(out.is_empty() || out.starts_with("/dev/pts/"), "{out}");
    !out.is_empty()
}

#[test]
fn a_forced_command_runs_instead_and_is_told_what_was_wanted() {
    let server = with_options("command=\"echo forced, $SSH_ORIGINAL_COMMAND.; exit 3\"");
    assert_eq!(
        run(&server, &[], &["rm -rf /"]),
        (Some(3), "forced, rm -rf /.\n".to_owned())
    );
    assert_eq!(run(&server, &["-T"], &[]), (Some(3), "forced, .\n".to_owned()));
    let (status, out) = run(&server, &["-s"], &["sftp"]);
    assert_eq!(
        (status, out.as_str()),
        (Some(3), "forced, /usr/lib/openssh/sftp-server.\n")
    );
}

#[test]
fn a_key_is_good_only_from_where_and_while_it_is_meant() {
    assert!(gets_in(&with_options("from=\"127.0.0.0/8,!127.0.0.9\"")));
    assert!(!gets_in(&with_options("from=\"10.*,!127.0.0.1\"")));
    assert!(gets_in(&with_options("expiry-time=\"20991231\"")));
    let expired = with_options("expiry-time=\"20200101\"");
    assert!(!gets_in(&expired));
    let what = expired.init.event("ssh.refused");
    assert!(what.str("what").contains("its time has run out"), "{what:?}");
}

#[test]
fn restrict_leaves_commands_and_what_is_given_back() {
    let server = with_options("restrict");
    assert!(gets_in(&server));
    assert!(!has_terminal(&server));
    let forward = output(server.ssh(&["-v", "-W", &format!("127.0.0.1:{}", server.port)], &[]));
    assert!(!forward.status.success() && text(&forward.stderr).contains("administratively prohibited"));
    assert!(has_terminal(&with_options("restrict,pty")));
}

#[test]
fn an_option_that_cannot_be_carried_out_refuses_the_key_by_name() {
    let dir = directory();
    keygen(&[
        "-q",
        "-N",
        "",
        "-t",
        "ed25519",
        "-f",
        &dir.join("k").to_string_lossy(),
    ]);
    let key = fs::read_to_string(dir.join("k.pub")).unwrap();
    let mut plan = Plan::default();
    plan.ssh.authorized_keys = vec![format!("verify-required {key}")];
    fs::write(dir.join("plan.json"), serde_json::to_string(&plan).unwrap()).unwrap();
    let ended = output(sshd(&dir));
    assert_eq!(ended.status.code(), Some(1));
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn a_certificate_lets_in_the_users_it_names() {
    let server = server(|public, plan| plan.ssh.user_authorities = vec![public("ca")]);
    assert!(!gets_in(&server), "the bare key got in");
    certify(&server.dir, "ca", &["-n", "root,somebody", "-V", "-1h:+1h"]);
    assert!(gets_in(&server));
    let login = server.init.event("ssh.login");
    assert_eq!(
        (login.str("certificate"), login.u64("serial")),
        ("night shift", Some(7))
    );
    assert!(has_terminal(&server));
    for (by, words) in [
        ("ca", &["-n", "somebody", "-V", "-1h:+1h"][..]),
        ("ca", &["-V", "-1h:+1h"]),
        ("ca", &["-n", "root", "-V", "-2h:-1h"]),
        ("ca", &["-n", "root", "-V", "+1h:+2h"]),
        ("ca", &["-n", "root", "-h", "-V", "-1h:+1h"]),
        ("rogue", &["-n", "root", "-V", "-1h:+1h"]),
        ("ca", &["-n", "root", "-O", "source-address=10.0.0.0/8"]),
        ("ca", &["-n", "root", "-O", "critical:unheard@of=yes"]),
        ("ca", &["-n", "root", "-O", "verify-required"]),
    ] {
        certify(&server.dir, by, words);
        assert!(!gets_in(&server), "{by} {words:?}");
    }
}

#[test]
fn a_certificate_allows_what_its_extensions_say_and_forces_its_command() {
    let server = server(|public, plan| {
        plan.ssh.authorized_keys = vec![format!(
            "cert-authority,principals=\"night,day\",no-agent-forwarding {}",
            public("ca")
        )];
    });
    certify(
        &server.dir,
        "ca",
        &[
            "-n",
            "night",
            "-O",
            "clear",
            "-O",
            "source-address=127.0.0.0/8,::1/128",
        ],
    );
    assert!(gets_in(&server));
    assert!(!has_terminal(&server));
    let target = format!("127.0.0.1:{}", server.port);
    assert!(!output(server.ssh(&["-W", &target], &[])).status.success());
    certify(
        &server.dir,
        "ca",
        &[
            "-n",
            "day",
            "-O",
            "force-command=echo $SSH_ORIGINAL_COMMAND forced",
        ],
    );
    assert_eq!(run(&server, &[], &["id"]), (Some(0), "id forced\n".to_owned()));
    certify(&server.dir, "ca", &["-n", "root"]);
    assert!(!gets_in(&server), "principals= was not asked");
}

#[test]
fn users_with_a_role_have_their_program_and_nothing_else() {
    let server = server(|public, plan| {
        plan.ssh.authorized_keys = vec![public("ed25519")];
        plan.ssh.status_keys = vec![public("other")];
    });
    for key in ["ed25519", "other"] {
        let as_status = |options: &[&str], words: &[&str]| {
            let options: Vec<&str> = ["-l", "status"]
                .into_iter()
                .chain(options.iter().copied())
                .collect();
            output(server.ssh_as(key, &options, words))
        };
        let (status, out) = said(&as_status(&[], &[]));
        assert!(
            status == Some(0) && out.starts_with("testbox: starting\n"),
            "{key}: {status:?} {out}"
        );
        let json = text(&as_status(&[], &["rescue status --json"]).stdout);
        assert!(json.starts_with('{'), "{json}");
        for words in [&["sh"][..], &["rescue unlock"], &["status; sh"]] {
            let ended = as_status(&[], words);
            assert_eq!(said(&ended), (Some(1), String::new()), "{words:?}");
            assert!(
                text(&ended.stderr).contains("nothing else"),
                "{}",
                text(&ended.stderr)
            );
        }
        assert_eq!(as_status(&["-s"], &["sftp"]).status.code(), Some(1));
        assert!(
            !as_status(&["-W", &format!("127.0.0.1:{}", server.port)], &[])
                .status
                .success()
        );
    }
    let root = output(server.ssh_as("other", &[], &["echo in"]));
    assert_eq!(said(&root), (Some(255), String::new()));
    // Somebody who only looks does not keep the machine from going on.
    assert_eq!(server.init.holds().len(), 0);
}

#[test]
fn the_user_unlock_is_asked_for_a_passphrase_and_holds_the_boot_meanwhile() {
    let server = server(|public, plan| plan.ssh.unlock_keys = vec![public("ed25519")]);
    // Nothing here is locked, or blkid is not here to say so: either way the command's own words come back, not a shell.
    let ended = output(server.ssh(&["-l", "unlock"], &[]));
    assert!(text(&ended.stderr).contains("rescue"), "{}", text(&ended.stderr));
    assert_eq!(server.init.holds(), ["unlock from 127.0.0.1 Exec"]);
    let mut terminal = Terminal::open(server.ssh(&["-tt", "-l", "unlock"], &["sh"]));
    assert_eq!(terminal.child.wait().unwrap().code(), Some(1));
}

#[test]
fn ssh_copy_id_is_told_where_keys_come_from() {
    let server = with_options("no-pty");
    let key = server.dir.join("other.pub");
    let mut command = Command::new("ssh-copy-id");
    command
        .arg("-f")
        .arg("-i")
        .arg(key)
        .args(["-p", &server.port.to_string()]);
    let known = format!("UserKnownHostsFile={}", server.dir.join("known_hosts").display());
    let identity = format!("IdentityFile={}", server.dir.join("ed25519").display());
    for option in [
        &known,
        &identity,
        "IdentitiesOnly=yes",
        "StrictHostKeyChecking=accept-new",
        "BatchMode=yes",
    ] {
        command.args(["-o", option]);
    }
    command.arg("root@127.0.0.1").env("HOME", &server.dir);
    fs::create_dir(server.dir.join(".ssh")).unwrap();
    let ended = output(command);
    assert!(!ended.status.success(), "{}", text(&ended.stdout));
    assert!(
        text(&ended.stderr).contains("keys are not copied to this machine"),
        "{}",
        text(&ended.stderr)
    );
    assert!(!server.dir.join("home/.ssh").exists());
}
