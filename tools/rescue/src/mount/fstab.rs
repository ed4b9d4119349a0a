//! The table of an installed system: fstab(5), and crypttab(5) for the names of its encrypted devices.
//!
//! A line that cannot be understood is kept with the reason: somebody may be here because of that very line.

use super::options::Options;
use super::os_release::tame;
use super::table::unescape;
use serde::Serialize;

/// More lines than any system has.
const MOST: usize = 1024;

/// A line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// `UUID=…`, `/dev/…`, a directory, `tmpfs`
    pub source: String,
    /// `/boot`, or `none`
    pub target: String,
    /// `ext4`, `auto`, `swap`
    pub fs: String,
    /// As written.
    pub options: String,
}

/// A line that is not one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unclear {
    /// Its number, from 1.
    pub line: usize,
    /// What it reads.
    pub text: String,
    /// What is wrong with it.
    pub why: String,
}

/// The table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fstab {
    /// Its lines in their order.
    pub entries: Vec<Entry>,
    /// What is none.
    pub unclear: Vec<Unclear>,
}

impl Entry {
    /// Its options, read.
    pub fn parsed(&self) -> Options {
        Options::parse(&self.options)
    }
}

impl Fstab {
    /// Reads the file.
    pub fn parse(text: &[u8]) -> Fstab {
        let text = String::from_utf8_lossy(text);
        let mut fstab = Fstab::default();
        for (index, line) in text.lines().enumerate().take(MOST) {
            let mut fields = fields(line);
            match entry(&mut fields) {
                None => {}
                Some(Ok(entry)) => fstab.entries.push(entry),
                Some(Err(why)) => fstab.unclear.push(Unclear {
                    line: index + 1,
                    text: tame(line.trim()),
                    why,
                }),
            }
        }
        fstab
    }
}

/// Fields between blanks, up to a comment.
fn fields(line: &str) -> Vec<String> {
    line.split([' ', '\t', '\r'])
        .filter(|field| !field.is_empty())
        .take_while(|field| !field.starts_with('#'))
        .map(|field| String::from_utf8_lossy(&unescape(field.as_bytes())).into_owned())
        .collect()
}

/// `None` for a line without anything.
fn entry(fields: &mut Vec<String>) -> Option<Result<Entry, String>> {
    if fields.is_empty() {
        return None;
    }
    let count = fields.len();
    let mut taken = fields.drain(..);
    let (Some(source), Some(target)) = (taken.next(), taken.next()) else {
        return Some(Err(format!("{count} field where at least 2 belong")));
    };
    let fs = taken.next().unwrap_or_else(|| "auto".to_owned());
    let options = taken.next().unwrap_or_else(|| "defaults".to_owned());
    if [&source, &target, &fs, &options]
        .iter()
        .any(|field| field.contains('\0'))
    {
        return Some(Err("a zero byte in it".to_owned()));
    }
    let nowhere = fs == "swap" || ["none", "swap", "ignore"].contains(&target.as_str());
    if !nowhere && !target.starts_with('/') {
        return Some(Err(format!("'{}' is no directory", tame(&target))));
    }
    let target = if nowhere {
        "none".to_owned()
    } else {
        plain(&target)
    };
    Some(Ok(Entry {
        source: unquote(&source),
        target,
        fs,
        options,
    }))
}

/// `UUID="…"`, which mount(8) takes too.
fn unquote(source: &str) -> String {
    match source.split_once('=') {
        Some((tag, value)) => format!("{tag}={}", value.trim_matches('"')),
        None => source.to_owned(),
    }
}

/// A path without doubled and trailing slashes and dots; `..` goes up, and from the root nowhere.
pub fn plain(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// A line of crypttab: which device is opened under which name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// Name under /dev/mapper.
    pub name: String,
    /// `UUID=…` or `/dev/…`
    pub device: String,
}

/// Reads /etc/crypttab; lines that are none are left out.
pub fn crypttab(text: &[u8]) -> Vec<Mapping> {
    let text = String::from_utf8_lossy(text);
    let lines = text.lines().take(MOST).map(fields);
    let mapping = |fields: Vec<String>| {
        let mut fields = fields.into_iter();
        Some(Mapping {
            name: fields.next()?,
            device: unquote(&fields.next()?),
        })
    };
    lines.filter_map(mapping).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets(text: &str) -> Vec<String> {
        let fstab = Fstab::parse(text.as_bytes());
        fstab.entries.into_iter().map(|entry| entry.target).collect()
    }

    #[test]
    fn a_table_is_read_line_by_line() {
        let fstab = Fstab::parse(
            b"# comment\n\nUUID=\"a-b\"\t/  ext4 errors=remount-ro 0 1\n  LABEL=x /boot//efi/ vfat\n/dev/sda3 none swap sw 0 0\n\
              UUID=c /my\\040files ext4 defaults # and a comment\n",
        );
        assert_eq!(fstab.unclear, []);
        assert_eq!(fstab.entries.len(), 4);
        assert_eq!(fstab.entries[0].source, "UUID=a-b");
        assert_eq!(fstab.entries[0].options, "errors=remount-ro");
        assert_eq!(fstab.entries[1].target, "/boot/efi");
        assert_eq!(fstab.entries[1].options, "defaults");
        assert_eq!(fstab.entries[3].target, "/my files");
    }

    #[test]
    fn a_damaged_line_is_named_and_the_others_count() {
        let fstab = Fstab::parse(b"UUID=a / ext4\nUUID=b\nUUID=c home ext4\nUUID=d /d ext4\n");
        let lines: Vec<usize> = fstab.unclear.iter().map(|line| line.line).collect();
        assert_eq!(lines, [2, 3]);
        assert!(fstab.unclear[0].why.contains("1 field"));
        assert_eq!(fstab.entries.len(), 2);
    }

    #[test]
    fn a_path_cannot_lead_out_of_the_system() {
        assert_eq!(
            targets("a /../../etc ext4\nb /x/../../y ext4\nc /./a/ ext4"),
            ["/etc", "/y", "/a"]
        );
    }

    #[test]
    fn hostile_tables_are_read_to_their_end_without_harm() {
        assert_eq!(targets("a /\\000x ext4"), [""; 0]);
        assert_eq!(targets("\\ \\\n\\040 \\040 \\040"), [""; 0]);
        let random: Vec<u8> = (0..200_000_u32)
            .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        Fstab::parse(&random);
        crypttab(&random);
        let many = "a /b ext4\n".repeat(100_000);
        assert_eq!(Fstab::parse(many.as_bytes()).entries.len(), MOST);
        let unclear = Fstab::parse("\u{1b}[2J\n".as_bytes()).unclear;
        assert_eq!(unclear[0].text, "?[2J");
    }

    #[test]
    fn names_of_encrypted_devices_are_read() {
        let text = b"# x\ncryptroot UUID=a-b none luks,discard\nhome /dev/sda3\nbroken\n";
        let mappings = crypttab(text);
        assert_eq!(mappings.len(), 2);
        assert_eq!(mappings[0].name, "cryptroot");
        assert_eq!(mappings[1].device, "/dev/sda3");
    }
}
