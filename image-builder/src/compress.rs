//! Compression of an initramfs, in the forms the kernel takes apart.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::packages::hex;

/// A compression the kernel knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    Zstd,
    Gzip,
    Xz,
    Lz4,
}

/// 16 MiB: the kernel wants that much memory while it unpacks. The next smaller one costs 4 % of the image, because
/// busybox and the C library are then too far apart; the next larger one saves 0.3 %.
const WINDOW_LOG: u32 = 24;
/// First bytes of the legacy LZ4 format, the only one the kernel reads.
const LZ4_MAGIC: [u8; 4] = [0x02, 0x21, 0x4c, 0x18];
/// The block size of that format.
const LZ4_BLOCK: usize = 8 << 20;

impl Compression {
    /// From its name.
    pub fn named(name: &str) -> Result<Self> {
        match name {
            "zstd" => Ok(Self::Zstd),
            "gzip" => Ok(Self::Gzip),
            "xz" => Ok(Self::Xz),
            "lz4" => Ok(Self::Lz4),
            _ => bail!("unknown compression '{name}'; known are zstd gzip xz lz4"),
        }
    }

    /// The ending of a compressed archive's name.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Zstd => "zst",
            Self::Gzip => "gz",
            Self::Xz => "xz",
            Self::Lz4 => "lz4",
        }
    }

    /// By its first bytes; `None` for an archive that is not compressed.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        let known: [(&[u8], Self); 4] = [
            (&[0x28, 0xb5, 0x2f, 0xfd], Self::Zstd),
            (&[0x1f, 0x8b], Self::Gzip),
            (&[0xfd, b'7', b'z', b'X', b'Z', 0], Self::Xz),
            (&LZ4_MAGIC, Self::Lz4),
        ];
        known
            .iter()
            .find(|(magic, _)| bytes.starts_with(magic))
            .map(|(_, compression)| *compression)
    }

    /// The level that is used when none is given. For zstd a slow one, since what it is slow on is kept, see [`Store`];
    /// the highest, 22, makes images 0.3 % smaller in another fifth of the time.
    pub fn default_level(self) -> i32 {
        match self {
            Self::Zstd => 19,
            Self::Gzip | Self::Xz => 9,
            Self::Lz4 => 1,
        }
    }

    fn levels(self) -> std::ops::RangeInclusive<i32> {
        match self {
            Self::Zstd => 1..=22,
            Self::Gzip => 1..=12,
            Self::Xz => 0..=9,
            Self::Lz4 => 1..=1,
        }
    }

    /// Compresses archives that follow one another.
    ///
    /// For zstd each becomes a frame of its own; the other forms have no end the kernel finds everywhere.
    pub fn pack_segments(self, segments: &[Vec<u8>], level: i32, store: Option<&Store>) -> Result<Vec<u8>> {
        if self != Self::Zstd {
            return self.pack(&segments.concat(), level);
        }
        let packed: Vec<Result<Vec<u8>>> = std::thread::scope(|scope| {
            let one = |bytes: &Vec<u8>| match store {
                Some(store) => store.pack(self, bytes, level),
                None => self.pack(bytes, level),
            };
            let running: Vec<_> = segments
                .iter()
                .map(|bytes| scope.spawn(move || one(bytes)))
                .collect();
            running
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|_| bail!("zstd: gave up")))
                .collect()
        });
        Ok(packed.into_iter().collect::<Result<Vec<_>>>()?.concat())
    }

    /// Compresses.
    pub fn pack(self, bytes: &[u8], level: i32) -> Result<Vec<u8>> {
        let levels = self.levels();
        if !levels.contains(&level) {
            let name = format!("{self:?}").to_lowercase();
            bail!(
                "{name} has the levels {} to {}, not {level}",
                levels.start(),
                levels.end()
            );
        }
        match self {
            Self::Zstd => zstd_pack(bytes, level),
            // Beyond zlib's levels: 4 % smaller, for half as much time again.
            Self::Gzip if level > 9 => gzip_pack_hard(bytes, level),
            Self::Gzip => {
                let level = flate2::Compression::new(level.unsigned_abs());
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
                encoder.write_all(bytes)?;
                Ok(encoder.finish()?)
            }
            Self::Xz => xz_pack(bytes, level.unsigned_abs()),
            Self::Lz4 => Ok(lz4_pack(bytes)),
        }
    }

    /// Takes an archive apart again.
    pub fn unpack(self, packed: &[u8]) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        match self {
            Self::Zstd => bytes = zstd::decode_all(packed)?,
            Self::Gzip => {
                flate2::read::GzDecoder::new(packed).read_to_end(&mut bytes)?;
            }
            Self::Xz => {
                liblzma::read::XzDecoder::new(packed).read_to_end(&mut bytes)?;
            }
            Self::Lz4 => bytes = lz4_unpack(packed)?,
        }
        Ok(bytes)
    }
}

