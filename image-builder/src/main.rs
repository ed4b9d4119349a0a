//! The host program: builds, signs, inspects and tries lifeboot images.
//!
//! Every subcommand is one file; this one reads the command line and turns what they return into an exit code:
//! 0 done, 1 could not, 2 usage.
#![forbid(unsafe_code)]

mod apt;
mod archive;
mod authority;
mod board;
mod boot_sig;
mod build;
mod check_kernel;
mod cmdline;
mod compose;
mod compress;
mod config_txt;
mod cpio;
mod device_tree;
mod disk_image;
mod dpkg;
mod eeprom;
mod elf;
mod fat;
mod feature;
mod inspect;
mod kernel;
mod list;
mod listing;
mod login;
mod modules;
mod output;
mod packages;
mod password;
mod pe;
mod plan;
mod public;
mod recipe;
mod replaced;
mod report;
mod run;
mod sign;
mod sources;
mod squashfs;
mod tarball;
mod tree;
mod userland;

use std::process::ExitCode;

use argh::FromArgs;

/// Builds, signs, inspects and tries lifeboot images.
#[derive(FromArgs)]
#[argh(
    example = "image-builder build --board virt-arm64 --authorized-keys ~/.ssh/id_ed25519.pub --out target/image",
    error_code(1, "it could not be done; the reason is on standard error"),
    error_code(2, "the command line is wrong")
)]
struct Arguments {
    #[argh(subcommand)]
    command: Command,
}

#[derive(FromArgs)]
#[argh(subcommand)]
#[expect(clippy::large_enum_variant, reason = "made once")]
enum Command {
    Build(build::Arguments),
    Eeprom(eeprom::Arguments),
    HashPassword(password::Arguments),
    Inspect(inspect::Arguments),
    Boards(list::BoardsArguments),
    CheckKernel(check_kernel::Arguments),
    Features(list::FeaturesArguments),
    Keygen(sign::KeygenArguments),
    Plan(plan::Arguments),
    Run(run::Arguments),
    Sign(sign::SignArguments),
    Squashfs(squashfs::Arguments),
}

fn main() -> ExitCode {
    let words: Vec<String> = match std::env::args_os().map(|word| word.into_string()).collect() {
        Ok(words) => words,
        Err(word) => return usage(&format!("argument {} is not UTF-8", word.display())),
    };
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let arguments = match Arguments::from_args(&["image-builder"], words.get(1..).unwrap_or_default()) {
        Ok(arguments) => arguments,
        Err(exit) if exit.status.is_ok() => {
            print!("{}", exit.output);
            return ExitCode::SUCCESS;
        }
        Err(exit) => return usage(exit.output.trim_end()),
    };
    let done = match arguments.command {
        Command::Build(arguments) => build::run(arguments),
        Command::Eeprom(arguments) => eeprom::run(&arguments),
        Command::HashPassword(arguments) => password::run(&arguments),
        Command::Inspect(arguments) => inspect::run(&arguments),
        Command::Boards(arguments) => list::boards(&arguments),
        Command::CheckKernel(arguments) => check_kernel::run(&arguments),
        Command::Features(arguments) => list::features(&arguments),
        Command::Keygen(arguments) => sign::keygen(&arguments),
        Command::Plan(arguments) => plan::run(arguments),
        Command::Run(arguments) => run::run(&arguments),
        Command::Sign(arguments) => sign::sign(&arguments),
        Command::Squashfs(arguments) => squashfs::run(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("image-builder: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn usage(what: &str) -> ExitCode {
    eprintln!("image-builder: {what}");
    eprintln!("try: image-builder --help");
    ExitCode::from(2)
}
