//! What a bastion may ask of this machine: connections to the port that was opened for it, and nothing else.
//!
//! russh accepts every kind of channel unless it is told otherwise, so each kind is named here; an answer that is dropped refuses.

use super::dial::Dialer;
use super::patience::Patience;
use crate::sshd::forward::relay;
use crate::sshd::gate::Gate;
use russh::client::{self, ChannelOpenHandle, DisconnectReason, Msg, Session};
use russh::keys::PublicKeyOrCertificate;
use russh::keys::ssh_key::HashAlg;
use russh::{Channel, ChannelOpenFailure};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Semaphore, oneshot};

/// Connections through one tunnel at a time.
const MOST_CONNECTIONS: usize = 16;

/// What russh asks when the bastion wants something.
pub struct Far {
    dialer: Dialer,
    gate: Arc<Gate>,
    /// The host key it showed, for people.
    seen: Arc<Mutex<Option<String>>>,
    /// The port that was opened; 0 as long as there is none.
    port: Arc<AtomicU32>,
    connections: Arc<Semaphore>,
    gone: Option<oneshot::Sender<String>>,
}

/// What is known of a bastion from outside of russh.
pub struct Known {
    /// The host key it showed, for people.
    pub seen: Arc<Mutex<Option<String>>>,
    /// The port that was opened; 0 as long as there is none.
    pub port: Arc<AtomicU32>,
    /// Why the connection ended.
    pub gone: oneshot::Receiver<String>,
}

impl Far {
    /// For a bastion that is about to be greeted.
    pub fn new(dialer: Dialer, gate: Arc<Gate>) -> (Far, Known) {
        let (tell, gone) = oneshot::channel();
        let known = Known {
            seen: Arc::default(),
            port: Arc::default(),
            gone,
        };
        let far = Far {
            dialer,
            gate,
            seen: Arc::clone(&known.seen),
            port: Arc::clone(&known.port),
            connections: Arc::new(Semaphore::new(MOST_CONNECTIONS)),
            gone: Some(tell),
        };
        (far, known)
    }

    /// Whether a channel may be opened at all.
    fn welcome(&self, port: u32) -> bool {
        port != 0 && port == self.port.load(Ordering::Relaxed)
    }

    /// Hands a connection to the ssh server here.
    async fn let_in(&self, channel: Channel<Msg>, reply: ChannelOpenHandle, from: String) {
        let Ok(place) = Arc::clone(&self.connections).try_acquire_owned() else {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return;
        };
        let (dialer, gate) = (self.dialer.clone(), Arc::clone(&self.gate));
        let connections = Arc::clone(&self.connections);
        // Not here: the session waits for this function, and with it every other channel.
        tokio::spawn(async move {
            match dialer.local(&from).await {
                Ok(local) => {
                    reply.accept().await;
                    let crowd = move || connections.available_permits() + 1 < MOST_CONNECTIONS;
                    relay(channel, Patience::new(local, Arc::clone(&gate), crowd), &gate).await;
                }
                Err(_) => reply.reject(ChannelOpenFailure::ConnectFailed).await,
            }
            drop(place);
        });
    }
}

impl client::Handler for Far {
    type Error = russh::Error;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        let PublicKeyOrCertificate::PublicKey { key, .. } = shown else {
            return Ok(false);
        };
        let fingerprint = format!("{} {}", key.algorithm(), key.fingerprint(HashAlg::Sha256));
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(fingerprint);
        Ok(self.dialer.pins.allow(key))
    }

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        channel: Channel<Msg>,
        _: &str,
        port: u32,
        originator: &str,
        originator_port: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        // Named by a stranger and printed on consoles.
        let plain = |c: &char| c.is_ascii_graphic();
        let originator: String = originator.chars().filter(plain).take(64).collect();
        if self.welcome(port) {
            self.let_in(channel, reply, format!("{originator} port {originator_port}"))
                .await;
        }
        // Dropped unanswered, `reply` refuses.
        Ok(())
    }

    async fn server_channel_open_forwarded_streamlocal(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    async fn server_channel_open_agent_forward(
        &mut self,
        _: Channel<Msg>,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    async fn server_channel_open_session(
        &mut self,
        _: Channel<Msg>,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    async fn server_channel_open_direct_tcpip(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    async fn server_channel_open_direct_streamlocal(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    async fn server_channel_open_x11(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    async fn disconnected(&mut self, reason: DisconnectReason<Self::Error>) -> Result<(), Self::Error> {
        let (why, result) = match reason {
            DisconnectReason::ReceivedDisconnect(told) => (format!("it hung up: {}", told.message), Ok(())),
            DisconnectReason::Error(error) => (error.to_string(), Err(error)),
        };
        if let Some(tell) = self.gone.take() {
            // Nobody listens any more after the watch has given it up.
            drop(tell.send(why));
        }
        result
    }
}
