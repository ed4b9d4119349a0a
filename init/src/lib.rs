//! PID 1 and the boot pipeline.
//!
//! Two processes of the one executable live here: [`supervise`] is PID 1, [`boot`] is its child that runs the stages. Facts flow
//! down: a stage takes what the stages before returned and reads nothing again.
#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod block;
pub mod board;
pub mod boot;
pub mod control;
pub mod firmware;
pub mod key_partition;
pub mod luks;
pub mod lvm;
pub mod modules;
pub mod report;
pub mod secret;
pub mod supervise;
pub mod tang;
pub mod uplink;
pub mod stage {
    //! One file a stage, in the order of the boot.
    pub mod devices;
    pub mod fetch;
    pub mod handover;
    pub mod mount;
    pub mod network;
    pub mod plan;
    pub mod time;
    pub mod verify;
}
mod sys;

pub use sys::terminal_input::type_in;
