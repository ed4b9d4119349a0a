//! Keys and headers on other devices, and what `rescue unlock` and `rescue lock` do with devices by hand.

use crate::world::{BOOT, FULL_BOOT, pc};
use anyhow::{Context, Result, ensure};
use lifeboot_contract::status::Phase;
use lifeboot_tests::artefacts::{test_image, tiny_os};
use lifeboot_tests::cpio;
use lifeboot_tests::fixtures::disk::{self, Damage, Disks, PASSPHRASE};
use lifeboot_tests::fixtures::luks;
use lifeboot_tests::guest::{Board, Client, Disk, GuestBuilder, Peer};
use std::path::{Path, PathBuf};

/// A key file with bytes that no passphrase has.
fn key(disks: &Disks) -> Result<PathBuf> {
    let path = disks.dir().join("disk.key");
    std::fs::write(&path, b"\x00binary\n\xffkey\n").context("key file")?;
    Ok(path)
}

fn opened(client: &Client) -> Result<String> {
    Ok(client
        .run(&["ls /dev/mapper | grep -v control"])?
        .text()
        .trim()
        .to_owned())
}

/// A guest whose root is a disk without a header, whose header is on a stick with those files.
fn with_header_on_stick(name: &str, disks: &Disks, with_key: bool) -> Result<GuestBuilder> {
    let (data, header) = luks::detached_tiny_root(disks, &tiny_os(Board::PcX86_64)?)?;
    let key = key(disks)?;
    luks::add_key(&data, Some(&header), &key)?;
    let uuid = disk::luks_uuid(&header)?;
    let files: &[&Path] = if with_key { &[&header, &key] } else { &[&header] };
    let stick = luks::stick(disks, "STICK", files)?;
    let guest = pc(name)
        .memory_mb(448)
        .disk(Disk::raw(data))
        .disk(Disk::raw(stick));
    Ok(guest
        .word(format!("root=LABEL={}", luks::LABEL))
        .word(format!("rd.luks.data={uuid}=/dev/vda"))
        .word(format!("rd.luks.options={uuid}=header=/header.img:LABEL=STICK"))
        .word(format!("rd.luks.key={uuid}=/disk.key:LABEL=STICK"))
        .word("rw"))
}

#[test]
fn header_and_key_on_a_stick_unlock_a_disk_that_has_neither() -> Result<()> {
    let disks = Disks::new("detached")?;
    let mut guest = with_header_on_stick("header and key on a stick", &disks, true)?.boot()?;
    let up = guest.wait_event("tiny.up", FULL_BOOT)?;
    ensure!(up.str("root").contains("ext4"), "root is {}", up.str("root"));
    ensure!(!up.str("mounts").contains("STICK"), "the stick is still mounted");
    guest.passed()
}

#[test]
#[ignore = "make test-all"]
fn without_the_key_on_the_stick_a_person_unlocks_it_and_need_not_say_which_disk() -> Result<()> {
    let disks = Disks::new("detached-asked")?;
    let mut guest = with_header_on_stick("header alone on a stick", &disks, false)?.boot()?;
    guest.wait_event("mount.waiting", BOOT)?;
    let failed = guest.wait_event("unlock.key", BOOT)?;
    ensure!(failed.str("key").contains("STICK"), "{}", failed.str("what"));
    let client = guest.wait_ssh(Peer::Rescue, BOOT)?;
    // The boot may go on, and end this session, before its last word is read.
    drop(client.run_with(&["rescue", "unlock"], PASSPHRASE.as_bytes())?);
    guest.wait_event("tiny.up", FULL_BOOT)?;
    guest.passed()
}

