//! One request with its redirects.
//!
//! Redirects are followed here and not by reqwest, because the address that finally answered is asked again when the link is cut,
//! and because the messages name the hops.

use super::{Clock, Limits, Means, object, shown};
use crate::report::{FailureExt, chain, failure};
use lifeboot_contract::event::{Failure, Stage};
use reqwest::blocking::{Client, Response};
use reqwest::header::{ACCEPT_ENCODING, DATE, HeaderMap, HeaderValue, IF_RANGE, LOCATION, RANGE};
use reqwest::{Url, redirect};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use std::error::Error;
use std::io;
use std::sync::{Arc, OnceLock};

/// The HTTP client. One for each scheme, made when first needed: most images come over plain http, and then no bundle of
/// certificate authorities has to be read and kept.
pub(super) struct Http {
    limits: Limits,
    plain: OnceLock<Client>,
    secure: OnceLock<Client>,
    patient: OnceLock<Box<Http>>,
}

/// Why there is no answer.
pub(super) enum Trouble {
    /// Another attempt may do.
    Again(String),
    /// It will not.
    Final(Failure),
}

/// The part of a file that is missing.
pub(super) struct Rest<'r> {
    pub(super) from: u64,
    pub(super) if_range: Option<&'r str>,
}

impl Http {
    pub(super) fn new(limits: &Limits) -> Http {
        Http {
            limits: limits.clone(),
            plain: OnceLock::new(),
            secure: OnceLock::new(),
            patient: OnceLock::new(),
        }
    }

    /// The same for a server that does not resume. The time that a single request can be given would bound all of its answer.
    pub(super) fn patient(&self) -> &Http {
        self.patient.get_or_init(|| {
            Box::new(Http::new(&Limits {
                stall: self.limits.stall_without_resuming,
                ..self.limits.clone()
            }))
        })
    }

    /// Asks for `url`, or its `rest`, and follows redirects; returns the answer with the address that gave it.
    pub(super) fn get(
        &self,
        url: &Url,
        rest: Option<&Rest>,
        means: &Means,
    ) -> Result<(Response, Url), Trouble> {
        let mut hops = vec![url.clone()];
        loop {
            let at = hops.last().unwrap_or(url).clone();
            let answer = self.ask(&at, rest, means)?;
            if !matches!(answer.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok((answer, at));
            }
            let target = answer
                .headers()
                .get(LOCATION)
                .and_then(|target| target.to_str().ok());
            let next = next_hop(&at, target).map_err(Trouble::Final)?;
            let looped = hops.contains(&next);
            hops.push(next);
            if looped || hops.len() > means.limits.redirects + 1 {
                let way: Vec<String> = hops.iter().map(shown).collect();
                let what = match looped {
                    true => "redirects in a loop".to_owned(),
                    false => format!("more than {} redirects", means.limits.redirects),
                };
                let what = format!("{}: {what}: {}", object(url), way.join(" -> "));
                return Err(Trouble::Final(failure(Stage::Fetch, what)));
            }
        }
    }

    fn ask(&self, url: &Url, rest: Option<&Rest>, means: &Means) -> Result<Response, Trouble> {
        let client = self.client(url, means.clock).map_err(Trouble::Final)?;
        let mut request = client.get(url.clone());
        if let Some(rest) = rest {
            request = request.header(RANGE, format!("bytes={}-", rest.from));
            if let Some(version) = rest.if_range {
                request = request.header(IF_RANGE, version);
            }
        }
        let answer = request
            .send()
            .map_err(|error| match certificate_refused(&error) {
                Some(why) => Trouble::Final(failure(Stage::Fetch, format!("{}: {why}", shown(url)))),
                None => Trouble::Again(no_answer(error, url, &self.limits)),
            })?;
        if let Some(date) = answer.headers().get(DATE).and_then(|date| date.to_str().ok()) {
            means.clock.http_date(date);
        }
        Ok(answer)
    }

    pub(super) fn client(&self, url: &Url, clock: &dyn Clock) -> Result<&Client, Failure> {
        let kept = match url.scheme() {
            "http" => &self.plain,
            "https" => &self.secure,
            other => {
                return Err(failure(
                    Stage::Fetch,
                    format!("{}: neither http nor https but {other}", object(url)),
                ));
            }
        };
        if let Some(client) = kept.get() {
            return Ok(client);
        }
        let mut roots = RootCertStore::empty();
        if url.scheme() == "https" {
            roots = authorities(&self.limits, url)?;
            clock.settle(self.limits.settle);
        }
        let client = client(roots, &self.limits).map_err(|cause| Failure {
            cause: Some(cause),
            ..failure(Stage::Fetch, "the http client")
        })?;
        Ok(kept.get_or_init(|| client))
    }
}

