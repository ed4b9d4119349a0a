//! `rescue sshd`: the ssh server, from the moment an address is there until the handover.
//!
//! Public keys and certificates only; three users, of whom two have one program each. It is a process of its own so that PID 1 survives it; PID 1
//! starts it again when it ends, and the host key in the run directory keeps it the same server for its clients. docs/ssh.md is what its
//! users read.

mod algorithms;
mod child;
mod connection;
mod copy_id;
pub mod forward;
pub mod gate;
mod grant;
mod hold;
pub mod hostkey;
mod input;
mod keys;
mod notes;
mod pipes;
mod pty;
mod pump;
mod requests;
mod session;
mod sources;

use crate::control;
use anyhow::{Context as _, bail};
use argh::FromArgs;
use connection::Connection;
use gate::{Gate, Line};
use keys::Authorized;
use lifeboot_contract::event::Level;
use lifeboot_contract::tunnel::sshfp;
use notes::Notes;
use russh::server::Config;
use sources::{Offence, Sources};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::BufReader;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

/// Time for a client to show its key, as in OpenSSH.
const LOGIN_GRACE: Duration = Duration::from_secs(120);

/// Without a word from the client for so long it is asked for one. Not shorter than [`LOGIN_GRACE`]: OpenSSH takes
/// such a question before the login for a protocol error and hangs up.
const ASK_AFTER: Duration = LOGIN_GRACE;

/// Without an answer for so long after that it is gone. A cut cable is noticed sooner, by TCP itself.
const GONE_AFTER: Duration = Duration::from_secs(ASK_AFTER.as_secs() + 60);

/// TCP: probes after 30 s of silence, every 10 s; a peer that acknowledges nothing for 75 s is gone.
const TCP_IDLE: Duration = Duration::from_secs(30);
const TCP_PROBE: Duration = Duration::from_secs(10);
const TCP_PROBES: u32 = 4;
const TCP_UNACKNOWLEDGED_MS: u32 = 75_000;

/// Bytes that one read of a client's socket brings at most: two packets of the size that clients send.
const TWO_PACKETS: usize = 64 << 10;

/// serve ssh (started by init)
#[derive(Debug, FromArgs)]
#[cfg_attr(test, derive(argh::ArgsInfo))]
#[argh(subcommand, name = "sshd")]
pub struct Sshd {
    /// port, instead of the plan's
    #[argh(option)]
    port: Option<u16>,
    /// address to listen on, instead of all
    #[argh(option)]
    listen: Option<std::net::IpAddr>,
    /// login shell
    #[argh(option)]
    shell: Option<PathBuf>,
    /// file transfer server
    #[argh(option, default = "PathBuf::from(\"/usr/lib/openssh/sftp-server\")")]
    sftp_server: PathBuf,
    /// home directory
    #[argh(option, default = "PathBuf::from(\"/root\")")]
    home: PathBuf,
}

/// Where things are.
#[derive(Debug)]
pub struct Paths {
    run_dir: PathBuf,
    shell: Option<PathBuf>,
    sftp_server: PathBuf,
    home: PathBuf,
    /// This program, for [`crate::tty`].
    helper: PathBuf,
}

impl Paths {
    /// The login shell.
    fn shell(&self) -> &Path {
        let shell = self.shell.as_deref();
        shell.unwrap_or_else(|| Path::new(crate::shell::interactive()))
    }
}

/// What all connections share.
#[derive(Debug)]
pub struct Server {
    paths: Paths,
    authorized: Authorized,
    notes: Notes,
    sources: Sources,
}

/// The two ends of a connection.
#[derive(Debug, Clone, Copy)]
pub struct Peer {
    client: SocketAddr,
    server: SocketAddr,
}

/// Serves until killed.
///
/// # Errors
/// When it cannot start: no plan, no authorized key, no port.
pub fn run(options: Sshd) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("runtime")?;
    runtime.block_on(async {
        let run_dir = control::run_dir();
        let error = match serve(options).await {
            Ok(never) => match never {},
            Err(error) => error,
        };
        let what = format!("{error:#}");
        let event = control::event(Level::Error, "ssh.off").with("what", what.clone());
        hold::tell(&run_dir, event.text(format!("no ssh: {what}")));
        // The event is on its way in a task of its own.
        sleep(Duration::from_millis(50)).await;
        Err(error)
    })
}

