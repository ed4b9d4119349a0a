//! Standard output for people and pipes.
//!
//! `rescue log | head` closes the pipe early; that is the reader's right and no error of ours, so `main`
//! takes a broken pipe as if everything had been written.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _, stderr, stdout};
use std::path::Path;
use std::sync::OnceLock;

/// Where everything is kept that is said, where [`keep`] was asked for.
static KEPT: OnceLock<File> = OnceLock::new();

/// From now on what is said is kept in a file too, at its end, and that nobody hears it is no error.
///
/// # Errors
/// The file cannot be written.
pub fn keep(path: &Path) -> io::Result<()> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    let file = File::options().append(true).create(true).open(path)?;
    // The first one stays.
    KEPT.get_or_init(|| file);
    Ok(())
}

/// Says it where things are kept, and nowhere else.
pub fn note(text: &str) {
    if let Some(mut file) = KEPT.get() {
        ignore(writeln!(file, "{text}"));
    }
}

/// What the reader's ways have to do with us: nothing, where it is kept.
fn heard(said: io::Result<()>) -> io::Result<()> {
    match KEPT.get() {
        Some(_) => Ok(()),
        None => said,
    }
}

/// Prints lines.
///
/// # Errors
/// As the kernel says; see [`is_broken_pipe`].
pub fn lines<'a>(lines: impl IntoIterator<Item = &'a str>) -> io::Result<()> {
    let mut out = stdout().lock();
    for line in lines {
        note(line);
        heard(writeln!(out, "{line}"))?;
    }
    heard(out.flush())
}

/// Prints one line.
///
/// # Errors
/// As the kernel says; see [`is_broken_pipe`].
pub fn line(text: &str) -> io::Result<()> {
    lines([text])
}

/// Prints text as it is.
///
/// # Errors
/// As the kernel says; see [`is_broken_pipe`].
pub fn text(text: &str) -> io::Result<()> {
    let mut out = stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Prints one line on standard error, where a failure to do so could be told to nobody.
pub fn complain(text: &str) {
    note(text.trim_start_matches('\n'));
    ignore(writeln!(stderr().lock(), "{text}"));
}

/// The one place where an error may be dropped: what failed is telling somebody something.
pub fn ignore<T>(result: io::Result<T>) {
    drop(result);
}

/// Whether an error says that nobody reads our output any more. Other pipes and sockets break too; those errors have
/// been given a context that names them.
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let bare = error.chain().count() == 1;
    bare && error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}

/// `text` in lines of at most `width`, all but the first indented. A longer word is left whole.
pub fn wrapped(text: &str, width: usize, indent: usize) -> Vec<String> {
    let start = text.chars().take_while(|c| *c == ' ').count();
    let mut lines = Vec::new();
    let mut line = " ".repeat(start);
    let mut empty = true;
    for word in text.split_whitespace() {
        if !empty && line.chars().count() + 1 + word.chars().count() > width {
            lines.push(std::mem::replace(&mut line, " ".repeat(indent)));
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(word);
        empty = false;
    }
    lines.push(line);
    lines
}

/// Seconds since 1970 as `2025-05-08 14:13:17 UTC`.
///
/// The days are counted in years that begin on the first of March, so that a leap day is the last (Howard Hinnant, "chrono-Compatible
/// Low-Level Date Algorithms").
pub fn date(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let day = days + 719_468;
    let (era, day) = (day / 146_097, day % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    let year = year + era * 400 + next;
    let (hour, minute) = (second / 3600, second / 60 % 60);
    format!(
        "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{:02} UTC",
        second % 60
    )
}

#[cfg(test)]
mod tests {
    use super::{date, wrapped};

    #[test]
    fn long_lines_are_broken_between_words() {
        assert_eq!(wrapped("  one two three", 9, 4), ["  one two", "    three"]);
        assert_eq!(wrapped("averyverylongword a", 5, 2), ["averyverylongword", "  a"]);
        assert_eq!(wrapped("", 5, 2), [""]);
    }

    #[test]
    fn days_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_399, "2000-02-28 23:59:59 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (1_746_713_597, "2025-05-08 14:13:17 UTC"),
            (4_107_542_399, "2100-02-28 23:59:59 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 UTC"),
        ] {
            assert_eq!(date(seconds), text);
        }
    }
}
