//! Shamir's secret sharing as clevis's pin `sss` does it: the key is the value at zero of a polynomial over a prime field, each share
//! a point of it, and any `t` of them give it back (Lagrange's interpolation).

use super::jwe::{Key, decode};
use super::{Step, Trouble};
use crate::secret::{Secret, wipe};
use p521::elliptic_curve::bigint::modular::{FixedMontyForm, FixedMontyParams};
use p521::elliptic_curve::bigint::{Odd, U256};
use serde_json::Value;

/// More children than anybody has servers.
const MOST: usize = 32;
/// Bytes of the prime and of a coordinate: clevis makes keys of AES-256 this way.
const LENGTH: usize = 32;

type Number = FixedMontyForm<{ U256::LIMBS }>;

/// Several ways, of which some suffice.
pub(super) struct Shares {
    pub(super) threshold: usize,
    /// JWEs in compact serialization, each with a point in it.
    pub(super) children: Vec<String>,
    prime: Odd<U256>,
}

impl Shares {
    pub(super) fn of(node: &Value) -> Result<Shares, Trouble> {
        let wrong = |what: &str| Trouble::new(Step::Token, format!("the token's shares: {what}"));
        let threshold = node.get("t").and_then(Value::as_u64).unwrap_or(0);
        let children: Vec<String> = node
            .get("jwe")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|child| child.as_str().map(str::to_owned))
            .collect();
        let possible = 1..=children.len() as u64;
        if children.len() > MOST || !possible.contains(&threshold) {
            let what = format!("{threshold} of {} are to suffice", children.len());
            return Err(wrong(&what));
        }
        let prime = decode("p", node.get("p").and_then(Value::as_str).unwrap_or_default())?;
        let prime = number(&prime)
            .ok_or_else(|| wrong(&format!("a prime of {} bytes, not {LENGTH}", prime.len())))?;
        let prime = Odd::new(prime)
            .into_option()
            .filter(|prime| *prime.as_ref() > U256::from(3u8));
        Ok(Shares {
            threshold: threshold as usize,
            children,
            prime: prime.ok_or_else(|| wrong("the modulus is no prime"))?,
        })
    }

    /// What to say when only `had` shares came.
    pub(super) fn too_few(&self, had: usize, troubles: &[Trouble]) -> Trouble {
        let reasons: Vec<&str> = troubles.iter().map(|trouble| trouble.what.as_str()).collect();
        let hopeful = troubles.iter().filter(|trouble| !trouble.is_final()).count();
        let step = match had + hopeful < self.threshold {
            true => Step::Unsupported,
            false => Step::Request,
        };
        let what = format!(
            "{had} of {} needed shares: {}",
            self.threshold,
            reasons.join("; ")
        );
        Trouble::new(step, what)
    }

    /// The key that these points, as many as suffice, lead to.
    pub(super) fn key(&self, points: &[Secret]) -> Result<Key, Trouble> {
        let wrong = |what: String| Trouble::new(Step::Decrypt, what);
        let field = FixedMontyParams::new_vartime(self.prime);
        let mut parsed = Vec::with_capacity(points.len());
        for point in points {
            let (x, y) = point.bytes().split_at_checked(LENGTH).unwrap_or_default();
            let pair = number(x)
                .zip(number(y))
                .filter(|(x, y)| x < self.prime.as_ref() && y < self.prime.as_ref());
            let (x, y) = pair.ok_or_else(|| wrong("a share is not a point of the field".to_owned()))?;
            parsed.push((Number::new(&x, &field), Number::new(&y, &field)));
        }
        let mut sum = Number::zero(&field);
        for (index, (x, y)) in parsed.iter().enumerate() {
            let mut term = *y;
            for (_, (other, _)) in parsed.iter().enumerate().filter(|(at, _)| *at != index) {
                let inverse = (*other - *x).invert().into_option();
                let inverse = inverse.ok_or_else(|| wrong("two shares are the same point".to_owned()))?;
                term = term * *other * inverse;
            }
            sum += term;
        }
        let mut bytes = sum.retrieve().to_be_bytes();
        let mut key = [0; LENGTH];
        key.copy_from_slice(bytes.as_ref());
        wipe(bytes.as_mut());
        Ok(Key::new(key))
    }
}

fn number(bytes: &[u8]) -> Option<U256> {
    (bytes.len() == LENGTH).then(|| U256::from_be_slice(bytes))
}
