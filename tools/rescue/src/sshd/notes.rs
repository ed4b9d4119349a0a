//! What PID 1 is told of logins, logouts and refusals: each is an event, but a scan must not push everything else out of the ring.

use super::hold;
use crate::control;
use lifeboot_contract::event::{Event, Level};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::sleep;

/// Refusals told one by one within [`WINDOW`]; more are counted, and their number is told at its end.
const MOST_REFUSALS: u32 = 10;
const WINDOW: Duration = Duration::from_secs(60);

/// Tells PID 1.
#[derive(Debug, Clone)]
pub struct Notes {
    run_dir: PathBuf,
    refusals: Arc<Mutex<u32>>,
}

impl Notes {
    /// For the init that listens in `run_dir`.
    pub fn new(run_dir: PathBuf) -> Notes {
        Notes {
            run_dir,
            refusals: Arc::default(),
        }
    }

    /// Tells an event.
    pub fn tell(&self, event: Event) {
        hold::tell(&self.run_dir, event);
    }

    /// Something about this server itself is not as it should be.
    pub fn warn(&self, what: String, text: String) {
        let event = control::event(Level::Warn, "child.error")
            .with("child", "sshd")
            .with("what", what);
        self.tell(event.text(text));
    }

    /// Tells a refusal, or counts it.
    pub fn refusal(&self, event: Event) {
        let count = {
            let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
            *refusals = refusals.saturating_add(1);
            *refusals
        };
        if count == 1 {
            tokio::spawn(self.clone().end_window());
        }
        if count <= MOST_REFUSALS {
            self.tell(event);
        }
    }

    async fn end_window(self) {
        sleep(WINDOW).await;
        let count = std::mem::take(&mut *self.refusals.lock().unwrap_or_else(PoisonError::into_inner));
        let untold = count.saturating_sub(MOST_REFUSALS);
        if untold > 0 {
            let what = format!("{untold} more in the last {} s", WINDOW.as_secs());
            let event = control::event(Level::Info, "ssh.refused")
                .with("count", untold)
                .with("what", what);
            self.tell(event);
        }
    }
}
