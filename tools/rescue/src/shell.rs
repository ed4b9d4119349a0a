//! Which shell people get: bash where the image has it, since it completes what they type, else busybox's.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

const WANTED: &str = "/bin/bash";
const ALWAYS: &str = "/bin/sh";

/// The one locale that an image has, whatever a client's LANG asks for: without it Backspace takes half a letter away, and tmux does not start.
pub const LOCALE: (&str, &str) = ("LC_ALL", "C.UTF-8");

/// The path of the shell for logins and consoles. Found out when the first one is wanted, since nothing may delay the ssh server.
pub fn interactive() -> &'static str {
    static CHOSEN: OnceLock<&str> = OnceLock::new();
    CHOSEN.get_or_init(|| if starts(WANTED) { WANTED } else { ALWAYS })
}

/// Of an initramfs that was cut off the program may be there and its libraries not.
fn starts(shell: &str) -> bool {
    let mut command = Command::new(shell);
    command.args(["-c", ":"]).stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
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
fn a_shell_that_cannot_start_is_not_taken() {
    assert!(starts("/bin/sh"));
    assert!(!starts("/bin/false") && !starts("/no/such/shell"));
}

#[test]
fn a_login_shell_is_named_with_a_dash() {
    assert_eq!(login_name(OsStr::new("/bin/sh")), "-sh");
}
