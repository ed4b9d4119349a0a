use super::*;
use flate2::Compression;
use flate2::write::DeflateEncoder;
use std::io::Write as _;

/// A file of an archive that is being made.
#[derive(Clone)]
struct File {
    name: &'static str,
    content: Vec<u8>,
    method: u16,
    flags: u16,
    /// The lengths in eight bytes.
    wide: bool,
    /// What the local header says instead of what is true.
    crc: Option<u32>,
    unpacked: Option<u64>,
}

fn file(name: &'static str, content: &[u8]) -> File {
    File {
        name,
        content: content.to_vec(),
        method: 8,
        flags: 0,
        wide: false,
        crc: None,
        unpacked: None,
    }
}

impl File {
    /// Checksum and lengths behind the content, as a packer writes them that cannot go back.
    fn streamed(mut self) -> File {
        self.flags |= 8;
        self
    }

    fn stored(mut self) -> File {
        self.method = 0;
        self
    }

    fn wide(mut self) -> File {
        self.wide = true;
        self
    }

    fn packed(&self) -> Vec<u8> {
        if self.method != 8 {
            return self.content.clone();
        }
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&self.content).unwrap();
        encoder.finish().unwrap()
    }
}

fn lengths(packed: u64, unpacked: u64, wide: bool) -> (Vec<u8>, Vec<u8>) {
    if !wide {
        let narrow = [packed as u32, unpacked as u32].map(u32::to_le_bytes).concat();
        return (narrow, Vec::new());
    }
    let eight = [unpacked, packed].map(u64::to_le_bytes).concat();
    (vec![0xFF; 8], [&[1, 0, 16, 0][..], &eight].concat())
}

fn archive(files: &[File]) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for file in files {
        let packed = file.packed();
        let mut crc = Crc::new();
        crc.update(&file.content);
        let (true_crc, true_lengths) = (crc.sum(), (packed.len() as u64, file.content.len() as u64));
        let start = out.len() as u32;
        let head = |crc: u32, narrow: &[u8], extra: usize| {
            let mut head = [20, file.flags, file.method, 0, 0].map(u16::to_le_bytes).concat();
            head.extend(crc.to_le_bytes());
            head.extend(narrow);
            head.extend((file.name.len() as u16).to_le_bytes());
            head.extend((extra as u16).to_le_bytes());
            head
        };
        let streamed = file.flags & 8 != 0;
        let (crc, told) = match streamed {
            true => (0, (0, 0)),
            false => (
                file.crc.unwrap_or(true_crc),
                (true_lengths.0, file.unpacked.unwrap_or(true_lengths.1)),
            ),
        };
        let (narrow, extra) = lengths(told.0, told.1, file.wide);
        out.extend(entry::LOCAL.to_le_bytes());
        out.extend(head(crc, &narrow, extra.len()));
        out.extend(file.name.as_bytes());
        out.extend(&extra);
        out.extend(&packed);
        if streamed {
            out.extend(entry::DESCRIPTOR.to_le_bytes());
            out.extend(file.crc.unwrap_or(true_crc).to_le_bytes());
            match file.wide {
                true => out.extend([true_lengths.0, true_lengths.1].map(u64::to_le_bytes).concat()),
                false => out.extend(lengths(true_lengths.0, true_lengths.1, false).0),
            }
        }
        let (narrow, extra) = lengths(true_lengths.0, true_lengths.1, file.wide);
        directory.extend(entry::CENTRAL.to_le_bytes());
        directory.extend(20_u16.to_le_bytes());
        directory.extend(head(file.crc.unwrap_or(true_crc), &narrow, extra.len()));
        directory.extend([0; 10]);
        directory.extend(start.to_le_bytes());
        directory.extend(file.name.as_bytes());
        directory.extend(extra);
    }
    let at = out.len() as u32;
    out.extend(&directory);
    out.extend(entry::END.to_le_bytes());
    let count = (files.len() as u16).to_le_bytes();
    out.extend([[0; 4].as_slice(), &count, &count].concat());
    out.extend((directory.len() as u32).to_le_bytes());
    out.extend(at.to_le_bytes());
    out.extend([4, 0]);
    out.extend(b"note");
    out
}

/// An image with a boot sector, a hole and noise.
fn image() -> Vec<u8> {
    let mut image: Vec<u8> = (0..600_000_u32)
        .flat_map(|n| n.wrapping_mul(n).to_le_bytes())
        .collect();
    image[100_000..1_000_000].fill(0);
    image
}

fn read(archive: &[u8]) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let read = Zip::new(archive).read_to_end(&mut bytes);
    read.map(|_| bytes).map_err(|error| error.to_string())
}

#[test]
fn an_image_comes_out_however_it_was_packed() {
    let image = image();
    let plain = file("2026-11-raspios.img", &image);
    for one in [
        plain.clone(),
        plain.clone().stored(),
        plain.clone().streamed(),
        plain.clone().wide(),
        plain.clone().wide().streamed(),
        plain.clone().wide().stored(),
    ] {
        assert!(read(&archive(&[one])).unwrap() == image);
    }
    assert!(read(&archive(&[file("disk", &image)])).unwrap() == image);
    assert_eq!(read(&archive(&[file("disk", b"tiny")])).unwrap(), b"tiny");
    let beside = [
        file("README", b"read me"),
        file("dir/", b"").stored(),
        file("__MACOSX/._a.img", b"resource fork"),
        file("dir/A.IMG", &image),
        file("a.img.sha256", b"0123"),
    ];
    assert!(read(&archive(&beside)).unwrap() == image);
}

