//! The root of a system, as a directory of this host or inside a disk image: paths and symbolic links are followed inside
//! it, never out of it.
//!
//! A path is the tree's own: `/usr/bin/x` and `usr/bin/x` are the same, and neither is a path of this host.

mod backing;
mod directory;
mod walk;

use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail};

pub use backing::{Attribute, Backing, Kind, Metadata};
use directory::Directory;
pub use walk::{Entry, Mounts, Walk};

/// The kernel's own limit on links in one path.
const LINKS: u32 = 40;

/// A kernel is the largest file that is read whole; an image from anywhere may claim more than there is memory.
const LARGEST: u64 = 256 << 20;

/// A system's files.
#[derive(Debug)]
pub struct Tree {
    /// What messages call it: a directory, an image.
    name: String,
    root: Box<dyn Backing>,
    /// File systems inside it, by where.
    mounts: Vec<(PathBuf, Box<dyn Backing>)>,
}

/// Whether the last name of a path may be a link that is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Last {
    Followed,
    AsIs,
}

impl Tree {
    /// The tree under a directory of this host.
    pub fn open(root: &Path) -> Result<Self> {
        if !root.is_dir() {
            bail!("{}: not a directory", root.display());
        }
        Ok(Self::over(
            root.display().to_string(),
            Box::new(Directory::new(root)),
        ))
    }

    /// A tree over a file system; messages call it by `name`.
    pub fn over(name: String, root: Box<dyn Backing>) -> Self {
        Self {
            name,
            root,
            mounts: Vec::new(),
        }
    }

    /// Puts a file system at a path of the tree.
    pub fn mount(&mut self, at: &str, backing: Box<dyn Backing>) {
        self.mounts.push((components(Path::new(at)).collect(), backing));
    }

    /// Whether anything was put into it.
    pub fn has_mounts(&self) -> bool {
        !self.mounts.is_empty()
    }

    /// The file system of the root alone.
    pub fn into_root(self) -> Box<dyn Backing> {
        self.root
    }

    /// What messages call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The bytes of a file of the tree.
    pub fn read(&self, path: impl AsRef<Path>) -> Result<Vec<u8>> {
        let path = path.as_ref();
        let mut bytes = Vec::new();
        self.reader(path)?
            .take(LARGEST + 1)
            .read_to_end(&mut bytes)
            .with_context(|| self.about(path))?;
        if bytes.len() as u64 > LARGEST {
            bail!("{}: more than {LARGEST} bytes", self.about(path));
        }
        Ok(bytes)
    }

