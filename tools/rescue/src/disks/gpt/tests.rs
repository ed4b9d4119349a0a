use super::*;
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::atomic::{AtomicU32, Ordering};

const SECTORS: u64 = 256;

/// A disk of 128 KiB with a table of four entries of which one is used; its file has no name any more.
fn disk() -> File {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("lifeboot-gpt-{}-{count}", std::process::id()));
    let mut options = File::options();
    let disk = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&path)
        .unwrap();
    std::fs::remove_file(&path).unwrap();
    disk.set_len(SECTORS * 512).unwrap();
    let mut entries = vec![0; 512];
    entries[..16].fill(7);
    put(&mut entries, 32, 40);
    put(&mut entries, 40, 99);
    let mut first = vec![0; 512];
    first[..3].copy_from_slice(b"\xeb\x63\x90");
    protect(&mut first, SECTORS - 1);
    disk.write_all_at(&first, 0).unwrap();
    for (at, other, array) in [(1, SECTORS - 1, 2), (SECTORS - 1, 1, SECTORS - 2)] {
        disk.write_all_at(&header(at, other, array, &entries), at * 512)
            .unwrap();
        disk.write_all_at(&entries, array * 512).unwrap();
    }
    disk
}

fn header(at: u64, other: u64, array: u64, entries: &[u8]) -> Vec<u8> {
    let mut sector = vec![0; 512];
    sector[..8].copy_from_slice(SIGNATURE);
    sector[8..16].copy_from_slice(&[0, 0, 1, 0, 92, 0, 0, 0]);
    for (offset, value) in [(24, at), (32, other), (40, 34), (48, SECTORS - 34), (72, array)] {
        put(&mut sector, offset, value);
    }
    sector[56..72].fill(9);
    put(&mut sector, 80, 4 | 128 << 32);
    sector[88..92].copy_from_slice(&crc32(entries).to_le_bytes());
    seal(&mut sector);
    sector
}

fn state(disk: &File) -> Option<Gpt> {
    let size = disk.metadata().unwrap().len();
    inspect(disk, size, 512).unwrap().map(|table| table.state)
}

#[test]
fn the_checksum_is_the_one_of_the_specification() {
    assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
}

#[test]
fn each_damage_is_told_from_the_others() {
    assert_eq!(state(&disk()), Some(Gpt::Whole));
    for (at, expected) in [
        (512, Gpt::PrimaryDamaged),
        (512 + 60, Gpt::PrimaryDamaged),
        (1024 + 40, Gpt::PrimaryDamaged),
        ((SECTORS - 1) * 512, Gpt::BackupDamaged),
        ((SECTORS - 2) * 512, Gpt::BackupDamaged),
    ] {
        let disk = disk();
        disk.write_all_at(b"\xff\xfe", at).unwrap();
        assert_eq!(state(&disk), Some(expected), "byte {at}");
    }
    let larger = disk();
    larger.set_len((SECTORS + 100) * 512).unwrap();
    assert_eq!(state(&larger), Some(Gpt::BackupNotAtEnd));
    let lost = disk();
    lost.write_all_at(&[0; 512], 512).unwrap();
    lost.write_all_at(&[0; 512], (SECTORS - 1) * 512).unwrap();
    assert_eq!(state(&lost), Some(Gpt::Lost));
}

#[test]
fn a_table_of_the_old_kind_is_not_called_a_damaged_gpt() {
    let disk = disk();
    let mut first = vec![0; 512];
    disk.read_exact_at(&mut first, 0).unwrap();
    first[450] = 0x83;
    disk.write_all_at(&first, 0).unwrap();
    disk.write_all_at(&[0; 512], 512).unwrap();
    assert_eq!(state(&disk), None);
}

#[test]
fn the_restored_disk_is_the_disk_before_the_damage() {
    let whole = disk();
    let mut before = vec![0; 4096];
    whole.read_exact_at(&mut before, 0).unwrap();
    for damage in [512, 1024 + 40] {
        let disk = disk();
        disk.write_all_at(b"broken", damage).unwrap();
        let table = inspect(&disk, SECTORS * 512, 512).unwrap().unwrap();
        table.restore(&disk, "/dev/x").unwrap();
        let mut after = vec![0; 4096];
        disk.read_exact_at(&mut after, 0).unwrap();
        assert!(before == after, "byte {damage}");
    }
    let end = disk();
    end.write_all_at(&[0; 1024], (SECTORS - 2) * 512).unwrap();
    let table = inspect(&end, SECTORS * 512, 512).unwrap().unwrap();
    table.restore(&end, "/dev/x").unwrap();
    assert_eq!(state(&end), Some(Gpt::Whole));
    let disk = disk();
    disk.write_all_at(&[0; 2048], 0).unwrap();
    let table = inspect(&disk, SECTORS * 512, 512).unwrap().unwrap();
    table.restore(&disk, "/dev/x").unwrap();
    assert_eq!(state(&disk), Some(Gpt::Whole));
}

#[test]
fn a_whole_table_is_not_written_to() {
    let disk = disk();
    let table = inspect(&disk, SECTORS * 512, 512).unwrap().unwrap();
    assert!(table.restore(&disk, "/dev/x").is_err());
}

#[test]
fn headers_that_name_impossible_places_are_no_headers() {
    for (offset, value) in [
        (24, 7u64),
        (72, u64::MAX),
        (48, u64::MAX),
        (80, u64::MAX),
        (12, u64::MAX),
        (80, 0),
    ] {
        let disk = disk();
        let mut sector = vec![0; 512];
        disk.read_exact_at(&mut sector, 512).unwrap();
        put(&mut sector, offset, value);
        seal(&mut sector);
        disk.write_all_at(&sector, 512).unwrap();
        assert_eq!(
            state(&disk),
            Some(Gpt::PrimaryDamaged),
            "offset {offset}: {value}"
        );
    }
    for length in [0u64, 100, 512 * 5] {
        let disk = disk();
        disk.set_len(length).unwrap();
        assert_eq!(state(&disk), None);
    }
}
