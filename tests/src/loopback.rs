//! Ports of this machine's loopback.

use anyhow::{Context, Result};
use std::net::{Ipv4Addr, TcpListener};

/// A TCP port that was free a moment ago.
///
/// # Errors
/// No loopback, or no port.
pub fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("loopback")?;
    Ok(listener.local_addr().context("loopback")?.port())
}
