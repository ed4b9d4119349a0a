//! The real binary: goldens, hostile input, and the rule that the same input gives the same bytes. No network.
//!
//! `UPDATE_GOLDEN=1 cargo test` rewrites the goldens; read the difference before it is kept.
#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on says where"
)]

mod boot_img;
mod boot_sig;
mod build;
mod check_kernel;
mod eeprom;
mod fetch;
mod from_image;
mod inspect;
mod key_partition;
mod keys;
mod listing;
mod password;
mod pe_stub;
mod run;
mod sign;
mod squashfs;
mod squashfs_hostile;
mod squashfs_image;
mod squashfs_ram;
mod support;
mod tftp_and_disk;
mod uki;
