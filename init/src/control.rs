//! Talking to PID 1: the client's side of `contract::control`.

use crate::report::{Sink, unheeded};
use lifeboot_contract::control::{Order, Reply, Report, Request};
use lifeboot_contract::event::Event;
use lifeboot_contract::image::CONTROL;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Mutex, mpsc};
use std::time::Duration;

/// A connection to PID 1.
pub struct Client {
    reader: BufReader<UnixStream>,
}

impl Client {
    /// Connects to the control socket.
    ///
    /// # Errors
    /// The connection's, naming the socket.
    pub fn connect() -> io::Result<Client> {
        Client::connect_to(Path::new(CONTROL))
    }

    /// Connects to a socket of another name, for tests.
    ///
    /// # Errors
    /// The connection's, naming the socket.
    pub fn connect_to(path: &Path) -> io::Result<Client> {
        let stream = UnixStream::connect(path)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
        Ok(Client {
            reader: BufReader::new(stream),
        })
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// The connection's; an answer that is not one.
    pub fn request(&mut self, request: &Request) -> io::Result<Reply> {
        self.send(request)?;
        self.receive()
    }

    /// Sends a request.
    ///
    /// # Errors
    /// The connection's.
    pub fn send(&mut self, request: &Request) -> io::Result<()> {
        write_line(self.reader.get_mut(), request)
    }

    /// Waits for the next answer.
    ///
    /// # Errors
    /// UnexpectedEof when PID 1 closed the connection; InvalidData for an answer that is not one.
    pub fn receive(&mut self) -> io::Result<Reply> {
        let mut line = String::new();
        if self.reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        serde_json::from_str(&line).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }
}

fn write_line(stream: &mut UnixStream, request: &Request) -> io::Result<()> {
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line)
}

/// The pipeline's connection: events and reports go up, orders come down.
pub struct PipelineSink {
    stream: Mutex<UnixStream>,
}

impl PipelineSink {
    /// Connects, and reads orders on a thread of their own.
    ///
    /// # Errors
    /// The connection's.
    pub fn connect() -> io::Result<(PipelineSink, mpsc::Receiver<Order>)> {
        let mut client = Client::connect()?;
        client.send(&Request::Pipeline)?;
        let stream = client.reader.get_ref().try_clone()?;
        // PID 1 always reads; should it ever not, the pipeline drops what it has to say instead of waiting.
        stream.set_write_timeout(Some(Duration::from_secs(2)))?;
        let (sender, orders) = mpsc::channel();
        std::thread::Builder::new().name("orders".into()).spawn(move || {
            while let Ok(reply) = client.receive() {
                if let Reply::Order(order) = reply
                    && sender.send(order).is_err()
                {
                    break;
                }
            }
        })?;
        Ok((
            PipelineSink {
                stream: Mutex::new(stream),
            },
            orders,
        ))
    }

    fn write(&self, request: &Request) {
        if let Ok(mut stream) = self.stream.lock() {
            unheeded("control socket", write_line(&mut stream, request));
        }
    }
}

impl Sink for PipelineSink {
    fn event(&self, event: Event) {
        self.write(&Request::Event(event));
    }

    fn report(&self, report: Report) {
        self.write(&Request::Report(report));
    }
}

/// A sink that asks and waits for PID 1's answer to each event; for sshd and the console.
pub struct ClientSink {
    client: Mutex<Option<Client>>,
}

impl ClientSink {
    /// Connects when the first event comes.
    pub fn new() -> ClientSink {
        ClientSink {
            client: Mutex::new(None),
        }
    }
}

impl Default for ClientSink {
    fn default() -> Self {
        ClientSink::new()
    }
}

impl Sink for ClientSink {
    fn event(&self, event: Event) {
        let Ok(mut guard) = self.client.lock() else { return };
        if guard.is_none() {
            match Client::connect() {
                Ok(client) => *guard = Some(client),
                Err(error) => return unheeded("control socket", Err::<(), _>(error)),
            }
        }
        let sent = guard
            .as_mut()
            .map(|client| client.request(&Request::Event(event)));
        if matches!(sent, Some(Err(_))) {
            *guard = None;
        }
    }

    fn report(&self, _: Report) {}
}
