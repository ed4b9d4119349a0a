//! Restarting with a word for the firmware: reboot(2), LINUX_REBOOT_CMD_RESTART2.
//!
//! What the word means is the board's: on a Raspberry Pi it is a partition's number, and ` tryboot` behind it (drivers/watchdog/bcm2835_wdt.c
//! and drivers/firmware/raspberrypi.c in raspberrypi/linux). Elsewhere it is not looked at.

use nix::libc;
use std::ffi::CString;
use std::io;

/// include/uapi/linux/reboot.h
const MAGIC1: u32 = 0xfee1_dead;
const MAGIC2: u32 = 672_274_793;
const RESTART2: u32 = 0xa1b2_c3d4;

/// Restarts; returns only when the kernel does not.
///
/// # Errors
/// InvalidInput for a word with a zero byte in it; EPERM; EINVAL in a process namespace.
pub(crate) fn restart_with(word: &str) -> io::Result<()> {
    let word = CString::new(word)?;
    // SAFETY: with this command the kernel reads the zero-terminated string behind the last argument, 256 bytes at most; it outlives the
    // call. No memory of ours is written.
    let result = unsafe { libc::syscall(libc::SYS_reboot, MAGIC1, MAGIC2, RESTART2, word.as_ptr()) };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
