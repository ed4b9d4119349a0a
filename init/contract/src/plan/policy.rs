//! What follows from success and from failure: when the boot goes on, and how often it tries.

use serde::{Deserialize, Serialize};

/// `lifeboot.hold=`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Hold {
    /// Sessions are cut at handover.
    Never,
    /// The last session's end, or `rescue boot`, lets the boot go on.
    #[default]
    Session,
    /// Only `rescue boot` does.
    Always,
}

/// `lifeboot.on-failure=`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// Stay reachable.
    #[default]
    Rescue,
    /// Start over.
    Reboot,
}

/// `lifeboot.retry=`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Retry {
    /// For as long as it takes.
    #[default]
    Forever,
    /// This often after the first time.
    Times(u32),
}

/// `lifeboot.tang=`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tang {
    /// The servers that a volume of the plan is bound to are asked for their part of its key.
    #[default]
    On,
    /// No server is asked.
    Off,
}
