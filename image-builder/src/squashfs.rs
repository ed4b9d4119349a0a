//! `image-builder squashfs`: an OS image from a disk image, a tarball or a directory.
//!
//! Everything goes as one tar stream into upstream's `tar2sqfs`, because that is the one of its tools that keeps hard
//! links, and because a stream has an order: the same input gives the same bytes. See docs/adr/0006. On its way it is made
//! fit to run from RAM.

mod adapt;
mod fstab;
mod kernel_modules;
mod names;
pub mod node;
mod pack;
mod scratch;
mod source;

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use argh::FromArgs;

use crate::board::Board;
use crate::disk_image;
use crate::inspect;
use crate::replaced;
use crate::sign;
use crate::tarball;
use crate::tree::Tree;
use adapt::{Adapt, Choice, Kernel, Wishes};
use pack::{Compressor, Packer};
use scratch::Scratch;
use source::Owner;

/// make an OS image, a squashfs, from a disk image, a tarball or a directory
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "squashfs",
    example = "image-builder squashfs --from-image raspios.img.xz --for-image target/image raspios.squashfs",
    example = "image-builder squashfs rootfs.tar debian.squashfs",
    example = "image-builder squashfs --root-owned ./rootfs debian.squashfs",
    note = "Ownership, extended attributes, device nodes and hard links are kept. So that the system can run from RAM, lines of \
            fstab that name its card are commented out, its machine-id is emptied, its ssh host keys are left out and \
            what would grow or swap to the card is masked. The tools tar2sqfs is part of are in the Debian package \
            squashfs-tools-ng."
)]
pub struct Arguments {
    /// disk image with the system, compressed or not (.img, .xz, .zst, .gz, .zip)
    #[argh(option, arg_name = "file")]
    from_image: Option<PathBuf>,
    /// tarball with the system, compressed or not
    #[argh(option, arg_name = "file")]
    from_tar: Option<PathBuf>,
    /// directory with the system
    #[argh(option, arg_name = "dir")]
    from_dir: Option<PathBuf>,
    /// leave fstab as it is: keep; default ram
    #[argh(option, arg_name = "how", default = "String::from(\"ram\")")]
    fstab: String,
    /// leave what grows or swaps to the card unmasked: keep; default ram
    #[argh(option, arg_name = "how", default = "String::from(\"ram\")")]
    services: String,
    /// keep the ssh host keys; whoever can fetch the image then has them
    #[argh(switch)]
    keep_ssh_host_keys: bool,
    /// finished build of the rescue image: its kernel's modules must be there, its board must read the compression
    #[argh(option, arg_name = "dir")]
    for_image: Option<PathBuf>,
    /// release of the kernel whose modules must be there
    #[argh(option, arg_name = "release")]
    kernel: Option<String>,
    /// directory or disk image to take that kernel's modules from if they are not
    #[argh(option, arg_name = "path")]
    modules_from: Option<PathBuf>,
    /// board whose kernels must read the compression
    #[argh(option, arg_name = "name")]
    board: Option<String>,
    /// zstd (default), xz, gzip, lzo or lz4
    #[argh(option, arg_name = "name", default = "String::from(\"zstd\")")]
    compression: String,
    /// level: zstd 1 to 22, 15 by default; xz 0 to 9; gzip and lzo 1 to 9
    #[argh(option, arg_name = "n")]
    level: Option<u32>,
    /// block size in bytes, a power of two from 4096 to 1048576, 262144 by default
    #[argh(option, arg_name = "bytes", default = "262144")]
    block_size: u32,
    /// of a directory: let root own everything
    #[argh(switch)]
    root_owned: bool,
    /// no time later than this, seconds since 1970; default $SOURCE_DATE_EPOCH
    #[argh(option, arg_name = "seconds")]
    clamp_time: Option<u64>,
    /// minisign secret key to sign the image with; IMAGE.minisig is written beside it
    #[argh(option, arg_name = "file")]
    sign: Option<PathBuf>,
    /// file whose first line is that key's password
    #[argh(option, arg_name = "file")]
    password_file: Option<PathBuf>,
    /// version to sign, numbers with dots between them, 0 by default; a device may refuse an older one than it knows
    #[argh(option, arg_name = "version")]
    image_version: Option<sign::ImageVersion>,
    /// image to write; before it may stand a tarball or a directory, for --from-tar or --from-dir
    #[argh(positional, arg_name = "image")]
    paths: Vec<PathBuf>,
}

/// Where the system comes from.
enum From {
    Tree(Tree),
    Tar(PathBuf),
}

