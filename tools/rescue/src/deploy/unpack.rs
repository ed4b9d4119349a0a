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
use std::io::{self, BufReader, Read};
use std::process::{Child, ChildStdout, Stdio};
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
    Ok(match format {
        Format::Raw => Box::new(source),
        Format::Xz => {
            let kib = u32::try_from(memory >> 10).unwrap_or(u32::MAX);
            Box::new(XzReader::new_mem_limit(BufReader::new(source), true, kib))
        }
        Format::Zstd => Box::new(zstd(source, memory.min(LARGEST_WINDOW))?),
        Format::Gzip => Box::new(MultiGzDecoder::new(BufReader::with_capacity(PIECE, source))),
        Format::Zip => Box::new(Zip::new(source)),
        Format::Bzip2 => Box::new(Program::start("bunzip2", source)?),
    })
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
    ended: bool,
}

impl Program {
    fn start(name: &'static str, mut source: Receiver) -> anyhow::Result<Program> {
        let mut child = tool::command(name, ["-c"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context(name)?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let (mut input, output) = input.zip(output).context(name)?;
        let feeder = std::thread::Builder::new()
            .name("feed".to_owned())
            .spawn(move || io::copy(&mut source, &mut input))
            .context("feeding thread")?;
        Ok(Program {
            name,
            child,
            output,
            feeder: Some(feeder),
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
        let said = said.lines().last().unwrap_or_default().trim();
        match fed {
            Some(Ok(Err(error))) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
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
    fn what_each_packer_makes_is_unpacked_and_what_is_cut_is_not() {
        let image = image();
        for program in ["gzip", "xz", "zstd", "bzip2"] {
            let whole = packed(program, &image);
            assert!(unpacked(&whole).unwrap() == image, "{program}");
            for cut in [whole.len() - 1, whole.len() - 9, whole.len() / 2, 12] {
                assert!(unpacked(&whole[..cut]).is_err(), "{program} cut at {cut}");
            }
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
