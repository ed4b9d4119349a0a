//! A disk image as it is downloaded: plain, or compressed with xz, zstd or gzip, or alone in a zip archive. What is unpacked
//! lies in a file without a name, which is gone with the process that made it, and takes no room for zeros.

mod xz;

use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Context, Result, anyhow, bail};

use super::medium::{Medium, Plain};

/// Zeros are left out in pieces of this size.
const PIECE: usize = 64 << 10;
/// Larger than any card an image is for.
const LARGEST: u64 = 1 << 41;

/// The bytes of the disk in an image, `scratch` being where there is room for them.
pub fn open(image: &Path, scratch: &Path) -> Result<Rc<dyn Medium>> {
    let about = || image.display().to_string();
    let file = File::open(image).with_context(about)?;
    let mut first = [0; 6];
    let plain = Plain::new(file.try_clone().with_context(about)?).with_context(about)?;
    if plain.length() < 512 {
        bail!("{}: {} bytes are no disk image", image.display(), plain.length());
    }
    file.read_exact_at(&mut first, 0).with_context(about)?;
    let scratch = Scratch {
        at: scratch.to_owned(),
    };
    let buffered = || -> Result<BufReader<File>> {
        let mut file = file.try_clone().with_context(about)?;
        file.rewind().with_context(about)?;
        Ok(BufReader::with_capacity(1 << 20, file))
    };
    Ok(match first {
        [0xfd, b'7', b'z', b'X', b'Z', 0] => Rc::new(xz::Unpacked::open(file, scratch).with_context(about)?),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            let reader = zstd::Decoder::new(buffered()?).with_context(about)?;
            Rc::new(scratch.unpack(reader, None).with_context(about)?)
        }
        [0x1f, 0x8b, ..] => {
            let reader = flate2::bufread::MultiGzDecoder::new(buffered()?);
            Rc::new(scratch.unpack(reader, None).with_context(about)?)
        }
        [b'P', b'K', 3, 4, ..] => Rc::new(zip(buffered()?, &scratch).with_context(about)?),
        [b'7', b'z', 0xbc, 0xaf, ..] => bail!("{}: 7z is not read here; unpack it first", image.display()),
        _ => Rc::new(plain),
    })
}

/// The one image in a zip archive.
fn zip(file: BufReader<File>, scratch: &Scratch) -> Result<Plain> {
    let mut archive = zip::ZipArchive::new(file)?;
    let mut images = Vec::new();
    for at in 0..archive.len() {
        let entry = archive.by_index_raw(at)?;
        let name = entry.name()?.into_owned();
        if entry.is_file() && name.to_ascii_lowercase().ends_with(".img") {
            images.push((at, name, entry.size()));
        }
    }
    match images.as_slice() {
        [(at, name, size)] => {
            let entry = archive.by_index(*at).with_context(|| name.clone())?;
            scratch.unpack(entry, Some(*size)).with_context(|| name.clone())
        }
        [] => bail!("no .img in the archive"),
        several => {
            let names: Vec<&str> = several.iter().map(|(_, name, _)| name.as_str()).collect();
            bail!("{} images in the archive: {}", names.len(), names.join(" "))
        }
    }
}

/// A directory with room for what is unpacked.
#[derive(Debug)]
struct Scratch {
    at: PathBuf,
}

impl Scratch {
    /// A file without a name.
    fn file(&self) -> Result<File> {
        std::fs::create_dir_all(&self.at).with_context(|| self.at.display().to_string())?;
        tempfile::tempfile_in(&self.at).with_context(|| self.at.display().to_string())
    }

    /// Refuses to start what cannot be finished.
    fn need(&self, bytes: u64) -> Result<()> {
        let about = |error| anyhow!("{}: {error}", self.at.display());
        let free = rustix::fs::statvfs(&self.at).map_err(about)?;
        let free = free.f_bavail.saturating_mul(free.f_frsize);
        if bytes > free {
            bail!(
                "unpacked it takes {bytes} bytes, {} has {free} bytes free; XDG_CACHE_HOME names another directory",
                self.at.display()
            );
        }
        Ok(())
    }

    /// Everything of a stream, in a file.
    fn unpack(&self, mut from: impl Read, size: Option<u64>) -> Result<Plain> {
        let file = self.file()?;
        self.need(size.unwrap_or(0))?;
        let mut at = 0;
        let mut piece = vec![0; PIECE];
        loop {
            let count = fill(&mut from, &mut piece).with_context(|| format!("after {at} bytes unpacked"))?;
            if count == 0 {
                break;
            }
            // Without a size beforehand, the next gigabyte at least.
            if size.is_none() && at % (1 << 30) == 0 {
                self.need(1 << 30)?;
            }
            let bytes = piece.get(..count).unwrap_or_default();
            put(&file, at, bytes).with_context(|| self.at.display().to_string())?;
            at += count as u64;
            if at > size.unwrap_or(LARGEST) {
                bail!("unpacks to more than {} bytes", size.unwrap_or(LARGEST));
            }
        }
        file.set_len(at)?;
        if size.is_some_and(|size| size != at) {
            bail!("unpacked to {at} bytes of {}", size.unwrap_or(0));
        }
        Ok(Plain::new(file)?)
    }
}

