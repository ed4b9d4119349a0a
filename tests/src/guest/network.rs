//! A guest on a test network instead of QEMU's own.

use super::firmware::Firmware;
use crate::bad_cable::BadCable;
use crate::lan::Lan;
use anyhow::Result;
use std::path::{Path, PathBuf};

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

/// QEMU's arguments for what the card, `n0`, is cabled to; `user` are the options of QEMU's own network.
pub(super) fn back(network: Option<&Network>, cable: Option<&Path>, user: &str) -> Vec<String> {
    let back = match (network, cable) {
        (Some(network), _) => format!("tap,id=n0,ifname={},script=no,downscript=no", network.tap),
        (None, Some(cable)) => return BadCable::arguments(cable, user),
        (None, None) => format!("user,id=n0{user}"),
    };
    vec!["-netdev".to_owned(), back]
}
