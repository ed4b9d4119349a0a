//! `image-builder squashfs`: an OS image from a directory or a tarball.
//!
//! Everything goes as one tar stream into upstream's `tar2sqfs`, because that is the one of its tools that keeps hard
//! links, and because a stream has an order: the same input gives the same bytes. See docs/adr/0006.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, anyhow, bail};
use argh::FromArgs;

use crate::tarball::{self, Owner};

/// make a squashfs image from a directory or a tarball
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "squashfs",
    example = "image-builder squashfs rootfs.tar debian.squashfs",
    example = "image-builder squashfs --root-owned ./rootfs debian.squashfs",
    note = "Ownership, extended attributes, device nodes and hard links are kept. The tools tar2sqfs is part of are in the Debian \
            package squashfs-tools-ng."
)]
pub struct Arguments {
    /// zstd level, 1 to 22, 15 by default
    #[argh(option, arg_name = "n", default = "15")]
    level: u32,
    /// block size in bytes, a power of two from 4096 to 1048576, 262144 by default
    #[argh(option, arg_name = "bytes", default = "262144")]
    block_size: u32,
    /// of a directory: let root own everything
    #[argh(switch)]
    root_owned: bool,
    /// of a directory: no time later than this, seconds since 1970; default $SOURCE_DATE_EPOCH
    #[argh(option, arg_name = "seconds")]
    clamp_time: Option<u64>,
    /// directory or tarball, compressed or not; /dev/stdin is a tarball too
    #[argh(positional)]
    source: PathBuf,
    /// image to write
    #[argh(positional)]
    image: PathBuf,
}

/// Makes the image.
pub fn run(arguments: &Arguments) -> Result<()> {
    if !(1..=22).contains(&arguments.level) {
        bail!("zstd has the levels 1 to 22, not {}", arguments.level);
    }
    let size = arguments.block_size;
    if !size.is_power_of_two() || !(4096..=1 << 20).contains(&size) {
        bail!("block size {size}: must be a power of two from 4096 to 1048576");
    }
    let directory = arguments
        .image
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let fresh = tempfile::Builder::new()
        .prefix(".squashfs-")
        .tempdir_in(directory.unwrap_or(Path::new(".")))
        .with_context(|| arguments.image.display().to_string())?;
    let image = fresh.path().join("image");
    let mut child = start(arguments, &image)?;
    let input = child.stdin.take().context("tar2sqfs: no input")?;
    let mut input = BufWriter::with_capacity(1 << 20, input);
    let sent = send(arguments, &mut input).and_then(|()| Ok(input.flush()?));
    drop(input);
    let output = child.wait_with_output().context("tar2sqfs")?;
    let complaints = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        // When the reader gave up, its reason is the one that counts, not the broken pipe.
        if let Err(error) = sent
            && !is_broken_pipe(&error)
        {
            return Err(error);
        }
        bail!(
            "{}: tar2sqfs: {}: {}",
            arguments.source.display(),
            output.status,
            complaints.trim()
        );
    }
    sent?;
    for line in complaints.lines().filter(|line| !line.trim().is_empty()) {
        eprintln!("{}: {line}", arguments.source.display());
    }
    fs::rename(&image, &arguments.image).with_context(|| arguments.image.display().to_string())?;
    let size = fs::metadata(&arguments.image)
        .with_context(|| arguments.image.display().to_string())?
        .len();
    println!("{}: {size} bytes", arguments.image.display());
    Ok(())
}

fn start(arguments: &Arguments, image: &Path) -> Result<Child> {
    Command::new("tar2sqfs")
        // What squashfs has no place for, such as POSIX access lists, is left out with a word, not refused.
        .args(["--quiet", "--compressor", "zstd"])
        .arg("--comp-extra")
        .arg(format!("level={}", arguments.level))
        .arg("--block-size")
        .arg(arguments.block_size.to_string())
        .arg(image)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| anyhow!("tar2sqfs: {error}; it is in the Debian package squashfs-tools-ng"))
}

fn send(arguments: &Arguments, into: impl Write) -> Result<()> {
    let source = &arguments.source;
    let about = || source.display().to_string();
    if source.is_dir() {
        let owner = if arguments.root_owned {
            Owner::Root
        } else {
            Owner::AsFound
        };
        let clamp = match (arguments.clamp_time, std::env::var("SOURCE_DATE_EPOCH")) {
            (Some(time), _) => time,
            (None, Ok(text)) => text
                .parse()
                .with_context(|| format!("SOURCE_DATE_EPOCH={text}"))?,
            (None, Err(_)) => u64::MAX,
        };
        return tarball::write(source, owner, clamp, into);
    }
    let file = BufReader::new(File::open(source).with_context(about)?);
    pass_tar(file, into).with_context(about)
}

/// Hands a tarball on, decompressed, and checks on the way that it is one and whole: `tar2sqfs` takes the end of its
/// input for the end of the archive, wherever that comes.
fn pass_tar(mut from: impl BufRead, into: impl Write) -> Result<()> {
    let first = from.fill_buf()?.get(..4).unwrap_or_default().to_vec();
    let plain: Box<dyn Read + '_> = match first.as_slice() {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(from)),
        [0xfd, b'7', b'z', b'X'] => Box::new(liblzma::bufread::XzDecoder::new_multi_decoder(from)),
        [0x28, 0xb5, 0x2f, 0xfd] => Box::new(zstd::Decoder::with_buffer(from)?),
        _ => Box::new(from),
    };
    let mut tee = Tee {
        from: plain,
        into,
        zeros: 0,
    };
    let mut count = 0;
    let mut archive = tar::Archive::new(&mut tee);
    for entry in archive.entries()? {
        entry.with_context(|| format!("not a tar archive, or damaged, after {count} entries"))?;
        count += 1;
    }
    io::copy(&mut tee, &mut io::sink())?;
    if count == 0 {
        bail!("no tar archive, or an empty one");
    }
    if tee.zeros < 1024 {
        bail!("cut short after {count} entries");
    }
    Ok(())
}

/// Reads, and writes what was read.
struct Tee<R, W> {
    from: R,
    into: W,
    /// Zeros at the end so far: an archive ends in two blocks of them.
    zeros: usize,
}

impl<R: Read, W: Write> Read for Tee<R, W> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(buffer)?;
        let bytes = buffer.get(..count).unwrap_or_default();
        self.into.write_all(bytes)?;
        let zeros = bytes.iter().rev().take_while(|byte| **byte == 0).count();
        self.zeros = if zeros == count { self.zeros + zeros } else { zeros };
        Ok(count)
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>());
    io.is_some_and(|io| io.kind() == io::ErrorKind::BrokenPipe)
}
