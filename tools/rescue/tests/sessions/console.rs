//! The console, played on a pseudo-terminal.

use crate::server::rescue;
use crate::ssh_terminal::{SLEEPER, until_gone, until_in_foreground};
use crate::stand_in::{LOOK, PATIENCE, StandIn, directory, until};
use lifeboot_contract::password::PasswordHash;
use lifeboot_contract::plan::{Console, Plan};
use lifeboot_contract::status::{LockedVolume, Phase};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use std::fs;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// A person at a console.
struct Person {
    dir: PathBuf,
    init: StandIn,
    line: OwnedFd,
    console: Child,
    seen: String,
}

impl Person {
    fn sit_down(phase: Phase) -> Person {
        Person::sit_down_with(phase, &Plan::default())
    }

    fn sit_down_with(phase: Phase, plan: &Plan) -> Person {
        let dir = directory();
        fs::write(dir.join("plan.json"), serde_json::to_string(plan).unwrap()).unwrap();
        let init = StandIn::listen(&dir);
        init.set_phase(phase);
        let line = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&line).unwrap();
        unlockpt(&line).unwrap();
        fcntl_setfl(&line, OFlags::RDWR | OFlags::NONBLOCK).unwrap();
        let name = ptsname(&line, Vec::new()).unwrap().into_string().unwrap();
        let console = rescue()
            .args(["console", &name])
            .env("LIFEBOOT_RUN", &dir)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Person {
            dir,
            init,
            line,
            console,
            seen: String::new(),
        }
    }

    fn type_in(&self, keys: &str) {
        rustix::io::write(&self.line, keys.as_bytes()).unwrap();
    }

    /// Reads on until `words` are there, and forgets everything up to them, which is returned.
    fn until(&mut self, words: &str) -> String {
        self.until_while(words, |_| ())
    }

    /// As [`Person::until`], pressing Enter every now and then: a console that does not ask for it throws it away while it writes.
    fn until_by_enter(&mut self, words: &str) -> String {
        let mut looks = 0;
        self.until_while(words, |person| {
            if looks % 50 == 0 {
                person.type_in("\r");
            }
            looks += 1;
        })
    }

    fn until_while(&mut self, words: &str, mut work: impl FnMut(&Person)) -> String {
        let start = Instant::now();
        loop {
            work(self);
            let mut buffer = [0; 4096];
            // Nothing there, or nobody has the terminal open, which it is between a shell and the next prompt.
            if let Ok(count) = rustix::io::read(&self.line, &mut buffer) {
                self.seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
            if let Some(at) = self.seen.find(words) {
                return self.seen.drain(..at + words.len()).collect();
            }
            assert!(start.elapsed() < PATIENCE, "no '{words}' in: {}", self.seen);
            std::thread::sleep(LOOK);
        }
    }
}

impl Drop for Person {
    fn drop(&mut self) {
        self.console.kill().unwrap();
        self.console.wait().unwrap();
        if !std::thread::panicking() {
            fs::remove_dir_all(&self.dir).unwrap();
        }
    }
}

fn waiting() -> Phase {
    let device = Some("/dev/no-such-disk".to_owned());
    Phase::WaitingForPassphrase {
        volumes: vec![LockedVolume {
            device,
            uuid: "0-1".to_owned(),
            name: "luks-0-1".to_owned(),
        }],
    }
}

#[test]
fn enter_gives_a_shell_with_job_control_that_holds_the_boot() {
    let mut person = Person::sit_down(Phase::Rescue);
    for _ in 0..2 {
        // Long lines are wrapped, whatever the firmware has set.
        person.until("\u{1b}[?7h");
        person.until("testbox: in rescue\r\n");
        person.until("Please press Enter");
        person.type_in("typed before\r");
        person.until("\r\n");
        person.init.until_held(1);
        person.type_in(&format!("tty; stty size; set -m; {SLEEPER}\r"));
        person.until("/dev/pts/");
        person.until("runs ");
        let id = person.until("\r\n").trim().to_owned();
        until_in_foreground(&id);
        person.type_in("\x03");
        until_gone(&id);
        person.type_in("echo st''atus $?\r");
        person.until("status 130");
        person.type_in("exit\r");
        person.init.until_held(0);
    }
    assert!(
        person
            .init
            .holds()
            .iter()
            .all(|who| who.starts_with("root on pts/") && who.ends_with(" Console"))
    );
}

#[test]
fn while_the_boot_waits_the_passphrase_is_asked_for_and_not_shown() {
    let mut person = Person::sit_down(waiting());
    person.until("Passphrase for /dev/no-such-disk (UUID 0-1) (empty: a shell): ");
    person.type_in("geheim\r");
    person.until("Checking");
    person.until("Not unlocked: ");
    person.until("no such block device");
    assert!(!person.seen.contains("geheim"));
    person.until("(empty: a shell): ");
    person.type_in("\r");
    person.init.until_held(1);
    person.type_in("exit\r");
    person.init.until_held(0);
}

