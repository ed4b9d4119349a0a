//! The process that deploys: a lost session does not take it along.

use super::{Deploy, Place, in_place};
use crate::work::{self, Manner, Purpose};
use crate::{control, ended, output};
use anyhow::{Context as _, bail};
use argh::FromArgs as _;
use lifeboot_contract::control::Request;
use lifeboot_contract::event::{Event, Level};
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// How it is watched: what is half written is worth nothing, so one Ctrl-C is enough.
pub const MANNER: Manner = Manner {
    worker: "deploy-worker",
    warning: None,
    stopping: "Stopping.",
};

/// As it would be typed by somebody who has agreed.
pub(super) fn words(options: &Deploy) -> Vec<String> {
    let path = |path: &PathBuf| path.to_string_lossy().into_owned();
    let valued = [
        ("--sha256", options.sha256.clone()),
        ("--signature", options.signature.as_ref().map(path)),
        ("--bmap", options.bmap.clone()),
        ("--bmap-sha256", options.bmap_sha256.clone()),
        ("--size", options.size.map(|size| size.to_string())),
    ];
    let switches = [
        (options.no_verify, "--no-verify"),
        (options.json, "--json"),
        (true, "--yes"),
    ];
    let valued = valued
        .into_iter()
        .filter_map(|(name, value)| Some([name.to_owned(), value?]));
    let switches = switches
        .iter()
        .filter(|(is, _)| *is)
        .map(|(_, word)| (*word).to_owned());
    let operands = [options.source.clone(), options.device.clone()];
    valued.flatten().chain(switches).chain(operands).collect()
}

/// From now on what is said is in the device's log too, and nobody need be there to hear it.
pub(super) fn keep_log(device: &str, options: &Deploy) -> anyhow::Result<()> {
    let path = Purpose::Deploy.log(device);
    output::keep(&path).with_context(|| path.display().to_string())?;
    output::note(&format!("== rescue deploy {}", words(options).join(" ")));
    Ok(())
}

/// Whoever is interrupted learns what became of the disk.
pub(super) fn leave_word(
    device: &str,
    touched: &Arc<AtomicBool>,
    whole: &Arc<AtomicBool>,
) -> anyhow::Result<()> {
    let device = device.to_owned();
    let (touched, whole) = (Arc::clone(touched), Arc::clone(whole));
    ended::on_signal(move || match whole.load(Ordering::SeqCst) {
        true => format!("{device} is written and proved"),
        false => super::report::state(&device, touched.load(Ordering::SeqCst)),
    })
}

/// Becomes the process that deploys. `typed` are the words behind [`Manner::worker`].
///
/// # Errors
/// As [`super::run`].
pub fn work(typed: &[OsString]) -> anyhow::Result<ExitCode> {
    let typed: Vec<String> = typed
        .iter()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let shown: Vec<&str> = typed.iter().map(String::as_str).collect();
    let options = match Deploy::from_args(&["rescue", "deploy"], &shown) {
        Ok(options) => options,
        Err(exit) => bail!(exit.output),
    };
    let hold = work::begin(&format!("rescue deploy {} {}", options.source, options.device))?;
    let ended = in_place(&options, Place::Here);
    let event = match &ended {
        Ok(code) if *code == ExitCode::SUCCESS => event(&options, Level::Info, "deploy.done"),
        Ok(_) => event(&options, Level::Error, "deploy.failed"),
        Err(error) => event(&options, Level::Error, "deploy.failed").with("what", format!("{error:#}")),
    };
    if let Err(error) = control::ask(&Request::Event(event)) {
        output::complain(&format!("rescue: this is not in 'rescue log': {error:#}"));
    }
    drop(hold);
    ended
}

fn event(options: &Deploy, level: Level, name: &str) -> Event {
    control::event(level, name)
        .with("source", options.source.as_str())
        .with("device", options.device.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_is_told_what_the_person_typed_and_that_they_agreed() {
        let typed = ["--sha256", "00", "--size", "5", "--json", "http://h/a.img", "vdb"];
        let options = Deploy::from_args(&["rescue", "deploy"], &typed).unwrap();
        let words = words(&options);
        let expected = [&typed[..5], &["--yes"], &typed[5..]].concat();
        assert_eq!(words, expected);
        let again: Vec<&str> = words.iter().map(String::as_str).collect();
        let again = Deploy::from_args(&["rescue", "deploy"], &again).unwrap();
        let mut agreed = options;
        agreed.yes = true;
        assert_eq!(format!("{again:?}"), format!("{agreed:?}"));
    }
}
