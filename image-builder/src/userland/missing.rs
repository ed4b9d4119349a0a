//! What the chosen features need and a system does not have: all of it at once, with what it would be good for, because
//! whoever has to install it wants to do that one time.

use anyhow::{Result, bail};

use crate::feature::{Feature, Features};
use crate::tree::Tree;

/// Refuses a tree that lacks a feature's files.
pub fn check(tree: &Tree, features: &Features) -> Result<()> {
    let mut lines = Vec::new();
    for (name, feature) in features {
        let paths = absent(tree, feature)?;
        if !paths.is_empty() {
            lines.push(format!(
                "feature {name}: {} has no {}{}: {}",
                tree.name(),
                paths.join(", "),
                packages(feature),
                feature.about
            ));
        }
    }
    match lines.as_slice() {
        [] => Ok(()),
        [line] => bail!("{line}; install it there, or leave the feature out"),
        _ => bail!(
            "{}\ninstall them there, or leave the features out",
            lines.join("\n")
        ),
    }
}

fn absent<'f>(tree: &Tree, feature: &'f Feature) -> Result<Vec<&'f str>> {
    let mut absent = Vec::new();
    for path in &feature.files {
        if !tree.is_file(path)? {
            absent.push(path.as_str());
        }
    }
    if let Some(directory) = &feature.certificates
        && tree.names(directory).is_empty()
    {
        absent.push(directory);
    }
    Ok(absent)
}

/// ` (Debian package x)`.
fn packages(feature: &Feature) -> String {
    match feature.packages.as_slice() {
        [] => String::new(),
        [package] => format!(" (Debian package {package})"),
        several => format!(" (Debian packages {})", several.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::feature;

    #[test]
    fn everything_missing_is_named_at_once_with_what_it_brings() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("usr/sbin")).unwrap();
        let tree = Tree::open(directory.path()).unwrap();
        let names = ["luks", "sftp"].map(str::to_owned);
        let features = feature::choose(&names, None).unwrap();
        let error = check(&tree, &features).unwrap_err().to_string();
        let luks = format!("feature luks: {} has no /usr/sbin/cryptsetup", tree.name());
        assert!(error.contains(&luks), "{error}");
        assert!(
            error.contains("cryptsetup-bin") && error.contains(&features["luks"].about),
            "{error}"
        );
        assert!(error.contains("feature sftp: "), "{error}");
        fs::write(directory.path().join("usr/sbin/cryptsetup"), b"").unwrap();
        let error = check(&tree, &features).unwrap_err().to_string();
        assert!(
            !error.contains("luks") && error.contains("leave the feature out"),
            "{error}"
        );
    }
}
