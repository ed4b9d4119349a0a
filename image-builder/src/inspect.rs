//! `image-builder inspect`: what is in an initramfs or a squashfs, and what is wrong with it.

mod initramfs;
mod squashfs;

pub use squashfs::problems;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use argh::FromArgs;
use lifeboot_contract::image::{ImageInfo, ListingEntry, write_listing};
use serde::Serialize;

use crate::sign;

/// show what is in an initramfs or a squashfs image
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "inspect",
    example = "image-builder inspect target/image/initramfs.cpio.zst",
    example = "image-builder inspect --key os.pub --kernel 7.2.12+deb13-arm64 debian.squashfs",
    note = "The exit code is 1 when something is wrong: damage, a sentinel that does not fit, a bad signature, no init, no modules \
            for the kernel of --kernel. Of a squashfs its tables are read and the data of its files is not: that every byte is as it \
            was made is said by the signature alone, which wants --key."
)]
pub struct Arguments {
    /// print every entry: TYPE MODE SIZE PATH
    #[argh(switch)]
    list: bool,
    /// print JSON
    #[argh(switch)]
    json: bool,
    /// minisign public key to check FILE.minisig with
    #[argh(option, arg_name = "file")]
    key: Option<PathBuf>,
    /// say whether modules for this kernel are in it
    #[argh(option, arg_name = "release")]
    kernel: Option<String>,
    /// the image
    #[argh(positional)]
    file: PathBuf,
}

/// What was found, the JSON form.
#[derive(Debug, Default, Serialize)]
struct Findings {
    kind: &'static str,
    size: u64,
    compression: Option<String>,
    /// Bytes of all files together.
    unpacked: u64,
    entries: usize,
    /// Entries left out of the listing because their names are not UTF-8.
    unnamed: usize,
    /// Only of an image this builder made.
    image: Option<ImageInfo>,
    /// From os-release, of an OS image.
    system: Option<String>,
    /// What would be executed first.
    init: Option<String>,
    /// Releases there are modules for, with how many.
    kernels: Vec<(String, usize)>,
    /// Whether modules for the kernel asked about are there.
    has_kernel: Option<bool>,
    signature: Option<Signature>,
    /// What is wrong.
    problems: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    listing: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Signature {
    /// With the trusted comment.
    Good(String),
    Bad(String),
    NotChecked,
}

/// Prints what is found; an error when something is wrong with it.
pub fn run(arguments: &Arguments) -> Result<()> {
    let file = &arguments.file;
    let about = || file.display().to_string();
    let mut magic = [0_u8; 4];
    let size = fs::metadata(file).with_context(about)?.len();
    if size < 4 {
        bail!(
            "{}: {size} bytes are neither an initramfs nor a squashfs",
            file.display()
        );
    }
    std::io::Read::read_exact(&mut fs::File::open(file).with_context(about)?, &mut magic)
        .with_context(about)?;
    let (mut findings, entries) = if &magic == b"hsqs" {
        squashfs::read(file).with_context(about)?
    } else {
        initramfs::read(&fs::read(file).with_context(about)?).with_context(about)?
    };
    findings.size = size;
    findings.entries = entries.len();
    findings.unpacked = entries.iter().map(|entry| entry.size).sum();
    findings.kernels = kernels(&entries);
    findings.has_kernel = arguments
        .kernel
        .as_ref()
        .map(|release| findings.kernels.iter().any(|(known, _)| known == release));
    if let (Some(false), Some(release)) = (findings.has_kernel, &arguments.kernel) {
        findings.problems.push(format!("no modules for kernel {release}"));
    }
    findings.signature = signature(file, arguments.key.as_deref())?;
    match &findings.signature {
        Some(Signature::Bad(why)) => findings.problems.push(format!("signature: {why}")),
        None if arguments.key.is_some() => findings.problems.push("no signature beside it".to_owned()),
        _ => {}
    }
    if arguments.list {
        findings.listing = write_listing(&entries).lines().map(str::to_owned).collect();
    }
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&findings)?);
    } else {
        print!("{}", text(&findings));
    }
    match findings.problems.as_slice() {
        [] => Ok(()),
        problems => bail!("{}: {}", file.display(), problems.join("; ")),
    }
}

