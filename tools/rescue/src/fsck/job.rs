//! One device being checked: its checkers run here, what they say goes to the log, how long it takes is shown.

use super::Wish;
use super::kernel::Kernel;
use super::log::Log;
use crate::disks::Disk;
use crate::interrupts::Interrupts;
use crate::ticker::{Ticker, clock};
use crate::{tool, work};
use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};
use std::io::{Read, Write as _};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How much of what a checker says is looked at by us.
const HEARD: usize = 256 << 10;
/// Between two looks whether it has ended.
const PAUSE: Duration = Duration::from_millis(50);
/// What takes longer than this is spoken of.
const SHORT: Duration = Duration::from_secs(2);

/// One device and what is wished for it.
pub struct Job<'a> {
    pub disk: &'a Disk,
    pub wish: &'a Wish,
    interrupts: &'a Interrupts,
    kernel: Kernel,
    log: Mutex<Log>,
}

/// How a program ended.
#[derive(Debug, Default)]
pub struct Ran {
    /// Its exit code; `None`: a signal ended it.
    pub code: Option<i32>,
    /// The beginning of what it said, both outputs.
    pub said: String,
    /// Whether somebody asked for its end.
    pub stopped: bool,
}

/// Hundredths of a percent, from whoever reads what the checker says.
type Share = AtomicU32;

