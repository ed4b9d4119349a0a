//! Waiting: always for something, always with an end.

use crate::interrupt;
use anyhow::{Result, bail};
use std::time::{Duration, Instant};

/// How often a condition is looked at.
const PAUSE: Duration = Duration::from_millis(40);

/// A moment after which waiting is over.
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    end: Instant,
    length: Duration,
}

impl Deadline {
    /// `seconds` from now, stretched by `LIFEBOOT_TEST_SLOWNESS` (a factor, 1 when unset) for machines slower than two
    /// ordinary cores.
    pub fn after(seconds: u64) -> Deadline {
        let factor = std::env::var("LIFEBOOT_TEST_SLOWNESS")
            .ok()
            .and_then(|value| value.parse().ok())
            .unwrap_or(1.0_f64);
        let length = Duration::from_secs(seconds).mul_f64(factor.max(0.1));
        Deadline {
            end: Instant::now() + length,
            length,
        }
    }

    /// What is left; zero when it is over.
    pub fn left(&self) -> Duration {
        self.end.saturating_duration_since(Instant::now())
    }

    /// Looks until `look` has something.
    ///
    /// # Errors
    /// The deadline passed (the error names `what` and the time), or `look` itself failed.
    pub fn wait_for<T>(&self, what: &str, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
        loop {
            if let Some(found) = look()? {
                return Ok(found);
            }
            interrupt::check()?;
            if self.left().is_zero() {
                bail!("no {what} within {} s", self.length.as_secs());
            }
            std::thread::sleep(PAUSE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_returned_at_once_and_what_never_comes_is_named() {
        assert_eq!(Deadline::after(0).wait_for("thing", || Ok(Some(7))).unwrap(), 7);
        let error = Deadline::after(0)
            .wait_for::<()>("lease", || Ok(None))
            .unwrap_err();
        assert_eq!(error.to_string(), "no lease within 0 s");
    }
}
