//! Talking to PID 1: one JSON value a line over a Unix socket, both ways.
//!
//! Nothing here waits for ever: PID 1 answers at once or is in trouble, and whoever asks must then go on without it.

use anyhow::{Context as _, bail};
use lifeboot_contract::control::{Reply, Request};
use lifeboot_contract::event::{Event, Level};
use lifeboot_contract::image;
use lifeboot_contract::plan::Plan;
use lifeboot_contract::status::Status;
use rustix::time::{ClockId, clock_gettime};
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long PID 1 may take for an answer.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Name of the variable that moves [`run_dir`], for tests on a machine that is not a device.
pub const RUN_DIR_VARIABLE: &str = "LIFEBOOT_RUN";

/// The directory of what the running system keeps about itself.
pub fn run_dir() -> PathBuf {
    std::env::var_os(RUN_DIR_VARIABLE).map_or_else(|| PathBuf::from(image::RUN), PathBuf::from)
}

/// The control socket in a run directory.
pub fn socket(run_dir: &Path) -> PathBuf {
    let name = Path::new(image::CONTROL).file_name().unwrap_or_default();
    run_dir.join(name)
}

/// The plan PID 1 made.
///
/// # Errors
/// When there is none, or it is not one.
pub fn plan(run_dir: &Path) -> anyhow::Result<Plan> {
    let path = run_dir.join(Path::new(image::PLAN).file_name().unwrap_or_default());
    let text = fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{}", path.display()))
}

/// A connection to PID 1.
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<UnixStream>,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// When PID 1 does not listen.
    pub fn open() -> anyhow::Result<Connection> {
        Connection::open_within(PATIENCE)
    }

    /// Connects; no answer may take longer than `patience`.
    ///
    /// # Errors
    /// When PID 1 does not listen.
    pub fn open_within(patience: Duration) -> anyhow::Result<Connection> {
        let path = socket(&run_dir());
        let stream = UnixStream::connect(&path)
            .with_context(|| format!("{}", path.display()))
            .context("init cannot be reached")?;
        stream
            .set_read_timeout(Some(patience))
            .context("control socket")?;
        stream
            .set_write_timeout(Some(patience))
            .context("control socket")?;
        Ok(Connection {
            stream: BufReader::new(stream),
        })
    }

    /// Sends a request.
    ///
    /// # Errors
    /// When the connection is gone.
    pub fn send(&mut self, request: &Request) -> anyhow::Result<()> {
        let mut line = serde_json::to_vec(request).context("request")?;
        line.push(b'\n');
        self.stream
            .get_mut()
            .write_all(&line)
            .context("init cannot be reached")
    }

    /// The next answer, `None` when PID 1 has ended the connection.
    ///
    /// # Errors
    /// When it is not an answer, or does not come in time.
    pub fn receive(&mut self) -> anyhow::Result<Option<Reply>> {
        let mut line = String::new();
        if self.stream.read_line(&mut line).context("no answer from init")? == 0 {
            return Ok(None);
        }
        serde_json::from_str(&line).map(Some).context("answer of init")
    }

    /// Lets [`Connection::receive`] wait as long as it takes.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn patient(&mut self) -> anyhow::Result<()> {
        self.stream
            .get_ref()
            .set_read_timeout(None)
            .context("control socket")
    }

    /// A request that is answered once.
    ///
    /// # Errors
    /// What PID 1 says in [`Reply::Error`], or that there is no answer.
    pub fn ask(&mut self, request: &Request) -> anyhow::Result<Reply> {
        self.send(request)?;
        match self.receive()? {
            Some(Reply::Error { what }) => bail!(what),
            Some(reply) => Ok(reply),
            None => bail!("init ended the connection without an answer"),
        }
    }
}

/// Asks once on a connection of its own.
///
/// # Errors
/// As [`Connection::ask`].
pub fn ask(request: &Request) -> anyhow::Result<Reply> {
    Connection::open()?.ask(request)
}

/// How things stand.
///
/// # Errors
/// As [`Connection::ask`].
pub fn status() -> anyhow::Result<Status> {
    status_within(PATIENCE)
}

/// How things stand, if PID 1 says so within `patience`.
///
/// # Errors
/// As [`Connection::ask`].
pub fn status_within(patience: Duration) -> anyhow::Result<Status> {
    match Connection::open_within(patience)?.ask(&Request::Status)? {
        Reply::Status(status) => Ok(*status),
        other => bail!("init answered {other:?} when asked for the status"),
    }
}

/// Asks for something that is answered by a sentence.
///
/// # Errors
/// As [`Connection::ask`].
pub fn order(request: &Request) -> anyhow::Result<String> {
    match ask(request)? {
        Reply::Done { text } => Ok(text),
        other => bail!("init answered {other:?}"),
    }
}

/// An event that happens now.
pub fn event(level: Level, name: &str) -> Event {
    let now = clock_gettime(ClockId::Boottime);
    let ms = now
        .tv_sec
        .saturating_mul(1000)
        .saturating_add(now.tv_nsec / 1_000_000);
    Event::new(u64::try_from(ms).unwrap_or(0), level, name)
}
