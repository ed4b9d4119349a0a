//! A file as a read-only block device: LOOP_CTL_GET_FREE and LOOP_CONFIGURE.
//!
//! Source: the kernel's include/uapi/linux/loop.h. The device clears itself when its last user lets go (LO_FLAGS_AUTOCLEAR), so the
//! returned descriptor must live until the mount stands.

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

nix::ioctl_none_bad!(loop_ctl_get_free, 0x4C82);
nix::ioctl_write_ptr_bad!(loop_configure, 0x4C0A, LoopConfig);

const LO_FLAGS_READ_ONLY: u32 = 1;
const LO_FLAGS_AUTOCLEAR: u32 = 4;
const NAME: usize = 64;

/// `struct loop_info64`
#[repr(C)]
struct LoopInfo64 {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; NAME],
    crypt_name: [u8; NAME],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config`
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo64,
    reserved: [u64; 8],
}

/// A loop device and the descriptor that keeps it.
pub struct LoopDevice {
    /// `/dev/loopN`
    pub path: PathBuf,
    #[expect(
        dead_code,
        reason = "held, not read: closing it would clear the device before it is mounted"
    )]
    descriptor: OwnedFd,
}

/// Makes a read-only loop device of `file`, under `name` for whoever lists loop devices.
///
/// # Errors
/// The kernel's; EBUSY (another process took the free device first) is tried again.
pub fn attach(file: BorrowedFd<'_>, name: &str) -> Result<LoopDevice, Errno> {
    let control = open("/dev/loop-control", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    loop {
        let number = free_number(control.as_fd())?;
        let path = PathBuf::from(format!("/dev/loop{number}"));
        let descriptor = open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        match configure(descriptor.as_fd(), &config(file, name)) {
            Err(Errno::BUSY) => continue,
            Err(error) => return Err(error),
            Ok(()) => return Ok(LoopDevice { path, descriptor }),
        }
    }
}

fn config(file: BorrowedFd<'_>, name: &str) -> LoopConfig {
    let mut file_name = [0; NAME];
    // The last byte stays zero: the kernel copies it as a C string.
    for (to, from) in file_name[..NAME - 1].iter_mut().zip(name.bytes()) {
        *to = from;
    }
    LoopConfig {
        fd: file.as_raw_fd().unsigned_abs(),
        block_size: 0,
        info: LoopInfo64 {
            device: 0,
            inode: 0,
            rdevice: 0,
            offset: 0,
            size_limit: 0,
            number: 0,
            encrypt_type: 0,
            encrypt_key_size: 0,
            flags: LO_FLAGS_READ_ONLY | LO_FLAGS_AUTOCLEAR,
            file_name,
            crypt_name: [0; NAME],
            encrypt_key: [0; 32],
            init: [0; 2],
        },
        reserved: [0; 8],
    }
}

fn free_number(control: BorrowedFd<'_>) -> Result<i32, Errno> {
    // SAFETY: LOOP_CTL_GET_FREE takes no argument and returns a number; no memory of ours is touched.
    unsafe { loop_ctl_get_free(control.as_raw_fd()) }.map_err(errno)
}

fn configure(device: BorrowedFd<'_>, config: &LoopConfig) -> Result<(), Errno> {
    // SAFETY: the kernel reads one `struct loop_config` behind the pointer, which outlives the call, and writes nothing.
    unsafe { loop_configure(device.as_raw_fd(), config) }.map_err(errno)?;
    Ok(())
}

fn errno(error: nix::errno::Errno) -> Errno {
    Errno::from_raw_os_error(error as i32)
}
