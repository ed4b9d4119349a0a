//! A key partition: read where the image or the command line asks for one, and only as far as the image allows; whatever is wrong with it,
//! the machine is reached.

use crate::world::{BOOT, pc};
use anyhow::{Context, Result, ensure};
use lifeboot_tests::artefacts::{keys_dir, test_image};
use lifeboot_tests::cpio;
use lifeboot_tests::fixtures::disk::Disks;
use lifeboot_tests::fixtures::keys;
use lifeboot_tests::guest::{Board, Client, Disk, Guest, GuestBuilder, Peer};
use lifeboot_tests::process;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What asks for it.
const WORD: &str = "lifeboot.key-partition=LABEL=LIFEBOOT";
/// Where the partition begins on the disk.
const OFFSET: u64 = 1 << 20;
const MIB: u64 = 1 << 20;

/// A disk with an MBR and one FAT partition of 8 MiB that holds these files.
fn disk(disks: &Disks, name: &str, files: &[(&str, &[u8])]) -> Result<PathBuf> {
    let path = disks.blank(name, 9)?;
    let mut record = [0; 512];
    // Status, three bytes of an address nobody reads, type FAT with LBA, again three bytes, first sector, sectors.
    record[446..462].copy_from_slice(&[
        0, 0xfe, 0xff, 0xff, 0x0c, 0xfe, 0xff, 0xff, 0, 8, 0, 0, 0, 64, 0, 0,
    ]);
    record[510..].copy_from_slice(&[0x55, 0xaa]);
    let file = OpenOptions::new().write(true).open(&path).context("disk")?;
    file.write_all_at(&record, 0).context("MBR")?;
    let image = path.to_string_lossy().into_owned();
    let (sectors, kib) = ((OFFSET / 512).to_string(), (8 * MIB / 1024).to_string());
    process::run(
        "mkfs.vfat",
        ["-n", "LIFEBOOT", "--offset", &sectors, &image, &kib],
    )?;
    for (name, content) in files {
        let file = disks.dir().join("content");
        fs::write(&file, content).context("content")?;
        let at = format!("{image}@@{OFFSET}");
        process::run(
            "mcopy",
            ["-i", &at, &file.to_string_lossy(), &format!("::{name}")],
        )?;
    }
    Ok(path)
}

/// A fresh host key with its fingerprint.
fn host_key(disks: &Disks) -> Result<(Vec<u8>, String)> {
    let path = disks.dir().join("host_key");
    let name = path.to_string_lossy().into_owned();
    process::run(
        "ssh-keygen",
        ["-q", "-t", "ed25519", "-N", "", "-C", "", "-f", &name],
    )?;
    let told = process::run("ssh-keygen", ["-l", "-f", &name])?;
    let fingerprint = told.split_whitespace().nth(1).context("fingerprint")?.to_owned();
    Ok((fs::read(&path).context("host key")?, fingerprint))
}

fn stranger() -> PathBuf {
    keys_dir().join(keys::STRANGER)
}

fn strangers_line() -> Result<Vec<u8>> {
    fs::read(stranger().with_extension("pub")).context("the stranger's key")
}

/// The test image with this as its baked configuration.
pub fn image_with(disks: &Disks, config: &str) -> Result<PathBuf> {
    let whole = test_image(Board::PcX86_64)?.initrd;
    let mut archive = process::run_with(Command::new("zstd").arg("-dc").arg(&whole), b"")?
        .success()
        .context("zstd")?
        .stdout;
    let mut more = cpio::Writer::default();
    more.file("etc/lifeboot/config.toml", 0o644, config.as_bytes());
    archive.extend(more.finish());
    let packed = process::run_with(Command::new("zstd").args(["-1", "-c"]), &archive)?
        .success()
        .context("zstd")?
        .stdout;
    let path = disks.dir().join("initramfs");
    fs::write(&path, packed).context("initramfs")?;
    Ok(path)
}

