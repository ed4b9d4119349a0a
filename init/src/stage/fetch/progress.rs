//! What people and machines see while bytes come in.

use super::ByteLen;
use crate::report::Reporter;
use std::time::{Duration, Instant};

/// Least time between two events.
const EVENT: Duration = Duration::from_millis(500);
/// Least time between two sentences on the console, which also want a tenth of the file between them ...
const SENTENCE: Duration = Duration::from_secs(2);
/// ... unless this much time has passed: a slow link must not look dead, and a quick one must not fill the screen.
const SIGN_OF_LIFE: Duration = Duration::from_secs(30);

/// Rate and share of a fetch, reported now and then.
pub(super) struct Progress {
    url: String,
    event: (Instant, u64),
    sentence: (Instant, u64),
}

impl Progress {
    pub(super) fn new(url: String, held: u64) -> Progress {
        let now = Instant::now();
        Progress {
            url,
            event: (now, held),
            sentence: (now, held),
        }
    }

    /// `held` bytes are there of `total`.
    pub(super) fn tick(&mut self, held: u64, total: Option<u64>, reporter: &Reporter) {
        self.tick_at(Instant::now(), held, total, reporter);
    }

    fn tick_at(&mut self, now: Instant, held: u64, total: Option<u64>, reporter: &Reporter) {
        let (last, before) = self.event;
        if now.duration_since(last) < EVENT {
            return;
        }
        self.event = (now, held);
        let spoken = self.speaks(now, held, total);
        let (since, from) = if spoken {
            std::mem::replace(&mut self.sentence, (now, held))
        } else {
            (last, before)
        };
        let rate = rate(held.saturating_sub(from), now.duration_since(since));
        let mut event = match spoken {
            true => reporter.info("fetch.progress").text(sentence(held, total, rate)),
            false => reporter.debug("fetch.progress"),
        };
        event = event
            .with("url", self.url.as_str())
            .with("bytes", held)
            .with("bytes_per_s", rate);
        if let Some(total) = total {
            event = event.with("of", total);
        }
        reporter.event(event);
    }

    fn speaks(&self, now: Instant, held: u64, total: Option<u64>) -> bool {
        let (last, before) = self.sentence;
        let passed = now.duration_since(last);
        let tenth = total.is_some_and(|total| held.saturating_sub(before) >= total / 10);
        passed >= SIGN_OF_LIFE || passed >= SENTENCE && tenth
    }
}

fn sentence(held: u64, total: Option<u64>, rate: u64) -> String {
    match total {
        Some(total) => {
            format!(
                "fetch: {:.1} of {}, {}/s",
                held as f64 / 1e6,
                ByteLen(total),
                ByteLen(rate)
            )
        }
        None => format!("fetch: {}, {}/s", ByteLen(held), ByteLen(rate)),
    }
}

/// Bytes a second.
pub(super) fn rate(bytes: u64, time: Duration) -> u64 {
    (bytes as f64 / time.as_secs_f64().max(1e-3)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Memory;
    use lifeboot_contract::event::Level;
    use std::sync::Arc;

    #[test]
    fn a_sentence_comes_with_time_and_share_and_an_event_every_half_second() {
        let memory = Arc::new(Memory::default());
        let reporter = Reporter::new(memory.clone());
        let mut progress = Progress::new("http://h/os".into(), 0);
        let start = progress.event.0;
        let mut after = |ms: u64, held: u64| {
            let now = start + Duration::from_millis(ms);
            progress.tick_at(now, held, Some(100_000_000), &reporter);
        };
        after(100, 1_000_000);
        after(600, 4_000_000);
        after(2_500, 9_000_000);
        after(3_000, 41_200_000);
        let events = memory.events();
        let levels: Vec<Level> = events.iter().map(|event| event.level).collect();
        assert_eq!(levels, [Level::Debug, Level::Debug, Level::Info]);
        assert_eq!(events[2].u64("bytes"), Some(41_200_000));
        assert!(
            events[2]
                .text
                .as_deref()
                .unwrap()
                .starts_with("fetch: 41.2 of 100.0 MB, 13.7 MB/s")
        );
    }
}
