//! How the tunnels to bastions stand.

use super::seconds;
use serde::{Deserialize, Serialize};

/// A reverse tunnel.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunnelStatus {
    /// USER@HOST:PORT
    pub bastion: String,
    /// How it stands.
    pub state: TunnelState,
    /// Since when, milliseconds since the kernel started.
    pub since_ms: u64,
    /// The port on the bastion's loopback that leads here, while it is up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The loopback address its connections come from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<std::net::IpAddr>,
    /// Why it is not up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub what: Option<String>,
}

/// How a tunnel stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TunnelState {
    /// It is tried, again and again.
    #[default]
    Down,
    /// It leads here.
    Up,
    /// It is not kept.
    Off,
}

impl TunnelStatus {
    /// One sentence.
    pub fn line(&self, now_ms: u64) -> String {
        let time = seconds(now_ms.saturating_sub(self.since_ms));
        let why = self
            .what
            .as_deref()
            .map(|what| format!(": {what}"))
            .unwrap_or_default();
        match (self.state, self.port) {
            (TunnelState::Up, Some(port)) => {
                format!(
                    "tunnel to {}: up for {time}, port {port} there leads here",
                    self.bastion
                )
            }
            (TunnelState::Up, None) => format!("tunnel to {}: up for {time}", self.bastion),
            (TunnelState::Down, _) => {
                format!(
                    "tunnel to {}: down for {time}, tried again and again{why}",
                    self.bastion
                )
            }
            (TunnelState::Off, _) => format!("tunnel to {}: not kept{why}", self.bastion),
        }
    }
}
