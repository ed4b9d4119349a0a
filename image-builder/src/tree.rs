//! A directory that stands for the root of a system: paths and symbolic links are followed inside it, never out of it.

use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The kernel's own limit on links in one path.
const LINKS: u32 = 40;

/// An unpacked system.
#[derive(Debug)]
pub struct Tree {
    root: PathBuf,
}

impl Tree {
    /// The tree under a directory.
    pub fn open(root: &Path) -> Result<Self> {
        if !root.is_dir() {
            bail!("{}: not a directory", root.display());
        }
        Ok(Self {
            root: root.to_owned(),
        })
    }

    /// Where a path of the tree lies on this host, links followed; `None` when it is not there.
    pub fn find(&self, path: &str) -> Option<PathBuf> {
        let mut rest: Vec<String> = components(Path::new(path));
        let mut here: Vec<String> = Vec::new();
        let mut links = 0;
        while !rest.is_empty() {
            let name = rest.remove(0);
            if name == ".." {
                here.pop();
                continue;
            }
            here.push(name);
            let mut on_host = self.on_host(&here);
            let meta = match fs::symlink_metadata(&on_host) {
                Ok(meta) => meta,
                // Packages name /lib and /bin; the link to /usr is another package's, which need not be here.
                Err(_) if here.len() == 1 => {
                    here.insert(0, "usr".to_owned());
                    on_host = self.on_host(&here);
                    fs::symlink_metadata(&on_host).ok()?
                }
                Err(_) => return None,
            };
            if meta.is_symlink() {
                links += 1;
                let target = fs::read_link(&on_host).ok().filter(|_| links <= LINKS)?;
                here.pop();
                if target.is_absolute() {
                    here.clear();
                }
                rest.splice(0..0, components(&target));
            }
        }
        Some(self.on_host(&here))
    }

    /// The bytes of a file of the tree.
    pub fn read(&self, path: &str) -> Result<Vec<u8>> {
        let Some(on_host) = self.find(path) else {
            bail!("{path}: not in {}", self.root.display())
        };
        fs::read(&on_host).with_context(|| on_host.display().to_string())
    }

    /// The names in a directory of the tree, sorted; none when there is no such directory.
    pub fn names(&self, path: &str) -> Vec<String> {
        let entries = self.find(path).and_then(|directory| fs::read_dir(directory).ok());
        let mut names: Vec<String> = entries
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect();
        names.sort();
        names
    }

    fn on_host(&self, here: &[String]) -> PathBuf {
        here.iter().fold(self.root.clone(), |path, name| path.join(name))
    }
}

fn components(path: &Path) -> Vec<String> {
    path.components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_string_lossy().into_owned()),
            Component::ParentDir => Some("..".to_owned()),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn tree() -> (tempfile::TempDir, Tree) {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("usr/lib/x")).unwrap();
        fs::write(directory.path().join("usr/lib/x/a.1.0"), b"a").unwrap();
        symlink("a.1.0", directory.path().join("usr/lib/x/a.1")).unwrap();
        symlink("/usr/lib/x/a.1", directory.path().join("usr/lib/abs")).unwrap();
        symlink(
            "../../../../../../etc/passwd",
            directory.path().join("usr/lib/out"),
        )
        .unwrap();
        symlink("loop", directory.path().join("usr/lib/loop")).unwrap();
        let tree = Tree::open(directory.path()).unwrap();
        (directory, tree)
    }

    #[test]
    fn links_are_followed_inside_the_tree() {
        let (_keep, tree) = tree();
        assert_eq!(tree.read("/usr/lib/abs").unwrap(), b"a");
        assert_eq!(tree.read("/lib/x/a.1").unwrap(), b"a");
    }

    #[test]
    fn a_link_out_of_the_tree_or_in_a_circle_finds_nothing() {
        let (_keep, tree) = tree();
        assert_eq!(tree.find("/usr/lib/out"), None);
        assert_eq!(tree.find("/usr/lib/loop"), None);
        assert!(
            tree.read("/usr/lib/gone")
                .unwrap_err()
                .to_string()
                .starts_with("/usr/lib/gone: not in ")
        );
    }
}
