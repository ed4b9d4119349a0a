//! An HTTP/1.1 server that misbehaves on demand and counts what it sent.
//!
//! Listens on loopback only; a guest reaches it through QEMU's user network as 10.0.2.2. What is not told to go wrong is
//! done properly: keep-alive, HEAD, PUT and POST, Range with ETag and If-Range, and TLS in front of it all where asked for. The one thing a reader would get wrong: body bytes are
//! counted as they are written (before TLS), so a cut connection may count a little more than the client read.

mod connection;
mod tls;
mod upload;

use crate::fixtures::keys::TlsFiles;
use crate::loopback::Port;
use crate::process::may_fail;
use anyhow::{Context, Result};
use rustls::ServerConfig;
use std::collections::BTreeMap;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// The address at which a guest in QEMU's user network reaches the host's loopback.
pub const HOST_SEEN_BY_GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);

/// What goes wrong with a path.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// The connection ends after this many body bytes of an answer, this many times.
    CutAfter {
        /// Body bytes sent before the cut.
        bytes: u64,
        /// How many answers are cut.
        times: u32,
    },
    /// Range is not known here: always the whole file.
    NoRange,
    /// Each answer has another ETag, as from a farm of mirrors.
    ChangingEtag,
    /// The Content-Length of answers with a body.
    WrongLength(u64),
    /// This status with an empty body, this many times; `None`: always.
    Status {
        /// 404, 503, …
        code: u16,
        /// How often.
        times: Option<u32>,
    },
    /// Sent elsewhere.
    Redirect(String),
    /// This many bytes, then this pause, again and again; what is left when it is healed comes at once.
    Drip {
        /// Bytes in a drop.
        bytes: u64,
        /// Pause after it.
        pause: Duration,
    },
    /// The byte at this offset of the file is not what it was.
    FlipByte(u64),
    /// After this many body bytes nothing more comes, but the connection stays, this many times.
    StallAfter {
        /// Body bytes sent before the silence.
        bytes: u64,
        /// How many answers stall.
        times: u32,
    },
    /// No Content-Length: the end of the connection is the end of the file.
    NoLength,
    /// An upload is answered when this many bytes of it have come, and goes on being taken.
    AnswerAfter {
        /// Bytes of the body.
        bytes: u64,
        /// 200, 500, …
        code: u16,
    },
    /// What an upload is answered with when all of it has come.
    AnswerAtEnd(u16),
    /// Of an upload so many bytes are kept, and it is called a success.
    KeepOnly(u64),
}

/// What has been asked of a path, and sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// All of them.
    pub requests: u64,
    /// Uploads that were kept.
    pub uploads: u64,
    /// Bytes of bodies written.
    pub body_bytes: u64,
    /// First byte asked for by each request that had a Range.
    pub ranges: Vec<u64>,
}

/// What is served.
#[derive(Debug, Clone)]
enum Content {
    Memory(Arc<[u8]>),
    File(Arc<File>, u64),
}

impl Content {
    fn len(&self) -> u64 {
        match self {
            Content::Memory(bytes) => bytes.len() as u64,
            Content::File(_, length) => *length,
        }
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
        match self {
            Content::Memory(bytes) => {
                let missing = || std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
                let start = usize::try_from(offset).map_err(|_| missing())?;
                let part = bytes.get(start..start + buffer.len()).ok_or_else(missing)?;
                buffer.copy_from_slice(part);
                Ok(())
            }
            Content::File(file, _) => file.read_exact_at(buffer, offset),
        }
    }
}

#[derive(Debug, Default)]
struct Entry {
    content: Option<Content>,
    version: u64,
    faults: Vec<Fault>,
    stats: Stats,
}

impl Entry {
    /// Bytes of a drop, and the pause after it.
    fn drip(&self) -> Option<(u64, Duration)> {
        self.faults.iter().find_map(|fault| match fault {
            Fault::Drip { bytes, pause } => Some((*bytes, *pause)),
            _ => None,
        })
    }
}

#[derive(Debug, Default)]
struct Shared {
    entries: Mutex<BTreeMap<String, Entry>>,
    tls: Option<Arc<ServerConfig>>,
    closed: AtomicBool,
    connections: Mutex<Vec<TcpStream>>,
}

