//! A real Debian on LUKS2, entered and changed with its own tools.

use super::{logged_in, mounted};
use crate::world::{FULL_BOOT, pc};
use anyhow::{Result, ensure};
use lifeboot_tests::artefacts::debian_os;
use lifeboot_tests::fixtures::disk::{self, PASSPHRASE};
use lifeboot_tests::guest::{Board, Disk};

#[test]
fn a_debian_on_luks_is_unlocked_entered_and_its_own_tools_work_in_it() -> Result<()> {
    let path = disk::luks_root(&debian_os(Board::PcX86_64)?)?;
    let (guest, client) = logged_in(
        pc("Debian on LUKS2, chroot")
            .memory_mb(512)
            .disk(Disk::raw(path).forgetting()),
    )?;
    let locked = client.run(&["rescue", "chroot", "--", "true"])?;
    ensure!(locked.status == Some(1), "status {:?}", locked.status);
    ensure!(
        locked.errors().contains("rescue unlock /dev/vda"),
        "{}",
        locked.errors()
    );
    let mut session = client.converse(&["rescue", "chroot"])?;
    session.expect("assphrase for /dev/vda:", FULL_BOOT)?;
    session.send(&format!("{PASSPHRASE}\n"))?;
    session.expect("Debian GNU/Linux 13 (trixie)", FULL_BOOT)?;
    session.expect("(rescue)root@", FULL_BOOT)?;
    session.send("echo root:secret | chpasswd && passwd -S root | cut -c1-6\n")?;
    session.expect("root P", FULL_BOOT)?;
    session.send("dpkg --configure -a; apt-get -qq -f install; echo apt ended with $?\n")?;
    session.expect("apt ended with 0", FULL_BOOT)?;
    session.send("cat /etc/resolv.conf; mount | grep -c /; exit 3\n")?;
    ensure!(session.end(FULL_BOOT)? == 3, "{}", session.heard());
    ensure!(
        mounted(&client, "/mnt")?.is_empty(),
        "{:?}",
        mounted(&client, "/mnt")?
    );
    // The passphrase is not asked for again until it is locked again.
    let shadow = client
        .run(&["rescue", "chroot", "--", "passwd", "-S", "root"])?
        .success()?;
    ensure!(shadow.text().starts_with("root P"), "{}", shadow.text());
    let mapped = || -> Result<bool> { Ok(client.run(&["ls /dev/mapper | grep luks"])?.status == Some(0)) };
    ensure!(mapped()?, "it was locked unasked");
    client.run(&["rescue", "umount", "--close"])?.success()?;
    ensure!(!mapped()?, "it is still unlocked");
    guest.passed()
}
