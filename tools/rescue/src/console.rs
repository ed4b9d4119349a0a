//! `rescue console TTY`: what a person without ssh sees: how things stand, a shell on Enter, and the passphrase prompt
//! while the boot waits for one.
//!
//! The terminal is opened anew for each round, because the end of a shell hangs it up for everybody who has it open.
//! The shell is the leader of its own session (see [`crate::tty`]); this process never has a controlling terminal, so
//! no key typed at its prompts can kill it.

mod guard;
mod shown;

use crate::control::{self, Connection};
use crate::disks;
use crate::greeting;
use crate::prompt::{self, Answer, Quiet, Secret, TypedAhead};
use crate::shell::login_name;
use crate::terminal::{self, Found};
use crate::tty::{self, Greeting};
use crate::unlock::{self, Key, Outcome};
use anyhow::Context as _;
use argh::FromArgs;
use guard::Guard;
use lifeboot_contract::control::{Request, SessionKind};
use lifeboot_contract::status::{LockedVolume, Phase};
use rustix::fs::{Access, Mode, OFlags, access, fcntl_getfl, fcntl_setfl};
use rustix::termios::{
    ControlModes, InputModes, LocalModes, OptionalActions, OutputModes, SpecialCodeIndex, tcgetattr,
    tcsetattr,
};
use shown::Shown;
use std::convert::Infallible;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::process::Stdio;
use std::time::Duration;

/// DECAWM: long lines go on in the next one. PC firmware with a serial console (SeaBIOS) turns it off, and programs that crash do.
const WRAP: &str = "\x1b[?7h";

/// How often it is looked whether a passphrase is wanted, or no longer.
const LOOK: Duration = Duration::from_secs(1);

/// serve a console (started by init)
#[derive(Debug, FromArgs)]
#[cfg_attr(test, derive(argh::ArgsInfo))]
#[argh(subcommand, name = "console")]
pub struct Console {
    /// name under /dev
    #[argh(positional)]
    tty: String,
}

/// What ended a round of waiting.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// Somebody wants a shell.
    Shell,
    /// The boot waits for other passphrases than before, or for none.
    LookAgain,
}

/// Serves until killed.
///
/// # Errors
/// When the terminal cannot be used; PID 1 starts it again.
pub fn run(options: &Console) -> anyhow::Result<Infallible> {
    let name = real_name(&options.tty);
    let mut guard = Guard::new(&name);
    loop {
        let mut terminal = open(&name).with_context(|| format!("/dev/{name}"))?;
        write!(terminal, "{WRAP}").with_context(|| format!("/dev/{name}"))?;
        if round(&mut terminal).with_context(|| format!("/dev/{name}"))? == Next::Shell
            && guard
                .admits(&mut terminal)
                .with_context(|| format!("/dev/{name}"))?
        {
            let found = look_at(&name, &mut terminal).with_context(|| format!("/dev/{name}"))?;
            // A file of its own: this one is dead after the shell's end.
            shell(&name, terminal, found.term).with_context(|| format!("/dev/{name}"))?;
        }
    }
}

/// What is at the other end; the kernel's own screens need not be asked.
fn look_at(name: &str, terminal: &mut File) -> io::Result<Found> {
    if is_virtual(name) {
        return Ok(Found::screen());
    }
    let fd = terminal.try_clone()?;
    terminal::adopt(fd.as_fd(), terminal)
}

/// `console` itself cannot be a controlling terminal; the kernel says what is behind it.
fn real_name(given: &str) -> String {
    let name = given.strip_prefix("/dev/").unwrap_or(given);
    if name != "console" {
        return name.to_owned();
    }
    let active = fs::read_to_string("/sys/class/tty/console/active").unwrap_or_default();
    active.split_whitespace().last().unwrap_or(name).to_owned()
}

fn open(name: &str) -> anyhow::Result<File> {
    // Without NONBLOCK a serial port waits for a carrier that a three-wire cable never has.
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let fd = rustix::fs::open(format!("/dev/{name}"), flags, Mode::empty())?;
    make_sane(&fd).context("terminal modes")?;
    let flags = fcntl_getfl(&fd)?;
    fcntl_setfl(&fd, flags - OFlags::NONBLOCK)?;
    Ok(File::from(fd))
}

