//! The program on the device: PID 1, the ssh server, and the rescue commands.
//!
//! This file only decides which of them it is: by process id, by the name it was called by, by the first word.
#![forbid(unsafe_code)]
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod backup;
mod boot;
mod chroot;
mod console;
mod control;
mod cut;
mod deploy;
mod disks;
#[cfg(test)]
mod documents;
mod eeprom;
mod ended;
mod fetch;
mod fsck;
mod greeting;
mod help;
mod interrupts;
mod machine;
mod mount;
mod net;
mod output;
mod progress;
mod prompt;
mod ps1;
mod reboot;
mod report;
mod shell;
mod sshd;
mod terminal;
mod ticker;
mod tool;
mod tty;
mod tunnel;
mod unlock;
mod work;

use argh::FromArgs;
use std::convert::Infallible;
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

/// musl's own allocator asks the kernel for every large buffer anew, which made a fetch touch as many fresh pages as the image has.
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

/// repairs, unlocks and boots this machine
#[derive(Debug, FromArgs)]
#[cfg_attr(test, derive(argh::ArgsInfo))]
struct Rescue {
    #[argh(subcommand)]
    command: Command,
}

#[derive(Debug, FromArgs)]
#[cfg_attr(test, derive(argh::ArgsInfo))]
#[argh(subcommand)]
enum Command {
    Backup(backup::Backup),
    Boot(boot::Boot),
    Chroot(chroot::Chroot),
    Console(console::Console),
    Deploy(deploy::Deploy),
    Disks(disks::Disks),
    Eeprom(eeprom::Eeprom),
    Fetch(fetch::Fetch),
    Fsck(fsck::Fsck),
    Lock(unlock::Lock),
    Log(boot::Log),
    Net(net::Net),
    Mount(mount::Mount),
    Pipeline(Pipeline),
    Poweroff(boot::Poweroff),
    Reboot(reboot::Reboot),
    Report(report::ReportOptions),
    Resize(terminal::Resize),
    Sshd(sshd::Sshd),
    Status(boot::StatusOptions),
    Tunnel(tunnel::Tunnel),
    Umount(mount::Umount),
    Unlock(unlock::Unlock),
}

/// run the boot pipeline (started by init)
#[derive(Debug, FromArgs)]
#[cfg_attr(test, derive(argh::ArgsInfo))]
#[argh(subcommand, name = "boot-pipeline")]
struct Pipeline {}

fn main() -> ExitCode {
    if std::process::id() == 1 {
        lifeboot_init::supervise::run()
    }
    let words: Vec<OsString> = std::env::args_os().collect();
    let called = words.first().and_then(|word| Path::new(word).file_name());
    let rest = words.get(1..).unwrap_or_default();
    let result = match rest.first() {
        _ if called.is_some_and(|name| name == "modprobe") => Ok(modprobe(rest)),
        Some(word) if word == tty::WORD => tty::run(rest.get(1..).unwrap_or_default()).map(never),
        Some(word) if word == ps1::WORD => ps1::run(rest.get(1..).unwrap_or_default()),
        Some(word) if word == chroot::WORD => chroot::enter(rest.get(1..).unwrap_or_default()).map(never),
        Some(word) if word == disks::look::WORD => disks::look::run(rest.get(1..).unwrap_or_default()),
        Some(word) if word == fsck::MANNER.worker => fsck::work(rest.get(1..).unwrap_or_default()),
        Some(word) if word == backup::MANNER.worker => backup::work(rest.get(1..).unwrap_or_default()),
        Some(word) if word == deploy::MANNER.worker => deploy::work(rest.get(1..).unwrap_or_default()),
        // Started by the handover, never by people.
        Some(word) if word == "free-initramfs" => {
            Ok(ExitCode::from(lifeboot_init::stage::handover::free_initramfs()))
        }
        Some(_) => by_word(rest),
        None => screen(),
    };
    result.unwrap_or_else(|error| failed(&error))
}

