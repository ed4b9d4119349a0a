//! A fetch whose bytes go on at once, for what is too large to be held: `rescue deploy`.
//!
//! The one thing a reader would get wrong: a [`Sink`] gets bytes that have not proved themselves. Only what these functions return
//! says that they have, so a sink must be able to take back whatever it made of them.

use super::follow::Mark;
use super::http::Http;
use super::pull::{End, Place};
use super::{CHUNK, Job, Limits, Means, Saved};
use crate::report::{FailureExt, Reporter, failure};
use crate::stage::verify::{Check, Expectation, TrustedKeys};
use lifeboot_contract::event::{Failure, Stage};
use lifeboot_contract::plan::Plan;
use std::cell::RefCell;
use std::io::{self, Read};
use std::time::Instant;

/// How often the bytes may begin anew. A sink that writes to flash is not to do so for ever because a server cannot resume.
const RESTARTS: u32 = 5;

/// Takes bytes in order.
pub trait Sink {
    /// The first byte comes next, of `total` where anybody knows; what was given before counts for nothing.
    ///
    /// # Errors
    /// Whatever ends the transfer.
    fn begin(&mut self, total: Option<u64>) -> io::Result<()>;

    /// The next bytes.
    ///
    /// # Errors
    /// Whatever ends the transfer.
    fn put(&mut self, bytes: &[u8]) -> io::Result<()>;
}

/// What is checked is what the sink was given.
struct Checked<'s, 'e> {
    sink: RefCell<&'s mut dyn Sink>,
    check: RefCell<Check<'e>>,
}

impl Place for Checked<'_, '_> {
    fn begins(&self, total: Option<u64>) -> io::Result<()> {
        self.sink.borrow_mut().begin(total)
    }

    fn put(&self, bytes: &[u8], _: u64) -> io::Result<()> {
        self.check.borrow_mut().update(bytes);
        self.sink.borrow_mut().put(bytes)
    }
}

/// Fetches `url` into `sink`, resumed as often as the link needs; the sink has had all of it, and it proved itself, when this returns.
///
/// # Errors
/// As [`super::to_file`], or the sink's; or the server can neither be had in one piece nor resumed.
pub fn to_sink(
    plan: &Plan,
    url: &str,
    sink: &mut dyn Sink,
    keys: &TrustedKeys,
    reporter: &Reporter,
    limits: &Limits,
) -> Result<Saved, Failure> {
    let http = Http::new(limits);
    let means = Means::by_hand(&http, keys, reporter, limits);
    let mut job = Job::new(plan, url, &means)?;
    let mut answer = None;
    for _ in 0..=RESTARTS {
        let started = Instant::now();
        let expectation = job.expectation()?;
        let place = Checked {
            sink: RefCell::new(&mut *sink),
            check: RefCell::new(expectation.check()?),
        };
        job.pull.begin(expectation.claimed_length())?;
        // Nobody follows: the check saw every byte as it passed.
        match job.pull.run(answer.take(), &place, &Mark::default())? {
            End::Whole(len) => {
                let finding = place.check.into_inner().finish(len);
                let how = expectation.conclude(&finding)?;
                job.pull.done(started);
                return Ok(Saved { len, how });
            }
            End::Restart(first) => answer = first,
        }
    }
    let what = format!(
        "{}: began anew {RESTARTS} times and never came to its end",
        job.name
    );
    Err(failure(Stage::Fetch, what))
}

/// Reads `source` to its end into `sink`. `signature` is the text of its minisign file, needed where the plan wants one.
///
/// # Errors
/// As `verify::run`; the source cannot be read or has not the `total` bytes it should have; or the sink's.
pub fn from_reader(
    plan: &Plan,
    (name, total): (&str, Option<u64>),
    source: &mut dyn Read,
    signature: Option<&str>,
    keys: &TrustedKeys,
    sink: &mut dyn Sink,
) -> Result<Saved, Failure> {
    let expectation = expectation(plan, name, signature, keys)?;
    let broken =
        |what: &str, error: &io::Error| failure(Stage::Fetch, format!("{name}: {what}")).because(error);
    let mut check = expectation.check()?;
    sink.begin(total).map_err(|error| broken("writing", &error))?;
    let mut buffer = vec![0; CHUNK];
    let mut len = 0;
    loop {
        let got = match source.read(&mut buffer) {
            Ok(0) => break,
            Ok(got) => got,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(broken("reading", &error)),
        };
        let bytes = buffer.get(..got).unwrap_or_default();
        check.update(bytes);
        sink.put(bytes).map_err(|error| broken("writing", &error))?;
        len += got as u64;
    }
    if let Some(total) = total.filter(|total| *total != len) {
        return Err(failure(
            Stage::Fetch,
            format!("{name}: got {len} of {total} bytes"),
        ));
    }
    let how = expectation.conclude(&check.finish(len))?;
    Ok(Saved { len, how })
}

fn expectation(
    plan: &Plan,
    name: &str,
    signature: Option<&str>,
    keys: &TrustedKeys,
) -> Result<Expectation, Failure> {
    if let Some(expectation) = Expectation::of_plan(plan, name) {
        return Ok(expectation);
    }
    let refused = |what: &str| failure(Stage::Verify, format!("{name}: {what}"));
    if keys.is_empty() {
        return Err(refused("this image trusts no key"));
    }
    let text = signature.ok_or_else(|| refused("no signature"))?;
    let expectation = Expectation::signed(text, name, keys)?;
    match expectation.too_old(plan) {
        Some(too_old) => Err(too_old),
        None => Ok(expectation),
    }
}
