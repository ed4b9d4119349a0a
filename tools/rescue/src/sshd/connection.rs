//! One client: who it is, and what it asks of its channels.
//!
//! Requests are answered here, in the order they come, because clients send several before they read a reply; what a
//! session does afterwards is in [`super::session`], forwarded connections are in [`super::forward`].

use super::forward::Forwards;
use super::gate::Gate;
use super::grant::User;
use super::keys::Attempt;
use super::pty::{Size, Wanted};
use super::requests::{Asked, Requests};
use super::{Peer, Server, session};
use crate::control;
use lifeboot_contract::authorized::Grant;
use lifeboot_contract::event::{Event, Level};
use russh::keys::{Certificate, HashAlg};
use russh::server::{Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, Session, VerifiedPublicKey};
use russh::{Channel, ChannelId, ChannelOpenFailure, Pty};
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Keys a client may offer, more than it may show and be refused: where there is an authority every key is worth a look.
const MOST_OFFERS: u32 = 40;

/// One client.
pub struct Connection {
    server: Arc<Server>,
    gate: Arc<Gate>,
    peer: Peer,
    /// The name it gave.
    name: String,
    offers: u32,
    why_not: Option<String>,
    login: Option<Login>,
    requests: Requests,
    forwards: Forwards,
}

/// Somebody who has proved who they are.
struct Login {
    user: User,
    grant: Grant,
    key: String,
    /// Name and serial of the certificate.
    certificate: Option<(String, u64)>,
    since: Instant,
}

impl Connection {
    /// A client that has just come.
    pub fn new(server: Arc<Server>, gate: Arc<Gate>, peer: Peer) -> Connection {
        let requests = Requests::new(Arc::clone(&server), peer);
        Connection {
            server,
            forwards: Forwards::new(&gate),
            gate,
            peer,
            name: String::new(),
            offers: 0,
            why_not: None,
            login: None,
            requests,
        }
    }

    /// The attempt to log in under this name, or that there is nobody of that name.
    fn attempt(&mut self, name: &str) -> Result<Attempt, String> {
        name.clone_into(&mut self.name);
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Ok(Attempt {
            user: User::named(name).ok_or("there is no such user")?,
            client: self.peer.client.ip(),
            now: now.map_or(0, |now| now.as_secs()),
        })
    }

    fn answer(&mut self, granted: Result<Login, String>) -> Auth {
        match granted {
            Ok(login) => {
                self.login = Some(login);
                Auth::Accept
            }
            Err(why) => self.reject(why),
        }
    }

    fn reject(&mut self, why: String) -> Auth {
        self.gate.refuse();
        self.why_not = Some(why);
        Auth::reject()
    }

    fn grants(&self, what: impl FnOnce(&Grant) -> bool) -> bool {
        self.login.as_ref().is_some_and(|login| what(&login.grant))
    }

    async fn start(
        &mut self,
        id: ChannelId,
        asked: Asked<'_>,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        match &self.login {
            Some(Login { user, grant, .. }) => self.requests.start(id, (*user, grant), asked, session).await,
            None => session.channel_failure(id),
        }
    }

    fn event(&self, name: &str) -> Event {
        control::event(Level::Info, name)
            .with("user", self.name.clone())
            .with("peer", self.peer.client.to_string())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(login) = &self.login {
            let event = self
                .event("ssh.logout")
                .with("seconds", login.since.elapsed().as_secs());
            self.server.notes.tell(event);
        } else if let Some(why) = self.why_not.take() {
            let what = match self.offers {
                0 | 1 => why,
                offers => format!("{offers} keys were offered, of the last: {why}"),
            };
            self.server
                .notes
                .refusal(self.event("ssh.refused").with("what", what));
        }
    }
}

impl Handler for Connection {
    type Error = russh::Error;

    fn adjust_window(&mut self, _: ChannelId, _: u32) -> u32 {
        self.gate.window()
    }

    async fn auth_publickey_offered(
        &mut self,
        user: &str,
        offer: PublicKeyOffer<'_>,
    ) -> Result<Auth, Self::Error> {
        self.offers += 1;
        if self.offers > MOST_OFFERS {
            self.gate.close("too many keys were offered");
        }
        let fits = self.attempt(user).and_then(|attempt| {
            let authorized = &self.server.authorized;
            authorized.may_fit(offer.public_key, offer.algorithm, attempt)
        });
        Ok(match fits {
            Ok(()) => Auth::Accept,
            Err(why) => self.reject(why),
        })
    }

