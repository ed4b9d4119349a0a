//! `rescue mount`, `rescue chroot`, `rescue umount`: installed systems found, entered and left as they were.

use crate::world::{BOOT, pc, sha256};
use anyhow::{Context, Result, ensure};
use lifeboot_tests::deadline::Deadline;
use lifeboot_tests::fixtures::disk::{Damage, Disks};
use lifeboot_tests::fixtures::system::{RESOLV_CONF, System, leave_unclean};
use lifeboot_tests::guest::{Board, Client, Disk, Guest, GuestBuilder, Peer};
use serde_json::Value;

mod boot;
mod debian;
mod volumes;

const UUID: &str = "11111111-1111-4111-8111-111111111111";
const OTHER: &str = "22222222-2222-4222-8222-222222222222";

/// Lines beside the root's: what is there, what is not, what is none.
const FSTAB: &str = "\
# a comment
LABEL=home /home ext4 noatime,nodev 0 2
UUID=11111111-1111-4111-8111-111111111111 / ext4 errors=remount-ro 0 1
LABEL=BOOT /boot vfat umask=0077 0 2
/home/many /var/data none bind
UUID=deadbeef-0000-4000-8000-000000000000 /srv/data ext4 nofail 0 2
UUID=deadbeef-0000-4000-8000-000000000001 none swap sw 0 0
server:/export /srv nfs defaults 0 0
LABEL=home /srv/data ext4 noauto 0 0
UUID=deadbeef
";

pub(super) fn logged_in(builder: GuestBuilder) -> Result<(Guest, Client)> {
    let mut guest = builder.boot()?;
    guest.wait_event("ssh.listening", BOOT)?;
    let client = guest.wait_ssh(Peer::Rescue, BOOT)?;
    Ok((guest, client))
}

/// A guest with a system, its /boot and its /home on three disks.
fn with_system(name: &str, disks: &Disks) -> Result<(Guest, Client)> {
    let system = System {
        name: "Test 1",
        fstab: FSTAB,
        uuid: UUID,
        board: Board::PcX86_64,
    };
    let root = system.ext4(disks, "root.img")?;
    let boot = disks.vfat("boot.img", "BOOT", Damage::None)?;
    let home = disks.ext4("home.img", "home", Damage::None)?;
    logged_in(
        pc(name)
            .disk(Disk::raw(root))
            .disk(Disk::raw(boot))
            .disk(Disk::raw(home)),
    )
}

pub(super) fn json(client: &Client, words: &[&str]) -> Result<Value> {
    let said = client.run(words)?.success()?.text();
    serde_json::from_str(&said).with_context(|| said.clone())
}

/// Where in the guest something is mounted at or beneath `place`, in the order of mounting.
pub(super) fn mounted(client: &Client, place: &str) -> Result<Vec<String>> {
    let table = client.run(&["cat", "/proc/mounts"])?.success()?.text();
    let targets = table
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        .map(str::to_owned);
    let beneath = |target: &String| *target == place || target.starts_with(&format!("{place}/"));
    Ok(targets.filter(beneath).collect())
}

pub(super) fn wait_until_unmounted(client: &Client, place: &str, seconds: u64) -> Result<()> {
    Deadline::after(seconds).wait_for("the unmount", || {
        Ok(mounted(client, place)?.is_empty().then_some(()))
    })
}

/// Every value of `key` in the list `list` of what was said.
pub(super) fn each(said: &Value, list: &str, key: &str) -> Vec<String> {
    let items = said[list].as_array().cloned().unwrap_or_default();
    items
        .iter()
        .map(|item| item[key].as_str().unwrap_or("-").to_owned())
        .collect()
}

