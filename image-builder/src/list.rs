//! `image-builder list`: the boards and features there are.

use std::path::PathBuf;

use anyhow::Result;
use argh::FromArgs;

use crate::board::{self, Board};
use crate::feature;

/// list the boards and features there are
#[derive(FromArgs)]
#[argh(subcommand, name = "list")]
pub struct Arguments {
    /// directory of board files, instead of those built in
    #[argh(option, arg_name = "dir")]
    kernel_config: Option<PathBuf>,
}

/// Prints them.
pub fn run(arguments: &Arguments) -> Result<()> {
    let directory = arguments.kernel_config.as_deref();
    println!("boards:");
    for name in board::names(directory)? {
        println!("  {name:<12} {}", Board::load(&name, directory)?.about);
    }
    println!("features:");
    for (name, feature) in feature::all(directory)? {
        println!("  {name:<12} {}", feature.about);
    }
    Ok(())
}