    async fn auth_publickey(&mut self, user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, Self::Error> {
        let granted = self.attempt(user).and_then(|attempt| {
            let grant = self
                .server
                .authorized
                .granted(key.public_key, key.algorithm, attempt)?;
            Ok(Login {
                user: attempt.user,
                grant,
                key: key.public_key.fingerprint(HashAlg::Sha256).to_string(),
                certificate: None,
                since: Instant::now(),
            })
        });
        Ok(self.answer(granted))
    }

    async fn auth_openssh_certificate(
        &mut self,
        user: &str,
        certificate: &Certificate,
    ) -> Result<Auth, Self::Error> {
        let granted = self.attempt(user).and_then(|attempt| {
            let grant = self.server.authorized.certified(certificate, attempt)?;
            Ok(Login {
                user: attempt.user,
                grant,
                key: certificate.public_key().fingerprint(HashAlg::Sha256).to_string(),
                certificate: Some((certificate.key_id().to_owned(), certificate.serial())),
                since: Instant::now(),
            })
        });
        Ok(self.answer(granted))
    }

    async fn auth_succeeded(&mut self, _: &mut Session) -> Result<(), Self::Error> {
        self.gate.authenticate();
        self.server.sources.trust(self.peer.client.ip(), Instant::now());
        let mut event = self.event("ssh.login");
        if let Some(login) = &self.login {
            event = event.with("key", login.key.clone());
            if let Some((name, serial)) = &login.certificate {
                event = event.with("certificate", name.clone()).with("serial", *serial);
            }
        }
        self.server.notes.tell(event);
        Ok(())
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let Some(place) = self.requests.open(channel.id()) else {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        };
        tokio::spawn(session::serve(
            channel,
            session.handle(),
            Arc::clone(&self.gate),
            place,
        ));
        reply.accept().await;
        Ok(())
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host: &str,
        port: u32,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        let port = u16::try_from(port).unwrap_or(0);
        if port > 0 && self.grants(|grant| grant.may_open(host, port)) {
            self.forwards.connect(channel, host.to_owned(), port, reply);
        } else {
            reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
        }
        Ok(())
    }

    async fn tcpip_forward(
        &mut self,
        address: &str,
        port: &mut u32,
        session: &mut Session,
    ) -> Result<bool, Self::Error> {
        let Ok(wanted) = u16::try_from(*port) else {
            return Ok(false);
        };
        if !self.grants(|grant| grant.may_listen(address, wanted)) {
            return Ok(false);
        }
        let listening = self.forwards.listen(address, wanted, &session.handle()).await;
        Ok(listening.map(|bound| *port = u32::from(bound)).is_ok())
    }

    async fn cancel_tcpip_forward(
        &mut self,
        address: &str,
        port: u32,
        _: &mut Session,
    ) -> Result<bool, Self::Error> {
        Ok(self.forwards.cancel(address, port))
    }

    async fn agent_request(
        &mut self,
        channel: ChannelId,
        session: &mut Session,
    ) -> Result<bool, Self::Error> {
        if !self.grants(|grant| grant.agent) {
            return Ok(false);
        }
        let (forwards, run_dir) = (&mut self.forwards, &self.server.paths.run_dir);
        Ok(self
            .requests
            .agent(channel, || forwards.agent(run_dir, &session.handle())))
    }

    async fn channel_close(&mut self, channel: ChannelId, _: &mut Session) -> Result<(), Self::Error> {
        self.requests.close(channel);
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
        let wanted = Wanted {
            term: term.to_owned(),
            size: Size { columns, rows },
            modes: modes.to_vec(),
        };
        let given = self.grants(|grant| grant.terminal) && self.requests.terminal(channel, wanted);
        reply_to(channel, given, session)
    }

    async fn env_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        value: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let set = self.requests.variable(channel, name, value);
        reply_to(channel, set, session)
    }

    async fn x11_request(
        &mut self,
        channel: ChannelId,
        _: bool,
        _: &str,
        _: &str,
        _: u32,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        // Without an answer a client takes the next one, the command's, for it.
        session.channel_failure(channel)
    }

    async fn shell_request(&mut self, channel: ChannelId, session: &mut Session) -> Result<(), Self::Error> {
        self.start(channel, Asked::Shell, session).await
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        command: &[u8],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.start(channel, Asked::Command(command), session).await
    }

    async fn subsystem_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        match name {
            "sftp" => self.start(channel, Asked::Sftp, session).await,
            _ => session.channel_failure(channel),
        }
    }
}

fn reply_to(channel: ChannelId, done: bool, session: &mut Session) -> Result<(), russh::Error> {
    if done {
        session.channel_success(channel)
    } else {
        session.channel_failure(channel)
    }
}
