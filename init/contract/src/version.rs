//! Versions of OS images, and the least one that a device takes.
//!
//! Numbers with dots between them and nothing else: what `1.0-rc1` is less than is a matter of taste, and a device must not guess.

use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::fmt;

/// `13.1` or `2026.11.20`; `13` and `13.0` are the same.
#[derive(Debug, Clone)]
pub struct Version(Vec<u64>);

/// An OS image's name with the least version of it that is taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MinVersion {
    /// As signed.
    pub name: String,
    /// The least one.
    pub version: Version,
}

impl Version {
    /// Reads a version; `None` when it is not numbers with dots between them.
    pub fn parse(text: &str) -> Option<Version> {
        let number = |part: &str| match part.bytes().all(|byte| byte.is_ascii_digit()) {
            true => part.parse().ok(),
            false => None,
        };
        text.split('.')
            .map(number)
            .collect::<Option<Vec<u64>>>()
            .map(Version)
    }

    fn significant(&self) -> &[u64] {
        let zeros = self.0.iter().rev().take_while(|part| **part == 0).count();
        &self.0[..self.0.len() - zeros]
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Version) -> bool {
        self.significant() == other.significant()
    }
}

impl Eq for Version {}

impl Ord for Version {
    fn cmp(&self, other: &Version) -> Ordering {
        self.significant().cmp(other.significant())
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Version) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = self.0.iter().map(u64::to_string).collect();
        f.write_str(&parts.join("."))
    }
}

impl MinVersion {
    /// Reads `NAME:VERSION`.
    ///
    /// # Errors
    /// What was expected, naming the value.
    pub fn parse(value: &str) -> Result<MinVersion, String> {
        let (name, version) = value
            .rsplit_once(':')
            .filter(|(name, _)| !name.is_empty())
            .ok_or_else(|| format!("'{value}' is not NAME:VERSION"))?;
        match Version::parse(version) {
            Some(version) => Ok(MinVersion {
                name: name.to_owned(),
                version,
            }),
            None => Err(format!(
                "'{version}' is not a version of numbers with dots between them"
            )),
        }
    }
}

impl fmt::Display for MinVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, self.version)
    }
}

impl TryFrom<String> for MinVersion {
    type Error = String;

    fn try_from(text: String) -> Result<MinVersion, String> {
        MinVersion::parse(&text)
    }
}

impl From<MinVersion> for String {
    fn from(least: MinVersion) -> String {
        least.to_string()
    }
}

/// Why an image that was signed as `name` in `version` is not taken; `None`: it is. Names that are not listed are refused, or an
/// old image would only need another name.
pub fn refusal(least: &[MinVersion], name: Option<&str>, version: Option<&str>) -> Option<String> {
    if least.is_empty() {
        return None;
    }
    let listed = || {
        least
            .iter()
            .map(MinVersion::to_string)
            .collect::<Vec<_>>()
            .join(", ")
    };
    let Some(name) = name else {
        return Some(format!(
            "signed without a name, lifeboot.min-version={} wants one",
            listed()
        ));
    };
    let Some(least) = least.iter().rfind(|least| least.name == name) else {
        return Some(format!(
            "signed as '{name}', lifeboot.min-version= names {}",
            listed()
        ));
    };
    match version.map(|text| (text, Version::parse(text))) {
        None => Some(format!(
            "signed without a version, at least {} is wanted",
            least.version
        )),
        Some((text, None)) => Some(format!(
            "signed as version '{text}', which cannot be compared with {}",
            least.version
        )),
        Some((_, Some(version))) if version < least.version => {
            Some(format!("{name} {version} is older than {}", least.version))
        }
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_number_by_number() {
        let version = |text| Version::parse(text).unwrap();
        for (lower, higher) in [
            ("9", "10"),
            ("1.9", "1.10"),
            ("13", "13.1"),
            ("2026.9.30", "2026.11.20"),
        ] {
            assert!(version(lower) < version(higher), "{lower} {higher}");
        }
        assert_eq!(version("13"), version("13.0.0"));
        assert_eq!(version("0"), version("0.0"));
        for bad in [
            "",
            ".",
            "1.",
            "1..2",
            "1.0-rc1",
            "v1",
            "+1",
            "-1",
            "1.99999999999999999999",
            "١",
        ] {
            assert!(Version::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn an_image_is_taken_from_the_least_version_on() {
        let least = [MinVersion::parse("debian:13.1").unwrap()];
        for taken in ["13.1", "13.1.0", "13.2", "14"] {
            assert_eq!(refusal(&least, Some("debian"), Some(taken)), None, "{taken}");
        }
        assert_eq!(
            refusal(&least, Some("debian"), Some("13.0.9")).unwrap(),
            "debian 13.0.9 is older than 13.1"
        );
        assert_eq!(refusal(&[], None, None), None);
    }

    #[test]
    fn what_cannot_be_compared_is_refused() {
        let least = [MinVersion::parse("debian:13.1").unwrap()];
        for (name, version) in [
            (None, Some("14")),
            (Some("other"), Some("14")),
            (Some("debian"), None),
            (Some("debian"), Some("trixie")),
        ] {
            assert!(refusal(&least, name, version).is_some(), "{name:?} {version:?}");
        }
    }

    #[test]
    fn a_least_version_reads_back_and_mistakes_are_named() {
        let least = MinVersion::parse("a:b.squashfs:2.0").unwrap();
        assert_eq!(
            (least.name.as_str(), least.to_string().as_str()),
            ("a:b.squashfs", "a:b.squashfs:2.0")
        );
        let json = serde_json::to_string(&least).unwrap();
        assert_eq!(serde_json::from_str::<MinVersion>(&json).unwrap(), least);
        for bad in ["13.1", ":13.1", "debian:", "debian:rc"] {
            assert!(MinVersion::parse(bad).is_err(), "{bad}");
        }
    }
}
