//! The harness of the end-to-end tests: guests in QEMU, real clients, servers that misbehave.
//!
//! Everything a test asserts comes from events ([`lifeboot_contract::event`]) or from what an unmodified client saw; console
//! wording is only printed when something failed. The one thing a reader would get wrong: nothing here is ever run
//! with KVM, because a `/dev/kvm` that exists need not work.
#![forbid(unsafe_code)]

pub mod artefacts;
pub mod bad_cable;
pub mod bastion;
pub mod cpio;
pub mod deadline;
pub mod fault_server;
pub mod fixtures;
pub mod guest;
pub mod interrupt;
pub mod lan;
pub mod load;
pub mod loopback;
pub mod process;
pub mod scanner;
pub mod step;
