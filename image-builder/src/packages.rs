//! Debian packages, unpacked without root and without running anything of theirs, and kept.
//!
//! The cache is keyed by what was asked for, not by the mirror, and a directory appears in it only when it is whole:
//! an interrupted fetch is never taken for a finished one. Building from it needs no network.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::apt::Source;
use crate::board::Arch;
use crate::dpkg;

/// Raised when what is kept from a package changes.
const CACHE_FORMAT: u32 = 2;
/// Where the extraction writes what each package is and brings; not a path any package owns.
const NAMES: &str = "lifeboot-packages";

/// For each package its name, version, source and architecture, then its files, each behind a space. Without the symbolic links:
/// packages list those nowhere but in the data itself, which would have to be unpacked a second time.
const DESCRIBE: &str = r#"for deb in "$1"/var/cache/apt/archives/*.deb; do
    dpkg-deb --field "$deb" Package Version Source Architecture
    dpkg-deb --ctrl-tarfile "$deb" | tar --extract --to-stdout --wildcards ./md5sums ./conffiles 2>/dev/null |
        sed 's/^[0-9a-f]\{32\}  / /;s/^\// /'
done"#;

/// How lines begin in which mmdebstrap and apt say that something goes on.
const PROGRESS: [&str; 9] = [
    "I: ",
    "W: running chrootless mode as root",
    "Get:",
    "Hit:",
    "Ign:",
    "Fetched ",
    "Reading ",
    "Building ",
    "Need to get ",
];

/// What is to be unpacked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub arch: Arch,
    pub suite: String,
    /// The kernel comes from here.
    pub kernel_suite: String,
    pub kernel_package: String,
    pub packages: BTreeSet<String>,
    /// Further ones from the component for firmware that is not free.
    pub firmware: BTreeSet<String>,
}

/// A package that was unpacked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Package {
    pub name: String,
    pub version: String,
}

/// Whether what is cached will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    Cached,
    Refetched,
}

/// An unpacked set of packages.
#[derive(Debug)]
pub struct Unpacked {
    pub root: PathBuf,
    pub packages: Vec<Package>,
}

impl Request {
    fn key(&self) -> String {
        // A space sets firmware apart, and without any the key is that of earlier versions.
        let firmware = self.firmware.iter().map(|name| format!(" {name}"));
        let packages: Vec<String> = self.packages.iter().cloned().chain(firmware).collect();
        let text = format!(
            "{CACHE_FORMAT}\n{}\n{}\n{}\n{}\n{}\n",
            self.arch.debian(),
            self.suite,
            self.kernel_suite,
            self.kernel_package,
            packages.join(",")
        );
        let digest = hex(&Sha256::digest(text));
        format!(
            "{}-{}-{}",
            self.arch.debian(),
            self.suite,
            digest.get(..16).unwrap_or(&digest)
        )
    }

    /// From the cache, or by way of the network into the cache. `source` is asked for only when it is needed.
    pub fn unpacked(
        &self,
        cache: &Path,
        freshness: Freshness,
        source: impl FnOnce() -> Result<Source>,
    ) -> Result<Unpacked> {
        let packages = cache.join("packages");
        let place = packages.join(self.key());
        if freshness == Freshness::Refetched || !place.exists() {
            fs::create_dir_all(&packages).with_context(|| packages.display().to_string())?;
            remove_leftovers(&packages);
            let fresh = tempfile::Builder::new()
                .prefix(".fetching-")
                .tempdir_in(&packages)
                .with_context(|| packages.display().to_string())?;
            let whole = fresh.path().join("whole");
            self.fetch(&whole, &source()?)?;
            put_in_place(&whole, &place)?;
        }
        let list = place.join("packages.json");
        let text = fs::read_to_string(&list).with_context(|| list.display().to_string())?;
        let packages = serde_json::from_str(&text).with_context(|| list.display().to_string())?;
        Ok(Unpacked {
            root: place.join("root"),
            packages,
        })
    }