fn boot(guest: GuestBuilder, disk: Option<&Path>) -> Result<(Guest, Client)> {
    let guest = match disk {
        Some(path) => guest.disk(Disk::raw(path)),
        None => guest,
    };
    let mut guest = guest.boot()?;
    guest.wait_event("ssh.listening", BOOT)?;
    let client = guest.wait_ssh(Peer::Rescue, BOOT)?;
    Ok((guest, client))
}

/// Where the ssh server has its key from, and its fingerprint as OpenSSH saw it.
fn server(guest: &mut Guest) -> Result<(String, String)> {
    let told = guest.wait_event("ssh.listening", BOOT)?;
    let known = guest.dir().join("known_hosts.rescue");
    let seen = process::run("ssh-keygen", ["-l", "-f", &known.to_string_lossy()])?;
    let seen = seen.split_whitespace().nth(1).unwrap_or_default().to_owned();
    ensure!(told.str("fingerprint") == seen, "told {told:?}, seen {seen}");
    Ok((told.str("host_key").to_owned(), seen))
}

fn logs_in(client: &Client, identity: &Path) -> Result<bool> {
    let outcome = client.clone().identity(identity).run(&["true"])?;
    ensure!(
        matches!(outcome.status, Some(0 | 255)),
        "status {:?}: {}",
        outcome.status,
        outcome.errors()
    );
    Ok(outcome.status == Some(0))
}

#[test]
fn the_host_key_the_keys_and_the_parameters_of_a_key_partition_are_taken() -> Result<()> {
    let disks = Disks::new("keys-all")?;
    let (key, fingerprint) = host_key(&disks)?;
    let config = b"lifeboot.hostname = \"from-the-partition\"\nlifeboot.retry = 3\n";
    let files = [
        ("ssh_host_ed25519_key", key.as_slice()),
        ("authorized_keys", &strangers_line()?),
        ("config.toml", config),
    ];
    let path = disk(&disks, "keys.img", &files)?;
    let before = fs::read(&path).context("disk")?;
    let (mut guest, client) = boot(pc("key partition").word(WORD), Some(&path))?;
    let done = guest.wait_event("keys.done", BOOT)?;
    ensure!(done.str("device") == "/dev/vda1", "{done:?}");
    ensure!(server(&mut guest)? == ("key-partition".to_owned(), fingerprint.clone()));
    ensure!(
        logs_in(&client, &stranger())?,
        "the key of the partition does not log in"
    );
    ensure!(
        logs_in(&client, &keys_dir().join("ed25519"))?,
        "the image's key does not log in"
    );
    let name = client.run(&["hostname"])?.success()?.text();
    ensure!(name.trim() == "from-the-partition", "the host is called {name}");
    let said = client
        .run(&["grep keys /proc/mounts; ls -ld /run/lifeboot/keys; rescue log --json"])?
        .success()?
        .text();
    ensure!(!said.contains("keys.mounted"), "it is still mounted: {said}");
    ensure!(!said.contains("PRIVATE"), "the log has the key");
    // The same server again after it was killed: the client would refuse another host key.
    client.run(&["for p in /proc/[0-9]*; do case $(tr '\\0' ' ' <$p/cmdline) in 'rescue sshd '*) kill -9 ${p#/proc/};; esac; done"])?;
    guest.wait_event_where("init.respawn", BOOT, |event| event.str("child") == "sshd")?;
    guest.wait_ssh(Peer::Rescue, BOOT)?;
    guest.passed()?;
    ensure!(
        fs::read(&path).context("disk")? == before,
        "the disk was written to"
    );
    Ok(())
}

