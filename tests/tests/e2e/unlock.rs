//! Encrypted disks: opened by the right passphrase only, by ssh or at the console, for repair or for the boot.

use crate::world::{BOOT, FULL_BOOT, pc};
use anyhow::{Context as _, Result, ensure};
use lifeboot_contract::status::Phase;
use lifeboot_tests::artefacts::debian_os;
use lifeboot_tests::fixtures::disk::{self, Damage, Disks, LETTER, LETTER_TEXT, PASSPHRASE};
use lifeboot_tests::guest::{Board, Client, Conversation, Disk, Guest, Peer};
use lifeboot_tests::process::Outcome;

/// What `rescue unlock` asks with.
const PROMPT: &str = "assphrase";

fn answer(conversation: &mut Conversation, passphrase: &str) -> Result<()> {
    conversation.expect(PROMPT, BOOT)?;
    conversation.expect(":", BOOT)?;
    conversation.send(&format!("{passphrase}\n"))
}

fn with_locked_disk(name: &str, disks: &Disks, damage: Damage) -> Result<(Guest, Client)> {
    let path = disks.luks("locked.img", "data", damage)?;
    let mut guest = pc(name).memory_mb(448).disk(Disk::raw(path)).boot()?;
    guest.wait_event("ssh.listening", BOOT)?;
    let client = guest.wait_ssh(Peer::Rescue, BOOT)?;
    Ok((guest, client))
}

/// The device mapper's name of the volume opened.
fn opened(client: &Client) -> Result<String> {
    let text = client.run(&["ls /dev/mapper | grep -v control"])?.text();
    Ok(text.trim().to_owned())
}

#[test]
fn a_damaged_encrypted_disk_is_unlocked_repaired_and_read_by_ssh() -> Result<()> {
    let disks = Disks::new("unlock")?;
    let (guest, client) = with_locked_disk("right passphrase", &disks, Damage::Repairable)?;
    let mut conversation = client.converse(&["rescue", "unlock", "/dev/vda"])?;
    answer(&mut conversation, PASSPHRASE)?;
    ensure!(conversation.end(BOOT)? == 0, "{}", conversation.heard());
    ensure!(
        !conversation.heard().contains(PASSPHRASE),
        "the passphrase was echoed"
    );
    let device = format!("/dev/mapper/{}", opened(&client)?);
    let check = client.run(&["rescue", "fsck", &device])?;
    ensure!(
        check.status == Some(1),
        "status {:?}: {}{}",
        check.status,
        check.text(),
        check.errors()
    );
    let repair = client.run(&["rescue", "fsck", "--repair", &device])?;
    ensure!(
        repair.status == Some(0),
        "status {:?}: {}{}",
        repair.status,
        repair.text(),
        repair.errors()
    );
    let read = format!("mkdir -p /mnt && mount {device} /mnt && cat /mnt/{LETTER} && umount /mnt");
    let text = client.run(&[&read])?.success()?.text();
    ensure!(text == LETTER_TEXT, "the letter reads {text:?}");
    guest.passed()
}

#[test]
fn a_wrong_passphrase_is_said_to_be_wrong_and_asked_again() -> Result<()> {
    let disks = Disks::new("wrong")?;
    let (guest, client) = with_locked_disk("wrong passphrase", &disks, Damage::None)?;
    let mut conversation = client.converse(&["rescue", "unlock", "/dev/vda"])?;
    answer(&mut conversation, "wrong horse")?;
    answer(&mut conversation, PASSPHRASE)?;
    ensure!(conversation.end(BOOT)? == 0, "{}", conversation.heard());
    ensure!(!opened(&client)?.is_empty(), "nothing is open");
    guest.passed()
}

#[test]
fn only_wrong_passphrases_open_nothing() -> Result<()> {
    let disks = Disks::new("never")?;
    let (guest, client) = with_locked_disk("only wrong passphrases", &disks, Damage::None)?;
    let mut conversation = client.converse(&["rescue", "unlock", "/dev/vda"])?;
    answer(&mut conversation, "wrong horse")?;
    conversation.expect(PROMPT, BOOT)?;
    conversation.send("\u{3}")?;
    ensure!(conversation.end(BOOT)? != 0, "{}", conversation.heard());
    ensure!(opened(&client)?.is_empty(), "{} is open", opened(&client)?);
    guest.passed()
}