impl<'a> Job<'a> {
    /// Nothing has been done yet.
    pub fn new(disk: &'a Disk, all: &[Disk], wish: &'a Wish, interrupts: &'a Interrupts) -> Job<'a> {
        let title = format!("rescue fsck {}", wish.words(&disk.device).join(" "));
        Job {
            disk,
            wish,
            interrupts,
            kernel: Kernel::listen(disk, all),
            log: Mutex::new(Log::begin(&disk.device, &title)),
        }
    }

    /// Whether somebody has asked for the end of everything.
    pub fn is_stopped(&self) -> bool {
        self.interrupts.count() > 0
    }

    /// How many errors of the disk itself the kernel has told of since this was asked last; they are in the log.
    pub fn errors_of_disk(&self) -> usize {
        let errors = self.kernel.errors();
        for error in &errors {
            self.note(&format!("the kernel: {error}"));
        }
        errors.len()
    }

    /// The last words of the log.
    pub fn end(&self, text: &str) {
        self.log().end(text);
    }

    /// A line of ours in the log.
    pub fn note(&self, text: &str) {
        self.log().line(text);
    }

    /// Runs a program to its end.
    ///
    /// # Errors
    /// When it cannot be started; how it ends is the caller's to judge.
    pub fn run(&self, doing: &str, words: &[String]) -> anyhow::Result<Ran> {
        self.run_answering(doing, words, "")
    }

    /// The same of one that asks. `answers` must fit into a pipe; without any it reads nothing.
    ///
    /// # Errors
    /// As [`Job::run`].
    pub fn run_answering(&self, doing: &str, words: &[String], answers: &str) -> anyhow::Result<Ran> {
        let (name, arguments) = words.split_first().context("no program")?;
        self.note(&format!("$ {}", words.join(" ")));
        let mut command = tool::command(name, arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        if !answers.is_empty() {
            command.stdin(Stdio::piped());
        }
        let mut child = command.spawn().with_context(|| name.clone())?;
        if let Some(mut input) = child.stdin.take() {
            // One that has ended by itself has nothing to ask.
            crate::output::ignore(input.write_all(answers.as_bytes()));
        }
        let outputs = (child.stdout.take(), child.stderr.take());
        let (share, heard) = (Share::new(0), Mutex::new(Vec::new()));
        let hear = |bytes: &[u8]| self.hear(bytes, &heard);
        let (status, stopped) = std::thread::scope(|scope| {
            if let Some(output) = outputs.0 {
                scope.spawn(|| listen(output, None, hear));
            }
            if let Some(output) = outputs.1 {
                scope.spawn(|| listen(output, Some(&share), hear));
            }
            self.wait(doing, &mut child, &share)
        })
        .with_context(|| name.clone())?;
        self.note(&format!("[{status}]"));
        let heard = heard.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(Ran {
            code: status.code(),
            said: String::from_utf8_lossy(&heard).into_owned(),
            stopped,
        })
    }

    fn hear(&self, bytes: &[u8], heard: &Mutex<Vec<u8>>) {
        self.log().add(bytes);
        let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
        let room = HEARD.saturating_sub(heard.len()).min(bytes.len());
        heard.extend_from_slice(&bytes[..room]);
    }

    fn wait(&self, doing: &str, child: &mut Child, share: &Share) -> std::io::Result<(ExitStatus, bool)> {
        let begun = Instant::now();
        // Of an earlier program, and heard by it.
        let before = self.interrupts.count();
        let mut passed_on = before;
        let mut pause = Duration::from_millis(2);
        let mut ticker = Ticker::new();
        loop {
            if let Some(status) = child.try_wait()? {
                ticker.clear();
                return Ok((status, passed_on > before));
            }
            // A checker that has not heard the first time hears it again with the next Ctrl-C.
            let asked = self.interrupts.count();
            if asked > passed_on {
                passed_on = asked;
                work::disown(&self.disk.device);
                let id = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
                if let Some(id) = id {
                    crate::output::ignore(kill_process(id, Signal::INT).map_err(std::io::Error::from));
                }
            }
            if begun.elapsed() >= SHORT && ticker.due() {
                let line = sentence(
                    &self.disk.device,
                    doing,
                    begun.elapsed(),
                    share.load(Ordering::Relaxed),
                );
                ticker.show(&line);
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(PAUSE);
        }
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads to the end, so that the program never waits for a reader. Lines by which e2fsck tells how far it is are not passed on.
fn listen(mut output: impl Read, share: Option<&Share>, hear: impl Fn(&[u8])) {
    let mut buffer = [0; 8192];
    let mut line: Vec<u8> = Vec::new();
    while let Ok(count @ 1..) = output.read(&mut buffer) {
        let bytes = buffer.get(..count).unwrap_or_default();
        let Some(share) = share else {
            hear(bytes);
            continue;
        };
        line.extend_from_slice(bytes);
        while let Some(end) = line.iter().position(|byte| *byte == b'\n') {
            let whole: Vec<u8> = line.drain(..=end).collect();
            match progress(&whole) {
                Some(far) => share.store(far, Ordering::Relaxed),
                None => hear(&whole),
            }
        }
        if line.len() > buffer.len() {
            hear(&std::mem::take(&mut line));
        }
    }
    if !line.is_empty() {
        hear(&line);
    }
}

/// e2fsck's `-C`: pass, position, end, device. The passes take about these shares of the time.
fn progress(line: &[u8]) -> Option<u32> {
    const ENDS: [u64; 6] = [0, 7000, 9000, 9200, 9500, 10_000];
    let text = std::str::from_utf8(line).ok()?;
    let words: Vec<&str> = text.split_whitespace().collect();
    let [pass, at, end] = words.get(..3)? else {
        return None;
    };
    let numbers = (
        pass.parse::<usize>().ok()?,
        at.parse::<u64>().ok()?,
        end.parse::<u64>().ok()?,
    );
    let (pass, at, end) = numbers;
    if words.len() > 4 || end == 0 || at > end {
        return None;
    }
    let (from, to) = (ENDS.get(pass.checked_sub(1)?)?, ENDS.get(pass)?);
    u32::try_from(u128::from(to - from) * u128::from(at) / u128::from(end) + u128::from(*from)).ok()
}

/// `/dev/vda: repairing, 34 %, 12 s, 23 s left`
fn sentence(device: &str, doing: &str, since: Duration, share: u32) -> String {
    let seconds = since.as_secs();
    let text = format!("{device}: {doing}");
    match u64::from(share) {
        0 => format!("{text}, {}", clock(seconds)),
        share => {
            let left = seconds * 10_000_u64.saturating_sub(share) / share;
            format!(
                "{text}, {} %, {}, {} left",
                share / 100,
                clock(seconds),
                clock(left)
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e2fsck_tells_how_far_it_is() {
        assert_eq!(progress(b"1 50 100 /dev/vda\n"), Some(3500));
        assert_eq!(progress(b"2 1 2\n"), Some(8000));
        assert_eq!(progress(b"5 9 9 /dev/vda\n"), Some(10_000));
        for other in [
            "",
            "Pass 1: Checking",
            "0 1 2",
            "6 1 2",
            "1 3 2",
            "1 1 0",
            "1 2 3 4 5",
            "1 -1 5 x",
        ] {
            assert_eq!(progress(other.as_bytes()), None, "{other}");
        }
        assert_eq!(
            progress(b"1 18446744073709551615 18446744073709551615 x"),
            Some(7000)
        );
    }

    #[test]
    fn what_is_progress_is_not_output_and_the_rest_is_whole() {
        let heard = Mutex::new(Vec::new());
        let share = Share::new(0);
        let said = b"Pass 1\n1 50 100 /dev/vda\nlast words";
        listen(&said[..], Some(&share), |bytes| {
            heard.lock().unwrap().extend_from_slice(bytes)
        });
        assert_eq!(heard.into_inner().unwrap(), b"Pass 1\nlast words");
        assert_eq!(share.into_inner(), 3500);
    }

    #[test]
    fn time_left_is_told_where_the_checker_tells_how_far_it_is() {
        let told = |share| sentence("/dev/vda", "checking", Duration::from_secs(30), share);
        assert_eq!(told(0), "/dev/vda: checking, 30 s");
        assert_eq!(told(2500), "/dev/vda: checking, 25 %, 30 s, 1 min 30 s left");
    }
}
