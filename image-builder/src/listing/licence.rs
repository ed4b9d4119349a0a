//! A package's licences, out of Debian's copyright file where it is of the kind that programs can read.
//!
//! Source: Debian's "Machine-readable debian/copyright file", version 1.0, and the SPDX licence list.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};

use crate::packages::hex;
use crate::tree::Tree;

/// Debian's short names that SPDX spells otherwise. Names with a version are turned by rule, see [`spdx_name`].
const NAMES: &[(&str, &str)] = &[
    ("0BSD", "0BSD"),
    ("Apache-2", "Apache-2.0"),
    ("Apache-2.0", "Apache-2.0"),
    ("Artistic", "Artistic-1.0-Perl"),
    ("BSD-2-clause", "BSD-2-Clause"),
    ("BSD-3-clause", "BSD-3-Clause"),
    ("BSD-4-clause", "BSD-4-Clause"),
    ("BSD-4-clause-UC", "BSD-4-Clause-UC"),
    ("BSL-1.0", "BSL-1.0"),
    ("CC0", "CC0-1.0"),
    ("CC0-1.0", "CC0-1.0"),
    ("Expat", "MIT"),
    ("ISC", "ISC"),
    ("MIT", "MIT"),
    ("MPL-2.0", "MPL-2.0"),
    ("OpenSSL", "OpenSSL"),
    ("Unlicense", "Unlicense"),
    ("X11", "X11"),
    ("Zlib", "Zlib"),
];

/// What is known of a package's licence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Licence {
    /// As SPDX writes them; `LicenseRef-…` for what its list does not have.
    pub names: BTreeSet<String>,
    /// Written down as one expression already.
    fixed: Option<String>,
    /// SHA-256 of the copyright file, for who must read it.
    pub text: Option<String>,
}

impl Licence {
    /// One that is known.
    pub fn known(expression: &str) -> Self {
        Self {
            names: BTreeSet::new(),
            fixed: Some(expression.to_owned()),
            text: None,
        }
    }

    /// Of a package of the tree.
    pub fn of_package(tree: &Tree, package: &str) -> Self {
        let copyright = tree.read(format!("/usr/share/doc/{package}/copyright"));
        let names = copyright
            .iter()
            .flat_map(|text| short_names(&String::from_utf8_lossy(text)))
            .collect();
        Self {
            names,
            fixed: None,
            text: copyright.ok().map(|text| hex(&Sha256::digest(text))),
        }
    }

    /// As one SPDX expression: every licence that is named anywhere in the source, all at once, since which file is under
    /// which cannot be known any more.
    pub fn expression(&self) -> String {
        match (&self.fixed, self.names.is_empty()) {
            (Some(fixed), _) => fixed.clone(),
            (None, true) => "NOASSERTION".to_owned(),
            (None, false) => {
                let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
                names.join(" AND ")
            }
        }
    }
}

/// The licences of every paragraph about files; none when the file is not of the kind for programs.
fn short_names(copyright: &str) -> BTreeSet<String> {
    let format = copyright
        .lines()
        .find(|line| !line.trim().is_empty())
        .unwrap_or_default();
    if !format.starts_with("Format:") || !format.contains("copyright-format") {
        return BTreeSet::new();
    }
    let lines = copyright.lines().filter_map(|line| line.strip_prefix("License:"));
    lines
        .flat_map(|line| {
            line.replace(',', " ")
                .split(" and ")
                .flat_map(alternatives)
                .collect::<Vec<_>>()
        })
        .filter(|name| !name.is_empty())
        .map(|name| spdx_name(&name))
        .collect()
}

fn alternatives(part: &str) -> Vec<String> {
    part.split(" or ").map(|name| name.trim().to_owned()).collect()
}

/// Debian's `GPL-2+` is SPDX's `GPL-2.0-or-later`; what has no name there becomes a reference of our own.
fn spdx_name(short: &str) -> String {
    if let Some((_, name)) = NAMES
        .iter()
        .find(|(debian, _)| debian.eq_ignore_ascii_case(short))
    {
        return (*name).to_owned();
    }
    let gnu = short
        .split_once('-')
        .filter(|(family, _)| ["GPL", "LGPL", "AGPL"].contains(family));
    if let Some((family, version)) = gnu {
        let (version, later) = match version.strip_suffix('+') {
            Some(version) => (version, "or-later"),
            None => (version, "only"),
        };
        let version = match version {
            "1" | "1.0" => Some("1.0"),
            "2" | "2.0" => Some("2.0"),
            "2.1" => Some("2.1"),
            "3" | "3.0" => Some("3.0"),
            _ => None,
        };
        if let Some(version) = version {
            return format!("{family}-{version}-{later}");
        }
    }
    let plain = |character: char| {
        if character.is_ascii_alphanumeric() || ".-".contains(character) {
            character
        } else {
            '-'
        }
    };
    let name: String = short.replace('+', "-or-later").chars().map(plain).collect();
    format!("LicenseRef-Debian-{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const READABLE: &str = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\nFiles: *\n\
                            Copyright: x\nLicense: GPL-2+ or LGPL-2.1\n\nFiles: b\nLicense: Expat and BSD-3-clause\n\n\
                            License: public-domain\n nothing\n";

    #[test]
    fn every_licence_is_named_as_spdx_does() {
        let names: Vec<String> = short_names(READABLE).into_iter().collect();
        let expected = [
            "BSD-3-Clause",
            "GPL-2.0-or-later",
            "LGPL-2.1-only",
            "LicenseRef-Debian-public-domain",
            "MIT",
        ];
        assert_eq!(names, expected);
    }

    #[test]
    fn a_file_for_people_alone_is_not_guessed_at() {
        assert!(short_names("This is free software.\nLicense: GPL-2\n").is_empty());
    }

    #[test]
    fn odd_names_are_still_valid_references() {
        assert_eq!(
            spdx_name("GPL-2+ with OpenSSL exception"),
            "LicenseRef-Debian-GPL-2-or-later-with-OpenSSL-exception"
        );
        assert_eq!(spdx_name("LGPL-2+"), "LGPL-2.0-or-later");
    }
}
