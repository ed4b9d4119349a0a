//! How this server speaks: what it offers is nothing that ssh-audit or OpenSSH's own defaults call obsolete.
//!
//! No SHA-1, no CBC, no finite-field groups (their exchange costs a small board seconds, and the curves are everywhere). MACs encrypt first
//! where the client can: libssh2 before 1.11, and so curl in Debian 12, cannot, and the two plain ones are for it.

use super::gate::WINDOW;
use russh::keys::{Algorithm, EcdsaCurve, HashAlg, PrivateKey};
use russh::server::Config;
use russh::{MethodKind, MethodSet, Preferred, SshId, cipher, kex, mac};
use std::borrow::Cow;
use std::time::Duration;

const KEY_EXCHANGE: [kex::Name; 10] = [
    kex::MLKEM768X25519_SHA256,
    kex::CURVE25519,
    kex::CURVE25519_PRE_RFC_8731,
    kex::ECDH_SHA2_NISTP256,
    kex::ECDH_SHA2_NISTP384,
    kex::ECDH_SHA2_NISTP521,
    kex::EXTENSION_SUPPORT_AS_CLIENT,
    kex::EXTENSION_SUPPORT_AS_SERVER,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_CLIENT,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER,
];

const CIPHERS: [cipher::Name; 6] = [
    cipher::CHACHA20_POLY1305,
    cipher::AES_128_GCM,
    cipher::AES_256_GCM,
    cipher::AES_128_CTR,
    cipher::AES_192_CTR,
    cipher::AES_256_CTR,
];

const MACS: [mac::Name; 4] = [
    mac::HMAC_SHA256_ETM,
    mac::HMAC_SHA512_ETM,
    mac::HMAC_SHA256,
    mac::HMAC_SHA512,
];

/// Also what users' keys may be: it is what the client is told in server-sig-algs. SHA-1 is not among them.
const KEYS: [Algorithm; 8] = [
    Algorithm::Ed25519,
    Algorithm::Ecdsa {
        curve: EcdsaCurve::NistP256,
    },
    Algorithm::Ecdsa {
        curve: EcdsaCurve::NistP384,
    },
    Algorithm::Ecdsa {
        curve: EcdsaCurve::NistP521,
    },
    Algorithm::Rsa {
        hash: Some(HashAlg::Sha512),
    },
    Algorithm::Rsa {
        hash: Some(HashAlg::Sha256),
    },
    Algorithm::SkEd25519,
    Algorithm::SkEcdsaSha2NistP256,
];

/// The server with this host key that asks a silent client for a word after `ask_after`.
pub fn config(key: PrivateKey, ask_after: Duration) -> Config {
    Config {
        server_id: SshId::Standard(Cow::Borrowed(concat!(
            "SSH-2.0-lifeboot_",
            env!("CARGO_PKG_VERSION")
        ))),
        methods: MethodSet::from(&[MethodKind::PublicKey][..]),
        auth_rejection_time: Duration::from_millis(300),
        auth_rejection_time_initial: Some(Duration::ZERO),
        keys: vec![key],
        // The gate narrows it when too much waits; see there.
        window_size: WINDOW,
        channel_buffer_size: 16,
        preferred: Preferred {
            kex: Cow::Borrowed(&KEY_EXCHANGE),
            key: Cow::Borrowed(&KEYS),
            cipher: Cow::Borrowed(&CIPHERS),
            mac: Cow::Borrowed(&MACS),
            ..Preferred::DEFAULT
        },
        // Agents offer key after key; OpenSSH's 6 is too few for many people.
        max_auth_attempts: 10,
        inactivity_timeout: None,
        keepalive_interval: Some(ask_after),
        // The gate decides when a client is gone: what it takes is a sign of life too.
        keepalive_max: 0,
        nodelay: true,
        ..Config::default()
    }
}