fn by_word(words: &[OsString]) -> anyhow::Result<ExitCode> {
    let words: Vec<String> = words
        .iter()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let mut words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["help" | "--help" | "-h"] => return screen(),
        ["--version" | "-V"] => {
            output::lines(machine::version().iter().map(String::as_str))?;
            return Ok(ExitCode::SUCCESS);
        }
        ["help", command, ..] => words = vec![*command, "--help"],
        // argh takes a dash alone for an option.
        ["deploy", ..] => words
            .iter_mut()
            .filter(|word| **word == "-")
            .for_each(|word| *word = deploy::STDIN),
        ["backup", ..] => words
            .iter_mut()
            .filter(|word| **word == "-")
            .for_each(|word| *word = backup::STDOUT),
        _ => {}
    }
    let (words, behind) = chroot::cut(&words);
    match Rescue::from_args(&["rescue"], words) {
        Ok(mut rescue) => {
            if let Command::Chroot(options) = &mut rescue.command {
                options.with(behind);
            }
            dispatch(rescue.command)
        }
        Err(exit) => early(&exit, words.first().copied().unwrap_or_default()),
    }
}

fn dispatch(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Backup(options) => backup::run(&options),
        Command::Boot(options) => boot::boot(&options),
        Command::Chroot(options) => chroot::run(&options),
        Command::Console(options) => console::run(&options).map(never),
        Command::Deploy(options) => deploy::run(&options),
        Command::Disks(options) => disks::run(&options),
        Command::Eeprom(options) => eeprom::run(&options),
        Command::Fetch(options) => fetch::run(&options),
        Command::Fsck(options) => fsck::run(&options),
        Command::Lock(options) => unlock::run_lock(&options),
        Command::Log(options) => boot::log(&options),
        Command::Net(options) => net::run(&options),
        Command::Mount(options) => mount::run(&options),
        Command::Pipeline(Pipeline {}) => Ok(lifeboot_init::boot::run().map(never)?),
        Command::Poweroff(options) => boot::poweroff(&options),
        Command::Reboot(options) => reboot::run(&options),
        Command::Report(options) => report::run(&options),
        Command::Resize(options) => terminal::resize(&options),
        Command::Sshd(options) => sshd::run(options),
        Command::Status(options) => boot::status(&options),
        Command::Tunnel(options) => tunnel::run(&options),
        Command::Umount(options) => mount::umount(&options),
        Command::Unlock(options) => unlock::run(&options),
    }
}

fn modprobe(words: &[OsString]) -> ExitCode {
    let words: Vec<String> = words
        .iter()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let (code, text) = lifeboot_init::modules::modprobe(&words);
    if !text.is_empty() {
        output::complain(&text);
    }
    ExitCode::from(code)
}

fn screen() -> anyhow::Result<ExitCode> {
    output::line(help::SCREEN)?;
    Ok(ExitCode::SUCCESS)
}

/// argh's own way out: help on standard output, bad usage on standard error with exit code 2 and where to read on.
fn early(exit: &argh::EarlyExit, command: &str) -> anyhow::Result<ExitCode> {
    let said = exit.output.trim_end();
    if exit.status.is_ok() {
        output::line(&help::broken(said))?;
        return Ok(ExitCode::SUCCESS);
    }
    let known = Rescue::from_args(&["rescue"], &[command, "--help"]).is_err_and(|help| help.status.is_ok());
    let next = if known {
        format!("rescue {command} --help")
    } else {
        "rescue help".to_owned()
    };
    output::complain(&format!(
        "rescue: {said}\nType '{next}' to see what can be typed."
    ));
    Ok(ExitCode::from(2))
}

fn failed(error: &anyhow::Error) -> ExitCode {
    if output::is_broken_pipe(error) {
        return ExitCode::SUCCESS;
    }
    output::complain(&format!("rescue: {error:#}"));
    ExitCode::FAILURE
}

fn never(never: Infallible) -> ExitCode {
    match never {}
}