/// Makes the image.
pub fn run(arguments: &Arguments) -> Result<()> {
    let (from, image) = from_and_image(arguments)?;
    for source in [Some(from.path()), arguments.modules_from.as_deref()] {
        replaced::check(source, &image)?;
    }
    for (given, flag) in [
        (arguments.image_version.is_some(), "--image-version"),
        (arguments.password_file.is_some(), "--password-file"),
    ] {
        if given && arguments.sign.is_none() {
            bail!("{flag}: is for --sign, which is not given");
        }
    }
    let (release, board) = asked_for(arguments)?;
    let compressor = Compressor::named(&arguments.compression)?;
    compressor.options(arguments.level)?;
    if let Some(board) = board {
        compressor.check(&Board::load(&board, None)?)?;
    }
    let size = arguments.block_size;
    if !size.is_power_of_two() || !(4096..=1 << 20).contains(&size) {
        bail!("block size {size}: must be a power of two from 4096 to 1048576");
    }
    let fresh = Scratch::beside(&image)?;
    let wishes = wishes(arguments, release, fresh.path())?;
    let key = arguments
        .sign
        .as_deref()
        .map(|key| sign::Key::read(key, arguments.password_file.as_deref()))
        .transpose()?;
    let from = open(from, &wishes, fresh.path())?;
    let unfinished = fresh.path().join("image");
    let notes = pack(arguments, &from, &wishes, compressor, &unfinished)?;
    let source = from.name();
    for note in notes.into_iter().chain(inspect::problems(&unfinished)) {
        eprintln!("{source}: {note}");
    }
    put_in_place(arguments, key.as_ref(), &unfinished, &image)
}

/// The one source there must be, unopened, and the image.
fn from_and_image(arguments: &Arguments) -> Result<(Named, PathBuf)> {
    let mut named: Vec<Named> = Vec::new();
    named.extend(arguments.from_image.clone().map(Named::Image));
    named.extend(arguments.from_tar.clone().map(Named::Tar));
    named.extend(arguments.from_dir.clone().map(Named::Directory));
    let image = match arguments.paths.as_slice() {
        [image] => image,
        [source, image] => {
            named.push(if source.is_dir() {
                Named::Directory(source.clone())
            } else {
                Named::Tar(source.clone())
            });
            image
        }
        [] => bail!("no image to write is named"),
        more => bail!("{} paths; at most a source and the image to write", more.len()),
    };
    match (named.pop(), named.is_empty()) {
        (Some(named), true) => Ok((named, image.clone())),
        (Some(_), false) => bail!("several sources; one of --from-image, --from-tar and --from-dir"),
        (None, _) => bail!("no source; one of --from-image, --from-tar and --from-dir"),
    }
}

enum Named {
    Image(PathBuf),
    Tar(PathBuf),
    Directory(PathBuf),
}

impl Named {
    fn path(&self) -> &Path {
        let (Self::Image(path) | Self::Tar(path) | Self::Directory(path)) = self;
        path
    }
}

/// Opens the source; a system that lacks the kernel's modules is refused before an hour goes into it.
fn open(named: Named, wishes: &Wishes, scratch: &Path) -> Result<From> {
    let tree = match named {
        Named::Tar(path) => return Ok(From::Tar(path)),
        Named::Image(path) => disk_image::open(&path, scratch)?,
        Named::Directory(path) => Tree::open(&path)?,
    };
    if let Some(kernel) = &wishes.kernel
        && kernel.modules_from.is_none()
        && !kernel_modules::are_in(&tree, &kernel.release)?
    {
        let refusal = kernel_modules::refusal(&kernel.release, &kernel_modules::releases(&tree)?);
        bail!("{}: {refusal}", tree.name());
    }
    Ok(From::Tree(tree))
}

impl From {
    fn name(&self) -> String {
        match self {
            Self::Tree(tree) => tree.name().to_owned(),
            Self::Tar(path) => path.display().to_string(),
        }
    }
}

/// The kernel and the board that were named, by the finished build or by themselves.
fn asked_for(arguments: &Arguments) -> Result<(Option<String>, Option<String>)> {
    let (mut kernel, mut board) = (arguments.kernel.clone(), arguments.board.clone());
    if let Some(directory) = &arguments.for_image {
        let path = directory.join("manifest.json");
        let about = || path.display().to_string();
        let manifest: serde_json::Value =
            serde_json::from_slice(&fs::read(&path).with_context(about)?).with_context(about)?;
        let field = |name: &str| -> Result<String> {
            let text = manifest
                .pointer(&format!("/image/{name}"))
                .and_then(|value| value.as_str());
            Ok(text
                .with_context(|| format!("{}: no image.{name}", about()))?
                .to_owned())
        };
        let (built_kernel, built_board) = (field("kernel")?, field("board")?);
        if let Some(kernel) = kernel.filter(|kernel| *kernel != built_kernel) {
            bail!("--kernel {kernel}: {} boots {built_kernel}", directory.display());
        }
        kernel = Some(built_kernel);
        board = board.or(Some(built_board));
    }
    if kernel.is_none() && arguments.modules_from.is_some() {
        bail!("--modules-from: of which kernel? name it with --kernel or --for-image");
    }
    Ok((kernel, board))
}

