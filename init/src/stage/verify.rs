//! Verify: only bytes that proved themselves become a [`Verified`], and only a `Verified` is mounted.
//!
//! What the bytes have to satisfy ([`Expectation`]) is settled before the first of them is fetched, so that an unknown key costs
//! a hundred bytes and not a hundred megabytes. The hash runs while they arrive ([`Check`], driven by `stage::fetch`) over what
//! was read back from the very file that is mounted later. The one thing a reader would get wrong: the signature file's trusted
//! comment is only a claim until the signature over the whole image matched; nothing is decided in the image's favour by it.

use crate::report::{FailureExt, Reporter, failure};
use crate::stage::fetch::Fetched;
use lifeboot_contract::event::{Failure, Stage};
use lifeboot_contract::plan::{Plan, Verify};
use lifeboot_contract::version;
use minisign_verify::StreamVerifier;
use ring::digest;
use rustix::fs::SealFlags;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

mod minisig;

pub use minisig::TrustedKeys;
use minisig::{Comment, Signed};

/// The seals a fetched image carries: nobody, this process included, can change it any more.
pub(super) const SEALS: SealFlags = SealFlags::WRITE
    .union(SealFlags::GROW)
    .union(SealFlags::SHRINK)
    .union(SealFlags::SEAL);

/// What the bytes have to satisfy, decided before the first byte of the image is fetched.
pub struct Expectation {
    /// The image's name in messages.
    name: String,
    proof: Proof,
}

enum Proof {
    Minisign(Box<Signed>),
    Sha256([u8; 32]),
    Nothing,
}

impl Expectation {
    /// The expectation of a plan that wants no signature; `None` when it wants one, see [`Expectation::signed`].
    pub(super) fn of_plan(plan: &Plan, name: &str) -> Option<Expectation> {
        let proof = match &plan.verify {
            Verify::Required => return None,
            Verify::Sha256(digest) => Proof::Sha256(*digest),
            Verify::Off => Proof::Nothing,
        };
        Some(Expectation {
            name: name.to_owned(),
            proof,
        })
    }

    /// The expectation that a signature file makes.
    ///
    /// # Errors
    /// Not a minisign file, a legacy signature, or one by a key that the image does not trust.
    pub(super) fn signed(text: &str, name: &str, keys: &TrustedKeys) -> Result<Expectation, Failure> {
        let proof = Proof::Minisign(Box::new(Signed::read(text, name, keys)?));
        Ok(Expectation {
            name: name.to_owned(),
            proof,
        })
    }

    /// The length the signature file claims. To refuse early by; it proves nothing before the signature matched.
    pub(super) fn claimed_length(&self) -> Option<u64> {
        match &self.proof {
            Proof::Minisign(signed) => signed.comment().length,
            _ => None,
        }
    }

    /// Why this plan does not take an image of the name and version that the signature file claims. To refuse early by, and said again
    /// of what was signed when the signature has matched.
    pub(super) fn too_old(&self, plan: &Plan) -> Option<Failure> {
        let Proof::Minisign(signed) = &self.proof else {
            return None;
        };
        let comment = signed.comment();
        version::refusal(
            &plan.min_versions,
            comment.name.as_deref(),
            comment.version.as_deref(),
        )
        .map(|what| failure(Stage::Verify, format!("{}: {what}", self.name)))
    }

