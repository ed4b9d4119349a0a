//! A command that is ended by a signal says what it leaves behind.

use crate::output;
use anyhow::Context as _;
use nix::sys::signal::{SigSet, Signal};
use std::fs;

/// From now on Ctrl-C, a lost terminal (unless that is ignored, as nohup(1) has it) and SIGTERM end the program with exit code 1
/// after `leaves` has put in order what there is to put in order, and has said how things stand then. Threads that were started
/// before are not asked: call it early.
///
/// # Errors
/// The kernel's.
pub fn on_signal(leaves: impl FnOnce() -> String + Send + 'static) -> anyhow::Result<()> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    if !hangup_is_ignored() {
        signals.add(Signal::SIGHUP);
    }
    signals.thread_block().context("signals")?;
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            if let Ok(signal) = signals.wait() {
                let left = leaves();
                output::complain(&format!("\nrescue: ended by {signal}; {left}"));
                std::process::exit(1);
            }
        })
        .context("signals")?;
    Ok(())
}

fn hangup_is_ignored() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & 1 == 1)
}
