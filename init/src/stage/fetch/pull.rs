//! The loop that gets the bytes: asks, copies, is cut, waits, asks for the rest.

use super::answer::{Answer, Held, Meaning};
use super::follow::Mark;
use super::http::{Rest, Trouble, innermost};
use super::patience::Patience;
use super::progress::{Progress, rate};
use super::{ByteLen, CHUNK, Means, shown};
use crate::report::{FailureExt, failure};
use lifeboot_contract::event::{Failure, Stage};
use reqwest::Url;
use reqwest::blocking::Response;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

/// Where the bytes go.
pub(super) trait Place {
    /// The first byte comes next, of so many, as far as anybody knows.
    fn begins(&self, _total: Option<u64>) -> io::Result<()> {
        Ok(())
    }

    /// Takes the bytes that belong at `at`; they come in order.
    fn put(&self, bytes: &[u8], at: u64) -> io::Result<()>;
}

impl Place for File {
    fn put(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.write_all_at(bytes, at)
    }
}

/// One file on its way; outlives restarts, so that pauses and patience do too.
pub(super) struct Pull<'m> {
    means: &'m Means<'m>,
    name: String,
    url: Url,
    shown: String,
    /// Where redirects led: asked for the rest as long as that brings bytes.
    at: Url,
    held: Held,
    /// The length the signature claims.
    claimed: Option<u64>,
    /// Whether this server can be asked for a part.
    ranges: bool,
    /// Whether it was asked for a part and sent the whole.
    starts_over: bool,
    /// Time without a byte that the last answer has.
    stall: Duration,
    patience: Patience<'m>,
    requests: u64,
    announced: bool,
    /// How long bytes of this pass have been coming: no pauses, and nobody's silence.
    coming: Duration,
    buffer: Vec<u8>,
}

/// How a pass ended.
pub(super) enum End {
    /// All bytes are in the file, this many.
    Whole(u64),
    /// What was held is worth nothing; the answer, if there is one, starts at the first byte.
    Restart(Option<Response>),
}

/// How one answer ended.
enum Copied {
    Whole,
    Short(String),
}

