//! Forwarded connections: `-L`, `-D` and `-W` (the client opens a channel to somewhere), `-R` (a listener here opens channels to the client),
//! and the agent's socket, which is a listener of another kind.
//!
//! None of them holds the boot: only sessions do. Listeners end with the connection they belong to.

use super::gate::Gate;
use super::input::{Input, Room};
use super::pump::{Out, Pipe};
use russh::server::{ChannelOpenHandle, Handle, Msg};
use russh::{Channel, ChannelId, ChannelMsg, ChannelOpenFailure};
use rustix::rand::{GetRandomFlags, getrandom};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Forwarded connections that one client may have at a time: a browser behind `-D` opens dozens.
const MOST_FORWARDS: usize = 128;

/// Listeners of one client.
const MOST_LISTENERS: usize = 16;

/// Time for a connection to be made, name looked up.
const CONNECT: Duration = Duration::from_secs(30);

/// How long what a client sent before it closed a channel may take to be delivered.
const LAST_WORDS: Duration = Duration::from_secs(600);

/// The forwarding of one client.
#[derive(Debug)]
pub struct Forwards {
    gate: Arc<Gate>,
    places: Arc<Semaphore>,
    listeners: Vec<Listener>,
    agent: Option<Agent>,
}

/// A port, on one or both loopback addresses.
#[derive(Debug)]
struct Listener {
    address: String,
    port: u16,
    _tasks: JoinSet<()>,
}

/// The socket that leads to the client's agent, in a directory of its own.
#[derive(Debug)]
struct Agent {
    dir: PathBuf,
    _tasks: JoinSet<()>,
}

impl Forwards {
    /// None yet.
    pub fn new(gate: &Arc<Gate>) -> Forwards {
        Forwards {
            gate: Arc::clone(gate),
            places: Arc::new(Semaphore::new(MOST_FORWARDS)),
            listeners: Vec::new(),
            agent: None,
        }
    }

    fn place(&self) -> Place {
        Place {
            gate: Arc::clone(&self.gate),
            places: Arc::clone(&self.places),
        }
    }

    /// Connects to `host`, and tells the client how that went; returns at once.
    pub fn connect(&self, channel: Channel<Msg>, host: String, port: u16, reply: ChannelOpenHandle) {
        let place = self.place();
        tokio::spawn(async move {
            let Some(taken) = place.take() else {
                return reply.reject(ChannelOpenFailure::ResourceShortage).await;
            };
            match timeout(CONNECT, TcpStream::connect((host.as_str(), port))).await {
                Ok(Ok(stream)) => {
                    reply.accept().await;
                    crate::output::ignore(stream.set_nodelay(true));
                    relay(channel, stream, &place.gate).await;
                }
                _ => reply.reject(ChannelOpenFailure::ConnectFailed).await,
            }
            drop(taken);
        });
    }

    /// Listens on loopback for the client, whatever address it asks for; the port, which it may have left open.
    ///
    /// # Errors
    /// The kernel's, or that there are enough listeners.
    pub async fn listen(&mut self, address: &str, port: u16, handle: &Handle) -> io::Result<u16> {
        if self.listeners.len() >= MOST_LISTENERS {
            return Err(io::Error::other("too many listeners"));
        }
        let (first, second): (IpAddr, Option<IpAddr>) = match address {
            "127.0.0.1" => (Ipv4Addr::LOCALHOST.into(), None),
            "::1" => (Ipv6Addr::LOCALHOST.into(), None),
            _ => (Ipv4Addr::LOCALHOST.into(), Some(Ipv6Addr::LOCALHOST.into())),
        };
        let listener = TcpListener::bind((first, port)).await?;
        let port = listener.local_addr()?.port();
        let mut tasks = JoinSet::new();
        tasks.spawn(serve_port(
            listener,
            address.to_owned(),
            port,
            handle.clone(),
            self.place(),
        ));
        if let Some(second) = second
            && let Ok(listener) = TcpListener::bind((second, port)).await
        {
            tasks.spawn(serve_port(
                listener,
                address.to_owned(),
                port,
                handle.clone(),
                self.place(),
            ));
        }
        self.listeners.push(Listener {
            address: address.to_owned(),
            port,
            _tasks: tasks,
        });
        Ok(port)
    }

