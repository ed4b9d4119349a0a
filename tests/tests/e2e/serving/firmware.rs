//! Firmware in QEMU as the client: it finds the image on the network by itself, and the image is reached by ssh.

use super::{ROUTER, document, router};
use crate::world::wait_for_tiny;
use anyhow::{Result, ensure};
use lifeboot_tests::artefacts::{test_image, tiny_os, uki};
use lifeboot_tests::guest::{Board, Firmware, Guest, GuestBuilder, Peer};
use lifeboot_tests::lan::Lan;

/// Seconds from power on to a login: firmware that first asks elsewhere, on an emulated processor.
const NETBOOT: u64 = 240;

/// The name under which docs/serving.md serves a board's image.
fn name(board: Board) -> String {
    format!("lifeboot-{}.efi", board.arch())
}

/// A guest with memory for the image three times over: as loaded, as started, and unpacked.
pub fn client(board: Board, lan: &Lan, firmware: Firmware) -> Result<GuestBuilder> {
    Guest::on(board, &format!("{} by {firmware:?}", board.name()))
        .memory_mb(768)
        .boots_from(lan, firmware)
}

/// A guest with "PXE boot" turned off in its firmware's setup, which leaves "HTTP boot". With both on it tries PXE first, over IPv6 too, and
/// comes to HTTP after minutes.
fn http_client(board: Board, lan: &Lan) -> Result<GuestBuilder> {
    let mut guest = client(board, lan, Firmware::Uefi)?;
    for version in ["IPv4", "IPv6"] {
        let switch = format!("name=opt/org.tianocore/{version}PXESupport,string=n");
        guest = guest.argument("-fw_cfg").argument(switch);
    }
    Ok(guest)
}

/// Waits until the image is up and logged in to over the network it came from.
pub fn reached(guest: &mut Guest, lan: &Lan) -> Result<String> {
    let up = guest.wait_event("network.lease", NETBOOT)?;
    let address = up.str("address").split('/').next().unwrap_or_default().to_owned();
    guest.wait_event("ssh.listening", NETBOOT)?;
    let client = guest.client(Peer::Rescue).from(lan.server(), &address);
    let cmdline = client.run(&["cat /proc/cmdline"])?.success()?.text();
    ensure!(
        cmdline.contains("lifeboot.events=vport0p1"),
        "the command line is not the image's: {cmdline}"
    );
    ensure!(
        cmdline.contains(&format!("console={}", guest.board().console())),
        "no console of the board: {cmdline}"
    );
    Ok(cmdline)
}

fn whole_network() -> Result<String> {
    document::block("conf", "lifeboot-lan.conf")
}

#[test]
fn edk2_on_arm64_boots_the_image_by_pxe() -> Result<()> {
    let network = Lan::new()?;
    network.put_file("tftp/lifeboot-aarch64.efi", &uki(Board::VirtArm64)?)?;
    network.dnsmasq(&whole_network()?)?;
    let mut guest = client(Board::VirtArm64, &network, Firmware::Uefi)?.boot()?;
    reached(&mut guest, &network)?;
    network.wait_log("tftp/lifeboot-aarch64.efi to 192.168.1.", NETBOOT)?;
    network.passed();
    guest.passed()
}

#[test]
#[ignore = "make test-all"]
fn edk2_on_arm64_boots_the_image_by_http() -> Result<()> {
    let network = Lan::new()?;
    network.put_file("http/lifeboot-aarch64.efi", &uki(Board::VirtArm64)?)?;
    network.dnsmasq(&whole_network()?)?;
    network.shell("busybox", &document::block("sh", "# busybox")?, 80)?;
    let mut guest = http_client(Board::VirtArm64, &network)?.boot()?;
    reached(&mut guest, &network)?;
    ensure!(
        network.log().contains("HTTPClient"),
        "it did not ask as an HTTP client"
    );
    let log = network.log();
    let by_tftp = log
        .lines()
        .find(|line| line.contains("tftp") && line.contains(": sent "));
    ensure!(by_tftp.is_none(), "something came by TFTP: {by_tftp:?}");
    network.passed();
    guest.passed()
}

#[test]
#[ignore = "make test-all"]
fn u_boot_boots_the_image_by_tftp_of_its_own_accord() -> Result<()> {
    let network = Lan::new()?;
    network.put_file("tftp/lifeboot-aarch64.efi", &uki(Board::VirtArm64)?)?;
    network.dnsmasq(&whole_network()?)?;
    let mut guest = client(Board::VirtArm64, &network, Firmware::UBoot)?.boot()?;
    reached(&mut guest, &network)?;
    network.wait_log("tftp/lifeboot-aarch64.efi to 192.168.1.", NETBOOT)?;
    network.passed();
    guest.passed()
}

