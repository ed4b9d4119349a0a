//! A kernel's configuration: as a file, or as the kernel carries it within itself (`CONFIG_IKCONFIG`).

use std::collections::BTreeMap;
use std::io::Read;

use anyhow::{Context, Result, bail};

/// What stands before and behind the gzipped configuration in a kernel. Source: kernel/configs.c.
const START: &[u8] = b"IKCFG_ST";
/// No configuration is longer.
const LONGEST: u64 = 8 << 20;
/// More than any kernel unpacks to.
const LARGEST: u64 = 256 << 20;

/// What an option is set to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setting {
    BuiltIn,
    Module,
    Off,
}

/// A whole configuration.
#[derive(Debug)]
pub struct KernelConfig {
    options: BTreeMap<String, String>,
}

impl KernelConfig {
    /// Reads `CONFIG_X=y` lines; what is `not set` is off.
    pub fn parse(text: &str) -> Result<Self> {
        let options: BTreeMap<String, String> = text
            .lines()
            .filter_map(|line| line.trim().strip_prefix("CONFIG_")?.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.trim_matches('"').to_owned()))
            .collect();
        if options.is_empty() {
            bail!("not a kernel configuration: no line begins with CONFIG_");
        }
        Ok(Self { options })
    }

    /// The configuration that a kernel, or its module `configs`, carries within itself.
    pub fn within(kernel: &[u8]) -> Result<Self> {
        let mut damaged = None;
        let mut look = |bytes: &[u8]| match embedded(bytes) {
            Some(Err(error)) => {
                damaged = Some(error);
                None
            }
            Some(Ok(config)) => Some(config),
            None => None,
        };
        if let Some(config) = look(kernel) {
            return Ok(config);
        }
        for (at, unpack) in packed_parts(kernel) {
            let mut plain = Vec::new();
            let part = kernel.get(at..).unwrap_or_default();
            // What looks like the start of something packed often is not; then there is nothing to read.
            let Ok(reader) = unpack(part) else { continue };
            let ended = reader.take(LARGEST).read_to_end(&mut plain);
            if let Some(config) = look(&plain) {
                return Ok(config);
            }
            if ended.is_ok() && plain.len() > 1 << 20 {
                break;
            }
        }
        match damaged {
            Some(error) => Err(error),
            None => bail!(
                "no configuration in it: it was built without CONFIG_IKCONFIG; give its configuration with --config"
            ),
        }
    }

    /// What an option is set to; without `CONFIG_`.
    pub fn setting(&self, option: &str) -> Setting {
        match self.options.get(option).map(String::as_str) {
            Some("m") => Setting::Module,
            Some("n") | None => Setting::Off,
            Some(_) => Setting::BuiltIn,
        }
    }
}

/// Packed data may hold the same words by chance, cut short: that it is damaged is only said when nothing better is found.
fn embedded(kernel: &[u8]) -> Option<Result<KernelConfig>> {
    let at = find(kernel, START)?;
    let packed = kernel.get(at + START.len()..)?;
    if !packed.starts_with(&[0x1f, 0x8b]) {
        return None;
    }
    let mut text = String::new();
    let read = flate2::read::GzDecoder::new(packed)
        .take(LONGEST)
        .read_to_string(&mut text)
        .context("the configuration in it is damaged");
    Some(read.and_then(|_| KernelConfig::parse(&text)))
}

type Unpack = fn(&[u8]) -> Result<Box<dyn Read + '_>>;

/// Where packed data begins, of the kinds that kernels and their boot loaders' wrappers (EFI zboot, bzImage) use.
fn packed_parts(kernel: &[u8]) -> Vec<(usize, Unpack)> {
    let kinds: [(&[u8], Unpack); 3] = [
        (&[0x1f, 0x8b, 8], |part| {
            Ok(Box::new(flate2::read::GzDecoder::new(part)))
        }),
        (&[0x28, 0xb5, 0x2f, 0xfd], |part| {
            Ok(Box::new(zstd::Decoder::with_buffer(part)?.single_frame()))
        }),
        (&[0xfd, b'7', b'z', b'X', b'Z', 0], |part| {
            Ok(Box::new(liblzma::read::XzDecoder::new(part)))
        }),
    ];
    let mut found = Vec::new();
    for (magic, unpack) in kinds {
        let mut from = 0;
        while let Some(at) = find(kernel.get(from..).unwrap_or_default(), magic) {
            found.push((from + at, unpack));
            from += at + magic.len();
            if found.len() > 64 {
                break;
            }
        }
    }
    found.sort_by_key(|(at, _)| *at);
    found
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    let (first, _) = what.split_first()?;
    let mut from = 0;
    while let Some(at) = bytes.get(from..)?.iter().position(|byte| byte == first) {
        if bytes.get(from + at..)?.starts_with(what) {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const TEXT: &str =
        "# a comment\nCONFIG_A=y\nCONFIG_B=m\n# CONFIG_C is not set\nCONFIG_D=\"text\"\nCONFIG_N=n\n";

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn kernel() -> Vec<u8> {
        [
            b"MZ..".as_slice(),
            &[0; 5000],
            START,
            &gzip(TEXT.as_bytes()),
            b"IKCFG_ED",
            &[7; 100],
        ]
        .concat()
    }

    #[test]
    fn settings_are_read() {
        let config = KernelConfig::parse(TEXT).unwrap();
        let settings = ["A", "B", "C", "D", "E", "N"].map(|option| config.setting(option));
        use Setting::*;
        assert_eq!(settings, [BuiltIn, Module, Off, BuiltIn, Off, Off]);
        assert!(KernelConfig::parse("A=y\n").is_err());
    }

    #[test]
    fn a_kernel_tells_its_configuration_however_it_is_packed() {
        let zstd = zstd::encode_all(kernel().as_slice(), 3).unwrap();
        let mut xz = Vec::new();
        liblzma::read::XzEncoder::new(kernel().as_slice(), 6)
            .read_to_end(&mut xz)
            .unwrap();
        for packed in [kernel(), gzip(&kernel()), zstd, xz] {
            // As in EFI zboot: something before, something behind.
            for image in [
                packed.clone(),
                [b"MZ stub ".as_slice(), &packed, &[0; 64]].concat(),
            ] {
                assert_eq!(
                    KernelConfig::within(&image).unwrap().setting("B"),
                    Setting::Module
                );
            }
        }
    }

    #[test]
    fn a_kernel_without_one_is_told_apart() {
        let mut without = kernel();
        let at = find(&without, START).unwrap();
        without[at] = b'X';
        let error = KernelConfig::within(&without).unwrap_err().to_string();
        assert!(error.contains("CONFIG_IKCONFIG"), "{error}");
        let mut damaged = kernel();
        damaged[at + START.len() + 20] ^= 0xff;
        assert!(KernelConfig::within(&damaged).is_err());
    }
}
