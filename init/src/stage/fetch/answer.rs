//! What an answer means for the bytes already held. Pure: every odd server is a test below.
//!
//! RFC 9110 is what is meant to hold (sections 13.1.5, 14 and 15.3.7); nothing here relies on a server that keeps to it, because a
//! wrong join of two files would only be noticed after the last byte.

use reqwest::header::{
    ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, HeaderName,
    LAST_MODIFIED, RETRY_AFTER,
};
use std::time::Duration;

/// The head of an answer, as far as it matters.
#[derive(Debug, Default, Clone)]
pub(super) struct Answer {
    status: u16,
    reason: &'static str,
    length: Option<u64>,
    /// First byte and, when told, the file's length.
    range: Option<(u64, Option<u64>)>,
    /// The file's length from `bytes */N`.
    unsatisfied: Option<u64>,
    encoding: Option<String>,
    pub(super) version: Version,
    pub(super) refuses_ranges: bool,
    pub(super) retry_after: Option<Duration>,
}

/// By what a server tells one state of a file from another.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Version {
    etag: Option<String>,
    modified: Option<String>,
}

/// What is held of the file.
#[derive(Debug, Default, Clone)]
pub(super) struct Held {
    pub(super) bytes: u64,
    pub(super) total: Option<u64>,
    pub(super) version: Version,
}

/// What follows from an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Meaning {
    /// The body starts at the first byte, and nothing was held.
    Begins,
    /// The body starts behind the last byte held.
    GoesOn,
    /// The same file from its first byte: this server does not resume.
    StartsOver,
    /// Not the file that is held.
    Changed,
    /// Everything is held already.
    Complete,
    /// A range that was not asked for: this server cannot be asked for ranges.
    BadRange(String),
    /// No now, perhaps yes later.
    Busy(String),
    /// No.
    Refused(String),
}

impl Answer {
    pub(super) fn read(status: reqwest::StatusCode, headers: &HeaderMap) -> Answer {
        let text = |name: HeaderName| {
            headers
                .get(name)
                .and_then(|value| value.to_str().ok())
                .map(str::trim)
        };
        let range = text(CONTENT_RANGE).and_then(|value| value.strip_prefix("bytes "));
        Answer {
            status: status.as_u16(),
            reason: status.canonical_reason().unwrap_or_default(),
            length: text(CONTENT_LENGTH).and_then(|value| value.parse().ok()),
            range: range.and_then(content_range),
            unsatisfied: range
                .and_then(|value| value.strip_prefix("*/"))
                .and_then(|total| total.parse().ok()),
            encoding: text(CONTENT_ENCODING)
                .filter(|value| *value != "identity")
                .map(str::to_owned),
            version: Version {
                etag: text(ETAG).map(str::to_owned),
                modified: text(LAST_MODIFIED).map(str::to_owned),
            },
            refuses_ranges: text(ACCEPT_RANGES) == Some("none"),
            retry_after: text(RETRY_AFTER)
                .and_then(|value| value.parse().ok())
                .map(Duration::from_secs),
        }
    }

    /// The length of the whole file, where this answer tells it.
    pub(super) fn total(&self) -> Option<u64> {
        match self.status {
            206 => self.range.and_then(|(_, total)| total),
            200 => self.length,
            _ => None,
        }
    }

    /// What this answer means for the bytes held.
    pub(super) fn meaning(&self, held: &Held) -> Meaning {
        let said = || format!("{} {}", self.status, self.reason).trim_end().to_owned();
        match self.status {
            200 | 206 if self.encoding.is_some() => {
                let encoding = self.encoding.as_deref().unwrap_or_default();
                Meaning::Refused(format!(
                    "sent with Content-Encoding {encoding}, which was not asked for"
                ))
            }
            200 if held.bytes == 0 => Meaning::Begins,
            200 if self.is_other(held) => Meaning::Changed,
            200 => Meaning::StartsOver,
            206 => self.partial(held),
            416 if held.bytes == 0 => Meaning::Refused(said()),
            416 if self.unsatisfied == Some(held.bytes) => Meaning::Complete,
            416 => Meaning::Changed,
            408 | 425 | 429 | 500..=599 => Meaning::Busy(said()),
            _ => Meaning::Refused(said()),
        }
    }

    fn partial(&self, held: &Held) -> Meaning {
        match self.range {
            None => Meaning::BadRange("a part without saying which".to_owned()),
            Some(_) if self.is_other(held) => Meaning::Changed,
            Some((first, _)) if first != held.bytes => {
                Meaning::BadRange(format!("the part from byte {first}, asked for {}", held.bytes))
            }
            Some(_) => Meaning::GoesOn,
        }
    }

    fn is_other(&self, held: &Held) -> bool {
        let differ = |one: &Option<String>, other: &Option<String>| match (one, other) {
            (Some(one), Some(other)) => Some(one != other),
            _ => None,
        };
        let by_length = matches!((self.total(), held.total), (Some(one), Some(other)) if one != other);
        let by_etag = differ(&self.version.etag, &held.version.etag);
        let by_time = differ(&self.version.modified, &held.version.modified);
        by_length || by_etag.or(by_time).unwrap_or(false)
    }
}