    /// A running check over the bytes.
    ///
    /// # Errors
    /// The signature library refuses the pair of key and signature.
    pub(super) fn check(&self) -> Result<Check<'_>, Failure> {
        let (running, claimed) = match &self.proof {
            Proof::Minisign(signed) => (
                Running::Minisign(Box::new(signed.verifier()?)),
                signed.comment().length,
            ),
            Proof::Sha256(wanted) => (
                Running::Sha256(Box::new(digest::Context::new(&digest::SHA256)), *wanted),
                None,
            ),
            Proof::Nothing => (Running::Nothing, None),
        };
        Ok(Check { running, claimed })
    }

    /// What a finding means for these bytes.
    pub(super) fn conclude(&self, finding: &Finding) -> Result<How, Failure> {
        let refused = |what: String| Err(failure(Stage::Verify, format!("{}: {what}", self.name)));
        match (&self.proof, &finding.0) {
            (_, Outcome::Broken(what)) => refused(what.clone()),
            (Proof::Minisign(signed), Outcome::Differs(what)) => refused(format!(
                "{what} (key {}); damaged or not what was signed",
                signed.key_id()
            )),
            (Proof::Minisign(signed), Outcome::Matches) => Ok(How::Minisign {
                key: signed.key_id().to_string(),
                comment: signed.comment().text.clone(),
            }),
            (Proof::Sha256(_), Outcome::Differs(what)) => refused(what.clone()),
            (Proof::Sha256(digest), Outcome::Matches) => Ok(How::Sha256(hex(digest))),
            (Proof::Nothing, Outcome::Unchecked) => Ok(How::Off),
            (Proof::Nothing, _) | (_, Outcome::Unchecked) => {
                refused("what was checked is not what was expected".to_owned())
            }
        }
    }

    fn is_of(&self, verify: &Verify) -> bool {
        match (&self.proof, verify) {
            (Proof::Minisign(_), Verify::Required) | (Proof::Nothing, Verify::Off) => true,
            (Proof::Sha256(ours), Verify::Sha256(planned)) => ours == planned,
            _ => false,
        }
    }
}

/// A check on its way through the bytes.
pub(super) struct Check<'e> {
    running: Running<'e>,
    claimed: Option<u64>,
}

enum Running<'e> {
    Minisign(Box<StreamVerifier<'e>>),
    Sha256(Box<digest::Context>, [u8; 32]),
    Nothing,
}

impl Check<'_> {
    /// Whether the bytes have to be read at all.
    pub(super) fn reads(&self) -> bool {
        !matches!(self.running, Running::Nothing)
    }

    /// Takes the next bytes.
    pub(super) fn update(&mut self, bytes: &[u8]) {
        match &mut self.running {
            Running::Minisign(verifier) => verifier.update(bytes),
            Running::Sha256(context, _) => context.update(bytes),
            Running::Nothing => {}
        }
    }

    /// Concludes after `len` bytes, which must be all of them.
    pub(super) fn finish(self, len: u64) -> Finding {
        if let Some(claimed) = self.claimed.filter(|claimed| *claimed != len) {
            return Finding(Outcome::Differs(format!(
                "{len} bytes, but {claimed} were signed"
            )));
        }
        Finding(match self.running {
            Running::Nothing => Outcome::Unchecked,
            Running::Sha256(context, wanted) => {
                let is = context.finish();
                match is.as_ref() == wanted {
                    true => Outcome::Matches,
                    false => Outcome::Differs(format!(
                        "SHA-256 is {}, expected {} ({len} bytes)",
                        hex(is.as_ref()),
                        hex(&wanted)
                    )),
                }
            }
            Running::Minisign(mut verifier) => match verifier.finalize() {
                Ok(()) => Outcome::Matches,
                Err(_) => Outcome::Differs(format!("the signature does not match the {len} bytes fetched")),
            },
        })
    }
}

/// What a check came to. Only a [`Check`] that saw the bytes makes a good one.
pub(super) struct Finding(Outcome);

enum Outcome {
    Matches,
    Differs(String),
    Unchecked,
    Broken(String),
}

impl Finding {
    /// The bytes could not be read back.
    pub(super) fn unreadable(error: &io::Error) -> Finding {
        Finding(Outcome::Broken(format!(
            "cannot be read back from memory: {error}"
        )))
    }

    /// The check ended before the bytes did.
    pub(super) fn unfinished() -> Finding {
        Finding(Outcome::Broken("the check did not come to its end".to_owned()))
    }
}

/// How an image proved itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum How {
    /// By a signature over all of its bytes and over the comment.
    Minisign {
        /// Id of the key, as `minisign` prints it.
        key: String,
        /// The trusted comment.
        comment: String,
    },
    /// By this SHA-256.
    Sha256(String),
    /// Not at all, because the plan says so.
    Off,
}

impl How {
    /// The word used in events.
    pub fn word(&self) -> &'static str {
        match self {
            How::Minisign { .. } => "minisign",
            How::Sha256(_) => "sha256",
            How::Off => "off",
        }
    }
}

