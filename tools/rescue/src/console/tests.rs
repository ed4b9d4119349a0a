use super::*;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use std::os::fd::OwnedFd;
use std::sync::mpsc;

#[test]
fn a_serial_line_and_a_screen_are_different_terminals() {
    assert!(is_virtual("tty1"));
    assert!(!is_virtual("ttyS0") && !is_virtual("ttyAMA0") && !is_virtual("hvc0"));
}

/// Somebody, or a script, who presses Enter in the moment in which the invitation can be read.
struct Prompt(OwnedFd);

impl Write for Prompt {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        rustix::io::write(&self.0, b"\r")?;
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn line() -> (OwnedFd, File) {
    let line = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&line).unwrap();
    unlockpt(&line).unwrap();
    let name = ptsname(&line, Vec::new()).unwrap().into_string().unwrap();
    (line, open(name.strip_prefix("/dev/").unwrap()).unwrap())
}

/// What comes of an invitation within a time.
fn invited(
    terminal: File,
    mut out: impl Write + Send + 'static,
    typed_ahead: TypedAhead,
    within: Duration,
) -> Option<Next> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let next = enter(
            terminal.as_fd(),
            &mut out,
            "Please",
            &Shown::Progress,
            typed_ahead,
        );
        drop(sender.send(next.unwrap()));
    });
    receiver.recv_timeout(within).ok()
}

#[test]
fn whoever_answers_the_invitation_at_once_is_not_lost() {
    let (line, terminal) = line();
    let within = Duration::from_secs(20);
    let next = invited(terminal, Prompt(line), TypedAhead::ThrownAway, within);
    assert_eq!(next, Some(Next::Shell));
}

#[test]
fn an_answer_to_the_first_invitation_is_one_to_the_second_and_what_comes_before_the_first_is_none() {
    for (typed_ahead, seconds, next) in [
        (TypedAhead::Kept, 20, Some(Next::Shell)),
        (TypedAhead::ThrownAway, 2, None),
    ] {
        let (line, terminal) = line();
        rustix::io::write(&line, b"\r").unwrap();
        let within = Duration::from_secs(seconds);
        assert_eq!(invited(terminal, io::sink(), typed_ahead, within), next);
    }
}

#[test]
fn a_path_is_taken_for_the_name() {
    assert_eq!(real_name("/dev/ttyS1"), "ttyS1");
    assert_eq!(real_name("hvc0"), "hvc0");
}
