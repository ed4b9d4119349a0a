//! The McCallum-Relyea exchange on the NIST curves.
//!
//! `C` is the client's public key in the token (its private half was thrown away), `S` the server's. The key agreed on is `s·C`, which
//! only the server could compute; it must not see `C`, so it is sent `X = C + e·G` with a fresh `e`, answers `Y = s·X`, and `Y - e·S` is
//! `s·C`. Every point that comes from outside is checked to be on its curve and not the identity.

use super::{Step, Trouble, printable};
use crate::secret::wipe;
use data_encoding::BASE64URL_NOPAD;
use p521::elliptic_curve::array::typenum::Unsigned;
use p521::elliptic_curve::sec1::{FromSec1Point, ModulusSize, ToSec1Point};
use p521::elliptic_curve::zeroize::Zeroize;
use p521::elliptic_curve::{
    AffinePoint, CurveArithmetic, FieldBytes, FieldBytesSize, Group, NonZeroScalar, ProjectivePoint,
    PublicKey,
};
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::{Value, json};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Crv {
    P256,
    P384,
    P521,
}

/// A public key (RFC 7517), not yet known to be on its curve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Jwk {
    crv: Crv,
    x: Vec<u8>,
    y: Vec<u8>,
}

/// What both sides agree on: the point's x coordinate, wiped when dropped.
pub(super) struct Shared(Vec<u8>);

impl Shared {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

/// An exchange that waits for the server.
pub(super) trait Exchange {
    /// What is sent to it: `X`.
    fn question(&self) -> &Jwk;
    /// What is agreed on, with its answer `Y`.
    fn finish(&self, answer: &Jwk) -> Result<Shared, Trouble>;
}

/// Begins an exchange for the client's and the server's public key of a token.
pub(super) fn begin(client: &Jwk, server: &Jwk) -> Result<Box<dyn Exchange>, Trouble> {
    if client.crv != server.crv {
        let what = format!(
            "the token's keys are on {} and on {}",
            client.crv.name(),
            server.crv.name()
        );
        return Err(Trouble::new(Step::Token, what));
    }
    Ok(match client.crv {
        Crv::P256 => Box::new(Blinded::<p256::NistP256>::new(client, server)?),
        Crv::P384 => Box::new(Blinded::<p384::NistP384>::new(client, server)?),
        Crv::P521 => Box::new(Blinded::<p521::NistP521>::new(client, server)?),
    })
}

struct Blinded<C: CurveArithmetic> {
    question: Jwk,
    /// `e·S`
    mask: ProjectivePoint<C>,
}

impl<C> Blinded<C>
where
    C: CurveArithmetic,
    FieldBytesSize<C>: ModulusSize,
    AffinePoint<C>: FromSec1Point<C> + ToSec1Point<C>,
{
    fn new(client: &Jwk, server: &Jwk) -> Result<Blinded<C>, Trouble> {
        let c = client.point::<C>(Step::Token, "client key")?;
        let s = server.point::<C>(Step::Token, "server key")?;
        let mut e = scalar::<C>()?;
        let sum = c.to_projective() + ProjectivePoint::<C>::generator() * *e.as_ref();
        let mask = s.to_projective() * *e.as_ref();
        e.zeroize();
        Ok(Blinded {
            question: Jwk::of::<C>(client.crv, sum)?,
            mask,
        })
    }
}

impl<C> Exchange for Blinded<C>
where
    C: CurveArithmetic,
    FieldBytesSize<C>: ModulusSize,
    AffinePoint<C>: FromSec1Point<C> + ToSec1Point<C>,
{
    fn question(&self) -> &Jwk {
        &self.question
    }

    fn finish(&self, answer: &Jwk) -> Result<Shared, Trouble> {
        if answer.crv != self.question.crv {
            let what = format!(
                "the answer is on {}, not on {}",
                answer.crv.name(),
                self.question.crv.name()
            );
            return Err(Trouble::new(Step::Answer, what));
        }
        let y = answer.point::<C>(Step::Answer, "answer")?;
        let mut agreed = Jwk::of::<C>(answer.crv, y.to_projective() - self.mask)?;
        wipe(&mut agreed.y);
        Ok(Shared(std::mem::take(&mut agreed.x)))
    }
}

impl<C: CurveArithmetic> Drop for Blinded<C> {
    fn drop(&mut self) {
        self.mask.zeroize();
    }
}

/// A random number between zero and the order of the curve, both excluded: tried until one fits, which on P-521 is every second time.
fn scalar<C: CurveArithmetic>() -> Result<NonZeroScalar<C>, Trouble> {
    let failed = |what: &str| Trouble::new(Step::Request, format!("no random number: {what}"));
    let random = SystemRandom::new();
    let length = FieldBytesSize::<C>::USIZE;
    for _ in 0..200 {
        let mut bytes = FieldBytes::<C>::default();
        random
            .fill(&mut bytes)
            .map_err(|_| failed("the kernel gives none"))?;
        if let (66, Some(first)) = (length, bytes.first_mut()) {
            // 521 bits are one more than 65 bytes.
            *first &= 1;
        }
        let found = NonZeroScalar::<C>::from_repr(bytes).into_option();
        wipe(&mut bytes);
        if let Some(found) = found {
            return Ok(found);
        }
    }
    Err(failed("none was below the order of the curve"))
}

impl Crv {
    const ALL: [Crv; 3] = [Crv::P256, Crv::P384, Crv::P521];

