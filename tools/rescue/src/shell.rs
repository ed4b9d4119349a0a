//! Which shell people get: bash where the image has it, since it completes what they type, else busybox's.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;

const WANTED: &str = "/bin/bash";
const ALWAYS: &str = "/bin/sh";

/// The path of the shell for logins and consoles.
pub fn interactive() -> &'static str {
    if Path::new(WANTED).exists() {
        WANTED
    } else {
        ALWAYS
    }
}

/// The name with a dash before it by which a shell knows that it is a login shell.
pub fn login_name(shell: &OsStr) -> OsString {
    let name = shell
        .as_bytes()
        .rsplit(|byte| *byte == b'/')
        .next()
        .unwrap_or_default();
    OsString::from_vec([b"-", name].concat())
}

#[test]
fn a_login_shell_is_named_with_a_dash() {
    assert_eq!(login_name(OsStr::new("/bin/sh")), "-sh");
}
