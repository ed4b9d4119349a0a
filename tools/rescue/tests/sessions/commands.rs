//! The commands as a shell sees them: exit codes, and which of the two outputs says what.

use crate::stand_in::{StandIn, directory, output};
use lifeboot_contract::control::{Request, SessionKind};
use lifeboot_contract::event::{Failure, Stage};
use lifeboot_contract::plan::Source;
use lifeboot_contract::status::{Phase, Status};
use std::fs;
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn rescue(dir: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rescue"));
    command.args(words).env("LIFEBOOT_RUN", dir).stdin(Stdio::null());
    command
}

fn stdout(ended: &Output) -> String {
    String::from_utf8_lossy(&ended.stdout).into_owned()
}

fn stderr(ended: &Output) -> String {
    String::from_utf8_lossy(&ended.stderr).into_owned()
}

#[test]
fn help_is_done_and_goes_to_standard_output_and_bad_usage_is_neither() {
    let dir = directory();
    let screen = stdout(&output(rescue(&dir, &[])));
    for words in [&["help"][..], &["--help"], &["-h"]] {
        let ended = output(rescue(&dir, words));
        assert_eq!(
            (ended.status.code(), stdout(&ended), stderr(&ended)),
            (Some(0), screen.clone(), String::new())
        );
    }
    for command in [
        "boot", "disks", "fetch", "fsck", "log", "poweroff", "reboot", "status", "unlock",
    ] {
        assert!(
            screen.contains(&format!("rescue {command}")),
            "{command} is not on the screen"
        );
        let ended = output(rescue(&dir, &["help", command]));
        assert_eq!(ended.status.code(), Some(0), "{command}");
        assert!(
            stdout(&ended).starts_with(&format!("Usage: rescue {command}")),
            "{}",
            stdout(&ended)
        );
    }
    for words in [
        &["nonsense"][..],
        &["status", "--nonsense"],
        &["fetch"],
        &["fsck", "--repair"],
        &["help", "nonsense"],
    ] {
        let ended = output(rescue(&dir, words));
        assert_eq!(
            (ended.status.code(), stdout(&ended)),
            (Some(2), String::new()),
            "{words:?}"
        );
        assert!(!stderr(&ended).is_empty());
    }
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn without_init_a_command_could_not_and_says_what_it_missed() {
    let dir = directory();
    for words in [&["status"][..], &["log"], &["boot"], &["reboot"], &["poweroff"]] {
        let ended = output(rescue(&dir, words));
        assert_eq!(ended.status.code(), Some(1), "{words:?}");
        assert!(
            stderr(&ended).starts_with("rescue: init cannot be reached: "),
            "{}",
            stderr(&ended)
        );
    }
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn status_is_three_lines_or_the_very_type() {
    let dir = directory();
    let init = StandIn::listen(&dir);
    init.set_phase(Phase::Rescue);
    let ended = output(rescue(&dir, &["status"]));
    assert_eq!(stdout(&ended).lines().count(), 3);
    assert!(stdout(&ended).starts_with("testbox: in rescue\n"));
    let status: Status = serde_json::from_slice(&output(rescue(&dir, &["status", "--json"])).stdout).unwrap();
    assert_eq!(status.phase, Phase::Rescue);
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn what_is_told_to_init_is_done_and_what_it_refuses_is_said() {
    let dir = directory();
    let init = StandIn::listen(&dir);
    init.set_phase(Phase::Held {
        source: "http://boot/os".to_owned(),
    });
    let ended = output(rescue(&dir, &["boot"]));
    assert_eq!(
        stdout(&ended),
        "The system is started now: this session is cut.\nDone as told.\n"
    );
    assert!(output(rescue(&dir, &["poweroff"])).status.success());
    let other = output(rescue(&dir, &["boot", "LABEL=other"]));
    assert_eq!(
        stdout(&other),
        "When the system is ready, this session is cut.\nDone as told.\n"
    );
    let root = Source::parse("LABEL=other").ok();
    assert_eq!(
        init.orders(),
        [
            Request::Boot { root: None },
            Request::Poweroff,
            Request::Boot { root }
        ]
    );
    let mistyped = output(rescue(&dir, &["boot", "sda1"]));
    assert_eq!(
        (mistyped.status.code(), init.orders().len()),
        (Some(2), 3),
        "{}",
        stderr(&mistyped)
    );
    let refused = output(rescue(&dir, &["reboot"]));
    assert_eq!(
        (refused.status.code(), stderr(&refused).as_str()),
        (Some(1), "rescue: not today\n")
    );
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn a_boot_that_is_refused_is_an_error_and_nobody_is_told_that_they_are_cut() {
    let dir = directory();
    let init = StandIn::listen(&dir);
    for refused in [false, true] {
        let failure = Failure {
            stage: Stage::Plan,
            what: "x".to_owned(),
            cause: None,
            hint: None,
        };
        init.set_phase(Phase::Failed {
            failure,
            since_ms: 0,
            next_try_ms: None,
            rootless: false,
            refused,
        });
        for words in [&["boot"][..], &["boot", "/dev/no-such-device"]] {
            let ended = output(rescue(&dir, words));
            let said = (stdout(&ended), stderr(&ended));
            if refused {
                assert_eq!(ended.status.code(), Some(1));
                assert_eq!(said, (String::new(), "rescue: not with this plan\n".to_owned()));
            } else {
                assert_eq!(ended.status.code(), Some(0));
                assert_eq!(said.0.contains("is not there now"), words.len() == 2);
                assert!(
                    said.0
                        .starts_with("When the system is ready, this session is cut.\n"),
                    "{}",
                    said.0
                );
            }
        }
    }
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn whoever_switches_off_is_told_how_many_others_are_cut() {
    let dir = directory();
    let init = StandIn::listen(&dir);
    let mut sessions = Vec::new();
    for said in [
        "Done as told.\n",
        "Done as told.\n2 sessions, this one among them, are cut.\n",
    ] {
        sessions.push(hold(&dir));
        init.until_held(sessions.len());
        assert_eq!(stdout(&output(rescue(&dir, &["poweroff"]))), said);
    }
    let refused = output(rescue(&dir, &["reboot"]));
    assert_eq!(stdout(&refused), "", "nobody is cut by what is refused");
    // And the others are told, once: not by somebody who is alone, nor where nothing is started.
    assert!(output(rescue(&dir, &["boot"])).status.success());
    assert_eq!(init.events("session.cut").len(), 1);
    let source = "http://boot/os".to_owned();
    init.set_phase(Phase::Held { source });
    assert!(output(rescue(&dir, &["boot"])).status.success());
    let told = init.events("session.cut")[1].text.clone().unwrap();
    assert!(
        told.starts_with("The system is started now, asked for by root"),
        "{told}"
    );
    fs::remove_dir_all(dir).unwrap();
}

/// Somebody who is logged in, for as long as this is kept.
fn hold(dir: &Path) -> UnixStream {
    let mut stream = UnixStream::connect(dir.join("control")).unwrap();
    let request = Request::Hold {
        who: "somebody".to_owned(),
        kind: SessionKind::Shell,
    };
    writeln!(stream, "{}", serde_json::to_string(&request).unwrap()).unwrap();
    stream
}

#[test]
fn a_reader_who_has_seen_enough_is_no_error() {
    let dir = directory();
    let _init = StandIn::listen(&dir);
    let all = output(rescue(&dir, &["log"]));
    assert_eq!(stdout(&all).lines().count(), 2000);
    let mut head = Command::new("sh");
    let line = format!(
        "{{ {} log; echo $? >&2; }} | head -n 1",
        env!("CARGO_BIN_EXE_rescue")
    );
    head.args(["-c", &line]).env("LIFEBOOT_RUN", &dir);
    let ended = output(head);
    assert_eq!(
        (stdout(&ended).lines().count(), stderr(&ended).as_str()),
        (1, "0\n")
    );
    fs::remove_dir_all(dir).unwrap();
}