impl<'m> Pull<'m> {
    pub(super) fn new(url: Url, name: String, means: &'m Means<'m>) -> Pull<'m> {
        Pull {
            means,
            name,
            shown: shown(&url),
            at: url.clone(),
            url,
            held: Held::default(),
            claimed: None,
            ranges: true,
            starts_over: false,
            stall: means.limits.stall,
            patience: Patience::new(means),
            requests: 0,
            announced: false,
            coming: Duration::ZERO,
            buffer: vec![0; CHUNK],
        }
    }

    /// Starts a pass with nothing held.
    pub(super) fn begin(&mut self, claimed: Option<u64>) -> Result<(), Failure> {
        self.held = Held::default();
        self.coming = Duration::ZERO;
        self.claimed = claimed;
        self.budget(claimed.unwrap_or(0))
    }

    /// Gets every byte into `place`, telling `mark` how far it is.
    pub(super) fn run(
        &mut self,
        first: Option<Response>,
        place: &dyn Place,
        mark: &Mark,
    ) -> Result<End, Failure> {
        let mut first = first;
        loop {
            let asked = match first.take() {
                Some(answer) => Ok(answer),
                None => self.ask(),
            };
            let answer = match asked {
                Ok(answer) => answer,
                Err(Trouble::Final(failure)) => return Err(failure),
                Err(Trouble::Again(what)) => {
                    self.at = self.url.clone();
                    self.stumble(&what, None)?;
                    continue;
                }
            };
            let head = Answer::read(answer.status(), answer.headers());
            match head.meaning(&self.held) {
                Meaning::Begins => {
                    self.start(&head)?;
                    place
                        .begins(self.held.total)
                        .map_err(|error| self.not_written(&error))?;
                }
                Meaning::GoesOn => self.resume(&head)?,
                Meaning::StartsOver => {
                    // The first such answer came with the short patience.
                    let first_time = !std::mem::replace(&mut self.starts_over, true);
                    let answer = Some(answer).filter(|_| !first_time);
                    return Ok(self.restart("the server does not resume", answer));
                }
                Meaning::Changed => return Ok(self.restart("the file changed on the server", None)),
                Meaning::Complete => return Ok(End::Whole(self.held.bytes)),
                Meaning::BadRange(what) => {
                    self.ranges = false;
                    return Ok(self.restart(&format!("the server sent {what}"), None));
                }
                Meaning::Busy(what) => {
                    self.stumble(&what, head.retry_after)?;
                    continue;
                }
                Meaning::Refused(what) => {
                    self.refused(&what)?;
                    continue;
                }
            }
            match self.copy(answer, place, mark)? {
                Copied::Whole => return Ok(End::Whole(self.held.bytes)),
                Copied::Short(what) => self.stumble(&what, None)?,
            }
        }
    }

    /// Says that everything is there, at the rate at which it came.
    pub(super) fn done(&self, started: Instant) {
        let reporter = self.means.reporter;
        let (bytes, took) = (self.held.bytes, started.elapsed());
        let text = sentence(bytes, self.coming, took);
        let event = reporter
            .info("fetch.done")
            .with("url", self.shown.as_str())
            .with("bytes", bytes);
        reporter.event(
            event
                .with("requests", self.requests)
                .with("ms", took.as_millis() as u64)
                .with("coming_ms", self.coming.as_millis() as u64)
                .text(text),
        );
    }

    fn ask(&mut self) -> Result<Response, Trouble> {
        let rest = (self.held.bytes > 0 && self.ranges).then(|| Rest {
            from: self.held.bytes,
            if_range: self.held.version.if_range(),
        });
        let limits = self.means.limits;
        let (http, stall) = match self.ranges && !self.starts_over {
            true => (self.means.http, limits.stall),
            false => (self.means.http.patient(), limits.stall_without_resuming),
        };
        self.requests += 1;
        self.stall = stall;
        let (answer, at) = http.get(&self.at, rest.as_ref(), self.means)?;
        self.at = at;
        Ok(answer)
    }

    fn start(&mut self, head: &Answer) -> Result<(), Failure> {
        if let (Some(sent), Some(signed)) = (head.total(), self.claimed)
            && sent != signed
        {
            let what = format!("{}: the server has {sent} bytes, {signed} were signed", self.name);
            return Err(failure(Stage::Verify, what));
        }
        self.held.total = head.total().or(self.claimed);
        self.held.version = head.version.clone();
        self.ranges &= !head.refuses_ranges;
        self.budget(self.held.total.unwrap_or(0))?;
        if !self.announced {
            self.announced = true;
            let mut event = self
                .means
                .reporter
                .info("fetch.start")
                .with("url", self.shown.as_str());
            let mut text = format!("fetch: {}", self.shown);
            if let Some(total) = self.held.total {
                event = event.with("bytes", total);
                text = format!("{text} ({})", ByteLen(total));
            }
            self.means.reporter.event(event.text(text));
        }
        Ok(())
    }

    fn resume(&mut self, head: &Answer) -> Result<(), Failure> {
        let reporter = self.means.reporter;
        self.held.total = self.held.total.or(head.total());
        let event = reporter.debug("fetch.resume").with("url", self.shown.as_str());
        reporter.event(event.with("at", self.held.bytes));
        self.budget(self.held.total.unwrap_or(0))
    }

    fn restart(&mut self, what: &str, answer: Option<Response>) -> End {
        let reporter = self.means.reporter;
        let event = reporter.warn("fetch.restart").with("url", self.shown.as_str());
        let event = event.with("held", self.held.bytes).with("what", what);
        reporter.event(event.text(format!("fetch: {what}, starting again from the first byte")));
        End::Restart(answer)
    }

    /// The address behind a redirect may have expired while the first one still stands; no other refusal is asked again.
    fn refused(&mut self, what: &str) -> Result<(), Failure> {
        if self.held.bytes == 0 || self.at == self.url {
            return Err(failure(Stage::Fetch, format!("{}: {what}", self.name)));
        }
        self.stumble(what, None)?;
        self.at = self.url.clone();
        Ok(())
    }

    fn stumble(&mut self, what: &str, asked: Option<std::time::Duration>) -> Result<(), Failure> {
        let end = match self.patience.stumble(&self.shown, self.held.bytes, what, asked) {
            Ok(()) => return Ok(()),
            Err(end) => end,
        };
        let held = match self.held.total {
            Some(total) => format!("got {} of {total} bytes", self.held.bytes),
            None => format!("got {} bytes", self.held.bytes),
        };
        let what_failed = format!("{}: {held}, nothing new in {} tries", self.name, end.tries);
        Err(Failure {
            cause: Some(what.to_owned()),
            ..failure(Stage::Fetch, what_failed)
        })
    }

    fn not_written(&self, error: &io::Error) -> Failure {
        failure(Stage::Fetch, format!("{}: writing", self.name)).because(error)
    }

    fn copy(&mut self, mut answer: Response, place: &dyn Place, mark: &Mark) -> Result<Copied, Failure> {
        let from = self.held.bytes;
        let mut progress = Progress::new(self.shown.clone(), from);
        let mut told = from;
        let mut last = Instant::now();
        let ended = loop {
            let got = match answer.read(&mut self.buffer) {
                Ok(0) => break None,
                Ok(got) => got,
                Err(error) => break Some(self.cut(&error)),
            };
            let now = Instant::now();
            self.coming += now.duration_since(std::mem::replace(&mut last, now));
            let bytes = self.buffer.get(..got).unwrap_or_default();
            self.within(self.held.bytes + got as u64)?;
            place
                .put(bytes, self.held.bytes)
                .map_err(|error| self.not_written(&error))?;
            self.held.bytes += got as u64;
            if self.held.bytes - told >= CHUNK as u64 {
                told = self.held.bytes;
                mark.advance(told);
            }
            progress.tick(self.held.bytes, self.held.total, self.means.reporter);
        };
        mark.advance(self.held.bytes);
        if self.held.bytes == from {
            // The address behind the redirects brought nothing: next time the way is asked again.
            self.at = self.url.clone();
        }
        Ok(match (ended, self.held.total) {
            (_, Some(total)) if self.held.bytes == total => Copied::Whole,
            (None, None) => Copied::Whole,
            (Some(what), _) => Copied::Short(what),
            (None, Some(total)) => Copied::Short(format!(
                "the connection ended at {} of {total} bytes",
                self.held.bytes
            )),
        })
    }

    fn cut(&self, error: &std::io::Error) -> String {
        let inner = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<reqwest::Error>());
        let why = match inner.is_some_and(reqwest::Error::is_timeout) {
            true => format!("no byte for {} s", self.stall.as_secs_f32()),
            false => inner.map_or_else(|| error.to_string(), |inner| innermost(inner)),
        };
        format!("cut at {}: {why}", ByteLen(self.held.bytes))
    }

    /// What holds for every byte, also when nobody told the length.
    fn within(&self, bytes: u64) -> Result<(), Failure> {
        match self.held.total {
            Some(total) if bytes > total => {
                let what = format!("{}: more than the {total} bytes announced", self.name);
                Err(failure(Stage::Fetch, what))
            }
            Some(_) => Ok(()),
            None => self.budget(bytes),
        }
    }

    fn budget(&self, needs: u64) -> Result<(), Failure> {
        let limits = self.means.limits;
        let (ByteLen(reserve), ByteLen(available)) = (limits.reserve, limits.available);
        if needs.saturating_add(reserve) <= available {
            return Ok(());
        }
        let what = format!(
            "{} needs {needs} bytes, {reserve} are kept for what runs, {available} are available",
            self.name
        );
        Err(failure(Stage::Fetch, what).hint("give the machine more memory or boot a smaller image"))
    }
}

/// What came in `coming` of the time it `took` altogether.
fn sentence(bytes: u64, coming: Duration, took: Duration) -> String {
    let text = format!(
        "fetch: {} in {:.1} s, {}/s",
        ByteLen(bytes),
        coming.as_secs_f64(),
        ByteLen(rate(bytes, coming))
    );
    match took.saturating_sub(coming) {
        waited if waited < Duration::from_secs(1) => text,
        waited => format!("{text}, and {:.1} s of waiting", waited.as_secs_f64()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_waited_is_not_transfer() {
        let ms = Duration::from_millis;
        assert_eq!(
            sentence(8_300_000, ms(500), ms(14_300)),
            "fetch: 8.3 MB in 0.5 s, 16.6 MB/s, and 13.8 s of waiting"
        );
        assert_eq!(
            sentence(8_300_000, ms(500), ms(600)),
            "fetch: 8.3 MB in 0.5 s, 16.6 MB/s"
        );
    }
}
