//! Fetch: the OS image comes into sealed memory, over bad links too.
//!
//! What the bytes must satisfy is settled first (the signature is fetched and its key looked up), then whether they fit into
//! memory, then they are fetched, resumed as often as the link needs, and hashed by a second thread from the very file they were
//! written to. The one thing a reader would get wrong: [`Fetched`] is not trusted yet; `stage::verify` turns it into `Verified`.
//!
//! Files in reading order: `limits` how far it may go, `http` one request with its redirects, `answer` what an answer means for
//! the bytes held, `pull` the loop that resumes, `follow` the hashing thread, `patience` pauses and giving up, `progress` what
//! people see meanwhile, `stream` the same without a file, `post` one small question and its answer.

use crate::report::{FailureExt, Reporter, failure};
use crate::stage::verify::{Expectation, Finding, How, SEALS, TrustedKeys};
use lifeboot_contract::event::{Failure, Stage};
use lifeboot_contract::plan::Plan;
use pull::{End, Pull};
pub use reqwest::Url;
use reqwest::blocking::Response;
use rustix::fs::MemfdFlags;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

mod answer;
mod follow;
mod http;
mod huge_pages;
mod limits;
mod patience;
mod post;
pub mod probe;
mod progress;
mod pull;
mod signature;
mod stream;

use http::Http;
pub use http::tls;
pub use limits::{ByteLen, Limits, mem_available};
pub use post::{Question, post};
pub use stream::{Sink, from_reader, to_sink};

/// Bytes read, written and hashed at once: large enough that system calls do not show, small enough for the smallest board.
const CHUNK: usize = 256 * 1024;

/// The clock as far as a fetch needs it.
pub trait Clock {
    /// Waits at most `patience` until the time is known: certificates are about to be judged by it.
    fn settle(&self, patience: Duration);
    /// Takes the `Date` header of an answer.
    fn http_date(&self, date: &str);
}

/// A clock that is right, for commands typed by people and for tests.
#[derive(Debug, Clone, Copy)]
pub struct SetAlready;

impl Clock for SetAlready {
    fn settle(&self, _: Duration) {}
    fn http_date(&self, _: &str) {}
}

/// What the parts of a fetch work with.
#[derive(Clone, Copy)]
struct Means<'m> {
    http: &'m Http,
    keys: &'m TrustedKeys,
    clock: &'m dyn Clock,
    reporter: &'m Reporter,
    limits: &'m Limits,
}

impl<'m> Means<'m> {
    /// For what a person asks for once the machine is up.
    fn by_hand(
        http: &'m Http,
        keys: &'m TrustedKeys,
        reporter: &'m Reporter,
        limits: &'m Limits,
    ) -> Means<'m> {
        Means {
            http,
            keys,
            clock: &SetAlready,
            reporter,
            limits,
        }
    }
}

/// The whole image in sealed memory, with what was expected of it and what the check over these very bytes found.
pub struct Fetched {
    image: OwnedFd,
    len: u64,
    url: String,
    expectation: Expectation,
    finding: Finding,
}

/// A [`Fetched`] taken apart, for `stage::verify` alone.
pub(super) struct Parts {
    pub(super) image: OwnedFd,
    pub(super) len: u64,
    pub(super) url: String,
    pub(super) expectation: Expectation,
    pub(super) finding: Finding,
}

impl Fetched {
    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether nothing came.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn into_parts(self) -> Parts {
        let Fetched {
            image,
            len,
            url,
            expectation,
            finding,
        } = self;
        Parts {
            image,
            len,
            url,
            expectation,
            finding,
        }
    }
}

/// A file written by [`to_file`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    /// Its length in bytes.
    pub len: u64,
    /// How it proved itself.
    pub how: How,
}

/// Fetches `url` (templates already expanded) into sealed memory. The client, its thread and its connections are gone when this
/// returns.
///
/// # Errors
/// The signature is missing, not usable or by an unknown key; the image does not fit into memory; the server says no; or the
/// link brought nothing new for [`Limits::tries`] attempts. The caller reports it.
pub fn run(
    plan: &Plan,
    url: &str,
    keys: &TrustedKeys,
    clock: &dyn Clock,
    reporter: &Reporter,
    limits: &Limits,
) -> Result<Fetched, Failure> {
    let http = Http::new(limits);
    let means = Means {
        http: &http,
        keys,
        clock,
        reporter,
        limits,
    };
    let _huge = huge_pages::HugePages::wanted(reporter);
    let mut job = Job::new(plan, url, &means)?;
    let mut answer = None;
    loop {
        let expectation = job.expectation()?;
        let image = memory(&job.name)?;
        match job.pass(&expectation, &image, answer.take(), || seal(&image))? {
            Pass::Whole(len, finding) => {
                let url = shown(&job.url);
                return Ok(Fetched {
                    image: image.into(),
                    len,
                    url,
                    expectation,
                    finding,
                });
            }
            Pass::Restart(first) => answer = first,
        }
    }
}

