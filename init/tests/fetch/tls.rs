//! https: the authorities in the image decide. Certificates: `fixtures/tls/make.sh`.

use super::server::{Reply, Server, good};
use super::{World, content, image, off};
use lifeboot_contract::event::Failure;
use lifeboot_init::stage::verify::Verified;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

const LEN: usize = 1 << 20;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/tls")
        .join(name)
}

/// A server with the certificate for localhost; `/away` leads to http.
fn serve() -> Server {
    let chain = CertificateDer::pem_file_iter(fixture("server.pem"))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    let key = PrivateKeyDer::from_pem_file(fixture("server.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap();
    let config = Arc::new(config.with_no_client_auth().with_single_cert(chain, key).unwrap());
    Server::over(
        move |stream, serve| {
            let connection = ServerConnection::new(config.clone()).unwrap();
            let stream = Mutex::new(StreamOwned::new(connection, stream));
            serve(&mut Shared(&stream), &mut Shared(&stream));
        },
        |request| match request.path.as_str() {
            "/away" => Reply::new("302 Found")
                .header("Location", "http://localhost/os")
                .body(b""),
            _ => good(request, &image(LEN), "\"one\""),
        },
    )
}

/// Reader and writer over one TLS stream.
struct Shared<'s, T>(&'s Mutex<T>);

impl<T: std::io::Read> std::io::Read for Shared<'_, T> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().read(buffer)
    }
}

impl<T: std::io::Write> std::io::Write for Shared<'_, T> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.lock().unwrap().flush()
    }
}

fn boot(world: &World, server: &Server, host: &str, path: &str) -> Result<Verified, Failure> {
    world.boot(&off(), &format!("https://{host}:{}{path}", server.address.port()))
}

#[test]
fn a_known_authority_is_accepted_and_a_strange_one_is_not_asked_twice() {
    let server = serve();
    let mut world = World::new();
    world.limits.authorities = fixture("authority.pem");
    let verified = boot(&world, &server, "localhost", "/os").unwrap();
    assert_eq!(content(&verified), image(LEN));
    assert_eq!(
        world.clock.settled.load(Ordering::Relaxed),
        1,
        "the clock is asked before the first certificate"
    );

    world.limits.authorities = fixture("stranger.pem");
    let failure = boot(&world, &server, "localhost", "/os").unwrap_err();
    assert!(failure.what.contains("UnknownIssuer"), "{failure}");
    assert_eq!(world.events("fetch.retry").len(), 0);
}

#[test]
fn a_certificate_for_another_name_is_refused() {
    let mut world = World::new();
    world.limits.authorities = fixture("authority.pem");
    let failure = boot(&world, &serve(), "127.0.0.1", "/os").unwrap_err();
    assert!(failure.what.contains("not valid for name"), "{failure}");
}

#[test]
fn https_does_not_lead_to_http() {
    let mut world = World::new();
    world.limits.authorities = fixture("authority.pem");
    let failure = boot(&world, &serve(), "localhost", "/away").unwrap_err();
    assert!(
        failure
            .what
            .ends_with("redirect from https to http://localhost/os"),
        "{failure}"
    );
}
