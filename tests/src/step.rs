//! Steps that say what they do and how long it took: what `make` prints.

use anyhow::Result;
use std::time::Instant;

/// Runs `work`, printing `what` with its time when it is done, or why it failed.
///
/// # Errors
/// Those of `work`.
pub fn step<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    let result = work();
    let seconds = start.elapsed().as_secs_f64();
    match &result {
        Ok(_) => println!("{seconds:7.1} s  {what}"),
        // At once: other steps may go on for minutes before it can be told by them.
        Err(error) => println!("{seconds:7.1} s  {what}: FAILED: {error:#}"),
    }
    result
}
