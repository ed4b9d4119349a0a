//! What is worth new lines on a console, and another invitation.

use crate::control;
use lifeboot_contract::status::{LockedVolume, Phase};
use std::mem::{Discriminant, discriminant};

/// What the console has to say, as far as a change of it is worth new lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown {
    /// The boot goes its way, or PID 1 does not say.
    Progress,
    /// This can be unlocked here.
    Wanted(LockedVolume),
    /// The boot has come to a stop of this kind.
    Stop(Discriminant<Phase>),
}

impl Shown {
    /// As PID 1 says now.
    pub fn now() -> Shown {
        match control::status().map(|status| status.phase) {
            Ok(Phase::Starting | Phase::Booting { .. } | Phase::HandingOver) | Err(_) => Shown::Progress,
            Ok(Phase::WaitingForPassphrase { volumes })
                if volumes.iter().any(|volume| volume.device.is_some()) =>
            {
                let found = volumes.into_iter().find(|volume| volume.device.is_some());
                found.map_or(Shown::Progress, Shown::Wanted)
            }
            Ok(phase) => Shown::Stop(discriminant(&phase)),
        }
    }
}
