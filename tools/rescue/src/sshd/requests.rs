//! What a client asks of its session channels before and when something is run in them.

use super::child::{self, Program, Setting};
use super::grant::User;
use super::hold::{self, Hold};
use super::pty::Wanted;
use super::session::{Place, Start};
use super::{Peer, Server, copy_id};
use lifeboot_contract::authorized::Grant;
use lifeboot_contract::control::SessionKind;
use russh::ChannelId;
use russh::server::Session;
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Weak};
use tokio::sync::oneshot;

/// Sessions one connection may have at a time, as in OpenSSH.
const MOST_SESSIONS: usize = 10;

/// Variables a client may set, beside `LC_*`: those that only change how text looks.
const VARIABLES: [&str; 2] = ["LANG", "TERM"];

/// Variables a channel may set; more are refused.
const MOST_VARIABLES: usize = 32;

/// The session channels of one connection.
pub struct Requests {
    server: Arc<Server>,
    peer: Peer,
    channels: HashMap<ChannelId, Opening>,
}

/// A channel whose program has not been named yet.
struct Opening {
    terminal: Option<Wanted>,
    environment: Vec<(String, String)>,
    start: Option<oneshot::Sender<Start>>,
    /// Gone when the session is.
    counted: Weak<()>,
}

/// What a client wants to run.
#[derive(Clone, Copy)]
pub enum Asked<'a> {
    /// A login shell.
    Shell,
    /// This line.
    Command(&'a [u8]),
    /// File transfer.
    Sftp,
}

/// What a session may not be given, and what is said instead.
#[derive(Debug)]
struct Refusal(String);

impl Requests {
    /// None yet.
    pub fn new(server: Arc<Server>, peer: Peer) -> Requests {
        Requests {
            server,
            peer,
            channels: HashMap::new(),
        }
    }

    /// Notes a new channel; `None` when there are enough.
    pub fn open(&mut self, id: ChannelId) -> Option<Place> {
        // russh tells of the channels a client closes, and not of those that were closed from here.
        self.channels
            .retain(|_, opening| opening.counted.strong_count() > 0);
        if self.channels.len() >= MOST_SESSIONS {
            return None;
        }
        let (start, started) = oneshot::channel();
        let counted = Arc::new(());
        let opening = Opening {
            terminal: None,
            environment: Vec::new(),
            start: Some(start),
            counted: Arc::downgrade(&counted),
        };
        self.channels.insert(id, opening);
        Some(Place {
            start: started,
            counted,
        })
    }

    /// Forgets a channel.
    pub fn close(&mut self, id: ChannelId) {
        self.channels.remove(&id);
    }

    /// The channel, as long as nothing runs in it.
    fn unstarted(&mut self, id: ChannelId) -> Option<&mut Opening> {
        self.channels
            .get_mut(&id)
            .filter(|opening| opening.start.is_some())
    }

    /// Notes that a terminal is wanted; whether one will be given.
    pub fn terminal(&mut self, id: ChannelId, wanted: Wanted) -> bool {
        match self.unstarted(id) {
            Some(opening) if !wanted.term.contains('\0') => {
                opening.terminal = Some(wanted);
                true
            }
            _ => false,
        }
    }

    /// Notes a variable; whether it will be set.
    pub fn variable(&mut self, id: ChannelId, name: &str, value: &str) -> bool {
        let harmless = VARIABLES.contains(&name) || name.starts_with("LC_");
        // A NUL would end the value early, or the spawn with an error.
        let sound = !name.contains('\0') && !value.contains('\0');
        match self.unstarted(id) {
            Some(opening) if harmless && sound && opening.environment.len() < MOST_VARIABLES => {
                opening.environment.push((name.to_owned(), value.to_owned()));
                true
            }
            _ => false,
        }
    }