impl Shared {
    fn entries(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connections(&self) -> MutexGuard<'_, Vec<TcpStream>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The server; it ends when dropped.
#[derive(Debug)]
pub struct FaultServer {
    port: Port,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

impl FaultServer {
    /// Starts on a free port of loopback.
    ///
    /// # Errors
    /// No port could be bound.
    pub fn start() -> Result<FaultServer> {
        let mut server = FaultServer::away()?;
        server.appear()?;
        Ok(server)
    }

    /// Starts on a free port of loopback and speaks https there.
    ///
    /// # Errors
    /// The certificate cannot be used, or no port could be bound.
    pub fn start_https(certificate: &TlsFiles) -> Result<FaultServer> {
        let mut server = FaultServer::away()?;
        server.shared = Arc::new(Shared {
            tls: Some(tls::config(certificate)?),
            ..Shared::default()
        });
        server.appear()?;
        Ok(server)
    }

    /// Has a port, but does not listen on it yet: whoever connects is refused.
    ///
    /// # Errors
    /// No port could be bound.
    pub fn away() -> Result<FaultServer> {
        Ok(FaultServer {
            port: Port::reserve()?,
            shared: Arc::default(),
            accepting: None,
        })
    }

    /// Listens from now on.
    ///
    /// # Errors
    /// Somebody else listens there.
    pub fn appear(&mut self) -> Result<()> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port()));
        let listener = TcpListener::bind(address).with_context(|| address.to_string())?;
        let shared = Arc::clone(&self.shared);
        shared.closed.store(false, Ordering::SeqCst);
        self.accepting = Some(std::thread::spawn(move || accept(&listener, &shared)));
        Ok(())
    }

    /// Ends every connection and refuses new ones.
    pub fn disappear(&mut self) {
        let Some(accepting) = self.accepting.take() else {
            return;
        };
        self.shared.closed.store(true, Ordering::SeqCst);
        // The accept loop looks at `closed` after each connection; this is one.
        may_fail(
            "waking the accept loop",
            TcpStream::connect((Ipv4Addr::LOCALHOST, self.port())),
        );
        // Only when it has ended is no connection added any more.
        may_fail("the accept loop", accepting.join().map_err(|_| "panicked"));
        for connection in self.shared.connections().drain(..) {
            may_fail(
                "closing a connection",
                connection.shutdown(std::net::Shutdown::Both),
            );
        }
    }

    /// Serves a file at `path` (which begins with a slash).
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn serve_file(&self, path: &str, file: &Path) -> Result<()> {
        let opened = File::open(file).with_context(|| file.display().to_string())?;
        let length = opened
            .metadata()
            .with_context(|| file.display().to_string())?
            .len();
        self.put(path, Content::File(Arc::new(opened), length));
        Ok(())
    }

    /// Serves bytes at `path`; what was there before is replaced, under another ETag.
    pub fn serve_bytes(&self, path: &str, bytes: impl Into<Arc<[u8]>>) {
        self.put(path, Content::Memory(bytes.into()));
    }

    fn put(&self, path: &str, content: Content) {
        let mut entries = self.shared.entries();
        let entry = entries.entry(path.to_owned()).or_default();
        entry.content = Some(content);
        entry.version += 1;
    }

    /// Lets something go wrong at `path`; several faults may be in force at once.
    pub fn fault(&self, path: &str, fault: Fault) {
        self.shared
            .entries()
            .entry(path.to_owned())
            .or_default()
            .faults
            .push(fault);
    }

    /// Ends all faults of `path`.
    pub fn heal(&self, path: &str) {
        if let Some(entry) = self.shared.entries().get_mut(path) {
            entry.faults.clear();
        }
    }

    /// What has been asked of `path`.
    pub fn stats(&self, path: &str) -> Stats {
        self.shared
            .entries()
            .get(path)
            .map(|entry| entry.stats.clone())
            .unwrap_or_default()
    }

    /// What lies at `path` in memory: what was uploaded.
    pub fn uploaded(&self, path: &str) -> Option<Vec<u8>> {
        match self.shared.entries().get(path)?.content.as_ref()? {
            Content::Memory(bytes) => Some(bytes.to_vec()),
            Content::File(..) => None,
        }
    }

    /// The port on loopback.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Where a guest finds `path`.
    pub fn url(&self, path: &str) -> String {
        format!("{}://{HOST_SEEN_BY_GUEST}:{}{path}", self.scheme(), self.port())
    }

    /// Where a program on this machine finds `path`.
    pub fn local_url(&self, path: &str) -> String {
        format!("{}://127.0.0.1:{}{path}", self.scheme(), self.port())
    }

    fn scheme(&self) -> &'static str {
        match self.shared.tls {
            Some(_) => "https",
            None => "http",
        }
    }
}

impl Drop for FaultServer {
    fn drop(&mut self) {
        self.disappear();
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for connection in listener.incoming() {
        if shared.closed.load(Ordering::SeqCst) {
            return;
        }
        let Ok(connection) = connection else { continue };
        let Ok(copy) = connection.try_clone() else {
            continue;
        };
        shared.connections().push(copy);
        let shared = Arc::clone(shared);
        std::thread::spawn(move || connection::serve(&connection, &shared));
    }
}

#[cfg(test)]
mod tests;
