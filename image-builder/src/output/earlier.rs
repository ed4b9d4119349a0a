//! What an earlier build left in the directory and this one does not write: old images hold old keys, and whoever serves the
//! directory would go on serving them.
//!
//! Only what the earlier build's manifest.json lists goes, and only while it is, byte for byte, what that build wrote: anything else
//! is somebody's own.

use std::fs;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::{MANIFEST, Written};
use crate::packages::hex;

/// The files an earlier build wrote.
#[derive(Debug, Default, Deserialize)]
pub struct Earlier {
    files: Vec<Written>,
}

/// How a file of an earlier build is found.
#[derive(Debug, PartialEq, Eq)]
enum State {
    AsWritten,
    /// Other bytes, or no file: a link, a directory.
    Changed,
    Gone,
}

impl Earlier {
    /// What the directory's manifest lists. One that cannot be read is said, and nothing is taken for an earlier build's.
    pub fn of(out: &Path) -> Self {
        let path = out.join(MANIFEST);
        let read = match fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Self::default(),
            Err(error) => Err(error.into()),
            Ok(text) => serde_json::from_slice(&text).map_err(anyhow::Error::from),
        };
        read.unwrap_or_else(|error| {
            let path = path.display();
            eprintln!("{path}: {error}; what an earlier build left here is not known and stays");
            Self::default()
        })
    }

    /// Removes what is not among the files written since, and says so.
    pub fn remove(&self, out: &Path, written: &[Written]) -> Result<()> {
        let (mut removed, mut left) = (Vec::new(), Vec::new());
        for file in &self.files {
            let again = |new: &Written| Path::new(&new.name) == Path::new(&file.name);
            let Some(path) = inside(out, &file.name).filter(|_| !written.iter().any(again)) else {
                continue;
            };
            let about = || path.display().to_string();
            match state(out, &path, file).with_context(about)? {
                State::Gone => {}
                State::Changed => left.push(file.name.as_str()),
                State::AsWritten => {
                    fs::remove_file(&path).with_context(about)?;
                    removed.push(file.name.as_str());
                }
            }
        }
        let out = out.display();
        if !removed.is_empty() {
            println!("{out}: removed, of an earlier build: {}", removed.join(" "));
        }
        if !left.is_empty() {
            eprintln!(
                "{out}: of an earlier build, changed since and left: {}",
                left.join(" ")
            );
        }
        Ok(())
    }
}

/// Where a listed name lies, if that is below the directory.
fn inside(out: &Path, name: &str) -> Option<PathBuf> {
    let plain = |part: Component| matches!(part, Component::Normal(_));
    let name = Path::new(name);
    (name.components().next().is_some() && name.components().all(plain)).then(|| out.join(name))
}

/// Looks without following a link, in the last part of the path or before it.
fn state(out: &Path, path: &Path, file: &Written) -> Result<State> {
    for above in path.ancestors().skip(1).take_while(|above| *above != out) {
        match fs::symlink_metadata(above) {
            Err(error) if is_absent(&error) => return Ok(State::Gone),
            Ok(meta) if !meta.is_dir() => return Ok(State::Changed),
            found => found?,
        };
    }
    match fs::symlink_metadata(path) {
        Err(error) if is_absent(&error) => return Ok(State::Gone),
        Ok(meta) if !meta.is_file() || meta.len() != file.size as u64 => return Ok(State::Changed),
        found => found?,
    };
    let same = hex(&Sha256::digest(fs::read(path)?)) == file.sha256;
    Ok(if same { State::AsWritten } else { State::Changed })
}

fn is_absent(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A directory with a file in it and a manifest that lists this name with the file's bytes.
    fn listed(name: &str) -> (tempfile::TempDir, PathBuf) {
        let place = tempfile::tempdir().unwrap();
        let out = place.path().join("out");
        fs::create_dir_all(out.join("http")).unwrap();
        fs::create_dir(place.path().join("other")).unwrap();
        for file in ["http/old", "old", "../old", "../other/old"] {
            fs::write(out.join(file), "old").unwrap();
        }
        let manifest = serde_json::json!({ "files": [Written::of(name, b"old")] });
        fs::write(out.join(MANIFEST), manifest.to_string()).unwrap();
        (place, out)
    }

    fn files(place: &Path) -> usize {
        let files = ["out/http/old", "out/old", "old", "other/old"];
        files.iter().filter(|file| place.join(file).exists()).count()
    }

    #[test]
    fn what_is_listed_goes_unless_it_is_written_again() {
        for name in ["http/old", "old"] {
            let (place, out) = listed(name);
            let again = [Written::of(name, b"new")];
            Earlier::of(&out).remove(&out, &again).unwrap();
            assert_eq!(files(place.path()), 4);
            Earlier::of(&out).remove(&out, &[]).unwrap();
            assert!(!out.join(name).exists());
            assert_eq!(files(place.path()), 3);
            // Once more: what is gone is no error.
            Earlier::of(&out).remove(&out, &[]).unwrap();
        }
    }

    #[test]
    fn a_name_that_leads_out_of_the_directory_is_not_followed() {
        let absolute = std::env::temp_dir().join("old").display().to_string();
        for name in ["../old", "http/../old", "http/../../old", ".", "", "/", &absolute] {
            let (place, out) = listed(name);
            Earlier::of(&out).remove(&out, &[]).unwrap();
            assert_eq!(files(place.path()), 4, "{name:?}");
        }
        let (place, out) = listed("old");
        let outside = place.path().join("old").display().to_string();
        let manifest = serde_json::json!({ "files": [Written::of(&outside, b"old")] });
        fs::write(out.join(MANIFEST), manifest.to_string()).unwrap();
        Earlier::of(&out).remove(&out, &[]).unwrap();
        assert_eq!(files(place.path()), 4);
    }

    #[test]
    fn a_link_is_neither_removed_nor_followed() {
        let (place, out) = listed("link/old");
        symlink("../other", out.join("link")).unwrap();
        Earlier::of(&out).remove(&out, &[]).unwrap();
        assert_eq!(files(place.path()), 4);
        let (place, out) = listed("link");
        symlink("../old", out.join("link")).unwrap();
        Earlier::of(&out).remove(&out, &[]).unwrap();
        assert_eq!(files(place.path()), 4);
        assert!(out.join("link").is_symlink());
        // The same name without a link in it.
        let (_place, out) = listed("link/old");
        fs::create_dir(out.join("link")).unwrap();
        fs::write(out.join("link/old"), "old").unwrap();
        Earlier::of(&out).remove(&out, &[]).unwrap();
        assert!(!out.join("link/old").exists());
    }

    #[test]
    fn what_somebody_changed_or_put_there_stays() {
        for bytes in ["own", "longer than it was"] {
            let (place, out) = listed("old");
            fs::write(out.join("old"), bytes).unwrap();
            Earlier::of(&out).remove(&out, &[]).unwrap();
            assert_eq!(files(place.path()), 4);
        }
        let (place, out) = listed("http");
        Earlier::of(&out).remove(&out, &[]).unwrap();
        assert_eq!(files(place.path()), 4);
    }

    #[test]
    fn without_a_manifest_that_can_be_read_nothing_is_removed() {
        let (place, out) = listed("old");
        fs::write(out.join(MANIFEST), "not JSON").unwrap();
        Earlier::of(&out).remove(&out, &[]).unwrap();
        fs::remove_file(out.join(MANIFEST)).unwrap();
        Earlier::of(&out).remove(&out, &[]).unwrap();
        assert_eq!(files(place.path()), 4);
    }
}
