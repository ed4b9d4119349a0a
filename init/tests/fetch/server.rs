//! An HTTP server whose every answer is chosen by the test.

use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Bytes written at a time.
const PIECE: usize = 64 << 10;

/// What the client asked.
#[derive(Debug, Clone, Default)]
pub struct Request {
    pub path: String,
    /// First byte of `Range: bytes=N-`.
    pub from: Option<usize>,
    pub if_range: Option<String>,
    /// How many requests for this path came before.
    pub nth: usize,
}

/// What it gets.
#[derive(Debug, Clone, Default)]
pub struct Reply {
    head: String,
    body: Vec<u8>,
    hang: bool,
    slow: Option<(usize, Duration)>,
}

impl Reply {
    pub fn new(status: &str) -> Reply {
        Reply {
            head: format!("HTTP/1.1 {status}\r\nConnection: close\r\n"),
            ..Reply::default()
        }
    }

    pub fn header(mut self, name: &str, value: impl std::fmt::Display) -> Reply {
        self.head += &format!("{name}: {value}\r\n");
        self
    }

    /// With a body of exactly these bytes, whatever the headers say.
    pub fn raw(mut self, body: &[u8]) -> Reply {
        self.body = body.to_vec();
        self
    }

    /// With a body and its length.
    pub fn body(self, body: &[u8]) -> Reply {
        self.header("Content-Length", body.len()).raw(body)
    }

    /// Sends only so many bytes of the body, then ends the connection.
    pub fn cut(mut self, after: usize) -> Reply {
        self.body.truncate(after);
        self
    }

    /// Sends only so many bytes of the body, then nothing more until the client goes.
    pub fn stall(self, after: usize) -> Reply {
        Reply {
            hang: true,
            ..self.cut(after)
        }
    }

    /// Sends so many bytes of the body at a time, with a pause between.
    pub fn slowly(self, bytes: usize, pause: Duration) -> Reply {
        Reply {
            slow: Some((bytes, pause)),
            ..self
        }
    }
}

/// What a good server answers for `file`: the part asked for when the tag still holds, else all of it.
pub fn good(request: &Request, file: &[u8], etag: &str) -> Reply {
    let holds = request.if_range.as_deref().is_none_or(|tag| tag == etag);
    match request.from.filter(|_| holds) {
        Some(from) if from >= file.len() => Reply::new("416 Range Not Satisfiable")
            .header("Content-Range", format!("bytes */{}", file.len()))
            .body(b""),
        Some(from) => Reply::new("206 Partial Content")
            .header(
                "Content-Range",
                format!("bytes {from}-{}/{}", file.len() - 1, file.len()),
            )
            .header("ETag", etag)
            .body(&file[from..]),
        None => Reply::new("200 OK").header("ETag", etag).body(file),
    }
}

type Answers = dyn Fn(&Request) -> Reply + Send + Sync;

/// An address that refuses connections, as long as the socket that has it is kept: it does not listen, and nobody else is given its port.
pub fn refusing() -> (SocketAddr, OwnedFd) {
    let kept = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&kept, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
    let address = getsockname(&kept).unwrap().try_into().unwrap();
    (address, kept)
}

/// A server on loopback for as long as the test process lives.
pub struct Server {
    pub address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    sent: Arc<AtomicU64>,
}

impl Server {
    pub fn start(answers: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Server {
        Server::over(|stream, serve| serve(&mut &stream, &mut &stream), answers)
    }

    /// A server whose connections pass through `wrap`, which gets the stream and what to do with a reader and a writer over it.
    pub fn over(
        wrap: impl Fn(TcpStream, &dyn Fn(&mut dyn Read, &mut dyn Write)) + Send + Sync + 'static,
        answers: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (requests, sent) = (Arc::<Mutex<Vec<Request>>>::default(), Arc::<AtomicU64>::default());
        let server = Server {
            address,
            requests: requests.clone(),
            sent: sent.clone(),
        };
        let (wrap, answers): (Arc<_>, Arc<Answers>) = (Arc::new(wrap), Arc::new(answers));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (wrap, answers) = (wrap.clone(), answers.clone());
                let (requests, sent) = (requests.clone(), sent.clone());
                std::thread::spawn(move || {
                    let serve = |reader: &mut dyn Read, writer: &mut dyn Write| {
                        serve(reader, writer, &requests, &sent, &*answers);
                    };
                    wrap(stream, &serve);
                });
            }
        });
        server
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// Bytes of bodies sent so far, or about to be.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::SeqCst)
    }
}

fn serve(
    reader: &mut dyn Read,
    writer: &mut dyn Write,
    requests: &Mutex<Vec<Request>>,
    sent: &AtomicU64,
    answers: &Answers,
) {
    let mut reader = BufReader::new(reader);
    let Some(mut request) = read(&mut reader) else {
        return;
    };
    {
        let mut requests = requests.lock().unwrap();
        request.nth = requests.iter().filter(|other| other.path == request.path).count();
        requests.push(request.clone());
    }
    let reply = answers(&request);
    let (piece, pause) = reply.slow.unwrap_or((PIECE, Duration::ZERO));
    let mut send = |bytes: &[u8]| writer.write_all(bytes).is_ok() && writer.flush().is_ok();
    let mut pieces = reply.body.chunks(piece).enumerate();
    // A client that went away is not the server's concern.
    let mut there = send(format!("{}\r\n", reply.head).as_bytes());
    while there && let Some((number, piece)) = pieces.next() {
        if number > 0 {
            std::thread::sleep(pause);
        }
        // Before the client can have it, which may look at the number at once.
        sent.fetch_add(piece.len() as u64, Ordering::SeqCst);
        there = send(piece);
    }
    if reply.hang {
        drop(reader.read(&mut [0]));
    }
}

fn read(reader: &mut dyn BufRead) -> Option<Request> {
    let mut request = Request::default();
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    request.path = line.split(' ').nth(1)?.to_owned();
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            return Some(request);
        };
        match name.to_ascii_lowercase().as_str() {
            "range" => request.from = value.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok(),
            "if-range" => request.if_range = Some(value.to_owned()),
            _ => {}
        }
    }
}