/// The modes of a terminal that somebody can type at, whatever the last program left behind; the speed stays.
fn make_sane(fd: impl std::os::fd::AsFd) -> io::Result<()> {
    const KEYS: [(SpecialCodeIndex, u8); 12] = [
        (SpecialCodeIndex::VINTR, 3),
        (SpecialCodeIndex::VEOF, 4),
        (SpecialCodeIndex::VSTART, 17),
        (SpecialCodeIndex::VREPRINT, 18),
        (SpecialCodeIndex::VSTOP, 19),
        (SpecialCodeIndex::VKILL, 21),
        (SpecialCodeIndex::VLNEXT, 22),
        (SpecialCodeIndex::VWERASE, 23),
        (SpecialCodeIndex::VSUSP, 26),
        (SpecialCodeIndex::VQUIT, 28),
        (SpecialCodeIndex::VERASE, 127),
        (SpecialCodeIndex::VMIN, 1),
    ];
    let mut termios = tcgetattr(&fd)?;
    termios.input_modes = InputModes::ICRNL | InputModes::IXON | InputModes::IUTF8;
    termios.output_modes = OutputModes::OPOST | OutputModes::ONLCR;
    termios.control_modes |= ControlModes::CREAD | ControlModes::CLOCAL;
    // HUPCL drops the line at every shell's end, and a modem or a terminal server with it.
    termios.control_modes &= !(ControlModes::HUPCL | ControlModes::CRTSCTS);
    termios.local_modes = LocalModes::ISIG
        | LocalModes::ICANON
        | LocalModes::IEXTEN
        | LocalModes::ECHO
        | LocalModes::ECHOE
        | LocalModes::ECHOK
        | LocalModes::ECHOCTL
        | LocalModes::ECHOKE;
    for (index, key) in KEYS {
        termios.special_codes[index] = key;
    }
    Ok(tcsetattr(&fd, OptionalActions::Now, &termios)?)
}

/// Until somebody wants a shell, or a passphrase has been asked for.
fn round(terminal: &mut File) -> io::Result<Next> {
    let mut typed_ahead = TypedAhead::ThrownAway;
    loop {
        let shown = Shown::now();
        writeln!(terminal)?;
        // A boot that goes well needs nobody, and its own lines are enough to read.
        if shown != Shown::Progress {
            for line in greeting::lines() {
                writeln!(terminal, "{line}")?;
            }
        }
        let shut = guard::is_shut();
        if shut {
            writeln!(terminal, "{}", guard::SHUT)?;
        }
        if let Shown::Wanted(volume) = &shown {
            return passphrase(terminal, volume, if shut { "" } else { " (empty: a shell)" });
        }
        let fd = terminal.try_clone()?;
        // A line of its own: what the boot and the kernel say next begins another.
        let invitation = if shut {
            ""
        } else {
            "Please press Enter for a shell.\n"
        };
        if enter(fd.as_fd(), terminal, invitation, &shown, typed_ahead)? == Next::Shell {
            return Ok(Next::Shell);
        }
        // From now on an invitation has been read, and may be answered while the next one is written.
        typed_ahead = TypedAhead::Kept;
    }
}

fn enter(
    terminal: BorrowedFd<'_>,
    out: &mut impl Write,
    invitation: &str,
    shown: &Shown,
    typed_ahead: TypedAhead,
) -> io::Result<Next> {
    // Before the invitation: what is typed after it is an answer to it, however fast it comes.
    let quiet = Quiet::new(terminal, typed_ahead)?;
    write!(out, "{invitation}")?;
    loop {
        match quiet.key(Some(LOOK))? {
            Some(b'\n' | b'\r') => {
                // Whoever knows that a shell comes types on.
                quiet.keep_typed();
                return Ok(Next::Shell);
            }
            Some(_) => {}
            None => {
                let now = Shown::now();
                if now != *shown && now != Shown::Progress {
                    quiet.keep_typed();
                    return Ok(Next::LookAgain);
                }
            }
        }
    }
}

