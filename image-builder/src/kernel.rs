//! The kernel in an unpacked tree: where its file, its modules and its device trees lie, in Debian's old layout
//! (`/boot/vmlinuz-VER`) and in the one since 7.2 (`/usr/lib/modules/VER/vmlinuz`).

use std::fs;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};

use crate::tree::Tree;

/// A kernel that was found.
#[derive(Debug)]
pub struct Kernel {
    /// As `uname -r` prints it.
    pub release: String,
    /// The file a boot loader or QEMU takes.
    pub file: PathBuf,
    /// `/usr/lib/modules/RELEASE` or the old `/lib/modules/RELEASE`.
    pub modules: String,
}

impl Kernel {
    /// The one kernel of the tree, or the one asked for by release.
    pub fn find(tree: &Tree, release: Option<&str>) -> Result<Self> {
        let mut found = Vec::new();
        for base in ["/usr/lib/modules", "/lib/modules"] {
            for name in tree.names(base) {
                let places = [format!("{base}/{name}/vmlinuz"), format!("/boot/vmlinuz-{name}")];
                let file = places.iter().find_map(|place| tree.find(place));
                if let Some(file) = file
                    && !found.iter().any(|kernel: &Self| kernel.release == name)
                {
                    found.push(Self {
                        modules: format!("{base}/{name}"),
                        release: name,
                        file,
                    });
                }
            }
        }
        if let Some(release) = release {
            found.retain(|kernel| kernel.release == release);
        }
        let releases: Vec<&str> = found.iter().map(|kernel| kernel.release.as_str()).collect();
        match (releases.as_slice(), release) {
            ([_], _) => found.pop().context("kernel"),
            ([], Some(release)) => bail!("no kernel {release} with modules in the tree"),
            ([], None) => bail!("no kernel with modules in the tree"),
            (many, _) => bail!(
                "{} kernels in the tree, name one with --kernel: {}",
                many.len(),
                many.join(" ")
            ),
        }
    }

    /// The kernel's file, whole.
    pub fn read(&self) -> Result<Vec<u8>> {
        fs::read(&self.file).with_context(|| self.file.display().to_string())
    }

    /// A device tree of this kernel by file name, in any vendor's directory.
    pub fn device_tree(&self, tree: &Tree, name: &str) -> Result<Vec<u8>> {
        let places = [
            format!("{}/dtb", self.modules),
            format!("/usr/lib/linux-image-{}", self.release),
        ];
        for place in &places {
            let vendors = tree
                .names(place)
                .into_iter()
                .map(|vendor| format!("{place}/{vendor}/{name}"));
            for path in vendors.chain([format!("{place}/{name}")]) {
                if tree.find(&path).is_some_and(|file| file.is_file()) {
                    return tree.read(&path);
                }
            }
        }
        bail!("{name}: kernel {} has no such device tree", self.release)
    }

    /// When the kernel was packed: the newest time among its files, in seconds since 1970.
    pub fn packed_at(&self, tree: &Tree) -> Result<u64> {
        let listings =
            ["modules.builtin", "modules.order"].map(|name| tree.find(&format!("{}/{name}", self.modules)));
        let mut newest = 0;
        for file in listings.into_iter().flatten().chain([self.file.clone()]) {
            let modified = fs::metadata(&file).and_then(|meta| meta.modified());
            let modified = modified.with_context(|| file.display().to_string())?;
            newest = newest.max(seconds(modified));
        }
        Ok(newest)
    }
}

/// Seconds since 1970; 0 for anything before.
pub fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn tree(files: &[&str]) -> (tempfile::TempDir, Tree) {
        let directory = tempfile::tempdir().unwrap();
        for file in files {
            let path = directory.path().join(file);
            fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).unwrap();
            fs::write(path, file).unwrap();
        }
        let tree = Tree::open(directory.path()).unwrap();
        (directory, tree)
    }

    #[test]
    fn both_layouts_are_found() {
        let (_keep, new) = tree(&[
            "usr/lib/modules/7.2/vmlinuz",
            "usr/lib/modules/7.2/dtb/broadcom/pi.dtb",
        ]);
        let kernel = Kernel::find(&new, None).unwrap();
        assert_eq!(kernel.release, "7.2");
        assert_eq!(
            kernel.device_tree(&new, "pi.dtb").unwrap(),
            b"usr/lib/modules/7.2/dtb/broadcom/pi.dtb"
        );
        let (_keep, old) = tree(&["boot/vmlinuz-6.1", "lib/modules/6.1/modules.order"]);
        assert_eq!(Kernel::find(&old, None).unwrap().modules, "/lib/modules/6.1");
        let (_keep, merged) = tree(&["boot/vmlinuz-6.12", "usr/lib/modules/6.12/modules.order"]);
        assert_eq!(
            Kernel::find(&merged, None).unwrap().modules,
            "/usr/lib/modules/6.12"
        );
    }

    #[test]
    fn two_kernels_must_be_told_apart() {
        let (_keep, two) = tree(&["usr/lib/modules/6.1/vmlinuz", "usr/lib/modules/7.2/vmlinuz"]);
        let error = Kernel::find(&two, None).unwrap_err().to_string();
        assert_eq!(error, "2 kernels in the tree, name one with --kernel: 6.1 7.2");
        assert_eq!(Kernel::find(&two, Some("6.1")).unwrap().release, "6.1");
        assert_eq!(
            Kernel::find(&two, Some("5")).unwrap_err().to_string(),
            "no kernel 5 with modules in the tree"
        );
    }
}
