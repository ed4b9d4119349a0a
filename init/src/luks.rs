//! LUKS volumes: how one is opened, by the boot and by people alike. cryptsetup does the work.
//!
//! A passphrase goes from where it comes from to cryptsetup's standard input and nowhere else: not into arguments, not into the
//! environment, not into a log.

use crate::block::{self, Opened};
use crate::secret::Secret;
use lifeboot_contract::plan::{Header, LuksOptions, LuksVolume, Plan};
use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

mod borrowed;
mod memory;
mod metadata;

pub use borrowed::read_key;
pub use memory::{Memory, available_kib};
pub use metadata::{Metadata, Slot, Token};

const CRYPTSETUP: &str = "/usr/sbin/cryptsetup";

/// A LUKS device and how it is to be opened.
#[derive(Debug, Clone)]
pub struct Volume {
    /// `/dev/vda2`
    pub device: String,
    /// Name under /dev/mapper.
    pub name: String,
    /// Where its header is, when it is not on the device.
    pub header: Option<Header>,
    /// How.
    pub options: LuksOptions,
}

/// With what it is opened.
#[derive(Clone, Copy)]
pub enum Key<'a> {
    /// A passphrase, or the bytes of a key file.
    Passphrase(&'a Secret),
    /// The same, for this key slot alone: the others' hashes need not be computed.
    ForSlot(&'a Secret, u32),
    /// All bytes of a file.
    File(&'a Path),
}

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is open.
    Open,
    /// The key fits no slot.
    WrongKey,
}

/// Why a volume could not be opened, or even be tried.
#[derive(Debug, thiserror::Error)]
#[error("{device}: {what}")]
pub struct Trouble {
    device: String,
    what: String,
}

/// Whether it is opened, or only the key tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Aim {
    Open,
    Test,
}

impl Volume {
    /// A volume of the plan on `device`.
    pub fn planned(volume: &LuksVolume, device: &Path, plan: &Plan) -> Volume {
        Volume {
            device: device.display().to_string(),
            name: volume.name.clone(),
            header: volume.header.clone(),
            options: plan.luks_options_of(volume).clone(),
        }
    }

    /// Where the open volume is.
    pub fn mapper(&self) -> String {
        format!("/dev/mapper/{}", self.name)
    }

    /// Opens it.
    ///
    /// # Errors
    /// Anything but a wrong key.
    pub fn open(&self, key: Key<'_>) -> Result<Outcome, Trouble> {
        self.attempt(key, Aim::Open)
    }

    /// Tries a key and opens nothing.
    ///
    /// # Errors
    /// Anything but a wrong key.
    pub fn test(&self, key: Key<'_>) -> Result<Outcome, Trouble> {
        self.attempt(key, Aim::Test)
    }

    /// What the header says: key slots and tokens; LUKS1 has no such words and gives `None`.
    ///
    /// # Errors
    /// The header cannot be read.
    pub fn metadata(&self) -> Result<Option<Metadata>, Trouble> {
        self.with_header(|header| {
            let mut command = cryptsetup(["luksDump", "--dump-json-metadata"]);
            add_header(&mut command, header);
            command.args(["--", &self.device]);
            let dumped = run(command, None)?;
            match dumped.status.success() {
                true => Metadata::read(&dumped.stdout).map(Some),
                false => Ok(None),
            }
        })
    }

    /// UUID of the header.
    ///
    /// # Errors
    /// There is none.
    pub fn uuid(&self) -> Result<String, Trouble> {
        self.with_header(|header| {
            let mut command = cryptsetup(["luksUUID", "--"]);
            match header {
                Some(header) => command.arg(header),
                None => command.arg(&self.device),
            };
            let said = run(command, None)?;
            match said.status.success() {
                true => Ok(String::from_utf8_lossy(&said.stdout).trim().to_owned()),
                // cryptsetup ends with 1 and says nothing.
                false => Err(match &self.header {
                    Some(header) => format!("{header} is not a LUKS header"),
                    None => "has no LUKS header".to_owned(),
                }),
            }
        })
    }

    /// Whether this very device is open already, under whatever name.
    pub fn is_open(&self) -> bool {
        matches!(self.opened(), Opened::As(_))
    }

    /// The same, and what stands where it would be opened to.
    pub fn opened(&self) -> Opened {
        self.uuid()
            .map_or(Opened::No, |uuid| block::opened(&uuid, self.device.as_ref()))
    }

    fn attempt(&self, key: Key<'_>, aim: Aim) -> Result<Outcome, Trouble> {
        let slot = match key {
            Key::ForSlot(_, slot) => Some(slot),
            _ => None,
        };
        // A header of LUKS1, or one that cannot be read: cryptsetup's to say.
        let memory = Memory::for_keys(self.metadata().ok().flatten().as_ref(), slot);
        if memory.least > memory.free {
            // Not even tried: the kernel would look for somebody to kill, and that might be the ssh server.
            return Err(self.trouble(memory.too_little()));
        }
        let ended = self.with_header(|header| self.cryptsetup_open(key, aim, header))?;
        match meaning(&ended) {
            Meaning::Open => Ok(Outcome::Open),
            Meaning::WrongKey => Ok(Outcome::WrongKey),
            Meaning::NoMemory => Err(self.trouble(memory.too_little())),
            // Depending on where it fails cryptsetup has another exit code for the same thing.
            Meaning::Other(_) if memory.most > memory.free => Err(self.trouble(memory.too_little())),
            // Somebody else, or a Tang server, was quicker.
            Meaning::Other(_) if aim == Aim::Open && self.is_open() => Ok(Outcome::Open),
            Meaning::Other(what) => Err(self.trouble(what)),
        }
    }

