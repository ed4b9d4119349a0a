//! The signature beside the image, `URL.minisig`: fetched before the image, so that the wrong key costs no time.

use super::answer::{Answer, Held, Meaning};
use super::http::Trouble;
use super::patience::Patience;
use super::{Means, shown};
use crate::report::{FailureExt, failure};
use crate::stage::verify::Expectation;
use lifeboot_contract::event::{Failure, Stage};
use reqwest::Url;
use std::io::Read;

/// A minisign file has four lines; this is far more than their comments need.
const LONGEST: u64 = 8 * 1024;

/// Fetches the signature of the image at `image` and settles what the image must satisfy.
pub(super) fn fetch(image: &Url, name: &str, means: &Means) -> Result<Expectation, Failure> {
    if means.keys.is_empty() {
        return Err(
            failure(Stage::Verify, format!("{name}: this image trusts no key")).hint(
                "build the image with the public key that signs, or boot with lifeboot.verify=sha256:HEX",
            ),
        );
    }
    let url = beside(image);
    let mut patience = Patience::new(means);
    loop {
        match once(&url, name, means) {
            Ok(text) => return Expectation::signed(&text, name, means.keys),
            Err(Trouble::Final(failure)) => return Err(failure),
            Err(Trouble::Again(what)) => {
                patience
                    .stumble(&shown(&url), 0, &what, None)
                    .map_err(|end| Failure {
                        cause: Some(what.clone()),
                        ..failure(
                            Stage::Fetch,
                            format!("{name}.minisig: not had in {} tries", end.tries),
                        )
                    })?;
            }
        }
    }
}

fn once(url: &Url, name: &str, means: &Means) -> Result<String, Trouble> {
    let (answer, _) = means.http.get(url, None, means)?;
    let head = Answer::read(answer.status(), answer.headers());
    let refused = |what: String| failure(Stage::Verify, format!("{name}.minisig: {what}"));
    match head.meaning(&Held::default()) {
        Meaning::Begins => {}
        Meaning::Busy(what) => return Err(Trouble::Again(format!("{name}.minisig: {what}"))),
        Meaning::Refused(what) => {
            let hint = "put the signature made by `image-builder sign` beside the image";
            return Err(Trouble::Final(refused(what).hint(hint)));
        }
        other => return Err(Trouble::Final(refused(format!("unexpected answer ({other:?})")))),
    }
    let mut bytes = Vec::new();
    answer
        .take(LONGEST + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Trouble::Again(format!("{name}.minisig: {}", super::http::innermost(&error))))?;
    if bytes.len() as u64 > LONGEST {
        return Err(Trouble::Final(refused(format!("longer than {LONGEST} bytes"))));
    }
    String::from_utf8(bytes).map_err(|_| Trouble::Final(refused("not a minisign signature".to_owned())))
}

/// `…/os.squashfs?x` -> `…/os.squashfs.minisig?x`
fn beside(image: &Url) -> Url {
    let mut url = image.clone();
    url.set_path(&format!("{}.minisig", image.path()));
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_lies_beside_the_image() {
        let image = Url::parse("http://h:8080/a%20b/os.squashfs?token=1").unwrap();
        assert_eq!(
            beside(&image).as_str(),
            "http://h:8080/a%20b/os.squashfs.minisig?token=1"
        );
    }
}