async fn serve(options: Sshd) -> anyhow::Result<std::convert::Infallible> {
    let run_dir = control::run_dir();
    let plan = control::plan(&run_dir)?;
    let notes = Notes::new(run_dir.clone());
    let (authorized, refused) = Authorized::of(&plan.ssh);
    // Their owners wait for a login that never comes.
    for line in &refused {
        let what = format!("{}: {}", line.line, line.what);
        notes.warn(what.clone(), what);
    }
    if authorized.len() == 0 {
        bail!("no authorized key: put one into the image or give lifeboot.ssh-key=");
    }
    let host = hostkey::load_or_make(&run_dir)?;
    if let Some(what) = host.refused {
        let event = control::event(Level::Warn, "keys.failed").with("what", what.clone());
        hold::tell(&run_dir, event.text(what));
    }
    let fingerprint = hostkey::fingerprint(&host.key);
    let port = options.port.unwrap_or(plan.ssh.port);
    let listener = listen(options.listen, port)
        .await
        .with_context(|| format!("port {port}"))?;
    let port = listener.local_addr().map_or(port, |address| address.port());
    let keys = authorized.len();
    let sshfp = sshfp(&fingerprint).unwrap_or_default();
    let text = format!("ssh: port {port}, host key {fingerprint}, SSHFP {sshfp}, authorized keys: {keys}");
    let event = control::event(Level::Info, "ssh.listening")
        .with("port", port)
        .with("fingerprint", fingerprint)
        .with("sshfp", sshfp)
        .with("keys", keys)
        .with("host_key", host.origin);
    hold::tell(&run_dir, event.text(text));
    let config = Arc::new(algorithms::config(host.key, ASK_AFTER));
    let paths = Paths {
        run_dir,
        shell: options.shell,
        sftp_server: options.sftp_server,
        home: options.home,
        helper: std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/init")),
    };
    let server = Server {
        paths,
        authorized,
        notes,
        sources: Sources::default(),
    };
    accept(&listener, &Arc::new(server), &config).await
}

async fn accept(listener: &TcpListener, server: &Arc<Server>, config: &Arc<Config>) -> ! {
    loop {
        match listener.accept().await {
            Ok((socket, client)) => {
                let client = plain(client);
                if server.sources.admits(client.ip(), Instant::now()) {
                    let gate = Gate::new();
                    server.sources.add(client.ip(), &gate);
                    tokio::spawn(attend(
                        Arc::clone(server),
                        Arc::clone(config),
                        socket,
                        client,
                        gate,
                    ));
                }
            }
            // Out of descriptors or memory, or the client has gone again: the listener itself is sound.
            Err(error) => {
                crate::output::complain(&format!("sshd: accept: {error}"));
                sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

/// Both families on one socket, or IPv4 alone on a kernel without IPv6.
async fn listen(address: Option<std::net::IpAddr>, port: u16) -> std::io::Result<TcpListener> {
    if let Some(address) = address {
        return TcpListener::bind((address, port)).await;
    }
    match TcpListener::bind((std::net::Ipv6Addr::UNSPECIFIED, port)).await {
        Err(error) if error.kind() != std::io::ErrorKind::AddrInUse => {
            TcpListener::bind((std::net::Ipv4Addr::UNSPECIFIED, port)).await
        }
        other => other,
    }
}

/// Serves one client to its end, and judges what it was.
async fn attend(
    server: Arc<Server>,
    config: Arc<Config>,
    socket: TcpStream,
    client: SocketAddr,
    gate: Arc<Gate>,
) {
    let came = Instant::now();
    let ended = serve_client(Arc::clone(&server), config, socket, client, &gate).await;
    if gate.is_authenticated() {
        return server.sources.trust(client.ip(), Instant::now());
    }
    let offence = match ended {
        _ if gate.has_refused() => Offence::WrongKey,
        _ if came.elapsed() >= LOGIN_GRACE => Offence::TooSlow,
        Ok(()) | Err(russh::Error::IO(_) | russh::Error::HUP | russh::Error::Disconnect) => Offence::NoKey,
        Err(_) => Offence::Garbage,
    };
    server.sources.punish(client.ip(), offence, Instant::now());
}

async fn serve_client(
    server: Arc<Server>,
    config: Arc<Config>,
    socket: TcpStream,
    client: SocketAddr,
    gate: &Arc<Gate>,
) -> Result<(), russh::Error> {
    let server_address = plain(socket.local_addr()?);
    watch_by_tcp(&socket)?;
    let peer = Peer {
        client,
        server: server_address,
    };
    let handler = Connection::new(server, Arc::clone(gate), peer);
    // russh reads the four bytes of a packet's length by themselves.
    let line = BufReader::with_capacity(TWO_PACKETS, Line::new(socket, Arc::clone(gate)));
    let came = Instant::now();
    let Ok(session) = timeout(LOGIN_GRACE, russh::server::run_stream(config, line, handler)).await else {
        return Err(russh::Error::ConnectionTimeout);
    };
    let session = session?;
    let watching = async {
        loop {
            sleep(Duration::from_secs(5)).await;
            if !gate.is_authenticated() && came.elapsed() > LOGIN_GRACE {
                gate.close("no key was shown in time");
            } else if gate.silent_for() > GONE_AFTER {
                gate.close("the client does not answer");
            }
        }
    };
    tokio::select! {
        ended = session => ended,
        () = watching => Ok(()),
    }
}

/// An IPv4 client of the dual-stack socket, as people write it.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn watch_by_tcp(socket: &TcpStream) -> std::io::Result<()> {
    use rustix::net::sockopt;
    socket.set_nodelay(true)?;
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, TCP_IDLE)?;
    sockopt::set_tcp_keepintvl(socket, TCP_PROBE)?;
    sockopt::set_tcp_keepcnt(socket, TCP_PROBES)?;
    Ok(sockopt::set_tcp_user_timeout(socket, TCP_UNACKNOWLEDGED_MS)?)
}