    fn cryptsetup_open(&self, key: Key<'_>, aim: Aim, header: Option<&Path>) -> Result<Output, String> {
        let mut command = cryptsetup(["open", "--type", "luks", "--batch-mode"]);
        if self.options.discard {
            command.arg("--allow-discards");
        }
        if self.options.read_only {
            command.arg("--readonly");
        }
        add_header(&mut command, header);
        let secret = match key {
            Key::Passphrase(secret) => Some(secret),
            Key::ForSlot(secret, slot) => {
                command.arg("--key-slot").arg(slot.to_string());
                Some(secret)
            }
            Key::File(_) => None,
        };
        let path = match key {
            Key::File(path) => path,
            _ => Path::new("-"),
        };
        command.arg("--key-file").arg(path);
        match aim {
            Aim::Open => command.args(["--", &self.device, &self.name]),
            Aim::Test => command.args(["--test-passphrase", "--", &self.device]),
        };
        run(command, secret)
    }

    fn with_header<T>(&self, work: impl FnOnce(Option<&Path>) -> Result<T, String>) -> Result<T, Trouble> {
        let done = match &self.header {
            None => work(None),
            Some(header) => borrowed::with_header(header, |path| work(Some(path))),
        };
        done.map_err(|what| self.trouble(what))
    }

    fn trouble(&self, what: String) -> Trouble {
        Trouble {
            device: self.device.clone(),
            what,
        }
    }
}

/// Closes a mapped device.
///
/// # Errors
/// What cryptsetup says.
pub fn close(name: &str) -> Result<(), String> {
    let ended = run(cryptsetup(["close", "--", name]), None)?;
    match ended.status.success() {
        true => Ok(()),
        false => Err(last_words(&ended)),
    }
}

fn cryptsetup<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    program(CRYPTSETUP, args)
}

/// One of the image's own tools, speaking English, its output caught.
pub(crate) fn program<S: AsRef<OsStr>>(path: &str, args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(path);
    command.args(args).env("LC_ALL", "C").stdin(Stdio::null());
    command
}

fn add_header(command: &mut Command, header: Option<&Path>) {
    if let Some(header) = header {
        command.arg("--header").arg(header);
    }
}

/// Runs it to the end, with `secret` on its standard input.
pub(crate) fn run(mut command: Command, secret: Option<&Secret>) -> Result<Output, String> {
    let name = PathBuf::from(command.get_program());
    let name = name
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let failed = |error: std::io::Error| format!("{name}: {error}");
    let Some(secret) = secret else {
        return command.output().map_err(failed);
    };
    let piped = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = piped.spawn().map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // cryptsetup says nothing before it has read its key, so this cannot lock up; and it may end before it has read all.
        drop(stdin.write_all(secret.bytes()));
    }
    child.wait_with_output().map_err(failed)
}

/// What cryptsetup's end means.
#[derive(Debug, PartialEq, Eq)]
enum Meaning {
    Open,
    WrongKey,
    NoMemory,
    Other(String),
}

/// By its exit code, see cryptsetup(8), "RETURN CODES".
fn meaning(ended: &Output) -> Meaning {
    const SIGKILL: i32 = 9;
    match ended.status.code() {
        Some(0) => Meaning::Open,
        Some(2) => Meaning::WrongKey,
        Some(3) => Meaning::NoMemory,
        // The kernel's out-of-memory killer.
        None if ended.status.signal() == Some(SIGKILL) => Meaning::NoMemory,
        _ => Meaning::Other(last_words(ended)),
    }
}

/// The last line that a tool said, for a sentence of ours.
pub(crate) fn last_words(output: &Output) -> String {
    let last = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes).into_owned();
        let line = text.lines().map(str::trim).rfind(|line| !line.is_empty());
        line.map(|line| line.trim_end_matches('.').to_owned())
    };
    last(&output.stderr)
        .or_else(|| last(&output.stdout))
        .unwrap_or_else(|| output.status.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::ExitStatus;

    fn ended(raw: i32, stderr: &str) -> Output {
        Output {
            status: ExitStatus::from_raw(raw),
            stdout: vec![],
            stderr: stderr.into(),
        }
    }

    #[test]
    fn cryptsetup_exit_codes_become_what_people_need_to_know() {
        assert_eq!(meaning(&ended(0, "")), Meaning::Open);
        assert_eq!(
            meaning(&ended(2 << 8, "No key available with this passphrase.\n")),
            Meaning::WrongKey
        );
        assert_eq!(meaning(&ended(3 << 8, "")), Meaning::NoMemory);
        assert_eq!(meaning(&ended(9, "")), Meaning::NoMemory);
        let other = meaning(&ended(4 << 8, "first\nDevice /dev/x does not exist.\n"));
        assert_eq!(other, Meaning::Other("Device /dev/x does not exist".into()));
    }
}
