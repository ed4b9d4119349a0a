//! Features: named parts of an image that do not depend on the board, read from `kernel-config/features.toml`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::board::{Reasons, check_reasons, read_toml};

const EMBEDDED: &str = include_str!("../../kernel-config/features.toml");

/// What an image has when nothing is said.
pub const DEFAULT: &[&str] = &[
    "bash", "core", "disks", "ext4", "luks", "rsync", "sftp", "tls", "vfat",
];

/// One named part.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Feature {
    /// One line for people.
    pub about: String,
    /// Debian packages the files come from; their dependencies come along by themselves.
    #[serde(default)]
    pub packages: Vec<String>,
    /// Absolute paths in those packages.
    #[serde(default)]
    pub files: Vec<String>,
    /// Shared libraries a program opens by name at run time.
    #[serde(default)]
    pub libraries: Vec<String>,
    /// A directory of `.crt` files that become the CA bundle.
    pub certificates: Option<String>,
    /// Files of its own: absolute path to text.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
    #[serde(default)]
    pub modules: Reasons,
    /// Carried where the kernel has them.
    #[serde(default)]
    pub optional: Reasons,
}

/// The chosen features, in alphabetical order.
pub type Features = BTreeMap<String, Feature>;

/// Every feature there is.
pub fn all(directory: Option<&Path>) -> Result<Features> {
    match directory {
        Some(directory) => read_toml(&directory.join("features.toml")),
        None => toml::from_str(EMBEDDED).context("features.toml"),
    }
}

/// Reads the features file and keeps what was asked for.
pub fn choose(names: &[String], directory: Option<&Path>) -> Result<Features> {
    let known = all(directory)?;
    let mut chosen = Features::new();
    for name in names {
        let Some(feature) = known.get(name) else {
            let known: Vec<&str> = known.keys().map(String::as_str).collect();
            bail!("unknown feature '{name}'; known are {}", known.join(" "));
        };
        check_reasons("features", &feature.modules)?;
        check_reasons("features", &feature.optional)?;
        chosen.insert(name.clone(), feature.clone());
    }
    Ok(chosen)
}

/// Every package the features take files from.
pub fn packages(features: &Features) -> BTreeSet<String> {
    features
        .values()
        .flat_map(|feature| feature.packages.iter().cloned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_features_exist() {
        let names: Vec<String> = DEFAULT.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(choose(&names, None).unwrap().len(), DEFAULT.len());
    }

    #[test]
    fn an_unknown_feature_is_answered_with_the_known_ones() {
        let error = choose(&["zfs".to_owned()], None).unwrap_err().to_string();
        assert!(
            error.starts_with("unknown feature 'zfs'; known are bash btrfs "),
            "{error}"
        );
    }
}