#[test]
fn a_system_is_mounted_as_its_own_fstab_says_and_unmounted_again() -> Result<()> {
    let disks = Disks::new("mount")?;
    let (guest, client) = with_system("system on three disks", &disks)?;
    let said = json(&client, &["rescue", "mount", "--json"])?;
    let targets = each(&said, "mounts", "target");
    ensure!(
        targets == ["/mnt", "/mnt/home", "/mnt/boot", "/mnt/var/data"],
        "{said:#}"
    );
    let reasons = each(&said, "left_out", "why");
    ensure!(
        reasons == ["its device is not there", "swap", "on the network", "noauto"],
        "{said:#}"
    );
    ensure!(
        said["notes"][0]
            .as_str()
            .is_some_and(|note| note.contains("line 10")),
        "{said:#}"
    );
    let table = client.run(&["cat", "/proc/mounts"])?.success()?.text();
    for line in [
        "/dev/vda /mnt ext4 rw,",
        "/dev/vdc /mnt/home ext4 rw,nodev,noatime",
    ] {
        ensure!(table.contains(line), "no '{line}' in:\n{table}");
    }
    ensure!(table.contains("fmask=0077"), "/boot lacks its options:\n{table}");
    let status = client.run(&["rescue", "status"])?.success()?.text();
    ensure!(
        status.contains("Test 1 on /dev/vda is mounted at /mnt"),
        "{status}"
    );
    let again = client.run(&["rescue", "mount"])?;
    ensure!(
        again.status == Some(1) && again.errors().contains("rescue umount"),
        "{}",
        again.errors()
    );
    client.run(&["rescue", "umount"])?.success()?;
    ensure!(
        mounted(&client, "/mnt")?.is_empty(),
        "{:?}",
        mounted(&client, "/mnt")?
    );
    ensure!(
        client.run(&["ls", "/run/lifeboot/mount.json"])?.status != Some(0),
        "it is still remembered"
    );
    guest.passed()
}

#[test]
fn looking_and_mounting_read_only_do_not_change_one_byte_and_mounting_does() -> Result<()> {
    let disks = Disks::new("looking")?;
    let system = System {
        name: "Unclean",
        fstab: "",
        uuid: UUID,
        board: Board::PcX86_64,
    };
    let path = system.ext4(&disks, "root.img")?;
    leave_unclean(&path)?;
    let before = sha256(&path)?;
    let (guest, client) = logged_in(pc("unclean system").disk(Disk::raw(&path)))?;
    let listed = json(&client, &["rescue", "mount", "--list", "--json"])?;
    ensure!(each(&listed, "systems", "name") == ["Unclean"], "{listed:#}");
    client.run(&["rescue", "mount", "--dry-run"])?.success()?;
    ensure!(
        mounted(&client, "/mnt")?.is_empty(),
        "a rehearsal mounted something"
    );
    client.run(&["sync"])?.success()?;
    ensure!(sha256(&path)? == before, "looking has written to the disk");
    client
        .run(&["rescue mount --read-only && cat /mnt/etc/os-release && rescue umount && sync"])?
        .success()?;
    ensure!(
        sha256(&path)? == before,
        "mounting read-only has written to the disk"
    );
    client
        .run(&["rescue mount && rescue umount && sync"])?
        .success()?;
    ensure!(sha256(&path)? != before, "this test cannot see a change");
    guest.passed()
}

#[test]
fn a_command_in_the_system_finds_what_it_needs_and_leaves_nothing_behind() -> Result<()> {
    let disks = Disks::new("chroot")?;
    let (guest, client) = with_system("chroot", &disks)?;
    client
        .run(&["echo nameserver 192.0.2.1 >/etc/resolv.conf"])?
        .success()?;
    let script = "cat /etc/os-release /etc/resolv.conf; ls /home /run; test -c /dev/null && test -d /proc/self && test -d /sys/block; \
                  echo $?; touch /root/was-here; exit 7";
    let outcome = client.run(&["rescue", "chroot", "--", "sh", "-c", &format!("'{script}'")])?;
    ensure!(
        outcome.status == Some(7),
        "status {:?}: {}",
        outcome.status,
        outcome.errors()
    );
    let said = outcome.text();
    for word in [
        "PRETTY_NAME=\"Test 1\"",
        "nameserver 192.0.2.1",
        "letters",
        "systemd",
        "\n0\n",
    ] {
        ensure!(said.contains(word), "no {word:?} in:\n{said}");
    }
    ensure!(
        mounted(&client, "/mnt")?.is_empty(),
        "{:?}",
        mounted(&client, "/mnt")?
    );
    // Mounted before, it stays mounted, and only what the chroot had put into it goes.
    client.run(&["rescue", "mount"])?.success()?;
    let before = mounted(&client, "/mnt")?;
    // grub-mkconfig writes today's names of devices into what it makes, where it does not find these.
    let words = [
        "rescue",
        "chroot",
        "--",
        "ls",
        "-l",
        "/dev/disk/by-uuid",
        "/dev/disk/by-label",
    ];
    let links = client.run(&words)?.success()?.text();
    for link in [format!("{UUID} -> ../../vda"), "home -> ../../vdc".to_owned()] {
        ensure!(links.contains(&link), "no {link}: {links}");
    }
    ensure!(
        mounted(&client, "/mnt")? == before,
        "{:?}",
        mounted(&client, "/mnt")?
    );
    let link = client
        .run(&["readlink /mnt/etc/resolv.conf; ls /mnt/root /mnt/run"])?
        .success()?
        .text();
    ensure!(
        link.starts_with(RESOLV_CONF) && link.contains("was-here"),
        "{link}"
    );
    let its_run = link.split("/mnt/run:").nth(1).unwrap_or("not listed");
    ensure!(
        its_run.trim().is_empty(),
        "a file was left in its own /run: {link}"
    );
    let absent = client.run(&["rescue", "chroot", "--", "no-such-program"])?;
    ensure!(
        absent.status == Some(1) && absent.errors().contains("no-such-program"),
        "{}",
        absent.errors()
    );
    ensure!(
        mounted(&client, "/mnt")? == before,
        "{:?}",
        mounted(&client, "/mnt")?
    );
    client.run(&["rescue", "umount"])?.success()?;
    guest.passed()
}

