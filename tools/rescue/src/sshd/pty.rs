//! A pseudo-terminal: its size, its modes as the client asked for them, and its master side as bytes.

use super::pump::{exact, readable};
use bytes::Bytes;
use russh::Pty;
use rustix::buffer::spare_capacity;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, ptsname, unlockpt};
use rustix::termios::{
    ControlModes, InputModes, LocalModes, OptionalActions, OutputModes, SpecialCodeIndex, Termios, Winsize,
    tcgetattr, tcsetattr, tcsetwinsize,
};
use std::io;
use std::os::fd::OwnedFd;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Bytes read from a terminal at a time: the kernel keeps no more.
const SCREENFUL: usize = 4 << 10;

/// What the client asked for in `pty-req`.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Value for `TERM`.
    pub term: String,
    /// Size in characters.
    pub size: Size,
    /// Modes of RFC 4254 section 8.
    pub modes: Vec<(Pty, u32)>,
}

/// Columns and rows; pixels are not passed on, nothing here uses them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Characters in a line.
    pub columns: u32,
    /// Lines.
    pub rows: u32,
}

/// The master side, shared by whoever reads, writes and resizes.
#[derive(Debug)]
pub struct Master {
    fd: AsyncFd<OwnedFd>,
}

/// A pseudo-terminal that no process has yet.
#[derive(Debug)]
pub struct Opened {
    /// For the server.
    pub master: Master,
    /// For the program.
    pub slave: OwnedFd,
    /// Its path, for `SSH_TTY`.
    pub path: String,
}

/// Opens a pseudo-terminal as the client wants it.
///
/// # Errors
/// When the kernel gives none: no devpts, or the limit is reached.
pub fn open(wanted: &Wanted) -> io::Result<Opened> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let path = ptsname(&master, Vec::new())?.to_string_lossy().into_owned();
    let slave = ioctl_tiocgptpeer(&master, flags)?;
    let mut termios = tcgetattr(&slave)?;
    // The client's terminal is taken for one that knows UTF-8 even when an old client does not say so.
    termios.input_modes |= InputModes::IUTF8;
    for (code, value) in &wanted.modes {
        apply(&mut termios, *code, *value);
    }
    tcsetattr(&slave, OptionalActions::Now, &termios)?;
    let master = Master::new(master)?;
    master.resize(wanted.size)?;
    Ok(Opened { master, slave, path })
}

impl Master {
    fn new(fd: OwnedFd) -> io::Result<Master> {
        let flags = fcntl_getfl(&fd)?;
        fcntl_setfl(&fd, flags | OFlags::NONBLOCK)?;
        #[expect(
            deprecated,
            reason = "what makes it unsound is a descriptor that changes; an OwnedFd does not, and its successor is unsafe"
        )]
        let fd = AsyncFd::new(fd)?;
        Ok(Master { fd })
    }

    /// Tells the programs on the terminal a new size.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn resize(&self, size: Size) -> io::Result<()> {
        let limited = |n: u32| u16::try_from(n).unwrap_or(u16::MAX);
        let size = Winsize {
            ws_col: limited(size.columns),
            ws_row: limited(size.rows),
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        Ok(tcsetwinsize(&self.fd, size)?)
    }

    /// The path of the terminal; nothing when the kernel does not tell.
    pub fn path(&self) -> String {
        let path = ptsname(&self.fd, Vec::new()).unwrap_or_default();
        path.to_string_lossy().into_owned()
    }

    /// The process group in the foreground, which the keys for signals would reach.
    pub fn foreground(&self) -> Option<rustix::process::Pid> {
        rustix::termios::tcgetpgrp(&self.fd).ok()
    }

    /// Returns when there is something to read, be it that nobody has the terminal open any more.
    ///
    /// # Errors
    /// As the kernel says.
    pub async fn ready(&self) -> io::Result<()> {
        readable(&self.fd).await
    }

    /// Reads what the programs wrote; nothing when the last of them has closed the terminal.
    ///
    /// # Errors
    /// As the kernel says.
    pub async fn read(&self) -> io::Result<Bytes> {
        let read = |fd: &OwnedFd| {
            let mut piece = Vec::with_capacity(SCREENFUL);
            rustix::io::read(fd, spare_capacity(&mut piece))?;
            Ok(exact(piece))
        };
        match self.fd.async_io(Interest::READABLE, read).await {
            // What Linux says on the master of a terminal that nobody has open.
            Err(error) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => Ok(Bytes::new()),
            other => other,
        }
    }

    /// Types all of `data`.
    ///
    /// # Errors
    /// As the kernel says.
    pub async fn write_all(&self, mut data: &[u8]) -> io::Result<()> {
        while !data.is_empty() {
            let written = self
                .fd
                .async_io(Interest::WRITABLE, |fd| Ok(rustix::io::write(fd, data)?))
                .await?;
            data = data.get(written..).unwrap_or_default();
        }
        Ok(())
    }
}

