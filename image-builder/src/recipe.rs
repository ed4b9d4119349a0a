//! What to build: a recipe file, flags, or both; a flag wins over the recipe.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use serde::Deserialize;
use toml::Spanned;

use crate::board::{self, Board};
use crate::compress::Compression;
use crate::feature::{self, Features};

/// A recipe file. Paths in it are relative to the file.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Recipe {
    /// What the image calls itself, `lifeboot` by default.
    pub name: Option<String>,
    pub board: Option<Spanned<String>>,
    /// The static executable that becomes `/init`.
    pub executable: Option<PathBuf>,
    /// Debian's suite, `trixie` by default.
    #[serde(alias = "from-debian")]
    pub suite: Option<String>,
    /// A disk image, or the root of a system, to take everything from instead of packages.
    pub from_image: Option<PathBuf>,
    pub from_root: Option<PathBuf>,
    /// The suite of the kernel, the suite's backports by default.
    pub kernel_suite: Option<String>,
    /// Which kernel, where packages bring several.
    pub kernel: Option<String>,
    pub features: Option<Vec<Spanned<String>>>,
    pub authorized_keys: Option<PathBuf>,
    /// Keys for the users `unlock` and `status` alone, and of authorities that may certify others.
    pub unlock_keys: Option<PathBuf>,
    pub status_keys: Option<PathBuf>,
    pub user_ca: Option<PathBuf>,
    pub trusted_keys: Vec<PathBuf>,
    /// PEM files of certificate authorities, beside those of feature `tls`.
    pub ca: Vec<PathBuf>,
    pub config: Option<PathBuf>,
    pub compression: Option<Compression>,
    pub level: Option<i32>,
    pub build_time: Option<u64>,
    /// Words for the kernel command line, in outputs that carry one.
    pub cmdline: Option<String>,
    pub uki: Option<bool>,
    pub uki_stub: Option<PathBuf>,
    pub secureboot_key: Option<PathBuf>,
    pub secureboot_cert: Option<PathBuf>,
    /// The private key boot.img is signed with, or the program that signs it.
    pub boot_key: Option<PathBuf>,
    pub boot_signer: Option<PathBuf>,
    /// Machines to make TFTP directories for.
    pub serial: Vec<String>,
    pub mac: Vec<String>,
    /// The day of the oldest boot loader to serve.
    pub bootloader: Option<String>,
    /// An image for a card, and the files of its key partition.
    pub disk: Option<PathBuf>,
    pub key_partition: Option<PathBuf>,
    /// The owner's lines of config.txt.
    pub config_txt: Option<PathBuf>,
    /// Whether Raspberry Pi's firmware goes in; it does unless this is false.
    pub firmware: Option<bool>,
}

impl Recipe {
    /// Reads a recipe and makes its paths relative to here.
    pub fn read(path: &Path) -> Result<Self> {
        let mut recipe: Self = board::read_toml(path)?;
        let base = path.parent().unwrap_or(Path::new("")).to_owned();
        let Self {
            executable,
            authorized_keys,
            unlock_keys,
            status_keys,
            user_ca,
            trusted_keys,
            ca,
            config,
            from_image,
            from_root,
            uki_stub,
            secureboot_key,
            secureboot_cert,
            boot_key,
            boot_signer,
            disk,
            key_partition,
            config_txt,
            ..
        } = &mut recipe;
        let single = [
            executable,
            authorized_keys,
            unlock_keys,
            status_keys,
            user_ca,
            config,
            from_image,
            from_root,
            uki_stub,
            secureboot_key,
            secureboot_cert,
            boot_key,
            boot_signer,
            disk,
            key_partition,
            config_txt,
        ];
        for file in single.into_iter().flatten().chain(trusted_keys).chain(ca) {
            *file = base.join(&*file);
        }
        Ok(recipe)
    }

    /// The board and the features, looked up; what is unknown is named with its line.
    pub fn look_up(&self, source: Option<&Path>, kernel_config: Option<&Path>) -> Result<(Board, Features)> {
        let Some(board) = &self.board else {
            bail!("no board; known are {}", board::names(kernel_config)?.join(" "));
        };
        let place = |at: usize| source.map(|path| line_of(path, at)).unwrap_or_default();
        let found = Board::load(board.as_ref(), kernel_config);
        let found = found.map_err(|error| error.context(place(board.span().start)));
        let found = without_empty_context(found)?;
        Ok((found, self.look_up_features(source, kernel_config)?))
    }

