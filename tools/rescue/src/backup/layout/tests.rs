use super::*;
use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

const MIB: u64 = 1 << 20;
const SIZE: u64 = 64 * MIB;

/// A disk of which sfdisk made the table.
fn disk(name: &str, script: &str) -> Vec<u8> {
    let path = std::env::temp_dir().join(format!("lifeboot-layout-{name}-{}", std::process::id()));
    fs::write(&path, vec![0; usize::try_from(SIZE).unwrap()]).unwrap();
    let search = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap());
    let mut child = Command::new("sfdisk")
        .args(["-q", "--no-reread"])
        .arg(&path)
        .env("PATH", search)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
    let bytes = fs::read(&path).unwrap();
    fs::remove_file(path).unwrap();
    bytes
}

fn read_all(disk: &[u8]) -> Result<Vec<Part>, String> {
    read(disk, disk.len() as u64, 512)
}

fn part(from: u64, size: u64) -> Part {
    Part {
        from: from * MIB,
        to: (from + size) * MIB,
    }
}

#[test]
fn partitions_are_those_of_the_disk_s_own_table() {
    let old = disk(
        "old",
        "label: dos\nstart=1MiB size=8MiB\nstart=10MiB size=8MiB\nstart=20MiB type=5\nstart=21MiB size=4MiB\nstart=26MiB size=5MiB\n",
    );
    let expected = [part(1, 8), part(10, 8), part(21, 4), part(26, 5)];
    assert_eq!(read_all(&old).unwrap(), expected);
    let gpt = disk("gpt", "label: gpt\nstart=2MiB size=8MiB\nstart=30MiB size=8MiB\n");
    assert_eq!(read_all(&gpt).unwrap(), [part(2, 8), part(30, 8)]);
    assert_eq!(read_all(&vec![0; 1 << 20]).unwrap(), []);
}

#[test]
fn a_table_that_is_damaged_or_odd_is_not_believed() {
    let gpt = disk(
        "damaged",
        "label: gpt\nstart=2MiB size=8MiB\nstart=30MiB size=8MiB\n",
    );
    for at in [512, 512 + 16, 512 + 40, 512 + 72, 1024 + 3, 1024 + 32] {
        let mut changed = gpt.clone();
        changed[at] ^= 1;
        assert!(read_all(&changed).unwrap_err().contains("damaged"), "byte {at}");
    }
    // A second entry beside the one that stands for the GPT.
    let mut hybrid = gpt.clone();
    hybrid[462..478].copy_from_slice(&[0, 0, 0, 0, 0x0C, 0, 0, 0, 0, 16, 0, 0, 0, 16, 0, 0]);
    assert!(read_all(&hybrid).unwrap_err().contains("two partition tables"));
    let mut old = disk("odd", "label: dos\nstart=1MiB size=8MiB\nstart=10MiB size=8MiB\n");
    let mut overlapping = old.clone();
    overlapping[446 + 12 + 2] = 0x7F;
    assert!(read_all(&overlapping).unwrap_err().contains("behind the end"));
    overlapping[446 + 12 + 2] = 1;
    assert!(read_all(&overlapping).unwrap_err().contains("overlap"));
    assert!(read_all(&old[..512]).is_err());
    // A chain that ends in itself.
    old[446 + 4] = 5;
    let link = 2048 * 512;
    old[link + 510..link + 512].copy_from_slice(&[0x55, 0xAA]);
    old[link + 446 + 4] = 5;
    old[link + 446 + 12] = 1;
    assert!(read_all(&old).unwrap_err().contains("no end"));
}
