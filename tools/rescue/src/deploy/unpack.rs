//! Unpacking as the bytes come: here, but for bzip2, which the image has a program for.
//!
//! None of them ends well on a source that is cut: a raw one is told by its length, the others by their own marks.

use super::format::Format;
use super::pipe::Receiver;
use super::zip::Zip;
use crate::tool;
use anyhow::Context as _;
use flate2::bufread::MultiGzDecoder;
use lifeboot_init::stage::fetch::mem_available;
use lzma_rust2::XzReader;
use std::io::{self, BufReader, ErrorKind, Read};
use std::process::{Child, ChildStdout, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use zstd::stream::read::Decoder;

/// The largest window of zstd that is taken, `zstd --long=27`; what memory there is may be less.
const LARGEST_WINDOW: u64 = 128 << 20;

/// Bytes that a decoder looks at without asking for more.
const PIECE: usize = 64 << 10;

/// The bytes of the image.
///
/// # Errors
/// A program that is needed cannot be started.
pub fn reader(format: Format, source: Receiver) -> anyhow::Result<Box<dyn Read + Send>> {
    // Half of what there is: the rest is for those who are logged in.
    let memory = mem_available().map_or(LARGEST_WINDOW, |available| available.0 / 2);
    let passed = Arc::new(Mutex::new(Passed::default()));
    let watched = Watched(source, Arc::clone(&passed));
    let unpacked: Box<dyn Read + Send> = match format {
        Format::Raw => return Ok(Box::new(watched.0)),
        Format::Xz => {
            let kib = u32::try_from(memory >> 10).unwrap_or(u32::MAX);
            Box::new(XzReader::new_mem_limit(BufReader::new(watched), true, kib))
        }
        Format::Zstd => Box::new(zstd(watched, memory.min(LARGEST_WINDOW))?),
        Format::Gzip => Box::new(MultiGzDecoder::new(BufReader::with_capacity(PIECE, watched))),
        Format::Zip => Box::new(Zip::new(watched)),
        Format::Bzip2 => Box::new(Program::start("bunzip2", watched)?),
    };
    Ok(Box::new(Told(unpacked, passed)))
}

/// What a packer was given.
#[derive(Default)]
struct Passed {
    count: u64,
    /// The last bytes of it.
    last: u128,
}

impl Passed {
    /// Whether it ends as bzip2 does: a mark of 48 bits, a checksum of 32, and what is missing to a byte.
    fn has_end_of_bzip2(&self) -> bool {
        const MARK: u128 = 0x1772_4538_5090;
        (0..8).any(|missing| self.last >> (missing + 32) & 0xFFFF_FFFF_FFFF == MARK)
    }
}

/// A source that is watched.
struct Watched(Receiver, Arc<Mutex<Passed>>);

impl Read for Watched {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.0.read(buffer)?;
        let mut passed = self.1.lock().unwrap_or_else(PoisonError::into_inner);
        passed.count += count as u64;
        let last = count.saturating_sub(size_of::<u128>())..count;
        for byte in buffer.get(last).unwrap_or_default() {
            passed.last = passed.last << 8 | u128::from(*byte);
        }
        Ok(count)
    }
}

/// Says in the same words of every packer that there should be more.
struct Told(Box<dyn Read + Send>, Arc<Mutex<Passed>>);

impl Read for Told {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer).map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => {
                let count = self.1.lock().unwrap_or_else(PoisonError::into_inner).count;
                let what = format!("the packed image ends in the middle, after {count} bytes");
                io::Error::new(ErrorKind::UnexpectedEof, what)
            }
            _ => error,
        })
    }
}

/// Frame after frame, with windows of that many bytes at most.
fn zstd<R: Read>(source: R, largest_window: u64) -> io::Result<Decoder<'static, BufReader<R>>> {
    let mut decoder = Decoder::with_buffer(BufReader::with_capacity(PIECE, source))?;
    // The largest power of two that is no more.
    decoder.window_log_max(largest_window.max(1 << 10).ilog2())?;
    Ok(decoder)
}

/// A program between two pipes.
struct Program {
    name: &'static str,
    child: Child,
    output: ChildStdout,
    feeder: Option<JoinHandle<io::Result<u64>>>,
    passed: Arc<Mutex<Passed>>,
    ended: bool,
}

