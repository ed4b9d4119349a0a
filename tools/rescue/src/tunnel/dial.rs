//! From a bastion's name to a port on it that leads here.

use super::far::{Far, Known};
use super::pins::Pins;
use crate::control;
use crate::sshd::gate::{Gate, Line};
use anyhow::{Context as _, anyhow, bail};
use lifeboot_contract::control::Request;
use lifeboot_contract::event::{Event, Level};
use lifeboot_contract::tunnel::Bastion;
use russh::SshId;
use russh::client::{self, AuthResult, Config, Handle};
use russh::keys::{PrivateKey, PrivateKeyWithHashAlg};
use std::borrow::Cow;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

/// Time for a name server.
const RESOLVE: Duration = Duration::from_secs(15);
/// Time for one address to answer.
const CONNECT: Duration = Duration::from_secs(10);
/// Addresses of a name that are tried.
const MOST_ADDRESSES: usize = 4;
/// Time for keys to be exchanged and shown, and the port to be opened.
const GREET: Duration = Duration::from_secs(30);
/// Without a word from the bastion for so long it is asked for one ...
const ASK_AFTER: Duration = Duration::from_secs(15);
/// ... and without any for so long it is gone.
const GONE_AFTER: Duration = Duration::from_secs(45);
/// What is asked for on the bastion: its loopback, whatever its GatewayPorts says of others.
const LOOPBACK: &str = "localhost";

/// The key this machine shows.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The key.
    pub key: Arc<PrivateKey>,
    /// Its public half as in authorized_keys.
    pub public: String,
    /// `SHA256:…`
    pub fingerprint: String,
}

/// Everything needed to dial one bastion.
#[derive(Debug, Clone)]
pub struct Dialer {
    /// Where.
    pub bastion: Bastion,
    /// What it must show.
    pub pins: Pins,
    identity: Identity,
    /// The ssh server here.
    ssh_port: u16,
    /// Where connections to it come from.
    pub source: Ipv4Addr,
}

/// A bastion that leads here.
pub struct Tunnel {
    /// The port on its loopback.
    pub port: u16,
    /// Its host key's fingerprint.
    pub host_key: String,
    handle: Handle<Far>,
    gate: Arc<Gate>,
    gone: oneshot::Receiver<String>,
}

impl Dialer {
    /// A dialer of `bastion` for the ssh server at `ssh_port`.
    pub fn new(bastion: Bastion, pins: Pins, identity: Identity, ssh_port: u16, source: Ipv4Addr) -> Dialer {
        Dialer {
            bastion,
            pins,
            identity,
            ssh_port,
            source,
        }
    }

    /// Connects, logs in and has a port opened.
    ///
    /// # Errors
    /// The step that failed, with the number.
    pub async fn dial(&self) -> anyhow::Result<Tunnel> {
        let (mut tunnel, port, _) = self.login().await?;
        let wanted = self.bastion.listen;
        // Somebody may come before the answer is looked at.
        port.store(wanted.into(), Ordering::Relaxed);
        let opened = timeout(GREET, tunnel.handle.tcpip_forward(LOOPBACK, wanted.into()))
            .await
            .map_err(|_| anyhow!("no answer when asked for a port within {} s", GREET.as_secs()))?;
        tunnel.port = match opened {
            // It tells the port only when it chose.
            Ok(chosen) if wanted == 0 => u16::try_from(chosen)
                .ok()
                .filter(|port| *port != 0)
                .with_context(|| format!("it opened port {chosen}, which is none"))?,
            Ok(_) => wanted,
            Err(russh::Error::RequestDenied) if wanted == 0 => {
                bail!("it opens no port for this key: see permitlisten and AllowTcpForwarding there")
            }
            Err(russh::Error::RequestDenied) => bail!(
                "it does not open port {wanted} there: it is in use, or this key may not have it (permitlisten, AllowTcpForwarding)"
            ),
            Err(error) => return Err(error).context("asking for a port"),
        };
        port.store(tunnel.port.into(), Ordering::Relaxed);
        Ok(tunnel)
    }

    /// Connects and logs in, no more; returns what was met.
    ///
    /// # Errors
    /// As [`Dialer::dial`].
    pub async fn try_login(&self) -> anyhow::Result<String> {
        let (tunnel, _, at) = self.login().await?;
        Ok(format!(
            "reached at {at}, host key {} as pinned, lets this machine in as {}",
            tunnel.host_key, self.bastion.user
        ))
    }

