//! Standard output for people and pipes.
//!
//! `rescue log | head` closes the pipe early; that is the reader's right and no error of ours, so `main`
//! takes a broken pipe as if everything had been written.

use std::io::{self, ErrorKind, Write as _, stderr, stdout};

/// Prints lines.
///
/// # Errors
/// As the kernel says; see [`is_broken_pipe`].
pub fn lines<'a>(lines: impl IntoIterator<Item = &'a str>) -> io::Result<()> {
    let mut out = stdout().lock();
    for line in lines {
        writeln!(out, "{line}")?;
    }
    out.flush()
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
