//! End to end: an image as the builder makes it, booted in QEMU, used by unmodified clients.
//!
//! One module for each subject; tests come in pairs that differ by one fact. What takes longest is ignored here and run by
//! `make test-all`. A test that could not run fails, beginning with "could not run".
#![forbid(unsafe_code)]

mod arm64;
mod backup;
mod console;
mod deploy;
mod disks;
mod features;
mod fetch;
mod fsck;
mod full_os;
mod handover;
mod initramfs;
mod key_partition;
mod luks;
mod lvm;
mod machine;
mod mount;
mod network;
mod pi3;
mod pi4;
mod pi_boot;
mod policy;
mod raspios;
mod serving;
mod shell;
mod ssh;
mod ssh_access;
mod ssh_arm64;
mod ssh_load;
mod supervision;
mod tang;
mod tunnel;
mod unlock;
mod verify;
mod world;
