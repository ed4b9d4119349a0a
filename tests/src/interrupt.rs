//! Ctrl-C: whatever waits gives up, programs that were started are told to end, and everything is tidied on the way out.
//!
//! Guests need nothing here: they end when their value is dropped. Programs do, because somebody may interrupt this process
//! alone, and not the whole terminal.

use crate::process::may_fail;
use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use tokio::signal::unix::{SignalKind, signal};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);
static RUNNING: Mutex<Vec<u32>> = Mutex::new(Vec::new());

/// A program that is told to end when somebody presses Ctrl-C, for as long as this value lives.
#[derive(Debug)]
pub(crate) struct Running(u32);

impl Running {
    pub(crate) fn is(pid: u32) -> Running {
        RUNNING.lock().unwrap_or_else(PoisonError::into_inner).push(pid);
        Running(pid)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        RUNNING
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|pid| *pid != self.0);
    }
}

/// From now on, SIGINT and SIGTERM make whatever waits give up.
///
/// # Errors
/// The signals cannot be had.
pub fn catch() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("signals")?;
    let (mut interrupt, mut terminate) = {
        let _guard = runtime.enter();
        (
            signal(SignalKind::interrupt()).context("SIGINT")?,
            signal(SignalKind::terminate()).context("SIGTERM")?,
        )
    };
    std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        });
        INTERRUPTED.store(true, Ordering::SeqCst);
        for pid in RUNNING.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            if let Ok(pid) = i32::try_from(*pid) {
                may_fail("ending a program", kill(Pid::from_raw(pid), Signal::SIGTERM));
            }
        }
    });
    Ok(())
}

/// Whether somebody has.
pub fn happened() -> bool {
    INTERRUPTED.load(Ordering::SeqCst)
}

/// Gives up if somebody has.
///
/// # Errors
/// Somebody has.
pub fn check() -> Result<()> {
    ensure!(!happened(), "interrupted");
    Ok(())
}
