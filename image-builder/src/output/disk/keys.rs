//! The files of the key partition: the ones a device reads, checked as it reads them.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use lifeboot_contract::authorized::List;
use lifeboot_contract::config::Config;
use lifeboot_contract::key_partition::{self, KeyFiles};
use lifeboot_contract::plan::Plan;

use super::super::boot_files::Files;
use crate::public::{self, Parameters};

/// The files in `directory`, for an image with the boot parameters `baked`; what a device would not take is refused.
pub fn read(directory: &Path, baked: &Config) -> Result<Files> {
    let about = || directory.display().to_string();
    let mut names: Vec<String> = Vec::new();
    for entry in fs::read_dir(directory).with_context(about)? {
        let name = entry.with_context(about)?.file_name();
        names.push(name.to_string_lossy().into_owned());
    }
    // What ssh-keygen leaves beside the key that it makes is not for the device, and does no harm where it lies.
    let public_half = format!("{}.pub", key_partition::HOST_KEY);
    names.retain(|name| *name != public_half);
    names.sort();
    let mut files = Files::new();
    for name in names {
        let path = directory.join(&name);
        ensure!(
            key_partition::FILES.contains(&name.as_str()),
            "{}: a device reads {} and nothing else",
            path.display(),
            key_partition::FILES.join(" ")
        );
        let text = match name.as_str() {
            key_partition::HOST_KEY => host_key(&path)?,
            key_partition::AUTHORIZED_KEYS => public::key_lines(&path, List::Root)?.0,
            _ => Parameters::read(&path)?.text,
        };
        ensure!(
            text.len() as u64 <= key_partition::LONGEST,
            "{}: {} bytes, a device reads {}",
            path.display(),
            text.len(),
            key_partition::LONGEST
        );
        ask_the_plan(&path, &name, &text, baked)?;
        files.push((name, text.into_bytes()));
    }
    Ok(files)
}

fn host_key(path: &Path) -> Result<String> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    match key_partition::check_host_key(&text) {
        Ok(()) => Ok(text),
        Err(what) => bail!("{}: {what}", path.display()),
    }
}

/// Whether the plan that a device makes with the file has something to say about it that it has not without.
fn ask_the_plan(path: &Path, name: &str, text: &str, baked: &Config) -> Result<()> {
    let text = Some(text.to_owned());
    let files = match name {
        key_partition::AUTHORIZED_KEYS => KeyFiles {
            authorized_keys: text,
            ..KeyFiles::default()
        },
        key_partition::CONFIG => KeyFiles {
            config: text,
            ..KeyFiles::default()
        },
        _ => return Ok(()),
    };
    let before = Plan::make("", baked, Default::default(), "");
    let plan = Plan::with_key_files("", baked, Default::default(), "", &files);
    if let Some(note) = plan.notes.iter().find(|note| !before.notes.contains(note)) {
        match name {
            key_partition::CONFIG => Parameters::read(path)?.refuse(path, note)?,
            _ => bail!("{}: {}", path.display(), note.what),
        }
    }
    match plan.refusal.filter(|_| before.refusal.is_none()) {
        Some(refusal) => bail!("{}: {refusal}", path.display()),
        None => Ok(()),
    }
}