impl Version {
    /// The value for `If-Range`: a strong entity tag, else the date.
    pub(super) fn if_range(&self) -> Option<&str> {
        let strong = self.etag.as_deref().filter(|tag| !tag.starts_with("W/"));
        strong.or(self.modified.as_deref())
    }
}

/// `FIRST-LAST/TOTAL`, `*` for an unknown total.
fn content_range(value: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = value.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    let total = match total {
        "*" => None,
        total => Some(total.parse().ok()?),
    };
    (first <= last && total.is_none_or(|total| last < total)).then_some((first, total))
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::StatusCode;

    fn answer(status: u16, headers: &[(&'static str, &str)]) -> Answer {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        Answer::read(StatusCode::from_u16(status).unwrap(), &map)
    }

    fn held(bytes: u64) -> Held {
        let version = answer(200, &[("etag", "\"a\""), ("last-modified", "Mon")]).version;
        Held {
            bytes,
            total: Some(10),
            version,
        }
    }

    #[test]
    fn a_part_must_start_where_the_held_bytes_end() {
        let part =
            |range: &str| answer(206, &[("content-range", range), ("etag", "\"a\"")]).meaning(&held(5));
        assert_eq!(part("bytes 5-9/10"), Meaning::GoesOn);
        assert_eq!(part("bytes 5-9/*"), Meaning::GoesOn);
        assert!(matches!(part("bytes 4-9/10"), Meaning::BadRange(_)));
        assert_eq!(part("bytes 5-9/11"), Meaning::Changed);
        for nonsense in [
            "bytes 5-4/10",
            "bytes 5-10/10",
            "bytes 5/10",
            "5-9/10",
            "bytes a-b/c",
        ] {
            assert!(matches!(part(nonsense), Meaning::BadRange(_)), "{nonsense}");
        }
    }

    #[test]
    fn a_part_of_another_file_is_not_joined() {
        let range = ("content-range", "bytes 5-9/10");
        let part = |tag| answer(206, &[range, ("etag", tag)]).meaning(&held(5));
        assert_eq!(part("\"a\""), Meaning::GoesOn);
        assert_eq!(part("\"b\""), Meaning::Changed);
        let by_time = |time| answer(206, &[range, ("last-modified", time)]).meaning(&held(5));
        assert_eq!(by_time("Mon"), Meaning::GoesOn);
        assert_eq!(by_time("Tue"), Meaning::Changed);
    }

    #[test]
    fn a_whole_file_where_a_part_was_asked_for_starts_over_or_has_changed() {
        let whole = |tag, length| answer(200, &[("etag", tag), ("content-length", length)]).meaning(&held(5));
        assert_eq!(whole("\"a\"", "10"), Meaning::StartsOver);
        assert_eq!(whole("\"b\"", "10"), Meaning::Changed);
        assert_eq!(whole("\"a\"", "11"), Meaning::Changed);
        assert_eq!(answer(200, &[]).meaning(&held(0)), Meaning::Begins);
    }

    #[test]
    fn an_unsatisfied_range_is_the_end_or_another_file() {
        let beyond = |range: &str| answer(416, &[("content-range", range)]).meaning(&held(10));
        assert_eq!(beyond("bytes */10"), Meaning::Complete);
        assert_eq!(beyond("bytes */9"), Meaning::Changed);
        assert!(matches!(answer(416, &[]).meaning(&held(0)), Meaning::Refused(_)));
    }

    #[test]
    fn busy_is_asked_again_and_no_is_no() {
        for status in [408, 425, 429, 500, 502, 503] {
            assert!(
                matches!(answer(status, &[]).meaning(&held(0)), Meaning::Busy(_)),
                "{status}"
            );
        }
        for status in [204, 304, 400, 401, 403, 404, 410] {
            assert!(
                matches!(answer(status, &[]).meaning(&held(0)), Meaning::Refused(_)),
                "{status}"
            );
        }
        assert_eq!(
            answer(404, &[]).meaning(&held(0)),
            Meaning::Refused("404 Not Found".into())
        );
        let busy = answer(503, &[("retry-after", "7")]);
        assert_eq!(busy.retry_after, Some(Duration::from_secs(7)));
    }

    #[test]
    fn a_coded_body_is_not_the_file() {
        let coded = answer(200, &[("content-encoding", "gzip")]).meaning(&held(0));
        assert!(matches!(coded, Meaning::Refused(_)));
        assert_eq!(
            answer(200, &[("content-encoding", "identity")]).meaning(&held(0)),
            Meaning::Begins
        );
    }

    #[test]
    fn only_a_strong_tag_goes_into_if_range() {
        let version = |headers: &[_]| answer(200, headers).version;
        assert_eq!(
            version(&[("etag", "\"a\""), ("last-modified", "Mon")]).if_range(),
            Some("\"a\"")
        );
        assert_eq!(
            version(&[("etag", "W/\"a\""), ("last-modified", "Mon")]).if_range(),
            Some("Mon")
        );
        assert_eq!(version(&[("etag", "W/\"a\"")]).if_range(), None);
    }
}
