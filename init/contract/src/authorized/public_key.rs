//! A public key as it stands in a file: its type, then the same type and its numbers in base64 (RFC 4253 section 6.6, RFC 5656,
//! RFC 8709, OpenSSH's PROTOCOL.u2f).
//!
//! Only the shape is looked at: whether a point is on its curve shows when somebody logs in with it.

use crate::base64;
use crate::wire::Wire;

/// RSA keys shorter than this are not proof of anything any more; OpenSSH's `RequiredRSASize` is the same.
pub const LEAST_RSA_BITS: usize = 2048;
/// And longer than this the ssh server does not verify.
const MOST_RSA_BITS: usize = 8192;

/// The whole of a key.
#[derive(Debug)]
pub(super) struct PublicKey {
    pub(super) bytes: Vec<u8>,
}

impl PublicKey {
    /// Reads the type and the base64 behind it.
    ///
    /// # Errors
    /// What is wrong; the key itself is not repeated.
    pub(super) fn parse(kind: &str, text: &str) -> Result<PublicKey, String> {
        let known = KINDS.iter().find(|(name, _)| *name == kind);
        let Some((_, shape)) = known else {
            return Err(match kind {
                kind if kind.contains("-cert-v01@") => {
                    "is a certificate: what lets people in is the key of the authority that made it"
                        .to_owned()
                }
                "ssh-dss" => "key type ssh-dss is not supported".to_owned(),
                _ => "does not begin with a key type that is supported".to_owned(),
            });
        };
        let bytes = base64::decode_padded(text).ok_or("its key is not base64, or cut off")?;
        let mut rest = Wire(&bytes);
        match rest.string() {
            Some(inner) if inner == kind.as_bytes() => {}
            Some(inner) if KINDS.iter().any(|(name, _)| name.as_bytes() == inner) => {
                let inner = String::from_utf8_lossy(inner);
                return Err(format!("says {kind}, but its key is of type {inner}"));
            }
            _ => return Err("its key is cut off or damaged".to_owned()),
        }
        let whole = shape.fits(&mut rest)?;
        if whole.is_none() || !rest.0.is_empty() {
            return Err(format!(
                "its key is cut off or damaged: {} bytes are no key of type {kind}",
                bytes.len()
            ));
        }
        Ok(PublicKey { bytes })
    }
}

/// What stands behind the type.
#[derive(Debug, Clone, Copy)]
enum Shape {
    Ed25519,
    /// A curve's name and the length of one coordinate.
    Ecdsa(&'static str, usize),
    Rsa,
    SkEd25519,
    SkEcdsa,
}

const KINDS: [(&str, Shape); 7] = [
    ("ssh-ed25519", Shape::Ed25519),
    ("ecdsa-sha2-nistp256", Shape::Ecdsa("nistp256", 32)),
    ("ecdsa-sha2-nistp384", Shape::Ecdsa("nistp384", 48)),
    ("ecdsa-sha2-nistp521", Shape::Ecdsa("nistp521", 66)),
    ("ssh-rsa", Shape::Rsa),
    ("sk-ssh-ed25519@openssh.com", Shape::SkEd25519),
    ("sk-ecdsa-sha2-nistp256@openssh.com", Shape::SkEcdsa),
];

impl Shape {
    /// `None` where it does not fit.
    fn fits(self, rest: &mut Wire) -> Result<Option<()>, String> {
        Ok(match self {
            Shape::Ed25519 => rest.of_length(32),
            Shape::Ecdsa(curve, length) => rest.point(curve, length),
            Shape::Rsa => {
                let bits = rest.positive().and_then(|_| rest.positive());
                if let Some(bits) = bits.filter(|bits| *bits < LEAST_RSA_BITS) {
                    return Err(format!(
                        "RSA key of {bits} bits: at least {LEAST_RSA_BITS} are needed"
                    ));
                }
                if let Some(bits) = bits.filter(|bits| *bits > MOST_RSA_BITS) {
                    return Err(format!(
                        "RSA key of {bits} bits: at most {MOST_RSA_BITS} are supported"
                    ));
                }
                bits.map(drop)
            }
            Shape::SkEd25519 => rest.of_length(32).and_then(|()| rest.application()),
            Shape::SkEcdsa => rest.point("nistp256", 32).and_then(|()| rest.application()),
        })
    }
}

/// What keys are made of.
impl Wire<'_> {
    fn of_length(&mut self, length: usize) -> Option<()> {
        (self.string()?.len() == length).then_some(())
    }

    /// A curve and an uncompressed point on it.
    fn point(&mut self, curve: &str, length: usize) -> Option<()> {
        let named = self.string()? == curve.as_bytes();
        let point = self.string()?;
        (named && point.len() == 1 + 2 * length && point.starts_with(&[4])).then_some(())
    }

