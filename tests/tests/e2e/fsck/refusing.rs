//! Damage before which the checkers themselves stop short, or that they do not see: a journal that is gone, files without a directory, a bitmap
//! without itself.

use super::{ends, guest, json, last_writes, of, reads, start};
use anyhow::{Result, ensure};
use lifeboot_tests::fixtures::disk::{Damage, Disks, LETTER, LETTER_TEXT};
use lifeboot_tests::guest::Client;

/// Outcome and sentence of a look, or of whatever `words` make of it.
fn told(client: &Client, words: &[&str], device: &str) -> Result<(String, String)> {
    let entries = json(
        client,
        &[&["rescue", "fsck", "--json"], words, &[device]].concat(),
    )?;
    let word = |key: &str| -> Result<String> {
        Ok(of(&entries, device)?[key].as_str().unwrap_or_default().to_owned())
    };
    Ok((word("outcome")?, word("text")?))
}

#[test]
#[ignore = "make test-all"]
fn a_damaged_journal_is_made_anew_and_what_waited_in_it_is_given_up_by_name_only() -> Result<()> {
    let disks = Disks::new("no-journal")?;
    let paths = [
        disks.ext4("sound", "s", Damage::None)?,
        disks.ext4_without_journal("empty", "e", false)?,
        disks.ext4_without_journal("waits", "w", true)?,
    ];
    let (guest, client) = start(guest("no journal", &paths)?)?;
    let before = last_writes(&client, &paths)?;
    for (device, outcome, lost) in [
        ("/dev/vda", "clean", false),
        ("/dev/vdb", "errors", false),
        ("/dev/vdc", "errors", true),
    ] {
        let (is, text) = told(&client, &[], device)?;
        ensure!(
            is == outcome && text.contains("is lost") == lost,
            "{device}: {is}: {text}"
        );
    }
    ensure!(last_writes(&client, &paths)? == before, "a look has written");
    ends(&client, &["rescue", "fsck", "--repair", "all"], 1)?;
    ends(&client, &["rescue", "fsck", "/dev/vdb"], 0)?;
    ensure!(
        last_writes(&client, &paths[2..])? == before[2..],
        "what waits was given up without a name"
    );
    let (is, text) = told(&client, &["--repair"], "/dev/vdc")?;
    ensure!(is == "repaired" && text.contains("is lost"), "{is}: {text}");
    for device in ["/dev/vda", "/dev/vdb", "/dev/vdc"] {
        ends(&client, &["rescue", "fsck", device], 0)?;
        reads(&client, device, LETTER)?;
    }
    ensure!(
        last_writes(&client, &paths[..1])? == before[..1],
        "the sound twin was written to"
    );
    guest.passed()
}

#[test]
#[ignore = "make test-all"]
fn files_of_an_f2fs_that_are_in_no_directory_are_not_deleted_but_copied_out_as_the_advice_says() -> Result<()>
{
    let disks = Disks::new("no-directory")?;
    let paths = [
        disks.f2fs_with_letter("sound", "s", false)?,
        disks.f2fs_with_letter("lost", "l", true)?,
    ];
    let (guest, client) = start(guest("no directory", &paths)?)?;
    let before = last_writes(&client, &paths)?;
    ensure!(told(&client, &[], "/dev/vda")?.0 == "clean", "the sound twin");
    for words in [&[][..], &["--repair"]] {
        let (is, text) = told(&client, words, "/dev/vdb")?;
        ensure!(is == "errors" && text.contains("by hand"), "{is}: {text}");
    }
    ends(&client, &["rescue", "fsck", "--repair", "all"], 1)?;
    let text = told(&client, &[], "/dev/vdb")?.1;
    let commands: Vec<&str> = text.split('\'').filter(|part| part.starts_with("yes ")).collect();
    let [copy, delete] = commands[..] else {
        anyhow::bail!("{commands:?} in {text}");
    };
    let script = format!("mkdir /run/out && cd /run/out && {copy} >&2; cat lost_found/important.txt");
    let letter = client.run(&[&script])?.text();
    ensure!(letter == LETTER_TEXT, "the letter reads {letter:?}");
    ensure!(
        last_writes(&client, &paths)? == before,
        "something was written to"
    );
    client.run(&[delete])?;
    ends(&client, &["rescue", "fsck", "/dev/vdb"], 0)?;
    guest.passed()
}

#[test]
#[ignore = "make test-all"]
fn an_exfat_that_its_checker_calls_clean_and_the_kernel_does_not_mount_is_repaired() -> Result<()> {
    let disks = Disks::new("no-bitmap")?;
    let paths = [
        disks.exfat_with_bitmap("sound", "S", false)?,
        disks.exfat_with_bitmap("spoilt", "B", true)?,
    ];
    let (guest, client) = start(guest("no bitmap", &paths)?)?;
    let mounts = |device: &str| -> Result<bool> {
        let script = format!("mkdir -p /mnt && mount -t exfat -o ro {device} /mnt && umount /mnt");
        Ok(client.run(&[&script])?.status == Some(0))
    };
    let before = last_writes(&client, &paths)?;
    for (device, sound) in [("/dev/vda", true), ("/dev/vdb", false)] {
        ensure!(mounts(device)? == sound, "{device}");
        let (is, text) = told(&client, &[], device)?;
        ensure!(is == if sound { "clean" } else { "errors" }, "{is}: {text}");
    }
    ends(&client, &["rescue", "fsck", "--repair", "/dev/vda"], 0)?;
    ensure!(
        last_writes(&client, &paths)? == before,
        "something was written to"
    );
    let (is, text) = told(&client, &["--repair"], "/dev/vdb")?;
    ensure!(is == "repaired", "{is}: {text}");
    ends(&client, &["rescue", "fsck", "/dev/vdb"], 0)?;
    ensure!(mounts("/dev/vdb")?, "it is still not mounted");
    guest.passed()
}
