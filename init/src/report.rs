//! How a stage tells the world what happens: events and reports, to PID 1 or to a test.

use lifeboot_contract::control::Report;
use lifeboot_contract::event::{Event, Failure, Level, Stage};
use std::error::Error;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Where events and reports go.
pub trait Sink: Send + Sync {
    /// Takes an event; must not fail, must not block for long.
    fn event(&self, event: Event);
    /// Takes a report.
    fn report(&self, report: Report);
}

/// A handle that every stage gets; cheap to clone, usable from threads.
#[derive(Clone)]
pub struct Reporter {
    sink: Arc<dyn Sink>,
}

impl Reporter {
    /// A reporter that writes to `sink`.
    pub fn new(sink: Arc<dyn Sink>) -> Reporter {
        Reporter { sink }
    }

    /// Sends an event.
    pub fn event(&self, event: Event) {
        self.sink.event(event);
    }

    /// Sends a report.
    pub fn report(&self, report: Report) {
        self.sink.report(report);
    }

    /// An event at level info, to be filled and sent: `reporter.event(info("network.lease").with(…))`.
    pub fn debug(&self, name: &str) -> Event {
        Event::new(now_ms(), Level::Debug, name)
    }

    /// An event for the person at the console.
    pub fn info(&self, name: &str) -> Event {
        Event::new(now_ms(), Level::Info, name)
    }

    /// An event that somebody should know of.
    pub fn warn(&self, name: &str) -> Event {
        Event::new(now_ms(), Level::Warn, name)
    }

    /// An event that somebody has to act on.
    pub fn error(&self, name: &str) -> Event {
        Event::new(now_ms(), Level::Error, name)
    }

    /// The one place where a result may be ignored: what went wrong becomes an event of level debug.
    pub fn ignore<T, E: Error + 'static>(&self, what: &str, result: Result<T, E>) {
        if let Err(error) = result {
            self.event(
                self.debug("child.error")
                    .with("what", format!("{what}: {}", chain(&error))),
            );
        }
    }
}

/// Ignores a result where no reporter is at hand and nothing can be done: what went wrong goes to the kernel log, for `dmesg`.
pub fn unheeded<T, E: std::fmt::Display>(what: &str, result: Result<T, E>) {
    if let Err(error) = result
        && let Ok(mut log) = std::fs::OpenOptions::new().write(true).open("/dev/kmsg")
    {
        // The last resort has no further one.
        drop(std::io::Write::write_all(
            &mut log,
            format!("<7>lifeboot: {what}: {error}\n").as_bytes(),
        ));
    }
}

/// Milliseconds since the kernel started (CLOCK_BOOTTIME).
pub fn now_ms() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32).as_millis() as u64
}

/// An error and its sources, joined by `: `; the one place where that is done in this crate.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// Makes a [`Failure`]: `failure(Stage::Fetch, "root.squashfs: 404")`.
pub fn failure(stage: Stage, what: impl Into<String>) -> Failure {
    Failure {
        stage,
        what: what.into(),
        cause: None,
        hint: None,
    }
}

/// Adds causes and hints to a [`Failure`].
pub trait FailureExt {
    /// With the chain of an error as its cause.
    #[must_use]
    fn because(self, error: &(dyn Error + 'static)) -> Failure;
    /// With an instruction.
    #[must_use]
    fn hint(self, hint: &str) -> Failure;
}

impl FailureExt for Failure {
    fn because(mut self, error: &(dyn Error + 'static)) -> Failure {
        self.cause = Some(chain(error));
        self
    }

    fn hint(mut self, hint: &str) -> Failure {
        self.hint = Some(hint.to_owned());
        self
    }
}

/// A sink that remembers, for tests.
#[derive(Default)]
pub struct Memory {
    events: Mutex<Vec<Event>>,
    reports: Mutex<Vec<Report>>,
}

impl Memory {
    /// The events so far.
    pub fn events(&self) -> Vec<Event> {
        self.events
            .lock()
            .map(|events| events.clone())
            .unwrap_or_default()
    }

    /// The reports so far.
    pub fn reports(&self) -> Vec<Report> {
        self.reports
            .lock()
            .map(|reports| reports.clone())
            .unwrap_or_default()
    }
}

impl Sink for Memory {
    fn event(&self, event: Event) {
        if let Ok(mut events) = self.events.lock() {
            events.push(event);
        }
    }

    fn report(&self, report: Report) {
        if let Ok(mut reports) = self.reports.lock() {
            reports.push(report);
        }
    }
}
