//! The kernel of a system: where its file, its modules and its device trees lie. Debian's old layout (`/boot/vmlinuz-VER`),
//! the one since 7.2 (`/usr/lib/modules/VER/vmlinuz`), and Raspberry Pi OS, which had only the boot partition's
//! `kernel8.img` before it took Debian's, and which has a kernel for each generation of boards.

use std::io::Read;

use anyhow::{Context, Result, bail};

use crate::tree::Tree;

/// Where a Raspberry Pi's boot partition is mounted, today and before Debian 12.
const BOOT_PARTITIONS: &[&str] = &["/boot/firmware", "/boot"];

/// More than any kernel unpacks to; a file that claims more is not one.
const LARGEST: u64 = 256 << 20;

/// A kernel that was found.
#[derive(Debug)]
pub struct Kernel {
    /// As `uname -r` prints it.
    pub release: String,
    /// The file a boot loader or QEMU takes, in the tree.
    pub file: String,
    /// `/usr/lib/modules/RELEASE` or the old `/lib/modules/RELEASE`.
    pub modules: String,
}

impl Kernel {
    /// The one kernel of the tree, the one asked for by release, or, of several, the one whose release ends as the board
    /// likes best.
    pub fn find(tree: &Tree, release: Option<&str>, flavours: &[String]) -> Result<Self> {
        let mut found = all(tree)?;
        let names: Vec<String> = found.iter().map(|kernel| kernel.release.clone()).collect();
        let names = names.join(" ");
        if let Some(release) = release {
            return match found.iter().position(|kernel| kernel.release == release) {
                Some(at) => Ok(found.swap_remove(at)),
                None if found.is_empty() => bail!("{}: no kernel with modules in it", tree.name()),
                None => bail!("{}: no kernel {release}; it has {names}", tree.name()),
            };
        }
        if found.len() > 1 {
            let liked = |flavour: &String| {
                found
                    .iter()
                    .any(|kernel| kernel.release.ends_with(flavour.as_str()))
            };
            if let Some(flavour) = flavours.iter().find(|flavour| liked(flavour)) {
                found.retain(|kernel| kernel.release.ends_with(flavour.as_str()));
            }
        }
        match found.len() {
            0 => bail!("{}: no kernel with modules in it", tree.name()),
            1 => found.pop().context("kernel"),
            many => {
                let names: Vec<&str> = found.iter().map(|kernel| kernel.release.as_str()).collect();
                bail!(
                    "{}: {many} kernels, name one with --kernel: {}",
                    tree.name(),
                    names.join(" ")
                )
            }
        }
    }

    /// Raspberry Pi's own kernels say so in their names: `6.12.25+rpt-rpi-v8`, `6.1.21-v8+`.
    pub fn is_mainline(&self) -> bool {
        !["rpi", "-v8", "raspi"]
            .iter()
            .any(|mark| self.release.contains(mark))
    }

    /// The kernel's file, whole.
    pub fn read(&self, tree: &Tree) -> Result<Vec<u8>> {
        tree.read(&self.file)
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
                if tree.is_file(&path)? {
                    return tree.read(&path);
                }
            }
        }
        for place in BOOT_PARTITIONS {
            let path = format!("{place}/{name}");
            if tree.is_file(&path)? {
                return tree.read(&path);
            }
        }
        bail!("{name}: kernel {} has no such device tree", self.release)
    }

    /// When the kernel was packed: the newest time among its files, in seconds since 1970.
    pub fn packed_at(&self, tree: &Tree) -> Result<u64> {
        let mut newest = tree.metadata(&self.file)?.modified;
        for name in ["modules.builtin", "modules.order"] {
            let path = format!("{}/{name}", self.modules);
            if tree.exists(&path)? {
                newest = newest.max(tree.metadata(&path)?.modified);
            }
        }
        Ok(u64::try_from(newest).unwrap_or(0))
    }
}

/// Every kernel that has both a file and modules, in the order of the modules' directories.
fn all(tree: &Tree) -> Result<Vec<Kernel>> {
    let mut found: Vec<Kernel> = Vec::new();
    let mut without_file = Vec::new();
    for base in ["/usr/lib/modules", "/lib/modules"] {
        for release in tree.names(base) {
            if found.iter().any(|kernel| kernel.release == release) {
                continue;
            }
            let modules = format!("{base}/{release}");
            let places = [format!("{modules}/vmlinuz"), format!("/boot/vmlinuz-{release}")];
            let mut file = None;
            for place in places {
                if file.is_none() && tree.is_file(&place)? {
                    file = Some(place);
                }
            }
            match file {
                Some(file) => found.push(Kernel {
                    release,
                    file,
                    modules,
                }),
                None => without_file.push((release, modules)),
            }
        }
    }
    if !without_file.is_empty() {
        for (release, file) in in_boot_partition(tree)? {
            let missing = without_file.iter().find(|(wanted, _)| *wanted == release);
            if let Some((_, modules)) = missing
                && !found.iter().any(|kernel| kernel.release == release)
            {
                found.push(Kernel {
                    modules: modules.clone(),
                    release,
                    file,
                });
            }
        }
    }
    Ok(found)
}

/// The kernels a Raspberry Pi's firmware would load, by the release that each says of itself.
fn in_boot_partition(tree: &Tree) -> Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    for place in BOOT_PARTITIONS {
        for name in tree.names(place) {
            if !name.starts_with("kernel") || !name.ends_with(".img") {
                continue;
            }
            let path = format!("{place}/{name}");
            if let Some(release) = release_in(&unpacked(tree.read(&path)?).with_context(|| path.clone())?) {
                found.push((release, path));
            }
        }
    }
    Ok(found)
}

