//! `rescue fetch`: the boot's own fetch, by hand: resumed, verified, with its progress on the terminal.
//!
//! Without `-o` the file goes into memory and is thrown away after the check, which is how a failed boot is looked into.

use crate::control;
use crate::output;
use anyhow::{Context as _, anyhow};
use argh::FromArgs;
use lifeboot_contract::control::Report;
use lifeboot_contract::event::{Event, Failure, Level};
use lifeboot_contract::image::TRUSTED_KEYS;
use lifeboot_contract::plan::{Plan, Verify};
use lifeboot_contract::template::Template;
use lifeboot_init::report::{Reporter, Sink};
use lifeboot_init::stage::fetch::{self, ByteLen, Limits, SetAlready};
use lifeboot_init::stage::verify::{self, How, TrustedKeys};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

/// Memory left alone when the file goes into memory; the same as the boot's.
const RESERVE: u64 = 48 << 20;

/// fetch a file as the boot would, and say how it went
#[derive(Debug, FromArgs)]
#[cfg_attr(test, derive(argh::ArgsInfo))]
#[argh(
    subcommand,
    name = "fetch",
    note = "The file must prove itself as the boot parameters want it (URL.minisig by a key in the image), by --sha256, or not at all with --no-verify. {{serial}}, {{mac}} and the other templates may be used in URL.",
    example = "Does the OS image arrive, and is it ours? It is not kept:\n$ {command_name} http://boot.example/os.squashfs\nKeep a file:\n$ {command_name} --no-verify -o /tmp/notes http://boot.example/notes"
)]
pub struct Fetch {
    /// write to this file, which appears when all of it is there and verified
    #[argh(option, short = 'o', arg_name = "file")]
    output: Option<PathBuf>,
    /// the SHA-256 it must have
    #[argh(option, arg_name = "hex")]
    sha256: Option<String>,
    /// take whatever comes
    #[argh(switch)]
    no_verify: bool,
    /// http:// or https:// URL
    #[argh(positional)]
    url: String,
}

/// Fetches.
///
/// # Errors
/// What the stage says.
pub fn run(options: &Fetch) -> anyhow::Result<ExitCode> {
    // Away from a lifeboot machine there is no plan, and the defaults are the strict ones.
    let mut plan = control::plan(&control::run_dir()).unwrap_or_default();
    match verification(options, &plan) {
        Ok(verify) => plan.verify = verify,
        Err(what) => {
            output::complain(&format!("rescue: {what}"));
            return Ok(ExitCode::from(2));
        }
    }
    let url = Template::parse(&options.url)
        .and_then(|template| template.expand(&plan.facts))
        .with_context(|| options.url.clone())?;
    let (keys, notes) = TrustedKeys::load(Path::new(TRUSTED_KEYS));
    notes.iter().for_each(|note| output::complain(note));
    let reporter = Reporter::new(Arc::new(Terminal));
    let limits = Limits::of_this_machine(RESERVE);
    let (len, how) = match &options.output {
        Some(path) => {
            let saved = fetch::to_file(&plan, &url, path, &keys, &reporter, &limits).map_err(said)?;
            (saved.len, saved.how)
        }
        None => {
            let fetched = fetch::run(&plan, &url, &keys, &SetAlready, &reporter, &limits).map_err(said)?;
            let verified = verify::run(&plan, fetched, &reporter).map_err(said)?;
            (verified.len(), verified.how().clone())
        }
    };
    let place = options
        .output
        .as_ref()
        .map_or_else(|| "not kept".to_owned(), |path| path.display().to_string());
    output::line(&format!("{}, {}, {place}", ByteLen(len), proof(&how)))?;
    Ok(ExitCode::SUCCESS)
}

/// What the file must satisfy: what was typed, else what the plan wants.
fn verification(options: &Fetch, plan: &Plan) -> Result<Verify, String> {
    match (&options.sha256, options.no_verify) {
        (Some(_), true) => Err("--sha256 and --no-verify contradict each other".to_owned()),
        (Some(hex), false) => Verify::parse(&format!("sha256:{}", hex.to_lowercase())),
        (None, true) => Ok(Verify::Off),
        (None, false) => Ok(plan.verify.clone()),
    }
}

fn proof(how: &How) -> String {
    match how {
        How::Minisign { key, comment } => format!("signed by {key} ({comment})"),
        How::Sha256(_) => "SHA-256 as given".to_owned(),
        How::Off => "not verified".to_owned(),
    }
}

fn said(failure: Failure) -> anyhow::Error {
    match &failure.hint {
        Some(hint) => anyhow!("{failure} (hint: {hint})"),
        None => anyhow!("{failure}"),
    }
}

/// Sentences go to standard error, whether PID 1 is there or not.
struct Terminal;

impl Sink for Terminal {
    fn event(&self, event: Event) {
        // That nothing was checked is said at the end, and by whoever asked for it; nothing is going to run.
        if event.name == "verify.off" {
            return;
        }
        // A failure is the last line anyway.
        if let Some(text) = event
            .text
            .filter(|_| matches!(event.level, Level::Info | Level::Warn))
        {
            output::complain(&text);
        }
    }

    fn report(&self, _: Report) {}
}