    fn application(&mut self) -> Option<()> {
        str::from_utf8(self.string()?).ok().map(drop)
    }

    /// The bits of a number above nought, written as short as it can be.
    fn positive(&mut self) -> Option<usize> {
        match *self.string()? {
            [0, first, ref rest @ ..] if first >= 0x80 => Some(8 * (1 + rest.len())),
            [first @ 1..0x80, ref rest @ ..] => Some(8 * (1 + rest.len()) - first.leading_zeros() as usize),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base64::encode;

    fn string(bytes: &[u8]) -> Vec<u8> {
        let mut made = (bytes.len() as u32).to_be_bytes().to_vec();
        made.extend(bytes);
        made
    }

    /// A key of `kind` with these strings behind the type.
    fn parse(kind: &str, strings: &[&[u8]]) -> Result<PublicKey, String> {
        let mut blob = string(kind.as_bytes());
        for bytes in strings {
            blob.extend(string(bytes));
        }
        let mut text = encode(&blob);
        text.extend(std::iter::repeat_n('=', (4 - text.len() % 4) % 4));
        PublicKey::parse(kind, &text)
    }

    fn point(length: usize) -> Vec<u8> {
        let mut point = vec![4];
        point.resize(1 + 2 * length, 7);
        point
    }

    #[test]
    fn every_type_is_taken_in_its_own_shape_and_in_no_other() {
        let (e, n) = ([1, 0, 1], [[0].as_slice(), &[0x80; 256]].concat());
        for (kind, strings) in [
            ("ssh-ed25519", vec![vec![7; 32]]),
            ("ecdsa-sha2-nistp256", vec![b"nistp256".to_vec(), point(32)]),
            ("ecdsa-sha2-nistp384", vec![b"nistp384".to_vec(), point(48)]),
            ("ecdsa-sha2-nistp521", vec![b"nistp521".to_vec(), point(66)]),
            ("ssh-rsa", vec![e.to_vec(), n]),
            ("sk-ssh-ed25519@openssh.com", vec![vec![7; 32], b"ssh:".to_vec()]),
            (
                "sk-ecdsa-sha2-nistp256@openssh.com",
                vec![b"nistp256".to_vec(), point(32), b"ssh:".to_vec()],
            ),
        ] {
            let strings: Vec<&[u8]> = strings.iter().map(Vec::as_slice).collect();
            assert!(parse(kind, &strings).is_ok(), "{kind}");
            assert!(parse(kind, &strings[1..]).is_err(), "{kind}: one less");
            assert!(
                parse(kind, &[&strings[..], &[b""]].concat()).is_err(),
                "{kind}: one more"
            );
        }
        assert!(parse("ecdsa-sha2-nistp256", &[b"nistp384", &point(32)]).is_err());
        assert!(parse("ecdsa-sha2-nistp256", &[b"nistp256", &[2; 33]]).is_err());
    }

    #[test]
    fn an_rsa_key_is_neither_short_nor_endless() {
        let rsa = |first: u8, length: usize| {
            let mut n = vec![first];
            n.resize(length, 1);
            parse("ssh-rsa", &[&[3], &n])
        };
        assert_eq!(
            rsa(0x7f, 256).unwrap_err(),
            "RSA key of 2047 bits: at least 2048 are needed"
        );
        assert!(rsa(0x01, 257).is_ok());
        assert!(rsa(0x7f, 1024).is_ok() && rsa(0x7f, 1025).is_err());
        assert!(rsa(0x80, 256).is_err() && rsa(0, 256).is_err());
    }

    #[test]
    fn what_is_no_key_is_refused() {
        const KEY: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
        assert!(PublicKey::parse("ssh-ed25519", KEY).is_ok());
        for (kind, text, why) in [
            ("ssh-rsa", KEY, "says ssh-rsa, but its key is of type ssh-ed25519"),
            ("ssh-ed25519", "AAAA", "cut off or damaged"),
            ("ssh-ed25519", &KEY[..64], "48 bytes are no key"),
            ("ssh-ed25519", &KEY[..63], "not base64, or cut off"),
            ("ssh-ed25519", "", "cut off or damaged"),
            ("ssh-dss", "AAAAB3NzaC1kc3MAAACB", "ssh-dss is not supported"),
            ("ssh-ed25519-cert-v01@openssh.com", "AAAA", "is a certificate"),
            ("ssh-ed448", "AAAA", "does not begin with a key type"),
        ] {
            let error = PublicKey::parse(kind, text).unwrap_err();
            assert!(error.contains(why), "{kind} {text}: {error}");
        }
    }
}