    /// The features alone.
    pub fn look_up_features(&self, source: Option<&Path>, kernel_config: Option<&Path>) -> Result<Features> {
        let place = |at: usize| source.map(|path| line_of(path, at)).unwrap_or_default();
        let mut features = Features::new();
        match &self.features {
            None => {
                let names: Vec<String> = feature::DEFAULT.iter().map(|name| (*name).to_owned()).collect();
                features = feature::choose(&names, kernel_config)?;
            }
            Some(names) => {
                for name in names {
                    let chosen = feature::choose(std::slice::from_ref(name.as_ref()), kernel_config);
                    let chosen = chosen.map_err(|error| error.context(place(name.span().start)));
                    features.extend(without_empty_context(chosen)?);
                }
            }
        }
        Ok(features)
    }
}

/// `FILE: line N` for a byte of the file.
fn line_of(path: &Path, at: usize) -> String {
    let text = std::fs::read(path).unwrap_or_default();
    let line = 1 + text.iter().take(at).filter(|byte| **byte == b'\n').count();
    format!("{}: line {line}", path.display())
}

/// A name that came from a flag has no line to be told with.
fn without_empty_context<T>(result: Result<T>) -> Result<T> {
    result.map_err(|error| {
        if error.to_string().is_empty() {
            anyhow::anyhow!("{}", error.root_cause())
        } else {
            error
        }
    })
}

/// A name given by a flag.
pub fn unplaced(name: &str) -> Spanned<String> {
    Spanned::new(0..0, name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe(text: &str) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("r.toml");
        std::fs::write(&path, text).unwrap();
        (directory, path)
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        let (_keep, path) = recipe("board = \"pi3\"\ncompresion = \"zstd\"\n");
        let error = format!("{:#}", Recipe::read(&path).unwrap_err());
        assert!(
            error.contains("line 2") && error.contains("compresion"),
            "{error}"
        );
    }

    #[test]
    fn an_unknown_feature_is_named_with_its_line() {
        let (_keep, path) = recipe("board = \"pi3\"\nfeatures = [\n  \"core\",\n  \"zfs\",\n]\n");
        let recipe = Recipe::read(&path).unwrap();
        let error = format!("{:#}", recipe.look_up(Some(&path), None).unwrap_err());
        assert!(error.contains("r.toml: line 4: unknown feature 'zfs'"), "{error}");
    }

    /// The keys there are, by the refusal of one that is not.
    fn keys() -> Vec<String> {
        let (_keep, path) = recipe("no-such-key = 1\n");
        let refusal = format!("{:#}", Recipe::read(&path).unwrap_err());
        let (_, known) = refusal.split_once("expected one of").unwrap();
        known.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    }

    #[test]
    fn every_key_refuses_a_value_of_the_wrong_kind_with_its_line() {
        let keys = keys();
        assert!(keys.len() > 20, "{keys:?}");
        for key in keys {
            let (_keep, path) = recipe(&format!("# a recipe\n{key} = {{ a = 1 }}\n"));
            let error = format!("{:#}", Recipe::read(&path).unwrap_err());
            assert!(
                error.contains("r.toml") && error.contains("line 2") && error.contains(&key),
                "{error}"
            );
        }
    }

    #[test]
    fn paths_are_relative_to_the_recipe() {
        let (keep, path) =
            recipe("executable = \"rescue\"\ntrusted-keys = [\"a.pub\", \"/b.pub\"]\nca = [\"ca.pem\"]\n");
        let recipe = Recipe::read(&path).unwrap();
        assert_eq!(recipe.executable.unwrap(), keep.path().join("rescue"));
        assert_eq!(
            recipe.trusted_keys,
            [keep.path().join("a.pub"), PathBuf::from("/b.pub")]
        );
        assert_eq!(recipe.ca, [keep.path().join("ca.pem")]);
    }
}
