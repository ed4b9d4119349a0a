//! Small images, made on the spot with mke2fs, debugfs and mkfs.vfat, whole and damaged.

mod damaged;

use std::fs;
use std::os::unix::fs::{FileExt, symlink};
use std::path::PathBuf;
use std::process::Command;

use super::*;
use crate::tree::{Kind, Mounts};

const MIB: u64 = 1 << 20;
/// Where the partitions of [`Image`] start.
const BOOT: u64 = MIB;
const ROOT: u64 = 9 * MIB;
const ROOT_LENGTH: u64 = 16 * MIB;

/// A disk with an MBR, a FAT boot partition and an ext4 root, as Raspberry Pi OS has them.
struct Image {
    directory: tempfile::TempDir,
    file: PathBuf,
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .env("MTOOLS_SKIP_CHECK", "1")
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}; tests/scripts/dependencies installs it"));
    assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

impl Image {
    /// `commands` are debugfs's, run on the root file system; `options` are mke2fs's.
    fn with(commands: &[&str], options: &[&str], fat: &str) -> Self {
        // FAT32 has at least 65525 clusters.
        let root_at = if fat == "32" { 41 * MIB } else { ROOT };
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
        let root = directory.path().join("root");
        fs::create_dir_all(root.join("etc")).unwrap();
        fs::create_dir_all(root.join("boot/firmware")).unwrap();
        fs::create_dir_all(root.join("usr/bin")).unwrap();
        fs::write(
            root.join("etc/fstab"),
            "proc /proc proc defaults 0 0\nPARTUUID=5DE1E7A3-01 /boot/firmware vfat defaults 0 2\n",
        )
        .unwrap();
        fs::write(root.join("etc/os-release"), "ID=raspbian\n").unwrap();
        fs::write(root.join("usr/bin/ping"), vec![7; 10_000]).unwrap();
        fs::hard_link(root.join("usr/bin/ping"), root.join("usr/bin/ping4")).unwrap();
        symlink("ping", root.join("usr/bin/ping6")).unwrap();
        symlink("usr/bin", root.join("bin")).unwrap();
        symlink("x".repeat(100), root.join("long")).unwrap();
        symlink("../../../../etc/passwd", root.join("out")).unwrap();
        symlink("loop", root.join("loop")).unwrap();

        let ext4 = at("root.ext4");
        fs::File::create(&ext4).unwrap().set_len(ROOT_LENGTH).unwrap();
        let root = root.to_str().unwrap();
        let mut arguments = vec!["-q", "-F", "-L", "rootfs", "-d", root];
        arguments.extend(options);
        arguments.push(&ext4);
        run("mke2fs", &arguments);
        let script = at("script");
        fs::write(&script, commands.join("\n")).unwrap();
        run("debugfs", &["-w", "-f", &script, &ext4]);

        let vfat = at("boot.fat");
        fs::File::create(&vfat).unwrap().set_len(root_at - BOOT).unwrap();
        let cluster = if fat == "12" { "8" } else { "1" };
        run(
            "mkfs.vfat",
            &["-F", fat, "-s", cluster, "-n", "BOOTFS", "-i", "5de1e7a3", &vfat],
        );
        let boot = directory.path().join("boot");
        fs::create_dir_all(boot.join("overlays")).unwrap();
        fs::write(boot.join("config.txt"), "arm_64bit=1\n").unwrap();
        fs::write(boot.join("bcm2711-rpi-4-b.dtb"), vec![3; 5000]).unwrap();
        fs::write(boot.join("overlays/disable-bt.dtbo"), "overlay").unwrap();
        let all = ["config.txt", "bcm2711-rpi-4-b.dtb", "overlays"]
            .map(|name| boot.join(name).to_str().unwrap().to_owned());
        let mut arguments = vec!["-Q", "-s", "-m", "-i", &vfat];
        arguments.extend(all.iter().map(String::as_str));
        arguments.push("::/");
        run("mcopy", &arguments);

        let file = directory.path().join("raspios.img");
        let image = fs::File::create(&file).unwrap();
        let mut table = vec![0; 512];
        table[440..444].copy_from_slice(&0x5de1_e7a3_u32.to_le_bytes());
        for (entry, kind, start, length) in [
            (446, 0x0c, BOOT, root_at - BOOT),
            (462, 0x83, root_at, ROOT_LENGTH),
        ] {
            table[entry + 4] = kind;
            let sectors = |bytes: u64| u32::try_from(bytes / 512).unwrap().to_le_bytes();
            table[entry + 8..entry + 12].copy_from_slice(&sectors(start));
            table[entry + 12..entry + 16].copy_from_slice(&sectors(length));
        }
        table[510..512].copy_from_slice(&[0x55, 0xaa]);
        image.write_all_at(&table, 0).unwrap();
        image.write_all_at(&fs::read(&vfat).unwrap(), BOOT).unwrap();
        image.write_all_at(&fs::read(&ext4).unwrap(), root_at).unwrap();
        Self { directory, file }
    }

    fn new() -> Self {
        Self::with(&[], &["-t", "ext4"], "16")
    }

    fn open(&self) -> Result<Tree> {
        open(&self.file, &self.directory.path().join("scratch"))
    }

    fn error(&self) -> String {
        format!("{:#}", self.open().unwrap_err())
    }

    fn write(&self, at: u64, bytes: &[u8]) {
        let file = fs::File::options().write(true).open(&self.file).unwrap();
        file.write_all_at(bytes, at).unwrap();
    }

