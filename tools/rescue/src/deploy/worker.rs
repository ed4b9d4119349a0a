//! The process that deploys: a lost session does not take it along.

use super::{Deploy, in_place};
use crate::work::{self, Manner, Place};
use crate::{cut, ended};
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
    let options: Deploy = work::parsed("deploy", typed)?;
    // What is told to others has no password in it.
    let (source, device) = (cut::urls(&options.source), options.device.as_str());
    let hold = work::begin(&format!("rescue deploy {source} {device}"))?;
    let ended = in_place(&options, Place::Here);
    let facts = [("source", source.as_str()), ("device", device)];
    work::tell("deploy", &ended, &facts);
    drop(hold);
    ended
}

#[cfg(test)]
mod tests {
    use super::*;
    use argh::FromArgs as _;

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
