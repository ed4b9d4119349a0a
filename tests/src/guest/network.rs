//! A guest on a test network instead of QEMU's own.

use super::firmware::Firmware;
use crate::lan::Lan;
use anyhow::Result;
use std::path::PathBuf;

/// A test network: the namespace QEMU runs in and its tap, and the firmware that boots from it, if one does.
#[derive(Debug, Clone)]
pub struct Network {
    /// What boots the guest instead of QEMU.
    pub firmware: Option<Firmware>,
    /// The server's.
    pub namespace: PathBuf,
    /// Its interface there.
    pub tap: String,
}

impl Network {
    /// Cables a guest to `lan`.
    ///
    /// # Errors
    /// Those of ip(8).
    pub fn on(lan: &Lan, firmware: Option<Firmware>) -> Result<Network> {
        Ok(Network {
            firmware,
            namespace: lan.server().namespace(),
            tap: lan.tap()?,
        })
    }
}