    fn bytes(&self, at: u64, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        fs::File::open(&self.file)
            .unwrap()
            .read_exact_at(&mut bytes, at)
            .unwrap();
        bytes
    }
}

#[test]
fn a_system_is_read_from_both_partitions() {
    let tree = Image::new().open().unwrap();
    assert_eq!(tree.name(), "raspios.img");
    assert_eq!(tree.read("/boot/firmware/config.txt").unwrap(), b"arm_64bit=1\n");
    assert_eq!(
        tree.read("/boot/firmware/bcm2711-rpi-4-b.dtb").unwrap(),
        vec![3; 5000]
    );
    assert_eq!(tree.names("/boot/firmware/overlays"), ["disable-bt.dtbo"]);
    assert_eq!(tree.read("/bin/ping6").unwrap(), vec![7; 10_000]);
    assert_eq!(tree.read_link("/long").unwrap().as_os_str().len(), 100);
    assert_eq!(tree.names("/usr/bin"), ["ping", "ping4", "ping6"]);
    for path in ["/out", "/loop", "/usr/bin/none", "/usr/bin/ping/x"] {
        assert!(!tree.exists(path).unwrap(), "{path}");
        assert!(tree.read(path).is_err(), "{path}");
    }
    let paths: Vec<PathBuf> = tree
        .walk("/boot", Mounts::LeftOut)
        .unwrap()
        .map(|entry| entry.unwrap().path)
        .collect();
    assert_eq!(paths, [PathBuf::from("boot"), PathBuf::from("boot/firmware")]);
}

#[test]
fn what_an_inode_says_is_what_debugfs_wrote() {
    for options in [
        &["-t", "ext4"][..],
        &[
            "-t",
            "ext4",
            "-O",
            "metadata_csum_seed,^64bit",
            "-b",
            "1024",
            "-I",
            "256",
        ],
        &["-t", "ext2", "-b", "1024", "-I", "128"],
        &["-t", "ext3", "-I", "256"],
    ] {
        let image = Image::with(
            &[
                "set_inode_field usr/bin/ping mode 0104755",
                "set_inode_field usr/bin/ping uid 70001",
                "set_inode_field usr/bin/ping gid 5",
                "set_inode_field usr/bin/ping mtime @1700000000",
                "ea_set usr/bin/ping security.capability \\x01\\x00\\x00\\x02\\x00\\x20",
                "ea_set etc user.note short",
                "mknod null c 1 3",
                "mknod disk b 259 300",
                "mknod pipe p",
            ],
            options,
            "16",
        );
        let tree = image.open().unwrap();
        let ping = tree.lstat("/usr/bin/ping").unwrap();
        assert_eq!(
            (
                ping.kind,
                ping.mode,
                ping.user,
                ping.group,
                ping.modified,
                ping.size,
                ping.links
            ),
            (Kind::File, 0o4755, 70001, 5, 1_700_000_000, 10_000, 2)
        );
        assert_eq!(ping.identity, tree.lstat("/usr/bin/ping4").unwrap().identity);
        assert_ne!(ping.identity, tree.lstat("/usr/bin/ping6").unwrap().identity);
        let attributes = tree.attributes("/usr/bin/ping").unwrap();
        assert_eq!(
            attributes,
            [("security.capability".into(), vec![1, 0, 0, 2, 0, 0x20])],
            "{options:?}"
        );
        assert_eq!(
            tree.attributes("/etc").unwrap(),
            [("user.note".into(), b"short".to_vec())]
        );
        assert_eq!(tree.attributes("/usr").unwrap(), []);
        let node = |path| tree.lstat(path).map(|found| (found.kind, found.device)).unwrap();
        assert_eq!(node("/null"), (Kind::CharacterDevice, (1, 3)));
        assert_eq!(node("/disk"), (Kind::BlockDevice, (259, 300)));
        assert_eq!(node("/pipe"), (Kind::Pipe, (0, 0)));
    }
}

#[test]
fn a_directory_of_many_blocks_is_read_whole_and_sparse_files_have_zeros() {
    for options in [&["-t", "ext4"][..], &["-t", "ext2", "-b", "1024"]] {
        let list: Vec<String> = (0..3000)
            .map(|number| format!("mkdir d/a-rather-long-name-{number}"))
            .collect();
        let mut commands = vec!["mkdir d"];
        commands.extend(list.iter().map(String::as_str).take(300));
        let image = Image::with(&commands, options, "16");
        assert_eq!(image.open().unwrap().names("/d").len(), 300);
    }
}

#[test]
fn fat_of_every_width_is_read() {
    for width in ["12", "16", "32"] {
        let tree = Image::with(&[], &["-t", "ext4"], width).open().unwrap();
        assert_eq!(
            tree.read("/boot/firmware/overlays/DISABLE-BT.dtbo").unwrap(),
            b"overlay"
        );
        assert_eq!(
            tree.names("/boot/firmware"),
            ["bcm2711-rpi-4-b.dtb", "config.txt", "overlays"]
        );
        assert_eq!(
            tree.lstat("/boot/firmware/bcm2711-rpi-4-b.dtb").unwrap().size,
            5000
        );
    }
}

#[test]
fn a_root_file_system_by_itself_is_an_image_too() {
    let image = Image::new();
    let part = image.bytes(ROOT, usize::try_from(ROOT_LENGTH).unwrap());
    fs::write(&image.file, part).unwrap();
    assert_eq!(image.open().unwrap().names("/boot/firmware"), [] as [&str; 0]);
}
