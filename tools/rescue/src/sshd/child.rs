//! The program of a session: how it is started, signalled and reaped.

use super::grant::User;
use super::pipes::{self, Inlet, Outlet};
use super::pty::{self, Master, Opened, Wanted};
use super::{Paths, Peer};
use crate::shell::login_name;
use crate::tty::{self, Greeting};
use anyhow::Context as _;
use russh::Sig;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::ExitStatus;
use std::sync::Arc;
use tokio::process::Child;

/// The name this program is called by.
const RESCUE: &str = "rescue";

/// What a session runs.
#[derive(Debug)]
pub enum Program {
    /// A login shell.
    Shell,
    /// A command line for the shell.
    Command(Vec<u8>),
    /// The file transfer server.
    Sftp,
    /// `rescue` with these words, for a user who has that alone.
    Rescue(&'static [&'static str]),
}

/// What a program is started in.
#[derive(Debug)]
pub struct Setting<'a> {
    /// Where things are.
    pub paths: &'a Paths,
    /// Who is connected to whom.
    pub peer: &'a Peer,
    /// As whom.
    pub user: User,
    /// The terminal, if one is wanted.
    pub terminal: Option<&'a Wanted>,
    /// Variables the client sets.
    pub environment: &'a [(String, String)],
    /// What the client wanted to run instead, when its key forces a command.
    pub original: Option<&'a [u8]>,
}

/// A program that runs.
#[derive(Debug)]
pub struct Running {
    /// For reaping.
    pub child: Child,
    /// For signals.
    pub group: Group,
    /// Its standard streams.
    pub streams: Streams,
}

/// How a program is connected.
#[derive(Debug)]
pub enum Streams {
    /// By a terminal.
    Terminal(Arc<Master>),
    /// By three pipes.
    Pipes(Inlet, Outlet, Outlet),
}

/// The process group of a session.
#[derive(Debug, Clone)]
pub struct Group {
    leader: Pid,
    terminal: Option<Arc<Master>>,
}

/// Starts `program`, on a terminal if one is wanted.
///
/// # Errors
/// When there is no such program, no terminal or no process to be had.
pub fn start(setting: &Setting<'_>, program: &Program) -> anyhow::Result<Running> {
    let Setting { paths, terminal, .. } = *setting;
    let opened = terminal.map(pty::open).transpose().context("terminal")?;
    let mut command = match &opened {
        Some(_) => on_terminal(paths, program),
        None => on_pipes(paths, program),
    };
    command
        .env_clear()
        .envs(base_environment(setting))
        .envs(setting.environment.iter().map(|(k, v)| (k, v)))
        .envs([crate::shell::LOCALE]);
    if let Some(original) = setting.original {
        command.env("SSH_ORIGINAL_COMMAND", OsStr::from_bytes(original));
    }
    command.current_dir(if paths.home.is_dir() {
        paths.home.as_path()
    } else {
        "/".as_ref()
    });
    if let (Some(opened), Some(wanted)) = (&opened, terminal) {
        command.env("TERM", &wanted.term).env("SSH_TTY", &opened.path);
    }
    match opened {
        Some(opened) => spawn_on(opened, command),
        None => spawn_between_pipes(command),
    }
}

fn spawn_on(opened: Opened, mut command: std::process::Command) -> anyhow::Result<Running> {
    let slave = opened.slave;
    let (stdout, stderr) = (
        slave.try_clone().context("terminal")?,
        slave.try_clone().context("terminal")?,
    );
    command.stdin(slave).stdout(stdout).stderr(stderr);
    let what = command.get_program().display().to_string();
    let child = tokio::process::Command::from(command).spawn().context(what)?;
    let master = Arc::new(opened.master);
    let group = Group {
        leader: leader(&child)?,
        terminal: Some(Arc::clone(&master)),
    };
    Ok(Running {
        child,
        group,
        streams: Streams::Terminal(master),
    })
}

fn spawn_between_pipes(mut command: std::process::Command) -> anyhow::Result<Running> {
    let (inlet, stdin) = pipes::inlet().context("pipe")?;
    let (outlet, stdout) = pipes::outlet().context("pipe")?;
    let (errors, stderr) = pipes::outlet().context("pipe")?;
    command
        .stdin(stdin)
        .stdout(stdout)
        .stderr(stderr)
        .process_group(0);
    let what = command.get_program().display().to_string();
    let child = tokio::process::Command::from(command).spawn().context(what)?;
    let group = Group {
        leader: leader(&child)?,
        terminal: None,
    };
    Ok(Running {
        child,
        group,
        streams: Streams::Pipes(inlet, outlet, errors),
    })
}

fn leader(child: &Child) -> anyhow::Result<Pid> {
    let id = child
        .id()
        .and_then(|id| i32::try_from(id).ok())
        .and_then(Pid::from_raw);
    id.context("the program ended before it was looked at")
}

fn on_terminal(paths: &Paths, program: &Program) -> std::process::Command {
    let helper = paths.helper.as_os_str();
    let shell = paths.shell().as_os_str();
    match program {
        Program::Shell => tty::command(helper, Greeting::Status, shell, &login_name(shell), &[]),
        Program::Command(line) => {
            let line = OsStr::from_bytes(line);
            tty::command(helper, Greeting::Nothing, shell, shell, &[OsStr::new("-c"), line])
        }
        Program::Sftp => {
            let server = paths.sftp_server.as_os_str();
            tty::command(helper, Greeting::Nothing, server, server, &[])
        }
        Program::Rescue(words) => {
            let words: Vec<&OsStr> = words.iter().map(OsStr::new).collect();
            tty::command(helper, Greeting::Nothing, helper, RESCUE.as_ref(), &words)
        }
    }
}

