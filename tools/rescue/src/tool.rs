//! Running the image's own tools: found where the image has them, speaking English, their output caught.

use anyhow::Context as _;
use std::ffi::OsStr;
use std::process::{Command, Output, Stdio};

/// Where the image keeps programs. A console or PID 1 may have no `PATH` at all.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// `name` with `args`, not started yet.
pub fn command<S: AsRef<OsStr>>(name: &str, args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(name);
    let path = match std::env::var("PATH") {
        Ok(path) if !path.is_empty() => format!("{path}:{PATH}"),
        _ => PATH.to_owned(),
    };
    command
        .args(args)
        .env("PATH", path)
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