#[test]
fn while_the_stick_with_the_key_is_missing_the_passphrase_is_asked_for_and_plugging_it_in_ends_that()
-> Result<()> {
    let disks = Disks::new("key-stick")?;
    let volume = luks::tiny_root(&disks, "root.img", &tiny_os(Board::PcX86_64)?)?;
    let key = key(&disks)?;
    luks::add_key(&volume, None, &key)?;
    let uuid = disk::luks_uuid(&volume)?;
    let stick = luks::stick(&disks, "STICK", &[&key])?;
    let mut guest = pc("key on a stick that comes late")
        .memory_mb(448)
        .disk(Disk::raw(volume))
        .argument("-device")
        .argument("pcie-root-port,id=late0,chassis=9")
        .argument("-drive")
        .argument(format!("if=none,id=stick,format=raw,file={}", stick.display()))
        .word(format!("root=LABEL={}", luks::LABEL))
        .word(format!("rd.luks.uuid={uuid}"))
        .word("rd.luks.key=/disk.key:LABEL=STICK")
        .word("rw")
        .boot()?;
    guest.wait_event("mount.waiting", BOOT)?;
    guest.wait_ssh(Peer::Rescue, BOOT)?;
    ensure!(
        matches!(guest.status()?.phase, Phase::WaitingForPassphrase { .. }),
        "{:?}",
        guest.status()?.phase
    );
    guest.plug("stick", "late0")?;
    guest.wait_event("mount.unlocked", BOOT)?;
    guest.wait_event("tiny.up", FULL_BOOT)?;
    guest.passed()
}

/// A second archive behind the image's, as a boot loader that is given two files puts it.
fn with_file(disks: &Disks, path: &str, content: &[u8]) -> Result<PathBuf> {
    let mut initrd = std::fs::read(test_image(Board::PcX86_64)?.initrd).context("initramfs")?;
    initrd.resize(initrd.len().next_multiple_of(4), 0);
    let mut archive = cpio::Writer::default();
    archive.file(path, 0o400, content);
    initrd.extend(archive.finish());
    let longer = disks.dir().join("initramfs");
    std::fs::write(&longer, initrd).context("initramfs")?;
    Ok(longer)
}

#[test]
#[ignore = "make test-all"]
fn a_key_file_in_the_initramfs_unlocks_and_another_one_leaves_the_question() -> Result<()> {
    for (name, other) in [
        ("key in the initramfs", false),
        ("wrong key in the initramfs", true),
    ] {
        let disks = Disks::new("key-inside")?;
        let volume = luks::tiny_root(&disks, "root.img", &tiny_os(Board::PcX86_64)?)?;
        let key = key(&disks)?;
        luks::add_key(&volume, None, &key)?;
        let mut content = std::fs::read(&key).context("key file")?;
        content.extend(other.then_some(b'x'));
        let mut guest = pc(name)
            .memory_mb(448)
            .initrd(with_file(&disks, "disk.key", &content)?)
            .disk(Disk::raw(&volume))
            .word(format!("root=LABEL={}", luks::LABEL))
            .word(format!("rd.luks.uuid={}", disk::luks_uuid(&volume)?))
            .word("rd.luks.key=/disk.key")
            .word("rw")
            .boot()?;
        if other {
            let failed = guest.wait_event("unlock.key", BOOT)?;
            ensure!(failed.str("key").contains("/disk.key"), "{failed:?}");
            guest.wait_console("Passphrase for /dev/vda", BOOT)?;
        } else {
            guest.wait_event("tiny.up", FULL_BOOT)?;
        }
        guest.passed()?;
    }
    Ok(())
}

#[test]
#[ignore = "make test-all"]
fn a_second_volume_that_is_missing_does_not_keep_the_first_from_being_asked_for() -> Result<()> {
    let disks = Disks::new("second-missing")?;
    let volume = luks::tiny_root(&disks, "root.img", &tiny_os(Board::PcX86_64)?)?;
    let mut guest = pc("second LUKS volume missing")
        .memory_mb(448)
        .disk(Disk::raw(&volume))
        .word(format!("root=LABEL={}", luks::LABEL))
        .word(format!("rd.luks.uuid={}", disk::luks_uuid(&volume)?))
        .word("rd.luks.uuid=00000000-aaaa-bbbb-cccc-000000000000")
        .boot()?;
    guest.wait_event("mount.waiting", BOOT)?;
    guest.wait_console("Passphrase for /dev/vda", 25)?;
    ensure!(
        !guest.has_event("boot.failed")?,
        "asked for only after the other was given up"
    );
    guest.passed()
}