    /// The bytes of a file as a stream, links followed.
    pub fn reader(&self, path: impl AsRef<Path>) -> Result<Box<dyn Read + '_>> {
        let path = self.existing(path.as_ref(), Last::Followed)?;
        if self.found(&path, Mounts::Entered)?.kind != Kind::File {
            bail!("{}: not a regular file", self.about(&path));
        }
        let (backing, below) = self.backing(&path, Mounts::Entered);
        backing.reader(below)
    }

    /// The names in a directory of the tree, sorted; none when there is no such directory. One that cannot be read is named
    /// on standard error: what is missed then is missed by whoever needs it. Names that are not UTF-8 are left out: nothing
    /// that an image is made of has one.
    pub fn names(&self, path: impl AsRef<Path>) -> Vec<String> {
        let path = path.as_ref();
        let entries = self.directory(path).unwrap_or_else(|error| {
            eprintln!("{}: left out: {error:#}", self.about(path));
            Vec::new()
        });
        let names = entries.into_iter().filter_map(|name| name.into_string().ok());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    /// What is in a directory, nothing when there is none.
    fn directory(&self, path: &Path) -> Result<Vec<OsString>> {
        match self.resolve(path, Last::Followed)? {
            Some(path) if self.found(&path, Mounts::Entered)?.kind == Kind::Directory => {
                self.entries_at(&path, Mounts::Entered)
            }
            _ => Ok(Vec::new()),
        }
    }

    /// The names in a directory, sorted, whatever bytes they are made of.
    #[cfg(test)]
    pub fn entries(&self, path: impl AsRef<Path>) -> Result<Vec<OsString>> {
        let path = self.existing(path.as_ref(), Last::Followed)?;
        let mut names = self.entries_at(&path, Mounts::Entered)?;
        names.sort();
        Ok(names)
    }

    /// Whether a path, links followed, leads anywhere.
    pub fn exists(&self, path: impl AsRef<Path>) -> Result<bool> {
        Ok(self.resolve(path.as_ref(), Last::Followed)?.is_some())
    }

    /// Whether a path, links followed, is a regular file.
    pub fn is_file(&self, path: impl AsRef<Path>) -> Result<bool> {
        match self.resolve(path.as_ref(), Last::Followed)? {
            Some(path) => Ok(self.found(&path, Mounts::Entered)?.kind == Kind::File),
            None => Ok(false),
        }
    }

    /// What a path leads to, links followed.
    pub fn metadata(&self, path: impl AsRef<Path>) -> Result<Metadata> {
        let path = self.existing(path.as_ref(), Last::Followed)?;
        self.found(&path, Mounts::Entered)
    }

    /// What lies at a path, a link in its last place not followed.
    #[cfg(test)]
    pub fn lstat(&self, path: impl AsRef<Path>) -> Result<Metadata> {
        let path = self.existing(path.as_ref(), Last::AsIs)?;
        self.found(&path, Mounts::Entered)
    }

    /// Where a link points, as it stands there.
    pub fn read_link(&self, path: impl AsRef<Path>) -> Result<PathBuf> {
        let path = self.existing(path.as_ref(), Last::AsIs)?;
        let (backing, below) = self.backing(&path, Mounts::Entered);
        backing.read_link(below)
    }

    /// Extended attributes of what lies at a path, sorted by name; a link in its last place is not followed.
    pub fn attributes(&self, path: impl AsRef<Path>) -> Result<Vec<Attribute>> {
        let path = self.existing(path.as_ref(), Last::AsIs)?;
        let (backing, below) = self.backing(&path, Mounts::Entered);
        let mut attributes = backing.attributes(below)?;
        attributes.sort();
        Ok(attributes)
    }

    /// Everything at and below a directory, itself first, links not followed. The same tree gives the same order.
    pub fn walk(&self, top: impl AsRef<Path>, mounts: Mounts) -> Result<Walk<'_>> {
        let top = self.existing(top.as_ref(), Last::Followed)?;
        Ok(Walk::new(self, top, mounts))
    }

    /// The path, links resolved, when something lies there.
    fn resolve(&self, path: &Path, last: Last) -> Result<Option<PathBuf>> {
        let mut rest: Vec<OsString> = components(path).map(OsStr::to_owned).collect();
        rest.reverse();
        let mut here = PathBuf::new();
        let mut links = 0;
        while let Some(name) = rest.pop() {
            if name == ".." {
                here.pop();
                continue;
            }
            here.push(&name);
            let mut found = self.at(&here, Mounts::Entered)?;
            if found.is_none() && here.components().count() == 1 {
                // Packages name /lib and /bin; the link to /usr is another package's, which need not be here.
                here = Path::new("usr").join(&name);
                found = self.at(&here, Mounts::Entered)?;
            }
            let Some(found) = found else { return Ok(None) };
            if found.kind != Kind::Link || (rest.is_empty() && last == Last::AsIs) {
                continue;
            }
            links += 1;
            if links > LINKS {
                return Ok(None);
            }
            let (backing, below) = self.backing(&here, Mounts::Entered);
            let target = backing.read_link(below)?;
            here.pop();
            if target.is_absolute() {
                here.clear();
            }
            let mut names: Vec<OsString> = components(&target).map(OsStr::to_owned).collect();
            names.reverse();
            rest.extend(names);
        }
        Ok(Some(here))
    }

    fn existing(&self, path: &Path, last: Last) -> Result<PathBuf> {
        match self.resolve(path, last)? {
            Some(path) => Ok(path),
            None => bail!("{}: not in {}", path.display(), self.name),
        }
    }

    fn found(&self, path: &Path, mounts: Mounts) -> Result<Metadata> {
        match self.at(path, mounts)? {
            Some(metadata) => Ok(metadata),
            None => bail!("{}: not in {}", path.display(), self.name),
        }
    }

    fn at(&self, path: &Path, mounts: Mounts) -> Result<Option<Metadata>> {
        let (backing, below) = self.backing(path, mounts);
        backing.lstat(below)
    }

    fn entries_at(&self, path: &Path, mounts: Mounts) -> Result<Vec<OsString>> {
        if mounts == Mounts::LeftOut && self.mounts.iter().any(|(at, _)| at == path) {
            return Ok(Vec::new());
        }
        let (backing, below) = self.backing(path, mounts);
        backing.entries(below)
    }

    /// The file system a path lies in, and the path in it.
    fn backing<'p>(&self, path: &'p Path, mounts: Mounts) -> (&dyn Backing, &'p Path) {
        let mounted = self.mounts.iter().filter(|_| mounts == Mounts::Entered);
        let mut inside = mounted.filter_map(|(at, backing)| Some((backing, path.strip_prefix(at).ok()?)));
        match inside.next() {
            Some((backing, below)) => (backing.as_ref(), below),
            None => (self.root.as_ref(), path),
        }
    }

    /// `TREE: /path`, for messages.
    fn about(&self, path: &Path) -> String {
        let path = path.strip_prefix("/").unwrap_or(path);
        format!("{}: /{}", self.name, path.display())
    }
}