/// The kernel itself, of a file that may be compressed with gzip, as arm64's `vmlinuz` is in some distributions.
pub fn unpacked(file: Vec<u8>) -> Result<Vec<u8>> {
    if !file.starts_with(&[0x1f, 0x8b]) {
        return Ok(file);
    }
    let mut kernel = Vec::new();
    let mut plain = flate2::read::MultiGzDecoder::new(file.as_slice()).take(LARGEST + 1);
    plain.read_to_end(&mut kernel)?;
    if kernel.len() as u64 > LARGEST {
        bail!("unpacks to more than {LARGEST} bytes, which no kernel does");
    }
    Ok(kernel)
}

/// What stands behind `Linux version ` in an unpacked kernel.
fn release_in(kernel: &[u8]) -> Option<String> {
    const BANNER: &[u8] = b"Linux version ";
    let mut from = 0;
    while let Some(at) = kernel
        .get(from..)?
        .windows(BANNER.len())
        .position(|window| window == BANNER)
    {
        from += at + BANNER.len();
        let release: Vec<u8> = kernel
            .get(from..)?
            .iter()
            .copied()
            .take(128)
            .take_while(u8::is_ascii_graphic)
            .collect();
        // The same words stand in a kernel as a format, too.
        if release.first().is_some_and(u8::is_ascii_digit) {
            return String::from_utf8(release).ok();
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;
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

    fn flavours(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn both_layouts_are_found() {
        let (_keep, new) = tree(&[
            "usr/lib/modules/7.2/vmlinuz",
            "usr/lib/modules/7.2/dtb/broadcom/pi.dtb",
        ]);
        let kernel = Kernel::find(&new, None, &[]).unwrap();
        assert_eq!(kernel.release, "7.2");
        assert_eq!(
            kernel.device_tree(&new, "pi.dtb").unwrap(),
            b"usr/lib/modules/7.2/dtb/broadcom/pi.dtb"
        );
        let (_keep, old) = tree(&["boot/vmlinuz-6.1", "lib/modules/6.1/modules.order"]);
        assert_eq!(Kernel::find(&old, None, &[]).unwrap().modules, "/lib/modules/6.1");
        let (_keep, merged) = tree(&["boot/vmlinuz-6.12", "usr/lib/modules/6.12/modules.order"]);
        assert_eq!(
            Kernel::find(&merged, None, &[]).unwrap().modules,
            "/usr/lib/modules/6.12"
        );
    }

    #[test]
    fn two_kernels_must_be_told_apart() {
        let (_keep, two) = tree(&["usr/lib/modules/6.1/vmlinuz", "usr/lib/modules/7.2/vmlinuz"]);
        let error = Kernel::find(&two, None, &[]).unwrap_err().to_string();
        assert!(
            error.ends_with(": 2 kernels, name one with --kernel: 6.1 7.2"),
            "{error}"
        );
        assert_eq!(Kernel::find(&two, Some("6.1"), &[]).unwrap().release, "6.1");
        let error = Kernel::find(&two, Some("5"), &[]).unwrap_err().to_string();
        assert!(error.ends_with(": no kernel 5; it has 6.1 7.2"), "{error}");
    }

    #[test]
    fn a_board_has_its_own_taste_among_the_kernels_of_raspberry_pi_os() {
        let (_keep, both) = tree(&[
            "boot/vmlinuz-6.12.34+rpt-rpi-2712",
            "boot/vmlinuz-6.12.34+rpt-rpi-v8",
            "usr/lib/modules/6.12.34+rpt-rpi-2712/modules.order",
            "usr/lib/modules/6.12.34+rpt-rpi-v8/modules.order",
        ]);
        let chosen =
            |names: &[&str]| Kernel::find(&both, None, &flavours(names)).map(|kernel| kernel.release);
        assert_eq!(chosen(&["-2712", "-v8"]).unwrap(), "6.12.34+rpt-rpi-2712");
        assert_eq!(chosen(&["-v8"]).unwrap(), "6.12.34+rpt-rpi-v8");
        assert_eq!(chosen(&["-v9", "-v8"]).unwrap(), "6.12.34+rpt-rpi-v8");
        let error = chosen(&[]).unwrap_err().to_string();
        assert!(
            error.ends_with("--kernel: 6.12.34+rpt-rpi-2712 6.12.34+rpt-rpi-v8"),
            "{error}"
        );
    }

    #[test]
    fn a_kernel_of_the_boot_partition_is_known_by_what_it_says_of_itself() {
        let (keep, old) = tree(&[
            "lib/modules/6.1.21-v8+/modules.order",
            "lib/modules/6.1.21-v7l+/modules.order",
            "boot/bcm2711-rpi-4-b.dtb",
        ]);
        let banner = b"...Linux version %s (...)\0Linux version 6.1.21-v8+ (dom@buildbot)\0";
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(banner).unwrap();
        fs::write(keep.path().join("boot/kernel8.img"), gz.finish().unwrap()).unwrap();
        fs::write(keep.path().join("boot/kernel7l.img"), b"zImage").unwrap();
        let kernel = Kernel::find(&old, None, &flavours(&["-v8"])).unwrap();
        assert_eq!(
            (kernel.release.as_str(), kernel.file.as_str()),
            ("6.1.21-v8+", "/boot/kernel8.img")
        );
        assert_eq!(unpacked(kernel.read(&old).unwrap()).unwrap(), banner);
        assert!(kernel.device_tree(&old, "bcm2711-rpi-4-b.dtb").is_ok());
    }

    #[test]
    fn a_damaged_gzip_is_no_kernel() {
        assert!(unpacked(vec![0x1f, 0x8b, 8, 0, 1]).is_err());
        assert_eq!(unpacked(b"MZ".to_vec()).unwrap(), b"MZ");
    }
}
