//! Where this system takes Debian packages from, so that images come from the same mirror.
//!
//! Only the address, the key and the trust are taken over: the suite is the image's own, which need not be the host's.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Debian's own keys, where the system's entry names none.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// One source of packages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    uri: String,
    suites: Vec<String>,
    components: Vec<String>,
    signed_by: Option<String>,
    trusted: bool,
}

impl Source {
    /// The mirror given on the command line.
    pub fn given(uri: &str) -> Self {
        Self {
            uri: uri.to_owned(),
            suites: Vec::new(),
            components: Vec::new(),
            signed_by: None,
            trusted: false,
        }
    }

    /// A `sources.list` line for another suite of the same mirror, and for these of its components.
    pub fn line(&self, suite: &str, components: &str) -> String {
        let trusted = if self.trusted { " trusted=yes" } else { "" };
        let key = self.signed_by.as_deref().unwrap_or(KEYRING);
        format!(
            "deb [signed-by={key}{trusted}] {} {suite} {components}\n",
            self.uri
        )
    }

    fn is_debian_main(&self) -> bool {
        self.uri.contains("debian")
            && !self.uri.contains("debian-security")
            && !self.uri.starts_with("cdrom:")
            && self.components.iter().any(|component| component == "main")
            && !self
                .suites
                .iter()
                .all(|suite| suite.contains("-security") || suite.ends_with('/'))
    }
}

/// The system's source of Debian's `main`.
pub fn system() -> Result<Source> {
    find(Path::new("/etc/apt"))
}

fn find(apt: &Path) -> Result<Source> {
    let mut files = vec![apt.join("sources.list")];
    if let Ok(entries) = fs::read_dir(apt.join("sources.list.d")) {
        let mut more: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        more.sort();
        files.extend(more);
    }
    for file in files {
        let extension = file.extension().and_then(|extension| extension.to_str());
        let parse = match extension {
            Some("list") => one_line,
            Some("sources") => deb822,
            _ => continue,
        };
        if !file.exists() {
            continue;
        }
        let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        if let Some(source) = parse(&text).into_iter().find(Source::is_debian_main) {
            return Ok(source);
        }
    }
    bail!(
        "no source of Debian's main in {}; name one with --mirror URL",
        apt.display()
    )
}

/// `deb [option=value …] URI SUITE COMPONENT…`
fn one_line(text: &str) -> Vec<Source> {
    text.lines()
        .filter_map(|line| line_source(line.split('#').next().unwrap_or_default()))
        .collect()
}

fn line_source(line: &str) -> Option<Source> {
    let rest = line
        .trim()
        .strip_prefix("deb")?
        .strip_prefix(char::is_whitespace)?
        .trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => ("", rest),
    };
    let mut words = rest.split_whitespace().map(str::to_owned);
    let mut source = Source::given(&words.next()?);
    source.suites = vec![words.next()?];
    source.components = words.collect();
    for option in options.split_whitespace() {
        match option.split_once('=') {
            Some(("signed-by", key)) => source.signed_by = Some(key.to_owned()),
            Some(("trusted", "yes")) => source.trusted = true,
            _ => {}
        }
    }
    Some(source)
}

/// Stanzas of `Field: value`, a value going on in lines that begin with a blank.
fn deb822(text: &str) -> Vec<Source> {
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    lines
        .split(|line| line.trim().is_empty())
        .filter_map(stanza)
        .flatten()
        .collect()
}

fn stanza(lines: &[&str]) -> Option<Vec<Source>> {
    let field = |name: &str| -> Vec<String> {
        let mut words = Vec::new();
        let mut inside = false;
        for line in lines {
            if line.starts_with([' ', '\t']) {
                if inside {
                    words.extend(line.split_whitespace().map(str::to_owned));
                }
                continue;
            }
            let (key, value) = line.split_once(':').unwrap_or((line, ""));
            inside = key.trim().eq_ignore_ascii_case(name);
            if inside {
                words.extend(value.split_whitespace().map(str::to_owned));
            }
        }
        words
    };
    let no = |name: &str| field(name).first().is_some_and(|value| value == "no");
    if no("Enabled") || !field("Types").iter().any(|kind| kind == "deb") {
        return None;
    }
    // A key given in full in the file, rather than by path, cannot be handed on in one line.
    let signed_by = field("Signed-By")
        .first()
        .filter(|key| key.starts_with('/'))
        .cloned();
    let trusted = field("Trusted").first().is_some_and(|value| value == "yes");
    let sources = field("URIs").into_iter().map(|uri| Source {
        uri,
        suites: field("Suites"),
        components: field("Components"),
        signed_by: signed_by.clone(),
        trusted,
    });
    Some(sources.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_main_archive_is_found_among_others() {
        let text = "Types: deb\nURIs: https://example.org/node\nSuites: x\nComponents: main\n\n\
                    # a comment\nTypes: deb deb-src\nURIs: http://mirror.example/debian\nSuites: bookworm\n \
                    bookworm-updates\nComponents: main\nSigned-By: /k.gpg\n\n\
                    Types: deb\nURIs: http://mirror.example/debian-security\nSuites: bookworm-security\nComponents: main\n";
        let sources: Vec<Source> = deb822(text).into_iter().filter(Source::is_debian_main).collect();
        assert_eq!(sources.len(), 1);
        assert_eq!(sources[0].suites, ["bookworm", "bookworm-updates"]);
        assert_eq!(
            sources[0].line("trixie", "main"),
            "deb [signed-by=/k.gpg] http://mirror.example/debian trixie main\n"
        );
    }

    #[test]
    fn one_line_entries_are_read_with_their_options() {
        let text = "# deb http://a.example/debian x main\n\
                    deb [arch=amd64 trusted=yes] http://b.example/debian/ bookworm main contrib # why\n\
                    deb-src http://c.example/debian bookworm main\n";
        let sources = one_line(text);
        assert_eq!(sources.len(), 1);
        assert_eq!(
            sources[0].line("trixie", "main"),
            format!("deb [signed-by={KEYRING} trusted=yes] http://b.example/debian/ trixie main\n")
        );
    }

    #[test]
    fn a_disabled_or_source_only_stanza_is_passed_over() {
        let base = "URIs: http://a.example/debian\nSuites: x\nComponents: main\n";
        assert!(deb822(&format!("Types: deb\nEnabled: no\n{base}")).is_empty());
        assert!(deb822(&format!("Types: deb-src\n{base}")).is_empty());
        assert_eq!(deb822(&format!("Types: deb\n{base}")).len(), 1);
    }
}
