//! How a source is packed, by its first bytes and never by its name: a wrong guess would be written to a disk.

use super::zip;

/// As many bytes as are looked at.
pub const LOOKED_AT: usize = 4096;

/// How it is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Not at all.
    Raw,
    /// RFC 1952.
    Gzip,
    /// The .xz file format.
    Xz,
    /// RFC 8878.
    Zstd,
    /// bzip2.
    Bzip2,
    /// One file in a zip archive.
    Zip,
}

impl Format {
    /// Looks at the first bytes.
    ///
    /// # Errors
    /// What it is, when that cannot be meant for a disk.
    pub fn of(first: &[u8]) -> Result<Format, &'static str> {
        if let Some((_, what)) = FOREIGN.iter().find(|(magic, _)| first.starts_with(magic)) {
            return Err(what);
        }
        if first.get(0x40..0x44) == Some(b"\xBE\xDA\x10\x7F") && first.starts_with(b"<<< ") {
            return Err("a VDI image; convert it: qemu-img convert -O raw");
        }
        if is_tar(first) {
            return Err("a tar archive, not a disk image; tar unpacks it into a file system");
        }
        Ok(match first {
            [0x1F, 0x8B, 8, ..] => Format::Gzip,
            [0xFD, b'7', b'z', b'X', b'Z', 0, ..] => Format::Xz,
            // The second is a skippable frame, with which some packers begin.
            [0x28, 0xB5, 0x2F, 0xFD, ..] | [0x50..=0x5F, 0x2A, 0x4D, 0x18, ..] => Format::Zstd,
            [
                b'B',
                b'Z',
                b'h',
                b'1'..=b'9',
                0x31,
                0x41,
                0x59,
                0x26,
                0x53,
                0x59,
                ..,
            ] => Format::Bzip2,
            // The second has nothing in it, which is better said than written to a disk.
            [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] => Format::Zip,
            _ => Format::Raw,
        })
    }

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Format::Raw => "raw",
            Format::Gzip => "gzip",
            Format::Xz => "xz",
            Format::Zstd => "zstd",
            Format::Bzip2 => "bzip2",
            Format::Zip => "zip",
        }
    }

    /// The least number of bytes that come out, where the first bytes tell: a server's word for how long a raw image is, or the
    /// content size in the header of the first zstd frame (RFC 8878, 3.1.1.1), or the length before the image in a zip archive.
    pub fn unpacked(self, first: &[u8], total: Option<u64>) -> Option<u64> {
        match self {
            Format::Raw => total,
            Format::Zstd => zstd_content(first),
            // Why it would not be taken is said by whoever looks closer.
            Format::Zip => zip::look(first).unwrap_or_default(),
            _ => None,
        }
    }
}

/// What is often given by mistake. A disk never begins like that.
const FOREIGN: [(&[u8], &str); 19] = [
    (b"PK\x07\x08", "a part of a split zip archive; unpack it first"),
    (b"7z\xBC\xAF\x27\x1C", "a 7z archive; unpack it first"),
    (b"Rar!\x1A\x07", "a rar archive; unpack it first"),
    (
        b"\x04\x22\x4D\x18",
        "packed with lz4; pack it with xz, zstd, gzip or bzip2",
    ),
    (
        b"\x89LZO\0",
        "packed with lzop; pack it with xz, zstd, gzip or bzip2",
    ),
    (b"QFI\xFB", "a qcow2 image; convert it: qemu-img convert -O raw"),
    (b"KDMV", "a VMDK image; convert it: qemu-img convert -O raw"),
    (
        b"# Disk DescriptorFile",
        "a VMDK image; convert it: qemu-img convert -O raw",
    ),
    (b"vhdxfile", "a VHDX image; convert it: qemu-img convert -O raw"),
    (b"conectix", "a VHD image; convert it: qemu-img convert -O raw"),
    (
        b"\x3A\xFF\x26\xED",
        "a sparse image of Android; make it raw: simg2img",
    ),
    (
        b"070701",
        "a cpio archive, as an initramfs is one; not a disk image",
    ),
    (
        b"070702",
        "a cpio archive, as an initramfs is one; not a disk image",
    ),
    (
        b"070707",
        "a cpio archive, as an initramfs is one; not a disk image",
    ),
    (b"<?xml", "a text in XML, as a bmap is one"),
    (b"untrusted comment:", "a signature or a key of minisign"),
    (b"<!DOCTYPE", "a web page"),
    (b"<!doctype", "a web page"),
    (b"<html", "a web page"),
];

/// Whether a tar archive begins so (POSIX.1-2024, pax, ustar Interchange Format). Its mark lies where a boot sector has code that may be anything,
/// so the checksum of its first header must be right as well.
fn is_tar(first: &[u8]) -> bool {
    const SUM: std::ops::Range<usize> = 148..156;
    let Some(header) = first.get(..512) else {
        return false;
    };
    let told = String::from_utf8_lossy(&header[SUM]);
    let told = u32::from_str_radix(told.trim_matches([' ', '\0']), 8);
    let blank = SUM.len() as u32 * u32::from(b' ');
    let sum = |bytes: &[u8]| bytes.iter().map(|byte| u32::from(*byte)).sum::<u32>();
    header[257..].starts_with(b"ustar")
        && told == Ok(sum(&header[..SUM.start]) + blank + sum(&header[SUM.end..]))
}

