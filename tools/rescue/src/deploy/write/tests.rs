use super::*;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

struct Disk {
    path: PathBuf,
}

impl Disk {
    /// A "disk" full of what was there before.
    fn used(name: &str, size: usize) -> Disk {
        let path = std::env::temp_dir().join(format!("lifeboot-deploy-{name}-{}", std::process::id()));
        std::fs::write(&path, vec![0xA5; size]).unwrap();
        Disk { path }
    }

    fn medium(&self) -> Medium {
        Medium::open(&self.path).unwrap()
    }

    fn bytes(&self) -> Vec<u8> {
        std::fs::read(&self.path).unwrap()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        std::fs::remove_file(&self.path).unwrap();
    }
}

struct Blind;

impl Watch for Blind {
    fn at(&self, _: u64) {}
}

/// Bytes that differ everywhere, with holes of zeros.
fn image(len: usize) -> Vec<u8> {
    let byte = |at: usize| match at / (3 * GRAIN / 2) % 3 {
        1 => 0,
        _ => (at.wrapping_mul(2_654_435_761) >> 13) as u8 | 1,
    };
    (0..len).map(byte).collect()
}

fn land(medium: &Medium, image: &[u8], zeros: Zeros) -> anyhow::Result<Landed> {
    let mut writer = Writer::new(medium, None);
    writer.zeros = zeros;
    let mut source = image;
    let mut chunk = Block::new(CHUNK);
    loop {
        fill(&mut chunk, &mut source)?;
        if chunk.filled == 0 {
            return writer.finish();
        }
        writer.take(&mut chunk)?;
    }
}

#[test]
fn an_image_lands_byte_for_byte_however_zeros_are_made() {
    let size = 3 * CHUNK;
    for zeros in [Zeros::Ordered, Zeros::Looked(0), Zeros::Written] {
        for len in [1, 513, HEAD, HEAD + 512, CHUNK, 2 * CHUNK + 700, size] {
            let disk = Disk::used("lands", size);
            let medium = disk.medium();
            let image = image(len);
            medium.blank().unwrap();
            let landed = land(&medium, &image, zeros).unwrap();
            assert!(is_zero(&disk.bytes()[..HEAD]), "{len}: usable before the check");
            landed.check(&medium, &Blind).unwrap();
            landed.commit(&medium).unwrap();
            let bytes = disk.bytes();
            assert!(bytes[..len] == image, "{zeros:?} {len}");
            assert_eq!(bytes.len(), size, "{zeros:?} {len}");
        }
    }
}

#[test]
fn a_blank_disk_has_neither_beginning_nor_end() {
    for size in [512, HEAD, HEAD + 512, 2 * HEAD, 5 * HEAD] {
        let disk = Disk::used("blank", size);
        disk.medium().blank().unwrap();
        let bytes = disk.bytes();
        assert_eq!(bytes.len(), size);
        assert!(is_zero(&bytes[..size.min(HEAD)]), "{size}");
        assert!(
            is_zero(&bytes[size.saturating_sub(HEAD).next_multiple_of(ALIGN).min(size)..]),
            "{size}"
        );
        if size > 3 * HEAD {
            assert_eq!(bytes[size / 2], 0xA5);
        }
    }
}

#[test]
fn one_byte_that_fits_and_one_that_does_not() {
    let disk = Disk::used("small", CHUNK);
    let medium = disk.medium();
    assert!(land(&medium, &image(CHUNK), Zeros::Ordered).is_ok());
    let error = land(&medium, &image(CHUNK + 1), Zeros::Ordered).err().unwrap();
    assert!(error.to_string().contains("4194304 bytes"), "{error}");
    assert!(land(&medium, b"", Zeros::Ordered).is_err());
}

#[test]
fn a_byte_that_the_disk_loses_is_found() {
    let disk = Disk::used("forgetful", 3 * CHUNK);
    let medium = disk.medium();
    medium.blank().unwrap();
    let landed = land(&medium, &image(2 * CHUNK + 9), Zeros::Ordered).unwrap();
    assert!(landed.check(&medium, &Blind).is_ok());
    let file = std::fs::File::options().write(true).open(&disk.path).unwrap();
    file.write_all_at(&[0x77], CHUNK as u64 + 5).unwrap();
    let error = landed.check(&medium, &Blind).unwrap_err().to_string();
    assert!(error.contains("bytes 4194304 to 8388608"), "{error}");
    assert!(is_zero(&disk.bytes()[..HEAD]));
}

#[test]
fn zeros_that_are_there_are_not_written_again() {
    let disk = Disk::used("zeros", 2 * CHUNK);
    let medium = disk.medium();
    let zeros = vec![0; CHUNK];
    let first = land(&medium, &zeros, Zeros::Looked(0)).unwrap();
    assert_eq!(first.not_written, 0);
    let again = land(&medium, &zeros, Zeros::Looked(0)).unwrap();
    // The head is kept in any case.
    assert_eq!(again.not_written, (CHUNK - HEAD) as u64);
}

#[test]
fn runs_are_as_long_as_they_can_be() {
    let mut chunk = Block::new(CHUNK);
    chunk.part_mut(0, CHUNK)[GRAIN * 2] = 1;
    assert_eq!(
        runs(&chunk, 0, CHUNK),
        [
            (0, GRAIN * 2, true),
            (GRAIN * 2, GRAIN * 3, false),
            (GRAIN * 3, CHUNK, true)
        ]
    );
    assert_eq!(
        runs(&chunk, GRAIN * 3, GRAIN * 3 + 512),
        [(GRAIN * 3, GRAIN * 3 + 512, true)]
    );
}

#[test]
fn zeros_and_sums_see_every_byte_also_of_what_is_no_whole_word() {
    for len in [1, 7, 8, 15, 16, 17, 4099] {
        let zeros = vec![0; len];
        assert!(is_zero(&zeros), "{len}");
        for at in [0, len / 2, len - 1] {
            let mut one = zeros.clone();
            one[at] = 0x80;
            assert!(!is_zero(&one), "{len}: {at}");
            assert_ne!(sum(&one), sum(&zeros), "{len}: {at}");
        }
        assert_ne!(sum(&zeros), sum(&zeros[1..]), "{len}");
    }
    // A disk that gives another block's bytes.
    let two = [[1; 512], [2; 512]];
    assert_ne!(sum(two.as_flattened()), sum([two[1], two[0]].as_flattened()));
}