    fn fetch(&self, into: &Path, source: &Source) -> Result<()> {
        eprintln!(
            "fetching {} packages of Debian {} (once)",
            self.arch.debian(),
            self.suite
        );
        fs::create_dir(into).with_context(|| into.display().to_string())?;
        let log_path = into.join("mmdebstrap.log");
        let log = fs::File::create(&log_path).with_context(|| log_path.display().to_string())?;
        let mut child = self.start(log)?;
        let components = if self.firmware.is_empty() {
            "main"
        } else {
            "main non-free-firmware"
        };
        let mut sources = source.line(&self.suite, components);
        if self.kernel_suite != self.suite {
            sources.push_str(&source.line(&self.kernel_suite, "main"));
        }
        child
            .stdin
            .take()
            .context("mmdebstrap: no input")?
            .write_all(sources.as_bytes())?;
        let output = child.stdout.take().context("mmdebstrap: no output")?;
        let kept = keep(output, &into.join("root"));
        let status = child.wait().context("mmdebstrap")?;
        if !status.success() {
            let text = fs::read_to_string(&log_path).unwrap_or_default();
            bail!("mmdebstrap: {status}\n{}", complaints(&text));
        }
        let names = kept?;
        if names.is_empty() {
            bail!("mmdebstrap: unpacked no packages");
        }
        let list = into.join("packages.json");
        fs::write(&list, serde_json::to_vec_pretty(&names)?).with_context(|| list.display().to_string())?;
        fs::remove_file(&log_path).with_context(|| log_path.display().to_string())
    }