fn zstd_content(first: &[u8]) -> Option<u64> {
    const SINGLE_SEGMENT: u8 = 0x20;
    if !first.starts_with(&[0x28, 0xB5, 0x2F, 0xFD]) {
        return None;
    }
    let descriptor = *first.get(4)?;
    let window = usize::from(descriptor & SINGLE_SEGMENT == 0);
    let dictionary = *[0, 1, 2, 4].get(usize::from(descriptor & 3))?;
    let at = 5 + window + dictionary;
    let number = |length: usize| -> Option<u64> {
        let bytes = first.get(at..at + length)?;
        Some(
            bytes
                .iter()
                .rev()
                .fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
        )
    };
    match descriptor >> 6 {
        0 if descriptor & SINGLE_SEGMENT == 0 => None,
        0 => number(1),
        1 => Some(number(2)? + 256),
        2 => number(4),
        _ => number(8),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_tell() {
        for (first, format) in [
            (&b"\x1f\x8b\x08\0"[..], Format::Gzip),
            (b"\xfd7zXZ\0\0\x04", Format::Xz),
            (b"\x28\xb5\x2f\xfd\x24", Format::Zstd),
            (b"\x52\x2a\x4d\x18\x04", Format::Zstd),
            (b"BZh91AY&SY", Format::Bzip2),
            (b"PK\x03\x04", Format::Zip),
            (b"BZh is how a text may begin", Format::Raw),
            (b"\xeb\x63\x90", Format::Raw),
            (b"", Format::Raw),
        ] {
            assert_eq!(Format::of(first), Ok(format), "{first:?}");
        }
    }

    #[test]
    fn what_is_no_disk_is_not_taken_for_a_raw_one() {
        for first in [
            &b"PK\x07\x08PK\x03\x04"[..],
            b"QFI\xfb\0",
            b"<!DOCTYPE html>",
            b"untrusted comment: x",
        ] {
            assert!(Format::of(first).is_err(), "{first:?}");
        }
        // One letter beside it.
        assert_eq!(Format::of(b"PK\x03\x05"), Ok(Format::Raw));
    }

    /// The first header of an archive, as GNU tar writes it (POSIX has "ustar\0" and "00").
    pub fn tar() -> Vec<u8> {
        let mut header = vec![0; 1024];
        for (at, bytes) in [
            (0, &b"etc/"[..]),
            (100, b"0000755\0"),
            (148, b"        "),
            (257, b"ustar  \0"),
        ] {
            header[at..at + bytes.len()].copy_from_slice(bytes);
        }
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        header
    }

    #[test]
    fn a_tar_archive_is_told_and_a_boot_sector_with_its_mark_is_none() {
        assert!(Format::of(&tar()).unwrap_err().starts_with("a tar archive"));
        assert_eq!(Format::of(&tar()[..511]), Ok(Format::Raw));
        for at in [0, 148, 257, 511] {
            let mut other = tar();
            other[at] ^= 1;
            assert_eq!(Format::of(&other), Ok(Format::Raw), "byte {at}");
        }
    }

    #[test]
    fn what_is_given_by_mistake_is_told_and_what_may_lie_on_a_disk_is_not() {
        let at = |at: usize, magic: &[u8]| [&vec![0; at], magic, &[0; 512]].concat();
        let vdi = |end: u8| {
            [
                &b"<<< QEMU VM Virtual Disk Image >>>\n"[..],
                &[0; 29],
                &[0xBE, 0xDA, 0x10, end],
            ]
            .concat()
        };
        for (first, says) in [
            (at(0, b"\x3a\xff\x26\xed\x01\0"), "simg2img"),
            (at(0, b"070701000002D1"), "cpio"),
            (vdi(0x7F), "VDI"),
        ] {
            assert!(Format::of(&first).unwrap_err().contains(says), "{says}");
        }
        for first in [
            vdi(0x7E),
            // ISO 9660, plain and with a boot sector; squashfs; LUKS; a program, as PReP partitions have one.
            at(0x8001, b"CD001"),
            [&b"\x45\x52\x08\0"[..], &at(0x7FFD, b"CD001")].concat(),
            at(0, b"hsqs"),
            at(0, b"LUKS\xba\xbe\0\x02"),
            at(0, b"\x7fELF"),
        ] {
            assert_eq!(Format::of(&first), Ok(Format::Raw), "{:?}", &first[..8]);
        }
    }

    #[test]
    fn a_zstd_frame_tells_its_content() {
        // As `zstd` writes it: of a file of 300 bytes, of 1 GiB, and of a pipe.
        assert_eq!(zstd_content(b"\x28\xb5\x2f\xfd\x64\x2c\0rest"), Some(300));
        assert_eq!(zstd_content(b"\x28\xb5\x2f\xfd\xa4\0\0\0\x40"), Some(1 << 30));
        assert_eq!(zstd_content(b"\x28\xb5\x2f\xfd\x04\x58\0\0"), None);
        for cut in 0..9 {
            assert_eq!(zstd_content(&b"\x28\xb5\x2f\xfd\xe4\0\0\0\0"[..cut]), None);
        }
        assert_eq!(Format::Raw.unpacked(b"", Some(7)), Some(7));
        assert_eq!(Format::Gzip.unpacked(b"\x1f\x8b\x08", Some(7)), None);
    }
}
