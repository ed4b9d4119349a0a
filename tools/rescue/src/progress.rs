//! How far it is: one line that changes on a terminal, else a line now and then.

use crate::disks::human;
use crate::output;
use crate::ticker::{Ticker, clock};
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The rate is that of so much time.
const WINDOW: Duration = Duration::from_secs(8);

/// What sees how far it is.
pub trait Watch {
    /// So many bytes are done with.
    fn at(&self, bytes: u64);
}

/// What people see, from whichever thread knows more.
pub struct Progress {
    state: Mutex<State>,
}

struct State {
    verb: &'static str,
    /// Of the source, or where there is none of what is done with; time left is by this.
    total: Option<u64>,
    source: u64,
    image: u64,
    ticker: Ticker,
    samples: VecDeque<(Instant, u64, u64)>,
}

impl Progress {
    /// Nothing is shown yet.
    pub fn new() -> Progress {
        Progress {
            state: Mutex::new(State {
                verb: "",
                total: None,
                source: 0,
                image: 0,
                ticker: Ticker::new(),
                samples: VecDeque::new(),
            }),
        }
    }

    /// Something begins that takes its time.
    pub fn begin(&self, verb: &'static str, total: Option<u64>) {
        let mut state = self.state();
        state.verb = verb;
        state.total = total;
        (state.source, state.image) = (0, 0);
        state.ticker.begin();
        state.samples.clear();
        state.samples.push_back((Instant::now(), 0, 0));
    }

    /// So many bytes of the source have come.
    pub fn source(&self, bytes: u64) {
        let mut state = self.state();
        state.source = bytes;
        self.tick(&mut state);
    }

    /// What would be shown if it were time.
    #[cfg(test)]
    pub fn line(&self) -> String {
        self.state().line()
    }

    /// A sentence of somebody else, without the two getting into each other's line.
    pub fn say(&self, text: &str) {
        let mut state = self.state();
        state.ticker.clear();
        output::complain(text);
    }

    /// What takes its time is over.
    pub fn end(&self) {
        self.state().ticker.clear();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tick(&self, state: &mut State) {
        if !state.ticker.due() {
            return;
        }
        let line = state.line();
        state.ticker.show(&line);
    }
}

impl State {
    /// What is shown now, by what was known a while ago.
    fn line(&mut self) -> String {
        let now = Instant::now();
        while self.samples.len() > 1 && now.duration_since(self.samples[0].0) > WINDOW {
            self.samples.pop_front();
        }
        let (since, source, image) = self.samples.front().copied().unwrap_or((now, 0, 0));
        let line = sentence(&Step {
            verb: self.verb,
            total: self.total,
            source: self.source,
            image: self.image,
            came: self.source.saturating_sub(source),
            went: self.image.saturating_sub(image),
            within: now.duration_since(since),
        });
        self.samples.push_back((now, self.source, self.image));
        line
    }
}

impl Watch for Progress {
    fn at(&self, bytes: u64) {
        let mut state = self.state();
        state.image = bytes;
        self.tick(&mut state);
    }
}

/// What a line is made of.
struct Step {
    verb: &'static str,
    total: Option<u64>,
    source: u64,
    image: u64,
    came: u64,
    went: u64,
    within: Duration,
}

fn sentence(step: &Step) -> String {
    let seconds = step.within.as_secs_f64().max(1e-3);
    let rate = human((step.went as f64 / seconds) as u64);
    let mut text = format!("{}: {}, {rate}/s", step.verb, human(step.image));
    // What was read back has no source: the image itself is what is gone through.
    let (done, speed) = match step.source {
        0 => (step.image, step.went as f64 / seconds),
        source => (source, step.came as f64 / seconds),
    };
    let Some(total) = step.total.filter(|total| *total > 0) else {
        return text;
    };
    let done = done.min(total);
    text = format!("{text}, {} %", u128::from(done) * 100 / u128::from(total));
    match (speed > 0.0).then(|| ((total - done) as f64 / speed).ceil() as u64) {
        Some(left) if left < 100 * 3600 => format!("{text}, {} left", clock(left)),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Step = Step {
        verb: "writing",
        total: Some(1000 << 20),
        source: 250 << 20,
        image: 600 << 20,
        came: 100 << 20,
        went: 240 << 20,
        within: Duration::from_secs(4),
    };

    #[test]
    fn time_left_is_by_the_source_and_the_rate_by_the_disk() {
        assert_eq!(sentence(&STEP), "writing: 600 MiB, 60 MiB/s, 25 %, 30 s left");
    }

    #[test]
    fn what_is_not_known_is_not_said() {
        let unknown = Step { total: None, ..STEP };
        assert_eq!(sentence(&unknown), "writing: 600 MiB, 60 MiB/s");
        let stuck = Step {
            came: 0,
            went: 0,
            ..STEP
        };
        assert_eq!(sentence(&stuck), "writing: 600 MiB, 0 B/s, 25 %");
        let back = Step { source: 0, ..STEP };
        assert_eq!(sentence(&back), "writing: 600 MiB, 60 MiB/s, 60 %, 7 s left");
    }
}
