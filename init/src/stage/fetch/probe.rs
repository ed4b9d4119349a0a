//! Asks for a file without fetching it: what `rescue net` shows of a server.

use super::answer::Answer;
use super::http::{Http, Rest, Trouble};
use super::{Limits, Means, SetAlready, shown};
use crate::report::{Memory, Reporter};
use crate::stage::verify::TrustedKeys;
use reqwest::Url;
use std::sync::Arc;

/// What a server says of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// `200 OK`
    pub status: String,
    /// Whether the file is to be had.
    pub is_there: bool,
    /// Whether a fetch that was cut can go on.
    pub resumes: bool,
    /// Bytes, where the server tells.
    pub length: Option<u64>,
    /// Where the answer came from, when that is another address than was asked.
    pub moved_to: Option<String>,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoAnswer {
    /// The certificate, or what TLS needs.
    Tls(String),
    /// After that.
    Http(String),
}

/// An URL as far as a connection needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Name or address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Whether TLS is spoken.
    pub secure: bool,
    /// The URL without what logs in.
    pub shown: String,
}

/// Takes an http or https URL apart.
///
/// # Errors
/// It is none.
pub fn place(url: &str) -> Result<Place, String> {
    let parsed = Url::parse(url).map_err(|error| format!("'{url}': {error}"))?;
    let secure = match parsed.scheme() {
        "http" => false,
        "https" => true,
        other => return Err(format!("'{url}': neither http nor https but {other}")),
    };
    let host = parsed.host_str().unwrap_or_default();
    Ok(Place {
        host: host.trim_matches(['[', ']']).to_owned(),
        port: parsed.port_or_known_default().unwrap_or(80),
        secure,
        shown: shown(&parsed),
    })
}

/// Asks for a file from its first byte on, follows redirects, and hangs up after the head of the answer.
///
/// # Errors
/// The step that failed, and why.
pub fn head(url: &str, limits: &Limits) -> Result<Head, NoAnswer> {
    let asked = Url::parse(url).map_err(|error| NoAnswer::Http(error.to_string()))?;
    let http = Http::new(limits);
    let reporter = Reporter::new(Arc::new(Memory::default()));
    let (keys, _) = TrustedKeys::load(std::path::Path::new(""));
    let means = Means {
        http: &http,
        keys: &keys,
        clock: &SetAlready,
        reporter: &reporter,
        limits,
    };
    let whole = Rest {
        from: 0,
        if_range: None,
    };
    let (response, at) = http
        .get(&asked, Some(&whole), &means)
        .map_err(|trouble| match trouble {
            // Judged before a byte of HTTP was spoken.
            Trouble::Final(failure) if asked.scheme() == "https" && failure.what.contains("certificate") => {
                NoAnswer::Tls(failure.what)
            }
            Trouble::Final(failure) => NoAnswer::Http(failure.what),
            Trouble::Again(what) if asked.scheme() == "https" && !what.contains("no answer for") => {
                NoAnswer::Tls(what)
            }
            Trouble::Again(what) => NoAnswer::Http(what),
        })?;
    let status = response.status();
    let answer = Answer::read(status, response.headers());
    let reason = status.canonical_reason().unwrap_or_default();
    Ok(Head {
        status: format!("{} {reason}", status.as_u16()).trim_end().to_owned(),
        is_there: matches!(status.as_u16(), 200 | 206),
        resumes: status.as_u16() == 206,
        length: answer.total(),
        moved_to: (at != asked).then(|| shown(&at)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart_and_what_logs_in_is_not_shown() {
        let place = |url| place(url).unwrap();
        let secure = place("https://me:x@[2001:db8::1]/os?token=1");
        assert_eq!(
            (secure.host.as_str(), secure.port, secure.secure),
            ("2001:db8::1", 443, true)
        );
        assert!(!secure.shown.contains('x'), "{}", secure.shown);
        assert_eq!(place("http://h:8080/").port, 8080);
        assert!(super::place("ftp://h/").is_err() && super::place("h").is_err());
    }
}
