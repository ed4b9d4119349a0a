//! TLS in front of the server: a connection with or without it is one stream of bytes to the rest.

use crate::fixtures::keys::TlsFiles;
use anyhow::{Context, Result};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

/// A server with that certificate that asks clients for none.
pub(super) fn config(files: &TlsFiles) -> Result<Arc<ServerConfig>> {
    let named = |path: &std::path::Path| path.display().to_string();
    let certificate =
        CertificateDer::from_pem_file(&files.certificate).with_context(|| named(&files.certificate))?;
    let key = PrivateKeyDer::from_pem_file(&files.key).with_context(|| named(&files.key))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .with_context(|| named(&files.certificate))?;
    Ok(Arc::new(config))
}

/// What requests come from and answers go to.
#[derive(Debug)]
pub(super) enum Wire<'c> {
    Plain(&'c TcpStream),
    Tls(Box<StreamOwned<ServerConnection, &'c TcpStream>>),
}

impl<'c> Wire<'c> {
    /// The handshake comes with the first byte read.
    pub(super) fn over(connection: &'c TcpStream, tls: Option<&Arc<ServerConfig>>) -> io::Result<Wire<'c>> {
        let Some(config) = tls else {
            return Ok(Wire::Plain(connection));
        };
        let session = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
        Ok(Wire::Tls(Box::new(StreamOwned::new(session, connection))))
    }

    /// Tells the client that all has been sent; without it the end would be a cut (RFC 8446, 6.1).
    pub(super) fn end(&mut self) -> io::Result<()> {
        if let Wire::Tls(stream) = self {
            stream.conn.send_close_notify();
            stream.flush()?;
        }
        Ok(())
    }
}

impl Read for Wire<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Wire::Plain(connection) => connection.read(buffer),
            Wire::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Wire::Plain(connection) => connection.write(bytes),
            Wire::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Wire::Plain(connection) => connection.flush(),
            Wire::Tls(stream) => stream.flush(),
        }
    }
}
