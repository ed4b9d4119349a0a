//! What the lifeboot host writes and the device reads, and what the device's processes say to one another.
//!
//! Pure: no input or output, no clock, no unsafe. The host prints the very plan the device will follow, because both
//! call [`plan::Plan::make`]. The one thing a reader would get wrong: nothing here looks at the machine it runs on;
//! every fact comes in as an argument.
#![forbid(unsafe_code)]
#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod authorized;
pub mod config;
pub mod control;
pub mod event;
pub mod firmware;
pub mod image;
pub mod ip;
pub mod key_partition;
pub mod keys;
pub mod password;
pub mod plan;
pub mod secret;
pub mod status;
pub mod template;
pub mod tunnel;
pub mod version;
pub mod words;

mod base64;
mod root;
mod wire;
