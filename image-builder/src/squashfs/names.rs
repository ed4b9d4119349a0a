//! The names an image has so far: nothing twice, nothing below what is no directory, no second name of nothing.
//!
//! Looked up while nodes stream by, so a tarball that plays tricks is refused before anything is made of it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use super::node::What;

/// As much as is remembered of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    Directory,
    Link,
    Other,
}

/// Names with their sort.
#[derive(Debug, Default)]
pub struct Names(HashMap<PathBuf, Sort>);

impl Names {
    pub fn sort(&self, path: &str) -> Option<Sort> {
        self.0.get(Path::new(path)).copied()
    }

    pub fn has(&self, path: &str) -> bool {
        self.sort(path).is_some()
    }

    /// Remembers a name; `false` for a directory that is there already.
    pub fn add(&mut self, path: &Path, what: &What) -> Result<bool> {
        for above in path.ancestors().skip(1) {
            match self.0.get(above) {
                None | Some(Sort::Directory) => {}
                Some(Sort::Link) => bail!("lies below /{}, which is a symbolic link", above.display()),
                Some(Sort::Other) => bail!("lies below /{}, which is no directory", above.display()),
            }
        }
        let sort = match what {
            What::Directory => Sort::Directory,
            What::Link(_) => Sort::Link,
            What::Same(first) => match self.0.get(first.as_path()) {
                Some(sort) if *sort != Sort::Directory => *sort,
                Some(_) => bail!("a hard link to /{}, which is a directory", first.display()),
                None => bail!(
                    "a hard link to /{}, which does not come before it",
                    first.display()
                ),
            },
            _ => Sort::Other,
        };
        match self.0.get(path) {
            None => {
                self.0.insert(path.to_owned(), sort);
                Ok(true)
            }
            Some(Sort::Directory) if sort == Sort::Directory => Ok(false),
            Some(_) => bail!("comes twice"),
        }
    }

    /// The directories above a path that are not there yet, the uppermost first.
    pub fn missing_above(&self, path: &Path) -> Vec<PathBuf> {
        let above = path
            .ancestors()
            .skip(1)
            .filter(|above| !above.as_os_str().is_empty());
        let mut missing: Vec<PathBuf> = above
            .filter(|above| !self.0.contains_key(*above))
            .map(Path::to_owned)
            .collect();
        missing.reverse();
        missing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tricks_with_names_are_refused() {
        let mut names = Names::default();
        let mut add = |path: &str, what: What| names.add(Path::new(path), &what);
        assert!(add("", What::Directory).unwrap());
        assert!(add("etc", What::Directory).unwrap());
        assert!(!add("etc", What::Directory).unwrap());
        assert!(add("etc/passwd", What::File(1)).unwrap());
        assert!(add("out", What::Link("/etc".into())).unwrap());
        assert!(add("etc/same", What::Same("etc/passwd".into())).unwrap());
        for (path, what, why) in [
            (
                "out/passwd",
                What::File(1),
                "lies below /out, which is a symbolic link",
            ),
            (
                "etc/passwd/x",
                What::File(1),
                "lies below /etc/passwd, which is no directory",
            ),
            ("etc/passwd", What::File(1), "comes twice"),
            ("etc", What::Link("x".into()), "comes twice"),
            (
                "b",
                What::Same("gone".into()),
                "a hard link to /gone, which does not come before it",
            ),
            (
                "c",
                What::Same("etc".into()),
                "a hard link to /etc, which is a directory",
            ),
        ] {
            assert_eq!(add(path, what).unwrap_err().to_string(), why);
        }
    }
}
