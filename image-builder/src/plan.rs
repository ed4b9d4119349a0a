//! `image-builder plan`: what a device would do with a kernel command line, by the device's own reading of it.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use argh::FromArgs;
use lifeboot_contract::config::Config;
use lifeboot_contract::plan::Plan;
use lifeboot_contract::template::Facts;

/// print the plan a device makes of a kernel command line
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "plan",
    example = "image-builder plan --config config.toml 'root=http://10.0.2.2/debian.squashfs ip=dhcp'",
    note = "The plan is JSON on standard output; words that were not taken are named on standard error. The exit code is 1 when \
            the device would not boot any root."
)]
pub struct Arguments {
    /// boot parameters baked into the image, TOML
    #[argh(option, arg_name = "file")]
    config: Option<PathBuf>,
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
    cmdline: Vec<String>,
}

/// Prints the plan.
pub fn run(arguments: Arguments) -> Result<()> {
    let config = match &arguments.config {
        Some(path) => {
            let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
            Config::parse(&text).with_context(|| path.display().to_string())?
        }
        None => Config::default(),
    };
    let Arguments {
        serial, model, arch, ..
    } = arguments;
    let facts = Facts {
        serial,
        model,
        arch,
        ..Facts::default()
    };
    let plan = Plan::make(&arguments.cmdline.join(" "), &config, facts, "");
    println!("{}", serde_json::to_string_pretty(&plan)?);
    for note in &plan.notes {
        eprintln!("{}: {}", note.key, note.what);
    }
    match plan.refusal {
        Some(refusal) => bail!("{refusal}"),
        None => Ok(()),
    }
}
