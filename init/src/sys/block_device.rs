//! Orders to a block device that nobody wraps: BLKDISCARD, BLKRRPART, and BLKROSET with BLKROGET.
//!
//! Source: the kernel's include/uapi/linux/fs.h. What is discarded may read as anything afterwards, the old bytes included: whoever
//! needs zeros writes them.

use std::os::fd::{AsFd, AsRawFd};

nix::ioctl_write_ptr_bad!(blkdiscard, nix::request_code_none!(0x12, 119), [u64; 2]);
nix::ioctl_none_bad!(blkrrpart, nix::request_code_none!(0x12, 95));
nix::ioctl_write_ptr_bad!(blkroset, nix::request_code_none!(0x12, 93), i32);
nix::ioctl_read_bad!(blkroget, nix::request_code_none!(0x12, 94), i32);

/// Whether the kernel lets anybody write to a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writes {
    /// As usual.
    Allowed,
    /// Refused, whoever asks.
    Refused,
}

/// Tells the device that `length` bytes from `start` on are not needed any more.
///
/// # Errors
/// The kernel's; EOPNOTSUPP from a device that does not know the order.
pub fn discard(device: impl AsFd, start: u64, length: u64) -> std::io::Result<()> {
    let range = [start, length];
    // SAFETY: the kernel reads the two numbers of `range`, which lives until the call returns, and writes nothing to memory of ours.
    unsafe { blkdiscard(device.as_fd().as_raw_fd(), &range) }?;
    Ok(())
}

/// Has the kernel read the partition table again.
///
/// # Errors
/// The kernel's; EBUSY while a partition is in use, EINVAL for what cannot have partitions.
pub fn reread_partitions(device: impl AsFd) -> std::io::Result<()> {
    // SAFETY: this order has no argument; the kernel touches no memory of ours.
    unsafe { blkrrpart(device.as_fd().as_raw_fd()) }?;
    Ok(())
}

/// Sets what `writes` says and returns how it was before.
///
/// # Errors
/// The kernel's; EACCES from a device that is read-only by itself.
pub fn writes(device: impl AsFd, writes: Writes) -> std::io::Result<Writes> {
    let device = device.as_fd().as_raw_fd();
    let (mut before, wanted) = (0, i32::from(writes == Writes::Refused));
    // SAFETY: the kernel writes one int to `before`, which lives until the call returns.
    unsafe { blkroget(device, &mut before) }?;
    // SAFETY: the kernel reads the int `wanted`, which lives until the call returns, and writes nothing to memory of ours.
    unsafe { blkroset(device, &wanted) }?;
    Ok(if before == 0 {
        Writes::Allowed
    } else {
        Writes::Refused
    })
}
