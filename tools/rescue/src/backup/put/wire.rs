//! A connection, with or without TLS.

use super::{STALL, Trouble};
use anyhow::{Context as _, anyhow};
use lifeboot_init::stage::fetch::{Limits, Url, tls};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::Duration;

/// Reads what the server says, writes what is sent to it.
pub enum Wire {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Wire {
    /// Connects, as the URL wants it.
    pub fn connect(url: &Url, limits: &Limits) -> Result<Wire, Trouble> {
        let host = url
            .host_str()
            .unwrap_or_default()
            .trim_matches(['[', ']'])
            .to_owned();
        let port = url.port_or_known_default().unwrap_or(80);
        let cut = |error: io::Error| Trouble::Cut(anyhow!(error).context(format!("{host}:{port}")));
        let stream = dial(&host, port, limits.connect).map_err(cut)?;
        stream.set_write_timeout(Some(STALL)).map_err(cut)?;
        // Before the first answer there is the handshake.
        stream.set_read_timeout(Some(limits.stall)).map_err(cut)?;
        stream.set_nodelay(true).map_err(cut)?;
        if url.scheme() != "https" {
            return Ok(Wire::Plain(stream));
        }
        let secure = || -> anyhow::Result<Wire> {
            let config = tls(limits, url).map_err(|failure| anyhow!(failure.to_string()))?;
            let name = ServerName::try_from(host.clone()).with_context(|| host.clone())?;
            let session = ClientConnection::new(Arc::new(config), name).context("TLS")?;
            Ok(Wire::Tls(Box::new(StreamOwned::new(session, stream))))
        };
        secure().map_err(Trouble::Final)
    }

    /// Whether there is something to read, be it the end.
    pub fn has_something(&mut self) -> io::Result<bool> {
        // What came together with the last answer is in no socket any more.
        if let Wire::Tls(stream) = self
            && stream
                .conn
                .process_new_packets()
                .map_err(io::Error::other)?
                .plaintext_bytes_to_read()
                > 0
        {
            return Ok(true);
        }
        self.socket().set_nonblocking(true)?;
        let seen = self.socket().peek(&mut [0]);
        let seen = match self {
            // What is there may be the protocol's own.
            Wire::Tls(stream) if seen.as_ref().is_ok_and(|count| *count > 0) => stream
                .conn
                .read_tls(&mut stream.sock)
                .and_then(|_| stream.conn.process_new_packets().map_err(io::Error::other))
                .map(|state| usize::from(state.plaintext_bytes_to_read() > 0))
                .and_then(|count| {
                    if count > 0 {
                        Ok(count)
                    } else {
                        Err(ErrorKind::WouldBlock.into())
                    }
                }),
            _ => seen,
        };
        self.socket().set_nonblocking(false)?;
        match seen {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// How long the next answer may take.
    pub fn patience(&self, patience: Duration) -> io::Result<()> {
        self.socket().set_read_timeout(Some(patience))
    }

    fn socket(&self) -> &TcpStream {
        match self {
            Wire::Plain(stream) => stream,
            Wire::Tls(stream) => &stream.sock,
        }
    }
}

/// Whether the server is not believed to be the one that was meant, which another try does not change.
pub fn is_distrust(error: &io::Error) -> bool {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
    matches!(cause, Some(rustls::Error::InvalidCertificate(_)))
}

fn dial(host: &str, port: u16, patience: Duration) -> io::Result<TcpStream> {
    let mut last = io::Error::new(ErrorKind::NotFound, "no address");
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, patience) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Wire::Plain(stream) => stream.read(buffer),
            Wire::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Wire::Plain(stream) => stream.write(bytes),
            Wire::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Wire::Plain(stream) => stream.flush(),
            Wire::Tls(stream) => stream.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_says_nothing_from_the_beginning_is_not_waited_for_for_ever() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = Url::parse(&format!("http://{}/a", silent.local_addr().unwrap())).unwrap();
        let limits = Limits {
            stall: Duration::from_millis(50),
            ..Limits::default()
        };
        let Ok(mut wire) = Wire::connect(&url, &limits) else {
            panic!("no connection");
        };
        // As the handshake reads.
        let error = wire.read(&mut [0]).unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
            "{error}"
        );
    }
}
