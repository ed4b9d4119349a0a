//! Running the image's own tools: found where the image has them, speaking English, their output caught.

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};
use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// Where the image keeps programs. A console or PID 1 may have no `PATH` at all.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// `name` with `args`, not started yet.
pub fn command<S: AsRef<OsStr>>(name: &str, args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(name);
    command
        .args(args)
        .env("PATH", search_path())
        .env("LC_ALL", "C")
        .stdin(Stdio::null());
    command
}

/// Runs it to the end.
///
/// # Errors
/// When it cannot be started; how it ends is the caller's to judge.
pub fn run(mut command: Command) -> anyhow::Result<Output> {
    let name = command.get_program().display().to_string();
    command.output().context(name)
}

fn search_path() -> String {
    match std::env::var("PATH") {
        Ok(path) if !path.is_empty() => format!("{path}:{PATH}"),
        _ => PATH.to_owned(),
    }
}

/// Where a program is, if the image has it.
pub fn place(name: &str) -> Option<PathBuf> {
    let path = search_path();
    let mut places = path.split(':').map(|dir| Path::new(dir).join(name));
    places.find(|place| place.is_file())
}

/// A program did not end in time.
#[derive(Debug)]
pub struct Late(Duration);

impl fmt::Display for Late {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no answer within {} s", self.0.as_secs())
    }
}

impl std::error::Error for Late {}

/// How often it is looked whether it has ended.
const LOOK: Duration = Duration::from_millis(250);
/// Nobody looks so late, except on a machine that stood still: one that is emulated or was paused, whose host did something else.
const STANDSTILL: Duration = Duration::from_secs(1);

/// Runs it to the end, but not longer than `limit`, in which a standstill of the whole machine hardly counts: then it is killed and not waited for, since what waits for a disk inside the
/// kernel does not die.
///
/// # Errors
/// When it cannot be started; [`Late`] when it did not end.
pub fn run_within(mut command: Command, limit: Duration) -> anyhow::Result<Output> {
    let name = command.get_program().display().to_string();
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().with_context(|| name.clone())?;
    let id = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        // Nobody may listen any more.
        drop(sender.send(child.wait_with_output()));
    });
    match within(limit, &receiver) {
        Some(ended) => ended.context(name),
        None => {
            if let Some(id) = id {
                crate::output::ignore(kill_process(id, Signal::KILL).map_err(std::io::Error::from));
            }
            Err(anyhow::Error::new(Late(limit)).context(name))
        }
    }
}

/// What comes within `limit`.
fn within<T>(limit: Duration, receiver: &Receiver<T>) -> Option<T> {
    let mut left = limit;
    while !left.is_zero() {
        let begun = Instant::now();
        match receiver.recv_timeout(left.min(LOOK)) {
            Ok(found) => return Some(found),
            Err(RecvTimeoutError::Disconnected) => return None,
            Err(RecvTimeoutError::Timeout) => left = left.saturating_sub(counted(begun.elapsed())),
        }
    }
    None
}

/// How much of what a look took counts. Of a standstill something does, so that there is an end in any case.
fn counted(took: Duration) -> Duration {
    if took < STANDSTILL { took } else { LOOK / 4 }
}

/// The last line that a tool said, for a sentence of ours.
pub fn last_words(output: &Output) -> String {
    let last = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes).into_owned();
        text.lines()
            .map(str::trim)
            .rfind(|line| !line.is_empty())
            .map(str::to_owned)
    };
    last(&output.stderr).or_else(|| last(&output.stdout)).map_or_else(
        || output.status.to_string(),
        |line| line.trim_end_matches('.').to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_end_is_left_behind_and_what_ends_is_heard() {
        let shell = |script| command("sh", ["-c", script]);
        let ended = run_within(shell("echo here"), Duration::from_secs(30)).unwrap();
        assert_eq!(ended.stdout, b"here\n");
        let error = run_within(shell("exec sleep 60"), Duration::from_millis(50)).unwrap_err();
        assert!(error.is::<Late>() && error.chain().count() == 2, "{error:#}");
    }

    #[test]
    fn silence_counts_and_a_machine_that_stood_still_was_not_silent() {
        let sum =
            |took: &[u64]| -> Duration { took.iter().map(|ms| counted(Duration::from_millis(*ms))).sum() };
        assert_eq!(sum(&[250, 251, 252, 700]), Duration::from_millis(1453));
        assert!(sum(&[250, 9_000]) < Duration::from_millis(500));
        assert!(sum(&[9_000; 200]) > Duration::from_secs(8));
    }

    #[test]
    fn a_program_is_found_only_where_it_is() {
        assert!(place("sh").is_some_and(|place| place.is_absolute()));
        assert_eq!(place("no-such-program"), None);
    }
}
