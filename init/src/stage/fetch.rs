//! Fetch: the OS image comes into sealed memory, over bad links too.
//!
//! What the bytes must satisfy is settled first (the signature is fetched and its key looked up), then whether they fit into
//! memory, then they are fetched, resumed as often as the link needs, and hashed by a second thread from the very file they were
//! written to. The one thing a reader would get wrong: [`Fetched`] is not trusted yet; `stage::verify` turns it into `Verified`.
//!
//! Files in reading order: `http` one request with its redirects, `answer` what an answer means for the bytes held, `pull` the
//! loop that resumes, `follow` the hashing thread, `patience` pauses and giving up, `progress` what people see meanwhile.

use crate::report::{FailureExt, Reporter, failure};
use crate::stage::verify::{Expectation, Finding, How, SEALS, TrustedKeys};
use lifeboot_contract::event::{Failure, Stage};
use lifeboot_contract::plan::Plan;
use pull::{End, Pull};
use reqwest::Url;
use reqwest::blocking::Response;
use rustix::fs::MemfdFlags;
use std::fmt;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

mod answer;
mod follow;
mod http;
mod patience;
mod progress;
mod pull;
mod signature;

use http::Http;

/// Bytes read, written and hashed at once: large enough that system calls do not show, small enough for the smallest board.
const CHUNK: usize = 256 * 1024;

/// A number of bytes; prints as people say it (`74.9 MB`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteLen(pub u64);

impl fmt::Display for ByteLen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0..1_000 => write!(f, "{} bytes", self.0),
            1_000..1_000_000 => write!(f, "{:.1} kB", self.0 as f64 / 1e3),
            _ => write!(f, "{:.1} MB", self.0 as f64 / 1e6),
        }
    }
}

/// How far the fetch may go.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Memory that may be used, as [`mem_available`] tells before the fetch.
    pub available: ByteLen,
    /// Memory kept for what runs beside and after the fetch.
    pub reserve: ByteLen,
    /// Attempts in a row without one new byte, while nothing is held yet.
    pub tries: u32,
    /// The same once bytes are held: worth waiting longer for.
    pub tries_held: u32,
    /// The first pause; each further one without progress is twice as long.
    pub first_pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
    /// Time for a connection.
    pub connect: Duration,
    /// Time without a byte after which the connection counts as dead.
    pub stall: Duration,
    /// Redirects followed in a row.
    pub redirects: usize,
    /// Time the clock is given to settle before the first https connection.
    pub settle: Duration,
    /// PEM file of the certificate authorities that https is judged by.
    pub authorities: PathBuf,
}

impl Limits {
    /// The usual limits, with the memory this machine has now, of which `reserve` bytes are kept.
    pub fn of_this_machine(reserve: u64) -> Limits {
        // A kernel that does not say is not a reason to stay in rescue.
        let available = mem_available().unwrap_or(ByteLen(u64::MAX));
        Limits { available, reserve: ByteLen(reserve), ..Limits::default() }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            available: ByteLen(u64::MAX),
            reserve: ByteLen(0),
            tries: 6,
            tries_held: 20,
            first_pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(30),
            connect: Duration::from_secs(10),
            stall: Duration::from_secs(20),
            redirects: 5,
            settle: Duration::from_secs(3),
            authorities: PathBuf::from("/etc/ssl/certs/ca-certificates.crt"),
        }
    }
}

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
        let Fetched { image, len, url, expectation, finding } = self;
        Parts { image, len, url, expectation, finding }
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
    let means = Means { http: &http, keys, clock, reporter, limits };
    let mut job = Job::new(plan, url, &means)?;
    let mut answer = None;
    loop {
        let expectation = job.expectation()?;
        let image = memory(&job.name)?;
        match job.pass(&expectation, &image, answer.take(), || seal(&image))? {
            Pass::Whole(len, finding) => {
                let url = shown(&job.url);
                return Ok(Fetched { image: image.into(), len, url, expectation, finding });
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
    let means = Means { http: &http, keys, clock: &SetAlready, reporter, limits };
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
        Ok(Job { plan, means, url, name, pull })
    }

    /// What the bytes must satisfy; asked again for every pass, since a changed file has a changed signature.
    fn expectation(&self) -> Result<Expectation, Failure> {
        match Expectation::of_plan(self.plan, &self.name) {
            Some(expectation) => Ok(expectation),
            None => signature::fetch(&self.url, &self.name, self.means),
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

/// Memory the kernel would give without swapping (`MemAvailable` of /proc/meminfo).
///
/// # Errors
/// The file cannot be read or does not say.
pub fn mem_available() -> std::io::Result<ByteLen> {
    let text = std::fs::read_to_string("/proc/meminfo")?;
    let told = parse_mem_available(&text);
    told.ok_or_else(|| std::io::Error::other("/proc/meminfo: no MemAvailable"))
}

fn parse_mem_available(text: &str) -> Option<ByteLen> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024).map(ByteLen)
}

/// The URL as it may be printed: without user name and password.
fn shown(url: &Url) -> String {
    let mut url = url.clone();
    // Both only fail for URLs that cannot have them.
    if url.set_username("").is_err() || url.set_password(None).is_err() {
        return url.scheme().to_owned();
    }
    url.into()
}

/// What messages call the file at `url`: its last part.
fn object(url: &Url) -> String {
    let last = url.path().rsplit('/').find(|part| !part.is_empty());
    last.or(url.host_str()).unwrap_or("the image").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mem_available_is_read_in_bytes() {
        let text = "MemTotal:         250000 kB\nMemFree:    1 kB\nMemAvailable:      94208 kB\n";
        assert_eq!(parse_mem_available(text), Some(ByteLen(96_468_992)));
        assert_eq!(parse_mem_available("MemTotal: 1 kB\n"), None);
        assert!(mem_available().unwrap() > ByteLen(0));
    }

    #[test]
    fn a_password_is_never_shown() {
        let url = Url::parse("http://me:secret@h:8080/a/os.squashfs?x=1").unwrap();
        assert_eq!(shown(&url), "http://h:8080/a/os.squashfs?x=1");
        assert_eq!(object(&url), "os.squashfs");
        assert_eq!(object(&Url::parse("http://h/").unwrap()), "h");
    }

    #[test]
    fn lengths_read_as_people_say_them() {
        let texts = [999, 1_500, 74_900_000].map(|n| ByteLen(n).to_string());
        assert_eq!(texts, ["999 bytes", "1.5 kB", "74.9 MB"]);
    }
}
