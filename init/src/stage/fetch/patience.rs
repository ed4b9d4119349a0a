//! Pauses between attempts, and when to stop trying.

use super::Means;
use lifeboot_contract::event::Event;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// Counts attempts in a row that brought nothing new.
pub(super) struct Patience<'m> {
    means: &'m Means<'m>,
    /// The most bytes ever held: only more than that is progress, or a server that always cuts at the same place would be asked
    /// for ever.
    best: u64,
    idle: u32,
}

/// No further attempt is worth it.
pub(super) struct Exhausted {
    /// Attempts without progress.
    pub(super) tries: u32,
}

impl<'m> Patience<'m> {
    pub(super) fn new(means: &'m Means<'m>) -> Patience<'m> {
        Patience {
            means,
            best: 0,
            idle: 0,
        }
    }

    /// Takes note of an attempt that failed with `held` bytes in hand, and sleeps unless it was the last. `asked` is the pause the
    /// server wishes for.
    pub(super) fn stumble(
        &mut self,
        url: &str,
        held: u64,
        what: &str,
        asked: Option<Duration>,
    ) -> Result<(), Exhausted> {
        if held > self.best {
            self.best = held;
            self.idle = 0;
        }
        self.idle += 1;
        let limits = self.means.limits;
        let most = if self.best > 0 {
            limits.tries_held
        } else {
            limits.tries
        };
        if self.idle >= most {
            return Err(Exhausted { tries: self.idle });
        }
        let pause = self
            .pause()
            .max(asked.unwrap_or_default().min(limits.longest_pause));
        self.means.reporter.event(self.event(url, held, what, pause));
        std::thread::sleep(pause);
        Ok(())
    }

    /// Doubles with every idle attempt; a quarter more or less by chance, so that a rack of machines does not come back at once.
    fn pause(&self) -> Duration {
        let limits = self.means.limits;
        let doubled = limits.first_pause.saturating_mul(1 << (self.idle - 1).min(16));
        let chance = RandomState::new().build_hasher().finish() % 512;
        doubled.min(limits.longest_pause) * (768 + chance as u32) / 1024
    }

    fn event(&self, url: &str, held: u64, what: &str, pause: Duration) -> Event {
        let reporter = self.means.reporter;
        let text = format!("fetch: {what}; next try in {:.1} s", pause.as_secs_f64());
        reporter
            .warn("fetch.retry")
            .with("url", url)
            .with("at", held)
            .with("try", self.idle)
            .with("pause_ms", pause.as_millis() as u64)
            .with("what", what)
            .text(text)
    }
}
