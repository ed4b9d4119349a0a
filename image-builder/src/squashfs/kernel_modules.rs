//! Modules of the kernel that will run the system. The rescue image hands over to the system on its own kernel, so a system
//! without modules for just that release has no drivers beyond what is loaded by then.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail};

use super::node::{Exactly, Node, What};
use crate::packages;
use crate::tree::{Kind, Mounts, Tree};

/// The kernel itself and what a running system has no use for.
const NOT_MODULES: &[&str] = &["vmlinuz", "System.map", "config", "dtb", "build", "source"];

/// The release that a path shows the modules of to be there: that of a `modules.dep`.
pub fn release_of(path: &Path) -> Option<String> {
    let path = path.strip_prefix("usr").unwrap_or(path);
    let release = path.strip_prefix("lib/modules").ok()?.parent()?;
    let named = path.file_name()? == "modules.dep" && release.components().count() == 1;
    named.then(|| release.to_str().map(str::to_owned))?
}

/// Whether a tree has the modules of a release.
pub fn are_in(tree: &Tree, release: &str) -> Result<bool> {
    tree.is_file(format!("lib/modules/{release}/modules.dep"))
}

/// The releases a tree has modules for.
pub fn releases(tree: &Tree) -> Result<BTreeSet<String>> {
    let mut releases = BTreeSet::new();
    for release in tree.names("lib/modules") {
        if are_in(tree, &release)? {
            releases.insert(release);
        }
    }
    Ok(releases)
}

/// Why a system without the modules of a release is refused, and what can be done.
pub fn refusal(release: &str, there: &BTreeSet<String>) -> String {
    let there: Vec<&str> = there.iter().map(String::as_str).collect();
    let there = if there.is_empty() {
        "none at all".to_owned()
    } else {
        format!("those of {}", there.join(" "))
    };
    let from = match in_cache(release) {
        Some(root) => root.display().to_string(),
        None => "PATH".to_owned(),
    };
    format!(
        "no modules of kernel {release}, which the rescue image boots; the system has {there}. Build the rescue image from this \
         system, or add the modules with --modules-from {from}"
    )
}

/// Unpacked packages of an earlier build that have them.
fn in_cache(release: &str) -> Option<PathBuf> {
    let packages = packages::cache_directory().ok()?.join("packages");
    let mut roots: Vec<PathBuf> = fs::read_dir(packages)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path().join("root")))
        .filter(|root| root.join("usr/lib/modules").join(release).join("kernel").is_dir())
        .collect();
    roots.sort();
    roots.into_iter().next()
}

/// Takes a node and its data.
type Take<'a> = &'a mut dyn FnMut(Node, &mut dyn Read) -> Result<()>;

/// Sends the modules of a release that a tree has, to lie in `top`.
pub fn send(tree: &Tree, release: &str, top: &Path, take: Take) -> Result<()> {
    let from = format!("lib/modules/{release}");
    if !tree.exists(&from)? {
        let there: Vec<String> = tree.names("lib/modules");
        bail!(
            "{}: no modules of kernel {release}; there are {}",
            tree.name(),
            if there.is_empty() {
                "none".to_owned()
            } else {
                there.join(" ")
            }
        );
    }
    if are_in(tree, release)? {
        return walk(tree, Path::new(&from), top, take);
    }
    // Unpacked packages: the lists are made when they are installed.
    let directory = tempfile::tempdir().context("temporary directory")?;
    let modules = directory.path().join(&from);
    walk(tree, Path::new(&from), &modules, &mut |node, data| {
        put_on_host(&node, data).with_context(|| node.path.display().to_string())
    })?;
    depmod(directory.path(), release)?;
    walk(&Tree::open(directory.path())?, Path::new(&from), top, take)
}

/// The files of one release.
fn walk(tree: &Tree, from: &Path, top: &Path, take: Take) -> Result<()> {
    let mut begin = None;
    for entry in tree.walk(from, Mounts::Entered)? {
        let entry = entry?;
        let begin = begin.get_or_insert_with(|| entry.path.clone());
        let below = entry.path.strip_prefix(&*begin).context("walk")?;
        let first = below.iter().next().unwrap_or_default();
        if NOT_MODULES.iter().any(|name| first == *name) {
            continue;
        }
        let path = top.join(below);
        let what = match entry.metadata.kind {
            Kind::Directory => What::Directory,
            Kind::File => What::File(entry.metadata.size),
            Kind::Link => What::Link(tree.read_link(&entry.path)?),
            _ => continue,
        };
        let about = || format!("{}: /{}", tree.name(), entry.path.display());
        let path = if below.as_os_str().is_empty() {
            top.to_owned()
        } else {
            path
        };
        let node = Node::of_root(&path, what.clone(), 0);
        match what {
            What::File(size) => {
                let mut data = Exactly::new(tree.reader(&entry.path)?, size);
                take(node, &mut data).with_context(about)?;
            }
            _ => take(node, &mut std::io::empty()).with_context(about)?,
        }
    }
    Ok(())
}

fn put_on_host(node: &Node, data: &mut dyn Read) -> Result<()> {
    match node.what {
        What::Directory => fs::create_dir_all(&node.path)?,
        What::File(_) => drop(std::io::copy(data, &mut fs::File::create(&node.path)?)?),
        _ => {}
    }
    Ok(())
}

fn depmod(root: &Path, release: &str) -> Result<()> {
    // Not in the search path of everybody who is not root.
    let places = ["depmod", "/usr/sbin/depmod", "/sbin/depmod"];
    let mut last = None;
    for program in places {
        match Command::new(program).arg("-b").arg(root).arg(release).output() {
            Ok(output) if output.status.success() => return Ok(()),
            Ok(output) => bail!(
                "depmod: {}: {}",
                output.status,
                String::from_utf8_lossy(&output.stderr).trim()
            ),
            Err(error) => last = Some(error),
        }
    }
    let error = last.map(|error| error.to_string()).unwrap_or_default();
    Err(anyhow!("depmod: {error}; it is in the Debian package kmod"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_modules_names_its_release() {
        for (path, expected) in [
            (
                "usr/lib/modules/7.2.12+deb13-arm64/modules.dep",
                Some("7.2.12+deb13-arm64"),
            ),
            ("lib/modules/7/modules.dep", Some("7")),
            ("lib/modules/modules.dep", None),
            ("lib/modules/7/kernel/modules.dep", None),
            ("lib/modules/7/modules.alias", None),
            ("opt/lib/modules/7/modules.dep", None),
        ] {
            assert_eq!(release_of(Path::new(path)).as_deref(), expected, "{path}");
        }
    }

    #[test]
    fn a_refusal_names_both_kernels() {
        let there = BTreeSet::from(["6.12.47+rpt-rpi-v8".to_owned()]);
        let text = refusal("0.0-none", &there);
        assert!(
            text.contains("kernel 0.0-none") && text.contains("6.12.47+rpt-rpi-v8"),
            "{text}"
        );
        assert!(refusal("0.0-none", &BTreeSet::new()).contains("none at all"));
    }
}
