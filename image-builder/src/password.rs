//! `image-builder hash-password`: what stands behind `lifeboot.console-password`.

use std::fs::File;
use std::io::{self, BufRead, Read, Write};

use anyhow::{Context, Result, bail, ensure};
use argh::FromArgs;
use lifeboot_contract::password::PasswordHash;
use ring::rand::{SecureRandom, SystemRandom};
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, isatty, tcgetattr, tcsetattr};

/// Passes over the memory; RFC 9106 section 4 recommends three where memory is short.
const PASSES: u32 = 3;
const SALT_LENGTH: usize = 16;
/// Longer than the console takes.
const LONGEST: usize = 1024;
/// What Ctrl-C types.
const INTERRUPT: u8 = 3;

/// hash a password for consoles in public places
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "hash-password",
    example = "image-builder hash-password",
    example = "pass show consoles | image-builder hash-password",
    note = "The password is asked for twice on the terminal, or is the first line of standard input. What is printed is the value of \
            lifeboot.console-password, for the file of 'build --config': it has dollar signs, so put it into single quotes. Lock it there, or whoever can change the \
            kernel command line needs no password."
)]
pub struct Arguments {
    /// memory that checking it takes on the device, MiB (default 32); what is free there must be 16 MiB more
    #[argh(option, arg_name = "mib", default = "32")]
    memory: u32,
}

/// Prints the hash.
pub fn run(arguments: &Arguments) -> Result<()> {
    ensure!(
        (1..=1024).contains(&arguments.memory),
        "--memory {}: not a number from 1 to 1024",
        arguments.memory
    );
    let password = if isatty(io::stdin()) { asked()? } else { piped()? };
    ensure!(!password.is_empty(), "the password is empty");
    ensure!(
        password.len() <= LONGEST,
        "the password has {} bytes, the console takes {LONGEST}",
        password.len()
    );
    let mut salt = [0; SALT_LENGTH];
    if SystemRandom::new().fill(&mut salt).is_err() {
        bail!("the kernel gives no random numbers");
    }
    let hash = PasswordHash::made_of(password.as_bytes(), arguments.memory * 1024, PASSES, 1, &salt)
        .with_context(|| format!("{} MiB of memory are not to be had", arguments.memory))?;
    println!("{hash}");
    Ok(())
}

fn piped() -> Result<String> {
    line(&mut io::stdin().lock())
}

fn asked() -> Result<String> {
    let first = ask("Password: ")?;
    ensure!(first == ask("Again: ")?, "the two are not the same");
    Ok(first)
}

/// Asks on the terminal itself, so that standard output can go into a file.
fn ask(question: &str) -> Result<String> {
    let terminal = File::options()
        .read(true)
        .write(true)
        .open("/dev/tty")
        .context("/dev/tty")?;
    let silent = Silent::new(&terminal)?;
    write!(&terminal, "{question}").context("/dev/tty")?;
    // One read is one line of a terminal.
    let mut typed = vec![0; LONGEST + 2];
    let count = (&terminal).read(&mut typed).context("/dev/tty")?;
    writeln!(&terminal).context("/dev/tty")?;
    drop(silent);
    typed.truncate(count);
    ensure!(!typed.is_empty() && !typed.contains(&INTERRUPT), "given up");
    line(&mut typed.as_slice())
}

fn line(from: &mut impl BufRead) -> Result<String> {
    let mut text = String::new();
    from.read_line(&mut text).context("password")?;
    text.truncate(text.trim_end_matches(['\n', '\r']).len());
    Ok(text)
}

/// A terminal that does not echo, until this is dropped.
struct Silent<'a> {
    terminal: &'a File,
    before: Termios,
}

impl<'a> Silent<'a> {
    fn new(terminal: &'a File) -> Result<Self> {
        let before = tcgetattr(terminal).context("/dev/tty")?;
        let mut silent = before.clone();
        silent.local_modes -= LocalModes::ECHO | LocalModes::ISIG;
        // As the end of a line it is read like one; as a signal it would leave the terminal silent.
        silent.special_codes[SpecialCodeIndex::VEOL] = INTERRUPT;
        tcsetattr(terminal, OptionalActions::Flush, &silent).context("/dev/tty")?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Silent<'_> {
    fn drop(&mut self) {
        if let Err(error) = tcsetattr(self.terminal, OptionalActions::Now, &self.before) {
            eprintln!("image-builder: the terminal does not echo any more (type 'stty echo'): {error}");
        }
    }
}