fn components(path: &Path) -> impl Iterator<Item = &OsStr> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name),
        Component::ParentDir => Some(OsStr::new("..")),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
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
        assert_eq!(
            tree.read_link("/usr/lib/abs").unwrap(),
            Path::new("/usr/lib/x/a.1")
        );
        assert_eq!(tree.lstat("/usr/lib/abs").unwrap().kind, Kind::Link);
        assert_eq!(tree.metadata("/usr/lib/abs").unwrap().kind, Kind::File);
    }

    #[test]
    fn a_link_out_of_the_tree_or_in_a_circle_finds_nothing() {
        let (_keep, tree) = tree();
        assert!(!tree.exists("/usr/lib/out").unwrap());
        assert!(!tree.exists("/usr/lib/loop").unwrap());
        assert!(
            tree.read("/usr/lib/gone")
                .unwrap_err()
                .to_string()
                .starts_with("/usr/lib/gone: not in ")
        );
    }

    #[test]
    fn a_walk_is_sorted_and_follows_no_link() {
        let (keep, tree) = tree();
        fs::hard_link(
            keep.path().join("usr/lib/x/a.1.0"),
            keep.path().join("usr/lib/second"),
        )
        .unwrap();
        let entries: Vec<Entry> = tree
            .walk("/usr", Mounts::Entered)
            .unwrap()
            .map(Result::unwrap)
            .collect();
        let paths: Vec<&str> = entries.iter().map(|entry| entry.path.to_str().unwrap()).collect();
        assert_eq!(
            paths,
            [
                "usr",
                "usr/lib",
                "usr/lib/abs",
                "usr/lib/loop",
                "usr/lib/out",
                "usr/lib/second",
                "usr/lib/x",
                "usr/lib/x/a.1",
                "usr/lib/x/a.1.0"
            ]
        );
        let second = &entries[5].metadata;
        assert_eq!((second.links, second.identity), (2, entries[8].metadata.identity));
    }

    #[test]
    fn a_mount_hides_what_lies_below_it_unless_it_is_left_out() {
        let (keep, mut tree) = tree();
        let boot = tempfile::tempdir().unwrap();
        fs::write(boot.path().join("config.txt"), b"boot").unwrap();
        fs::create_dir_all(keep.path().join("boot/firmware")).unwrap();
        tree.mount("/boot/firmware", Box::new(Directory::new(boot.path())));
        assert_eq!(tree.read("/boot/firmware/config.txt").unwrap(), b"boot");
        let count = |mounts| tree.walk("/boot", mounts).unwrap().count();
        assert_eq!((count(Mounts::Entered), count(Mounts::LeftOut)), (3, 2));
    }
}