/// A sealed image whose bytes were checked as the plan wants. Nothing but [`run`] makes one:
///
/// ```compile_fail,E0451
/// use lifeboot_init::stage::verify::{How, Verified};
/// let fd: std::os::fd::OwnedFd = std::fs::File::open("/dev/null").unwrap().into();
/// let forged = Verified { image: fd, len: 0, url: String::new(), how: How::Off };
/// ```
#[derive(Debug)]
pub struct Verified {
    image: OwnedFd,
    len: u64,
    url: String,
    how: How,
}

impl Verified {
    /// The sealed memory file; the loop device takes this very descriptor.
    pub fn image(&self) -> BorrowedFd<'_> {
        self.image.as_fd()
    }

    /// Its length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where it came from, without user name and password.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// How it proved itself.
    pub fn how(&self) -> &How {
        &self.how
    }

    /// The signed comment, when there is one.
    pub fn comment(&self) -> Option<&str> {
        match &self.how {
            How::Minisign { comment, .. } => Some(comment),
            _ => None,
        }
    }

    /// Name and version as signed.
    pub fn name_and_version(&self) -> (Option<String>, Option<String>) {
        let comment = Comment::read(self.comment().unwrap_or_default());
        (comment.name, comment.version)
    }
}

/// Turns what was fetched into what may be mounted.
///
/// # Errors
/// The bytes do not prove themselves, or what was fetched is not sealed or not what this plan expects. The caller reports it.
pub fn run(plan: &Plan, fetched: Fetched, reporter: &Reporter) -> Result<Verified, Failure> {
    let verified = verify(plan, fetched)?;
    announce(&verified, reporter);
    Ok(verified)
}

fn verify(plan: &Plan, fetched: Fetched) -> Result<Verified, Failure> {
    let parts = fetched.into_parts();
    let name = &parts.expectation.name;
    if !parts.expectation.is_of(&plan.verify) {
        return Err(failure(
            Stage::Verify,
            format!("{name}: fetched under another plan"),
        ));
    }
    let seals = rustix::fs::fcntl_get_seals(&parts.image)
        .map_err(|error| failure(Stage::Verify, format!("{name}: seals")).because(&error))?;
    let len = rustix::fs::fstat(&parts.image)
        .map_err(|error| failure(Stage::Verify, format!("{name}: length")).because(&error))?
        .st_size;
    if !seals.contains(SEALS) || u64::try_from(len) != Ok(parts.len) {
        let what = format!("{name}: not the sealed {} bytes that were fetched", parts.len);
        return Err(failure(Stage::Verify, what));
    }
    let how = parts.expectation.conclude(&parts.finding)?;
    if let Some(too_old) = parts.expectation.too_old(plan) {
        return Err(too_old);
    }
    Ok(Verified {
        image: parts.image,
        len: parts.len,
        url: parts.url,
        how,
    })
}

fn announce(verified: &Verified, reporter: &Reporter) {
    let mut event = reporter.info("verify.done").with("how", verified.how.word());
    match &verified.how {
        How::Off => {
            let text = format!(
                "NOT VERIFIED: {} runs without any check, because lifeboot.verify=off",
                verified.url
            );
            reporter.event(
                reporter
                    .warn("verify.off")
                    .with("url", verified.url.as_str())
                    .text(text),
            );
        }
        How::Sha256(digest) => {
            event = event
                .with("key", digest.as_str())
                .text("verify: the SHA-256 is the expected one");
        }
        How::Minisign { key, comment } => {
            let (name, version) = verified.name_and_version();
            let label = [name.as_deref(), version.as_deref()]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
                .join(" ");
            let text = match label.as_str() {
                "" => format!("verify: signed by key {key}"),
                label => format!("verify: {label}, signed by key {key}"),
            };
            event = event
                .with("key", key.as_str())
                .with("comment", comment.as_str())
                .text(text);
            for (field, value) in [("name", name), ("version", version)] {
                if let Some(value) = value {
                    event = event.with(field, value);
                }
            }
        }
    }
    reporter.event(event);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