fn on_pipes(paths: &Paths, program: &Program) -> std::process::Command {
    let mut command = std::process::Command::new(match program {
        Program::Sftp => &paths.sftp_server,
        Program::Rescue(_) => &paths.helper,
        _ => paths.shell(),
    });
    match program {
        Program::Shell => {
            command.arg0(login_name(paths.shell().as_os_str()));
        }
        Program::Command(line) => {
            command.arg("-c").arg(OsStr::from_bytes(line));
        }
        Program::Rescue(words) => {
            command.arg0(RESCUE).args(*words);
        }
        Program::Sftp => {}
    }
    command
}

fn base_environment(setting: &Setting<'_>) -> Vec<(&'static str, OsString)> {
    let Setting {
        paths, peer, user, ..
    } = setting;
    let (client, server) = (peer.client, peer.server);
    let connection = format!(
        "{} {} {} {}",
        client.ip(),
        client.port(),
        server.ip(),
        server.port()
    );
    let mut variables = vec![
        ("HOME", paths.home.clone().into_os_string()),
        ("LOGNAME", user.name().into()),
        ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin".into()),
        ("SHELL", paths.shell().as_os_str().to_owned()),
        (
            "SSH_CLIENT",
            format!("{} {} {}", client.ip(), client.port(), server.port()).into(),
        ),
        ("SSH_CONNECTION", connection.into()),
        ("USER", user.name().into()),
    ];
    if let Some(run_dir) = std::env::var_os(crate::control::RUN_DIR_VARIABLE) {
        variables.push((crate::control::RUN_DIR_VARIABLE, run_dir));
    }
    variables
}

impl Group {
    /// Sends a signal the client asked for: to what is in the foreground, or to the whole group.
    pub fn signal(&self, signal: Signal) {
        let foreground = self.terminal.as_ref().and_then(|terminal| terminal.foreground());
        send(foreground.unwrap_or(self.leader), signal);
    }

    /// Tells the group that the client is gone; stopped processes are woken to hear it.
    pub fn hang_up(&self) {
        send(self.leader, Signal::HUP);
        send(self.leader, Signal::CONT);
    }
}

/// To the group, or to its leader alone as long as it has not made its group yet. Nobody left is no error.
fn send(leader: Pid, signal: Signal) {
    if kill_process_group(leader, signal).is_err() {
        crate::output::ignore(kill_process(leader, signal).map_err(std::io::Error::from));
    }
}

/// The kernel's number for a signal of the protocol; `None` for those it does not name.
pub fn number_of(signal: &Sig) -> Option<Signal> {
    Some(match signal {
        Sig::ABRT => Signal::ABORT,
        Sig::ALRM => Signal::ALARM,
        Sig::FPE => Signal::FPE,
        Sig::HUP => Signal::HUP,
        Sig::ILL => Signal::ILL,
        Sig::INT => Signal::INT,
        Sig::KILL => Signal::KILL,
        Sig::PIPE => Signal::PIPE,
        Sig::QUIT => Signal::QUIT,
        Sig::SEGV => Signal::SEGV,
        Sig::TERM => Signal::TERM,
        Sig::USR1 => Signal::USR1,
        Sig::Custom(name) if name == "USR2" => Signal::USR2,
        Sig::Custom(_) => return None,
    })
}

/// How a program ended, in the protocol's words.
#[derive(Debug)]
pub enum End {
    /// It returned this.
    Status(u32),
    /// A signal ended it.
    Signal {
        /// Which.
        signal: Sig,
        /// Whether it left a core.
        core: bool,
    },
}

impl From<ExitStatus> for End {
    fn from(status: ExitStatus) -> End {
        match status.signal() {
            Some(number) => End::Signal {
                signal: name_of(number),
                core: status.core_dumped(),
            },
            None => End::Status(
                status
                    .code()
                    .and_then(|code| u32::try_from(code).ok())
                    .unwrap_or(255),
            ),
        }
    }
}

fn name_of(number: i32) -> Sig {
    let known = [
        Sig::ABRT,
        Sig::ALRM,
        Sig::FPE,
        Sig::HUP,
        Sig::ILL,
        Sig::INT,
        Sig::KILL,
        Sig::PIPE,
        Sig::QUIT,
        Sig::SEGV,
        Sig::TERM,
        Sig::USR1,
    ];
    let found = known
        .into_iter()
        .find(|sig| number_of(sig).is_some_and(|signal| signal.as_raw() == number));
    // RFC 4254 section 6.10: names of others carry the name of who made them up.
    found.unwrap_or_else(|| Sig::Custom(format!("{number}@lifeboot")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_is_a_status_and_a_death_is_a_signal() {
        assert!(matches!(End::from(ExitStatus::from_raw(3 << 8)), End::Status(3)));
        assert!(matches!(
            End::from(ExitStatus::from_raw(15)),
            End::Signal {
                signal: Sig::TERM,
                core: false
            }
        ));
        assert!(matches!(
            End::from(ExitStatus::from_raw(7)),
            End::Signal {
                signal: Sig::Custom(_),
                ..
            }
        ));
    }
}