#[test]
fn an_archive_in_which_several_files_may_be_meant_or_none_is_refused() {
    let image = image();
    let several = |files: &[File]| read(&archive(files)).unwrap_err();
    assert!(several(&[file("a.img", &image), file("b.img", b"x")]).contains("a.img, b.img"));
    assert!(several(&[file("disk", &image), file("README", b"x")]).contains("disk, README"));
    assert!(several(&[file("disk", &image), file("b.img", b"x")]).contains("disk, b.img"));
    assert!(several(&[]).contains("no file"));
    assert!(several(&[file("dir/", b"").stored()]).contains("no file"));
    assert!(several(&[file("a.img", b"")]).contains("empty"));
}

#[test]
fn what_is_packed_once_more_encrypted_or_of_another_method_is_refused_before_the_first_write() {
    let mut one = file("a.img", b"\xfd7zXZ\0\0\x04 and so on");
    assert!(
        read(&archive(&[one.clone()]))
            .unwrap_err()
            .contains("once more (xz)")
    );
    one.content = b"<html>".to_vec();
    assert!(read(&archive(&[one.clone()])).unwrap_err().contains("a web page"));
    for (flags, method, says) in [
        (1, 8, "encrypted"),
        (0, 12, "method 12"),
        (8, 0, "without its length"),
    ] {
        let changed = File {
            flags,
            method,
            ..one.clone()
        };
        let bytes = archive(&[changed]);
        assert!(read(&bytes).unwrap_err().contains(says));
        assert!(look(&bytes).unwrap_err().to_string().contains(says));
    }
    assert_eq!(
        look(&archive(&[file("a.img", &image())])).unwrap(),
        Some(2_400_000)
    );
    assert_eq!(
        look(&archive(&[file("a.img", &image()).wide()])).unwrap(),
        Some(2_400_000)
    );
    assert_eq!(
        look(&archive(&[file("a.img", &image()).streamed()])).unwrap(),
        None
    );
    assert_eq!(look(&archive(&[file("README", b"x")])).unwrap(), None);
    assert!(look(&archive(&[])).is_err());
}

#[test]
fn a_wrong_checksum_and_lying_lengths_are_noticed() {
    let image = image();
    let plain = file("a.img", &image);
    for one in [
        File {
            crc: Some(7),
            ..plain.clone()
        },
        File {
            crc: Some(7),
            ..plain.clone().streamed()
        },
        File {
            unpacked: Some(1),
            ..plain.clone()
        },
        File {
            unpacked: Some(1 << 40),
            ..plain.clone().wide()
        },
        File {
            unpacked: Some(u64::MAX),
            ..plain.clone().wide().stored()
        },
        File {
            unpacked: Some(u64::MAX),
            ..plain.clone().wide()
        },
    ] {
        let said = read(&archive(&[one])).unwrap_err();
        assert!(said.contains("a.img"), "{said}");
    }
    // The directory knows of another file than the one that was read.
    let mut bytes = archive(std::slice::from_ref(&plain));
    let at = bytes
        .windows(4)
        .rposition(|four| four == entry::CENTRAL.to_le_bytes())
        .unwrap();
    bytes[at + 24] ^= 1;
    assert!(read(&bytes).unwrap_err().contains("directory"));
    let mut bytes = archive(std::slice::from_ref(&plain));
    bytes.push(0);
    assert!(read(&bytes).unwrap_err().contains("follows its end"));
    let mut bytes = archive(&[plain]);
    let end = bytes.len() - 26;
    bytes[end + 10] = 2;
    assert!(read(&bytes).unwrap_err().contains("2 announced"));
}

#[test]
fn an_archive_that_is_cut_anywhere_is_an_error_and_noise_never_a_panic() {
    let small = image()[..50_000].to_vec();
    for one in [file("a.img", &small), file("disk", &small).streamed().wide()] {
        let bytes = archive(&[one]);
        for cut in (0..bytes.len()).step_by(997).chain(bytes.len() - 60..bytes.len()) {
            let cut_off = Zip::new(&bytes[..cut]).read_to_end(&mut Vec::new()).unwrap_err();
            assert_eq!(
                cut_off.kind(),
                ErrorKind::UnexpectedEof,
                "cut at {cut}: {cut_off}"
            );
        }
        for at in (0..120).chain(bytes.len() - 120..bytes.len()) {
            for flip in [1, 0x80, 0xFF] {
                let mut noisy = bytes.clone();
                noisy[at] ^= flip;
                // Some bytes mean nothing, such as the time; what matters is that it ends.
                if let Ok(read) = read(&noisy) {
                    assert!(read == small, "byte {at} changed the image unnoticed");
                }
            }
        }
    }
}

#[test]
fn more_entries_than_any_image_has_are_refused() {
    let many = vec![file("x/", b"").stored(); MOST + 1];
    assert!(read(&archive(&many)).unwrap_err().contains("more than"));
}
