//! One client: who it is, and what it asks of its channels.
//!
//! Requests are answered here, in the order they come, because clients send several before they read a reply; what a
//! session does afterwards is in [`super::session`].

use super::child::{self, Program};
use super::gate::Gate;
use super::pty::{Size, Wanted};
use super::session::{self, Start};
use super::{Peer, Server, hold};
use crate::control;
use lifeboot_contract::control::SessionKind;
use lifeboot_contract::event::Level;
use russh::keys::HashAlg;
use russh::server::{Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, Session, VerifiedPublicKey};
use russh::{Channel, ChannelId, ChannelOpenFailure, Pty};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::oneshot;

/// The only user there is.
const USER: &str = "root";

/// Channels one connection may have at a time, as in OpenSSH.
const MOST_CHANNELS: usize = 10;

/// Variables a client may set, beside `LC_*`: those that only change how text looks.
const VARIABLES: [&str; 2] = ["LANG", "TERM"];

/// Variables a channel may set; more are refused.
const MOST_VARIABLES: usize = 32;

/// One client.
pub struct Connection {
    server: Arc<Server>,
    gate: Arc<Gate>,
    peer: Peer,
    user: String,
    key: String,
    tried: u32,
    channels: HashMap<ChannelId, Opening>,
}

/// A channel whose program has not been named yet.
struct Opening {
    terminal: Option<Wanted>,
    environment: Vec<(String, String)>,
    start: Option<oneshot::Sender<Start>>,
}

impl Connection {
    /// A client that has just come.
    pub fn new(server: Arc<Server>, gate: Arc<Gate>, peer: Peer) -> Connection {
        Connection {
            server,
            gate,
            peer,
            user: String::new(),
            key: String::new(),
            tried: 0,
            channels: HashMap::new(),
        }
    }

    async fn start(
        &mut self,
        id: ChannelId,
        program: Program,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        let kind = match program {
            Program::Shell => SessionKind::Shell,
            Program::Command(_) => SessionKind::Exec,
            Program::Sftp => SessionKind::Sftp,
        };
        // A second request on a channel that already runs something is refused (RFC 4254 section 6.5).
        let Some((opening, start)) = self
            .channels
            .get_mut(&id)
            .and_then(|o| Some((&o.terminal, &o.environment)).zip(o.start.take()))
        else {
            return session.channel_failure(id);
        };
        let (terminal, environment) = opening;
        let who = format!("{USER} from {}", self.peer.client.ip());
        let hold = hold::take(&self.server.paths.run_dir, who, kind).await;
        match child::start(
            &self.server.paths,
            &self.peer,
            &program,
            terminal.as_ref(),
            environment,
        ) {
            Ok(running) => {
                session.channel_success(id)?;
                drop(start.send(Start { running, hold }));
                Ok(())
            }
            Err(error) => {
                let what = format!("session not started: {error:#}");
                let event = control::event(Level::Warn, "child.error")
                    .with("child", "sshd")
                    .with("what", what.clone());
                hold::tell(&self.server.paths.run_dir, event.text(format!("sshd: {what}")));
                session.extended_data(id, 1, format!("lifeboot: {what}\r\n").into_bytes())?;
                session.channel_failure(id)?;
                session.close(id)
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if !self.gate.is_authenticated() && self.tried > 0 {
            let what = format!("{} keys were offered, none is authorized", self.tried);
            let event = control::event(Level::Info, "ssh.refused")
                .with("user", self.user.clone())
                .with("peer", self.peer.client.to_string())
                .with("what", what);
            hold::tell(&self.server.paths.run_dir, event);
        }
    }
}

impl Handler for Connection {
    type Error = russh::Error;

    async fn auth_publickey_offered(
        &mut self,
        user: &str,
        offer: PublicKeyOffer<'_>,
    ) -> Result<Auth, Self::Error> {
        self.tried += 1;
        user.clone_into(&mut self.user);
        let allowed = user == USER && self.server.authorized.allows(offer.public_key, offer.algorithm);
        Ok(if allowed { Auth::Accept } else { Auth::reject() })
    }

    async fn auth_publickey(&mut self, user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, Self::Error> {
        if user != USER || !self.server.authorized.allows(key.public_key, key.algorithm) {
            return Ok(Auth::reject());
        }
        user.clone_into(&mut self.user);
        self.key = key.public_key.fingerprint(HashAlg::Sha256).to_string();
        Ok(Auth::Accept)
    }

    async fn auth_succeeded(&mut self, _: &mut Session) -> Result<(), Self::Error> {
        self.gate.authenticate();
        let event = control::event(Level::Info, "ssh.login")
            .with("user", self.user.clone())
            .with("key", self.key.clone())
            .with("peer", self.peer.client.to_string());
        hold::tell(&self.server.paths.run_dir, event);
        Ok(())
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        if self.channels.len() >= MOST_CHANNELS {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        }
        let (start, started) = oneshot::channel();
        let opening = Opening {
            terminal: None,
            environment: Vec::new(),
            start: Some(start),
        };
        self.channels.insert(channel.id(), opening);
        tokio::spawn(session::serve(
            channel,
            session.handle(),
            Arc::clone(&self.gate),
            started,
        ));
        reply.accept().await;
        Ok(())
    }

    async fn channel_close(&mut self, channel: ChannelId, _: &mut Session) -> Result<(), Self::Error> {
        self.channels.remove(&channel);
        Ok(())
    }

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        term: &str,
        columns: u32,
        rows: u32,
        _: u32,
        _: u32,
        modes: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        match self.channels.get_mut(&channel) {
            Some(opening) if opening.start.is_some() => {
                let size = Size { columns, rows };
                opening.terminal = Some(Wanted {
                    term: term.to_owned(),
                    size,
                    modes: modes.to_vec(),
                });
                session.channel_success(channel)
            }
            _ => session.channel_failure(channel),
        }
    }

    async fn env_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        value: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let harmless = VARIABLES.contains(&name) || name.starts_with("LC_");
        match self.channels.get_mut(&channel) {
            // A NUL would end the value early, or the spawn with an error.
            Some(opening)
                if harmless && opening.environment.len() < MOST_VARIABLES && !has_nul(name, value) =>
            {
                opening.environment.push((name.to_owned(), value.to_owned()));
                session.channel_success(channel)
            }
            _ => session.channel_failure(channel),
        }
    }

    async fn shell_request(&mut self, channel: ChannelId, session: &mut Session) -> Result<(), Self::Error> {
        self.start(channel, Program::Shell, session).await
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        command: &[u8],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.start(channel, Program::Command(command.to_vec()), session)
            .await
    }

    async fn subsystem_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        match name {
            "sftp" => self.start(channel, Program::Sftp, session).await,
            _ => session.channel_failure(channel),
        }
    }
}

fn has_nul(name: &str, value: &str) -> bool {
    name.contains('\0') || value.contains('\0')
}