    /// `chrootless`, because nothing is mounted, entered or run: the same for root and for anybody else.
    fn start(&self, log: fs::File) -> Result<Child> {
        let mut include: Vec<String> = self.packages.iter().chain(&self.firmware).cloned().collect();
        include.push(format!("{}/{}", self.kernel_package, self.kernel_suite));
        Command::new("mmdebstrap")
            // Not --quiet: it keeps apt's reasons back too.
            .args(["--mode=chrootless", "--variant=extract", "--format=tar"])
            .arg(format!("--architectures={}", self.arch.debian()))
            .arg(format!("--include={}", include.join(",")))
            .arg(format!("--extract-hook={{ {DESCRIBE}\n}} > \"$1/{NAMES}\""))
            .args([self.suite.as_str(), "-", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(|error| anyhow!("mmdebstrap: {error}; it is in the Debian package mmdebstrap"))
    }
}

/// Writes what images can need of a tar stream, and returns the packages it came from.
fn keep(stream: impl Read, root: &Path) -> Result<Vec<Package>> {
    fs::create_dir_all(root).with_context(|| root.display().to_string())?;
    let mut archive = tar::Archive::new(BufReader::with_capacity(1 << 20, stream));
    archive.set_preserve_mtime(true);
    let mut packages = Vec::new();
    for entry in archive.entries().context("packages")? {
        let mut entry = entry.context("packages")?;
        let path = entry.path().context("packages")?.into_owned();
        let path = path.strip_prefix(".").unwrap_or(&path).to_owned();
        if path == Path::new(NAMES) {
            let mut text = String::new();
            entry.read_to_string(&mut text).context("package names")?;
            packages = dpkg::write_database(&text, root)?;
            continue;
        }
        let kind = entry.header().entry_type();
        if kind.is_dir() || !wanted(&path) {
            continue;
        }
        if kind.is_file() || kind.is_symlink() || kind.is_hard_link() {
            entry
                .unpack_in(root)
                .with_context(|| path.display().to_string())?;
        }
    }
    packages.sort();
    Ok(packages)
}

/// Parts of /usr/share that images need; the rest of it is documentation and translations.
const SHARED: &[&str] = &[
    "usr/share/ca-certificates",
    "usr/share/misc/pci.ids",
    "usr/share/smartmontools",
    "usr/share/terminfo",
];

/// Documentation, translations and the build's own leavings are most of the bytes and never go into an image. What a package
/// says of its licence is kept for the listing.
fn wanted(path: &Path) -> bool {
    let kept = ["bin", "boot", "etc", "lib", "lib64", "sbin", "usr"];
    let documented = path
        .strip_prefix("usr/share/doc")
        .is_ok_and(|below| below.iter().count() == 1 || below.ends_with("copyright"));
    kept.iter().any(|top| path.starts_with(top))
        && (!path.starts_with("usr/share") || documented || SHARED.iter().any(|top| path.starts_with(top)))
        && (!path.starts_with("usr/lib/systemd") || path.starts_with("usr/lib/systemd/boot"))
        && !path.starts_with("etc/apt")
}

fn put_in_place(whole: &Path, place: &Path) -> Result<()> {
    let parent = place.parent().context("cache")?;
    if place.exists() {
        // Moved aside first: a directory that is not empty cannot be replaced in one step.
        let old = tempfile::Builder::new()
            .prefix(".fetching-old-")
            .tempdir_in(parent)?;
        fs::rename(place, old.path().join("old")).with_context(|| place.display().to_string())?;
    }
    match fs::rename(whole, place) {
        // Another build finished the same fetch first: theirs is as good.
        Err(_) if place.exists() => Ok(()),
        renamed => renamed.with_context(|| place.display().to_string()),
    }
}

/// What a killed fetch left behind, once it is old enough not to be a running one.
fn remove_leftovers(packages: &Path) {
    let day = Duration::from_secs(24 * 3600);
    for entry in fs::read_dir(packages).into_iter().flatten().flatten() {
        let ours = entry.file_name().to_string_lossy().starts_with(".fetching-");
        let modified = entry.metadata().and_then(|meta| meta.modified());
        let old =
            modified.is_ok_and(|time| SystemTime::now().duration_since(time).is_ok_and(|age| age > day));
        if ours
            && old
            && let Err(error) = fs::remove_dir_all(entry.path())
        {
            eprintln!("{}: {error}", entry.path().display());
        }
    }
}

/// Where packages and images are kept: `$XDG_CACHE_HOME/lifeboot`, else `~/.cache/lifeboot`.
pub fn cache_directory() -> Result<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute());
    let base = match base {
        Some(base) => base,
        None => PathBuf::from(std::env::var_os("HOME").context("neither XDG_CACHE_HOME nor HOME is set")?)
            .join(".cache"),
    };
    Ok(base.join("lifeboot"))
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The last of what mmdebstrap and apt wrote, without the lines in which they tell of progress.
fn complaints(text: &str) -> String {
    let progress = |line: &&str| !PROGRESS.iter().any(|start| line.starts_with(start));
    let lines: Vec<&str> = text.lines().filter(progress).collect();
    lines
        .get(lines.len().saturating_sub(12)..)
        .unwrap_or_default()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_depends_on_what_is_asked_for() {
        let request = Request {
            arch: Arch::Aarch64,
            suite: "trixie".into(),
            kernel_suite: "trixie-backports".into(),
            kernel_package: "linux-image-arm64".into(),
            packages: BTreeSet::from(["busybox-static".to_owned()]),
            firmware: BTreeSet::new(),
        };
        assert!(request.key().starts_with("arm64-trixie-"));
        let other = Request {
            kernel_suite: "trixie".into(),
            ..request.clone()
        };
        assert_ne!(request.key(), other.key());
        let named = |set: &[&str]| set.iter().map(|name| (*name).to_owned()).collect();
        let firmware = Request {
            firmware: named(&["raspi-firmware"]),
            ..request.clone()
        };
        let main = Request {
            packages: named(&["busybox-static", "raspi-firmware"]),
            ..request
        };
        assert_ne!(firmware.key(), main.key());
    }

    #[test]
    fn an_interrupted_fetch_leaves_nothing_in_the_cache() {
        let cache = tempfile::tempdir().unwrap();
        let request = Request {
            arch: Arch::X86_64,
            suite: "trixie".into(),
            kernel_suite: "trixie".into(),
            kernel_package: "linux-image-amd64".into(),
            packages: BTreeSet::new(),
            firmware: BTreeSet::new(),
        };
        let error = request
            .unpacked(cache.path(), Freshness::Cached, || bail!("no network"))
            .unwrap_err();
        assert_eq!(error.to_string(), "no network");
        assert_eq!(fs::read_dir(cache.path().join("packages")).unwrap().count(), 0);
    }

    #[test]
    fn documentation_is_left_out_and_certificates_are_kept() {
        assert!(!wanted(Path::new("usr/share/doc/x/changelog.gz")));
        assert!(wanted(Path::new("usr/share/doc/x/copyright")));
        assert!(!wanted(Path::new("usr/share/misc/magic.mgc")));
        assert!(!wanted(Path::new("dev/null")));
        assert!(wanted(Path::new("usr/share/ca-certificates/mozilla/A.crt")));
        assert!(wanted(Path::new("usr/lib/modules/7/vmlinuz")));
    }

    #[test]
    fn reasons_are_told_and_progress_is_not() {
        let reason = "Err:1 http://127.0.0.1:9/debian trixie InRelease\n  Could not connect to 127.0.0.1:9\n\
                      E: Some index files failed to download.\nE: mmdebstrap failed to run";
        let progress = "I: running apt-get update...\nIgn:1 http://127.0.0.1:9/debian trixie InRelease\n";
        let text = format!("{progress}{reason}\nI: removing tempdir /tmp/x...\n");
        assert_eq!(complaints(&text), reason);
        let text = format!("E: the first of thirteen\n{}", "E: again\n".repeat(12));
        assert_eq!(complaints(&text), ["E: again"; 12].join("\n"));
        assert_eq!(complaints(progress), "");
    }
}