impl Program {
    fn start(name: &'static str, mut source: Watched) -> anyhow::Result<Program> {
        let mut child = tool::command(name, ["-c"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context(name)?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let (mut input, output) = input.zip(output).context(name)?;
        let passed = Arc::clone(&source.1);
        let feeder = std::thread::Builder::new()
            .name("feed".to_owned())
            .spawn(move || io::copy(&mut source, &mut input))
            .context("feeding thread")?;
        Ok(Program {
            name,
            child,
            output,
            feeder: Some(feeder),
            passed,
            ended: false,
        })
    }

    /// Everything has been read: was it everything there is?
    fn conclude(&mut self) -> io::Result<()> {
        let mut said = String::new();
        if let Some(mut errors) = self.child.stderr.take() {
            errors.read_to_string(&mut said)?;
        }
        let fed = self.feeder.take().map(JoinHandle::join);
        let status = self.child.wait()?;
        self.ended = true;
        let ends = self
            .passed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .has_end_of_bzip2();
        let said = said.lines().last().unwrap_or_default().trim();
        match fed {
            Some(Ok(Err(error))) if error.kind() != ErrorKind::BrokenPipe => Err(error),
            // It took everything; in whose words it complains depends on who made it.
            Some(Ok(Ok(_))) if !status.success() && !ends => Err(ErrorKind::UnexpectedEof.into()),
            _ if !status.success() && said.is_empty() => {
                Err(io::Error::other(format!("{}: {status}", self.name)))
            }
            _ if !status.success() => Err(io::Error::other(said.to_owned())),
            Some(Ok(Ok(_))) => Ok(()),
            _ => Err(io::Error::other(format!("{}: ended before its input", self.name))),
        }
    }
}

impl Read for Program {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.output.read(buffer)?;
        if count == 0 && !buffer.is_empty() && !self.ended {
            self.conclude()?;
        }
        Ok(count)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if !self.ended {
            crate::output::ignore(self.child.kill());
            crate::output::ignore(self.child.wait().map(drop));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::pipe;
    use super::*;
    use std::io::Write as _;
    use std::process::Command;

    /// `bytes` packed by the program of that name.
    fn packed(program: &str, bytes: &[u8]) -> Vec<u8> {
        let mut child = Command::new(program)
            .arg("-c")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        let bytes = bytes.to_vec();
        let feeder = std::thread::spawn(move || input.write_all(&bytes));
        let output = child.wait_with_output().unwrap();
        feeder.join().unwrap().unwrap();
        output.stdout
    }

    fn unpacked(packed: &[u8]) -> Result<Vec<u8>, String> {
        let (sender, receiver) = pipe::new();
        let format = Format::of(packed).unwrap();
        let pieces: Vec<Vec<u8>> = packed.chunks(10_000).map(<[u8]>::to_vec).collect();
        let feeder = std::thread::spawn(move || {
            let taken = pieces.into_iter().all(|piece| sender.bytes(piece));
            taken && sender.end()
        });
        let mut bytes = Vec::new();
        // Some readers begin to read when they are made.
        let mut reader = reader(format, receiver).unwrap();
        let read = reader.read_to_end(&mut bytes);
        drop(reader);
        feeder.join().unwrap();
        read.map(|_| bytes).map_err(|error| error.to_string())
    }

    fn image() -> Vec<u8> {
        (0..700_000_u32)
            .flat_map(|n| (n / 3).wrapping_mul(n).to_le_bytes())
            .collect()
    }

    #[test]
    fn what_each_packer_makes_is_unpacked_and_what_is_cut_is_said_to_be() {
        let image = image();
        for program in ["gzip", "xz", "zstd", "bzip2"] {
            let whole = packed(program, &image);
            assert!(unpacked(&whole).unwrap() == image, "{program}");
            for cut in [whole.len() - 1, whole.len() - 9, whole.len() / 2, 12] {
                let said = unpacked(&whole[..cut]).unwrap_err();
                let expected = format!("the packed image ends in the middle, after {cut} bytes");
                assert_eq!(said, expected, "{program}");
            }
        }
    }

    #[test]
    fn it_is_cut_wherever_it_is_cut_and_not_cut_when_it_is_damaged() {
        // Packed, a few hundred bytes; each format is known by ten.
        let image = &image()[..900];
        for program in ["gzip", "xz", "zstd", "bzip2"] {
            let whole = packed(program, image);
            let step = if program == "bzip2" { 37 } else { 1 };
            for cut in (10..whole.len()).step_by(step) {
                let said = unpacked(&whole[..cut]).unwrap_err();
                assert!(
                    said.contains("ends in the middle"),
                    "{program} cut at {cut}: {said}"
                );
            }
            let mut damaged = whole.clone();
            damaged[whole.len() / 2] ^= 1;
            let said = unpacked(&damaged).unwrap_err();
            assert!(!said.contains("ends in the middle"), "{program}: {said}");
        }
    }

    #[test]
    fn two_files_behind_one_another_are_both_unpacked() {
        for program in ["gzip", "xz", "zstd", "bzip2"] {
            let both = [packed(program, b"one "), packed(program, b"two")].concat();
            assert_eq!(unpacked(&both).unwrap(), b"one two", "{program}");
        }
    }

    #[test]
    fn a_skippable_frame_is_skipped_and_must_be_whole() {
        let skip = b"\x51\x2a\x4d\x18\x03\0\0\0abc";
        let frame = packed("zstd", b"content");
        assert_eq!(unpacked(&[skip, &frame[..]].concat()).unwrap(), b"content");
        assert_eq!(unpacked(&[&frame[..], skip].concat()).unwrap(), b"content");
        assert!(unpacked(&[&frame[..], &skip[..10]].concat()).is_err());
    }

    #[test]
    fn a_window_that_memory_does_not_allow_is_refused() {
        let frame = packed("zstd", &image());
        let read = |window| zstd(&frame[..], window).unwrap().read_to_end(&mut Vec::new());
        assert!(read(8 << 20).is_ok());
        assert!(read(64 << 10).is_err());
    }
}
