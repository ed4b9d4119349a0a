//! What a Raspberry Pi's firmware says and is told, as pure functions: the mailbox, the boot order, the board's revision, the
//! bootloader's configuration; and the boot entries of UEFI firmware.
//!
//! Host and device share it: the same table explains a `BOOT_ORDER` where it is made and where it is read.

pub mod boot_order;
pub mod eeprom;
pub mod mailbox;
pub mod revision;
pub mod throttled;
pub mod uefi;
