//! The hardware watchdog: a machine that hangs is restarted.
//!
//! Source: the kernel's Documentation/watchdog/watchdog-api.rst. Two ways to let go: writing `V` first stops the hardware (magic
//! close), closing without it leaves the timer running for whoever opens the device next.

use rustix::fs::{Mode, OFlags, open};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;

nix::ioctl_readwrite!(set_timeout, b'W', 6, i32);
nix::ioctl_read!(get_support, b'W', 0, Support);

/// `struct watchdog_info`
#[repr(C)]
pub struct Support {
    options: u32,
    firmware_version: u32,
    identity: [u8; 32],
}

/// An armed watchdog.
pub(crate) struct Watchdog {
    file: File,
    /// Seconds until it fires, as the driver rounded them.
    pub timeout_s: u32,
    /// The driver's name for the hardware.
    pub identity: String,
}

impl Watchdog {
    /// Opens and thereby arms `/dev/watchdog`.
    ///
    /// # Errors
    /// ENOENT where there is none (yet), EBUSY where somebody else pets it.
    pub(crate) fn open(timeout_s: u32) -> io::Result<Watchdog> {
        let file = File::from(open(
            "/dev/watchdog",
            OFlags::WRONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )?);
        let mut seconds = i32::try_from(timeout_s).unwrap_or(i32::MAX);
        // SAFETY: WDIOC_SETTIMEOUT reads and writes one int behind the pointer, which outlives the call.
        let granted = unsafe { set_timeout(file.as_raw_fd(), &mut seconds) };
        // A driver with a fixed timeout refuses the call; petting every second is safe with any hardware known.
        let timeout_s = if granted.is_ok() {
            seconds.unsigned_abs()
        } else {
            timeout_s
        };
        let identity = identity(&file);
        Ok(Watchdog {
            file,
            timeout_s,
            identity,
        })
    }

    /// Starts the time anew.
    ///
    /// # Errors
    /// The driver's.
    pub(crate) fn pet(&mut self) -> io::Result<()> {
        self.file.write_all(b"\0")
    }

    /// Stops the hardware, where the driver can, and lets go.
    ///
    /// # Errors
    /// The driver's.
    pub(crate) fn disarm(mut self) -> io::Result<()> {
        self.file.write_all(b"V")
    }
}

fn identity(file: &File) -> String {
    let mut support = Support {
        options: 0,
        firmware_version: 0,
        identity: [0; 32],
    };
    // SAFETY: WDIOC_GETSUPPORT writes one `struct watchdog_info` behind the pointer, which outlives the call.
    let known = unsafe { get_support(file.as_raw_fd(), &mut support) };
    match known {
        Ok(_) => String::from_utf8_lossy(&support.identity)
            .trim_end_matches('\0')
            .to_owned(),
        Err(_) => String::new(),
    }
}
