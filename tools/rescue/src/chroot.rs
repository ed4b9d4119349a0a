//! `rescue chroot`: a shell, or one command, in an installed system, with what programs need there; all of it undone afterwards.
//!
//! The program inside may be ended in any way, and so may this one: what was done is noted before ([`crate::mount::state`]), and whoever comes
//! next takes down what nobody uses any more.

use crate::mount::attach::Root;
use crate::mount::holders;
use crate::mount::state::{By, Held, Placed, Session};
use crate::mount::undo::{self, InUse, Manner};
use crate::mount::{self, Request};
use crate::{disks, output};
use anyhow::{Context as _, bail};
use argh::FromArgs;
use inside::Program;
use run::Ended;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

mod binds;
mod elf;
mod inside;
mod run;

pub use inside::{WORD, enter};

/// go into an installed system: a shell in it, or one command
#[derive(Debug, FromArgs)]
#[cfg_attr(test, derive(argh::ArgsInfo))]
#[argh(
    subcommand,
    name = "chroot",
    note = "The system is found and mounted as 'rescue mount' does, unless it is mounted already. /dev, /proc and /sys are there in it, EFI variables where the machine has them, an empty /run, and this system's name servers; no file of it is changed for that. The shell is root's own. Afterwards everything is unmounted that was not mounted before; programs that were left running in it are named, and keep what they use. The exit status is that of the shell or the command.",
    example = "A shell in the system of this machine:\n$ {command_name}\nIn one of several:\n$ {command_name} /dev/vdb2\nOne command in the only one:\n$ {command_name} -- apt-get -f install\nOne command in one of several:\n$ {command_name} /dev/vdb2 passwd root\nIn what is mounted at a directory:\n$ {command_name} /srv/system"
)]
pub struct Chroot {
    /// the system in this btrfs subvolume
    #[argh(option, arg_name = "name")]
    subvolume: Option<String>,
    /// write nothing to its disks
    #[argh(switch, short = 'r')]
    read_only: bool,
    /// first the device, name, UUID=… or LABEL=… of the root, or the directory it is mounted at (default: the system there is); then the
    /// command (default: root's shell), behind '--' where no device is named
    #[argh(positional, greedy, arg_name = "device")]
    words: Vec<String>,
}

impl Chroot {
    /// Adds the words that stood behind `--`, which argh would take for a device.
    pub fn with(&mut self, words: &[&str]) {
        if self.words.is_empty() && !words.is_empty() {
            self.words.push(String::new());
        }
        self.words.extend(words.iter().map(|word| (*word).to_owned()));
    }

    fn device(&self) -> Option<&str> {
        self.words
            .first()
            .map(String::as_str)
            .filter(|device| !device.is_empty())
    }

    fn command(&self) -> &[String] {
        self.words.get(1..).unwrap_or_default()
    }
}

/// Splits at the `--` before the command, if that is what the line is.
pub fn cut<'a, 'b>(words: &'b [&'a str]) -> (&'b [&'a str], &'b [&'a str]) {
    let dashes = words.iter().position(|word| *word == "--");
    match dashes {
        // Behind a device and a command the dashes are the command's own.
        Some(at)
            if words.first() == Some(&"chroot") && positionals(words.get(1..at).unwrap_or_default()) < 2 =>
        {
            (&words[..at], &words[at + 1..])
        }
        _ => (words, &[]),
    }
}

fn positionals(words: &[&str]) -> usize {
    let values = words.iter().filter(|word| **word == "--subvolume").count();
    words
        .iter()
        .filter(|word| !word.starts_with('-'))
        .count()
        .saturating_sub(values)
}

/// Goes in and comes out.
///
/// # Errors
/// When there is nothing to go into, or nothing in it can be run.
pub fn run(options: &Chroot) -> anyhow::Result<ExitCode> {
    let Some(at) = come_to(options)? else {
        return Ok(ExitCode::from(2));
    };
    let ended = go_in(&at, options);
    let hung_up = matches!(&ended, Ok(Ended { hung_up: true, .. }));
    if let Err(error) = leave(&at, hung_up) {
        output::complain(&format!("rescue: {error:#}"));
    }
    Ok(ExitCode::from(ended?.status))
}

/// Has the system mounted, and returns where; `None`: it is not clear which, and that has been said.
fn come_to(options: &Chroot) -> anyhow::Result<Option<PathBuf>> {
    let mut held = Held::take()?;
    let directory = options.device().map(Path::new).filter(|path| path.is_dir());
    let at = match (directory, options.device()) {
        (Some(directory), _) => adopt(&mut held, directory)?,
        (None, None) if mount_point(Path::new(mount::PLACE))? => adopt(&mut held, Path::new(mount::PLACE))?,
        (None, device) => {
            let known = device.and_then(|device| placed_on(&held, device));
            match known {
                Some(at) => at,
                None => match mount_it(&mut held, options)? {
                    Some(at) => at,
                    None => return Ok(None),
                },
            }
        }
    };
    // Before anything is put into it: whoever leaves from now on knows that somebody is in.
    if let Some(placed) = held.state.at_mut(&at) {
        placed.sessions.push(Session::own());
    }
    held.save()?;
    let links = disks::list().and_then(|disks| disks::links::make(Path::new(disks::links::DIR), &disks));
    if let Err(error) = links {
        output::complain(&format!("/dev/disk is not complete: {error:#}."));
    }
    if let Err(error) = binds::make(&mut held, &at) {
        held.release();
        leave(&at, false)?;
        return Err(error);
    }
    held.release();
    Ok(Some(at))
}

fn mount_point(place: &Path) -> anyhow::Result<bool> {
    Ok(mount::table::at(&mount::table::read()?, place).is_some())
}