    fn name(self) -> &'static str {
        match self {
            Crv::P256 => "P-256",
            Crv::P384 => "P-384",
            Crv::P521 => "P-521",
        }
    }

    fn bytes(self) -> usize {
        match self {
            Crv::P256 => 32,
            Crv::P384 => 48,
            Crv::P521 => 66,
        }
    }
}

impl Jwk {
    /// Reads a key; `step` is whose fault it is when it is none.
    pub(super) fn from_json(json: &Value, step: Step) -> Result<Jwk, Trouble> {
        let member = |name: &str| json.get(name).and_then(Value::as_str).unwrap_or_default();
        let wrong = |what: String| Trouble::new(step, what);
        if member("kty") != "EC" {
            return Err(wrong(format!(
                "a key of type '{}', not EC",
                printable(member("kty"))
            )));
        }
        let crv = Crv::ALL.into_iter().find(|crv| crv.name() == member("crv"));
        let crv = crv.ok_or_else(|| {
            wrong(format!(
                "the curve '{}' is not supported here",
                printable(member("crv"))
            ))
        })?;
        let coordinate = |name: &str| {
            let bytes = BASE64URL_NOPAD
                .decode(member(name).as_bytes())
                .unwrap_or_default();
            match bytes.len() == crv.bytes() {
                true => Ok(bytes),
                false => Err(wrong(format!(
                    "'{name}' of a key on {} is not {} bytes in base64url",
                    crv.name(),
                    crv.bytes()
                ))),
            }
        };
        let (x, y) = (coordinate("x")?, coordinate("y")?);
        Ok(Jwk { crv, x, y })
    }

    /// Reads what a server answered.
    pub(super) fn of_answer(bytes: &[u8]) -> Result<Jwk, Trouble> {
        let json = serde_json::from_slice(bytes)
            .map_err(|error| Trouble::new(Step::Answer, format!("the answer is not JSON: {error}")))?;
        Jwk::from_json(&json, Step::Answer)
    }

    /// As it is sent.
    pub(super) fn to_json(&self) -> Vec<u8> {
        let key = json!({
            "alg": "ECMR", "kty": "EC", "crv": self.crv.name(), "key_ops": ["deriveKey"],
            "x": BASE64URL_NOPAD.encode(&self.x), "y": BASE64URL_NOPAD.encode(&self.y),
        });
        key.to_string().into_bytes()
    }

    /// The point, if it is one of the curve and not the identity.
    fn point<C>(&self, step: Step, name: &str) -> Result<PublicKey<C>, Trouble>
    where
        C: CurveArithmetic,
        FieldBytesSize<C>: ModulusSize,
        AffinePoint<C>: FromSec1Point<C> + ToSec1Point<C>,
    {
        // SEC 1, 2.3.3: 4 means that both coordinates follow.
        let mut bytes = vec![4];
        bytes.extend(&self.x);
        bytes.extend(&self.y);
        PublicKey::from_sec1_bytes(&bytes)
            .map_err(|_| Trouble::new(step, format!("the {name} is not a point of {}", self.crv.name())))
    }

    fn of<C>(crv: Crv, point: ProjectivePoint<C>) -> Result<Jwk, Trouble>
    where
        C: CurveArithmetic,
        FieldBytesSize<C>: ModulusSize,
        AffinePoint<C>: FromSec1Point<C> + ToSec1Point<C>,
    {
        let identity = || Trouble::new(Step::Answer, "the answer leads to no point of the curve");
        let affine: AffinePoint<C> = point.into();
        let encoded = PublicKey::<C>::from_affine(affine)
            .map_err(|_| identity())?
            .as_affine()
            .to_sec1_point(false);
        let (x, y) = (
            encoded.x().ok_or_else(identity)?,
            encoded.y().ok_or_else(identity)?,
        );
        Ok(Jwk {
            crv,
            x: x.to_vec(),
            y: y.to_vec(),
        })
    }
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;

    /// What a server does with its private key: `Y = s·X`.
    pub fn serve(private: &Value, question: &[u8]) -> Vec<u8> {
        let question = Jwk::of_answer(question).unwrap();
        fn multiply<C>(question: &Jwk, d: &[u8]) -> Jwk
        where
            C: CurveArithmetic,
            FieldBytesSize<C>: ModulusSize,
            AffinePoint<C>: FromSec1Point<C> + ToSec1Point<C>,
        {
            let mut bytes = FieldBytes::<C>::default();
            bytes.copy_from_slice(d);
            let d = NonZeroScalar::<C>::from_repr(bytes).unwrap();
            let x = question.point::<C>(Step::Answer, "question").unwrap();
            Jwk::of::<C>(question.crv, x.to_projective() * *d.as_ref()).unwrap()
        }
        let d = BASE64URL_NOPAD
            .decode(private["d"].as_str().unwrap().as_bytes())
            .unwrap();
        let answer = match question.crv {
            Crv::P256 => multiply::<p256::NistP256>(&question, &d),
            Crv::P384 => multiply::<p384::NistP384>(&question, &d),
            Crv::P521 => multiply::<p521::NistP521>(&question, &d),
        };
        answer.to_json()
    }
}