#[test]
fn the_boot_waits_for_the_passphrase_and_a_debian_on_luks_reaches_multi_user() -> Result<()> {
    let path = disk::luks_root(&debian_os(Board::PcX86_64)?)?;
    let uuid = disk::luks_uuid(&path)?;
    let mut guest = pc("Debian on LUKS2")
        .memory_mb(512)
        .disk(Disk::raw(path).forgetting())
        .word("root=LABEL=debian")
        .word(format!("rd.luks.uuid={uuid}"))
        .word("rw")
        .boot()?;
    let waiting = guest.wait_event("mount.waiting", BOOT)?;
    ensure!(waiting.str("uuid") == uuid, "waits for {}", waiting.str("uuid"));
    let client = guest.wait_ssh(Peer::Rescue, BOOT)?;
    let phase = guest.status()?.phase;
    ensure!(
        matches!(phase, Phase::WaitingForPassphrase { .. }),
        "it is {phase:?}"
    );
    let mut conversation = client.converse(&["rescue", "unlock"])?;
    answer(&mut conversation, PASSPHRASE)?;
    guest.wait_event("handover.start", FULL_BOOT)?;
    drop(conversation);
    crate::full_os::wait_for_multi_user(&mut guest, "ext4")?;
    guest.passed()
}

#[test]
#[ignore = "make test-all"]
fn the_passphrase_can_be_given_at_the_console() -> Result<()> {
    let path = disk::luks_root(&debian_os(Board::PcX86_64)?)?;
    let uuid = disk::luks_uuid(&path)?;
    let mut guest = pc("Debian on LUKS2, console")
        .memory_mb(512)
        .disk(Disk::raw(path).forgetting())
        .word("root=LABEL=debian")
        .word(format!("rd.luks.uuid={uuid}"))
        .word("rw")
        .boot()?;
    guest.wait_event("mount.waiting", BOOT)?;
    // What is typed before the question is thrown away, as it should be.
    guest.wait_console("Passphrase for /dev/vda", BOOT)?;
    guest.type_on_console(&format!("{PASSPHRASE}\n"))?;
    guest.wait_event("mount.unlocked", BOOT)?;
    crate::full_os::wait_for_multi_user(&mut guest, "ext4")?;
    guest.passed()
}

#[test]
#[ignore = "make test-all"]
fn a_root_that_needs_no_passphrase_does_not_ask() -> Result<()> {
    let disks = Disks::new("plain-root")?;
    let path = disks.ext4("plain.img", "data", Damage::None)?;
    let mut guest = pc("plain root without init")
        .disk(Disk::raw(path))
        .word("root=LABEL=data")
        .boot()?;
    // It has no init: the failure must name that, not a passphrase.
    let failed = guest.wait_event("boot.failed", FULL_BOOT)?;
    ensure!(!guest.has_event("mount.waiting")?, "it asked");
    ensure!(
        ["mount", "handover"].contains(&failed.str("stage")),
        "failed at {}",
        failed.str("stage")
    );
    guest.passed()
}

/// Formatted inside the guest: without a device mapper this machine cannot fill a LUKS1 volume.
#[test]
#[ignore = "make test-all"]
fn a_luks1_volume_is_opened_by_its_passphrase_only_as_a_luks2_volume_is() -> Result<()> {
    let disks = Disks::new("luks1")?;
    let path = disks.blank("luks1.img", 32)?;
    let mut guest = pc("LUKS1").memory_mb(448).disk(Disk::raw(path)).boot()?;
    guest.wait_event("ssh.listening", BOOT)?;
    let client = guest.wait_ssh(Peer::Rescue, BOOT)?;
    let format = format!(
        "set -e; cryptsetup luksFormat --type luks1 --pbkdf-force-iterations 1000 --batch-mode --key-file - /dev/vda; \
         printf '%s' '{PASSPHRASE}' | cryptsetup open --key-file - /dev/vda fill; mkfs.ext4 -q /dev/mapper/fill; \
         mkdir -p /mnt; mount /dev/mapper/fill /mnt; mkdir /mnt/letters; cat >/mnt/{LETTER} <<'.'\n{LETTER_TEXT}.\n\
         umount /mnt; cryptsetup close fill; cryptsetup isLuks --type luks1 /dev/vda"
    );
    client.run_with(&[&format], PASSPHRASE.as_bytes())?.success()?;
    ensure!(opened(&client)?.is_empty(), "{} is open", opened(&client)?);
    let listed = client.run(&["rescue", "disks"])?.success()?.text();
    ensure!(listed.contains("LUKS") && listed.contains("locked"), "{listed}");
    let mut conversation = client.converse(&["rescue", "unlock", "/dev/vda"])?;
    answer(&mut conversation, "wrong horse")?;
    answer(&mut conversation, PASSPHRASE)?;
    ensure!(conversation.end(BOOT)? == 0, "{}", conversation.heard());
    let device = format!("/dev/mapper/{}", opened(&client)?);
    let read = format!("mount {device} /mnt && cat /mnt/{LETTER} && umount /mnt");
    let text = client.run(&[&read])?.success()?.text();
    ensure!(text == LETTER_TEXT, "the letter reads {text:?}");
    guest.passed()
}