fn apply(termios: &mut Termios, code: Pty, value: u32) {
    if let Some(index) = special(code) {
        // 255 is the protocol's word for "not set", 0 is Linux's.
        let key = u8::try_from(value)
            .ok()
            .filter(|key| *key != u8::MAX)
            .unwrap_or(0);
        termios.special_codes[index] = key;
        return;
    }
    let on = value != 0;
    if let Some(flag) = input(code) {
        termios.input_modes.set(flag, on);
    } else if let Some(flag) = output(code) {
        termios.output_modes.set(flag, on);
    } else if let Some(flag) = local(code) {
        termios.local_modes.set(flag, on);
    } else if let Some(flag) = control(code) {
        termios.control_modes.set(flag, on);
    }
    // Speeds mean nothing on a pseudo-terminal.
}

fn special(code: Pty) -> Option<SpecialCodeIndex> {
    Some(match code {
        Pty::VINTR => SpecialCodeIndex::VINTR,
        Pty::VQUIT => SpecialCodeIndex::VQUIT,
        Pty::VERASE => SpecialCodeIndex::VERASE,
        Pty::VKILL => SpecialCodeIndex::VKILL,
        Pty::VEOF => SpecialCodeIndex::VEOF,
        Pty::VEOL => SpecialCodeIndex::VEOL,
        Pty::VEOL2 => SpecialCodeIndex::VEOL2,
        Pty::VSTART => SpecialCodeIndex::VSTART,
        Pty::VSTOP => SpecialCodeIndex::VSTOP,
        Pty::VSUSP => SpecialCodeIndex::VSUSP,
        Pty::VREPRINT => SpecialCodeIndex::VREPRINT,
        Pty::VWERASE => SpecialCodeIndex::VWERASE,
        Pty::VLNEXT => SpecialCodeIndex::VLNEXT,
        Pty::VDISCARD => SpecialCodeIndex::VDISCARD,
        _ => return None,
    })
}

fn input(code: Pty) -> Option<InputModes> {
    Some(match code {
        Pty::IGNPAR => InputModes::IGNPAR,
        Pty::PARMRK => InputModes::PARMRK,
        Pty::INPCK => InputModes::INPCK,
        Pty::ISTRIP => InputModes::ISTRIP,
        Pty::INLCR => InputModes::INLCR,
        Pty::IGNCR => InputModes::IGNCR,
        Pty::ICRNL => InputModes::ICRNL,
        Pty::IXON => InputModes::IXON,
        Pty::IXANY => InputModes::IXANY,
        Pty::IXOFF => InputModes::IXOFF,
        Pty::IMAXBEL => InputModes::IMAXBEL,
        Pty::IUTF8 => InputModes::IUTF8,
        _ => return None,
    })
}

fn output(code: Pty) -> Option<OutputModes> {
    Some(match code {
        Pty::OPOST => OutputModes::OPOST,
        Pty::ONLCR => OutputModes::ONLCR,
        Pty::OCRNL => OutputModes::OCRNL,
        Pty::ONOCR => OutputModes::ONOCR,
        Pty::ONLRET => OutputModes::ONLRET,
        _ => return None,
    })
}

fn local(code: Pty) -> Option<LocalModes> {
    Some(match code {
        Pty::ISIG => LocalModes::ISIG,
        Pty::ICANON => LocalModes::ICANON,
        Pty::ECHO => LocalModes::ECHO,
        Pty::ECHOE => LocalModes::ECHOE,
        Pty::ECHOK => LocalModes::ECHOK,
        Pty::ECHONL => LocalModes::ECHONL,
        Pty::NOFLSH => LocalModes::NOFLSH,
        Pty::TOSTOP => LocalModes::TOSTOP,
        Pty::IEXTEN => LocalModes::IEXTEN,
        Pty::ECHOCTL => LocalModes::ECHOCTL,
        Pty::ECHOKE => LocalModes::ECHOKE,
        _ => return None,
    })
}

fn control(code: Pty) -> Option<ControlModes> {
    Some(match code {
        Pty::PARENB => ControlModes::PARENB,
        Pty::PARODD => ControlModes::PARODD,
        _ => return None,
    })
}