/// A few letters at a time, each seen before the next are typed: the emulated port has room for no more.
fn type_line(guest: &Guest, line: &str) -> Result<()> {
    let letters: Vec<char> = line.chars().collect();
    for few in letters.chunks(8) {
        let few: String = few.iter().collect();
        let before = guest.console_length()?;
        guest.type_on_console(&few)?;
        guest.wait_console_after(before, &few, 30)?;
    }
    guest.type_on_console("\n")
}

#[test]
#[ignore = "make test-all"]
fn u_boot_boots_the_image_by_the_commands_of_the_document() -> Result<()> {
    let network = Lan::new()?;
    network.put_file("tftp/lifeboot-aarch64.efi", &uki(Board::VirtArm64)?)?;
    network.dnsmasq(&whole_network()?)?;
    let mut guest = client(Board::VirtArm64, &network, Firmware::UBoot)?.boot()?;
    guest.wait_console("Hit any key", NETBOOT)?;
    let stopped = guest.console_length()?;
    guest.type_on_console(" ")?;
    guest.wait_console_after(stopped, "=> ", NETBOOT)?;
    for line in document::block("uboot", "dhcp")?.lines() {
        // The prompt comes again once the command is done; never after the last one.
        let before = guest.console_length()?;
        type_line(&guest, line)?;
        if line.starts_with("dhcp") {
            guest.wait_console_after(before, "=> ", NETBOOT)?;
        }
    }
    reached(&mut guest, &network)?;
    network.passed();
    guest.passed()
}

#[test]
#[ignore = "make test-all"]
fn ovmf_boots_the_image_by_pxe_from_a_proxy_beside_the_router() -> Result<()> {
    boots_beside_the_router(Board::PcX86_64)
}

#[test]
#[ignore = "make test-all"]
fn edk2_on_arm64_boots_the_image_by_pxe_from_a_proxy_beside_the_router() -> Result<()> {
    boots_beside_the_router(Board::VirtArm64)
}

fn boots_beside_the_router(board: Board) -> Result<()> {
    let lan = Lan::new()?;
    lan.put_file(&format!("tftp/{}", name(board)), &uki(board)?)?;
    let _router = router(&lan)?;
    lan.dnsmasq(&document::block("conf", "lifeboot-proxy.conf")?)?;
    let mut guest = client(board, &lan, Firmware::Uefi)?.boot()?;
    reached(&mut guest, &lan)?;
    let lease = guest.wait_event("network.lease", NETBOOT)?;
    ensure!(
        lease.str("server") == ROUTER.to_string(),
        "the address is not the router's: {lease:?}"
    );
    lan.wait_log(&format!("{} to ", name(board)), NETBOOT)?;
    lan.passed();
    guest.passed()
}

#[test]
#[ignore = "make test-all"]
fn ovmf_boots_the_image_by_http() -> Result<()> {
    let network = Lan::new()?;
    network.put_file("http/lifeboot-x86_64.efi", &uki(Board::PcX86_64)?)?;
    network.dnsmasq(&whole_network()?)?;
    network.shell("caddy", &document::block("sh", "# caddy")?, 80)?;
    let mut guest = http_client(Board::PcX86_64, &network)?.boot()?;
    reached(&mut guest, &network)?;
    network.passed();
    guest.passed()
}

#[test]
#[ignore = "make test-all"]
fn ipxe_loads_kernel_and_initramfs_and_the_image_loads_the_os_all_by_http() -> Result<()> {
    let network = Lan::new()?;
    let files = test_image(Board::PcX86_64)?;
    let os = tiny_os(Board::PcX86_64)?;
    for (to, from) in [
        ("kernel", &files.kernel),
        ("initramfs.cpio.zst", &files.initrd),
        ("os.squashfs", &os.squashfs),
        ("os.squashfs.minisig", &os.signature),
    ] {
        network.put_file(&format!("http/{to}"), from)?;
    }
    let script = document::block("ipxe", "#!ipxe")?;
    // The one word the harness adds: where events go.
    let script = script.replace("console=ttyS0", "console=ttyS0 lifeboot.events=vport0p1");
    network.put("http/boot.ipxe", script.as_bytes())?;
    network.dnsmasq(&whole_network()?)?;
    network.shell("busybox", &document::block("sh", "# busybox")?, 80)?;
    let mut guest = client(Board::PcX86_64, &network, Firmware::Bios)?.boot()?;
    wait_for_tiny(&mut guest)?;
    network.passed();
    guest.passed()
}