#[test]
fn the_question_comes_and_goes_with_the_need() {
    let mut person = Person::sit_down(Phase::Rescue);
    person.until("Please press Enter");
    person.init.set_phase(waiting());
    person.until("(empty: a shell): ");
    person.type_in("half a passphr");
    person.init.set_phase(Phase::Rescue);
    person.until("unlocked from elsewhere");
    person.until("Please press Enter");
    until("no session", || person.init.holds().is_empty());
}

/// The last of the questions about what is at the other end.
const WHAT_ARE_YOU: &str = "\x1b[c";

/// For less than so long a terminal may be silent.
const SILENCE: Duration = Duration::from_millis(600);

/// Somebody whose terminal has said that it has 43 lines of 132 characters.
fn with_a_large_terminal() -> Person {
    let mut made = None;
    until("an answer in time", || {
        let person = made.insert(Person::sit_down(Phase::Rescue));
        person.until("Please press Enter");
        let before = Instant::now();
        person.type_in("\r");
        person.until(WHAT_ARE_YOU);
        person.type_in("\x1b[43;132R\x1b[?62;1;2c");
        before.elapsed() < SILENCE
    });
    made.unwrap()
}

#[test]
fn a_terminal_that_says_what_it_is_has_its_own_size_and_one_that_is_silent_the_usual_one() {
    let mut person = with_a_large_terminal();
    person.init.until_held(1);
    person.type_in("stty size; echo $TERM.\r");
    person.until("43 132\r\nvt220.");
    person.type_in("exit\r");
    person.until("Please press Enter");
    person.type_in("\r");
    person.until(WHAT_ARE_YOU);
    person.init.until_held(1);
    person.type_in("stty size; echo $TERM.\r");
    person.until("24 80\r\nvt220.");
    person.type_in("exit\r");
    person.init.until_held(0);
}

fn guarded() -> Plan {
    let hash = PasswordHash::made_of(b"sesame", 64, 1, 1, b"somesaltsomesalt").unwrap();
    Plan {
        console: Console::Password(hash),
        ..Plan::default()
    }
}

#[test]
fn the_right_password_gives_a_shell_and_a_wrong_one_a_pause() {
    let mut person = Person::sit_down_with(Phase::Rescue, &guarded());
    for keys in ["sesamE\r", "\r", "\x03"] {
        person.until("Please press Enter");
        person.type_in("\r");
        person.until("Password: ");
        person.type_in(keys);
    }
    person.init.event("console.refused");
    assert!(!person.seen.contains("sesam"), "{}", person.seen);
    assert!(person.init.holds().is_empty());
    person.until("Please press Enter");
    person.type_in("\r");
    person.until("Password: ");
    person.type_in("sesame\r");
    person.init.until_held(1);
    person.init.event("console.login");
    person.type_in("echo in''side\r");
    person.until("inside");
    person.type_in("exit\r");
    person.init.until_held(0);
}

#[test]
fn a_disk_can_be_unlocked_without_the_password_that_the_shell_wants() {
    let mut person = Person::sit_down_with(waiting(), &guarded());
    person.until("(empty: a shell): ");
    person.type_in("geheim\r");
    person.until("Not unlocked: ");
    person.until("(empty: a shell): ");
    person.type_in("\r");
    person.until("Password: ");
    person.type_in("geheim\r");
    person.until("Wrong password.");
    assert!(person.init.holds().is_empty());
}

fn shut() -> Plan {
    Plan {
        console: Console::Shut,
        ..Plan::default()
    }
}

#[test]
fn a_console_whose_password_is_not_known_gives_no_shell_and_invites_nobody() {
    let mut person = Person::sit_down_with(Phase::Rescue, &guarded());
    for words in ["Please press Enter", "Password: "] {
        let said = person.until(words);
        assert!(!said.contains("No shell"), "{said}");
        person.type_in("\r");
    }
    assert!(person.init.holds().is_empty());
    let mut person = Person::sit_down_with(Phase::Rescue, &shut());
    for _ in 0..2 {
        let said = person.until_by_enter("No shell here: ");
        assert!(!said.contains("press Enter"), "{said}");
    }
    assert!(person.init.holds().is_empty());
}

#[test]
fn a_console_without_a_shell_still_unlocks_and_promises_none() {
    for (plan, otherwise) in [(guarded(), " (empty: a shell): "), (shut(), ": ")] {
        let mut person = Person::sit_down_with(waiting(), &plan);
        let said = person.until("Passphrase for /dev/no-such-disk (UUID 0-1)");
        assert_eq!(said.contains("No shell here: "), plan.console == Console::Shut);
        assert_eq!(person.until(otherwise), otherwise);
        person.type_in("geheim\r");
        person.until("Not unlocked: ");
    }
}
