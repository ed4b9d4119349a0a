//! The only unsafe code of the project: kernel interfaces that neither rustix nor nix wraps, one a file.
#![expect(
    unsafe_code,
    reason = "ioctls; every block says what the kernel reads and writes"
)]

pub(crate) mod block_device;
pub(crate) mod loop_device;
pub(crate) mod mailbox;
pub(crate) mod net;
pub(crate) mod restart;
pub(crate) mod terminal_input;
pub(crate) mod watchdog;