fn authorities(limits: &Limits, url: &Url) -> Result<RootCertStore, Failure> {
    let path = &limits.authorities;
    let mut roots = RootCertStore::empty();
    // A file that is missing or not PEM gives none, a certificate that cannot be read one less.
    let certificates = CertificateDer::pem_file_iter(path).into_iter().flatten();
    let (count, _) = roots.add_parsable_certificates(certificates.filter_map(Result::ok));
    if count == 0 {
        let what = format!("{}: no certificate authority in {}", shown(url), path.display());
        return Err(
            failure(Stage::Fetch, what).hint("build the image with a bundle of certificate authorities")
        );
    }
    Ok(roots)
}

/// What a connection to `url` is encrypted and judged by, for who speaks HTTP there by itself.
///
/// # Errors
/// The image has no certificate authorities.
pub fn tls(limits: &Limits, url: &Url) -> Result<ClientConfig, Failure> {
    let roots = authorities(limits, url)?;
    config(roots).map_err(|cause| Failure {
        cause: Some(cause),
        ..failure(Stage::Fetch, "TLS")
    })
}

fn config(roots: RootCertStore) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| chain(&error))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}

fn client(roots: RootCertStore, limits: &Limits) -> Result<Client, String> {
    let tls = config(roots)?;
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    Client::builder()
        .user_agent(concat!("lifeboot/", env!("CARGO_PKG_VERSION")))
        .default_headers(headers)
        .tls_backend_preconfigured(tls)
        .redirect(redirect::Policy::none())
        .referer(false)
        .no_proxy()
        .connect_timeout(limits.connect)
        // In the blocking client this bounds the head of an answer and then every single read, not the whole body.
        .timeout(limits.stall)
        .build()
        .map_err(|error| chain(&error))
}

/// Where a redirect leads. From https only to https: what was asked for in private stays so.
fn next_hop(at: &Url, target: Option<&str>) -> Result<Url, Failure> {
    let refused = |what: String| failure(Stage::Fetch, format!("{}: {what}", shown(at)));
    let target = target.ok_or_else(|| refused("a redirect without Location".to_owned()))?;
    let next = at
        .join(target)
        .map_err(|error| refused(format!("redirect to '{target}'")).because(&error))?;
    if at.scheme() == "https" && next.scheme() != "https" {
        return Err(refused(format!("redirect from https to {}", shown(&next))));
    }
    Ok(next)
}

/// The reason when the certificate was judged and found wanting: asking again changes nothing.
pub(super) fn certificate_refused(error: &reqwest::Error) -> Option<String> {
    let mut next = error.source();
    while let Some(cause) = next {
        if let Some(tls @ rustls::Error::InvalidCertificate(_)) = cause.downcast_ref() {
            return Some(chain(tls));
        }
        // What an io::Error wraps is not its source but hidden one level above it.
        let wrapped = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = match wrapped {
            Some(inner) => Some(inner),
            None => cause.source(),
        };
    }
    None
}

pub(super) fn no_answer(error: reqwest::Error, url: &Url, limits: &Limits) -> String {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let host = format!("{}{port}", url.host_str().unwrap_or_default());
    if error.is_timeout() && !error.is_connect() {
        return format!("{host}: no answer for {} s", limits.stall.as_secs_f32());
    }
    format!("{host}: {}", innermost(&error))
}

/// The last cause: the ones above it only say which layer passed it on.
pub(super) fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut last = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    last.to_string()
}

#[cfg(test)]
mod tests {
    use super::super::SetAlready;
    use super::*;

    #[test]
    fn https_without_authorities_names_the_file_and_http_needs_none() {
        let limits = Limits {
            authorities: "/nowhere/ca.crt".into(),
            ..Limits::default()
        };
        let http = Http::new(&limits);
        let client = |url: &str| http.client(&Url::parse(url).unwrap(), &SetAlready).map(|_| ());
        let failure = client("https://me:x@h/os").unwrap_err();
        assert_eq!(
            failure.what,
            "https://h/os: no certificate authority in /nowhere/ca.crt"
        );
        assert!(client("http://h/os").is_ok());
        assert!(client("ftp://h/os").is_err());
    }

    #[test]
    fn https_is_left_for_https_only() {
        let hop = |at: &str, target| next_hop(&Url::parse(at).unwrap(), target).map(String::from);
        assert_eq!(hop("https://h/a/b", Some("../c")).unwrap(), "https://h/c");
        assert_eq!(hop("http://h/a", Some("https://i/")).unwrap(), "https://i/");
        let failure = hop("https://h/a", Some("http://h/a")).unwrap_err();
        assert_eq!(failure.what, "https://h/a: redirect from https to http://h/a");
        assert!(hop("http://h/a", None).is_err());
        assert!(hop("http://h/a", Some("http://")).is_err());
    }
}