    /// Ends a listener; whether there was one.
    pub fn cancel(&mut self, address: &str, port: u32) -> bool {
        let before = self.listeners.len();
        self.listeners
            .retain(|listener| listener.address != address || u32::from(listener.port) != port);
        self.listeners.len() < before
    }

    /// The path of the socket that leads to the client's agent, made when it is first asked for.
    ///
    /// # Errors
    /// The file system's.
    pub fn agent(&mut self, run_dir: &Path, handle: &Handle) -> io::Result<PathBuf> {
        if self.agent.is_none() {
            self.agent = Some(Agent::listen(run_dir, handle.clone(), self.place())?);
        }
        let agent = self.agent.as_ref().map(Agent::path);
        agent.ok_or_else(|| io::Error::other("no agent"))
    }
}

impl Agent {
    fn listen(run_dir: &Path, handle: Handle, place: Place) -> io::Result<Agent> {
        let mut random = [0; 8];
        getrandom(&mut random, GetRandomFlags::empty())?;
        let dir = run_dir.join(format!("agent-{:016x}", u64::from_le_bytes(random)));
        std::fs::DirBuilder::new().mode(0o700).create(&dir)?;
        let mut agent = Agent {
            dir,
            _tasks: JoinSet::new(),
        };
        let listener = UnixListener::bind(agent.path())?;
        agent._tasks.spawn(serve_agent(listener, handle, place));
        Ok(agent)
    }

    fn path(&self) -> PathBuf {
        self.dir.join("socket")
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        crate::output::ignore(std::fs::remove_dir_all(&self.dir));
    }
}

/// Room for one more connection.
#[derive(Debug, Clone)]
struct Place {
    gate: Arc<Gate>,
    places: Arc<Semaphore>,
}

impl Place {
    fn take(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }
}

async fn serve_port(listener: TcpListener, address: String, port: u16, handle: Handle, place: Place) {
    loop {
        let Ok((stream, from)) = listener.accept().await else {
            sleep(Duration::from_millis(200)).await;
            continue;
        };
        // Dropped where there is no room: a connection that is closed again.
        let Some(taken) = place.take() else { continue };
        crate::output::ignore(stream.set_nodelay(true));
        let (handle, address, place) = (handle.clone(), address.clone(), place.clone());
        tokio::spawn(async move {
            let ip = from.ip().to_string();
            let opened = handle
                .channel_open_forwarded_tcpip(address, u32::from(port), ip, u32::from(from.port()))
                .await;
            if let Ok(channel) = opened {
                relay(channel, stream, &place.gate).await;
            }
            drop(taken);
        });
    }
}

async fn serve_agent(listener: UnixListener, handle: Handle, place: Place) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            sleep(Duration::from_millis(200)).await;
            continue;
        };
        let Some(taken) = place.take() else { continue };
        let (handle, place) = (handle.clone(), place.clone());
        tokio::spawn(async move {
            if let Ok(channel) = handle.channel_open_agent().await {
                relay(channel, stream, &place.gate).await;
            }
            drop(taken);
        });
    }
}

/// Carries bytes both ways until both have ended, or either has broken.
pub async fn relay<M>(channel: Channel<M>, stream: impl AsyncRead + AsyncWrite, gate: &Arc<Gate>)
where
    M: From<(ChannelId, ChannelMsg)> + Send + Sync + 'static,
{
    let (mut read, write) = channel.split();
    let (from, to) = tokio::io::split(stream);
    let input = Input::new(gate);
    let messages = async {
        while let Some(message) = read.wait().await {
            match message {
                ChannelMsg::Data { data } if input.add(&data) == Room::Gone => return,
                ChannelMsg::Eof => input.end(),
                ChannelMsg::Close => {
                    // A client that has heard and said everything closes at once; what it said may still be on its way.
                    input.end();
                    drop(timeout(LAST_WORDS, input.fed()).await);
                    return;
                }
                _ => {}
            }
        }
    };
    let (_alive, end) = watch::channel(false);
    let out = Out { write: &write, end };
    let back = async {
        let ended = out.pump(Pipe(from), None).await;
        if ended.is_ok() {
            drop(write.eof().await);
        }
        ended
    };
    let feeding = async {
        input.feed(to).await;
        Ok(())
    };
    tokio::select! {
        // An error on the way back ends both: it says that the connection is broken.
        broken = async { tokio::try_join!(feeding, back) } => drop(broken),
        () = messages => {}
    }
    drop(write.close().await);
}
