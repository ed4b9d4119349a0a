//! `rescue sshd`: the ssh server, from the moment an address is there until the handover.
//!
//! Public keys only, one user, no forwarding. It is a process of its own so that PID 1 survives it; PID 1 starts it
//! again when it ends, and the host key in the run directory keeps it the same server for its clients.

mod child;
mod connection;
pub mod gate;
mod hold;
pub mod hostkey;
mod keys;
mod pty;
mod session;

use crate::control;
use anyhow::{Context as _, bail};
use argh::FromArgs;
use connection::Connection;
use gate::{Gate, Line};
use keys::Authorized;
use lifeboot_contract::event::Level;
use lifeboot_contract::plan::Plan;
use lifeboot_contract::tunnel::sshfp;
use russh::keys::{Algorithm, EcdsaCurve, HashAlg};
use russh::server::Config;
use russh::{MethodKind, MethodSet, Preferred, SshId};
use std::borrow::Cow;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

/// Time for a client to show its key, as in OpenSSH.
const LOGIN_GRACE: Duration = Duration::from_secs(120);

/// Without a word from the client for so long it is asked for one. Not shorter than [`LOGIN_GRACE`]: OpenSSH takes
/// such a question before the login for a protocol error and hangs up.
const ASK_AFTER: Duration = LOGIN_GRACE;

/// Without an answer for so long after that it is gone. A cut cable is noticed sooner, by TCP itself.
const GONE_AFTER: Duration = Duration::from_secs(ASK_AFTER.as_secs() + 60);

/// Clients that have not shown a key yet, at most; the oldest gives way, so idle strangers cannot lock anybody out.
const MOST_STRANGERS: usize = 32;

/// TCP: probes after 30 s of silence, every 10 s; a peer that acknowledges nothing for 75 s is gone.
const TCP_IDLE: Duration = Duration::from_secs(30);
const TCP_PROBE: Duration = Duration::from_secs(10);
const TCP_PROBES: u32 = 4;
const TCP_UNACKNOWLEDGED_MS: u32 = 75_000;

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
    #[argh(option, default = "PathBuf::from(crate::shell::interactive())")]
    shell: PathBuf,
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
    shell: PathBuf,
    sftp_server: PathBuf,
    home: PathBuf,
    /// This program, for [`crate::tty`].
    helper: PathBuf,
}

/// What all connections share.
#[derive(Debug)]
pub struct Server {
    paths: Paths,
    authorized: Authorized,
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
    let authorized = authorized(&plan, &run_dir)?;
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
    let config = Arc::new(config(host.key));
    let paths = Paths {
        run_dir,
        shell: options.shell,
        sftp_server: options.sftp_server,
        home: options.home,
        helper: std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/init")),
    };
    accept(&listener, &Arc::new(Server { paths, authorized }), &config).await
}

/// The keys that may log in; lines that cannot be taken are told, for their owner waits for a login that never comes.
fn authorized(plan: &Plan, run_dir: &Path) -> anyhow::Result<Authorized> {
    let (authorized, refused) = Authorized::parse(plan.ssh.authorized_keys.iter().map(String::as_str));
    for line in &refused {
        let what = format!("authorized key {}: {}", line.line, line.what);
        let event = control::event(Level::Warn, "child.error")
            .with("child", "sshd")
            .with("what", what.clone());
        hold::tell(run_dir, event.text(what));
    }
    if authorized.len() == 0 {
        bail!("no authorized key: put one into the image or give lifeboot.ssh-key=");
    }
    Ok(authorized)
}

