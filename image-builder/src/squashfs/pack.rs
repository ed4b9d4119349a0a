//! The program that writes squashfs, upstream's `tar2sqfs`, and what it may be asked for.

use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::{Context, Result, anyhow, bail};

use crate::board::Board;

/// How blocks are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compressor {
    Zstd,
    Xz,
    Gzip,
    Lzo,
    Lz4,
}

impl Compressor {
    const ALL: [Self; 5] = [Self::Zstd, Self::Xz, Self::Gzip, Self::Lzo, Self::Lz4];

    pub fn named(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|compressor| compressor.name() == name);
        found.with_context(|| format!("unknown compression '{name}'; known are zstd xz gzip lzo lz4"))
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Xz => "xz",
            Self::Gzip => "gzip",
            Self::Lzo => "lzo",
            Self::Lz4 => "lz4",
        }
    }

    /// What `tar2sqfs` calls the level; lz4 has none.
    pub fn options(self, level: Option<u32>) -> Result<Option<String>> {
        let (least, most, usual) = match self {
            Self::Zstd => (1, 22, 15),
            Self::Xz => (0, 9, 6),
            Self::Gzip => (1, 9, 9),
            Self::Lzo => (1, 9, 8),
            Self::Lz4 if level.is_some() => bail!("lz4 has no levels"),
            Self::Lz4 => return Ok(Some("hc".to_owned())),
        };
        let level = level.unwrap_or(usual);
        if !(least..=most).contains(&level) {
            bail!("{} has the levels {least} to {most}, not {level}", self.name());
        }
        Ok(Some(format!("level={level}")))
    }

    /// Refuses what the board's kernels cannot read. Raspberry Pi's kernels are configured with zlib, LZO and XZ, newer ones
    /// with Zstandard too, and without SQUASHFS_LZ4 (raspberrypi/linux, arch/arm64/configs/bcm2711_defconfig and
    /// bcm2712_defconfig).
    pub fn check(self, board: &Board) -> Result<()> {
        if self == Self::Lz4 && board.boot_img.is_some() {
            bail!(
                "lz4: {}: kernels for Raspberry Pi do not read squashfs in it (SQUASHFS_LZ4 is not set); take zstd, xz, gzip or lzo",
                board.name
            );
        }
        Ok(())
    }
}

/// A `tar2sqfs` that waits for its input.
pub struct Packer {
    child: Child,
}

impl Packer {
    pub fn start(compressor: Compressor, level: Option<u32>, block_size: u32, image: &Path) -> Result<Self> {
        let mut command = Command::new("tar2sqfs");
        // What squashfs has no place for, such as POSIX access lists, is left out with a word, not refused.
        // The file is there, empty.
        command.args(["--quiet", "--force", "--compressor", compressor.name()]);
        if let Some(options) = compressor.options(level)? {
            command.arg("--comp-extra").arg(options);
        }
        command.arg("--block-size").arg(block_size.to_string()).arg(image);
        let child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| anyhow!("tar2sqfs: {error}; it is in the Debian package squashfs-tools-ng"))?;
        Ok(Self { child })
    }

    pub fn input(&mut self) -> Result<ChildStdin> {
        self.child.stdin.take().context("tar2sqfs: no input")
    }

    /// Waits for the end, after the input was closed: what it complained about while it did its work, or why it did not.
    pub fn finish(self) -> Result<String> {
        let output = self.child.wait_with_output().context("tar2sqfs")?;
        let complaints = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        if !output.status.success() {
            bail!("tar2sqfs: {}: {complaints}", output.status);
        }
        Ok(complaints)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_checked_for_its_compressor() {
        assert_eq!(
            Compressor::Zstd.options(None).unwrap().as_deref(),
            Some("level=15")
        );
        assert_eq!(
            Compressor::Xz.options(Some(0)).unwrap().as_deref(),
            Some("level=0")
        );
        for (compressor, level, why) in [
            (Compressor::Zstd, 23, "levels 1 to 22, not 23"),
            (Compressor::Gzip, 0, "levels 1 to 9, not 0"),
            (Compressor::Lz4, 1, "lz4 has no levels"),
        ] {
            let error = compressor.options(Some(level)).unwrap_err().to_string();
            assert!(error.ends_with(why), "{error}");
        }
        assert!(
            Compressor::named("zip")
                .unwrap_err()
                .to_string()
                .contains("known are zstd")
        );
    }

    #[test]
    fn lz4_is_refused_for_a_raspberry_pi_only() {
        let board = |name| Board::load(name, None).unwrap();
        for name in ["pi", "pi3", "pi4", "pi5"] {
            let error = Compressor::Lz4.check(&board(name)).unwrap_err().to_string();
            assert!(error.contains("SQUASHFS_LZ4"), "{name}: {error}");
            Compressor::Zstd.check(&board(name)).unwrap();
        }
        Compressor::Lz4.check(&board("virt-arm64")).unwrap();
    }
}
