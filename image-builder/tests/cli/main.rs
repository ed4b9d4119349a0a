//! The real binary: goldens, hostile input, and the rule that the same input gives the same bytes. No network.
//!
//! `UPDATE_GOLDEN=1 cargo test` rewrites the goldens; read the difference before it is kept.
#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on says where"
)]

mod build;
mod inspect;
mod sign;
mod squashfs;
mod support;