#[test]
fn a_disk_of_that_label_is_nothing_to_an_image_that_does_not_ask_for_it() -> Result<()> {
    let disks = Disks::new("keys-unasked")?;
    let (key, _) = host_key(&disks)?;
    let files = [
        ("ssh_host_ed25519_key", key.as_slice()),
        ("authorized_keys", &strangers_line()?),
    ];
    let path = disk(&disks, "keys.img", &files)?;
    let (mut guest, client) = boot(pc("key partition nobody asked for"), Some(&path))?;
    ensure!(server(&mut guest)?.0 == "generated");
    ensure!(!logs_in(&client, &stranger())?, "whoever plugs in a disk logs in");
    ensure!(!guest.has_event("keys.done")? && !guest.has_event("keys.failed")?);
    guest.passed()
}

#[test]
fn a_partition_that_does_not_come_is_waited_for_as_long_as_told_and_no_longer() -> Result<()> {
    let guest = pc("no key partition").word(WORD).word("lifeboot.key-wait=2");
    let (mut guest, _) = boot(guest, None)?;
    let absent = guest.wait_event("keys.absent", BOOT)?;
    ensure!(absent.u64("seconds") == Some(2), "{absent:?}");
    let listening = guest.wait_event("ssh.listening", BOOT)?;
    ensure!(absent.ms <= listening.ms, "sshd did not wait: {absent:?}");
    // That is what is said when the server starts because nobody has said that the search is over.
    ensure!(!guest.has_event("keys.failed")?, "sshd waited longer than that");
    ensure!(server(&mut guest)?.0 == "generated");
    guest.passed()
}

#[test]
fn what_the_image_locks_is_not_taken_from_a_key_partition() -> Result<()> {
    let disks = Disks::new("keys-locked")?;
    let (key, fingerprint) = host_key(&disks)?;
    let config = b"lifeboot.verify = \"off\"\nlifeboot.hostname = \"unlocked\"\n";
    let files = [
        ("ssh_host_ed25519_key", key.as_slice()),
        ("authorized_keys", &strangers_line()?),
        ("config.toml", config),
    ];
    let path = disk(&disks, "keys.img", &files)?;
    let baked =
        "lifeboot.key-partition = \"LABEL=LIFEBOOT\"\nlocked = [\"lifeboot.ssh-key\", \"lifeboot.verify\"]\n";
    let initrd = image_with(&disks, baked)?;
    let (mut guest, client) = boot(pc("locked").initrd(initrd), Some(&path))?;
    // The host key is nobody's right to log in: it is taken.
    ensure!(server(&mut guest)? == ("key-partition".to_owned(), fingerprint));
    ensure!(
        !logs_in(&client, &stranger())?,
        "a locked image took a key from a disk"
    );
    for (key, word) in [
        ("authorized_keys of the key partition", "lifeboot.ssh-key"),
        ("config.toml of the key partition", "lifeboot.verify"),
    ] {
        let note = guest.wait_event_where("plan.note", BOOT, |note| note.str("key") == key)?;
        ensure!(note.str("what").contains(word), "{note:?}");
    }
    let plan = client
        .run(&["cat /run/lifeboot/plan.json; hostname"])?
        .success()?
        .text();
    ensure!(
        plan.contains("\"verify\":\"required\"") && plan.contains("unlocked"),
        "{plan}"
    );
    guest.passed()
}

#[test]
fn two_partitions_of_the_label_are_none() -> Result<()> {
    let disks = Disks::new("keys-two")?;
    let keys = strangers_line()?;
    let files = [("authorized_keys", keys.as_slice())];
    let (first, second) = (disk(&disks, "a.img", &files)?, disk(&disks, "b.img", &files)?);
    let guest = pc("two key partitions").word(WORD).disk(Disk::raw(second));
    let (mut guest, client) = boot(guest, Some(&first))?;
    let failed = guest.wait_event("keys.failed", BOOT)?;
    ensure!(failed.str("what").contains("/dev/vda1, /dev/vdb1"), "{failed:?}");
    ensure!(!logs_in(&client, &stranger())?, "one of the two was taken");
    guest.wait_console("there are several", BOOT)?;
    guest.passed()
}

