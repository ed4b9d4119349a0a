//! The builder's outputs for a Raspberry Pi's boot loader, booted from the very files a boot loader would read: taken out of the FAT
//! file systems by mtools and handed to QEMU's Pi 3, which has no boot loader of its own.

use anyhow::{Context, Result, ensure};
use lifeboot_tests::artefacts::{self, BootFiles, keys_dir};
use lifeboot_tests::fixtures::disk::Disks;
use lifeboot_tests::fixtures::keys;
use lifeboot_tests::guest::{Board, Disk, Guest, GuestBuilder, Peer};
use lifeboot_tests::process;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

/// Seconds an emulated Pi 3 may take.
const BOOT: u64 = 300;
/// Where the boot partition of a card begins.
const PARTITION: &str = "4M";
/// QEMU wants the size of a card to be a power of two.
const CARD: u64 = 256 << 20;

/// Takes a file out of a FAT file system, which may begin further inside of its image.
fn extracted(image: &str, name: &str, to: &Path) -> Result<PathBuf> {
    let path = to.join(name);
    process::run(
        "mcopy",
        ["-n", "-i", image, &format!("::{name}"), &path.to_string_lossy()],
    )?;
    Ok(path)
}

/// A guest started as a boot loader would start it from these files: by what config.txt and cmdline.txt say.
fn guest_from(image: &str, dir: &Path, name: &str) -> Result<GuestBuilder> {
    let dir = dir.join("extracted");
    fs::create_dir_all(&dir).context("extracted")?;
    let config = fs::read_to_string(extracted(image, "config.txt", &dir)?).context("config.txt")?;
    let line = |start: &str| {
        let line = config.lines().find_map(|line| line.strip_prefix(start));
        line.with_context(|| format!("no '{start}' in {config}"))
    };
    let initramfs = line("initramfs ")?
        .strip_suffix(" followkernel")
        .context("address")?;
    let files = BootFiles {
        kernel: extracted(image, line("kernel=")?, &dir)?,
        initrd: extracted(image, initramfs, &dir)?,
        dtb: Some(extracted(image, "bcm2837-rpi-3-b.dtb", &dir)?),
    };
    let cmdline = fs::read_to_string(extracted(image, "cmdline.txt", &dir)?).context("cmdline.txt")?;
    let words = cmdline.split_whitespace();
    // QEMU resets this board the moment its watchdog is started.
    let words = words.chain(["lifeboot.watchdog=off"]);
    Ok(words.fold(Guest::on(Board::Pi3, name).files(files), GuestBuilder::word))
}

#[test]
fn a_pi_3_boots_from_the_files_inside_boot_img() -> Result<()> {
    let place = Disks::new("boot-img")?;
    let out = place.dir().join("out");
    artefacts::build(
        Board::Pi3,
        &out,
        &["--cmdline", "lifeboot.hostname=from-boot-img"].map(OsStr::new),
    )?;
    let image = out.join("http/boot.img").to_string_lossy().into_owned();
    process::run("fsck.vfat", ["-n", &image])?;
    let mut guest = guest_from(&image, place.dir(), "Pi 3 from boot.img")?.boot()?;
    let client = guest.wait_ssh(Peer::Rescue, BOOT)?;
    let said = client.run(&["hostname"])?.success()?.text();
    ensure!(said.trim() == "from-boot-img", "{said}");
    let model = guest.status()?.model;
    ensure!(
        model
            .as_deref()
            .is_some_and(|model| model.contains("Raspberry Pi 3")),
        "{model:?}"
    );
    guest.passed()
}

/// A card that `build --disk` wrote, grown to a size QEMU takes.
fn card(place: &Disks, more: &[&str]) -> Result<PathBuf> {
    let path = place.dir().join("card.img");
    let words: Vec<&OsStr> = [OsStr::new("--disk"), path.as_os_str()]
        .into_iter()
        .chain(more.iter().map(OsStr::new))
        .collect();
    artefacts::build(Board::Pi3, &place.dir().join("out"), &words)?;
    let file = fs::OpenOptions::new().write(true).open(&path).context("card")?;
    file.set_len(CARD).context("card")?;
    Ok(path)
}

