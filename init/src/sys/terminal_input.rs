//! Typing on a terminal's behalf: TIOCSTI, for keys that were read while something else was expected.
//!
//! Source: the kernel's drivers/tty/tty_io.c (tiocsti). Since 6.2 only a process with CAP_SYS_ADMIN may, where
//! dev.tty.legacy_tiocsti is off; rescue has it.

use std::os::fd::{AsFd, AsRawFd};

nix::ioctl_write_ptr_bad!(tiocsti, nix::libc::TIOCSTI, u8);

/// Puts `keys` into the terminal's input as if they had just been typed.
///
/// # Errors
/// The kernel's; EPERM or EIO for a process that may not.
pub fn type_in(terminal: impl AsFd, keys: &[u8]) -> std::io::Result<()> {
    for key in keys {
        // SAFETY: the kernel reads the one byte of `key`, which lives until the call returns, and writes nothing to memory of ours.
        unsafe { tiocsti(terminal.as_fd().as_raw_fd(), key) }?;
    }
    Ok(())
}