fn passphrase(terminal: &mut File, volume: &LockedVolume, otherwise: &str) -> io::Result<Next> {
    let fd = terminal.try_clone()?;
    let question = format!("Passphrase for {}{otherwise}: ", volume.describe());
    let answer = prompt::ask(fd.as_fd(), terminal, &question, || !still_wanted(volume))?;
    let secret = match answer {
        Answer::Withdrawn => {
            writeln!(terminal, "It was unlocked from elsewhere.")?;
            return Ok(Next::LookAgain);
        }
        Answer::GivenUp => return Ok(Next::Shell),
        Answer::Line(secret) if secret.bytes().is_empty() => return Ok(Next::Shell),
        Answer::Line(secret) => secret,
    };
    writeln!(terminal, "Checking ...")?;
    match prompt::unseen(fd.as_fd(), || try_passphrase(volume, &secret))? {
        Ok(Outcome::Open) => writeln!(terminal, "Unlocked; the boot goes on.")?,
        Ok(Outcome::WrongKey) => writeln!(terminal, "Wrong passphrase, please try again.")?,
        Err(error) => writeln!(terminal, "Not unlocked: {error:#}.")?,
    }
    drop(secret);
    Ok(Next::LookAgain)
}

/// Whether the boot still waits for this; when PID 1 does not say, the question stays.
fn still_wanted(volume: &LockedVolume) -> bool {
    match control::status().map(|status| status.phase) {
        Ok(Phase::WaitingForPassphrase { volumes }) => volumes.contains(volume),
        Ok(_) => false,
        Err(_) => true,
    }
}

fn try_passphrase(volume: &LockedVolume, secret: &Secret) -> anyhow::Result<Outcome> {
    let plan = control::plan(&control::run_dir()).ok();
    let device = volume
        .device
        .as_deref()
        .context("the device has not been found yet")?;
    let disks = disks::list()?;
    let mut opened = unlock::volume_of(disks::find(&disks, device)?, plan.as_ref());
    opened.name.clone_from(&volume.name);
    let outcome = opened.open(Key::Passphrase(secret))?;
    if outcome == Outcome::Open {
        control::order(&Request::Nudge).context("it is unlocked, but the boot was not told")?;
        wait_until_taken(volume);
    }
    Ok(outcome)
}

/// PID 1 hears of it from the pipeline; asking again before that would only confuse.
fn wait_until_taken(volume: &LockedVolume) {
    for _ in 0..20 {
        if !still_wanted(volume) {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// A login shell, until it ends. The boot is held meanwhile.
fn shell(name: &str, terminal: File, term: &'static str) -> anyhow::Result<()> {
    let mut hold = Connection::open();
    if let Ok(connection) = &mut hold {
        let who = format!("root on {name}");
        // A shell is more use than a hold: without PID 1 there is nothing to hold back.
        if let Err(error) = connection.ask(&Request::Hold {
            who,
            kind: SessionKind::Console,
        }) {
            writeln!(&terminal, "The boot is not held: {error:#}.")?;
        }
    }
    let helper = std::env::current_exe().unwrap_or_else(|_| "/init".into());
    let shell = OsStr::new(crate::shell::interactive());
    let mut command = tty::command(
        helper.as_os_str(),
        Greeting::Nothing,
        shell,
        &login_name(shell),
        &[],
    );
    command
        .env_clear()
        .envs(environment(term))
        .env("SHELL", shell)
        .envs([crate::shell::LOCALE])
        .current_dir(if access("/root", Access::EXEC_OK).is_ok() {
            "/root"
        } else {
            "/"
        })
        .stdin(terminal.try_clone()?)
        .stdout(terminal.try_clone()?)
        .stderr(Stdio::from(terminal));
    let status = command
        .spawn()
        .and_then(|mut child| child.wait())
        .with_context(|| shell.display().to_string())?;
    drop(hold);
    if !status.success() && status.code() == Some(1) {
        // A shell that cannot start must not be tried as fast as the machine can.
        std::thread::sleep(LOOK);
    }
    Ok(())
}

/// Whether it is one of the kernel's own screens.
fn is_virtual(tty: &str) -> bool {
    tty.strip_prefix("tty")
        .is_some_and(|rest| rest.chars().all(|c| c.is_ascii_digit()))
}

fn environment(term: &'static str) -> [(&'static str, &'static str); 5] {
    [
        ("HOME", "/root"),
        ("LOGNAME", "root"),
        ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
        ("TERM", term),
        ("USER", "root"),
    ]
}

#[cfg(test)]
mod tests;