fn wishes(arguments: &Arguments, release: Option<String>, scratch: &Path) -> Result<Wishes> {
    let choice = |flag: &str, how: &str| match how {
        "ram" => Ok(Choice::Adapt),
        "keep" => Ok(Choice::Keep),
        _ => bail!("{flag} {how}: 'ram' or 'keep'"),
    };
    let modules_from = match &arguments.modules_from {
        None => None,
        Some(path) if path.is_dir() => Some(Tree::open(path)?),
        Some(path) => Some(disk_image::open(path, scratch)?),
    };
    Ok(Wishes {
        fstab: choice("--fstab", &arguments.fstab)?,
        services: choice("--services", &arguments.services)?,
        host_keys: if arguments.keep_ssh_host_keys {
            Choice::Keep
        } else {
            Choice::Adapt
        },
        kernel: release.map(|release| Kernel {
            release,
            modules_from,
        }),
    })
}

/// Streams the source into the program that writes the image; what was done, and what it complained about.
fn pack(
    arguments: &Arguments,
    from: &From,
    wishes: &Wishes,
    compressor: Compressor,
    image: &Path,
) -> Result<Vec<String>> {
    let clamp = clamp(arguments)?;
    let held = File::create(image).with_context(|| image.display().to_string())?;
    let mut packer = Packer::start(compressor, arguments.level, arguments.block_size, image)?;
    let input = BufWriter::with_capacity(1 << 20, packer.input()?);
    let sent = send(
        arguments,
        from,
        Adapt::new(tarball::Writer::new(input, clamp), wishes),
    );
    match (sent, packer.finish()) {
        (Ok(mut notes), Ok(complaints)) => {
            notes.extend(complaints.lines().map(str::to_owned));
            Ok(notes)
        }
        // When the reader gave up, its reason is the one that counts, not the broken pipe.
        (Err(sent), Err(why)) if is_broken_pipe(&sent) => Err(scratch::with_space(why, &held)),
        (Err(sent), _) => Err(sent),
        (Ok(_), Err(why)) => Err(scratch::with_space(why, &held)),
    }
    .with_context(|| from.name())
}

fn send<W: Write>(
    arguments: &Arguments,
    from: &From,
    mut into: Adapt<tarball::Writer<W>>,
) -> Result<Vec<String>> {
    match from {
        From::Tree(tree) => {
            let owner = if arguments.root_owned {
                Owner::Root
            } else {
                Owner::AsFound
            };
            source::send(tree, owner, &mut into)?;
        }
        From::Tar(path) => {
            let file = BufReader::with_capacity(1 << 20, File::open(path)?);
            tarball::read(tarball::plain(file)?, &mut into)?;
        }
    }
    let (writer, notes) = into.finish()?;
    writer.finish()?;
    Ok(notes)
}

fn clamp(arguments: &Arguments) -> Result<u64> {
    match (arguments.clamp_time, std::env::var("SOURCE_DATE_EPOCH")) {
        (Some(time), _) => Ok(time),
        (None, Ok(text)) => text.parse().with_context(|| format!("SOURCE_DATE_EPOCH={text}")),
        (None, Err(_)) => Ok(u64::MAX),
    }
}

/// Signs what was made and moves both to where they belong.
fn put_in_place(
    arguments: &Arguments,
    key: Option<&sign::Key>,
    unfinished: &Path,
    image: &Path,
) -> Result<()> {
    let about = || image.display().to_string();
    let signature = sign::signature_path(image);
    match key {
        Some(key) => {
            let name = image.file_name().with_context(about)?.to_string_lossy();
            let text = key.sign(
                unfinished,
                &name,
                &arguments.image_version.clone().unwrap_or_default(),
            )?;
            let beside = sign::signature_path(unfinished);
            fs::write(&beside, text).with_context(|| beside.display().to_string())?;
            fs::rename(&beside, &signature).with_context(|| signature.display().to_string())?;
        }
        None if signature.exists() => eprintln!(
            "{}: is the signature of the image that was there before",
            signature.display()
        ),
        None => {}
    }
    fs::rename(unfinished, image).with_context(about)?;
    let size = fs::metadata(image).with_context(about)?.len();
    println!("{}: {size} bytes", image.display());
    if key.is_some() {
        println!("{}", signature.display());
    }
    Ok(())
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>());
    io.is_some_and(|io| io.kind() == io::ErrorKind::BrokenPipe)
}