#[test]
fn of_two_systems_one_has_to_be_named() -> Result<()> {
    let disks = Disks::new("two")?;
    let system = |name, uuid| System {
        name,
        fstab: "",
        uuid,
        board: Board::PcX86_64,
    };
    let first = system("First", UUID).ext4(&disks, "first.img")?;
    let second = system("Second", OTHER).ext4(&disks, "second.img")?;
    let (guest, client) = logged_in(pc("two systems").disk(Disk::raw(first)).disk(Disk::raw(second)))?;
    let unclear = client.run(&["rescue", "mount"])?;
    ensure!(unclear.status == Some(2), "status {:?}", unclear.status);
    for word in ["First", "/dev/vda", "Second", "/dev/vdb"] {
        ensure!(
            unclear.errors().contains(word),
            "no {word} in: {}",
            unclear.errors()
        );
    }
    ensure!(mounted(&client, "/mnt")?.is_empty(), "one was mounted");
    let name = format!("UUID={OTHER}");
    let there = client
        .run(&["rescue", "chroot", &name, "cat", "/etc/os-release"])?
        .success()?;
    ensure!(there.text().contains("Second"), "{}", there.text());
    let mut asked = client.converse(&["rescue", "mount"])?;
    asked.expect("(number)?", BOOT)?;
    asked.send("1\n")?;
    ensure!(asked.end(BOOT)? == 0, "{}", asked.heard());
    let release = client.run(&["cat", "/mnt/etc/os-release"])?.success()?.text();
    ensure!(release.contains("First"), "{release}");
    let elsewhere = client
        .run(&["rescue", "mount", "--at", "/tmp/second", "vdb"])?
        .success();
    elsewhere.context("a second one at another place")?;
    client.run(&["rescue", "umount", "/mnt"])?.success()?;
    ensure!(mounted(&client, "/tmp/second")?.len() == 1 && mounted(&client, "/mnt")?.is_empty());
    guest.passed()
}

#[test]
fn a_cut_session_is_cleaned_up_and_one_that_left_a_program_running_waits_for_it() -> Result<()> {
    let disks = Disks::new("cut")?;
    let (guest, client) = with_system("cut session", &disks)?;
    let mut session = client.converse(&["rescue", "chroot"])?;
    session.expect("Ctrl-D", BOOT)?;
    session.send("cat /etc/os-release\n")?;
    session.expect("Test 1", BOOT)?;
    ensure!(
        mounted(&client, "/mnt")?.len() > 6,
        "{:?}",
        mounted(&client, "/mnt")?
    );
    // The client is killed: nobody types 'exit'.
    drop(session);
    wait_until_unmounted(&client, "/mnt", BOOT)?;

    let mut session = client.converse(&["rescue", "chroot"])?;
    session.expect("Ctrl-D", BOOT)?;
    // What is typed is echoed: the word that is waited for must not be in it.
    session.send("trap '' HUP; sleep 3600 & echo run''s as $!\n")?;
    session.expect("runs as", BOOT)?;
    drop(session);
    // Of what ran in there only that program is left.
    let inside = "for p in /proc/[0-9]*; do [ \"$(readlink $p/root)\" = /mnt ] && tr '\\0' ' ' <$p/cmdline; done; true";
    Deadline::after(BOOT).wait_for("end of the session's shell", || {
        Ok((client.run(&[inside])?.text() == "sleep 3600 ").then_some(()))
    })?;
    let busy = client.run(&["rescue", "umount"])?;
    ensure!(
        busy.status == Some(1) && busy.errors().contains("sleep (process"),
        "{}",
        busy.errors()
    );
    ensure!(mounted(&client, "/mnt")?.len() > 6, "it was unmounted in part");
    client.run(&["killall", "-9", "sleep"])?.success()?;
    wait_until_unmounted(&client, "/mnt", BOOT)?;
    guest.passed()
}