/// Fetches `url` into the file at `path`, which appears there only after it proved itself; for `rescue fetch -o`.
///
/// # Errors
/// As [`run`] and `verify::run` together, or the file cannot be written.
pub fn to_file(
    plan: &Plan,
    url: &str,
    path: &Path,
    keys: &TrustedKeys,
    reporter: &Reporter,
    limits: &Limits,
) -> Result<Saved, Failure> {
    let http = Http::new(limits);
    let means = Means::by_hand(&http, keys, reporter, limits);
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let part = Path::new(&part);
    let saved = into_file(plan, url, path, part, &means);
    if saved.is_err() && part.exists() {
        // Made by this call or by an earlier one that was killed: nobody else's file is called so.
        reporter.ignore("remove what was fetched in part", std::fs::remove_file(part));
    }
    saved
}

fn into_file(plan: &Plan, url: &str, path: &Path, part: &Path, means: &Means) -> Result<Saved, Failure> {
    let broken = |error: &std::io::Error| failure(Stage::Fetch, path.display().to_string()).because(error);
    let mut job = Job::new(plan, url, means)?;
    let mut answer = None;
    loop {
        let expectation = job.expectation()?;
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(true);
        let file = options.open(part).map_err(|error| broken(&error))?;
        let synced = || file.sync_all().map_err(|error| broken(&error));
        match job.pass(&expectation, &file, answer.take(), synced)? {
            Pass::Whole(len, finding) => {
                let how = expectation.conclude(&finding)?;
                std::fs::rename(part, path).map_err(|error| broken(&error))?;
                return Ok(Saved { len, how });
            }
            Pass::Restart(first) => answer = first,
        }
    }
}

/// One image on its way, over as many passes as the server makes necessary.
struct Job<'m> {
    plan: &'m Plan,
    means: &'m Means<'m>,
    url: Url,
    name: String,
    pull: Pull<'m>,
}

/// How one pass from the first byte on ended.
enum Pass {
    Whole(u64, Finding),
    /// Nothing held so far counts; the answer, if there is one, starts at the first byte.
    Restart(Option<Response>),
}

impl<'m> Job<'m> {
    fn new(plan: &'m Plan, url: &str, means: &'m Means<'m>) -> Result<Job<'m>, Failure> {
        let url = Url::parse(url).map_err(|error| failure(Stage::Fetch, url).because(&error))?;
        let name = object(&url);
        let pull = Pull::new(url.clone(), name.clone(), means);
        Ok(Job {
            plan,
            means,
            url,
            name,
            pull,
        })
    }

    /// What the bytes must satisfy; asked again for every pass, since a changed file has a changed signature.
    fn expectation(&self) -> Result<Expectation, Failure> {
        if let Some(expectation) = Expectation::of_plan(self.plan, &self.name) {
            return Ok(expectation);
        }
        let expectation = signature::fetch(&self.url, &self.name, self.means)?;
        match expectation.too_old(self.plan) {
            Some(too_old) => Err(too_old),
            None => Ok(expectation),
        }
    }

    /// Fetches into `file` from its first byte on while a thread checks what was written. `settle` makes the file unchangeable
    /// before the check is concluded.
    fn pass(
        &mut self,
        expectation: &Expectation,
        file: &File,
        first: Option<Response>,
        settle: impl FnOnce() -> Result<(), Failure>,
    ) -> Result<Pass, Failure> {
        let started = Instant::now();
        let check = expectation.check()?;
        let mark = follow::Mark::default();
        self.pull.begin(expectation.claimed_length())?;
        std::thread::scope(|scope| {
            let given_up = mark.given_up_on_drop();
            let checking = std::thread::Builder::new()
                .name("check".to_owned())
                .spawn_scoped(scope, || follow::run(file, check, &mark))
                .map_err(|error| failure(Stage::Fetch, "the checking thread").because(&error))?;
            let len = match self.pull.run(first, file, &mark)? {
                End::Whole(len) => len,
                End::Restart(answer) => return Ok(Pass::Restart(answer)),
            };
            settle()?;
            mark.whole(len);
            drop(given_up);
            let finding = checking.join().unwrap_or_else(|_| Finding::unfinished());
            self.pull.done(started);
            Ok(Pass::Whole(len, finding))
        })
    }
}

fn memory(name: &str) -> Result<File, Failure> {
    rustix::fs::memfd_create("os-image", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)
        .map(File::from)
        .map_err(|error| failure(Stage::Fetch, format!("{name}: memory file")).because(&error))
}

fn seal(image: &File) -> Result<(), Failure> {
    rustix::fs::fcntl_add_seals(image, SEALS)
        .map_err(|error| failure(Stage::Fetch, "sealing the memory file").because(&error))
}

/// The URL as it may be printed: without user name and password.
pub fn shown(url: &Url) -> String {
    let mut url = url.clone();
    // Both only fail for URLs that cannot have them.
    if url.set_username("").is_err() || url.set_password(None).is_err() {
        return url.scheme().to_owned();
    }
    url.into()
}

/// What messages call the file at `url`: where it is, without a query, which may be a secret like a password.
fn object(url: &Url) -> String {
    let mut bare = url.clone();
    bare.set_query(None);
    bare.set_fragment(None);
    shown(&bare)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_shown() {
        let url = Url::parse("http://me:secret@h:8080/a/os.squashfs?x=1").unwrap();
        assert_eq!(shown(&url), "http://h:8080/a/os.squashfs?x=1");
        assert_eq!(object(&url), "http://h:8080/a/os.squashfs");
        assert_eq!(object(&Url::parse("http://h/#x").unwrap()), "http://h/");
    }
}