/// A place where a system is mounted, by us or by somebody else.
fn adopt(held: &mut Held, directory: &Path) -> anyhow::Result<PathBuf> {
    let at = std::fs::canonicalize(directory).with_context(|| directory.display().to_string())?;
    if held.state.at(&at).is_some() {
        return Ok(at);
    }
    if at == Path::new("/") {
        bail!("/: this is the rescue system itself");
    }
    let mounts = mount::table::read()?;
    let Some(mounted) = mount::table::at(&mounts, &at) else {
        bail!("{}: nothing is mounted there", at.display());
    };
    held.state.systems.push(Placed {
        at: at.clone(),
        title: mounted.source.clone(),
        device: mounted.source.clone(),
        mount: Some(mounted.id),
        by: By::Person,
        binds: Vec::new(),
        sessions: Vec::new(),
    });
    Ok(at)
}

/// Where a system is that has been mounted before.
fn placed_on(held: &Held, device: &str) -> Option<PathBuf> {
    let disks = disks::list().ok()?;
    let disk = disks::find(&disks, device).ok()?;
    let found = held
        .state
        .systems
        .iter()
        .find(|placed| placed.device == disk.device);
    found.map(|placed| placed.at.clone())
}

fn mount_it(held: &mut Held, options: &Chroot) -> anyhow::Result<Option<PathBuf>> {
    let request = Request {
        device: options.device(),
        subvolume: options.subvolume.as_deref(),
        at: Path::new(mount::PLACE),
        asked: mount::asked(options.read_only),
        by: By::Chroot,
    };
    let Some(report) = mount::bring(held, &request)? else {
        return Ok(None);
    };
    // Standard output belongs to the command.
    mount::brief(&report)
        .iter()
        .for_each(|line| output::complain(line));
    Ok(Some(report.at))
}

fn go_in(at: &Path, options: &Chroot) -> anyhow::Result<Ended> {
    let root = Root::open(at)?;
    let program = Program::choose(&root, options.command())?;
    let read_only = mount::table::at(&mount::table::read()?, at).is_some_and(|mounted| mounted.read_only);
    if read_only {
        output::complain(&format!(
            "{} is mounted read-only: nothing can be changed in it.",
            at.display()
        ));
    }
    if options.command().is_empty() {
        output::complain("'exit' or Ctrl-D leaves it.");
    }
    run::to_its_end(program.command(at)).with_context(|| program.shown())
}

/// Says that this one is out, and takes down what nobody needs any more.
fn leave(at: &Path, hung_up: bool) -> anyhow::Result<()> {
    const PAUSE: Duration = Duration::from_secs(1);
    // What the shell has left behind may be about to end: an agent, a pager.
    const PATIENCE: u32 = 2;
    let own = Session::own();
    for round in 0.. {
        let mut held = Held::take()?;
        let Some(placed) = held.state.at_mut(at) else {
            return Ok(());
        };
        placed.sessions.retain(|session| *session != own);
        let (last, by, binds) = (placed.sessions.is_empty(), placed.by, placed.binds.clone());
        held.save()?;
        if !last {
            return Ok(());
        }
        let done = match by {
            By::Chroot => mount::take_down(&mut held, at),
            By::Mount | By::Person => binds_down(&mut held, at, &binds).map(|()| Vec::new()),
        };
        held.release();
        match done {
            Ok(said) => {
                said.iter().for_each(|line| output::complain(line));
                return Ok(());
            }
            // Nobody is there to be told: it goes when what still runs has ended.
            Err(error) if error.is::<InUse>() && (hung_up || round < PATIENCE) => std::thread::sleep(PAUSE),
            Err(error) if error.is::<InUse>() => {
                bail!("{error:#}; it stays mounted: 'rescue umount' when that has ended")
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Takes down what was put into a system that stays mounted itself.
fn binds_down(held: &mut Held, at: &Path, binds: &[PathBuf]) -> anyhow::Result<()> {
    let inside = holders::inside(at);
    if !inside.is_empty() {
        bail!(InUse {
            at: at.to_owned(),
            holders: inside
        });
    }
    undo::binds(binds, Manner::Whole)?;
    match held.state.at_mut(at) {
        Some(placed) if placed.by != By::Person => placed.binds.clear(),
        _ => held.state.systems.retain(|placed| placed.at != at),
    }
    held.save()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_begins_behind_the_dashes_or_behind_the_device() {
        let parse = |line: &str| {
            let words: Vec<&str> = line.split(' ').collect();
            let (before, behind) = cut(&words);
            let mut chroot = Chroot::from_args(&["rescue", "chroot"], &before[1..]).unwrap();
            chroot.with(behind);
            (
                chroot.device().unwrap_or_default().to_owned(),
                chroot.command().join(" "),
                chroot.read_only,
            )
        };
        let expect =
            |device: &str, command: &str, read_only| (device.to_owned(), command.to_owned(), read_only);
        assert_eq!(parse("chroot"), expect("", "", false));
        assert_eq!(
            parse("chroot -- apt-get -f install"),
            expect("", "apt-get -f install", false)
        );
        assert_eq!(parse("chroot -r -- ls"), expect("", "ls", true));
        assert_eq!(
            parse("chroot vda2 apt-get -f install"),
            expect("vda2", "apt-get -f install", false)
        );
        assert_eq!(parse("chroot vda2 -- ls -l"), expect("vda2", "ls -l", false));
        assert_eq!(
            parse("chroot vda2 sh -c x -- y"),
            expect("vda2", "sh -c x -- y", false)
        );
        assert_eq!(parse("chroot --subvolume @ -- ls"), expect("", "ls", false));
    }
}