/// Releases that have a directory of modules.
fn kernels(entries: &[ListingEntry]) -> Vec<(String, usize)> {
    let mut found: Vec<(String, usize)> = Vec::new();
    for entry in entries {
        let path = entry.path.strip_prefix("usr/").unwrap_or(&entry.path);
        let Some((release, rest)) = path
            .strip_prefix("lib/modules/")
            .and_then(|path| path.split_once('/'))
        else {
            continue;
        };
        let module = rest.rsplit('/').next().is_some_and(|name| name.contains(".ko")) && entry.kind == 'f';
        match found.iter_mut().find(|(known, _)| known == release) {
            Some((_, count)) => *count += usize::from(module),
            None => found.push((release.to_owned(), usize::from(module))),
        }
    }
    found.retain(|(_, count)| *count > 0);
    found
}

fn signature(file: &Path, key: Option<&Path>) -> Result<Option<Signature>> {
    let path = sign::signature_path(file);
    if !path.exists() {
        return Ok(None);
    }
    let Some(key) = key else {
        return Ok(Some(Signature::NotChecked));
    };
    let key = minisign::PublicKey::from_file(key).with_context(|| key.display().to_string())?;
    let signature = match minisign::SignatureBox::from_file(&path) {
        Ok(signature) => signature,
        Err(error) => return Ok(Some(Signature::Bad(error.to_string()))),
    };
    let open = fs::File::open(file).with_context(|| file.display().to_string())?;
    Ok(Some(
        match minisign::verify(&key, &signature, open, true, false, false) {
            Ok(()) => Signature::Good(signature.trusted_comment().unwrap_or_default()),
            Err(error) => Signature::Bad(error.to_string()),
        },
    ))
}

fn text(findings: &Findings) -> String {
    let or_none = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".to_owned());
    let entries = format!("{}, {} bytes unpacked", findings.entries, findings.unpacked);
    let mut lines = vec![
        ("kind", findings.kind.to_owned()),
        ("size", format!("{} bytes", findings.size)),
        ("compression", or_none(&findings.compression)),
        ("entries", entries),
    ];
    if findings.unnamed > 0 {
        lines.push(("not listed", format!("{} names are not UTF-8", findings.unnamed)));
    }
    if let Some(image) = &findings.image {
        let (name, version, board) = (&image.name, &image.version, &image.board);
        let made = format!(
            "{name} {version} for {board} ({}), built at {}",
            image.arch, image.build_time
        );
        lines.push(("image", made));
        lines.push(("kernel", image.kernel.clone()));
        lines.push(("features", image.features.join(" ")));
    }
    lines.extend(findings.system.clone().map(|system| ("system", system)));
    lines.push(("init", or_none(&findings.init)));
    for (release, count) in &findings.kernels {
        lines.push(("modules", format!("{count} for {release}")));
    }
    let asked = |present| {
        if present {
            "its modules are there"
        } else {
            "has no modules here"
        }
    };
    lines.extend(
        findings
            .has_kernel
            .map(|present| ("asked kernel", asked(present).to_owned())),
    );
    lines.push(("signature", signature_text(findings.signature.as_ref())));
    let mut text: String = lines
        .iter()
        .map(|(name, value)| format!("{name:<13}{value}\n"))
        .collect();
    text.extend(findings.listing.iter().map(|line| format!("{line}\n")));
    text
}

fn signature_text(signature: Option<&Signature>) -> String {
    match signature {
        None => "none".to_owned(),
        Some(Signature::Good(comment)) => format!("good: {comment}"),
        Some(Signature::Bad(why)) => format!("bad: {why}"),
        Some(Signature::NotChecked) => "there, not checked (--key)".to_owned(),
    }
}