    /// Tells the channel's program where the client's agent is; whether there will be one.
    pub fn agent(
        &mut self,
        id: ChannelId,
        socket: impl FnOnce() -> std::io::Result<std::path::PathBuf>,
    ) -> bool {
        let Some(opening) = self.unstarted(id) else {
            return false;
        };
        let Ok(path) = socket() else { return false };
        let path = path.to_string_lossy().into_owned();
        opening.environment.push(("SSH_AUTH_SOCK".to_owned(), path));
        true
    }

    /// Runs what is asked for, or what is granted instead.
    ///
    /// # Errors
    /// The connection's.
    pub async fn start(
        &mut self,
        id: ChannelId,
        (user, grant): (User, &Grant),
        asked: Asked<'_>,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        // A second request on a channel that already runs something is refused (RFC 4254 section 6.5).
        let Some(start) = self
            .channels
            .get_mut(&id)
            .and_then(|opening| opening.start.take())
        else {
            return session.channel_failure(id);
        };
        let (program, original) = match program(user, grant, asked, &self.server.paths.sftp_server) {
            Ok(program) => program,
            Err(Refusal(why)) => return decline(id, &why, session),
        };
        let hold = self.hold(user, &program).await;
        let Some(opening) = self.channels.get(&id) else {
            return session.channel_failure(id);
        };
        let setting = Setting {
            paths: &self.server.paths,
            peer: &self.peer,
            user,
            terminal: opening.terminal.as_ref(),
            environment: &opening.environment,
            original: original.as_deref(),
        };
        match child::start(&setting, &program) {
            Ok(running) => {
                session.channel_success(id)?;
                drop(start.send(Start { running, hold }));
                Ok(())
            }
            Err(error) => {
                let what = format!("session not started: {error:#}");
                self.server.notes.warn(what.clone(), format!("sshd: {what}"));
                session.extended_data(id, 1, format!("lifeboot: {what}\r\n").into_bytes())?;
                session.channel_failure(id)?;
                session.close(id)
            }
        }
    }

    /// Keeps the boot from going on, except for somebody who only looks.
    async fn hold(&self, user: User, program: &Program) -> Hold {
        let kind = match program {
            Program::Shell => SessionKind::Shell,
            Program::Sftp => SessionKind::Sftp,
            Program::Rescue(_) if user == User::Status => return Hold::none(),
            Program::Command(_) | Program::Rescue(_) => SessionKind::Exec,
        };
        let who = format!("{} from {}", user.name(), self.peer.client.ip());
        hold::take(&self.server.paths.run_dir, who, kind).await
    }
}

/// What is run, and what would have been if the key did not force a command.
fn program(
    user: User,
    grant: &Grant,
    asked: Asked<'_>,
    sftp_server: &Path,
) -> Result<(Program, Option<Vec<u8>>), Refusal> {
    let line = match asked {
        Asked::Shell => None,
        Asked::Command(line) => Some(line.to_vec()),
        Asked::Sftp => Some(sftp_server.as_os_str().as_encoded_bytes().to_vec()),
    };
    if user != User::Root {
        let only = || format!("user {} has its one program and nothing else", user.name());
        let words = user.words(line.as_deref());
        return words
            .map(|words| (Program::Rescue(words), None))
            .ok_or_else(|| Refusal(only()));
    }
    if let Some(command) = &grant.command {
        return Ok((Program::Command(command.clone().into_bytes()), line));
    }
    match asked {
        Asked::Shell => Ok((Program::Shell, None)),
        Asked::Command(line) if copy_id::is_meant(line) => Err(Refusal(copy_id::ANSWER.to_owned())),
        Asked::Command(line) => Ok((Program::Command(line.to_vec()), None)),
        Asked::Sftp => Ok((Program::Sftp, None)),
    }
}

/// Ends a session before it began, with a sentence for the person and the status of something that could not be done.
fn decline(id: ChannelId, why: &str, session: &mut Session) -> Result<(), russh::Error> {
    let why = why.replace('\n', "\r\n");
    session.channel_success(id)?;
    session.extended_data(id, 1, format!("lifeboot: {why}\r\n").into_bytes())?;
    session.exit_status_request(id, 1)?;
    session.eof(id)?;
    session.close(id)
}
