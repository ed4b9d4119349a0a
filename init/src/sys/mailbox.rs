//! The Raspberry Pi firmware's mailbox: IOCTL_MBOX_PROPERTY on /dev/vcio.
//!
//! Source: drivers/char/broadcom/vcio.c of raspberrypi/linux. The driver is in Raspberry Pi's own kernels alone; a kernel from kernel.org talks
//! to the same firmware and has no such device. **Never run on hardware.**

use std::ffi::c_char;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

// The driver's magic number is 100; the size in the number is that of a pointer, not of the buffer.
nix::ioctl_readwrite_bad!(
    mbox_property,
    nix::request_code_readwrite!(100, 0, size_of::<*mut c_char>()),
    u32
);

/// Has the firmware answer a buffer made by `contract::firmware::mailbox::request`, in its place.
///
/// # Errors
/// InvalidInput when the buffer is not as long as it says; the driver's: EINVAL when the firmware did not take it.
pub(crate) fn exchange(device: impl AsFd, buffer: &mut [u32]) -> io::Result<()> {
    let length = size_of_val(buffer);
    if buffer.len() < 3 || buffer.first().map(|bytes| *bytes as usize) != Some(length) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: the driver reads and writes as many bytes behind the pointer as the first word says, which was just compared with
    // the length of `buffer`; the buffer outlives the call.
    unsafe { mbox_property(device.as_fd().as_raw_fd(), buffer.as_mut_ptr()) }?;
    Ok(())
}
