//! Much at a time, asked of any ssh server by unmodified clients: many sessions, many files.

use crate::deadline::Deadline;
use crate::process::{self, Outcome, may_fail};
use anyhow::{Context, Result, bail, ensure};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// What each session says when it is there.
const THERE: &str = "there\n";
/// Bytes each session sends afterwards.
const BYTES: usize = 500_000;
/// Small files in a folder.
const IN_A_FOLDER: usize = 100;

/// Runs `count` sessions that are all there before one of them goes on, and compares what each said and how it ended. `ssh` is the client
/// for a line of the shell; what it says lies in `dir` meanwhile.
///
/// # Errors
/// One did not come or end within `seconds`, or with another's output or status.
pub fn sessions_at_once(count: u8, dir: &Path, seconds: u64, ssh: impl Fn(&str) -> Command) -> Result<()> {
    let mut sessions = Vec::new();
    for number in 1..=count {
        let letter = letter(number);
        let line = format!(
            "echo there; read word; head -c {BYTES} /dev/zero | tr '\\000' {letter}; echo $word >&2; exit {number}"
        );
        sessions.push(Session::start(number, dir, ssh(&line))?);
    }
    let all = Deadline::after(seconds);
    for session in &mut sessions {
        session.is_there(all)?;
    }
    for session in &mut sessions {
        let word = format!("word {}\n", session.number);
        let mut input = session.child.stdin.take().context("no input")?;
        input.write_all(word.as_bytes()).context("ssh")?;
    }
    for session in &mut sessions {
        let number = session.number;
        let outcome = session.end(all)?;
        ensure!(
            outcome.status == Some(i32::from(number)),
            "session {number}: status {:?}: {}",
            outcome.status,
            outcome.errors()
        );
        ensure!(
            outcome.errors() == format!("word {number}\n"),
            "session {number}: {}",
            outcome.errors()
        );
        let (there, bytes) = outcome.stdout.split_at(THERE.len().min(outcome.stdout.len()));
        let own = bytes.iter().filter(|byte| **byte == letter(number) as u8).count();
        ensure!(
            there == THERE.as_bytes() && (own, bytes.len()) == (BYTES, BYTES),
            "session {number}: {} bytes, {own} of them its own",
            bytes.len()
        );
    }
    Ok(())
}

fn letter(number: u8) -> char {
    char::from(b'a' + number % 26)
}

/// A session whose output goes to files.
struct Session {
    number: u8,
    child: Child,
    output: PathBuf,
    errors: PathBuf,
}

impl Session {
    fn start(number: u8, dir: &Path, mut command: Command) -> Result<Session> {
        let (output, errors) = (
            dir.join(format!("session-{number}")),
            dir.join(format!("session-{number}.errors")),
        );
        let file = |path: &Path| File::create(path).with_context(|| path.display().to_string());
        let child = command
            .stdin(Stdio::piped())
            .stdout(file(&output)?)
            .stderr(file(&errors)?)
            .spawn()
            .context("could not run: ssh")?;
        Ok(Session {
            number,
            child,
            output,
            errors,
        })
    }

    fn is_there(&mut self, deadline: Deadline) -> Result<()> {
        deadline.wait_for(&format!("session {}", self.number), || {
            let said = fs::read(&self.output).context("output")?;
            if said == THERE.as_bytes() {
                return Ok(Some(()));
            }
            if let Some(status) = self.child.try_wait()? {
                let errors = fs::read_to_string(&self.errors).context("errors")?;
                bail!("session {} ended with {status}: {errors}", self.number);
            }
            Ok(None)
        })
    }

    fn end(&mut self, deadline: Deadline) -> Result<Outcome> {
        let status = deadline.wait_for(&format!("end of session {}", self.number), || {
            Ok(self.child.try_wait()?)
        })?;
        Ok(Outcome {
            status: status.code(),
            stdout: fs::read(&self.output).context("output")?,
            stderr: fs::read(&self.errors).context("errors")?,
        })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // It has ended already when all is well.
        may_fail("killing ssh", self.child.kill());
        may_fail("waiting for ssh", self.child.wait());
    }
}

/// Copies `count` small files to `there` and back with rsync, and compares. `shell` is what rsync calls, `there` its name of a directory on
/// the other side that does not exist yet; the files lie below `dir`.
///
/// # Errors
/// rsync failed, or what came back is not what went.
pub fn small_files_there_and_back(count: usize, dir: &Path, shell: &str, there: &str) -> Result<()> {
    let (local, back) = (dir.join("many"), dir.join("many-back"));
    for number in 0..count {
        let folder = local.join(format!("{}", number / IN_A_FOLDER));
        fs::create_dir_all(&folder).context("many")?;
        fs::write(folder.join(format!("{number}")), format!("file {number}\n")).context("many")?;
    }
    let rsync = |from: &str, to: &str| {
        let arguments = ["-a", "-e", shell, from, to];
        process::run("rsync", arguments)
    };
    rsync(&format!("{}/", local.display()), &format!("{there}/"))?;
    rsync(&format!("{there}/"), &format!("{}/", back.display()))?;
    process::run("diff", [Path::new("-r"), &local, &back])?;
    let listed = process::run("find", [&back.to_string_lossy(), "-type", "f"])?;
    ensure!(
        listed.lines().count() == count,
        "{} of {count} files came back",
        listed.lines().count()
    );
    Ok(())
}