    async fn login(&self) -> anyhow::Result<(Tunnel, Arc<AtomicU32>, SocketAddr)> {
        let (socket, at) = self.connect().await?;
        let gate = Gate::new();
        let (far, known) = Far::new(self.clone(), Arc::clone(&gate));
        let Known { seen, port, gone } = known;
        let line = Line::new(socket, Arc::clone(&gate));
        let shown = || {
            seen.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone()
                .unwrap_or_default()
        };
        let greeting = client::connect_stream(Arc::new(self.config()), line, far);
        let handle = match timeout(GREET, greeting).await {
            Err(_) => bail!("{at}: no ssh server answers within {} s", GREET.as_secs()),
            Ok(Err(russh::Error::UnknownKey)) => bail!(
                "{at}: its host key is {}, which is not the pinned one; nothing was told to it",
                shown()
            ),
            Ok(Err(error)) => return Err(error).with_context(|| at.to_string()),
            Ok(Ok(handle)) => handle,
        };
        let mut tunnel = Tunnel {
            port: 0,
            host_key: shown(),
            handle,
            gate,
            gone,
        };
        match timeout(GREET, self.authenticate(&mut tunnel.handle)).await {
            Err(_) => bail!(
                "{at}: no answer to this machine's key within {} s",
                GREET.as_secs()
            ),
            Ok(Err(error)) => return Err(error).with_context(|| at.to_string()),
            Ok(Ok(AuthResult::Success)) => {}
            Ok(Ok(AuthResult::Failure { .. })) => bail!(
                "{at}: it does not let this machine's key {} in as {}",
                self.identity.fingerprint,
                self.bastion.user
            ),
        }
        Ok((tunnel, port, at))
    }

    /// The name is asked for anew each time: bastions move.
    async fn connect(&self) -> anyhow::Result<(TcpStream, SocketAddr)> {
        let (host, port) = (self.bastion.host.as_str(), self.bastion.port);
        let found = timeout(RESOLVE, lookup_host((host, port)))
            .await
            .map_err(|_| anyhow!("no answer from name servers within {} s", RESOLVE.as_secs()))
            .and_then(|found| Ok(found?))
            .with_context(|| host.to_owned())?;
        let mut last = anyhow!("{host}: has no address");
        for at in found.take(MOST_ADDRESSES) {
            match timeout(CONNECT, TcpStream::connect(at)).await {
                Ok(Ok(socket)) => {
                    socket.set_nodelay(true).with_context(|| at.to_string())?;
                    return Ok((socket, at));
                }
                Ok(Err(error)) => last = anyhow::Error::new(error).context(at.to_string()),
                Err(_) => last = anyhow!("{at}: no answer within {} s", CONNECT.as_secs()),
            }
        }
        Err(last)
    }

    async fn authenticate(&self, handle: &mut Handle<Far>) -> Result<AuthResult, russh::Error> {
        // A host key is of Ed25519, which has one way to sign.
        let key = PrivateKeyWithHashAlg::new(Arc::clone(&self.identity.key), None);
        handle.authenticate_publickey(&self.bastion.user, key).await
    }

    fn config(&self) -> Config {
        Config {
            client_id: SshId::Standard(Cow::Borrowed(concat!(
                "SSH-2.0-lifeboot_",
                env!("CARGO_PKG_VERSION")
            ))),
            preferred: self.pins.preferred(),
            window_size: 1 << 20,
            channel_buffer_size: 16,
            keepalive_interval: Some(ASK_AFTER),
            // The gate decides when the bastion is gone: what it takes is a sign of life too.
            keepalive_max: 0,
            ..Config::default()
        }
    }
}

impl Tunnel {
    /// Waits for its end; returns why.
    pub async fn watch(mut self) -> String {
        loop {
            tokio::select! {
                why = &mut self.gone => return why.unwrap_or_else(|_| "the connection ended".to_owned()),
                () = sleep(Duration::from_secs(5)) => {}
            }
            if self.gate.silent_for() > GONE_AFTER {
                self.gate.close("the bastion does not answer");
                return format!("no word from it for {} s", GONE_AFTER.as_secs());
            }
        }
    }
}

impl Dialer {
    /// Connects to the ssh server here, from the address by which the tunnel is known, after saying so.
    pub async fn local(&self, from: &str) -> anyhow::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((self.source, 0).into())?;
        let peer = socket.local_addr()?;
        let event = control::event(Level::Info, "tunnel.connection")
            .with("bastion", self.bastion.to_string())
            .with("from", from)
            .with("peer", peer.to_string());
        tell(event.text(format!("tunnel: somebody comes from {from} by {}", self.bastion))).await;
        let local = socket
            .connect((Ipv4Addr::LOCALHOST, self.ssh_port).into())
            .await?;
        local.set_nodelay(true)?;
        Ok(local)
    }
}

/// Tells PID 1, which answers at once or is in trouble; nobody waits for that.
pub async fn tell(event: Event) {
    let told = tokio::task::spawn_blocking(move || control::ask(&Request::Event(event))).await;
    if !matches!(told, Ok(Ok(_))) {
        crate::output::complain("tunnel: init was not told of an event");
    }
}
