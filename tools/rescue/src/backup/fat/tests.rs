use super::*;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

const MIB: u64 = 1 << 20;
const START: u64 = MIB;

struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Dir {
        let path = std::env::temp_dir().join(format!("lifeboot-fat-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        for number in 0..20_usize {
            let bytes: Vec<u8> = (0..number * 4099)
                .map(|at| (at * number + at / 256) as u8)
                .collect();
            fs::write(path.join(format!("f{number}")), bytes).unwrap();
        }
        Dir(path)
    }

    fn disk(&self, bits: &str, size: u64, options: &[&str]) -> Vec<u8> {
        let image = self.0.join("fs");
        fs::write(&image, vec![0xA5; usize::try_from(size).unwrap()]).unwrap();
        let name = image.to_string_lossy().into_owned();
        run("mkfs.vfat", &[&["-F", bits], options, &[&name]].concat());
        for number in 0..20 {
            let file = self.0.join(format!("f{number}"));
            run("mcopy", &["-i", &name, &file.to_string_lossy(), "::"]);
        }
        // A hole in the middle.
        run("mdel", &["-i", &name, "::f7"]);
        let mut disk = vec![0xEE; START as usize];
        disk.extend(fs::read(&image).unwrap());
        disk
    }

    fn is_whole(&self, bytes: &[u8]) {
        let image = self.0.join("after");
        fs::write(&image, bytes).unwrap();
        let name = image.to_string_lossy().into_owned();
        run("fsck.vfat", &["-n", &name]);
        for number in (0..20).filter(|number| *number != 7) {
            let out = self.0.join("out");
            run(
                "mcopy",
                &["-n", "-i", &name, &format!("::f{number}"), &out.to_string_lossy()],
            );
            let file = self.0.join(format!("f{number}"));
            assert!(fs::read(file).unwrap() == fs::read(&out).unwrap(), "f{number}");
            fs::remove_file(out).unwrap();
        }
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn run(program: &str, words: &[&str]) {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap());
    let done = Command::new(program)
        .args(words)
        .env("PATH", path)
        .output()
        .unwrap();
    let said = [done.stdout, done.stderr].concat();
    assert!(
        done.status.success(),
        "{program} {words:?}: {}",
        String::from_utf8_lossy(&said)
    );
}

fn survey(disk: &[u8]) -> Result<Wanted, String> {
    let mut wanted = Wanted::all(disk.len() as u64);
    spare(disk, START..disk.len() as u64, &mut wanted).map(|()| wanted)
}

#[test]
fn what_is_spared_nobody_misses_in_a_fat_of_12_16_and_32_bits() {
    let dir = Dir::new("kinds");
    for (bits, size, options) in [
        ("12", 4, &["-s", "4"][..]),
        ("16", 32, &[]),
        ("16", 32, &["-f", "1", "-s", "8"]),
        ("32", 64, &["-s", "1"]),
    ] {
        let disk = dir.disk(bits, size * MIB, options);
        let wanted = survey(&disk).unwrap_or_else(|why| panic!("FAT{bits}: {why}"));
        assert!(wanted.count() < START + 3 * MIB, "FAT{bits}: {}", wanted.count());
        let mut spoiled = vec![0x5A; disk.len()];
        for (from, to) in wanted.pieces(0, disk.len() as u64) {
            spoiled[from as usize..to as usize].copy_from_slice(&disk[from as usize..to as usize]);
        }
        assert!(spoiled[..START as usize] == disk[..START as usize]);
        dir.is_whole(&spoiled[START as usize..]);
    }
}

#[test]
fn what_is_not_certain_spares_nothing() {
    let dir = Dir::new("doubts");
    let disk = dir.disk("16", 32 * MIB, &[]);
    let start = START as usize;
    let reserved = usize::from(disk[start + 14]) * 512;
    let mut closed = 0;
    for (offset, value, says) in [
        (37, 1, "closed in order"),
        (reserved + 3, 0x7F, "differ"),
        (reserved + 80, 7, "differ"),
        (11, 1, "contradicts"),
        (13, 3, "contradicts"),
        (13, 0, "contradicts"),
        (14, 0, "contradicts"),
        (16, 0, "contradicts"),
        (22, 1, "contradicts"),
        (0, 0, "contradicts"),
        (510, 0, "contradicts"),
    ] {
        let mut changed = disk.clone();
        changed[start + offset] = value;
        let why = survey(&changed).unwrap_err();
        assert!(why.contains(says), "byte {offset}: {why}");
        closed += usize::from(says == "closed in order");
    }
    assert_eq!(closed, 1);
    // The mark in both tables.
    let mut changed = disk.clone();
    let length = usize::from(u16::from_le_bytes([disk[start + 22], disk[start + 23]])) * 512;
    for table in [reserved, reserved + length] {
        changed[start + table + 3] &= 0x7F;
    }
    assert!(survey(&changed).unwrap_err().contains("closed in order"));
    assert!(survey(&disk[..disk.len() / 2]).is_err());
    assert!(survey(&vec![0; disk.len()]).is_err());
}