async fn accept(listener: &TcpListener, server: &Arc<Server>, config: &Arc<Config>) -> ! {
    let strangers = Strangers::default();
    loop {
        match listener.accept().await {
            Ok((socket, client)) => {
                let gate = Gate::new();
                strangers.add(&gate);
                tokio::spawn(attend(
                    Arc::clone(server),
                    Arc::clone(config),
                    socket,
                    client,
                    gate,
                ));
            }
            // Out of descriptors or memory, or the client has gone again: the listener itself is sound.
            Err(error) => {
                crate::output::complain(&format!("sshd: accept: {error}"));
                sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

fn config(key: russh::keys::PrivateKey) -> Config {
    let algorithms = vec![
        Algorithm::Ed25519,
        Algorithm::Ecdsa {
            curve: EcdsaCurve::NistP256,
        },
        Algorithm::Ecdsa {
            curve: EcdsaCurve::NistP384,
        },
        Algorithm::Ecdsa {
            curve: EcdsaCurve::NistP521,
        },
        Algorithm::Rsa {
            hash: Some(HashAlg::Sha512),
        },
        Algorithm::Rsa {
            hash: Some(HashAlg::Sha256),
        },
        Algorithm::SkEd25519,
        Algorithm::SkEcdsaSha2NistP256,
    ];
    Config {
        server_id: SshId::Standard(Cow::Borrowed(concat!(
            "SSH-2.0-lifeboot_",
            env!("CARGO_PKG_VERSION")
        ))),
        methods: MethodSet::from(&[MethodKind::PublicKey][..]),
        auth_rejection_time: Duration::from_millis(300),
        auth_rejection_time_initial: Some(Duration::ZERO),
        keys: vec![key],
        // The gate bounds what waits; see there.
        window_size: 1 << 20,
        channel_buffer_size: 16,
        // Also what users' keys may be: it is what the client is told in server-sig-algs. SHA-1 is not among them.
        preferred: Preferred {
            key: Cow::Owned(algorithms),
            ..Preferred::DEFAULT
        },
        // Agents offer key after key; OpenSSH's 6 is too few for many people.
        max_auth_attempts: 10,
        inactivity_timeout: None,
        keepalive_interval: Some(ASK_AFTER),
        // The gate decides when a client is gone: it knows when it was not listened to.
        keepalive_max: 0,
        nodelay: true,
        ..Config::default()
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

/// Serves one client to its end.
async fn attend(
    server: Arc<Server>,
    config: Arc<Config>,
    socket: TcpStream,
    client: SocketAddr,
    gate: Arc<Gate>,
) {
    let Ok(local) = socket.local_addr() else { return };
    if watch_by_tcp(&socket).is_err() {
        return;
    }
    let peer = Peer {
        client: plain(client),
        server: plain(local),
    };
    let handler = Connection::new(server, Arc::clone(&gate), peer);
    let line = Line::new(socket, Arc::clone(&gate));
    let came = Instant::now();
    let Ok(Ok(session)) = timeout(LOGIN_GRACE, russh::server::run_stream(config, line, handler)).await else {
        return;
    };
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
        // A client that hangs up in the middle of a sentence is no error of ours.
        ended = session => drop(ended),
        () = watching => {}
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

/// Connections that have not shown a key, oldest first.
#[derive(Default)]
struct Strangers {
    gates: Mutex<Vec<std::sync::Weak<Gate>>>,
}

impl Strangers {
    fn add(&self, gate: &Arc<Gate>) {
        let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        gates.retain(|gate| gate.upgrade().is_some_and(|gate| !gate.is_authenticated()));
        if gates.len() >= MOST_STRANGERS
            && let Some(oldest) = gates.remove(0).upgrade()
        {
            oldest.close("too many clients without a key");
        }
        gates.push(Arc::downgrade(gate));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_stranger_gives_way_and_known_clients_do_not_count() {
        let strangers = Strangers::default();
        let known = Gate::new();
        known.authenticate();
        strangers.add(&known);
        let gates: Vec<_> = (0..=MOST_STRANGERS).map(|_| Gate::new()).collect();
        gates.iter().for_each(|gate| strangers.add(gate));
        let closed = |gate: &Arc<Gate>| gate.is_closed();
        assert!(!closed(&known) && closed(&gates[0]) && gates[1..].iter().all(|gate| !closed(gate)));
    }
}