fn zstd_pack(bytes: &[u8], level: i32) -> Result<Vec<u8>> {
    let mut encoder = zstd::Encoder::new(Vec::new(), level)?;
    encoder.include_checksum(true)?;
    encoder.set_pledged_src_size(Some(bytes.len() as u64))?;
    encoder.window_log(WINDOW_LOG)?;
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?)
}

/// By libdeflate, which tries more; what it makes is plain gzip, without a name or a time.
fn gzip_pack_hard(bytes: &[u8], level: i32) -> Result<Vec<u8>> {
    let Ok(level) = libdeflater::CompressionLvl::new(level) else {
        bail!("gzip: no level {level}");
    };
    let mut compressor = libdeflater::Compressor::new(level);
    let mut packed = vec![0; compressor.gzip_compress_bound(bytes.len())];
    let length = compressor.gzip_compress(bytes, &mut packed).context("gzip")?;
    packed.truncate(length);
    Ok(packed)
}

/// One stream with the check the kernel knows; kernel `lib/decompress_unxz.c`.
fn xz_pack(bytes: &[u8], level: u32) -> Result<Vec<u8>> {
    let mut options = liblzma::stream::LzmaOptions::new_preset(level)?;
    // The kernel wants memory for the whole dictionary while it unpacks.
    options.dict_size(8 << 20);
    let mut filters = liblzma::stream::Filters::new();
    filters.lzma2(&options);
    let stream = liblzma::stream::Stream::new_stream_encoder(&filters, liblzma::stream::Check::Crc32)?;
    let mut encoder = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?)
}

/// Blocks, each behind its length.
fn lz4_pack(bytes: &[u8]) -> Vec<u8> {
    let mut packed = LZ4_MAGIC.to_vec();
    for block in bytes.chunks(LZ4_BLOCK) {
        let block = lz4_flex::block::compress(block);
        packed.extend_from_slice(&u32::try_from(block.len()).unwrap_or(u32::MAX).to_le_bytes());
        packed.extend_from_slice(&block);
    }
    packed
}

fn lz4_unpack(packed: &[u8]) -> Result<Vec<u8>> {
    let mut rest = packed.strip_prefix(&LZ4_MAGIC).context("no LZ4 archive")?;
    let mut bytes = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let length = u32::from_le_bytes(*length) as usize;
        let block = after.get(..length).context("LZ4 block cut short")?;
        bytes.extend(lz4_flex::block::decompress(block, LZ4_BLOCK)?);
        rest = after.get(length..).unwrap_or_default();
    }
    Ok(bytes)
}

/// Compressed archives that were made before, by what went into them.
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
}

/// How many are kept: a few boards with a few recipes each.
const KEPT: usize = 24;

