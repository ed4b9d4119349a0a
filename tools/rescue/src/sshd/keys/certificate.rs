//! Certificates: what one made by a known authority lets its owner do (OpenSSH's PROTOCOL.certkeys).
//!
//! russh has checked the authority's signature and that the owner has the key. The one thing a reader would get wrong: a certificate without
//! principals is for nobody here, while OpenSSH once took it for everybody's. Its times are compared with the clock as it stands, which is
//! never earlier than the image's build; until a time server has answered, a newer certificate is not valid yet.

use super::{is_sha1, strong};
use lifeboot_contract::authorized::{Addresses, Grant, Options};
use russh::keys::Certificate;
use russh::keys::ssh_key::certificate::CertType;
use std::net::IpAddr;

/// What `certificate` grants to somebody who comes from `client` at `now`, seconds since 1970. `names` are the principals that fit the
/// user, `options` those of the authority's own line.
///
/// # Errors
/// Why nothing is granted.
pub fn granted(
    certificate: &Certificate,
    options: &Options,
    names: &[&str],
    client: IpAddr,
    now: u64,
) -> Result<Grant, String> {
    if certificate.cert_type() != CertType::User {
        return Err("it is not a user's certificate".to_owned());
    }
    strong(certificate.public_key())?;
    if is_sha1(&certificate.signature().algorithm()) {
        return Err("its signature uses SHA-1".to_owned());
    }
    if now < certificate.valid_after() {
        return Err("it is not valid yet".to_owned());
    }
    if now >= certificate.valid_before() {
        return Err("its time has run out".to_owned());
    }
    let fits = |principal: &String| match &options.principals {
        Some(listed) => listed.contains(principal),
        None => names.contains(&principal.as_str()),
    };
    if !certificate.valid_principals().iter().any(fits) {
        return Err("it names no principal that fits".to_owned());
    }
    options
        .granted(client, now)?
        .and(&own_grant(certificate, client)?)
}

/// What the certificate itself allows: nothing but what its extensions say.
fn own_grant(certificate: &Certificate, client: IpAddr) -> Result<Grant, String> {
    let has = |extension: &str| certificate.extensions().contains_key(extension);
    let mut grant = Grant {
        terminal: has("permit-pty"),
        agent: has("permit-agent-forwarding"),
        forwarding: has("permit-port-forwarding"),
        ..Grant::full()
    };
    for (name, value) in certificate.critical_options().iter() {
        match name.as_str() {
            "force-command" => grant.command = Some(value.clone()),
            "source-address" => {
                let from =
                    Addresses::parse_networks(value).map_err(|error| format!("source-address: {error}"))?;
                if !from.contain(client) {
                    return Err(format!("it may not be used from {client}"));
                }
            }
            name => return Err(format!("its critical option {name} is not supported here")),
        }
    }
    Ok(grant)
}