#[test]
fn bad_files_are_named_and_the_machine_is_reached_with_what_the_image_has() -> Result<()> {
    let disks = Disks::new("keys-bad")?;
    let files: [(&str, &[u8]); 3] = [
        (
            "ssh_host_ed25519_key",
            b"-----BEGIN OPENSSH PRIVATE KEY-----\nnonsense\n",
        ),
        ("authorized_keys", b"ssh-ed25519 AAAA nobody\nnonsense\n"),
        ("config.toml", b"lifeboot.ssh-port = 2222\nroot = [\n"),
    ];
    let path = disk(&disks, "keys.img", &files)?;
    let (mut guest, _) = boot(pc("bad key files").word(WORD), Some(&path))?;
    ensure!(server(&mut guest)?.0 == "generated");
    let failed = guest.wait_event("keys.failed", BOOT)?;
    ensure!(
        failed.str("what").starts_with("ssh_host_ed25519_key"),
        "{failed:?}"
    );
    for (file, what) in [
        ("authorized_keys", "line 1: "),
        ("authorized_keys", "line 2: "),
        ("config.toml", "is ignored: "),
    ] {
        let name = format!("{file} of the key partition");
        guest.wait_event_where("plan.note", BOOT, |event| {
            event.str("key") == name && event.str("what").starts_with(what)
        })?;
        guest.wait_console(&name, BOOT)?;
    }
    // Nothing of the bad file counts, and the boot is where it is without it.
    guest.wait_event("boot.idle", BOOT)?;
    guest.passed()
}

#[test]
fn a_damaged_fat_does_not_stop_the_boot() -> Result<()> {
    let disks = Disks::new("keys-damaged")?;
    // Longer than a cluster, so that reading it needs the allocation table.
    let mut keys = vec![b'#'; 40_000];
    keys.push(b'\n');
    keys.extend(strangers_line()?);
    let path = disk(&disks, "keys.img", &[("authorized_keys", &keys)])?;
    let whole = disks.dir().join("whole.img");
    fs::copy(&path, &whole).context("copy")?;
    // Both tables empty, but for the two entries that say that they are tables.
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)
        .context("disk")?;
    let mut boot_sector = [0; 512];
    file.read_exact_at(&mut boot_sector, OFFSET)
        .context("boot sector")?;
    let number = |at: usize| u64::from(u16::from_le_bytes([boot_sector[at], boot_sector[at + 1]]));
    let (reserved, sectors) = (number(14), number(22));
    for table in 0..2 {
        let at = OFFSET + 512 * (reserved + table * sectors);
        let nothing = vec![0; (512 * sectors - 4) as usize];
        file.write_all_at(&nothing, at + 4).context("FAT")?;
    }
    let (mut guest, client) = boot(pc("damaged key partition").word(WORD), Some(&path))?;
    let failed = guest.wait_event("keys.failed", BOOT)?;
    ensure!(failed.str("what").contains("authorized_keys"), "{failed:?}");
    ensure!(!logs_in(&client, &stranger())?, "half a file was taken");
    guest.wait_event("boot.idle", BOOT)?;
    guest.passed()?;
    // What differs is the damage alone.
    let (guest, client) = boot(pc("whole key partition").word(WORD), Some(&whole))?;
    ensure!(
        logs_in(&client, &stranger())?,
        "the key of a whole partition does not log in"
    );
    guest.passed()
}

#[test]
#[ignore = "make test-all"]
fn a_pipeline_that_does_not_come_to_the_search_does_not_keep_sshd_away() -> Result<()> {
    let mut guest = pc("stopped before the devices")
        .word(WORD)
        .word("lifeboot.key-wait=0")
        .word("rd.break=devices")
        .boot()?;
    guest.wait_event("boot.break", BOOT)?;
    let failed = guest.wait_event("keys.failed", BOOT)?;
    ensure!(
        failed.str("what").contains("sshd starts without it"),
        "{failed:?}"
    );
    guest.wait_event("ssh.listening", BOOT)?;
    guest.passed()
}