/// One guest for what is done by hand: booting one takes longer than all of it.
#[test]
fn by_hand_keys_and_headers_come_from_other_devices_and_what_is_used_is_not_locked() -> Result<()> {
    let disks = Disks::new("by-hand")?;
    let (data, header) = luks::detached_tiny_root(&disks, &tiny_os(Board::PcX86_64)?)?;
    let plain = disks.luks("plain.img", "data", Damage::None)?;
    let key = key(&disks)?;
    luks::add_key(&plain, None, &key)?;
    let stick = luks::stick(&disks, "STICK", &[&header, &key])?;
    let mut guest = pc("LUKS by hand")
        .memory_mb(448)
        .disk(Disk::raw(data))
        .disk(Disk::raw(plain))
        .disk(Disk::raw(stick))
        .boot()?;
    guest.wait_event("ssh.listening", BOOT)?;
    let client = guest.wait_ssh(Peer::Rescue, BOOT)?;
    let fails = |words: &[&str], input: &[u8]| -> Result<String> {
        let ended = client.run_with(words, input)?;
        ensure!(
            ended.status == Some(1),
            "{words:?}: status {:?}: {}",
            ended.status,
            ended.errors()
        );
        Ok(ended.errors())
    };
    let passphrase = PASSPHRASE.as_bytes();
    fails(&["rescue", "unlock", "/dev/vda"], passphrase)?;
    fails(&["rescue", "unlock", "--test", "/dev/vdb"], b"wrong horse")?;
    client
        .run_with(&["rescue", "unlock", "--test", "/dev/vdb"], passphrase)?
        .success()?;
    ensure!(opened(&client)?.is_empty(), "--test opened {}", opened(&client)?);

    client
        .run_with(
            &[
                "rescue",
                "unlock",
                "--header",
                "/header.img:LABEL=STICK",
                "/dev/vda",
            ],
            passphrase,
        )?
        .success()?;
    client
        .run(&["rescue unlock --key-file /disk.key:LABEL=STICK --read-only --name mine /dev/vdb"])?
        .success()?;
    ensure!(
        client.run(&["grep -c STICK /proc/mounts"])?.text().trim() == "0",
        "the stick is mounted"
    );
    client
        .run(&["mkdir -p /mnt; mount -o ro /dev/mapper/mine /mnt"])?
        .success()?;
    let refused = fails(&["rescue", "lock", "/dev/vdb"], b"")?;
    ensure!(refused.contains("/mnt"), "{refused}");
    client.run(&["umount /mnt"])?.success()?;
    client.run(&["rescue", "lock", "/dev/vdb"])?.success()?;
    client.run(&["rescue", "lock", "/dev/vda"])?.success()?;
    ensure!(opened(&client)?.is_empty(), "{} is open", opened(&client)?);
    guest.passed()
}

#[test]
#[ignore = "make test-all"]
fn one_passphrase_opens_all_that_share_it_and_what_takes_too_much_memory_is_said() -> Result<()> {
    let disks = Disks::new("all")?;
    let first = disks.luks("first.img", "data", Damage::None)?;
    let second = disks.luks("second.img", "other", Damage::None)?;
    let hungry = luks::hungry(&disks, "hungry.img", 512)?;
    let mut guest = pc("three LUKS disks")
        .memory_mb(448)
        .disk(Disk::raw(first))
        .disk(Disk::raw(hungry))
        .disk(Disk::raw(second))
        .boot()?;
    guest.wait_event("ssh.listening", BOOT)?;
    let client = guest.wait_ssh(Peer::Rescue, BOOT)?;
    let tried = client.run_with(&["rescue", "unlock", "--all"], PASSPHRASE.as_bytes())?;
    ensure!(tried.status == Some(1), "status {:?}", tried.status);
    ensure!(
        opened(&client)?.lines().count() == 2,
        "open: {}",
        opened(&client)?
    );
    ensure!(
        tried.errors().contains("/dev/vdb") && tried.errors().contains("512 MiB"),
        "{}",
        tried.errors()
    );
    guest.passed()
}