/// The same bytes on two disks: the UUID is no name for one of them.
#[test]
#[ignore = "make test-all"]
fn a_copy_of_an_unlocked_disk_is_locked_and_so_is_the_disk_itself_when_it_went_away_and_came_back()
-> Result<()> {
    let disks = Disks::new("copy")?;
    let first = disks.luks("first.img", "data", Damage::None)?;
    let copy = disks.dir().join("copy.img");
    std::fs::copy(&first, &copy).context("copy")?;
    let mut guest = pc("LUKS disk and its copy")
        .memory_mb(448)
        .disk(Disk::raw(first))
        .disk(Disk::raw(copy))
        .boot()?;
    guest.wait_event("ssh.listening", BOOT)?;
    let client = guest.wait_ssh(Peer::Rescue, BOOT)?;
    refuses(&unlock(&client, &["--all"], PASSPHRASE)?, "--name NAME /dev/vdb")?;
    let again = unlock(&client, &["/dev/vda"], "wrong horse")?.success()?.text();
    ensure!(again.contains("already unlocked"), "{again}");
    let mapper = format!("/dev/mapper/{}", opened(&client)?);
    for passphrase in ["wrong horse", PASSPHRASE] {
        refuses(&unlock(&client, &["/dev/vdb"], passphrase)?, "/dev/vda")?;
    }
    refuses(
        &unlock(&client, &["--name", "copy", "/dev/vdb"], "wrong horse")?,
        "wrong passphrase",
    )?;
    unlock(&client, &["--name", "copy", "/dev/vdb"], PASSPHRASE)?.success()?;
    let of_copy = client.run(&["cat /sys/block/vdb/holders/*/dm/name"])?.text();
    ensure!(of_copy.trim() == "copy", "opened from /dev/vdb: '{of_copy}'");
    client.run(&["rescue", "lock", "/dev/vdb"])?.success()?;
    ensure!(
        opened(&client)? == mapper.trim_start_matches("/dev/mapper/"),
        "{}",
        opened(&client)?
    );
    gone_and_back(&client, &mapper)?;
    guest.passed()
}

/// /dev/vda away and back, as by its cable, while it is unlocked: it has another name then, and the mapping stands on nothing.
fn gone_and_back(client: &Client, mapper: &str) -> Result<()> {
    let listed = || client.run(&["rescue", "disks"]).map(|said| said.text());
    ensure!(!listed()?.contains("left over"), "{}", listed()?);
    client
        .run(&["echo 1 >$(readlink -f /sys/block/vda)/../../../remove; sleep 1; echo 1 >/sys/bus/pci/rescan; sleep 2"])?
        .success()?;
    let back = client.run(&["ls /dev/vd?"])?.text();
    ensure!(back.contains("/dev/vdc") && !back.contains("/dev/vda"), "{back}");
    ensure!(
        listed()?.contains("left over") && listed()?.contains(mapper),
        "{}",
        listed()?
    );
    for passphrase in ["wrong horse", PASSPHRASE] {
        refuses(
            &unlock(client, &["/dev/vdc"], passphrase)?,
            &format!("rescue lock {mapper}"),
        )?;
    }
    client.run(&["rescue", "lock", mapper])?.success()?;
    ensure!(opened(client)?.is_empty(), "{} is still there", opened(client)?);
    refuses(&unlock(client, &["/dev/vdc"], "wrong horse")?, "wrong passphrase")?;
    unlock(client, &["/dev/vdc"], PASSPHRASE)?.success()?;
    let read = format!("mkdir -p /mnt && mount {mapper} /mnt && cat /mnt/{LETTER} && umount /mnt");
    let text = client.run(&[&read])?.success()?.text();
    ensure!(text == LETTER_TEXT, "the letter reads {text:?}");
    Ok(())
}

fn unlock(client: &Client, words: &[&str], passphrase: &str) -> Result<Outcome> {
    client.run_with(&[&["rescue", "unlock"], words].concat(), passphrase.as_bytes())
}

fn refuses(ended: &Outcome, says: &str) -> Result<()> {
    ensure!(
        ended.status == Some(1) && ended.errors().contains(says),
        "status {:?}, not '{says}': {}{}",
        ended.status,
        ended.text(),
        ended.errors()
    );
    Ok(())
}