fn fingerprint(of: &Path) -> Result<String> {
    let told = process::run("ssh-keygen", ["-l", "-f", &of.to_string_lossy()])?;
    Ok(told.split_whitespace().nth(1).context("fingerprint")?.to_owned())
}

fn stranger() -> PathBuf {
    keys_dir().join(keys::STRANGER)
}

/// Boots from a card with the card in the slot; its fingerprint, and whether the stranger may log in.
fn booted(place: &Disks, card: &Path, name: &str) -> Result<(Guest, String, bool)> {
    let image = format!("{}@@{PARTITION}", card.display());
    let mut guest = guest_from(&image, place.dir(), name)?
        .disk(Disk::raw(card))
        .boot()?;
    let client = guest.wait_ssh(Peer::Rescue, BOOT)?;
    let shown = fingerprint(&guest.dir().join("known_hosts.rescue"))?;
    let stranger = client.clone().identity(stranger()).run(&["true"])?;
    ensure!(
        matches!(stranger.status, Some(0 | 255)),
        "status {:?}: {}",
        stranger.status,
        stranger.errors()
    );
    // The kernel's own FAT driver reads what lies on the card as it was put there.
    let there = client
        .run(&["mkdir -p /mnt/b && mount -o ro /dev/mmcblk0p1 /mnt/b && cd /mnt/b && sha256sum kernel8.img config.txt"])?
        .success()?
        .text();
    for name in ["kernel8.img", "config.txt"] {
        let file = place.dir().join("extracted").join(name);
        let here = process::run("sha256sum", [&file])?;
        let digest = here.split_whitespace().next().context("digest")?;
        ensure!(
            there.contains(&format!("{digest}  {name}")),
            "{name}: {here} but {there}"
        );
    }
    let disks = client.run(&["rescue", "disks"])?.success()?.text();
    ensure!(
        disks.contains("mmcblk0p2") && disks.contains("LIFEBOOT"),
        "{disks}"
    );
    Ok((guest, shown, stranger.status == Some(0)))
}

#[test]
fn a_pi_3_boots_from_a_card_and_takes_its_identity_from_the_key_partition() -> Result<()> {
    let place = Disks::new("card-with-keys")?;
    let keys = place.dir().join("keys");
    fs::create_dir_all(&keys).context("keys")?;
    let host = keys.join("ssh_host_ed25519_key");
    let name = host.to_string_lossy().into_owned();
    process::run(
        "ssh-keygen",
        ["-q", "-t", "ed25519", "-N", "", "-C", "", "-f", &name],
    )?;
    let own = fingerprint(&host)?;
    fs::remove_file(host.with_extension("pub")).context("public half")?;
    fs::copy(stranger().with_extension("pub"), keys.join("authorized_keys")).context("authorized_keys")?;
    fs::write(
        keys.join("config.toml"),
        "lifeboot.hostname = \"from-the-card\"\n",
    )
    .context("config.toml")?;
    let card = card(&place, &["--key-partition", &keys.to_string_lossy()])?;
    let (guest, shown, welcome) = booted(&place, &card, "Pi 3 from a card with keys")?;
    ensure!(shown == own, "the card has {own}, the server showed {shown}");
    ensure!(welcome, "the stranger's key is on the card, yet was refused");
    let said = guest.ssh(&["hostname"])?.success()?.text();
    ensure!(said.trim() == "from-the-card", "{said}");
    guest.passed()
}

/// The other of the pair: the same card, its key partition empty.
#[test]
#[ignore = "make test-all"]
fn a_pi_3_boots_from_a_card_whose_key_partition_is_empty() -> Result<()> {
    let place = Disks::new("card-without-keys")?;
    let card = card(&place, &[])?;
    let (guest, _, welcome) = booted(&place, &card, "Pi 3 from a card without keys")?;
    ensure!(!welcome, "a stranger was let in");
    guest.passed()
}