/// Writes what is not all zeros.
fn put(file: &File, at: u64, bytes: &[u8]) -> io::Result<()> {
    if bytes.iter().all(|byte| *byte == 0) {
        return Ok(());
    }
    file.write_all_at(bytes, at)
}

fn fill(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut count = 0;
    while let Some(rest) = buffer.get_mut(count..).filter(|rest| !rest.is_empty()) {
        match from.read(rest) {
            Ok(0) => break,
            Ok(more) => count += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::Command;

    use super::*;

    fn unpacked(packed: &[u8]) -> Result<Vec<u8>> {
        let directory = tempfile::tempdir().unwrap();
        let image = directory.path().join("disk");
        std::fs::write(&image, packed).unwrap();
        let medium = open(&image, &directory.path().join("scratch"))?;
        let mut bytes = vec![0; usize::try_from(medium.length()).unwrap()];
        medium.read_at(0, &mut bytes)?;
        assert_eq!(
            std::fs::read_dir(directory.path())
                .unwrap()
                .flatten()
                .map(|entry| entry.path())
                .filter(|path| path.is_dir())
                .map(|path| std::fs::read_dir(path).unwrap().count())
                .sum::<usize>(),
            0
        );
        Ok(bytes)
    }

    fn disk() -> Vec<u8> {
        (0..300_000_u32)
            .map(|at| {
                if at % 150_000 < 100_000 {
                    0
                } else {
                    ((at * 7) >> 3) as u8
                }
            })
            .collect()
    }

    fn xz(bytes: &[u8], block: u64) -> Vec<u8> {
        let mut plain = tempfile::tempfile().unwrap();
        plain.write_all(bytes).unwrap();
        plain.rewind().unwrap();
        let output = Command::new("xz")
            .args(["-1", "-T2", "-c", &format!("--block-size={block}")])
            .stdin(plain)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        output.stdout
    }

    fn zip(names: &[&str], bytes: &[u8]) -> Vec<u8> {
        let mut writer = zip::ZipWriter::new(io::Cursor::new(Vec::new()));
        for name in names {
            writer
                .start_file(*name, zip::write::SimpleFileOptions::default())
                .unwrap();
            writer.write_all(bytes).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    #[test]
    fn every_compression_gives_the_same_disk() {
        let disk = disk();
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(&disk).unwrap();
        let two_streams = [
            xz(&disk[..100_000], 30_000),
            vec![0; 8],
            xz(&disk[100_000..], 1 << 20),
        ]
        .concat();
        for packed in [
            disk.clone(),
            gz.finish().unwrap(),
            zstd::encode_all(disk.as_slice(), 1).unwrap(),
            xz(&disk, 1 << 20),
            xz(&disk, 20_000),
            two_streams,
            zip(&["readme.txt", "x.img"], &disk),
        ] {
            assert!(unpacked(&packed).unwrap() == disk);
        }
    }

    #[test]
    fn what_was_cut_short_is_refused() {
        let disk = disk();
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(&disk).unwrap();
        for packed in [
            gz.finish().unwrap(),
            zstd::encode_all(disk.as_slice(), 1).unwrap(),
            xz(&disk, 20_000),
            zip(&["x.img"], &disk),
        ] {
            let half = &packed[..packed.len() / 2];
            assert!(unpacked(half).is_err());
        }
        assert!(
            unpacked(b"short")
                .unwrap_err()
                .to_string()
                .ends_with("5 bytes are no disk image")
        );
    }

    #[test]
    fn an_archive_has_one_image() {
        let error = format!("{:#}", unpacked(&zip(&["a.img", "b.img"], &disk())).unwrap_err());
        assert!(error.ends_with("2 images in the archive: a.img b.img"), "{error}");
        let error = format!("{:#}", unpacked(&zip(&["a.txt"], &disk())).unwrap_err());
        assert!(error.ends_with("no .img in the archive"), "{error}");
    }

    #[test]
    fn room_is_asked_for_before_it_is_used() {
        let scratch = Scratch {
            at: std::env::temp_dir(),
        };
        let error = scratch.need(1 << 60).unwrap_err().to_string();
        assert!(
            error.starts_with("unpacked it takes 1152921504606846976 bytes, "),
            "{error}"
        );
    }
}
