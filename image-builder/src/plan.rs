//! `image-builder plan`: what a device would do with a kernel command line, by the device's own reading of it.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use argh::FromArgs;
use lifeboot_contract::config::Config;
use lifeboot_contract::plan::Plan;
use lifeboot_contract::template::Facts;

use crate::board::Board;
use crate::device_tree::DeviceTree;
use crate::public::Parameters;

/// print the plan a device makes of a kernel command line
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "plan",
    example = "image-builder plan --config config.toml 'root=http://10.0.2.2/debian.squashfs ip=dhcp'",
    example = "image-builder plan --board pi4 --device-tree bcm2711-rpi-4-b.dtb --cmdline 'root=http://192.168.1.2/os.squashfs'",
    note = "A device tree from the kernel's package names the model; a serial number is only in the one that firmware hands over, \
            /sys/firmware/fdt of a running board. The plan is JSON on standard output; words that were not taken are named on standard error. The exit code is 1 when \
            the device would refuse to boot the roots that are named. That none is named is no error, and is said there too: such a device stays in rescue."
)]
pub struct Arguments {
    /// boot parameters baked into the image, TOML
    #[argh(option, arg_name = "file")]
    config: Option<PathBuf>,
    /// board the plan is for: its architecture
    #[argh(option, arg_name = "name")]
    board: Option<String>,
    /// device tree that serial number and model are read from, as the device reads them
    #[argh(option, arg_name = "file")]
    device_tree: Option<PathBuf>,
    /// the bootloader's configuration, boot.conf, which tells the boot URL
    #[argh(option, arg_name = "file")]
    boot_conf: Option<PathBuf>,
    /// the kernel command line; words behind the options follow it
    #[argh(option, arg_name = "words")]
    cmdline: Option<String>,
    /// directory of board files, instead of those built in
    #[argh(option, arg_name = "dir")]
    kernel_config: Option<PathBuf>,
    /// the device's serial number
    #[argh(option, arg_name = "text")]
    serial: Option<String>,
    /// the device's model
    #[argh(option, arg_name = "text")]
    model: Option<String>,
    /// the device's architecture
    #[argh(option, arg_name = "text")]
    arch: Option<String>,
    /// the kernel command line, in one word or several
    #[argh(positional, greedy, arg_name = "word")]
    words: Vec<String>,
}

/// Prints the plan.
pub fn run(arguments: Arguments) -> Result<()> {
    let config = match &arguments.config {
        Some(path) => Parameters::read(path)?.config,
        None => Config::default(),
    };
    let facts = facts(&arguments)?;
    let words: Vec<&str> = arguments
        .cmdline
        .iter()
        .chain(&arguments.words)
        .map(String::as_str)
        .collect();
    let plan = Plan::make(&words.join(" "), &config, facts, "");
    println!("{}", serde_json::to_string_pretty(&plan)?);
    for note in &plan.notes {
        eprintln!("{}: {}", note.key, note.what);
    }
    if let Some(refusal) = plan.refusal {
        bail!("{refusal}");
    }
    if plan.roots.is_empty() {
        eprintln!("no root= names a root: the device boots none and stays in rescue");
    }
    Ok(())
}

/// What the device would find out about itself; what is given by word wins.
fn facts(arguments: &Arguments) -> Result<Facts> {
    let mut facts = Facts::default();
    if let Some(path) = &arguments.device_tree {
        let blob = fs::read(path).with_context(|| path.display().to_string())?;
        let tree = DeviceTree::parse(&blob).with_context(|| path.display().to_string())?;
        facts = Facts::of_device_tree(|name| Some(tree.node(0)?.property(name)?.to_vec()));
    }
    if let Some(path) = &arguments.boot_conf {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        facts.boot_url = Facts::boot_url_of(&text);
    }
    let board = arguments.board.as_deref();
    let board = board
        .map(|name| Board::load(name, arguments.kernel_config.as_deref()))
        .transpose()?;
    let arch = board.map(|board| board.arch.name().to_owned());
    Ok(Facts {
        serial: arguments.serial.clone().or(facts.serial),
        model: arguments.model.clone().or(facts.model),
        arch: arguments.arch.clone().or(arch),
        ..facts
    })
}