impl Store {
    /// In this directory, made when it is needed.
    pub fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// What was packed before, or packs and keeps it.
    pub fn pack(&self, compression: Compression, bytes: &[u8], level: i32) -> Result<Vec<u8>> {
        let settings = format!(
            "{compression:?} {level} {WINDOW_LOG} {}\n",
            zstd::zstd_safe::version_number()
        );
        let key = hex(&Sha256::new()
            .chain_update(settings)
            .chain_update(bytes)
            .finalize());
        let path = self.directory.join(format!("{key}.{}", compression.extension()));
        if let Ok(packed) = fs::read(&path)
            && compression
                .unpack(&packed)
                .is_ok_and(|unpacked| unpacked == bytes)
        {
            return Ok(packed);
        }
        let packed = compression.pack(bytes, level)?;
        self.keep(&path, &packed)
            .with_context(|| path.display().to_string())?;
        Ok(packed)
    }

    fn keep(&self, path: &Path, packed: &[u8]) -> Result<()> {
        fs::create_dir_all(&self.directory)?;
        let mut fresh = tempfile::NamedTempFile::new_in(&self.directory)?;
        fresh.write_all(packed)?;
        fresh.persist(path)?;
        let mut all: Vec<(SystemTime, PathBuf)> = fs::read_dir(&self.directory)?
            .filter_map(|entry| {
                Some((
                    entry.as_ref().ok()?.metadata().ok()?.modified().ok()?,
                    entry.ok()?.path(),
                ))
            })
            .collect();
        all.sort();
        let many = all.len().saturating_sub(KEPT);
        for (_, old) in all.iter().take(many) {
            fs::remove_file(old)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_reads_back_and_is_known_by_its_first_bytes() {
        let bytes: Vec<u8> = (0..100_000_u32).flat_map(|n| (n / 7).to_le_bytes()).collect();
        for name in ["zstd", "gzip", "xz", "lz4"] {
            let compression = Compression::named(name).unwrap();
            let packed = compression.pack(&bytes, 1).unwrap();
            assert_eq!(Compression::of(&packed), Some(compression));
            assert_eq!(compression.unpack(&packed).unwrap(), bytes, "{name}");
            assert_eq!(compression.pack(&bytes, 1).unwrap(), packed, "{name}");
            assert!(compression.unpack(&packed[..packed.len() / 2]).is_err(), "{name}");
        }
        assert_eq!(Compression::of(b"070701"), None);
    }

    #[test]
    fn what_was_packed_before_is_taken_again_unless_it_is_damaged() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::new(directory.path().join("packed"));
        let segments = [b"one".to_vec(), b"two".to_vec()];
        let first = Compression::Zstd
            .pack_segments(&segments, 3, Some(&store))
            .unwrap();
        assert_eq!(Compression::Zstd.unpack(&first).unwrap(), b"onetwo");
        for entry in fs::read_dir(directory.path().join("packed")).unwrap() {
            fs::write(entry.unwrap().path(), b"damaged").unwrap();
        }
        assert_eq!(
            Compression::Zstd
                .pack_segments(&segments, 3, Some(&store))
                .unwrap(),
            first
        );
        assert_eq!(
            Compression::Zstd.pack_segments(&segments, 3, None).unwrap(),
            first
        );
    }

    #[test]
    fn the_hard_levels_of_gzip_are_smaller_and_plain_gzip() {
        let bytes: Vec<u8> = (0..300_000_u32)
            .flat_map(|n| (n.wrapping_mul(n) / 977).to_le_bytes())
            .collect();
        let (usual, hard) = (
            Compression::Gzip.pack(&bytes, 9).unwrap(),
            Compression::Gzip.pack(&bytes, 12).unwrap(),
        );
        assert!(hard.len() < usual.len(), "{} {}", hard.len(), usual.len());
        assert_eq!(Compression::Gzip.unpack(&hard).unwrap(), bytes);
        assert_eq!(Compression::Gzip.pack(&bytes, 12).unwrap(), hard);
        // RFC 1952: no flags, no time.
        assert_eq!(hard[..8], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn a_level_that_does_not_exist_is_refused() {
        let error = Compression::Gzip.pack(b"", 13).unwrap_err().to_string();
        assert_eq!(error, "gzip has the levels 1 to 12, not 13");
    }
}
